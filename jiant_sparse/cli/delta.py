"""`jiant-sparse delta`: look into and use what a training changed."""

from pathlib import Path
from typing import Annotated

import typer

from jiant_sparse.cli.shared import input_errors
from jiant_sparse.errors import InputError, printable

app = typer.Typer(help="Look into and use what a training changed.", no_args_is_help=True)


@app.command()
def inspect(file: Annotated[Path, typer.Argument()]) -> None:
    """What a delta holds."""
    from jiant_sparse.sparse import delta

    with input_errors():
        found = delta.load(file)
    typer.echo(f"values: {found.values}")
    typer.echo(f"changed: {delta.changed(found):,} entries of {len(found.entries)} tensors")
    for name, (index, _) in found.entries.items():
        typer.echo(f"  {printable(name)}: {index.numel():,}")
    typer.echo(f"new: {sum(t.numel() for t in found.new.values()):,} weights")
    for name, tensor in found.new.items():
        typer.echo(f"  {printable(name)}: {'x'.join(map(str, tensor.shape))}")
    typer.echo("meta:")
    for key, value in found.meta.items():
        typer.echo(f"  {printable(key)}: {printable(value)}")


@app.command()
def apply(
    file: Annotated[Path, typer.Argument()],
    model: Annotated[str, typer.Option("--model", help="The model the delta was made from.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="A new model directory.")],
    fold: Annotated[
        bool, typer.Option("--fold", help="Add LoRA's updates to the weights themselves.")
    ] = False,
) -> None:
    """Write the tuned model as a directory that transformers loads."""
    from jiant_sparse.host.export import export

    with input_errors():
        export(file, model, output_dir, fold=fold)
    typer.echo(output_dir)


@app.command("round")
def round_values(
    file: Annotated[Path, typer.Argument()],
    output: Annotated[Path, typer.Argument(help="A new file.")],
    values: Annotated[str, typer.Option("--values", help="bfloat16 or float16.")],
) -> None:
    """Write a lossy copy with values of 16 bits, which says that it is one.

    New tensors (head, LoRA's A and B, adapters) stay exact.
    """
    from jiant_sparse.sparse import delta

    with input_errors():
        if output.exists():
            raise InputError(f"{output}: exists already; give a new file")
        found = delta.load(file)
        try:
            lossy = delta.rounded(found, values)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
        delta.save(lossy, output)
    typer.echo(output)


@app.command()
def diff(a: Annotated[Path, typer.Argument()], b: Annotated[Path, typer.Argument()]) -> None:
    """Where two deltas of one model differ, tensor by tensor."""
    from jiant_sparse.sparse import delta
    from jiant_sparse.sparse.delta_diff import diff as compare

    with input_errors():
        rows = compare(delta.load(a), delta.load(b))
    typer.echo("only_a\tonly_b\tboth\tequal\tmax_difference\ttensor")
    for row in rows:
        typer.echo(
            f"{row.only_a}\t{row.only_b}\t{row.both}\t{row.equal}\t"
            f"{row.max_difference:.3g}\t{printable(row.name)}"
        )
