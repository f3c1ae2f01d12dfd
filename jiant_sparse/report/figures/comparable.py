"""What a figure says of published values that it draws beside results of another experiment."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from jiant_sparse.report import notes


@dataclass(frozen=True)
class Mismatch:
    """How measured results differ from the published experiment.

    why: the settings that differ, in a few words; empty if none does. partly: some results do not
    differ.
    """

    why: str = ""
    partly: bool = False

    @property
    def word(self) -> str:
        """ "not comparable" or "partly not comparable"."""
        return "partly not comparable" if self.partly else "not comparable"

    def source(self, text: str) -> str:
        """`text`, which says where values are from, with the word: a figure may stand alone."""
        return f"{text} ({self.word})." if self.why else f"{text}."

    def notes(self, name: str = "") -> list[str]:
        """The mismatch as a note. name: the result set, if a figure draws several."""
        if not self.why:
            return []
        said = f"{self.word} with the published values: {self.why}."
        return [f"{name}: {said}" if name else f"{said[0].upper()}{said[1:]}"]


def mismatch(results: pd.DataFrame, *, but: str = "") -> Mismatch:
    """How some of a frame's `results` differ. but: a setting that does not count, since the figure
    shows its effect."""
    return Mismatch(notes.apart_briefly(results, but), notes.is_partly(results, but))


def together(several: Sequence[Mismatch]) -> Mismatch:
    """Several mismatches as one, with the reasons of the first that has some."""
    why = next((one.why for one in several if one.why), "")
    return Mismatch(why, any(one.partly or not one.why for one in several))
