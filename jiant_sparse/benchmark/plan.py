"""Which cells there are, whether their inputs are good, and which are done."""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jiant_sparse.benchmark import record
from jiant_sparse.benchmark.cell import Benchmark, Cell, Setup
from jiant_sparse.benchmark.manifest import Manifest, PlannedCell
from jiant_sparse.data.prepare import TaskData, prepare
from jiant_sparse.errors import InputError
from jiant_sparse.host import checkpoint, compat, device, fit, model
from jiant_sparse.host.job import Job

_ONLY = ("task", "method", "seed")


def parse_only(text: str | None) -> dict[str, list[str]]:
    """`task=cb,task=rte,method=sam` as key -> values. Raises InputError for anything else."""
    only: dict[str, list[str]] = {}
    for part in text.split(",") if text else ():
        key, equals, value = part.strip().partition("=")
        if key not in _ONLY or not equals or not value:
            raise InputError(f"--only {part}: must look like {'=..., '.join(_ONLY)}=...")
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
    cells = [cell for cell in benchmark.cells if _wanted(cell, only or {})]
    if not cells:
        raise InputError(f"--only {_shown(only)}: none of {len(benchmark.cells)} cells matches")
    source = model.resolve(benchmark.model)
    problems: dict[str, None] = {}
    prepared: dict[Any, TaskData] = {}
    for cell in cells:
        if cell.train.max_seq_length > source.longest_sequence:
            problems[
                f"train.max_seq_length is {cell.train.max_seq_length}; "
                f"{benchmark.model} takes at most {source.longest_sequence}"
            ] = None
        try:
            device.pick(cell.setup.device)
            key = _data_key(cell)
            if key not in prepared:
                prepared[key] = _prepare(cell, output_dir, write=False)
        except InputError as error:
            problems |= dict.fromkeys(error.problems)
    problems |= _misfits(cells, source)
    expected = {c.key.task: (c.setup, prepared.get(_data_key(c))) for c in cells}
    problems |= _foreign(benchmark.evidence, source, expected)
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


def _misfits(cells: Sequence[Cell], source: model.ModelSource) -> dict[str, None]:
    """What keeps a method from being attached to the model, or the training from reaching it."""
    problems: dict[str, None] = {}
    attached = []
    for cell in cells:
        what = (cell.method_name, cell.method_fields)
        try:
            if what not in attached:
                attached.append(what)
                # A method that needs the weights is attached to them in its cell, and fails there.
                with contextlib.suppress(fit.NeedsWeights):
                    fit.count(cell.make_method(), model.empty_encoder(source.path))
            if cell.train.max_steps is not None:
                steps = cell.train.max_steps
                fit.check_scores(cell.method_name, cell.make_method(), cell.train, steps)
        except InputError as error:
            problems |= {f"methods.{cell.key.method}: {text}": None for text in error.problems}
    return problems


def _foreign(
    evidence: Sequence[record.Record],
    source: model.ModelSource,
    expected: Mapping[str, tuple[Setup, TaskData | None]],
) -> dict[str, None]:
    """Records that choose values for another model, or on other data of the same split."""
    counts: Counter[tuple[str, str]] = Counter()
    for found in evidence:
        benchmark = found.cell.benchmark
        if found.inputs.get("model") != source.sha256:
            counts[benchmark, "another model"] += 1
        setup, data = expected.get(found.cell.task, (None, None))
        if setup is None or data is None:
            continue
        if all(
            found.settings.get(name) == getattr(setup, name) for name in ("split", "split_seed")
        ):
            # Not the training set, a part of which a perturbation leaves out.
            for name in ("val", "test"):
                if found.inputs.get(name) != data.sha256[name]:
                    counts[benchmark, f"another {name} set of {found.cell.task}"] += 1
    return {
        f"{number} records of {benchmark}, which choose values here, were made with {what}; "
        "run it again, both into one new --output-dir": None
        for (benchmark, what), number in counts.items()
    }


def states(jobs: Sequence[Job]) -> list[str]:
    """`missing`, `ok` or `failed` for each job: what its record says, if there is one.

    Raises InputError naming, for every record or checkpoint made with other settings or from other
    data, what differs.
    """
    found, problems = [], []
    for job in jobs:
        path = job.directory / record.FILE_NAME
        if path.exists():
            result = read_record(job)
            found.append(result.status)
            made_of = result.model_dump(include={"settings", "settings_hash", "inputs"})
        else:
            found.append("missing")
            path, made_of = job.directory / checkpoint.FOLDER, checkpoint.identity(job.directory)
        difference = made_of and _difference(job, made_of)
        if difference:
            problems.append(f"{path}: {difference}; use another --output-dir or remove it")
    if problems:
        raise InputError(*problems)
    return found


def missing(jobs: Sequence[Job], *, retry_failed: bool = False) -> list[Job]:
    """The jobs that have no record yet, or a failed one with `retry_failed`; raises as `states`."""
    wanted = ("missing", "failed") if retry_failed else ("missing",)
    return [job for job, state in zip(jobs, states(jobs), strict=True) if state in wanted]


def write_data(jobs: Sequence[Job], output_dir: Path) -> None:
    """Write the data files that a split or a perturbation derives, those that are not there yet."""
    for cell in {_data_key(job.cell): job.cell for job in jobs}.values():
        if cell.setup.split != "files" or cell.setup.drop_train:
            _prepare(cell, output_dir, write=True)


def read_record(job: Job) -> record.Record:
    """The job's record."""
    return record.read(job.directory / record.FILE_NAME)


def write_manifest(benchmark: Benchmark, output_dir: Path) -> Path:
    """Write the plan of all cells, so that the report shows the missing ones; its directory."""
    directory = output_dir / benchmark.name
    keys = [cell.key for cell in benchmark.cells]
    Manifest(
        benchmark=benchmark.name,
        tasks=list(dict.fromkeys(key.task for key in keys)),
        methods=list(dict.fromkeys(key.method for key in keys)),
        cells=[PlannedCell(task=key.task, method=key.method, seed=key.seed) for key in keys],
    ).write(directory)
    return directory


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


def _wanted(cell: Cell, only: Mapping[str, Sequence[str]]) -> bool:
    key = cell.key
    values = {"task": key.task, "method": key.method, "seed": str(key.seed)}
    return all(values[name] in allowed for name, allowed in only.items())


def _shown(only: Mapping[str, Sequence[str]] | None) -> str:
    return ",".join(f"{name}={value}" for name, values in (only or {}).items() for value in values)


def _difference(job: Job, made_of: Mapping[str, Any]) -> str:
    """What keeps a record or a checkpoint from being the job's own, or the empty string."""
    if made_of["settings_hash"] != job.cell.settings_hash:
        old, new = _flat(made_of["settings"]), _flat(job.cell.settings)
        keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        keys = [key for key in keys if key != "model"]  # its content counts, below
        changes = (f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in keys)
        return "was made with other settings: " + "; ".join(changes)
    changed = [n for n, digest in job.inputs.items() if made_of["inputs"].get(n) != digest]
    if changed:
        return f"input changed since the cell ran: {', '.join(str(job.places[n]) for n in changed)}"
    return ""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
