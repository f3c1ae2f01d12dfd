"""`jiant-sparse methods`: what there is, and how many weights each tunes."""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jiant_sparse.errors import InputError

if TYPE_CHECKING:
    from jiant_sparse.methods.base import Method


def methods(
    model: Annotated[
        str | None,
        typer.Option(
            help="Count for this model: roberta-base-config, roberta-large-config, or any that "
            "`run` takes."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Count for this benchmark's methods and fields.")
    ] = None,
) -> None:
    """List the methods with their fields and defaults; with --model, the weights they tune."""
    if model is not None:
        typer.echo("\n".join(_counted(model, _asked(config))))
    elif config is not None:
        raise typer.BadParameter("needs --model", param_hint="--config")
    else:
        typer.echo("\n".join(_listed()))


def _listed() -> Iterable[str]:
    from jiant_sparse.methods import base

    for name in base.names():
        kind = base.find(name)
        module = sys.modules[kind.__module__]
        yield f"{name}\n  {(module.__doc__ or '').strip().splitlines()[0]}"
        for field, default in dataclasses.asdict(kind()).items():
            yield f"    {field}: {default!r}"


def _asked(config: Path | None) -> Iterable[tuple[str, str, "Method", list[str]]]:
    """(label, name, method, tasks), each setting once: a benchmark's, or every method's default."""
    from jiant_sparse.config import load as config_module
    from jiant_sparse.methods import base

    if config is None:
        return [(name, name, base.find(name)(), [""]) for name in base.names()]
    found: dict[str, tuple[str, str, Method, list[str]]] = {}
    for cell in config_module.load(config).cells:
        label, task, method = cell.key.method, cell.key.task, cell.make_method()
        tasks = found.setdefault(f"{label} {method}", (label, cell.method_name, method, []))[-1]
        tasks += [task] if task not in tasks else []
    return found.values()


def _counted(model: str, asked: Iterable[tuple[str, str, "Method", list[str]]]) -> Iterable[str]:
    """The table; a label has a line for each of the counts that its values by task make."""
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
    rows = [("method", "tuned", "added", "percent", "published (RoBERTa-base)")]
    for (label, *numbers), which in tasks.items():
        shown = label if labels.count(label) == 1 else f"{label} ({', '.join(which)})"
        rows.append((shown, *numbers))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for label, *numbers in rows:
        cells = (text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))
        yield "  ".join([label.ljust(widths[0]), *cells])
    if moving:
        yield f"Tuned in one step, others in the next: {', '.join(moving)}."


def _numbers(label: str, method: "Method", shape: Path) -> tuple[str, str, str]:
    from jiant_sparse.host import fit, model

    try:
        counts = fit.count(method, model.empty_encoder(shape))
    except fit.NeedsWeights:
        return "needs weights", "-", "-"
    except InputError as error:
        raise InputError(f"methods.{label}: {error}") from error
    return f"{counts.tuned:,}", f"{counts.added:,}", f"{counts.percent:.4f}"
