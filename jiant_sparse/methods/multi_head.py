"""MultiHead: the attention modules of all blocks train; Akbar-Tajari et al. 2022.

As Akbar-Tajari and Pilehvar 2024 use it, as a baseline: query, key, value and the dense layer
after them, weights and biases; 28,348,416 weights of RoBERTa-base (22.74 %). The paper does not say
whether the LayerNorm of the attention's output belongs to it; with it (`layer_norm: true`) there
are 28,366,848.
"""

from dataclasses import dataclass

from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import surgery

# Ends of module names in BERT and RoBERTa.
_PARTS = ("self.query", "self.key", "self.value", "output.dense")


@dataclass
class MultiHead(Method):
    """Every tensor of the attention modules.

    layer_norm: whether the LayerNorm after the attention trains too.
    """

    title = "Multi-Head"
    paper = "Akbar-Tajari et al. 2022, arXiv 2302.00378"
    category = "rule-based"
    left_open = ("layer_norm",)

    layer_norm: bool = False

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Freeze all but the attention. Raises InputError if the encoder lacks a part of it."""
        parts = (*_PARTS, "output.LayerNorm") if self.layer_norm else _PARTS
        ends = [f".attention.{part}" for part in parts]
        owners = {name: "." + name.rpartition(".")[0] for name in surgery.eligible(model)}
        for end in ends:
            if not any(owner.endswith(end) for owner in owners.values()):
                wanted = ", ".join(e.removeprefix(".") for e in ends)
                raise InputError(
                    f"multi_head: the encoder has no weights in {end.removeprefix('.')}; "
                    f"looked for {wanted} in its blocks"
                )
        surgery.freeze(model)
        for name, owner in owners.items():
            if owner.endswith(tuple(ends)):
                surgery.train_tensor(model, name)
