"""Which cells there are, whether their inputs are good, and which are done."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from jiant_sparse.schema.record import CellKey

_ONLY = ("task", "method", "seed")


def parse_only(text: str | None) -> dict[str, list[str]]:
    """`task=cb,task=rte,method=sam` as key -> values; none for None.

    Raises InputError for anything else, empty text included: it would stand for every cell.
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
    """The benchmark's cells, or those of `only`'s tasks, methods and seeds, their inputs checked.

    Writes nothing. Raises InputError with every problem of device, model and data, and of records
    that choose values, before anything runs.
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
    cells: Sequence[Cell], output_dir: Path
) -> tuple[dict[Any, TaskData], dict[str, None]]:
    """Data by `_data_key`, and what is wrong with it, or with the device that is asked for."""
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


def _misfits(cells: Sequence[Cell], source: model.ModelSource) -> dict[str, None]:
    """What keeps a method from being attached to the model, or the training from reaching it."""
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
                # A method that needs the weights is attached to them in its cell, and fails there.
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


def states(jobs: Sequence[Job]) -> list[str]:
    """`missing`, `ok` or `failed` for each job: what its record says; raises as `records`."""
    return ["missing" if found is None else found.status for found in records(jobs)]


def records(jobs: Sequence[Job]) -> list[record.Record | None]:
    """The record of each job, None if there is none.

    Raises InputError naming every record that cannot be read, and for every record or checkpoint
    made with other settings or from other data, what differs.
    """
    found, problems = [], []
    for job in jobs:
        path = job.directory / record.FILE_NAME
        if path.exists():
            try:
                result = read_record(job)
            except InputError as error:
                problems += _advised(error, "remove it to run the cell again")
                continue
            if problem := record.lost_delta(job.directory, result):
                problems.append(f"{problem}; put it back, or remove {path} to run the cell again")
                continue
            few = record.unscored(result, record.MOST_DROPPED)
            if few and not job.cell.train.allow_dropped:
                problems.append(
                    f"{path}: {few} rows do not fit max_seq_length and were not scored; that "
                    "counts only if train.allow_dropped is true"
                )
            found.append(result)
            made_of = result.model_dump(include={"settings", "settings_hash", "inputs"})
        else:
            found.append(None)
            path, made_of = job.directory / checkpoint.FOLDER, checkpoint.identity(job.directory)
        difference = made_of and _difference(job, made_of)
        if difference:
            # A checkpoint is not to be removed while somebody goes on from it.
            is_over = found[-1] is not None or lock_file.holder(job.directory) is None
            remove = " or remove it" if is_over else ""
            problems.append(f"{path}: {difference}; use another --output-dir{remove}")
    if problems:
        raise InputError(*problems)
    return found


def missing(jobs: Sequence[Job], *, retry_failed: bool = False) -> list[Job]:
    """The jobs that have no record yet, or a failed one with `retry_failed`; raises as `states`."""
    wanted = ("missing", "failed") if retry_failed else ("missing",)
    return [job for job, state in zip(jobs, states(jobs), strict=True) if state in wanted]


def retriable(jobs: Sequence[Job]) -> int:
    """How many of the jobs have failed by their own record, which `--retry-failed` replaces."""
    count = 0
    for job in jobs:
        with contextlib.suppress(InputError):
            count += states([job]) == ["failed"]
    return count


def write_data(jobs: Sequence[Job], output_dir: Path) -> None:
    """Write the data files that a split or a perturbation derives, those that are not there yet."""
    for cell in {_data_key(job.cell): job.cell for job in jobs}.values():
        if cell.setup.split != "files" or cell.setup.drop_train:
            _prepare(cell, output_dir, write=True)


def read_record(job: Job) -> record.Record:
    """The job's record."""
    return record.read(job.directory / record.FILE_NAME, job.cell.key)


def write_manifest(benchmark: Benchmark, output_dir: Path) -> Path:
    """Write the plan of all cells, so that the report shows the missing ones; its directory.

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
    """Raise InputError if the plan on disk has begun cells that the new one lacks.

    Else they would be in no plan any more, and a report or a status could not say what is missing
    beside them. Cells that were not begun come and go as the file is edited.
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
    lost = [
        key.directory(output_dir)
        for key in keys
        if key not in planned and _begun(key.directory(output_dir))
    ]
    if lost:
        raise InputError(
            f"{path}: lists {len(lost)} cells that were begun and are not in this plan, such as "
            f"{lost[0]}; to run a part of a plan, leave its file as it was and use --only; for "
            "another plan, use another --output-dir or `benchmark`; or remove these cells"
        )


def _begun(directory: Path) -> bool:
    return (
        (directory / record.FILE_NAME).exists()
        or checkpoint.exists(directory)
        or lock_file.holder(directory) is not None
    )


def _advised(error: InputError, advice: str) -> list[str]:
    """The problems, of one file, with what to do about it at their end."""
    *others, last = error.problems
    return [*others, f"{last}; {advice}"]


def _prepare(cell: Cell, output_dir: Path, *, write: bool) -> TaskData:
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
    """Cells of equal keys read the same files: a perturbation is drawn anew for each seed."""
    return (cell.task, cell.seed if cell.setup.drop_train else None)


def _difference(job: Job, made_of: Mapping[str, Any]) -> str:
    """What keeps a record or a checkpoint from being the job's own, or the empty string."""
    if made_of["settings_hash"] != job.cell.settings_hash:
        old, new = _flat(made_of["settings"]), _flat(job.cell.settings)
        keys = sorted((old.keys() | new.keys()) - {"model"})  # its content counts, below
        pairs = {key: (old.get(key, "absent"), new.get(key, "absent")) for key in keys}
        changes = [f"{key} was {was}, is {now}" for key, (was, now) in pairs.items() if was != now]
        return f"was made with other settings: {'; '.join(changes)}"
    changed = [n for n, digest in job.inputs.items() if made_of["inputs"].get(n) != digest]
    if changed:
        return f"input changed since the cell ran: {', '.join(str(job.places[n]) for n in changed)}"
    return ""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys, and the JSON that the hash is of: 1 is not 1.0, and null is not absent."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value)
    return flat
