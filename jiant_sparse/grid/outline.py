"""What one cell is about to do, described for people before it begins."""

import math
import sys

from jiant_sparse.grid.estimate import first_stop, total_steps
from jiant_sparse.host import container, device, fit, model
from jiant_sparse.host.job import Job
from jiant_sparse.layout import checkpoint_step
from jiant_sparse.schema.record import Record


def outline(job: Job, found: Record | None) -> str:
    """Describe a cell: place, model, device, data, method, weights, steps, rate, dev; a line each.

    found: the cell's record. Raises InputError for a training too short for its method.
    """
    cell, setup, train = job.cell, job.cell.setup, job.cell.train
    fit.check_scores(cell.method_name, cell.make_method(), train, total_steps(job))
    fields = ", ".join(f"{name} {value}" for name, value in cell.method_fields.items())
    warmup = container.warmup_steps(train, total_steps(job))
    selection, weights = _selection_and_weights(job)
    lines = {
        "cell": f"{job.directory}: {_state(job, found)}",
        "model": f"{setup.model}, pooling {setup.pooling}",
        "device": f"{device.name(device.pick(setup.device))}, CPU threads: {job.threads}",
        "data": _data(job),
        "method": f"{cell.method_name}: {fields or 'no fields'}",
        "selection": selection,
        "weights": weights,
        "steps": _steps(job),
        "rate": f"{train.learning_rate:g} after {warmup:,} steps of warm-up, then falling to 0"
        + ("" if train.optimizer == "adamw" else f"; optimizer {train.optimizer}"),
        "dev": _dev(job),
    }
    return "\n".join(f"{name}: {text}" for name, text in lines.items())


def _state(job: Job, found: Record | None) -> str:
    if found is not None and found.status == "ok":
        return "done before, nothing will run"
    step = checkpoint_step(job.directory)
    if step is not None:
        return f"goes on from the checkpoint of step {step:,}"
    return "not run yet" if found is None else "failed before, runs again"


def _data(job: Job) -> str:
    setup, rows = job.cell.setup, job.data.examples
    counts = f"{rows['train']:,} train, {rows['val']:,} dev and {rows['test']:,} test rows"
    return f"{setup.data_dir}, split {setup.split}: {job.cell.task.name} with {counts}"


def _selection_and_weights(job: Job) -> tuple[str, str]:
    """How the method selects weights, and how many weights train."""
    cell, method = job.cell, job.cell.make_method()
    about = (sys.modules[type(method).__module__].__doc__ or "").splitlines()[0]
    head = "the task head is frozen" if cell.train.freeze_head else "the task head trains as well"
    try:
        counts = fit.count(method, model.empty_encoder(job.source.path))
    except fit.NeedsWeights as error:
        return about, f"{error}; {head}"
    if counts.probed:
        size = counts.probed.get("batch_size") or cell.train.batch_size
        batches, a_pass = counts.probed["batches"], math.ceil(job.data.examples["train"] / size)
        if batches is None or not counts.probed.get("repeat", True):
            batches = min(batches or a_pass, a_pass)
        about += f" Before step 1 it takes the gradients of {batches:,} batches of {size}."
        if head_steps := counts.probed.get("head_steps"):
            about += f" For these gradients the task head trains {head_steps:,} steps."
    added = f" and {counts.added:,} added ones" if counts.added else ""
    each = ", selected anew in each step" if method.moved_per_step is not None else ""
    return about, (
        f"tunes {counts.tuned:,} of the encoder's {counts.eligible:,}{added} "
        f"({counts.percent:.4f} %){each}; {head}"
    )


def _steps(job: Job) -> str:
    train, total = job.cell.train, total_steps(job)
    an_epoch = container.total_steps(
        train.model_copy(update={"max_steps": None, "max_epochs": 1}), job.data.examples["train"]
    )
    epochs = f"{total / an_epoch:,.1f}".removesuffix(".0")
    parts = "" if train.gradient_accumulation == 1 else f"{train.gradient_accumulation} x "
    text = f"{total:,} of {parts}{train.batch_size} examples, {epochs} epochs"
    if train.max_steps is None and job.cell.task.has_spans:
        text += f"; fewer if an example is too long for {train.max_seq_length} tokens"
    return text


def _dev(job: Job) -> str:
    train, first = job.cell.train, first_stop(job)
    text = f"scored every {train.eval_every:,} steps"
    counted = fit.first_score(job.cell.make_method())
    if counted > 1:
        text += f", competing for the best checkpoint from step {counted:,}"
    if first is None:
        return f"{text}; no early stopping"
    return (
        f"{text}; {train.patience} scores without a better one end the run after step "
        f"{train.min_steps:,}, at step {first:,} at the earliest"
    )
