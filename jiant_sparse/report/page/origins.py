"""Where a benchmark's numbers come from: what is said of all cells, or of how many each."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from jiant_sparse.report import words
from jiant_sparse.report.numbers import DASH
from jiant_sparse.report.page import views
from jiant_sparse.report.readings import reading_of, titles
from jiant_sparse.report.summary import Row, Summary
from jiant_sparse.schema.record import Record

# Packages that move numbers most; the head of the page names these alone.
MAIN_PACKAGES = ("jiant-sparse", "torch", "transformers", "jiant")
# Values of one fact that the head of the page names.
MOST = 3


def brief(summary: Summary) -> list[tuple[str, str]]:
    """The head of the page: n, seeds, model, device, commit, versions and reading."""
    records = summary.records
    origins = [record.provenance for record in records]
    versions = [
        f"{name} {_short(_counted(_shown(o.versions.get(name)) for o in origins))}"
        for name in MAIN_PACKAGES
        if any(name in origin.versions for origin in origins)
    ]
    said = [
        ("n", _runs(summary)),
        ("seeds", words.seeds_of({r.cell.seed for r in records}).partition(" ")[2]),
        ("model", _short(_counted(_shown(r.settings.get("model")) for r in records))),
        ("split", _short(_counted(_shown(r.settings.get("split")) for r in records))),
        ("device", _short(_counted(o.device or "unknown" for o in origins))),
        ("commit", _short(_counted(views.commit(o.commit, o.dirty) for o in origins))),
        ("versions", ", ".join(versions) or "unknown"),
        ("reading", _short(_counted(_whose(reading_of(record).word) for record in records))),
    ]
    return said


def _whose(word: str) -> str:
    """A reading's word where nothing around it says which paper is meant."""
    return "Fu et al. 2023" if word == "paper" else word


def facts(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """The whole provenance; each fact with all its values."""
    origins = [record.provenance for record in records]
    packages = sorted({name for origin in origins for name in origin.versions})
    return [
        *(
            (key, _counted(_shown(r.settings.get(key)) for r in records))
            for key in ("model", "split")
        ),
        ("device", _counted(origin.device or "unknown" for origin in origins)),
        ("threads", _counted(_shown(origin.threads) for origin in origins)),
        ("pooler", _counted(origin.pooler or "never loaded" for origin in origins)),
        ("commit", _counted(views.commit(o.commit, o.dirty) for o in origins)),
        *((name, _counted(_shown(o.versions.get(name)) for o in origins)) for name in packages),
        ("examples left out", _counted(views.dropped(o.dropped_examples) for o in origins)),
        ("nondeterministic", _counted(", ".join(o.nondeterministic) or "none" for o in origins)),
        ("moved on the way", _counted(_moves(len(o.earlier)) for o in origins)),
        ("run", [_period([o.started for o in origins], [o.finished for o in origins])]),
    ]


def readings(rows: Iterable[Row]) -> list[tuple[str, list[str], list[str]]]:
    """For each method with a cell: label and title, readings, and the fields that say so."""
    found = []
    for row in rows:
        records = [record for group in row.groups for record in group.records]
        its = [reading_of(record) for record in records]
        if its:
            differences = dict.fromkeys(d for reading in its for d in reading.differences)
            name = ": ".join([row.label, *titles(records)])
            found.append((name, _counted(reading.word for reading in its), [*differences]))
    return found


def _runs(summary: Summary) -> str:
    numbers = [group.score.n for group in summary.groups]
    usual = words.seeds(summary)
    if usual is None:
        return "0: no cell has a test value"
    apart = sum(n != usual for n in numbers)
    each = f"{usual} for each method and task"
    return f"{each}, but for {apart} of {len(numbers)}" if apart else each


def _short(values: list[str]) -> str:
    more = f"; and {len(values) - MOST} more" if len(values) > MOST else ""
    return "; ".join(values[:MOST]) + more


def _counted(values: Iterable[str]) -> list[str]:
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return [counts[0][0]]
    return [f"{value} ({number} {'cell' if number == 1 else 'cells'})" for value, number in counts]


def _moves(number: int) -> str:
    if number == 0:
        return "never"
    return f"{number} {'time' if number == 1 else 'times'}"


def _period(started: Sequence[str], finished: Sequence[str]) -> str:
    times = [
        sorted(time for text in texts if (time := _time(text)) is not None)
        for texts in (started, finished)
    ]
    if not all(times):
        return DASH
    return f"{times[0][0]:%Y-%m-%d %H:%M} to {times[1][-1]:%Y-%m-%d %H:%M} UTC"


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _shown(value: Any) -> str:
    return "unknown" if value is None else str(value)
