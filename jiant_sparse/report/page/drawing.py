"""Small drawings inside the page, as SVG made of numbers only."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from jiant_sparse.report.numbers import count

WIDTH, HEIGHT, MARGIN = 120, 22, 4
# Of the history plot: the whole drawing, and where its axes lie in it.
PLOT_WIDTH, PLOT_HEIGHT = 360, 158
LEFT, RIGHT, TOP, BOTTOM = 34, 352, 20, 126

Point = tuple[int, float | None]
Scale = tuple[float, float]


def scale(values: Sequence[float | None]) -> Scale | None:
    """The smallest and the largest of the known values; None if none is known."""
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def stretched(span: Scale | None, value: float | None) -> Scale | None:
    """`span` made to hold `value`, unless that would more than double it."""
    if span is None or value is None:
        return span
    low, high = min(span[0], value), max(span[1], value)
    return (low, high) if high - low <= 2 * (span[1] - span[0]) else span


def sparkline(history: Sequence[Point], best_step: int | None, *, span: Scale | None) -> Markup:
    """Dev score by step on the vertical scale `span`, broken where undefined; the best step is
    a dot. Nothing if there is no value to draw."""
    box = (MARGIN, WIDTH - MARGIN), (HEIGHT - MARGIN, MARGIN)
    inside = _curve(history, best_step, span=span, box=box)
    return _svg("spark", inside) if inside else Markup("")


def plot(history: Sequence[Point], best_step: int | None, *, span: Scale | None) -> Markup:
    """As `sparkline`, with labelled axes: step to the right and percent upwards; a line marks the
    best step. `history` and `span` are fractions."""
    box = (LEFT, RIGHT), (BOTTOM, TOP)
    curve = _curve(history, best_step, span=span, box=box, most=240)
    if not curve or span is None:
        return Markup("")
    steps = scale([step for step, _ in history]) or (0, 0)
    grid = [f'<path d="M{LEFT} {BOTTOM}H{RIGHT}"/>']
    for tick in _ticks(100 * span[0], 100 * span[1], most=4):
        y = _between(tick / 100, span, box[1])
        grid.append(f'<path d="M{LEFT} {y:.4g}H{RIGHT}"/>')
        grid.append(f'<text x="{LEFT - 5}" y="{y + 3.5:.4g}" class="end">{tick:g}</text>')
    for tick in _ticks(*steps, most=5):
        x = _between(tick, steps, box[0])
        grid.append(f'<path d="M{x:.4g} {BOTTOM}v4"/>')
        grid.append(f'<text x="{x:.4g}" y="{BOTTOM + 15}" class="mid">{count(tick)}</text>')
    best = ""
    if best_step is not None and steps[0] <= best_step <= steps[1]:
        x = _between(best_step, steps, box[0])
        best = f'<path class="best" d="M{x:.4g} {TOP}V{BOTTOM}"/>'
    names = (
        f'<text x="0" y="9">dev score, %</text>'
        f'<text x="{RIGHT}" y="{PLOT_HEIGHT - 1}" class="end">step</text>'
    )
    return Markup(
        f'<svg class="plot" viewBox="0 0 {PLOT_WIDTH} {PLOT_HEIGHT}" role="img" '
        f'aria-label="{_said(history, best_step)}">'
        f'<g class="grid">{"".join(grid)}{best}{names}</g>{curve}</svg>'
    )


def strip(
    values: Sequence[float],
    mean: float | None,
    *,
    span: Scale | None,
    majority: float | None = None,
) -> Markup:
    """One dot for each seed and a tick at the mean, on the horizontal scale `span`; a dashed line
    at `majority`, or an arrow at the edge beyond which it lies."""
    if span is None or mean is None:
        return Markup("")
    middle = HEIGHT / 2
    dots = "".join(
        f'<circle cx="{_place(value, span):.4g}" cy="{middle:g}" r="2.6"/>' for value in values
    )
    tick = f'<path d="M{_place(mean, span):.4g} {MARGIN}V{HEIGHT - MARGIN}"/>'
    line = f'<path class="base" d="M0 {middle:g}H{WIDTH}"/>'
    return _svg("strip", line + _majority(majority, span) + dots + tick)


def _majority(value: float | None, span: Scale) -> str:
    if value is None:
        return ""
    if span[0] <= value <= span[1]:
        return f'<path class="usual" d="M{_place(value, span):.4g} 0V{HEIGHT}"/>'
    tip, back = (-3, 1) if value < span[0] else (WIDTH + 3, WIDTH - 1)
    middle = HEIGHT / 2
    return (
        f'<path class="beyond" d="M{back} {middle - 4:g}L{tip} {middle:g}L{back} {middle + 4:g}"/>'
    )


def _curve(
    history: Sequence[Point],
    best_step: int | None,
    *,
    span: Scale | None,
    box: tuple[Scale, Scale],
    most: int = 80,
) -> str:
    """The history inside `box`, ((left, right), (bottom, top)); empty if there is none."""
    if span is None or all(value is None for _, value in history):
        return ""
    steps = [step for step, _ in history]
    across = (min(steps), max(steps))
    runs: list[list[str]] = [[]]
    best = ""
    for step, value in _thinned(history, best_step, most):
        if value is None:
            runs.append([])
            continue
        x, y = _between(step, across, box[0]), _between(value, span, box[1])
        runs[-1].append(f"{x:.4g},{y:.4g}")
        if step == best_step:
            best = f'<circle cx="{x:.4g}" cy="{y:.4g}" r="2.2"/>'
    lines = "".join(f'<polyline points="{" ".join(run)}"/>' for run in runs if len(run) > 1)
    # A lone point has no line to be seen by.
    lone = "".join(
        '<circle cx="{}" cy="{}" r="1.2"/>'.format(*run[0].split(","))
        for run in runs
        if len(run) == 1
    )
    return lines + lone + best


def _thinned(history: Sequence[Point], best_step: int | None, most: int) -> list[Point]:
    """Every k-th point, so that a long run costs no more than a short one; the best one stays."""
    stride = -(-len(history) // most)
    last = len(history) - 1
    return [
        point
        for i, point in enumerate(history)
        if i % stride == 0 or i == last or point[0] == best_step
    ]


def _ticks(low: float, high: float, *, most: int) -> list[float]:
    """At most `most` + 1 round numbers between `low` and `high`: multiples of 1, 2 or 5 times a
    power of ten."""
    if high <= low:
        return [round(low, 2)]
    power = 10 ** math.floor(math.log10((high - low) / most))
    stride = next(m * power for m in (1, 2, 5, 10) if m * power * most >= (high - low) * 0.999)
    first, last = math.ceil(low / stride - 1e-9), math.floor(high / stride + 1e-9)
    return [round(k * stride, 9) for k in range(first, last + 1)]


def _said(history: Sequence[Point], best_step: int | None) -> str:
    """The plot in words, for those who do not see it."""
    by_step = {step: value for step, value in history if value is not None}
    first, last = min(by_step), max(by_step)
    parts = [f"from {100 * by_step[first]:.2f} at step {first} to {100 * by_step[last]:.2f}"]
    parts.append(f"at step {last}")
    if best_step in by_step:
        parts.append(f"and best, {100 * by_step[best_step]:.2f}, at step {best_step}")
    return f"dev score in percent: {' '.join(parts)}"


def _between(value: float, span: Scale, ends: Scale) -> float:
    low, high = span
    share = 0.5 if high == low else (value - low) / (high - low)
    return ends[0] + share * (ends[1] - ends[0])


def _place(value: float, span: Scale) -> float:
    return _between(value, span, (MARGIN, WIDTH - MARGIN))


def _svg(kind: str, inside: str) -> Markup:
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'aria-hidden="true">{inside}</svg>'
    )
