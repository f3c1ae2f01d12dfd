"""`jiant-sparse delta`: inspect, compare and apply what training changed."""

from pathlib import Path
from typing import Annotated

import typer

from jiant_sparse.errors import InputError, printable

app = typer.Typer(help="Inspect, compare and apply what training changed.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A cell's delta.safetensors.")]


@app.command()
def inspect(file: File) -> None:
    """Print what a delta holds: changed entries, new tensors, metadata."""
    from jiant_sparse.sparse import delta

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
    file: File,
    model: Annotated[str, typer.Option("--model", help="The model that was trained.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", help="New model directory.")],
    fold: Annotated[
        bool, typer.Option("--fold", help="Merge LoRA's updates into the weights.")
    ] = False,
) -> None:
    """Write the trained model as a directory that transformers loads."""
    from jiant_sparse.host.export import export

    export(file, model, output_dir, fold=fold)
    typer.echo(output_dir)


@app.command("round")
def round_values(
    file: File,
    output: Annotated[Path, typer.Argument(help="New file.")],
    values: Annotated[str, typer.Option("--values", help="bfloat16 or float16.")],
) -> None:
    """Write a smaller copy with values rounded to 16 bits; `inspect` shows that it is rounded.

    New tensors (head, LoRA's A and B, adapters) stay exact.
    """
    from jiant_sparse.sparse import delta

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
def diff(a: File, b: File) -> None:
    """Print where two deltas of one model differ, tensor by tensor."""
    from jiant_sparse.sparse import delta
    from jiant_sparse.sparse.delta_diff import diff as compare

    rows = compare(delta.load(a), delta.load(b))
    typer.echo("only_a\tonly_b\tboth\tequal\tmax_difference\ttensor")
    for row in rows:
        typer.echo(
            f"{row.only_a}\t{row.only_b}\t{row.both}\t{row.equal}\t"
            f"{row.max_difference:.3g}\t{printable(row.name)}"
        )
