"""Figure 3: the training loss of DiffPruning while its mask is refreshed every so many steps."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from jiant_sparse.report import numbers
from jiant_sparse.report.figures import beside, scales, sheet, style
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.summary import Group, Summary
from jiant_sparse.schema.record import Record

NAME = "discontinuity"
TITLE = "Training loss and mask refreshes"
KEY = "diff_pruning"
LOG = "log.jsonl"
# Read from the paper's vector figure: DiffPruning on CB, a refresh every 600 steps.
PUBLISHED_TASK, PUBLISHED_INTERVAL = "CB", 600
PUBLISHED_JUMPS = (1200, 1800, 2400, 3000, 3600, 4200)
MOST_PANELS = 4
# More refreshes than this are a grey wall.
MOST_REFRESHES = 80
# Of as many neighbouring steps as one bin holds, the smallest and the largest loss are drawn.
BINS = 500
# Steps before and after a refresh whose mean losses are compared.
NEAR = 10

Point = tuple[int, float]


@dataclass(frozen=True)
class _Run:
    """One cell whose log is drawn."""

    record: Record
    title: str
    interval: int
    points: list[Point]
    task: str | None

    @property
    def jumps(self) -> list[int]:
        """The published jumps, if this is the published task and interval."""
        if self.task != PUBLISHED_TASK or self.interval != PUBLISHED_INTERVAL:
            return []
        return [step for step in PUBLISHED_JUMPS if step <= self.points[-1][0]]

    @property
    def refreshes(self) -> list[int]:
        """Steps after which the mask was refreshed; the one before the first drawn step is not."""
        last = self.points[-1][0]
        end = _whole(_method(self.record).get("burn_in")) or last
        return [*range(self.interval, min(last, end) + 1, self.interval)]

    @property
    def rises(self) -> tuple[int, int]:
        """Refreshes after which the mean loss is higher than before, and refreshes with both."""
        loss = dict(self.points)
        higher = whole = 0
        for step in self.refreshes:
            before = [loss[s] for s in range(step - NEAR + 1, step + 1) if s in loss]
            after = [loss[s] for s in range(step + 1, step + NEAR + 1) if s in loss]
            if before and after:
                whole += 1
                higher += fmean(after) > fmean(before)
        return higher, whole


def draw(summary: Summary) -> Figure | str:
    """A panel for each task and method: the first seed whose log can be read; or why none is
    drawn. Each log is read once."""
    groups = _groups(summary)
    if not groups:
        return f"no {KEY} cell has a mask_interval"
    problems: list[str] = []
    runs: list[_Run] = []
    waiting: list[str] = []
    aparts: list[beside.Apart] = []
    for group in groups:
        if len(runs) == MOST_PANELS:
            waiting.append(f"{group.task.label} / {group.method}")
            continue
        run = _first_run(summary, group, problems)
        runs += [run] if run else []
        if run and run.jumps:
            aparts.append(beside.apart_of(summary, group))
    if not runs:
        return f"no log can be read: {style.many(problems)}"
    apart = beside.together(aparts)
    notes = [*beside.notes(apart), *(f"{problem}." for problem in problems)]
    if waiting:
        notes.append(f"Not drawn for want of room: {style.many(waiting)}.")
    return _drawn(runs, notes, apart)


def _drawn(runs: Sequence[_Run], notes: Sequence[str], apart: beside.Apart) -> Figure:
    with style.drawing(NAME):
        foot = "One seed in each panel. Dashed: refresh of the mask."
        if any(run.jumps for run in runs):
            source = f"Grey triangles: jumps in {style.SOURCE}, Fig. 3"
            foot += f" {beside.source(source, apart)}"
        grid = sheet.Grid(len(runs), min(2, len(runs)), 3.0 if len(runs) == 1 else 2.3)
        canvas, axes = sheet.panels(grid, (), foot)
        for place, run in zip(axes, runs, strict=True):
            _panel(place, run, BINS // len(runs))
        said = [line for run in runs for line in _said(run)]
        gist = " ".join(said) or "Training loss by step."
        return style.finish(canvas, style.Words(NAME, TITLE, _caption(), gist, [*notes, *said]))


def _panel(axes: Any, run: _Run, bins: int) -> None:
    axes.plot(*zip(*_thinned(run.points, bins), strict=True), color=style.PALETTE[0], linewidth=0.8)
    scales.log_axis(axes, "y")
    if len(run.refreshes) <= MOST_REFRESHES:
        for step in run.refreshes:
            axes.axvline(step, color=style.QUIET, linewidth=0.6, linestyle=(0, (3, 2)), zorder=1)
    if run.jumps:
        top = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(run.jumps, [1.0] * len(run.jumps), "v", color=style.QUIET, markersize=4.5, **top)
    axes.grid(axis="x", visible=False)
    axes.set_title(f"{run.title}, seed {run.record.cell.seed}")
    axes.set_xlabel(f"step (mask refreshed every {numbers.count(run.interval)} steps)")
    axes.set_ylabel("training loss (log)")
    scales.step_axis(axes)


def _groups(summary: Summary) -> list[Group]:
    return [
        group
        for row in summary.rows
        if row.key == KEY
        for group in row.groups
        if any(_interval(record) for record in group.records)
    ]


def _first_run(summary: Summary, group: Group, problems: list[str]) -> _Run | None:
    """The run of the smallest seed with a usable log; what is amiss goes to `problems`."""
    found = None
    for record in group.records:
        interval = _interval(record)
        if interval is None:
            continue
        cell = record.cell
        where = f"{cell.task}/{cell.method}/seed-{cell.seed}/{LOG}"
        path = summary.directory / where
        if found is not None:
            # Not drawn, so only looked for.
            if not path.is_file():
                problems.append(f"{where} is missing")
            continue
        points, problem = read_losses(path)
        if problem:
            problems.append(f"{where} {problem}")
        if points:
            title = f"{style.shown(group.method)} on {style.shown(group.task.title)}"
            found = _Run(record, title, interval, points, group.task.published_title)
    return found


def read_losses(path: Path) -> tuple[list[Point], str | None]:
    """(step, loss) of every training step up to the first line that is broken, and what is wrong.

    Losses that are not above 0 have no place on a log axis and are left out.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], "is missing"
    except OSError as error:
        return [], f"cannot be read ({error.strerror})"
    points: list[Point] = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        point = _point(line)
        if point is None:
            return points, f"is broken in line {number} and drawn up to there"
        if point[1] is not None and point[1] > 0 and math.isfinite(point[1]):
            points.append(point)
    return points, None if points else "holds no training loss above 0"


def _point(line: bytes) -> tuple[int, Any] | None:
    """A training step and its loss; (0, None) for another event, None for a broken line."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    if entry.get("event") != "train":
        return 0, None
    step, loss = _whole(entry.get("step")), entry.get("loss")
    number = isinstance(loss, (int, float)) and not isinstance(loss, bool)
    return (step, loss) if step and number else None


def _thinned(points: Sequence[Point], bins: int) -> list[Point]:
    """The smallest and the largest loss of each of `bins` stretches, in the order of steps."""
    stride = -(-len(points) // bins)
    if stride <= 2:
        return list(points)
    kept = []
    for start in range(0, len(points), stride):
        stretch = points[start : start + stride]
        ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(ends)
    return kept


def _method(record: Record) -> Mapping[str, Any]:
    fields = record.settings.get("method")
    return fields if isinstance(fields, Mapping) else {}


def _interval(record: Record) -> int | None:
    return _whole(_method(record).get("mask_interval"))


def _whole(value: Any) -> int | None:
    number = isinstance(value, int) and not isinstance(value, bool)
    return value if number and value >= 1 else None


def _said(run: _Run) -> list[str]:
    notes = []
    higher, whole = run.rises
    if whole:
        notes.append(
            f"{run.title}: at {higher} of {whole} refreshes the mean loss of the {NEAR} steps "
            "after is higher than that of the steps before."
        )
    if len(run.refreshes) > MOST_REFRESHES:
        count = numbers.count(len(run.refreshes))
        notes.append(f"{run.title}: {count} refreshes, too many to mark.")
    return notes


def _caption() -> str:
    jumps = ", ".join(numbers.count(step) for step in PUBLISHED_JUMPS)
    return (
        "As Figure 3 of Fu et al. 2023, which shows DiffPruning on CB with a refresh every 600 "
        f"steps: its loss jumps back to between 0.04 and 0.9 at steps {jumps} (read from the "
        "figure). Here: the task's loss of every training step, without the method's penalty; of "
        "long runs the smallest and the largest loss of each stretch."
    )
