"""`jiant-sparse bench`: measure what training, choosing and storing weights cost."""

import importlib
import inspect
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Measure what training, choosing and storing weights cost. Prints one JSON object a line "
    "for each contender. Contenders take turns; a ratio is the median over the rounds.",
    no_args_is_help=True,
)

ModelConfig = Annotated[
    str,
    typer.Option(
        help="Shapes of the encoder: minilm, roberta-base, roberta-large, a model directory or a "
        "config file. Its weights are random."
    ),
]
BatchSize = Annotated[int, typer.Option(help="Examples in a batch.")]
Density = Annotated[float, typer.Option(help="Trained fraction of the encoder, in (0, 1].")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads that torch uses.")]
Repeats = Annotated[int, typer.Option(min=1, help="Measured rounds.")]
Tokens = Annotated[int, typer.Option(help="Tokens of each example.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Precision = Annotated[str, typer.Option(help="fp32, or bf16 for a forward pass under autocast.")]
Processes = Annotated[int, typer.Option(min=1, help="Processes of each contender.")]
Drawn = Annotated[int, typer.Option(min=1, help="Weights to draw.")]
Peers = Annotated[
    bool, typer.Option("--peers", help="Time NumPy's choice too, once: seconds to minutes.")
]
Only = Annotated[
    str | None,
    typer.Option(
        help="Contenders to measure beside bound and full, such as ours/random,lora; ours stands "
        "for all of this package's methods. Default: all that are installed."
    ),
]
# The options of the measurements on a random model: name -> type and default.
SETTING = {
    "model_config": (ModelConfig, "roberta-base"),
    "batch_size": (BatchSize, 8),
    "sequence_length": (Tokens, 64),
    "density": (Density, 0.005),
    "device": (Device, "cpu"),
    "precision": (Precision, "fp32"),
    "threads": (Threads, 1),
}


def _add(name: str, help: str, *, without: Collection[str] = (), **own: tuple[Any, Any]) -> None:
    """Add a command that prints the rows of `run` in the module of this name in bench/.

    It has the options of SETTING but for the names in `without`, and the options `own`, which are
    keyword arguments of `run`.
    """
    options = {key: option for key, option in SETTING.items() if key not in without} | own

    def command(**given: Any) -> None:
        from jiant_sparse.bench.models import Setting

        fields = {key: given.pop(key) for key in options if key not in own}
        threads, model = fields.pop("threads"), fields.pop("model_config")
        if "only" in given:
            given["only"] = _contenders(given["only"])
        run = importlib.import_module(f"jiant_sparse.bench.{name}").run
        rows = run(Setting(model, **fields), notify=_notify, **given)
        _print(rows, threads, fields["device"])

    # typer reads the options of a command from its signature.
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, (kind, default) in options.items()
        ]
    )
    app.command(name, help=help)(command)


_add("step", "Time a training step.", repeats=(Repeats, 7), only=(Only, None))
_add(
    "memory",
    "Measure the peak memory of a training step, each contender in its own processes.",
    repeats=(Processes, 3),
    only=(Only, None),
)
_add(
    "select",
    "Time the choice of weights: SAM's burn-in per batch, top-k, uniform draws.",
    repeats=(Repeats, 7),
)
_add(
    "product",
    "Time the gradient of chosen entries of one weight matrix, by its shape and their share.",
    repeats=(Repeats, 7),
    without=("density",),
)
_add(
    "sample",
    "Time a weighted draw without replacement, as Stochastic Tuning makes one every step.",
    repeats=(Repeats, 7),
    k=(Drawn, 102_912),
    peers=(Peers, False),
    without=("density", "precision"),
)


@app.command()
def padding(
    data_dir: Annotated[Path, typer.Option(help="Directory of the task data.")],
    model: Annotated[str, typer.Option(help="Model whose tokenizer counts, as `run` takes it.")],
    tasks: Annotated[str, typer.Option(help="Separated by commas.")] = (
        "cola,stsb,mrpc,rte,cb,copa,wsc"
    ),
    batch_size: BatchSize = 16,
    max_seq_length: Annotated[int, typer.Option(help="Longest example, in tokens.")] = 256,
    window: Annotated[
        int | None, typer.Option(help="Batches that are grouped by length together. Default: 32.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of training to count.")] = 1,
) -> None:
    """Count the tokens computed for each real token: jiant's padding and ours."""
    from jiant_sparse.bench import padding as module

    found = module.run(
        data_dir,
        model,
        tasks=_listed(tasks),
        batch_size=batch_size,
        max_seq_length=max_seq_length,
        window=module.WINDOW if window is None else window,
        epochs=epochs,
    )
    _print({**row, "model": model} for row in found)


@app.command()
def cell(
    data_dir: Annotated[Path, typer.Option(help="Directory of the task data.")],
    model: Annotated[str, typer.Option(help="Model whose tokenizer counts, as `run` takes it.")],
    tasks: Annotated[str, typer.Option(help="Separated by commas.")] = "cb,rte,stsb",
    model_config: ModelConfig = "minilm",
    batch_size: BatchSize = 16,
    max_seq_length: Annotated[int, typer.Option(help="Longest example, in tokens.")] = 256,
    density: Density = 0.005,
    device: Device = "cpu",
    precision: Precision = "fp32",
    threads: Threads = 1,
    repeats: Repeats = 7,
    only: Annotated[
        str, typer.Option(help="Contenders of `bench step`.")
    ] = "full,bound,ours/random,ours/sam,lora,ours/stochastic_tuning",
) -> None:
    """Time a training step on a task's batches: packed, trimmed, with jiant's padding, ideal."""
    from jiant_sparse.bench import cell as module
    from jiant_sparse.bench.models import Setting

    setting = Setting(model_config, batch_size, max_seq_length, density, device, precision)
    found = module.run(
        setting,
        data_dir,
        model,
        tasks=_listed(tasks),
        repeats=repeats,
        only=_listed(only),
        notify=_notify,
    )
    _print(found, threads, device)


@app.command()
def job(
    data_dir: Annotated[Path, typer.Option(help="Directory of the task data.")],
    model: Annotated[str, typer.Option(help="Model that is trained, as `run` takes it.")],
    tasks: Annotated[str, typer.Option(help="Separated by commas.")] = "cb,rte,stsb",
    methods: Annotated[
        str, typer.Option(help="Methods of ours, each beside what Trainer and PEFT have for it.")
    ] = "full_tuning,lora,random",
    steps: Annotated[int, typer.Option(min=1, help="Training steps of a job.")] = 20,
    batch_size: BatchSize = 16,
    max_seq_length: Annotated[int, typer.Option(min=8, help="Longest example, in tokens.")] = 256,
    density: Density = 0.005,
    threads: Threads = 1,
    repeats: Repeats = 3,
) -> None:
    """Time a whole job, data to dev scores, beside Hugging Face's Trainer and PEFT."""
    from jiant_sparse.bench import job as module

    found = module.run(
        data_dir,
        model,
        tasks=_listed(tasks),
        methods=_listed(methods),
        steps=steps,
        repeats=repeats,
        batch_size=batch_size,
        max_seq_length=max_seq_length,
        density=density,
        notify=_notify,
    )
    _print(found, threads)


@app.command()
def delta(
    model_config: ModelConfig = "roberta-base",
    density: Density = 0.005,
    threads: Threads = 1,
    repeats: Repeats = 7,
) -> None:
    """Measure a delta: bytes on disk, and the time to write, read and apply it."""
    from jiant_sparse.bench import delta as module
    from jiant_sparse.bench.models import shape

    found = module.run(shape(model_config), density=density, repeats=repeats)
    _print(({**row, "model": model_config} for row in found), threads)


def _print(rows: Iterable[Mapping[str, Any]], threads: int = 1, device: str = "cpu") -> None:
    """Print every row with the machine that it was measured on. Exit code 1: a row is an error."""
    import torch

    from jiant_sparse.bench import measure
    from jiant_sparse.host import device as devices

    torch.set_num_threads(threads)
    environment = measure.environment(devices.pick(device))
    failed = False
    for row in rows:
        typer.echo(json.dumps({**row, **environment}))
        failed |= "error" in row
    raise typer.Exit(1 if failed else 0)


def _contenders(only: str | None) -> list[str]:
    """Split --only; without it, name on stderr the contenders that are not installed."""
    from jiant_sparse.bench import contenders

    if only is None and (absent := contenders.absent()):
        _notify(f"left out: {', '.join(absent)}; to have them: pip install '{contenders.PEFT}'")
    return _listed(only or "")


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _notify(line: str) -> None:
    typer.echo(line, err=True)
