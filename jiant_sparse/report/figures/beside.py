"""What a figure says where published values stand in it beside results of another experiment."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jiant_sparse.report import words
from jiant_sparse.report.summary import Group, Row, Summary


@dataclass(frozen=True)
class Apart:
    """What keeps results from the published ones.

    why: the settings, in a few words; empty if none does. partly: whether some results are
    comparable all the same.
    """

    why: str = ""
    partly: bool = False


def apart(summary: Summary, rows: Iterable[Row], *, but: str = "") -> Apart:
    """What keeps the results of `rows` from the published ones. `but`: a setting that may differ,
    because the figure shows what it does."""
    kept = tuple(
        replace(row, groups=tuple(_without(group, but) for group in row.groups)) for row in rows
    )
    why = words.apart_briefly(replace(summary, rows=kept))
    comparable = any(g.published and g.departures == () for row in kept for g in row.groups)
    return Apart(why, partly=bool(why) and comparable)


def apart_of(summary: Summary, group: Group) -> Apart:
    """As `apart`, of one group."""
    rows = [replace(row, groups=(group,)) for row in summary.rows if row.label == group.method]
    return apart(replace(summary, tasks=(group.task,)), rows)


def together(several: Sequence[Apart]) -> Apart:
    """As one: with the reasons of the first that has some."""
    why = next((one.why for one in several if one.why), "")
    return Apart(why, partly=bool(why) and any(one.partly or not one.why for one in several))


def _without(group: Group, setting: str) -> Group:
    if not setting or group.departures is None:
        return group
    kept = tuple(one for one in group.departures if not one.startswith(f"{setting} is "))
    return replace(group, departures=kept)


def source(text: str, apart: Apart) -> str:
    """Where grey values are from, for the foot of a figure that may stand alone."""
    return f"{text} ({_word(apart)})." if apart.why else f"{text}."


def notes(apart: Apart, name: str = "") -> list[str]:
    """What keeps them apart, as a note; `name`: of the result set, where there are several."""
    if not apart.why:
        return []
    said = f"{_word(apart)} with the published values: {apart.why}."
    return [f"{name}: {said}" if name else f"{said[0].upper()}{said[1:]}"]


def _word(apart: Apart) -> str:
    return "partly not comparable" if apart.partly else "not comparable"
