"""`jiant-sparse methods`: the methods with their fields, and how many weights each one tunes."""

import json
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tabulate import tabulate

from jiant_sparse.errors import InputError

if TYPE_CHECKING:
    from jiant_sparse.methods.base import Method


def methods(
    model: Annotated[
        str | None,
        typer.Option(
            help="Count the weights of this model: roberta-base-config, roberta-large-config, or "
            "any model that `run` takes."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Count this benchmark's methods and fields."),
    ] = None,
) -> None:
    """List the methods: title, paper, fields with defaults and ranges. --model counts weights."""
    if model is not None:
        typer.echo("\n".join(_counted(model, _asked(config))))
        for line in _left_out() if config is None else ():
            typer.echo(line)
    elif config is not None:
        raise typer.BadParameter("needs --model", param_hint="--config")
    else:
        typer.echo("\n".join(_listed()))


def _listed() -> Iterable[str]:
    from jiant_sparse.methods import base, fields

    for name in base.names():
        kind = base.find(name)
        module = sys.modules[kind.__module__]
        yield f"{name}\n  {(module.__doc__ or kind.title).strip().splitlines()[0]}"
        yield f"  {kind.title} ({kind.category}), {kind.paper}"
        defaults = fields.defaults(kind)
        for field, hint in fields.of(kind).items():
            default = json.dumps(defaults[field], default=str) if field in defaults else "required"
            line = f"{field}: {default}; {fields.allowed(hint)}"
            yield textwrap.fill(line, 100, initial_indent=" " * 4, subsequent_indent=" " * 6)


def _asked(config: Path | None) -> Iterable[tuple[str, str, "Method", list[str]]]:
    """(label, name, method, tasks) of a benchmark, each setting once; or of every default."""
    from jiant_sparse.config import load as config_module
    from jiant_sparse.methods import base, fields

    if config is None:
        kinds = {name: base.find(name) for name in base.names()}
        whole = {name: kind for name, kind in kinds.items() if not fields.required(kind)}
        return [(name, name, kind(), [""]) for name, kind in whole.items()]
    found: dict[str, tuple[str, str, Method, list[str]]] = {}
    for cell in config_module.load(config).cells:
        label, task, method = cell.key.method, cell.key.task, cell.make_method()
        tasks = found.setdefault(f"{label} {method}", (label, cell.method_name, method, []))[-1]
        tasks += [task] if task not in tasks else []
    return found.values()


def _left_out() -> Iterable[str]:
    from jiant_sparse.methods import base, fields

    for name in base.names():
        if lacking := fields.required(base.find(name)):
            yield f"{name} is not counted: it needs {', '.join(lacking)}; give a --config."


def _counted(model: str, asked: Iterable[tuple[str, str, "Method", list[str]]]) -> Iterable[str]:
    """The table of counts. A label whose values differ by task has a line for each count."""
    from jiant_sparse.host import fit
    from jiant_sparse.report import published

    shape = fit.shape(model)
    tasks: dict[tuple[str, ...], list[str]] = {}
    moving: dict[str, None] = {}
    for label, name, method, which in asked:
        percent = published.percent_tuned(name)
        beside = "-" if percent is None else f"{percent:g}"
        tasks.setdefault((label, *_numbers(label, method, shape), beside), []).extend(which)
        if method.moved_per_step is not None:
            moving[label] = None
    labels = [label for label, *_ in tasks]
    rows = [
        (label if labels.count(label) == 1 else f"{label} ({', '.join(which)})", *numbers)
        for (label, *numbers), which in tasks.items()
    ]
    yield tabulate(
        rows,
        headers=("method", "tuned", "added", "percent", "published (RoBERTa-base)"),
        tablefmt="plain",
        colalign=("left", *["right"] * 4),
        disable_numparse=True,
    )
    if moving:
        yield f"Counted in one step; every step selects anew: {', '.join(moving)}."


def _numbers(label: str, method: "Method", shape: Path) -> tuple[str, str, str]:
    from jiant_sparse.host import fit, model

    try:
        counts = fit.count(method, model.empty_encoder(shape))
    except fit.NeedsWeights:
        return "needs weights", "-", "-"
    except InputError as error:
        raise InputError(f"methods.{label}: {error}") from error
    return f"{counts.tuned:,}", f"{counts.added:,}", f"{counts.percent:.4f}"
