"""Packed batches: an encoder's layers compute the real tokens of a batch and no padding.

Two hooks on the stack of layers of a BERT or RoBERTa encoder do it. The first one takes the padding
out of the hidden states, (rows, width, features) -> (1, tokens, features), shortest row first, and
gives the layers a mask, `RowMask`, that keeps the rows apart. The second one puts the result back
into rows, with zeros for padding. Everything in between works token by token, but for attention,
which torch hands to the mask. Logits and gradients are those of the padded batch; dropout draws
another stream (`dropout.py`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from jiant_sparse.host import dropout
from jiant_sparse.methods.base import Method
from jiant_sparse.schema.record import Padding

# Rows share a call of attention if the shortest has at least this fraction of the tokens of the
# longest: fewer calls, against padding inside of a call.
LIKE = 0.75


@dataclass(frozen=True)
class Group:
    """Rows of like length that follow each other among the packed tokens.

    start, end: their tokens. rows, width: their number, and the tokens of the longest. padded: None
    if all rows are of one length, else three tensors: (rows, 1, 1, width) bool, False for padding;
    (rows * width,) position of each token among those of the group, where padding repeats the token
    before it; and (tokens,) the reverse.
    """

    start: int
    end: int
    rows: int
    width: int
    padded: tuple[Tensor, Tensor, Tensor] | None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        """(tokens, heads, size) of this group, from (all tokens, heads, size)."""
        parts = [tensor[self.start : self.end] for tensor in (query, key, value)]
        mask = kept = None
        if self.padded:
            mask, taken, kept = self.padded
            parts = [part.index_select(0, taken) for part in parts]
        q, k, v = (p.unflatten(0, (self.rows, self.width)).transpose(1, 2) for p in parts)
        output = dropout.attention(q, k, v, attn_mask=mask, **options)
        output = output.transpose(1, 2).flatten(0, 1)
        return output if kept is None else output.index_select(0, kept)


def groups(lengths: list[int], device: torch.device) -> list[Group]:
    """The groups of rows of these lengths, ascending, each at least 1.

    >>> [(group.rows, group.width) for group in groups([3, 9, 10, 40], torch.device("cpu"))]
    [(1, 3), (2, 10), (1, 40)]
    """
    parts: list[list[int]] = []
    for length in reversed(lengths):
        if parts and length >= LIKE * parts[-1][0]:
            parts[-1].append(length)
        else:
            parts.append([length])
    found: list[Group] = []
    for part in reversed(parts):
        start, width, padded = found[-1].end if found else 0, part[0], None
        if part[-1] < width:
            real = torch.arange(width) < torch.tensor(part[::-1])[:, None]
            taken = real.flatten().cumsum(0).sub(1)
            (kept,) = real.flatten().nonzero(as_tuple=True)
            padded = real[:, None, None].to(device), taken.to(device), kept.to(device)
        found.append(Group(start, start + sum(part), len(part), width, padded))
    return found


class RowMask(Tensor):
    """An attention mask for packed rows: a token sees the tokens of its own row alone.

    It holds no numbers. torch asks it to compute `scaled_dot_product_attention`, so no layer is
    replaced, and a checkpointed layer has it again in its second run. Any other function that would
    compute with it raises ValueError.
    """

    groups: list[Group]

    @staticmethod
    def of(found: list[Group], like: Tensor) -> "RowMask":
        """The mask that keeps the rows of these groups apart, with the device of `like`."""
        mask = like.new_empty((1, 1, 1, 1)).as_subclass(RowMask)
        mask.groups = found
        return mask

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        result = super().__torch_function__(function, types, args, kwargs or {})
        if isinstance(result, Tensor):
            name = getattr(function, "__name__", function)
            raise ValueError(
                f"{name} of a mask of packed rows, which scaled_dot_product_attention alone can "
                "take; set train.padding to trimmed"
            )
        return result


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: RowMask, **options: Any
) -> Tensor:
    """(1, heads, tokens, size), from three tensors of this shape."""
    if not query.shape == key.shape == value.shape:
        raise ValueError(
            f"packed rows have queries {tuple(query.shape)} and keys {tuple(key.shape)}; a layer "
            "that adds keys of its own needs train.padding: trimmed"
        )
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    parts = [group.attend(q, k, v, **options) for group in attn_mask.groups]
    return torch.cat(parts).transpose(0, 1).unsqueeze(0)


def install(encoder: Any) -> list[RemovableHandle | dropout.Exchange]:
    """Make `encoder`, transformers' BERT or RoBERTa, pack each batch with padding.

    Its output has no `hidden_states` then, whatever it is asked for. The handles undo it. Nothing
    waits for a GPU if the attention mask that it is given is on the CPU, where lengths are counted.
    """
    place: list[tuple[torch.Size, Tensor]] = []

    def pack(stack: nn.Module, args: tuple[Tensor], options: dict[str, Any]) -> Any:
        place.clear()
        options = {**options, "output_hidden_states": False}
        # transformers gives no mask to a batch without padding.
        if options["attention_mask"] is None:
            return args, options
        real, device = options["attention_mask"][:, 0, 0] == 0, args[0].device
        lengths, order = real.sum(1).sort(stable=True)
        positions = torch.arange(real.numel(), device=real.device).view_as(real)[order][real[order]]
        positions = positions.to(device)
        tokens = args[0].flatten(0, 1).index_select(0, positions).unsqueeze(0)
        place.append((args[0].shape, positions))
        mask = RowMask.of(groups(lengths.tolist(), device), args[0])
        return (tokens,), {**options, "attention_mask": mask}

    def unpack(stack: nn.Module, args: Any, output: Any) -> Any:
        for shape, positions in place:
            (tokens,) = output.last_hidden_state
            rows = tokens.new_zeros(shape).flatten(0, 1).index_copy(0, positions, tokens)
            output.last_hidden_state = rows.view(shape)
        return output

    return [
        encoder.encoder.register_forward_pre_hook(pack, with_kwargs=True),
        encoder.encoder.register_forward_hook(unpack),
        dropout.Exchange(encoder),
    ]


def choose(wanted: Padding, encoder: Any, method: Method) -> Padding:
    """What runs of `wanted`; sets it up. Where rows must be told apart, trimmed runs for packed.

    These are methods whose `packs` is False, and encoders whose attention knows of positions or is
    not torch's.
    """
    if wanted != "packed":
        return wanted
    is_plain = encoder.config.position_embedding_type == "absolute"
    if not (method.packs and is_plain and encoder.attn_implementation == "sdpa"):
        return "trimmed"
    install(encoder)
    return "packed"
