"""SparseModel: a model with a method or with saved deltas, under the names that PEFT has."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError, shown, suggest
from jiant_sparse.methods.base import Method, Rng
from jiant_sparse.sparse import delta, surgery
from jiant_sparse.sparse.claims import claimed
from jiant_sparse.tuning import export, hub, peft_files, saving
from jiant_sparse.tuning.attach import (
    attach,
    choosing,
    detach,
    resume_state,
    train_only,
    trainable,
)
from jiant_sparse.tuning.calibration import Calibration, LossFn
from jiant_sparse.tuning.config import FILE, SparseConfig
from jiant_sparse.tuning.origin import Origin, Patch, Writes, stored, tensors
from jiant_sparse.tuning.saving import Loaded
from jiant_sparse.tuning.scope import View, select
from jiant_sparse.tuning.stacking import Conflict, combine


def get_sparse_model(
    model: nn.Module,
    config: SparseConfig,
    calibration: Iterable[Any] | None = None,
    loss_fn: LossFn | None = None,
) -> "SparseModel":
    """Attach a method to a model, in place, and return the model in a `SparseModel`.

    model: of transformers, or any other; its weights are loaded, its optimizer is not made.
    calibration: for methods that look at gradients before training, an iterable of batches with
    labels: mappings of the model's arguments, or whatever `loss_fn(model, batch)` takes.
    Raises InputError, and leaves the model as it was, if they do not fit.
    """
    if not isinstance(config, SparseConfig):
        raise InputError(f"config is {shown(config)}; it must be a SparseConfig")
    found = SparseModel(model)
    probe = Calibration(model, calibration, loss_fn, config.seed, config.method)
    found._attach(config, lambda method, view, rng: method.attach(view, probe, rng))
    return found


class SparseModel(nn.Module):
    """A model that trains by a method, or a frozen base model with any number of saved deltas.

    Calls, and attributes that it does not have itself, go to `base_model`.

    method, sparse_config: of a model that trains; None otherwise.
    view, origin: what the method has of the model, and what the model was before.
    deltas: the loaded ones by name. active: the names of those that the model computes with.
    """

    method: Method | None = None
    sparse_config: SparseConfig | None = None
    view: View
    origin: Origin

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not isinstance(model, nn.Module) or isinstance(model, SparseModel):
            kind = type(model).__name__
            raise InputError(f"the model is a {kind}; it must be a plain torch module")
        self.base_model, self.training = model, model.training
        self.deltas: dict[str, Loaded] = {}
        self.active: tuple[str, ...] = ()
        self._trained = trainable(model)
        self._total = sum(p.numel() for p in model.parameters())
        self._patch: Patch | None = None
        self._off = False  # within disable_delta
        self._digests: dict[str, str] = {}

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

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """(numbers that train, parameters of the model with what the method has added)."""
        added = self.origin.added if self.method is not None else ()
        more = sum(self.base_model.get_parameter(name).numel() for name in added)
        return sum(p.numel() for p in self.parameters() if p.requires_grad), self._total + more

    def print_trainable_parameters(self) -> None:
        """Print the two numbers, and the first in percent of the second."""
        trainable, total = self.get_nb_trainable_parameters()
        percent = f"trainable%: {100 * trainable / total:.4f}"
        print(f"trainable params: {trainable:,d} || all params: {total:,d} || {percent}")

    def optimizer_groups(self, weight_decay: float) -> list[dict]:
        """Groups for an optimizer: matrices decay, vectors do not (`surgery.parameter_groups`)."""
        return surgery.parameter_groups(self, weight_decay)

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
        config, found = self._own(name)
        resume = None
        if self.method is not None:
            resume = resume_state(self.method, self.view, self.origin)
        further = {"resume": resume, "about": dict(about or {})}
        saving.save(Path(directory), found, config, self.base_model, **further)

    @classmethod
    def from_pretrained(
        cls,
        base: nn.Module,
        directory: str | Path,
        is_trainable: bool = False,
        name: str = "default",
        revision: str | None = None,
    ) -> "SparseModel":
        """Give a base model, in place, what `save_pretrained` saved.

        directory: or the name of a repository on the Hub, "user/name", and its revision. It may
        hold a Super-Tuning or SHiRA adapter of PEFT instead.
        is_trainable: attach the method again, to train on with a new optimizer; else the delta is
        loaded under this name, nothing trains, and the model is put into evaluation mode.
        Raises InputError, naming the first tensor that differs, for another base model.
        """
        if not is_trainable:
            model = cls(base)
            model.load_delta(directory, name, revision)
            model.set_delta([name])
            return model.eval()
        model = cls(base)
        config, found, document, _ = model._read(directory, revision)
        resume = document.get("resume")
        if not isinstance(resume, dict) or resume.keys() != {"state", "chosen"}:
            raise InputError(
                f"{directory}: {config.method} cannot train on from a delta alone; resume from a "
                "checkpoint of the training"
            )
        eligible = dict(select(base, config)[0].named_parameters())
        chosen = {f"chosen.{n}": i for n, (i, _) in found.entries.items() if n in eligible}
        state = resume["state"] | (chosen if resume["chosen"] else {})
        model._attach(config, lambda method, view, rng: method.restore(view, rng, state))
        model.origin.fill(found)
        return model

    def load_delta(self, directory: str | Path, name: str, revision: str | None = None) -> None:
        """Read a saved delta and freeze the model; `set_delta` switches the delta on.

        directory, revision: as for `from_pretrained`.
        Raises InputError for another base model, a name that is taken, and a model that trains.
        """
        self._check_free(name)
        with self.disable_delta():
            self.deltas[name] = self._read(directory, revision)
        surgery.freeze(self.base_model)

    def set_delta(self, names: Sequence[str], on_conflict: Conflict = "error") -> None:
        """Let the model compute with these deltas alone: the sum of their differences to the base.

        on_conflict: what becomes of entries that several change (`stacking.Conflict`). Takes time
        in proportion to the number of entries. An empty list gives the base model.
        """
        self._check_on()
        if self._patch is not None:
            self._patch.undo()
        try:
            writes = self._combined(names, None, on_conflict)
        except InputError:
            if self._patch is not None:
                self._patch.redo()
            raise
        self._patch, self.active = Patch(self._tensor, writes), (*names,)

    def merge_deltas(
        self,
        names: Sequence[str],
        weights: Sequence[float] | None = None,
        on_conflict: Conflict = "error",
        name: str = "merged",
    ) -> None:
        """Make a further delta of the weighted differences of loaded ones (`stacking.combine`).

        weights: one for each; None = 1.
        """
        self._check_free(name)
        if not names:
            raise InputError("names of deltas are []; name at least one to merge")
        with self.disable_delta():
            writes = self._combined(names, weights, on_conflict)
        first = self._loaded(names[0])
        entries = {key: (index, v) for key, (index, v) in writes.items() if index is not None}
        new = {key: values for key, (index, values) in writes.items() if index is None}
        merged = replace(first.delta, entries=entries, new=new)
        self.deltas[name] = first._replace(delta=merged, writes=writes)

    @contextmanager
    def disable_delta(self) -> Iterator[None]:
        """Compute what the base model computes, in evaluation, within the block."""
        training = self.method is not None
        patch = None if self._off else self.origin.hidden() if training else self._patch
        if patch is None:
            yield
            return
        if not training:
            patch.undo()
        self._off = True
        try:
            yield
        finally:
            self._off = False
            if training:
                patch.undo()
            else:
                patch.redo()

    def _check_on(self) -> None:
        if self._off:
            raise InputError("the model has its base's values in disable_delta; leave the block")

    def unload(self) -> nn.Module:
        """The base model, plain, with its own values, bit for bit. Ends this object's use."""
        self._check_on()
        if self.method is not None:
            detach(self.view, self.origin)
        else:
            self.set_delta([])
        return self._released()

    def merge_and_unload(self) -> nn.Module:
        """The model, plain, with the trained values in its weights. Ends this object's use.

        Raises InputError if the training loop has never called a hook of the method.
        """
        self._check_on()
        if self.method is not None:
            surgery.fold(self.view)
        return self._released()

    def export(
        self, directory: str | Path, format: export.Format = "peft", name: str | None = None
    ) -> None:
        """Write the delta for other programs, into a new directory, all or nothing.

        name: as for `save_pretrained`. format:
        - "peft", a Super-Tuning adapter, which adds float32 differences at our positions.
        - "patch", patch.safetensors, for serving engines. For each tensor NAME that changed:
          NAME.shape, int64; NAME.index, (k,) int32, ascending positions in the flat tensor;
          NAME.value, (k,) final values. What trained whole has no index, and all of its values.
        - "full", the merged model by its own `save_pretrained`.

        Takes the memory of a second model for a while.
        Raises one InputError, before anything is written, with all that does not fit the format.
        """
        config, found = self._own(name)
        base = copy.deepcopy(self).unload()
        writes = saving.writes(config, found, base)
        export.export(Path(directory), format, base, found, writes)

    def push_to_hub(
        self,
        repo: str,
        name: str | None = None,
        about: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Upload what `save_pretrained` writes to the Hub's repository "user/name"; never a model.

        name, about: as for `save_pretrained`. options: `private`, `token`, of huggingface_hub.
        Returns its address. Raises InputError if the Hub refuses or is out of reach.
        """
        with TemporaryDirectory() as directory:
            self.save_pretrained(directory, name, about)
            return hub.push(repo, Path(directory), **options)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Give a model that trains its base's values back, and its method a former state.

        state: what the method's `state_dict` gave. Weights are loaded afterwards.
        """
        assert self.sparse_config is not None
        detach(self.view, self.origin)
        train_only(self.base_model, self._trained)
        self._attach(self.sparse_config, choosing(state))
        assert self.method is not None
        # After `_attach`, which notes the base's values: it may freeze weights that have moved.
        self.method.load_state_dict(state)

    def _attach(self, config: SparseConfig, call: Callable[[Method, View, Rng], None]) -> None:
        self.method, view, origin = attach(self.base_model, config, call)
        self.sparse_config = config
        self.__dict__ |= {"view": view, "origin": origin}  # not as a submodule

    def _read(self, place: str | Path, revision: str | None) -> Loaded:
        directory = hub.fetch(place, revision)
        self._digests = self._digests or delta.fingerprint(tensors(self.base_model))
        foreign = (directory / peft_files.CONFIG).exists() and not (directory / FILE).exists()
        load = peft_files.load if foreign else saving.load
        return load(directory, self.base_model, self._digests)

    def _own(self, name: str | None) -> tuple[SparseConfig, delta.Delta]:
        """What is trained; or the loaded delta of this name, or the one that is active."""
        self._check_on()
        if self.method is not None and self.sparse_config is not None:
            if (held := claimed(self.view)) is not None:
                held.check_hooks()
            return self.sparse_config, self.origin.trained()
        if name is None and len(self.active) != 1:
            raise InputError(f"{len(self.active)} deltas are active; say by name which one to save")
        config, found, _, _ = self._loaded(name or self.active[0])
        return config, found

    def _released(self) -> nn.Module:
        train_only(self.base_model, self._trained)
        self.method, self.sparse_config, self._patch = None, None, None
        self.deltas, self.active = {}, ()
        return self.base_model

    def _tensor(self, name: str) -> Tensor:
        return stored(self.base_model, name)

    def _loaded(self, name: str) -> Loaded:
        if name not in self.deltas:
            raise InputError(f"no delta is called {name!r}; {suggest(name, self.deltas)}")
        return self.deltas[name]

    def _combined(
        self, names: Sequence[str], weights: Sequence[float] | None, on_conflict: Conflict
    ) -> Writes:
        """What the named deltas write together; the model has its base's values."""
        self._check_free()
        if isinstance(names, str) or len({*names}) < len(names):
            raise InputError(f"names of deltas are {shown(names)}; give a list, each name once")
        weights = [1.0] * len(names) if weights is None else weights
        if len(weights) != len(names):
            raise InputError(f"{len(weights)} weights for {len(names)} deltas; give one for each")
        deltas = {name: self._loaded(name).writes for name in names}
        return combine(deltas, weights, on_conflict, self._tensor)

    def _check_free(self, name: str | None = None) -> None:
        """Raise InputError for a model that trains, and for a name that a delta has."""
        if self.method is not None:
            raise InputError(
                f"the model trains by {self.method.name}, and a delta would change its base; "
                "merge_and_unload first, or load into a fresh base model"
            )
        if name in self.deltas:
            raise InputError(f"there is a delta called {name!r} already; give another name")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SparseModel":
        busy = self.method is not None or self.deltas
        for dtype in {p.dtype for p in self.parameters() if busy and p.is_floating_point()}:
            if fn(torch.empty(0, dtype=dtype)).dtype != dtype:
                raise InputError(
                    "a model with a method or deltas cannot change its dtype, which the base's "
                    "values have; convert the base model before"
                )
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        if self.method is not None:
            self.origin.check_state(state, f"{prefix}base_model.")
        elif self.active:
            raise InputError(
                "load_state_dict would write over the values of a delta; set_delta([]) first"
            )
        super()._load_from_state_dict(state, prefix, *rest)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SparseModel":
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__dict__ = copy.deepcopy(self.__dict__, memo)
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(
            "a SparseModel cannot be pickled; save_pretrained writes the delta, and "
            "merge_and_unload gives a plain model"
        )
