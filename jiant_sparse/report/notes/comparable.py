"""How results compare with the published ones, in words."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from jiant_sparse.report.frame import Frame
from jiant_sparse.report.statistics import MINIMUM_RUNS
from jiant_sparse.units import counted

SOURCE = "Fu et al. 2023"
SETTING = "RoBERTa-base, the real GLUE and SuperGLUE tasks, 10 seeds"
# Departures that are listed first, and how many a short list names.
FIRST, MOST_SETTINGS = ("model", "data", "split"), 2


def tables(results: pd.DataFrame) -> str:
    """The published tables beside which these results stand, as "Table 1 and Table 2"."""
    numbers = sorted(results["published_table"].dropna().unique())
    return " and ".join(f"Table {number}" for number in numbers)


def comparability(frame: Frame) -> tuple[bool, str]:
    """Whether all results may be compared with the published ones, and why not."""
    beside = _departures(frame.results)
    if not beside:
        return False, "nothing is published for these methods and tasks"
    if all(departures is None for departures in beside):
        return False, "not comparable: there is no result to compare"
    apart = _apart(frame.results)
    if not apart:
        return True, "comparable: same model, data, split and training as published"
    return False, f"{word(frame.results)}: {', '.join(apart)}"


def comparability_briefly(frame: Frame) -> str:
    """The same, naming only the first settings."""
    apart = apart_briefly(frame.results)
    return f"{word(frame.results)}: {apart}" if apart else comparability(frame)[1]


def apart_briefly(results: pd.DataFrame, but: str = "") -> str:
    """The first settings in which results depart from the published experiment.

    "model is X, split is files and 9 more settings"; empty if no result departs. but: a setting
    that may differ.
    """
    apart = _apart(results, but)
    named, more = apart[:MOST_SETTINGS], len(apart) - MOST_SETTINGS
    if more > 0:
        return f"{', '.join(named)} and {counted(more, 'more setting')}"
    return " and ".join(named)


def is_partly(results: pd.DataFrame, but: str = "") -> bool:
    """Whether a result with a published value is comparable."""
    return any(found is not None and not found.keys() - {but} for found in _departures(results))


def word(results: pd.DataFrame) -> str:
    """The comparability label of results if some of them depart."""
    return "partly not comparable" if is_partly(results) else "not comparable"


def reasons(frame: Frame, row: Any) -> list[str]:
    """Why a result, or an AVG, has no test against the published value."""
    if row.word == "not comparable":
        return [f"{name} is {value}" for name, its in row.departures.items() for value in its]
    if row.word == "no spread":
        return ["neither side varies from run to run"]
    if row.word != "too few runs":
        return []
    if not row.is_average:
        return [_too_few(row.n)]
    parts = frame.of(row.method)
    short = parts[parts["n"] < MINIMUM_RUNS].itertuples()
    return [f"{part.title}: {_too_few(part.n)}" for part in short]


def _too_few(runs: int) -> str:
    return f"{counted(runs, 'run')}; a test needs {MINIMUM_RUNS}"


def _departures(results: pd.DataFrame) -> list[dict[str, tuple[str, ...]] | None]:
    return results.loc[results["published_mean"].notna(), "departures"].tolist()


def _apart(results: pd.DataFrame, but: str = "") -> list[str]:
    """Each setting that departs, with all its values, and in how many results if not in all."""
    judged = [found for found in _departures(results) if found is not None]
    values: dict[str, dict[str, None]] = {}
    for found in judged:
        for name, its in found.items():
            values.setdefault(name, {}).update(dict.fromkeys(its))
    values.pop(but, None)
    said = []
    for name in sorted(values, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        number = sum(name in found for found in judged)
        some = "" if number == len(judged) else f" ({number} of {len(judged)} results)"
        said.append(f"{name} is {_either(values[name])}{some}")
    return said


def _either(values: Iterable[str]) -> str:
    """ "20, 40 or unknown": numbers by size, then words in the order given."""
    *others, last = sorted(values, key=_size)
    return f"{', '.join(others)} or {last}" if others else last


def _size(value: str) -> tuple[bool, float]:
    try:
        return False, float(value)
    except ValueError:
        return True, 0
