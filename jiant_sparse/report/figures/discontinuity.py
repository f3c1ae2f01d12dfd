"""Figure 3: the training loss of DiffPruning while its mask is refreshed every so many steps."""

import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from pydantic import BaseModel, PositiveInt

from jiant_sparse.report import numbers
from jiant_sparse.report.figures import style
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.frame import Frame
from jiant_sparse.schema.record import Record, flatten

NAME = "discontinuity"
# A method whose records have this setting refreshes its mask every so many steps.
INTERVAL = "mask_interval"
LOG = "log.jsonl"
# Read from the paper's vector figure: DiffPruning on CB, a refresh every 600 steps.
PUBLISHED_KEY, PUBLISHED_TASK, PUBLISHED_INTERVAL = "diff_pruning", "CB", 600
PUBLISHED_JUMPS = (1200, 1800, 2400, 3000, 3600, 4200)
CAPTION = (
    "As Figure 3 of Fu et al. 2023, which shows DiffPruning on CB with a refresh every 600 "
    "steps: its loss jumps back to between 0.04 and 0.9 at steps "
    f"{', '.join(map(numbers.count, PUBLISHED_JUMPS))} (read from the figure). Here: the task's "
    "loss of every training step, without the method's penalty; of long runs the smallest and "
    "the largest loss of each stretch."
)
MOST_PANELS = 4
# More refreshes than this are a grey wall.
MOST_REFRESHES = 80
# One figure has this many stretches; the smallest and the largest loss of each are drawn.
BINS = 500
# Steps before and after a refresh whose mean losses are compared.
NEAR = 10


class Step(BaseModel, strict=True):
    """A line of a log about a training step."""

    step: PositiveInt
    loss: float


@dataclass(frozen=True)
class LossCurve:
    """The losses of one cell, drawn in one panel."""

    record: Record
    title: str
    interval: int
    losses: pd.Series
    task: str | None

    @property
    def jumps(self) -> list[int]:
        """The published jumps, if this is the published task and interval."""
        if self.task != PUBLISHED_TASK or self.interval != PUBLISHED_INTERVAL:
            return []
        return [step for step in PUBLISHED_JUMPS if step <= self.losses.index[-1]]

    @property
    def refreshes(self) -> list[int]:
        """Steps after which the mask was refreshed, without the one before the first step."""
        last = self.losses.index[-1]
        end = _setting(self.record, "burn_in") or last
        return [*range(self.interval, min(last, end) + 1, self.interval)]

    @property
    def notes(self) -> list[str]:
        """What the refreshes did to the loss, in words."""
        near, loss = NEAR - 1, self.losses.loc
        rises = pd.Series(
            loss[step + 1 : step + 1 + near].mean() - loss[step - near : step].mean()
            for step in self.refreshes
        )
        notes = []
        # A rise is unknown, NaN, if the log lacks the steps on one side.
        if known := rises.count():
            notes.append(
                f"{self.title}: at {(rises > 0).sum()} of {known} refreshes the mean loss of the "
                f"{NEAR} steps after is higher than that of the steps before."
            )
        if len(self.refreshes) > MOST_REFRESHES:
            count = numbers.count(len(self.refreshes))
            notes.append(f"{self.title}: {count} refreshes, too many to mark.")
        return notes


def draw(frame: Frame) -> Figure | str:
    """A panel for each task and method: the first seed whose log can be read; or why none is
    drawn. Each log is read once."""
    results = frame.results[frame.results["key"] == PUBLISHED_KEY]
    refreshed = [any(_setting(r, INTERVAL) for r in records) for records in results["records"]]
    if not any(refreshed):
        return f"no {PUBLISHED_KEY} cell has a {INTERVAL}"
    problems: list[str] = []
    waiting: list[str] = []
    # By the places of their results.
    curves: dict[Any, LossCurve] = {}
    for place, row in results[refreshed].iterrows():
        if len(curves) == MOST_PANELS:
            waiting.append(f"{row['task']} / {row['method']}")
        elif curve := _first_curve(frame.directory, row, problems):
            curves[place] = curve
    if not curves:
        return f"no log can be read: {style.many(problems)}"
    foot = "One seed in each panel. Dashed: refresh of the mask."
    notes: list[str] = []
    if beside := [place for place, curve in curves.items() if curve.jumps]:
        source = f"Grey triangles: jumps in {style.SOURCE}, Fig. 3"
        grey, notes = style.beside(results.loc[beside], source)
        foot = f"{foot} {grey}"
    said = [note for curve in curves.values() for note in curve.notes]
    notes += [f"{problem}." for problem in problems]
    notes += style.note("Not drawn for want of room", waiting)
    gist = " ".join(said) or "Training loss by step."
    figure = Figure(NAME, "Training loss and mask refreshes", CAPTION, gist, (*notes, *said))
    panels = [partial(_panel, curve, BINS // len(curves)) for curve in curves.values()]
    return style.paint(figure, panels, columns=min(2, len(panels)), height=3.2, foot=foot)


def _panel(curve: LossCurve, bins: int, axes: Axes) -> None:
    axes.plot(_thinned(curve.losses, bins), color=style.PALETTE[0], linewidth=0.8)
    style.log_axis(axes, "y")
    style.step_axis(axes)
    if len(curve.refreshes) <= MOST_REFRESHES:
        for step in curve.refreshes:
            axes.axvline(step, color=style.QUIET, linewidth=0.6, linestyle=(0, (3, 2)), zorder=1)
    if curve.jumps:
        top: style.Line = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(curve.jumps, [1] * len(curve.jumps), "v", color=style.QUIET, **top)
    axes.grid(axis="x", visible=False)
    axes.set_title(f"{curve.title}, seed {curve.record.cell.seed}")
    axes.set_xlabel(f"step (mask refreshed every {numbers.count(curve.interval)} steps)")
    axes.set_ylabel("training loss (log)")


def _first_curve(directory: Path, result: Any, problems: list[str]) -> LossCurve | None:
    """The losses of the smallest seed with a usable log; what is wrong goes to `problems`.

    result: a row of a frame's results.
    """
    found = None
    for record in result["records"]:
        interval = _setting(record, INTERVAL)
        if interval is None:
            continue
        where = f"{result['task']}/{result['method']}/seed-{record.cell.seed}/{LOG}"
        if found is not None:
            # Not drawn, so only looked for.
            if not (directory / where).is_file():
                problems.append(f"{where} is missing")
            continue
        losses, problem = read_losses(directory / where)
        if problem:
            problems.append(f"{where} {problem}")
        if losses:
            title = f"{style.shown(result['method'])} on {style.shown(result['title'])}"
            points = pd.Series(losses).sort_index()
            found = LossCurve(record, title, interval, points, result["published_title"])
    return found


def read_losses(path: Path) -> tuple[dict[int, float], str | None]:
    """The loss by step of every training step up to the first broken line, and what is wrong.

    Losses that are not above 0 have no place on a log axis and are left out.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}, "is missing"
    except OSError as error:
        return {}, f"cannot be read ({error.strerror})"
    losses: dict[int, float] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            entry = json.loads(line)
            if entry.get("event") != "train":
                continue
            point = Step.model_validate(entry)
        # AttributeError: no object.
        except (AttributeError, ValueError, RecursionError):
            return losses, f"is broken in line {number} and drawn up to there"
        if 0 < point.loss < math.inf:
            losses[point.step] = point.loss
    return losses, None if losses else "holds no training loss above 0"


def _thinned(losses: pd.Series, bins: int) -> pd.Series:
    """The smallest and the largest loss of each of `bins` stretches, in the order of steps."""
    stride = -(-len(losses) // bins)
    stretches = losses.groupby(np.arange(len(losses)) // stride)
    return losses[sorted({*stretches.idxmin(), *stretches.idxmax()})]


def _setting(record: Record, name: str) -> int | None:
    """A setting of the method, if it is a whole number above 0."""
    value = flatten(record.settings).get(f"method.{name}")
    return value if type(value) is int and value >= 1 else None
