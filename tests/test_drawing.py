"""The small drawings: numbers in, SVG out."""

import re

import pytest

from jiant_sparse.report.page import drawing

HISTORY = [(0, 0.0), (100, 0.5), (200, None), (300, 1.0)]


def test_sparkline_breaks_where_undefined_and_marks_the_best() -> None:
    drawn = drawing.sparkline(HISTORY, 300, span=(0.0, 1.0))
    assert re.findall(r'points="([^"]+)"', drawn) == ["4,18 41.33,11"]
    assert '<circle cx="116" cy="4" r="2.2"/>' in drawn
    assert drawing.sparkline([(0, None)], None, span=(0.0, 1.0)) == ""
    assert drawing.sparkline([], None, span=None) == ""


def test_a_long_history_is_thinned_and_keeps_its_best() -> None:
    history = [(step, step % 7 / 7) for step in range(5000)]
    small = drawing.sparkline(history, 4321, span=(0.0, 1.0))
    large = drawing.plot(history, 4321, span=(0.0, 1.0))
    assert len(small) < 2000 and 'r="2.2"' in small
    assert len(small) < len(large) < 6000 and 'r="2.2"' in large


def test_plot_labels_its_axes_and_marks_the_best_step() -> None:
    drawn = drawing.plot(HISTORY, 100, span=(0.0, 1.0))
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", drawn)
    assert texts == [
        *("0", "50", "100", "0", "100", "200", "300", "dev score, %", "step"),
    ]
    # Bottom and top of the scale, left and right of the steps.
    assert f'<path d="M34 {drawing.BOTTOM}H352"/>' in drawn
    assert '<path class="best" d="M140 20V126"/>' in drawn
    assert re.findall(r'points="([^"]+)"', drawn) == ["34,126 140,73"]
    assert (
        'aria-label="dev score in percent: from 0.00 at step 0 to 100.00 at step 300 and best, '
        '50.00, at step 100"' in drawn
    )


def test_plot_without_values_or_best_step() -> None:
    assert drawing.plot([(0, None)], None, span=(0.0, 1.0)) == ""
    assert drawing.plot([], None, span=None) == ""
    lone = drawing.plot([(5, 0.25)], None, span=(0.25, 0.25))
    assert ">25<" in lone and ">5<" in lone and 'class="best"' not in lone and "best" not in lone
    # A best step that the history does not have is not put anywhere.
    assert 'class="best"' not in drawing.plot(HISTORY, 999, span=(0.0, 1.0))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 50, 100]),
        (8.1, 63.4, [20, 40, 60]),
        (99.1, 99.35, [99.1, 99.2, 99.3]),
        (-12, 12, [-10, 0, 10]),
        (0, 29500, [0, 10000, 20000]),
        (70, 70, [70]),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, expected: list[float]) -> None:
    assert drawing._ticks(low, high, most=4) == pytest.approx(expected)


def test_strip_draws_every_seed_on_the_common_scale() -> None:
    drawn = drawing.strip([50.0, 70.0], 60.0, span=(50.0, 90.0))
    assert re.findall(r'cx="([^"]+)"', drawn) == ["4", "60"]
    assert "M32 4V18" in drawn and "usual" not in drawn and "beyond" not in drawn
    # One value alone stands in the middle.
    assert 'cx="60"' in drawing.strip([50.0], 50.0, span=(50.0, 50.0))
    assert drawing.strip([], None, span=(0.0, 1.0)) == ""


def test_strip_draws_the_most_frequent_answer_or_where_it_lies() -> None:
    def at(value: float) -> str:
        return drawing.strip([50.0, 70.0], 60.0, span=(50.0, 90.0), majority=value)

    assert '<path class="usual" d="M60 0V22"/>' in at(70.0)
    assert '<path class="beyond" d="M1 7L-3 11L1 15"/>' in at(49.0)
    assert '<path class="beyond" d="M119 7L123 11L119 15"/>' in at(91.0)


def test_a_scale_stretches_to_twice_its_width_and_no_further() -> None:
    assert drawing.stretched((60.0, 70.0), 52.0) == (52.0, 70.0)
    assert drawing.stretched((60.0, 70.0), 50.0) == (50.0, 70.0)
    assert drawing.stretched((60.0, 70.0), 49.0) == (60.0, 70.0)
    assert drawing.stretched((60.0, 70.0), 75.0) == (60.0, 75.0)
    assert drawing.stretched((60.0, 70.0), None) == (60.0, 70.0)
    assert drawing.stretched(None, 1.0) is None
