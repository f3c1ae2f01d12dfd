"""The figures: what they draw, and what they say about what they do not draw."""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pandas as pd
import pytest
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from support.records import failure, provenance, record

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report import figures, numbers, published
from jiant_sparse.report.collect import Collection
from jiant_sparse.report.figures import (
    density,
    discontinuity,
    learning_curves,
    ranks,
    style,
    tradeoff,
)
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.frame import arrange
from jiant_sparse.schema.record import CellKey, Cost, Primary

COST = Cost(train_seconds=90.0, select_seconds=10.0, peak_memory_bytes=2_000_000_000)
PAPER_TASKS = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")


def frame(*records, directory=Path("nowhere"), benchmark="bench"):
    return arrange(Collection(benchmark, directory, None, records, ()))


def cell(task="rte", label="sam", seed=0, test=0.7, *, name=None, fields=None, **changes):
    size = {"density": published.DENSITY} if (name or label) in published.WITH_DENSITY else {}
    setting = {
        "method": {"name": name or label, **size, **(fields or {})},
        "task": {"name": task, "like": task, "metric": TASKS[task].metric},
    }
    changes.setdefault("cost", COST)
    key = CellKey(benchmark="bench", task=task, method=label, seed=seed)
    return record(task, name or label, seed, test, setting=setting, cell=key, **changes)


def settled(records, **setting):
    """The records with other settings."""
    return [r.model_copy(update={"settings": {**r.settings, **setting}}) for r in records]


def three_methods(seeds=3):
    return [
        cell(task, method, seed, 0.6 + 0.01 * seed * spread + 0.02 * spread)
        for task in ("rte", "cb")
        for method, spread in (("full_tuning", 3), ("random", 1), ("sam", 2))
        for seed in range(seeds)
    ]


def seven_tasks():
    return [cell(task, method) for task in PAPER_TASKS for method in ("full_tuning", "sam")]


def sweep(key="sam", densities=(0.001, 0.005, 0.1), **changes):
    return [
        cell(
            "rte", f"{key}-{d}", seed, 0.7 + 0.01 * seed, name=key, fields={"density": d}, **changes
        )
        for d in densities
        for seed in range(2)
    ]


def refreshed(directory, *, interval=3, seeds=1, steps=9, tail="", label="diff_pruning"):
    """Cells with logs whose loss falls by half each step and is back at 1 after each refresh."""
    records = []
    fields = {"mask_interval": interval, "burn_in": None}
    for seed in range(seeds):
        records.append(cell("cb", label, seed, name="diff_pruning", fields=fields))
        where = directory / "cb" / label / f"seed-{seed}"
        where.mkdir(parents=True)
        lines = [
            json.dumps({"event": "train", "step": step, "loss": 0.5 ** ((step - 1) % interval)})
            for step in range(1, steps + 1)
        ]
        lines.insert(2, json.dumps({"event": "dev", "step": 2, "score": 0.5}))
        (where / "log.jsonl").write_text("\n".join(lines) + "\n" + tail)
    return records


def said(figure):
    # A foot may be broken into lines.
    return " ".join(" ".join(figure.texts).split())


@pytest.fixture
def sketch(monkeypatch):
    """Figures are put together but not painted, which takes most of their time."""

    def finish(canvas, figure):
        written = [text.get_text() for text in canvas.findobj(Text)]
        return SimpleNamespace(**vars(figure), texts=written, axes=canvas.axes, canvas=canvas)

    monkeypatch.setattr(style, "finish", finish)


@pytest.fixture(scope="module")
def three():
    """A small benchmark's figures by name, painted."""
    return {figure.name: figure for figure in figures.draw(frame(*three_methods()))[0]}


def test_all_are_drawn(tmp_path, sketch, three):
    # AVG needs every method on every task: the figures of one task alone have it.
    assert [*three] == ["ranks", "learning_curves", "tuned_fraction", "time_memory"]
    everything = [*three_methods(), *sweep("lora"), *refreshed(tmp_path)]
    drawn, absent = figures.draw(frame(*everything, directory=tmp_path))
    assert [one.name for one in drawn] == [*figures.ALL] and absent == {}


def test_files(three):
    for figure in three.values():
        assert figure.png.startswith(b"\x89PNG") and "<dc:date>" not in figure.svg
        root = ElementTree.fromstring(figure.svg)
        assert [e.tag.rpartition("}")[2] for e in root[:2]] == ["title", "desc"]
        assert (root[0].text, root[1].text) == (figure.title, numbers.printable(figure.gist))
        sizes = {float(size) for size in re.findall(r"([\d.]+)px", figure.svg)}
        assert min(sizes) >= style.SMALL == 8, figure.name


def test_why_absent():
    def reasons(*records):
        return figures.draw(frame(*records))[1]

    assert reasons(cell(history=[], cost=Cost(), params=None)) == {
        "ranks": "one method has nothing to be ranked against",
        "density": "no method was run at two densities or more",
        "discontinuity": "no diff_pruning cell has a mask_interval",
        "learning_curves": "no record holds a history of dev scores",
        "tuned_fraction": "no method with an AVG has its count of tuned weights recorded",
        "time_memory": "no method with an AVG has its time or memory recorded",
    }
    failed = reasons(failure("rte", "sam", 0, "out of memory"))
    assert failed["time_memory"] == "no method has an AVG: each lacks the score of some task"
    assert failed.keys() == figures.ALL.keys()
    assert ranks.why_absent(frame(cell(), cell(label="lora"))) == (
        "no method has a standard deviation: that needs two seeds of a task"
    )
    settings = [each for each in sweep() if each.cell.method != "sam"]
    assert ranks.why_absent(frame(*settings)) == (
        "fewer than two methods to rank: one row stands for a method, that of its own name"
    )


def test_bytes_do_not_depend_on_user_settings(three):
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.facecolor": "red", "axes.labelpad": 30, "font.size": 20}):
        assert learning_curves.draw(frame(*three_methods())) == three["learning_curves"]
        assert matplotlib.rcParams["font.size"] == 20
    assert dict(matplotlib.rcParams) == before


def test_gists(three):
    first = "Measured: bench: mean performance rank 3.0 at stability rank 1, 1.0 at 3; with AVG: ρ"
    assert first in three["ranks"].gist
    results = frame(*three_methods()).results
    ends = {learning_curves.curve(r.records).iloc[-1]: r.method for r in results[:3].itertuples()}
    best = f"RTE {ends[max(ends)]} ({max(ends):.1f} at step 1\u202f100), CB "
    assert f"The curves that end highest: {best}" in three["learning_curves"].gist


def test_foreign_strings_stay_text():
    label = "_a$^b$</text><script>alert(1)</script>&\u202e\n\u6f22"
    shown = "\N{HAIR SPACE}_a$^b$</text><script>alert(…"
    records = frame(*[cell(label=label, seed=seed, name="sam") for seed in range(2)])
    for draw in (learning_curves.draw, tradeoff.draw_cost):
        svg = draw(records).svg
        assert "<script" not in svg and "\u202e" not in svg
        assert shown in [element.text for element in ElementTree.fromstring(svg).iter()]


def test_no_text_is_cut_off(tmp_path, sketch):
    losses = enumerate([0.9, 1e-3, 1e-5], 1)
    lines = [json.dumps({"event": "train", "step": step, "loss": loss}) for step, loss in losses]
    records = [*three_methods(), *refreshed(tmp_path), cell("cb", "W" * 60)]
    # Ticks such as 100.00, which are the widest.
    scores = {0.0005: 0.9834, 0.002: 1.0, 0.1: 0.9917}
    records += [
        cell("cb", f"sam-{d}", seed, score, name="sam", fields={"density": d})
        for d, score in scores.items()
        for seed in range(2)
    ]
    (tmp_path / "cb/diff_pruning/seed-0/log.jsonl").write_text("\n".join(lines))
    for figure in figures.draw(frame(*records, directory=tmp_path))[0]:
        ConstrainedLayoutEngine().execute(figure.canvas)
        box, (width, height) = figure.canvas.get_tightbbox(), figure.canvas.get_size_inches()
        assert box.x0 >= 0 and box.y0 >= 0, figure.name
        assert box.x1 <= width and box.y1 <= height, figure.name


# ranks


def test_published_ranks_are_figure_4():
    pairs = ranks.published_pairs()
    drawn = ranks.points(pairs)
    figure4 = pd.read_csv(published.DIRECTORY / "figure4_rank.csv")
    printed = [*figure4.itertuples(index=False, name=None)]
    assert len(drawn) == len(printed) == 10
    for (rank, count, mean, std), known in zip(drawn.itertuples(), printed, strict=True):
        assert (rank, count) == known[:2]
        assert (mean, std) == pytest.approx(known[2:], abs=5e-5)
    assert (len(pairs), sum(~pairs["average"])) == (160, 140)


def test_rank_correlations(sketch):
    figure = ranks.draw(frame(*three_methods()))
    words = said(figure)
    assert "with AVG: ρ = 0.418, p = 3.8e-08 (160 pairs)" in words
    assert "without: ρ = 0.409, p = 5.2e-07 (140 pairs)" in words
    # The larger the spread, the higher the mean: both ranks run against each other.
    assert "with AVG: ρ = -1.000, p = 0.0012 (9 pairs)" in words
    assert "without: ρ = -1.000, p = 0.022 (6 pairs)" in words
    assert "Measured: 3 seeds." in words and len(figure.notes) == 1


def test_ranks_need_a_deviation(sketch):
    result = frame(*three_methods(), cell("rte", "lora", 0), cell("cb", "lora", 0))
    pairs = ranks.measured_pairs(result)
    assert (len(pairs), sum(~pairs["average"])) == (9, 6)
    assert "2 of 8 method and task pairs have no standard deviation" in ranks.draw(result).notes[1]


def test_one_row_stands_for_a_method_as_in_the_claims(sketch):
    extra = [
        cell(task, "sam-b", seed, 0.9 - seed / 7, name="sam")
        for task in ("rte", "cb")
        for seed in range(3)
    ]
    alone, among = frame(*three_methods()), frame(*three_methods(), *extra)
    pairs = [ranks.measured_pairs(one).reset_index(drop=True) for one in (alone, among)]
    pd.testing.assert_frame_equal(*pairs)
    note = "bench: not ranked, since one row stands for a method: sam-b."
    assert note in ranks.draw(among).notes


def test_where_the_verdict_is_on_other_numbers(sketch):
    start = "bench: the verdict on Fig. 4 can have another ρ: it "
    few = "counts methods with 3 runs or more on every task alone, so not "
    scaled = "brings deviations of fewer runs to what the largest number would give."
    whole = three_methods()
    less = [r for r in whole if (r.cell.task, r.cell.method, r.cell.seed) != ("rte", "sam", 2)]

    def last(*records):
        return ranks.draw(frame(*records)).notes[-1]

    assert "verdict" not in last(*whole)
    assert last(*less) == f"{start}{few}sam."
    assert last(*whole, cell("rte", "sam", 3)) == f"{start}{scaled}"
    assert last(*less, cell("rte", "random", 3)) == f"{start}{few}sam, and it {scaled}"
    other = [cell(task, "frozen", k, 0.5 + k / 9) for task in ("rte", "cb") for k in range(3)]
    foreign = "is about the methods of Fu et al. 2023, so not frozen."
    assert last(*whole, *other) == f"{start}{foreign}"
    # What has no deviation is in neither.
    assert "verdict" not in last(*whole, cell("rte", "lora"), cell("cb", "lora"))


def test_two_result_sets_have_a_panel_each(tmp_path, sketch):
    one = frame(*three_methods(), directory=tmp_path / "one")
    two = frame(*three_methods(1), directory=tmp_path / "two")
    words = said(ranks.ranks([one, two]))
    assert f"Measured: {style.shown(str(tmp_path / 'one'), 40)}" in words
    assert f"Measured: {style.shown(str(tmp_path / 'two'), 40)}" in words
    assert "no standard deviation:" in words


# density


def test_density_draws_measured_and_published(sketch):
    metrics = {"dev": {}, "test": {}, "train": {"acc": 0.9}}
    result = frame(*sweep(metrics=metrics, primary=Primary(name="acc", dev=0.7, test=0.7)))
    figure = density.draw(result)
    for panel in density.PARTS.values():
        assert f"sam: {panel}" in figure.texts
    assert "Grey, same marks: Fu et al. 2023, arXiv 2211.15583, Fig. 5, SAM, 10 seeds." in said(
        figure
    )
    assert "2 seeds per point" in said(figure) and "published" in figure.texts
    (labels,) = density.densities.curves(result).values()
    points = density.curve_points(result, labels)
    assert [*points["density"]] == [0.001, 0.005, 0.1]
    assert [*points[[*density.PARTS]].iloc[0]] == pytest.approx([70, 0, 90, 0])
    other = density.draw(frame(*sweep("random")))
    assert "Grey" not in said(other) and "published" not in other.texts


def test_density_says_what_is_not_in_it(sketch):
    metrics = {"dev": {}, "test": {}}
    records = [r for r in sweep(metrics=metrics) if r.cell.method != "sam-0.1" or not r.cell.seed]
    notes = density.draw(frame(*records)).notes
    assert "One seed, so no standard deviation: rte / sam-0.1." in notes
    assert "No record holds the score on the training data: those panels are empty." in notes
    methods = ("sam", "random", "mag_pruning", "child_pruning")
    many = frame(*[r for key in methods for r in sweep(key)])
    assert "Not drawn for want of room: child_pruning." in density.draw(many).notes
    undefined = sweep(primary=Primary(name="acc", dev=0.7, test=None))
    why = "no cell of a method with several densities has a test value"
    assert density.draw(frame(*undefined)) == why


# discontinuity


def test_discontinuity_marks_refreshes_and_counts_rises(tmp_path, sketch):
    result = frame(*refreshed(tmp_path, interval=600, steps=1900), directory=tmp_path)
    figure = discontinuity.draw(result)
    assert "diff_pruning on CB, seed 0" in figure.texts
    assert "Grey triangles: jumps in Fu et al. 2023, arXiv 2211.15583, Fig. 3." in said(figure)
    assert "at 3 of 3 refreshes the mean loss" in figure.notes[0]
    assert "1\u202f200, 1\u202f800" in figure.caption
    marked = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in marked] == [600, 1200, 1800]


def test_discontinuity_of_many_runs(tmp_path, sketch):
    labels = [f"d{number}" for number in range(6)]
    records = [r for label in labels for r in refreshed(tmp_path, label=label, steps=300)]
    figure = discontinuity.draw(frame(*records, directory=tmp_path))
    assert len(figure.axes) == discontinuity.MOST_PANELS
    assert "Not drawn for want of room: cb / d4, cb / d5." in figure.notes
    assert "d0 on CB: 100 refreshes, too many to mark." in figure.notes


def test_discontinuity_says_which_log_is_missing_or_broken(tmp_path, sketch):
    records = refreshed(tmp_path, seeds=3, tail='{"event": "tra')
    (tmp_path / "cb/diff_pruning/seed-2/log.jsonl").unlink()
    (tmp_path / "cb/diff_pruning/seed-0/log.jsonl").write_bytes(b"\xff\n")
    figure = discontinuity.draw(frame(*records, directory=tmp_path))
    assert figure.notes[:3] == (
        "cb/diff_pruning/seed-0/log.jsonl is broken in line 1 and drawn up to there.",
        "cb/diff_pruning/seed-1/log.jsonl is broken in line 11 and drawn up to there.",
        "cb/diff_pruning/seed-2/log.jsonl is missing.",
    )
    assert "diff_pruning on CB, seed 1" in figure.texts
    for path in tmp_path.rglob("log.jsonl"):
        path.unlink()
    where = "cb/diff_pruning/seed-{}/log.jsonl is missing"
    assert discontinuity.draw(frame(*records, directory=tmp_path)) == (
        f"no log can be read: {', '.join(where.format(seed) for seed in range(3))}"
    )


def test_each_log_is_read_once(tmp_path, sketch, monkeypatch):
    read, seen = discontinuity.read_losses, []
    monkeypatch.setattr(discontinuity, "read_losses", lambda path: seen.append(path) or read(path))
    figures.draw(frame(*refreshed(tmp_path), directory=tmp_path))
    assert len(seen) == 1


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"event": "train", "step": 1}',
        '{"event": "train", "step": "1", "loss": 1}',
        '{"event": "train", "step": 1, "loss": true}',
        '{"event": "train", "step": 1, "loss": 1' + "0" * 400 + "}",
        "[" * 100_000,
    ],
)
def test_a_log_is_read_up_to_its_first_broken_line(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "train", "step": 1, "loss": 0.5}\n' + line + "\n")
    problem = "is broken in line 2 and drawn up to there"
    assert discontinuity.read_losses(path) == ({1: 0.5}, problem)


def test_losses_without_a_place_on_a_log_axis_are_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [{"event": "train", "step": k, "loss": loss} for k, loss in ((1, 0), (2, float("nan")))]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert discontinuity.read_losses(path) == ({}, "holds no training loss above 0")
    assert discontinuity.read_losses(tmp_path)[1].startswith("cannot be read (")


def test_a_rise_is_counted_from_the_step_after_a_refresh():
    losses = pd.Series([0.5] * 19 + [5.0] + [0.9] * 20, range(1, 41))

    def curve(**fields):
        made = cell("cb", "diff_pruning", fields={"mask_interval": 20, **fields})
        return discontinuity.LossCurve(made, "", 20, losses, "cb")

    assert curve().refreshes == [20, 40] and ": at 0 of 1 refreshes" in curve().notes[0]
    assert curve(burn_in=30).refreshes == [20]


def test_thinning_keeps_every_jump():
    losses = pd.Series(1.0, range(1, 10_001))
    losses[[6001, 6002]] = 9.0, 0.1
    kept = discontinuity._thinned(losses, 100)
    assert {6001, 6002} <= {*kept.index} and len(kept) <= 200
    assert kept.index.is_monotonic_increasing
    assert discontinuity._thinned(losses[:100], 100).equals(losses[:100])


# learning curves


def test_a_curve_is_of_the_same_seeds_everywhere(sketch):
    histories = [
        [(1, 0.2), (2, 0.4), (3, 0.6), (4, 0.8)],
        [(1, 0.4), (2, None), (3, 0.8)],
        [(1, 0.3), (3, 0.7), (4, 0.7)],
        [],
    ]
    records = [cell(seed=seed, history=history) for seed, history in enumerate(histories)]
    assert learning_curves.curve(records).to_dict() == {1: pytest.approx(30), 3: pytest.approx(70)}
    assert "Mean over 3 seeds." in said(learning_curves.draw(frame(*records)))


def test_learning_curves_draw_the_majority_baseline(sketch):
    made = frame(cell(primary=Primary(name="acc", dev=0.5, test=0.5, majority=0.625)))
    assert {"majority", "62.5"} <= {*learning_curves.draw(made).texts}
    plain = learning_curves.draw(frame(cell("stsb")))
    assert "majority" not in plain.texts
    assert "No majority baseline is known for these test sets." in plain.notes


def test_learning_curves_say_what_is_not_in_them(sketch):
    records = [cell(label=f"m{i:02}", name="sam") for i in range(style.MOST + 1)]
    records += [failure("rte", "m00", 1, "no"), cell(label="m01", seed=1, history=[(7, 0.5)])]
    notes = learning_curves.draw(frame(*records)).notes
    assert notes[0].endswith("tells so many marks apart: m16.")
    assert "No curve, for want of a score at a common step: rte / m01." in notes
    assert "Not all planned seeds are in the mean: rte / m00." in notes


# tuned share, time and memory


def test_pareto_front():
    values = dict(a=(2, 5), b=(1, 3), c=(3, 4), d=(2, 6), e=(4, 6), f=(1, 2), g=(2, 6), h=(9, 7))
    points = pd.DataFrame(values, index=["cost", "score"]).T
    assert [*tradeoff.front(points).index] == ["b", "d", "g", "h"]
    assert tradeoff.front(points[:0]).empty


def test_the_front_is_ringed_and_what_it_beats_is_shaded(sketch):
    points = {
        "full_tuning": (0.6, 100_000_000),
        "random": (0.5, 500_000),
        "sam": (0.7, 500_000),
        "lora": (0.5, 250_000),
    }
    records = [
        cell("rte", label, test=score, cost=Cost(peak_memory_bytes=memory))
        for label, (score, memory) in points.items()
    ]
    figure = tradeoff.draw_cost(frame(*records))
    (axes,) = figure.axes
    (ring,) = [line for line in axes.lines if line.get_markersize() == 13]
    assert [*ring.get_xydata().flat] == pytest.approx([0.00025, 50, 0.0005, 70])
    # No line could be taken for data.
    assert {line.get_linestyle() for line in axes.lines} == {"None"}
    (shade,) = axes.patches
    scores, edges, base = shade.get_data()
    assert [*scores] == pytest.approx([50, 70]) and base == axes.get_ylim()[0]
    assert [*edges] == pytest.approx([0.00025, 0.0005, axes.get_xlim()[1]])
    assert figure.notes[0] == "Pareto front by peak memory: lora, sam."
    assert figure.gist == (
        "AVG score [%] by peak memory, Pareto front: "
        "lora (50.0 at 0.00025 GB), sam (70.0 at 0.0005 GB)."
    )
    assert "Pareto front" in figure.texts


def test_costs_of_a_method():
    # No steps were timed: how long it took is unknown, even if choosing was.
    untimed = Cost(select_seconds=50.0)
    short = Cost(train_seconds=200.0, select_seconds=0.0, peak_memory_bytes=10**9)
    records = [cell("rte"), cell("rte", seed=1, cost=untimed), cell("cb", cost=short)]
    costs = tradeoff.costs(frame(*records)).loc["sam"]
    assert (costs["seconds"], costs["memory"]) == (150, 2)
    bare = tradeoff.costs(frame(cell("rte"), cell("cb", cost=untimed)))
    assert pd.isna(bare.loc["sam", "seconds"])
    three = frame(
        *[cell("rte", seed=k, cost=Cost(train_seconds=100, select_seconds=10)) for k in (0, 1)]
    )
    assert tradeoff.costs(three).loc["sam", "seconds"] == three.results["stop_seconds"][0] == 110


def test_published_points_stand_for_a_method_once():
    costs = tradeoff.costs(frame(*seven_tasks()))
    assert [*costs["published_tuned"]] == [100, 0.5]
    assert costs.loc["sam", "published_mean"] == 77.12
    # Two rows of one key, neither labelled so, stand for nothing.
    labels = [cell(task, label, name="sam") for task in PAPER_TASKS for label in ("a", "b")]
    assert tradeoff.costs(frame(*labels))["published_tuned"].isna().all()


def test_published_costs_only_beside_their_own_experiment(sketch):
    figure = tradeoff.draw_cost(frame(*seven_tasks()))
    assert "Tables 3 and 1 or 2, 10 seeds, hours of a TITAN RTX." in said(figure)
    assert "Table 3, which are of a TITAN RTX with 24 GB" in figure.caption
    assert figure.beside == ("Table 3", "Table 1")
    figure = tradeoff.draw_cost(frame(*settled(seven_tasks(), model="tiny")))
    assert "TITAN" not in figure.caption and "Grey" not in said(figure) and figure.beside == ()
    assert figure.notes == (
        "Pareto front by time to stop: full_tuning, sam.",
        "Pareto front by peak memory: full_tuning, sam.",
        "The paper's hours (Table 3) are not drawn; not comparable: model is tiny.",
    )


def test_tradeoffs_say_what_is_not_in_them(sketch):
    other = provenance(device="cuda:0")
    records = [
        *three_methods(),
        cell("rte", "lora"),
        cell("rte", "bitfit", params=None),
        cell("cb", "bitfit", params=None, cost=Cost(), provenance=other),
    ]
    assert tradeoff.draw_tuned(frame(*records)).notes == (
        "Pareto front by tuned weights: full_tuning.",
        "Without an AVG, so not drawn: lora.",
        "Without count of tuned weights above 0, so not drawn: bitfit.",
    )
    assert tradeoff.draw_cost(frame(*records)).notes[2:] == (
        "Without an AVG, so not drawn: lora.",
        "Without time, so not drawn: bitfit.",
        "The cells ran on different devices (cpu, cuda:0): compare with care.",
    )
    many = [cell(label=f"m{i:02}", name="random") for i in range(style.MOST + 1)]
    notes = tradeoff.draw_cost(frame(*many)).notes[2:]
    assert notes[0].endswith("tells so many marks apart: m16.")
    assert notes[1] == "The Pareto front is that of the drawn methods."


# published values beside other experiments


def test_values_beside_another_experiment_are_said_to_be_not_comparable(tmp_path, sketch):
    jumps = [*refreshed(tmp_path, interval=600, steps=1300), cell("rte", "diff_pruning")]
    note = "Not comparable with the published values: model is tiny."
    for draw, records, source in (
        (tradeoff.draw_tuned, seven_tasks(), "Tables 4 and 1 or 2, 10 seeds"),
        (ranks.draw, three_methods(), "10 seeds"),
        # The density is what the figure shows.
        (density.draw, sweep(), "SAM, 10 seeds"),
        (discontinuity.draw, jumps, "Fig. 3"),
    ):
        figure = draw(frame(*records, directory=tmp_path))
        assert f"{source}." in said(figure)
        assert not any("comparable" in note for note in figure.notes)
        figure = draw(frame(*settled(records, model="tiny"), directory=tmp_path))
        assert f"{source} (not comparable)." in said(figure)
        assert note in figure.notes


def test_where_some_results_are_comparable(tmp_path, sketch):
    records = seven_tasks()
    some = frame(*settled(records[:1], model="tiny"), *records[1:])
    note = "Partly not comparable with the published values: model is tiny (1 of 14 results)."
    for figure in (tradeoff.draw_tuned(some), tradeoff.draw_cost(some)):
        assert "(partly not comparable)." in said(figure) and figure.notes[0] == note
    one = frame(*three_methods())
    away = frame(*settled(three_methods(), model="tiny"))
    figure = ranks.ranks([one, replace(away, benchmark="away")])
    # Of several sets, the notes say which is comparable.
    assert "10 seeds (partly not comparable). Measured" in said(figure)
    assert figure.notes[1] == "away: not comparable with the published values: model is tiny."
    # One panel of two.
    panels = refreshed(tmp_path, interval=600, steps=1300)
    panels += settled(refreshed(tmp_path, interval=600, steps=1300, label="b"), model="tiny")
    figure = discontinuity.draw(frame(*panels, directory=tmp_path))
    assert "Fig. 3 (partly not comparable)." in said(figure)
    assert figure.notes[0].startswith("Partly not comparable with the published values: model")


# looks


def test_looks_differ_without_colour():
    looks = [style.look(place) for place in range(style.MOST)]
    hollow = [look["markerfacecolor"] == style.PAPER for look in looks]
    assert len({(look["marker"], h) for look, h in zip(looks, hollow, strict=True)}) == style.MOST
    # A hollow marker and its filled twin differ in dashes too.
    half = style.MOST // 2
    assert all(a["linestyle"] != b["linestyle"] for a, b in zip(looks, looks[half:], strict=False))

    def luminance(colour):
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        # As an image becomes grey (Rec. 601).
        return 0.299 * red + 0.587 * green + 0.114 * blue

    greys = [luminance(colour) for colour in style.PALETTE]
    assert all(abs(a - b) > 20 for a, b in zip(greys, greys[1:], strict=False))
    ordered = sorted(greys)
    assert all(b - a > 6 for a, b in zip(ordered, ordered[1:], strict=False))


def test_a_method_has_the_same_look_in_all_figures(sketch):
    result = frame(
        *three_methods(), cell("rte", "lora"), cell("rte", "my own"), cell("cb", "my own")
    )
    place = [*result.methods["method"]].index("my own")
    for draw in (learning_curves.draw, tradeoff.draw_tuned, tradeoff.draw_cost):
        (legend,) = draw(result).canvas.legends
        lines = {line.get_label(): line for line in legend.get_lines()}
        assert lines["my own"].get_color() == style.look(place)["color"]
        assert lines["my own"].get_marker() == style.look(place)["marker"]


def test_log_axis_has_labels_whatever_its_span(sketch):
    def ticks(*values):
        def panel(axes):
            axes.plot(values, values, "o")
            style.log_axis(axes, "x")

        drawn = style.paint(Figure("ranks", "", ""), [panel], columns=1, height=2, foot="")
        drawn.canvas.draw_without_rendering()
        labels = drawn.axes[0].get_xticklabels()
        return [text for label in labels if (text := label.get_text())]

    assert {"8", "10", "12", "14", "16", "18"} <= {*ticks(7.0, 18.0)}
    assert {"2", "4", "6", "8", "10", "12"} <= {*ticks(2.0, 12.0)}
    assert {"0.0001", "0.001", "0.01", "0.1", "1"} <= {*ticks(1e-4, 1.0)}
    assert ticks(3.0, 3.0)
