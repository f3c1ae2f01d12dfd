"""SparseModel: a model with a method, or with saved deltas. The library's face; names as in PEFT."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError, shown, suggest
from jiant_sparse.methods import base as methods
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import delta, modules, surgery
from jiant_sparse.sparse.bits import differing, flat
from jiant_sparse.sparse.claims import claimed
from jiant_sparse.sparse.gates import Gated
from jiant_sparse.sparse.parametrizations import SparseWeight
from jiant_sparse.tuning import saving, scope
from jiant_sparse.tuning.calibration import Calibration, LossFn
from jiant_sparse.tuning.config import SparseConfig
from jiant_sparse.tuning.origin import Origin
from jiant_sparse.tuning.places import Patch, Writes, stored, tensors
from jiant_sparse.tuning.stacking import Conflict, combine

# Methods that do not fit, with the reason.
_REFUSED = {"adapter": "AdapterHub edits a whole model of its own kinds; use its library for that"}


def get_sparse_model(
    model: nn.Module,
    config: SparseConfig,
    calibration: Iterable[Any] | None = None,
    loss_fn: LossFn | None = None,
) -> "SparseModel":
    """Attach a method to a model, in place, and return the model in a `SparseModel`.

    model: a transformers model, or any other; its weights are loaded, its optimizer is not made.
    calibration: batches with labels, for methods that look at gradients before training: mappings
    of the model's arguments, or anything that `loss_fn(model, batch)` takes.
    Raises InputError, and leaves the model as it was, if config and model do not fit.
    """
    if not isinstance(config, SparseConfig):
        raise InputError(f"config is {shown(config)}; it must be a SparseConfig")
    probe = Calibration(model, calibration, loss_fn, seed=config.seed, method=config.method)
    return _attached(model, config, lambda method, *rest: method.attach(rest[0], probe, rest[1]))


def _attached(
    model: nn.Module, config: SparseConfig, attach: Callable[..., None]
) -> "SparseModel":
    """attach(method, view, rng) attaches the method to the view."""
    if isinstance(model, SparseModel) or not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}; it must be a plain torch module")
    method = config.make_method()
    if config.method in _REFUSED:
        raise InputError(f"{config.method} does not fit the library: {_REFUSED[config.method]}")
    view, head = scope.select(model, config)
    found, names = SparseModel(model), [*tensors(model)]
    eligible = {*view.parameters()}
    trains = {*head.values()}
    surgery.set_trainable((p, p in trains) for p in model.parameters() if p not in eligible)
    try:
        attach(method, view, partial(_stream, config))
        origin = Origin(names, view, head)
        _widen(view, origin, config)
    except BaseException:
        if claimed(view) is not None:
            surgery.abandon(view)
        surgery.set_trainable(found.flags)
        raise
    found.method, found.sparse_config = method, config
    found.__dict__ |= {"view": view, "origin": origin}
    return found


def _stream(config: SparseConfig, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive(config.seed, config.method, name))


def _widen(view: scope.View, origin: Origin, config: SparseConfig) -> None:
    """Let chosen entries train in float32. Raises InputError if other 16-bit tensors train."""
    if config.values_dtype is None:
        return
    for name in (*origin.whole, *origin.added):
        tensor = view.model.get_parameter(name) if name in origin.added else stored(view.model, name)
        if tensor.element_size() < 4:
            raise InputError(
                f"{config.method} trains {name} as a whole, in {tensor.dtype}; float32 values are "
                "for chosen entries only: set values_dtype=None, or load the model in float32"
            )
    for module in view.modules():
        if isinstance(module, SparseWeight) and module.values.element_size() < 4:
            module.values.data = module.values.data.float()


@dataclass(frozen=True)
class Loaded:
    """A delta in memory. writes: what it writes into the base model."""

    config: SparseConfig
    delta: delta.Delta
    writes: Writes


class SparseModel(nn.Module):
    """A model that trains by a method, or a frozen base model with any number of saved deltas.

    Calls, and attributes that it does not have, go to the model itself: `base_model`.

    method, sparse_config: of a model that trains; None otherwise.
    deltas: the loaded ones by name. active: the names of those that are written into the model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base_model = model
        self.method: methods.Method | None = None
        self.sparse_config: SparseConfig | None = None
        self.deltas: dict[str, Loaded] = {}
        self.active: tuple[str, ...] = ()
        self.flags = [(p, p.requires_grad) for p in model.parameters()]
        self._patch: Patch | None = None
        self._digests: dict[str, str] = {}

    view: scope.View
    origin: Origin

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("base_model", "view", "origin"):
                raise
            return getattr(self.base_model, name)

    def forward(self, *args: Any, **options: Any) -> Any:
        """Call the model."""
        return self.base_model(*args, **options)

    def get_base_model(self) -> nn.Module:
        """The model itself, edited as it is."""
        return self.base_model

    # --- training

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """(numbers that train, parameters of the model with what the method has added)."""
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        total = sum(p.numel() for p, _ in self.flags)
        if self.method is not None:
            total += sum(self.get_parameter(f"base_model.{n}").numel() for n in self.origin.added)
        return trainable, total

    def print_trainable_parameters(self) -> None:
        """Print the two numbers, and the first in percent of the second."""
        trainable, total = self.get_nb_trainable_parameters()
        print(
            f"trainable params: {trainable:,d} || all params: {total:,d} || "
            f"trainable%: {100 * trainable / total:.4f}"
        )

    def optimizer_groups(self, weight_decay: float) -> list[dict]:
        """Groups for an optimizer: matrices decay, vectors do not (`surgery.parameter_groups`)."""
        return surgery.parameter_groups(self, weight_decay)

    # --- saving and loading

    def save_pretrained(
        self,
        directory: str | Path,
        name: str | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the delta, its settings and a model card; never a whole model.

        name: of a loaded delta; None = what is trained, or the one active delta. about: what else a
        colleague needs, as JSON (pooling, maximum length).
        Raises InputError if the training loop has never called a hook of the method.
        """
        resume: dict[str, Any] | None = None
        if self.method is not None and self.sparse_config is not None:
            held = claimed(self.view)
            assert held is not None
            held.check_hooks()
            config, found = self.sparse_config, self.origin.trained()
            resume = self._resume()
        else:
            if name is None and len(self.active) != 1:
                raise InputError(f"{len(self.active)} deltas are active; say by name which to save")
            loaded = self._loaded(name or self.active[0])
            config, found = loaded.config, loaded.delta
        saving.save(
            Path(directory), found, config, self.base_model, resume=resume, about=about or {}
        )

    @classmethod
    def from_pretrained(
        cls,
        base: nn.Module,
        directory: str | Path,
        is_trainable: bool = False,
        name: str = "default",
    ) -> "SparseModel":
        """Give a base model, in place, what `save_pretrained` saved.

        is_trainable: whether the method is attached again, to train on from there; a new optimizer
        starts without moments. name: of the delta otherwise.
        Raises InputError, naming the first tensor that differs, for another base model.
        """
        if not is_trainable:
            model = cls(base)
            model.load_delta(directory, name)
            model.set_delta([name])
            return model
        config, found, document = saving.load(Path(directory))
        resume = document.get("resume")
        if not isinstance(resume, dict):
            raise InputError(
                f"{directory}: {config.method} cannot train on from a delta alone; resume from a "
                "checkpoint of the training"
            )
        cls(base)._check(Path(directory), found, document)
        head = {*scope.select(base, config)[1]}
        chosen = {f"chosen.{n}": i for n, (i, _) in found.entries.items() if n not in head}
        state = resume["state"] | (chosen if resume["chosen"] else {})
        model = _attached(
            base, config, lambda method, view, rng: method.restore(view, rng, state)
        )
        model.origin.fill(found)
        return model

    def load_delta(self, directory: str | Path, name: str) -> None:
        """Read a saved delta; `set_delta` switches it on.

        Raises InputError for another base model, a name that is taken, and a model that trains.
        """
        self._check_not_training("load_delta")
        if name in self.deltas:
            raise InputError(f"there is a delta called {name!r} already; give another name")
        config, found, document = saving.load(Path(directory))
        self._check(Path(directory), found, document)
        writes: dict[str, Any] = dict(found.entries)
        for key, value in _merged(self.base_model, config, found.new).items():
            if key not in found.new:
                old = stored(self.base_model, key)
                index = differing(old, value)
                writes[key] = index, flat(value)[index]
            else:
                writes[key] = None, value
        self.deltas[name] = Loaded(config, found, writes)
        surgery.set_trainable((p, False) for p, _ in self.flags)

    def set_delta(self, names: Sequence[str], on_conflict: Conflict = "error") -> None:
        """Let the model compute with these deltas, and no other: the sum of their differences.

        on_conflict: what to do with entries that several change; see `stacking.Conflict`. Takes
        time in proportion to the number of entries. An empty list gives the base model.
        """
        self._check_not_training("set_delta")
        chosen = {name: self._loaded(name).writes for name in _names(names)}
        before, self._patch = self._patch, None
        if before is not None:
            before.undo()
        try:
            writes = combine(chosen, [1.0] * len(chosen), on_conflict, self._tensor)
        except InputError:
            if before is not None:
                before.redo()
                self._patch = before
            raise
        self._patch, self.active = Patch(self._tensor, writes), tuple(chosen)

    def merge_deltas(
        self,
        names: Sequence[str],
        weights: Sequence[float] | None = None,
        on_conflict: Conflict = "error",
        name: str = "merged",
    ) -> None:
        """Make a new delta of the weighted differences of loaded ones; see `stacking.combine`.

        weights: one for each; None = 1.
        """
        self._check_not_training("merge_deltas")
        if name in self.deltas:
            raise InputError(f"there is a delta called {name!r} already; give another name")
        parts = {key: self._loaded(key) for key in _names(names)}
        if not parts:
            raise InputError("no delta to merge; name at least one")
        weights = [1.0] * len(parts) if weights is None else [*weights]
        if len(weights) != len(parts):
            raise InputError(f"{len(weights)} weights for {len(parts)} deltas; give one for each")
        with self.disable_delta():
            writes = combine(
                {key: part.writes for key, part in parts.items()}, weights, on_conflict, self._tensor
            )
        first = next(iter(parts.values()))
        entries = {k: (i, v) for k, (i, v) in writes.items() if i is not None}
        new = {key: values for key, (index, values) in writes.items() if index is None}
        merged = replace(first.delta, entries=entries, new=new)
        self.deltas[name] = Loaded(first.config, merged, writes)

    @contextmanager
    def disable_delta(self) -> Iterator[None]:
        """Compute what the base model computes, in evaluation, within the block."""
        patch = self._patch if self.method is None else self.origin.hidden()
        if patch is not None and self.method is None:
            patch.undo()
        try:
            yield
        finally:
            if patch is not None and self.method is None:
                patch.redo()
            elif patch is not None:
                patch.undo()

    def unload(self) -> nn.Module:
        """The base model, plain, with its own values, bit for bit. Ends this object's use."""
        if self.method is not None:
            surgery.fold(self.view, unchecked=True)
            self.origin.restore()
        else:
            self.set_delta([])
        return self._released()

    def merge_and_unload(self) -> nn.Module:
        """The model, plain, with the trained values in its weights. Ends this object's use.

        Raises InputError if the training loop has never called a hook of the method.
        """
        if self.method is not None:
            surgery.fold(self.view)
        return self._released()

    def push_to_hub(self, *_: Any, **__: Any) -> None:
        """Refuse: the model's own would upload the whole model."""
        raise InputError("push_to_hub of a SparseModel is not there yet; save_pretrained, and "
                         "upload the folder")

    # --- within

    def _released(self) -> nn.Module:
        surgery.set_trainable(self.flags)
        self.method, self._patch, self.active, self.deltas = None, None, (), {}
        return self.base_model

    def _tensor(self, name: str) -> Tensor:
        return stored(self.base_model, name)

    def _loaded(self, name: str) -> Loaded:
        if name not in self.deltas:
            raise InputError(f"no delta is called {name!r}; {suggest(name, self.deltas)}")
        return self.deltas[name]

    def _check_not_training(self, what: str) -> None:
        if self.method is not None:
            raise InputError(
                f"{what}: the model trains by {self.method.name}, and deltas would change its "
                "base; merge_and_unload first, or take a fresh base model"
            )

    def _check(self, directory: Path, found: delta.Delta, document: Mapping[str, Any]) -> None:
        """Raise InputError unless the model is the delta's base."""
        own = tensors(self.base_model)
        if not self._digests:
            self._digests = delta.fingerprint(own)
        base = {name: tensor for name, tensor in own.items() if name not in found.new}
        try:
            delta.check_base(found, base, (self._digests[name] for name in base))
        except InputError as error:
            made = document.get("base")
            raise InputError(f"{directory}: {error}; the delta was made from {made}") from error
        for name, value in found.new.items():
            if name in own and own[name].shape != value.shape:
                raise InputError(
                    f"{directory}: {name} has shape {[*value.shape]}, the model's "
                    f"{[*own[name].shape]}; make the model with the same number of labels"
                )

    def _resume(self) -> dict[str, Any] | None:
        """What the method needs beside the delta to train on; None if it needs more than that."""
        assert self.method is not None
        state = self.method.state_dict()
        chosen = [key for key in state if key.startswith("chosen.")]
        plain = {k: v for k, v in state.items() if isinstance(v, int | float | str)}
        gated = any(isinstance(module, Gated) for module in self.view.modules())
        if gated or len(plain) + len(chosen) < len(state) or (chosen and self.origin.whole):
            return None
        return {"state": plain, "chosen": bool(chosen)}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SparseModel":
        for dtype in {p.dtype for p in self.parameters() if p.is_floating_point()}:
            if self._busy and fn(torch.empty(0, dtype=dtype)).dtype != dtype:
                raise InputError(
                    "a model with a method or with deltas cannot change its dtype, to which the "
                    "base's values belong; convert the base model before"
                )
        return super()._apply(fn, recurse)

    @property
    def _busy(self) -> bool:
        return self.method is not None or bool(self.deltas)

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        if self.method is not None:
            self.origin.check_state(state, f"{prefix}base_model.")
        elif self.active:
            raise InputError(
                "load_state_dict would write over values that a delta has written; set_delta([]) "
                "first, or load into the base model"
            )
        super()._load_from_state_dict(state, prefix, *rest)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseModel":
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__ = copy.deepcopy(self.__dict__, memo)
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(
            "a SparseModel cannot be pickled; write the delta by save_pretrained, or save the "
            "plain model that merge_and_unload returns"
        )


def _names(names: Sequence[str]) -> list[str]:
    if isinstance(names, str) or len({*names}) < len(names):
        raise InputError(f"names of deltas are {shown(names)}; give a list, each name once")
    return [*names]


def _merged(
    model: nn.Module, config: SparseConfig, new: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """New tensors, with low-rank updates merged into the weights of the base that they belong to."""
    paths = [name.removesuffix(".lora_A") for name in new if name.endswith(".lora_A")]
    if not paths:
        return dict(new)
    method: Any = config.make_method()
    weights = {f"{path}.weight": stored(model, f"{path}.weight").detach().cpu() for path in paths}
    return modules.fold_low_rank({**new, **weights}, method.alpha / method.rank)
