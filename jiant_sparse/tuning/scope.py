"""Which tensors of a model a method may train, and a view of the model that has these alone."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.tuning.config import Names, SparseConfig

# Classes of transformers with a task head beside the base model.
_WITH_HEAD = re.compile(r"\w+For\w*(Classification|MultipleChoice|QuestionAnswering)")
# transformers' GPT-2 calls its linear layers Conv1D.
_LINEAR = {"Linear", "Conv1D"}
_QUANTISED = re.compile(
    r"Linear4bit|Linear8bitLt|Embedding[48]bit|\w*BitLinear|FP8Linear|HQQLinear|HiggsLinear|"
    r"\w*QuantLinear|QuantizedLinear|WQLinear\w*"
)
_MOST_NAMED = 10


class View(nn.Module):
    """The encoder that methods see: some tensors of a model, under the names that they have there.

    model: holds the tensors, and is edited in place. tensors: the eligible ones. Every module that
    holds one of them is in the view, so that tied weights stay tied. Embeddings that know which
    tokens are padding are in it too, without their weights.
    """

    def __init__(self, model: nn.Module, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        # Not a submodule: most of the model's tensors are not the view's.
        self.__dict__["model"] = model
        eligible, self.paths, self.others = {*tensors}, [], set[str]()
        for path, module in model.named_modules():
            own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
            pads = isinstance(module, nn.Embedding) and module.padding_idx is not None
            if pads or eligible & {*own.values()}:
                self.paths.append(path)
                self.others |= {join(path, n) for n, t in own.items() if t not in eligible}

    model: nn.Module

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """The view, the modules that hold its tensors, and what trains in the place of these."""
        memo = set() if memo is None else memo
        for name, module in self._places():
            if module not in memo:
                if remove_duplicate:
                    memo.add(module)
                yield join(prefix, name), module

    def named_parameters(self, *args: Any, **options: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The eligible tensors, or what trains in the place of them."""
        found = super().named_parameters(*args, **options)
        return ((name, parameter) for name, parameter in found if name not in self.others)

    def get_submodule(self, target: str) -> nn.Module:
        return self.model.get_submodule(target)

    def _places(self) -> Iterator[tuple[str, nn.Module]]:
        yield "", self
        for path in self.paths:
            module = self.get_submodule(path)  # a method may have put another in its place
            yield path, module
            stacks = dict(module.named_children()).get("parametrizations")
            if stacks is not None:
                yield from stacks.named_modules(prefix=join(path, "parametrizations"))


def join(path: str, name: str) -> str:
    """A dotted name below a path. The name or the path may be empty."""
    return ".".join(filter(None, (path, name)))


def select(model: nn.Module, config: SparseConfig) -> tuple[View, dict[str, Tensor]]:
    """A view of the eligible tensors; and the tensors that train whole, by name.

    Edits nothing. Raises InputError for a name that matches nothing, for a quantised layer, and if
    no tensor is left.
    """
    head = _called(model, "modules_to_save", _head(model, config))
    targets, out = _targets(model, config), config.exclude_modules or []
    _check_quantised(model, targets, out)
    excluded = {*head.values(), *_called(model, "exclude_modules", out).values()}
    eligible = {*_called(model, "target_modules", targets).values()} - excluded
    if not eligible:
        raise InputError(
            "target_modules without exclude_modules and modules_to_save leaves no weight; "
            + _known(model)
        )
    return View(model, eligible), head


def _targets(model: nn.Module, config: SparseConfig) -> Names:
    if config.target_modules is not None and config.target_modules != "all-linear":
        return config.target_modules
    prefix, inner = _encoder(model)
    if config.target_modules is None:
        return re.escape(prefix) or ".+"
    output = getattr(model, "get_output_embeddings", lambda: None)()
    linear = [
        re.escape(join(prefix, name)) or ".+"
        for name, module in inner.named_modules()
        if _LINEAR & {kind.__name__ for kind in type(module).__mro__} and module is not output
    ]
    if not linear:
        raise InputError("target_modules is 'all-linear'; the model has no linear layer")
    return "|".join(linear)


def _encoder(model: nn.Module) -> tuple[str, nn.Module]:
    """The name and module of a transformers model without its head; or ("", model)."""
    prefix = getattr(model, "base_model_prefix", "")
    inner = getattr(model, prefix, None) if prefix else None
    return (prefix, inner) if isinstance(inner, nn.Module) else ("", model)


def _head(model: nn.Module, config: SparseConfig) -> Names:
    prefix, _ = _encoder(model)
    if config.modules_to_save is not None:
        return config.modules_to_save
    if not prefix or not any(_WITH_HEAD.fullmatch(kind.__name__) for kind in type(model).__mro__):
        return []
    return [
        n for n, m in model.named_children() if n != prefix and any(True for _ in m.parameters())
    ]


def _called(model: nn.Module, field: str, names: Names) -> dict[str, Tensor]:
    """The parameters that have such a name, or lie in a module that has, by their first names.

    Raises InputError for a name that nothing has. field: of the SparseConfig, for errors.
    """
    own = [*model.named_parameters(remove_duplicate=False)]
    first = {tensor: name for name, tensor in reversed(own)}
    found: dict[str, Tensor] = {}
    for given, pattern in _patterns(field, names).items():
        hits = {first[t]: t for name, t in own if any(map(pattern.fullmatch, _around(name)))}
        if not hits:
            raise InputError(f"{field}: nothing is called {given!r}; {_known(model)}")
        found |= hits
    return found


def _patterns(field: str, names: Names) -> dict[str, re.Pattern[str]]:
    if not isinstance(names, str):
        return {end: re.compile(rf"(.+\.)?{re.escape(end)}") for end in names}
    try:
        return {names: re.compile(names)}
    except re.error as error:
        raise InputError(f"{field} is {names!r}: no regular expression: {error}") from error


def _around(name: str) -> list[str]:
    """The names of the modules around a tensor or module, and its own.

    >>> _around("a.b.weight")
    ['a', 'a.b', 'a.b.weight']
    """
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _check_quantised(model: nn.Module, targets: Names, out: Names) -> None:
    targeted, left_out = (
        [*_patterns("target_modules", names).values()] for names in (targets, out)
    )

    def has(path: str, patterns: list[re.Pattern[str]]) -> bool:
        return any(pattern.fullmatch(part) for part in _around(path) for pattern in patterns)

    for path, module in model.named_modules():
        own = module.parameters(recurse=False)
        packed = any(not p.is_floating_point() or p.element_size() < 2 for p in own)
        packed = packed or _QUANTISED.fullmatch(type(module).__name__) is not None
        if packed and has(path, targeted) and not has(path, left_out):
            raise InputError(
                f"{path} is quantised ({type(module).__name__}), and entries of packed weights "
                "cannot train; load the model unquantised, or name such layers in exclude_modules"
            )


def _known(model: nn.Module) -> str:
    """The names of the first modules that hold tensors."""
    own = dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters())
    named = [name for name in own if name]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return f"modules: {', '.join(named[:_MOST_NAMED])}{more}"
