"""`jiant-sparse methods`: what there is, and how many weights each tunes."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jiant_sparse.cli.shared import input_errors


def methods(
    model: Annotated[
        str | None,
        typer.Option(
            help="Count for this model: roberta-base-config, roberta-large-config, or any that "
            "`run` takes; its weights are not read."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Count for this benchmark's methods and fields.")
    ] = None,
) -> None:
    """List the methods with their fields and defaults; with --model, the weights they tune."""
    if model is not None:
        with input_errors():
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


def _asked(config: Path | None) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """label -> (method, fields): a benchmark's, or every method with its defaults."""
    from jiant_sparse.benchmark import config as config_module
    from jiant_sparse.methods import base

    if config is None:
        return {name: (name, {}) for name in base.names()}
    cells = config_module.load(config).cells
    return {cell.key.method: (cell.method_name, cell.method_fields) for cell in cells}


def _counted(model: str, asked: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Iterable[str]:
    from jiant_sparse.host import fit
    from jiant_sparse.methods import base
    from jiant_sparse.report import published

    rows = [("method", "tuned", "added", "percent", "published (RoBERTa-base)")]
    for label, (name, fields) in asked.items():
        encoder = fit.empty_encoder(model)
        eligible = sum(weight.numel() for weight in encoder.parameters())
        published_percent = published.percent_tuned(name)
        beside = "-" if published_percent is None else f"{published_percent:g}"
        try:
            counts = fit.count(base.find(name)(**fields), encoder)
        except fit.NeedsWeights:
            rows.append((label, "needs weights", "-", "-", beside))
        else:
            numbers = f"{counts.tuned:,}", f"{counts.added:,}", f"{counts.percent:.4f}"
            rows.append((label, *numbers, beside))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for label, *numbers in rows:
        cells = (text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))
        yield "  ".join([label.ljust(widths[0]), *cells])
    yield f"percent of the encoder's {eligible:,} weights; the task head comes on top"
