"""Small drawings inside the page, as SVG made of numbers only."""

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT, MARGIN = 120, 22, 4

Point = tuple[int, float | None]
Scale = tuple[float, float]


def scale(values: Sequence[float | None]) -> Scale | None:
    """The smallest and the largest of the known values; None if none is known."""
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def sparkline(history: Sequence[Point], best_step: int | None, span: Scale | None) -> Markup:
    """Dev score by step on the vertical scale `span`, broken where undefined; the best step is
    a dot. Nothing if there is no value to draw."""
    if span is None or all(value is None for _, value in history):
        return Markup("")
    steps = [step for step, _ in history]
    across = (min(steps), max(steps))
    runs: list[list[str]] = [[]]
    best = ""
    for step, value in _thinned(history, best_step):
        if value is None:
            runs.append([])
            continue
        x = _place(step, across, WIDTH)
        y = HEIGHT - _place(value, span, HEIGHT)
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
    return _svg("spark", lines + lone + best)


def strip(values: Sequence[float], mean: float | None, span: Scale | None) -> Markup:
    """One dot for each seed and a tick at the mean, on the horizontal scale `span`."""
    if span is None or mean is None:
        return Markup("")
    dots = "".join(
        f'<circle cx="{_place(value, span, WIDTH):.4g}" cy="{HEIGHT / 2:g}" r="2.6"/>'
        for value in values
    )
    x = _place(mean, span, WIDTH)
    tick = f'<path d="M{x:.4g} {MARGIN}V{HEIGHT - MARGIN}"/>'
    return _svg("strip", f'<path class="base" d="M0 {HEIGHT / 2:g}H{WIDTH}"/>{dots}{tick}')


def _thinned(history: Sequence[Point], best_step: int | None, most: int = 80) -> list[Point]:
    """Every k-th point, so that a long run costs no more than a short one; the best one stays."""
    stride = -(-len(history) // most)
    last = len(history) - 1
    return [
        point
        for i, point in enumerate(history)
        if i % stride == 0 or i == last or point[0] == best_step
    ]


def _place(value: float, span: Scale, length: int) -> float:
    low, high = span
    share = 0.5 if high == low else (value - low) / (high - low)
    return MARGIN + share * (length - 2 * MARGIN)


def _svg(kind: str, inside: str) -> Markup:
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'aria-hidden="true">{inside}</svg>'
    )
