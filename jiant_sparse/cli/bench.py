"""`jiant-sparse bench`: what the performance claims are measured with. Prints JSON lines."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from jiant_sparse.cli.shared import input_errors

app = typer.Typer(
    help="Measure what training, choosing and storing cost: a JSON object per line and contender. "
    "Contenders take turns; ratios are medians over the turns.",
    no_args_is_help=True,
)

ModelConfig = Annotated[
    str,
    typer.Option(help="minilm, roberta-base, roberta-large, a model directory or a config file."),
]
BatchSize = Annotated[int, typer.Option(help="Rows.")]
SequenceLength = Annotated[int, typer.Option(help="Tokens of a row.")]
Density = Annotated[float, typer.Option(help="Tuned fraction of the encoder, in (0, 1].")]
Threads = Annotated[int, typer.Option(min=1, help="Threads that torch computes with.")]
Repeats = Annotated[int, typer.Option(min=1, help="Rounds that count.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Precision = Annotated[str, typer.Option(help="fp32, or bf16 for a forward pass under autocast.")]
Only = Annotated[
    str | None,
    typer.Option(help="Contenders beside bound and full: ours/random,lora; ours means all ours."),
]


@app.command()
def step(
    model_config: ModelConfig = "roberta-base",
    batch_size: BatchSize = 8,
    sequence_length: SequenceLength = 64,
    density: Density = 0.005,
    threads: Threads = 1,
    repeats: Repeats = 7,
    device: Device = "cpu",
    precision: Precision = "fp32",
    only: Only = None,
) -> None:
    """Milliseconds of a training step."""
    from jiant_sparse.bench import step as module
    from jiant_sparse.bench.models import Setting

    def rows() -> Iterable[Mapping[str, Any]]:
        setting = Setting(model_config, batch_size, sequence_length, density, device, precision)
        return module.run(setting, repeats=repeats, only=_listed(only), notify=_notify)

    _tell_absent(only)
    _print(rows, threads, device)


@app.command()
def memory(
    model_config: ModelConfig = "roberta-base",
    batch_size: BatchSize = 8,
    sequence_length: SequenceLength = 64,
    density: Density = 0.005,
    threads: Threads = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Processes of each contender.")] = 3,
    device: Device = "cpu",
    precision: Precision = "fp32",
    only: Only = None,
) -> None:
    """Peak bytes of training steps, every contender in processes of its own."""
    from jiant_sparse.bench import memory as module
    from jiant_sparse.bench.models import Setting

    def rows() -> Iterable[Mapping[str, Any]]:
        setting = Setting(model_config, batch_size, sequence_length, density, device, precision)
        return module.run(setting, repeats=repeats, only=_listed(only), notify=_notify)

    _tell_absent(only)
    _print(rows, threads, device)


@app.command()
def select(
    model_config: ModelConfig = "roberta-base",
    batch_size: BatchSize = 8,
    sequence_length: SequenceLength = 64,
    density: Density = 0.005,
    threads: Threads = 1,
    repeats: Repeats = 7,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Milliseconds of choosing weights: SAM's burn-in per batch, top-k, uniform draws."""
    from jiant_sparse.bench import select as module
    from jiant_sparse.bench.models import Setting

    def rows() -> Iterable[Mapping[str, Any]]:
        setting = Setting(model_config, batch_size, sequence_length, density, device, precision)
        return module.run(setting, repeats=repeats, notify=_notify)

    _print(rows, threads, device)


@app.command()
def product(
    model_config: ModelConfig = "roberta-base",
    batch_size: BatchSize = 8,
    sequence_length: SequenceLength = 64,
    threads: Threads = 1,
    repeats: Repeats = 7,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> None:
    """Milliseconds of chosen entries of one weight's gradient, by shape and share."""
    from jiant_sparse.bench import product as module
    from jiant_sparse.bench.models import Setting

    def rows() -> Iterable[Mapping[str, Any]]:
        setting = Setting(
            model_config, batch_size, sequence_length, device=device, precision=precision
        )
        return module.run(setting, repeats=repeats, notify=_notify)

    _print(rows, threads, device)


@app.command()
def sample(
    model_config: ModelConfig = "roberta-base",
    batch_size: BatchSize = 8,
    sequence_length: SequenceLength = 64,
    threads: Threads = 1,
    repeats: Repeats = 7,
    device: Device = "cpu",
    k: Annotated[int, typer.Option(min=1, help="Entries to draw.")] = 102_912,
    peers: Annotated[
        bool, typer.Option("--peers", help="Time NumPy's choice too, once: seconds to minutes.")
    ] = False,
) -> None:
    """Milliseconds of a weighted draw without replacement."""
    from jiant_sparse.bench import sample as module
    from jiant_sparse.bench.models import Setting

    def rows() -> Iterable[Mapping[str, Any]]:
        setting = Setting(model_config, batch_size, sequence_length, device=device)
        return module.run(setting, k=k, repeats=repeats, peers=peers, notify=_notify)

    _print(rows, threads, device)


@app.command()
def padding(
    data_dir: Annotated[Path, typer.Option(help="Task data, as `jiant-sparse data` writes it.")],
    model: Annotated[str, typer.Option(help="A model that `run` takes: its tokenizer counts.")],
    tasks: Annotated[str, typer.Option(help="Comma-separated.")] = "cola,stsb,mrpc,rte,cb,copa,wsc",
    batch_size: BatchSize = 16,
    max_seq_length: Annotated[int, typer.Option(help="Tokens, at most.")] = 256,
    window: Annotated[
        int | None, typer.Option(help="Batches that are grouped by length together; default 32.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of which tokens are counted.")] = 1,
) -> None:
    """Tokens computed for each real one: as jiant pads, and trimmed and grouped as here."""
    from jiant_sparse.bench import padding as module

    def rows() -> Iterable[Mapping[str, Any]]:
        found = module.run(
            data_dir,
            model,
            tasks=_listed(tasks),
            batch_size=batch_size,
            max_seq_length=max_seq_length,
            window=module.WINDOW if window is None else window,
            epochs=epochs,
        )
        return ({**row, "model": model} for row in found)

    _print(rows)


@app.command()
def delta(
    model_config: ModelConfig = "roberta-base",
    density: Density = 0.005,
    threads: Threads = 1,
    repeats: Repeats = 7,
) -> None:
    """Bytes of what a training changed, and milliseconds to write, read and apply it."""
    from jiant_sparse.bench import delta as module
    from jiant_sparse.bench.models import shape

    def rows() -> Iterable[Mapping[str, Any]]:
        found = module.run(shape(model_config), density=density, repeats=repeats)
        return ({**row, "model": model_config} for row in found)

    _print(rows, threads)


def _print(
    rows: Callable[[], Iterable[Mapping[str, Any]]], threads: int = 1, device: str = "cpu"
) -> None:
    """Every row with what it was measured on; exit code 1 if a row is an error."""
    import torch

    from jiant_sparse.bench import measure
    from jiant_sparse.host import device as devices

    torch.set_num_threads(threads)
    failed = False
    with input_errors():
        environment = measure.environment(devices.pick(device))
        for row in rows():
            typer.echo(json.dumps({**row, **environment}))
            failed |= "error" in row
    raise typer.Exit(1 if failed else 0)


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def _notify(line: str) -> None:
    typer.echo(line, err=True)


def _tell_absent(only: str | None) -> None:
    from jiant_sparse.bench import contenders

    if only is None and (absent := contenders.absent()):
        typer.echo(
            f"left out: {', '.join(absent)}; to have them: pip install '{contenders.PEFT}'",
            err=True,
        )
