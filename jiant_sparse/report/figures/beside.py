"""What a figure says where published values stand in it beside results of another experiment."""

from collections.abc import Iterable
from dataclasses import replace

from jiant_sparse.report import words
from jiant_sparse.report.summary import Group, Row, Summary


def reasons(summary: Summary, rows: Iterable[Row], *, but: str = "") -> str:
    """The settings that keep the results of `rows` from the published ones, in a few words; empty
    if none does. `but`: a setting that may differ, because the figure shows what it does."""
    kept = tuple(
        replace(row, groups=tuple(_without(group, but) for group in row.groups)) for row in rows
    )
    return words.apart_briefly(replace(summary, rows=kept))


def reasons_of(summary: Summary, group: Group) -> str:
    """As `reasons`, of one group."""
    rows = [replace(row, groups=(group,)) for row in summary.rows if row.label == group.method]
    return reasons(replace(summary, tasks=(group.task,)), rows)


def _without(group: Group, setting: str) -> Group:
    if not setting or group.departures is None:
        return group
    kept = tuple(one for one in group.departures if not one.startswith(f"{setting} is "))
    return replace(group, departures=kept)


def source(text: str, why: str) -> str:
    """Where grey values are from, for the foot of a figure that may stand alone."""
    return f"{text} (not comparable)." if why else f"{text}."


def notes(why: str, name: str = "") -> list[str]:
    """What keeps them apart, as a note; `name`: of the result set, where there are several."""
    if not why:
        return []
    said = f"ot comparable with the published values: {why}."
    return [f"{name}: n{said}" if name else f"N{said}"]
