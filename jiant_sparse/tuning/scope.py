"""Which tensors of a model a method may train, and a view of the model that has these alone."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from jiant_sparse.errors import InputError, shown
from jiant_sparse.tuning.config import SparseConfig

# Classes of transformers with a task head beside the base model.
_WITH_HEAD = re.compile(r"\w+For\w*(Classification|MultipleChoice|QuestionAnswering)")
# Linear layers of transformers' GPT-2 are called Conv1D.
_LINEAR = ("Linear", "Conv1D")
_QUANTISED = (
    "Linear4bit|Linear8bitLt|Embedding4bit|Embedding8bit|BitLinear|AutoBitLinear|FP8Linear|"
    r"HQQLinear|HiggsLinear|QuantizedLinear|\w*QuantLinear|WQLinear\w*"
)
_MOST_NAMED = 10


class View(nn.Module):
    """The encoder that methods see: some tensors of a model, under the names that they have there.

    model: holds the tensors; the view edits it in place. tensors: the eligible ones.
    The view has every module that holds one of them, and with it all modules of a tied weight. It
    has embeddings that know which tokens are padding, too, but not their weights.
    """

    def __init__(self, model: nn.Module, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        # Not as a submodule: the model's own tensors are not all of the view's.
        self.__dict__["model"] = model
        eligible = {*tensors}
        self.paths: list[str] = []
        self.others: set[str] = set()
        for path, module in model.named_modules():
            own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
            pads = isinstance(module, nn.Embedding) and module.padding_idx is not None
            if pads or eligible & {*own.values()}:
                self.paths.append(path)
                self.others |= {join(path, n) for n, t in own.items() if t not in eligible}

    def named_modules(  # type: ignore[override]
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """The view itself, the modules that hold its tensors, and what these train beside them."""
        memo = set() if memo is None else memo
        for name, module in self._places():
            if module not in memo:
                if remove_duplicate:
                    memo.add(module)
                yield join(prefix, name), module

    def named_parameters(self, *args: Any, **options: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The eligible tensors, or what trains in the place of them."""
        for name, parameter in super().named_parameters(*args, **options):
            if name not in self.others:
                yield name, parameter

    def get_submodule(self, target: str) -> nn.Module:
        return self.model.get_submodule(target)

    def _places(self) -> Iterator[tuple[str, nn.Module]]:
        yield "", self
        for path in self.paths:
            module = self.model.get_submodule(path)  # a method may have put another in its place
            yield path, module
            stacks = module._modules.get("parametrizations")
            if stacks is not None:
                yield from stacks.named_modules(prefix=join(path, "parametrizations"))


def join(path: str, name: str) -> str:
    """A dotted name below a path, either of which may be empty.

    >>> join("a.b", "c"), join("", "c")
    ('a.b.c', 'c')
    """
    return f"{path}.{name}" if path and name else path or name


def select(model: nn.Module, config: SparseConfig) -> tuple[View, dict[str, Tensor]]:
    """A view of the eligible tensors; and the tensors that train whole, by name.

    Raises InputError for a name that matches nothing, for a quantised layer, and if nothing is
    left. Edits nothing.
    """
    head = _Names("modules_to_save", _head(model, config)).tensors(model)
    names = _Names("target_modules", _targets(model, config))
    out = _Names("exclude_modules", config.exclude_modules or [])
    _check_quantised(model, names, out)
    chosen, left_out = names.tensors(model), out.tensors(model)
    whole = {*head.values()}
    eligible = {t for t in chosen.values() if t not in {*left_out.values()} and t not in whole}
    if not eligible:
        raise InputError(
            f"target_modules is {shown(config.target_modules)}, exclude_modules "
            f"{shown(config.exclude_modules)}: no weight is left to choose among; {_known(model)}"
        )
    return View(model, eligible), head


def encoder_of(model: nn.Module) -> tuple[str, nn.Module]:
    """The part of a transformers model without its head, with its name; or ("", model)."""
    prefix = getattr(model, "base_model_prefix", "")
    inner = getattr(model, prefix, None) if isinstance(prefix, str) and prefix else None
    return (prefix, inner) if isinstance(inner, nn.Module) else ("", model)


class _Names:
    """Names of modules and tensors: a list of full names or ends, or a regular expression.

    field: of the SparseConfig, for errors.
    """

    def __init__(self, field: str, given: str | Sequence[str]) -> None:
        self.field, self.given = field, given
        self.tests: dict[str, Callable[[str], object]] = {}
        if isinstance(given, str):
            try:
                self.tests[given] = re.compile(given).fullmatch
            except re.error as error:
                raise InputError(
                    f"{field} is {shown(given)}, which is no regular expression: {error}"
                ) from error
            return
        for end in given:
            self.tests[end] = lambda name, end=end: f".{name}".endswith(f".{end}") and end

    def match(self, name: str) -> set[str]:
        """Those of the names given that the module or tensor, or a module around it, has."""
        parts = name.split(".")
        around = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
        return {given for given, test in self.tests.items() if any(map(test, around))}

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The parameters that match, by their first names.

        Raises InputError for a name that matches nothing.
        """
        first: dict[Tensor, str] = {}
        matched: set[str] = set()
        found = {}
        for name, tensor in model.named_parameters(remove_duplicate=False):
            first.setdefault(tensor, name)
            if hits := self.match(name):
                matched |= hits
                found[first[tensor]] = tensor
        if lacking := [given for given in self.tests if given not in matched]:
            raise InputError(f"{self.field}: nothing is called {lacking[0]!r}; {_known(model)}")
        return found


def _targets(model: nn.Module, config: SparseConfig) -> str | list[str]:
    if config.target_modules not in (None, "all-linear"):
        return config.target_modules  # type: ignore[return-value]  # checked in the line above
    prefix, inner = encoder_of(model)
    if config.target_modules is None:
        return re.escape(prefix) if prefix else ".+"
    linear = [
        join(prefix, name)
        for name, module in inner.named_modules()
        if any(kind.__name__ in _LINEAR for kind in type(module).__mro__)
        and module is not _output_layer(model)
    ]
    if not linear:
        raise InputError("target_modules is 'all-linear'; the model has no linear layer")
    return "|".join(re.escape(name) or ".+" for name in linear)


def _output_layer(model: nn.Module) -> nn.Module | None:
    get = getattr(model, "get_output_embeddings", None)
    return get() if callable(get) else None


def _head(model: nn.Module, config: SparseConfig) -> list[str]:
    if config.modules_to_save is not None:
        return config.modules_to_save
    prefix, _ = encoder_of(model)
    if not prefix or not _WITH_HEAD.fullmatch(type(model).__name__):
        return []
    return [n for n, m in model.named_children() if n != prefix and any(True for _ in m.parameters())]


def _check_quantised(model: nn.Module, names: _Names, out: _Names) -> None:
    for path, module in model.named_modules():
        own = module.parameters(recurse=False)
        quantised = re.fullmatch(_QUANTISED, type(module).__name__) or any(
            not p.is_floating_point() or p.element_size() < 2 for p in own
        )
        if quantised and names.match(path) and not out.match(path):
            raise InputError(
                f"{path} is quantised ({type(module).__name__}), and entries of packed weights "
                "cannot train; load the model unquantised, or leave such layers out by "
                "exclude_modules"
            )


def _known(model: nn.Module) -> str:
    """The names of the first modules that hold tensors."""
    names = [
        name
        for name, module in model.named_modules()
        if name and any(True for _ in module.parameters(recurse=False))
    ]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"modules: {', '.join(names[:_MOST_NAMED])}{more}"
