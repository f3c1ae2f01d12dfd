"""The report's page: one HTML file that loads nothing."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jiant_sparse.benchmark.record import Record
from jiant_sparse.report import drawing, numbers, summary, words
from jiant_sparse.report.drawing import Scale
from jiant_sparse.report.summary import Group, Summary, Task

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class TaskView:
    """One task's groups with the scales that make their drawings comparable."""

    task: Task
    groups: tuple[Group, ...]
    test_span: Scale | None
    dev_span: Scale | None


def render(report: Summary) -> str:
    """The page. Every string of a record is escaped; its script is pinned by its hash."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        fixed=numbers.fixed,
        signed=numbers.signed,
        percent=numbers.percent,
        count=numbers.count,
        seconds=numbers.seconds,
        size=numbers.size,
    )
    script = (TEMPLATES / "sort.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    comparable, verdict = words.comparability(report)
    return environment.get_template("index.html").render(
        report=report,
        words=words,
        comparable=comparable,
        verdict=verdict,
        usual=words.seeds(report),
        best=_best(report),
        tasks=[_view(report, i) for i in range(len(report.tasks))],
        facts=facts(report.records),
        share=summary.share_percent,
        mean_count=summary.mean_count,
        mean_cost=mean_cost,
        settings=settings,
        metric_rows=metric_rows,
        phase_value=phase_value,
        sparkline=drawing.sparkline,
        strip=drawing.strip,
        style=Markup((TEMPLATES / "style.css").read_text("utf-8")),
        script=Markup(script),
        digest=digest,
    )


def _best(report: Summary) -> set[tuple[str, str]]:
    """(task, method) of the first rank, where there is anyone to be ahead of."""
    return {
        (group.task.label, group.method)
        for i in range(len(report.tasks))
        for group in (row.groups[i] for row in report.rows)
        if group.rank == 1 and sum(row.groups[i].rank is not None for row in report.rows) > 1
    }


def _view(report: Summary, index: int) -> TaskView:
    groups = tuple(row.groups[index] for row in report.rows)
    records = [record for group in groups for record in group.records]
    return TaskView(
        report.tasks[index],
        groups,
        drawing.scale([summary.test_percent(record) for record in records]),
        drawing.scale([value for record in records for _, value in record.history]),
    )


def mean_cost(records: Iterable[Record], name: str) -> float | None:
    """The mean of one cost over the cells that measured it."""
    known = [cost for r in records if (cost := getattr(r.cost, name)) is not None]
    return sum(known) / len(known) if known else None


def phase_value(record: Record, phase: str) -> float | None:
    """The primary metric on dev, test or train, in percent."""
    if record.primary is None:
        return None
    values = {"dev": record.primary.dev, "test": record.primary.test}
    value = values.get(phase, record.metrics.get(phase, {}).get(record.primary.name))
    return None if value is None else 100 * value


def metric_rows(records: Sequence[Record]) -> list[tuple[str, str, list[float | None]]]:
    """(phase, metric, one percentage for each cell), for every metric that any cell has."""
    rows = []
    for phase in ("test", "dev", "train"):
        names = dict.fromkeys(name for record in records for name in record.metrics.get(phase, ()))
        for name in names:
            values = [record.metrics.get(phase, {}).get(name) for record in records]
            rows.append((phase, name, [None if v is None else 100 * v for v in values]))
    return rows


def settings(records: Iterable[Record]) -> list[tuple[str, str, list[int]]]:
    """(settings without the seed, inputs, seeds that ran with both), both as indented JSON."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for record in records:
        shared = {key: value for key, value in record.settings.items() if key != "seed"}
        texts = _json(shared), _json(record.inputs)
        kinds.setdefault(texts, []).append(record.cell.seed)
    return [(*texts, seeds) for texts, seeds in kinds.items()]


def facts(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """Where the numbers come from: what is said of all cells, or of how many each."""
    origins = [record.provenance for record in records]
    packages = sorted({name for origin in origins for name in origin.versions})
    return [
        *(
            (key, _counted(_shown(r.settings.get(key)) for r in records))
            for key in ("model", "split")
        ),
        ("device", _counted(origin.device or "unknown" for origin in origins)),
        ("threads", _counted(str(origin.threads or "unknown") for origin in origins)),
        ("pooler", _counted(origin.pooler or "never loaded" for origin in origins)),
        ("commit", _counted(_commit(o.commit, o.dirty) for o in origins)),
        *((name, _counted(_shown(o.versions.get(name)) for o in origins)) for name in packages),
        ("examples left out", _counted(_dropped(o.dropped_examples) for o in origins)),
        ("run", [_period([o.started for o in origins], [o.finished for o in origins])]),
    ]


def _counted(values: Iterable[str]) -> list[str]:
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return [counts[0][0]]
    return [f"{value} ({number} {'cell' if number == 1 else 'cells'})" for value, number in counts]


def _commit(commit: str | None, dirty: bool | None) -> str:
    if commit is None:
        return "unknown"
    state = {True: " with uncommitted changes", False: "", None: ", state unknown"}[dirty]
    return f"{commit[:12]}{state}"


def _dropped(examples: dict[str, int]) -> str:
    said = ", ".join(f"{number} of {phase}" for phase, number in examples.items() if number)
    return said or "none"


def _period(started: Sequence[str], finished: Sequence[str]) -> str:
    times = [
        sorted(time for text in texts if (time := _time(text)) is not None)
        for texts in (started, finished)
    ]
    if not all(times):
        return numbers.DASH
    return f"{times[0][0]:%Y-%m-%d %H:%M} to {times[1][-1]:%Y-%m-%d %H:%M} UTC"


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _shown(value: Any) -> str:
    return "unknown" if value is None else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
