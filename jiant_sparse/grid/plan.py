"""Plans a grid: its cells with checked inputs, and which of them are done."""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jiant_sparse.config import evidence
from jiant_sparse.config import load as config
from jiant_sparse.data.prepare import TaskData, prepare
from jiant_sparse.errors import InputError
from jiant_sparse.grid import lock_file
from jiant_sparse.host import checkpoint, compat, device, fit, model, tokenizer
from jiant_sparse.host.job import Job
from jiant_sparse.schema import manifest, record
from jiant_sparse.schema.cell import Benchmark, Cell
from jiant_sparse.schema.manifest import Manifest, PlannedCell
from jiant_sparse.schema.record import CellKey, Record

State = Literal["ok", "failed", "missing"]
_ONLY = ("task", "method", "seed")


def parse_only(text: str | None) -> dict[str, list[str]]:
    """Parse `task=cb,task=rte,method=sam` into values by key; None gives no keys.

    Raises InputError for anything else, also for empty text, which would mean every cell.

    >>> parse_only("task=cb,task=rte,method=sam")
    {'task': ['cb', 'rte'], 'method': ['sam']}
    """
    only: dict[str, list[str]] = {}
    for part in () if text is None else text.split(","):
        key, equals, value = part.strip().partition("=")
        if key not in _ONLY or not equals or not value:
            form = "=..., ".join(_ONLY)
            raise InputError(f"--only {part or repr(part)}: must look like {form}=...")
        only.setdefault(key, []).append(value)
    return only


def plan(
    benchmark: Benchmark,
    output_dir: Path,
    only: Mapping[str, Sequence[str]] | None = None,
    *,
    tensorboard: bool = False,
) -> list[Job]:
    """Return a job with checked inputs for each cell, or for those of `only`'s labels.

    Writes nothing. Raises InputError with every problem of the device, the model, the data, and
    the records from which hyper-parameters were selected.
    """
    compat.require_jiant()
    only = only or {}
    config.check_only(only, benchmark.planned)
    cells = [cell for cell in benchmark.cells if config.is_wanted(cell.key, only)]
    source = model.resolve(benchmark.model)
    prepared, problems = _prepare_all(cells, output_dir)
    problems |= _misfits(cells, source)
    problems |= tokenizer.unknown_texts(source.path, prepared.values())
    data = [(c, prepared[_data_key(c)]) for c in cells if _data_key(c) in prepared]
    problems |= evidence.foreign(benchmark.evidence, source.sha256, data)
    if problems:
        raise InputError(*problems)
    return [
        Job(
            cell,
            prepared[_data_key(cell)],
            source,
            cell.key.directory(output_dir),
            features=output_dir / ".features",
            threads=cell.setup.threads or 1,
            tensorboard=tensorboard,
        )
        for cell in cells
    ]


def _prepare_all(
    cells: Iterable[Cell], output_dir: Path
) -> tuple[dict[Any, TaskData], dict[str, None]]:
    """Return the data by `_data_key`, and the problems of the data and of the devices."""
    prepared: dict[Any, TaskData] = {}
    problems: dict[str, None] = {}
    for cell in cells:
        try:
            device.pick(cell.setup.device)
            if _data_key(cell) not in prepared:
                prepared[_data_key(cell)] = _prepare(cell, output_dir, write=False)
        except InputError as error:
            problems |= dict.fromkeys(error.problems)
    return prepared, problems


def _misfits(cells: Iterable[Cell], source: model.ModelSource) -> dict[str, None]:
    """Return why methods cannot be attached to the model, or training would not reach them."""
    problems: dict[str, None] = {}
    attached = []
    for cell in cells:
        length, longest = cell.train.max_seq_length, source.longest_sequence
        if length > longest:
            takes = f"{cell.setup.model} takes at most {longest}"
            problems[f"train.max_seq_length is {length}; {takes}"] = None
        what = (cell.method_name, cell.method_fields, cell.train.freeze_head)
        try:
            if what not in attached:
                attached.append(what)
                # A method that needs the weights is attached in its cell, and fails there.
                with contextlib.suppress(fit.NeedsWeights):
                    encoder = model.empty_encoder(source.path)
                    counts = fit.count(cell.make_method(), encoder)
                    fit.check_trains(encoder, counts.probed, cell.train)
            if cell.train.max_steps is not None:
                steps = cell.train.max_steps
                fit.check_scores(cell.method_name, cell.make_method(), cell.train, steps)
        except InputError as error:
            problems |= {f"methods.{cell.key.method}: {text}": None for text in error.problems}
    return problems


def states(jobs: Iterable[Job]) -> list[State]:
    """Return for each job what its record says; raises as `records`."""
    return ["missing" if found is None else found.status for found in records(jobs)]


def records(jobs: Iterable[Job]) -> list[Record | None]:
    """Return the record of each job; None if there is none.

    Raises InputError with every record that cannot be read, and with what differs for every record
    or checkpoint that was made with other settings or from other data.
    """
    found: list[Record | None] = []
    problems: list[str] = []
    for job in jobs:
        try:
            found.append(_own_record(job))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    return found


def _own_record(job: Job) -> Record | None:
    path = job.directory / record.FILE_NAME
    if not path.exists():
        made_of = checkpoint.identity(job.directory)
        if made_of and (difference := _difference(job, made_of)):
            # A checkpoint is not to be removed while another process resumes it.
            remove = " or remove it" if lock_file.holder(job.directory) is None else ""
            raise InputError(
                f"{job.directory / checkpoint.FOLDER}: {difference}; use another --output-dir"
                f"{remove}"
            )
        return None
    try:
        found = read_record(job)
    except InputError as error:
        raise InputError(*_advised(error, "remove it to run the cell again")) from error
    if problem := record.lost_delta(job.directory, found):
        raise InputError(f"{problem}; put it back, or remove {path} to run the cell again")
    problems = []
    few = record.unscored(found, record.MOST_DROPPED)
    if few and not job.cell.train.allow_dropped:
        problems.append(
            f"{path}: {few} rows do not fit max_seq_length and were not scored; that "
            "counts only if train.allow_dropped is true"
        )
    made_of = found.model_dump(include={"settings", "settings_hash", "inputs"})
    if difference := _difference(job, made_of):
        problems.append(f"{path}: {difference}; use another --output-dir or remove it")
    if problems:
        raise InputError(*problems)
    return found


def missing(jobs: Sequence[Job], *, retry_failed: bool = False) -> list[Job]:
    """Return the jobs without a record, and with `retry_failed` the failed ones.

    Raises as `records`.
    """
    wanted = ("missing", "failed") if retry_failed else ("missing",)
    return [job for job, state in zip(jobs, states(jobs), strict=True) if state in wanted]


def retriable(jobs: Iterable[Job]) -> int:
    """Count the jobs with a failed record of their own, which `--retry-failed` replaces."""
    count = 0
    for job in jobs:
        with contextlib.suppress(InputError):
            count += states([job]) == ["failed"]
    return count


def write_data(jobs: Iterable[Job], output_dir: Path) -> None:
    """Write the data files that a split or a perturbation derives, unless they exist."""
    for cell in {_data_key(job.cell): job.cell for job in jobs}.values():
        if cell.setup.split != "files" or cell.setup.drop_train:
            _prepare(cell, output_dir, write=True)


def read_record(job: Job) -> Record:
    """Read the job's record."""
    return record.read(job.directory / record.FILE_NAME, job.cell.key)


def write_manifest(benchmark: Benchmark, output_dir: Path) -> Path:
    """Write the plan of all cells, so that a report shows what is missing; its directory.

    Raises as `check_manifest`.
    """
    check_manifest(benchmark, output_dir)
    directory, keys = output_dir / benchmark.name, benchmark.planned
    Manifest(
        benchmark=benchmark.name,
        tasks=list(dict.fromkeys(key.task for key in keys)),
        methods=list(dict.fromkeys(key.method for key in keys)),
        cells=[PlannedCell(task=key.task, method=key.method, seed=key.seed) for key in keys],
    ).write(directory)
    return directory


def check_manifest(benchmark: Benchmark, output_dir: Path) -> None:
    """Raise InputError if cells of the plan on disk have begun and are not in the new plan.

    They would be in no plan any more, and neither a report nor `status` would mention them. Cells
    that have not begun come and go as the file is edited.
    """
    directory = output_dir / benchmark.name
    path = directory / manifest.FILE_NAME
    if not path.exists():
        return
    try:
        listed = Manifest.read(directory).cells
    except InputError as error:
        raise InputError(*_advised(error, "remove it, and it is written anew")) from error
    keys = (CellKey(benchmark=benchmark.name, **cell.model_dump()) for cell in listed)
    planned = set(benchmark.planned)
    gone = (key.directory(output_dir) for key in keys if key not in planned)
    lost = [cell for cell in gone if _has_begun(cell)]
    if lost:
        raise InputError(
            f"{path}: lists {len(lost)} cells that were begun and are not in this plan, such as "
            f"{lost[0]}; to run a part of a plan, leave its file as it was and use --only; for "
            "another plan, use another --output-dir or `benchmark`; or remove these cells"
        )


def _has_begun(directory: Path) -> bool:
    return (
        (directory / record.FILE_NAME).exists()
        or checkpoint.exists(directory)
        or lock_file.holder(directory) is not None
    )


def _advised(error: InputError, advice: str) -> list[str]:
    """The problems of one file, with what to do about it at the end of the last."""
    *others, last = error.problems
    return [*others, f"{last}; {advice}"]


def _prepare(cell: Cell, output_dir: Path, *, write: bool) -> TaskData:
    assert cell.setup.split is not None, "binding gives each task its own"
    return prepare(
        cell.task,
        Path(cell.setup.data_dir),
        output_dir / cell.key.benchmark / "data",
        split=cell.setup.split,
        split_seed=cell.setup.split_seed,
        drop_train=cell.setup.drop_train,
        seed=cell.seed,
        write=write,
    )


def _data_key(cell: Cell) -> tuple[Any, ...]:
    """Cells of equal keys read the same files: each seed draws its own perturbation."""
    return (cell.task, cell.seed if cell.setup.drop_train else None)


def _difference(job: Job, made_of: Mapping[str, Any]) -> str:
    """Why a record or a checkpoint is not the job's own; empty if it is."""
    if made_of["settings_hash"] != job.cell.settings_hash:
        # As JSON, like the hash: 1 is not 1.0, and null is not absent.
        old, new = (
            {key: json.dumps(value) for key, value in record.flatten(settings).items()}
            for settings in (made_of["settings"], job.cell.settings)
        )
        keys = sorted((old.keys() | new.keys()) - {"model"})  # the model's content is an input
        pairs = {key: (old.get(key, "absent"), new.get(key, "absent")) for key in keys}
        changes = [f"{key} was {was}, is {now}" for key, (was, now) in pairs.items() if was != now]
        return f"was made with other settings: {'; '.join(changes)}"
    changed = [n for n, digest in job.inputs.items() if made_of["inputs"].get(n) != digest]
    if changed:
        return f"input changed since the cell ran: {', '.join(str(job.places[n]) for n in changed)}"
    return ""
