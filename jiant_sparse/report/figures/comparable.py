"""What a figure says of published values that it draws beside results of another experiment.

results: rows of a frame's `results`. but: a setting that may differ, since the figure shows its
effect.
"""

import pandas as pd

from jiant_sparse.report import notes


def source(text: str, results: pd.DataFrame, but: str = "") -> str:
    """`text`, which says where values are from, and whether they are comparable: a figure may
    stand alone."""
    apart = notes.apart_briefly(results, but)
    return f"{text} ({_word(results, but)})." if apart else f"{text}."


def note(results: pd.DataFrame, but: str = "", name: str = "") -> list[str]:
    """A note with the settings that differ, if any. name: the result set, if there are several."""
    apart = notes.apart_briefly(results, but)
    said = f"{_word(results, but)} with the published values: {apart}."
    named = f"{name}: {said}" if name else f"{said[0].upper()}{said[1:]}"
    return [named] if apart else []


def _word(results: pd.DataFrame, but: str) -> str:
    return "partly not comparable" if notes.is_partly(results, but) else "not comparable"
