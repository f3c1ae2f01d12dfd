"""What is odd about the published numbers themselves; a reader who compares has to know it.

Found by recomputing the paper's tables and figures (Fu et al. 2023, arXiv 2211.15583, its poster
and its slides) from each other; nothing here is about a run of ours. `published/oddities.json`
holds the texts, and the tests recompute what the files of `published` allow.
"""

import json
from dataclasses import dataclass

from jiant_sparse.report.frame import Frame
from jiant_sparse.report.published import DIRECTORY, METHODS, TASKS


@dataclass(frozen=True)
class Oddity:
    """Where it is, and what; a sentence or a few.

    It concerns a report that shows one of `tables` (1 main, 2 perturbed), one of the tasks with
    these titles and one of the methods with these keys.
    """

    places: tuple[str, ...]
    text: str
    tables: tuple[int, ...] = (1, 2)
    tasks: tuple[str, ...] = TASKS
    methods: tuple[str, ...] = tuple(METHODS)


ODDITIES = tuple(
    Oddity(**{name: value if name == "text" else tuple(value) for name, value in item.items()})
    for item in json.loads((DIRECTORY / "oddities.json").read_text("utf-8"))
)


def oddities(frame: Frame) -> tuple[Oddity, ...]:
    """The oddities that concern what a report shows: the tables, tasks and methods beside which
    something is published; none if nothing is."""
    beside = frame.results[frame.results["published_mean"].notna()]
    shown = {name: {*beside[f"published_{name}"]} for name in ("table", "title")}
    return tuple(
        item
        for item in ODDITIES
        if shown["table"] & {*item.tables}
        and shown["title"] & {*item.tasks}
        and {*beside["key"]} & {*item.methods}
    )
