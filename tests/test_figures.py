"""The figures: what they draw, what they say about what they do not, and that they stay small."""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest
from matplotlib.text import Text
from scipy.stats import rankdata, spearmanr
from support.records import failure, provenance, record

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report import figures, published, stochastic
from jiant_sparse.report.arrange import summarise
from jiant_sparse.report.collect import Collection
from jiant_sparse.report.figures import (
    density,
    discontinuity,
    learning_curves,
    ranks,
    scales,
    sheet,
    style,
    tradeoff,
)
from jiant_sparse.report.figures.inline import dark_variables, inline
from jiant_sparse.report.tables import times
from jiant_sparse.schema.record import CellKey, Cost, Primary

COST = Cost(train_seconds=90.0, select_seconds=10.0, peak_memory_bytes=2_000_000_000)
NAMES = ("ranks", "density", "discontinuity", "learning_curves", "tuned_fraction", "time_memory")


def summary(*records, directory=Path("nowhere")):
    return summarise(Collection("bench", directory, None, records, ()))


def cell(task="rte", label="sam", seed=0, test=0.7, *, name=None, fields=None, **changes):
    known = TASKS[task]
    size = {"density": published.DENSITY} if (name or label) in published.WITH_DENSITY else {}
    setting = {
        "method": {"name": name or label, **size, **(fields or {})},
        "task": {"name": task, "like": task, "metric": known.metric},
    }
    changes.setdefault("cost", COST)
    key = CellKey(benchmark="bench", task=task, method=label, seed=seed)
    return record(task, name or label, seed, test, setting=setting, cell=key, **changes)


def three_methods(seeds=3):
    return [
        cell(task, method, seed, 0.6 + 0.01 * seed * spread + 0.02 * spread)
        for task in ("rte", "cb")
        for method, spread in (("full_tuning", 3), ("random", 1), ("sam", 2))
        for seed in range(seeds)
    ]


def sweep(key="sam", densities=(0.001, 0.005, 0.1), **changes):
    return [
        cell(
            "rte",
            f"{key}-{value}",
            seed,
            0.7 + 0.01 * seed,
            name=key,
            fields={"density": value},
            **changes,
        )
        for value in densities
        for seed in range(2)
    ]


def refreshed(directory, *, interval=3, seeds=1, steps=9, tail=""):
    records = []
    for seed in range(seeds):
        records.append(
            cell("cb", "diff_pruning", seed, fields={"mask_interval": interval, "burn_in": None})
        )
        where = directory / "cb" / "diff_pruning" / f"seed-{seed}"
        where.mkdir(parents=True)
        # The loss falls by half each step and is back at 1 after each refresh.
        lines = [
            json.dumps({"event": "train", "step": step, "loss": 0.5 ** ((step - 1) % interval)})
            for step in range(1, steps + 1)
        ]
        lines.insert(2, json.dumps({"event": "dev", "step": 2, "score": 0.5}))
        (where / "log.jsonl").write_text("\n".join(lines) + "\n" + tail)
    return records


def texts(svg):
    return [e.text for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]


def said(figure):
    return " ".join(figure.texts)


@pytest.fixture
def sketch(monkeypatch):
    """Figures are put together but not painted, which takes most of their time."""

    def finish(canvas, words):
        written = [text.get_text() for text in canvas.findobj(Text)]
        fields = {**vars(words), "notes": tuple(words.notes)}
        return SimpleNamespace(**fields, texts=written, axes=canvas.axes)

    monkeypatch.setattr(style, "finish", finish)


@pytest.fixture(scope="module")
def three():
    """A small benchmark's figures by name, painted."""
    return {figure.name: figure for figure in figures.draw(summary(*three_methods())).figures}


def check(figure):
    assert figure.png.startswith(b"\x89PNG")
    assert ElementTree.fromstring(figure.svg).tag.endswith("}svg")
    assert figure.title and figure.caption
    assert "<dc:date>" not in figure.svg


def test_everything_is_drawn_or_said_to_be_absent(tmp_path, sketch, three):
    # AVG needs every method on every task: the figures of one task alone have it.
    gone = [name for name, _ in figures.draw(summary(*three_methods())).absent]
    assert [*three] == ["ranks", "learning_curves", "tuned_fraction", "time_memory"]
    assert gone == ["density", "discontinuity"]
    everything = [*three_methods(), *sweep("lora"), *refreshed(tmp_path)]
    whole = summary(*everything, directory=tmp_path)
    drawn = figures.draw(whole)
    assert tuple(f.name for f in drawn.figures) == NAMES == figures.Figure.NAMES
    assert drawn.absent == ()
    for figure in three.values():
        check(figure)


def test_why_figures_are_absent():
    bare = cell(history=[], cost=Cost(), params=None)
    assert dict(figures.draw(summary(bare)).absent) == {
        "ranks": "one method has nothing to be ranked against",
        "density": "no method was run at two densities or more",
        "discontinuity": "no diff_pruning cell has a mask_interval",
        "learning_curves": "no record holds a history of dev scores",
        "tuned_fraction": "no method with an AVG has its count of tuned weights recorded",
        "time_memory": "no method with an AVG has its time or memory recorded",
    }
    assert figures.draw(summary(bare)).figures == ()
    two = summary(cell(), cell(label="lora"))
    assert ranks.why_absent(two) == (
        "no method has a standard deviation: that needs two seeds of a task"
    )
    reasons = dict(figures.draw(summary(failure("rte", "sam", 0, "out of memory"))).absent)
    assert reasons["time_memory"] == "no method has an AVG: each lacks the score of some task"
    assert set(reasons) == set(NAMES)


def test_the_same_records_give_the_same_bytes_whatever_the_user_has_set(three):
    records = three_methods()
    first = tuple(three.values())
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.facecolor": "red", "axes.labelpad": 30, "font.size": 20}):
        assert figures.draw(summary(*records)).figures == first
        assert matplotlib.rcParams["font.size"] == 20
    assert dict(matplotlib.rcParams) == before


def test_figures_say_their_numbers_to_those_who_do_not_see_them(three):
    for figure in three.values():
        kinds = [child.tag.rpartition("}")[2] for child in ElementTree.fromstring(figure.svg)]
        assert kinds.index("desc") == kinds.index("title") + 1
    words = "Measured: bench: mean performance rank 3.0 at stability rank 1, 1.0 at 3; with AVG: ρ"
    assert words in described(three["ranks"].svg)
    rows = summary(*three_methods()).rows
    ends = {learning_curves.curve(row.groups[0])[-1][1]: row.label for row in rows}
    best = f"RTE {ends[max(ends)]} ({max(ends):.1f} at step 1 100), CB "
    assert f"The curves that end highest: {best}" in described(three["learning_curves"].svg)


def test_foreign_strings_are_text_and_nothing_else():
    label = "_a$^b$</text><script>alert(1)</script>&\u202e\n\u6f22"
    records = [
        cell(task, label, seed, 0.5 + seed / 10, name="sam")
        for task in ("rte", "cb")
        for seed in range(2)
    ]
    for figure in figures.draw(summary(*records)).figures:
        check(figure)
        for svg in (figure.svg, inline(figure.svg, label)):
            assert "<script" not in svg and "\u202e" not in texts(svg)
        assert "\u202e" not in figure.svg
    curves = {figure.name: figure for figure in figures.draw(summary(*records)).figures}
    shown = "\N{HAIR SPACE}_a$^b$</text><script>alert(…"
    assert shown in texts(curves["learning_curves"].svg)
    assert shown in texts(curves["time_memory"].svg)


# ranks


def test_the_published_panel_is_the_papers_figure_4():
    drawn = ranks.points(ranks.published_pairs(average=True))
    printed = published.figure4()
    assert len(drawn) == len(printed) == 10
    for (rank, count, mean, std), known in zip(drawn, printed, strict=True):
        assert (rank, count) == known[:2]
        assert (mean, std) == pytest.approx(known[2:], abs=5e-5)
    assert len(ranks.published_pairs(average=True)) == 160
    assert len(ranks.published_pairs(average=False)) == 140


def test_ranks_are_correlated_with_and_without_avg(sketch):
    figure = ranks.draw(summary(*three_methods()))
    words = said(figure)
    assert "with AVG: ρ = 0.418, p = 3.8e-08 (160 pairs)" in words
    assert "without: ρ = 0.409, p = 5.2e-07 (140 pairs)" in words
    # The larger the spread, the higher the mean: both ranks run against each other.
    assert "with AVG: ρ = -1.000, p = 0.0012 (9 pairs)" in words
    assert "without: ρ = -1.000, p = 0.022 (6 pairs)" in words
    assert "Measured: 3 seeds." in words and "0.4356" in figure.caption


def test_measured_pairs_leave_out_what_has_no_deviation(sketch):
    records = [*three_methods(), cell("rte", "lora", 0), cell("cb", "lora", 0)]
    result = summary(*records)
    assert len(ranks.measured_pairs(result, average=False)) == 6
    assert sorted(ranks.measured_pairs(result, average=True))[:1] != []
    assert "2 of 8 method and task pairs have no standard deviation" in ranks.draw(result).notes[1]


def test_ranks_say_where_the_verdict_is_on_other_numbers(sketch):
    start = "bench: the verdict on Fig. 4 can have another ρ: it "
    few = "counts methods with 3 runs or more on every task alone, so not "
    scaled = "brings deviations of fewer runs to what the largest number would give."
    whole = three_methods()

    def last(records):
        return ranks.draw(summary(*records)).notes[-1]

    def without(*gone):
        return [r for r in whole if (r.cell.task, r.cell.method, r.cell.seed) not in gone]

    assert "verdict" not in last(whole)
    assert last(without(("rte", "sam", 2))) == f"{start}{few}sam."
    assert last([*whole, cell("rte", "sam", 3)]) == f"{start}{scaled}"
    both = [*without(("rte", "sam", 2)), cell("rte", "random", 3)]
    assert last(both) == f"{start}{few}sam, and it {scaled}"
    other = [cell(task, "frozen", k, 0.5 + k / 9) for task in ("rte", "cb") for k in range(3)]
    foreign = "is about the methods of Fu et al. 2023, so not frozen."
    assert last([*whole, *other]) == f"{start}{foreign}"
    # What has no deviation is in neither.
    assert "verdict" not in last([*whole, cell("rte", "lora"), cell("cb", "lora")])


def test_one_row_stands_for_a_method_as_in_the_claims(sketch):
    extra = [
        cell(task, "sam-b", seed, 0.9 - seed / 7, name="sam")
        for task in ("rte", "cb")
        for seed in range(3)
    ]
    alone, among = summary(*three_methods()), summary(*three_methods(), *extra)
    for average in (True, False):
        pairs = ranks.measured_pairs(among, average=average)
        assert pairs == ranks.measured_pairs(alone, average=average)
    note = "bench: not ranked, since one row stands for a method: sam-b."
    assert note in ranks.draw(among).notes and len(ranks.draw(alone).notes) == 1
    settings = [each for each in sweep() if each.cell.method != "sam"]
    assert ranks.why_absent(summary(*settings)) == (
        "fewer than two methods to rank: one row stands for a method, that of its own name"
    )


def test_the_caption_of_ranks_says_what_ties_do():
    caption = ranks._caption()
    assert "Equal values in a column share the smaller rank" in caption
    for average, said_so in ((True, "0.410 with AVG"), (False, "0.399 without")):
        columns = (*published.TASKS, published.AVERAGE) if average else published.TASKS
        stable, good = [], []
        for table in (1, 2):
            for column in columns:
                values = [published.value(key, column, table) for key in published.METHODS]
                stable += [*rankdata([value.std for value in values])]
                good += [*rankdata([-value.mean for value in values])]
        assert said_so.startswith(f"{spearmanr(stable, good).statistic:.3f}")
        assert said_so in caption


def test_two_result_sets_have_a_panel_each(tmp_path, sketch):
    one = summary(*three_methods(), directory=tmp_path / "one")
    two = summary(*three_methods(1), directory=tmp_path / "two")
    words = said(ranks.ranks([one, two]))
    assert f"Measured: {style.shown(str(tmp_path / 'one'), 40)}" in words
    assert f"Measured: {style.shown(str(tmp_path / 'two'), 40)}" in words
    assert "no standard deviation:" in words


# density


def test_density_draws_measured_and_published(sketch):
    metrics = {"dev": {}, "test": {}, "train": {"acc": 0.9}}
    result = summary(*sweep(metrics=metrics, primary=Primary(name="acc", dev=0.7, test=0.7)))
    figure = density.draw(result)
    words = said(figure)
    for panel in density.PARTS.values():
        assert f"sam: {panel}" in words
    assert "Grey, same marks: Fu et al. 2023, arXiv 2211.15583, Fig. 5, SAM, 10 seeds." in words
    assert "2 seeds per point" in words and "published" in figure.texts
    curve = density.densities.density_curves(result)[0]
    assert density._values(curve, 0, "test_mean") == [
        (0.001, pytest.approx(70)),
        (0.005, pytest.approx(70)),
        (0.1, pytest.approx(70)),
    ]
    assert density._values(curve, 0, "train_mean")[0] == (0.001, pytest.approx(90))
    assert density._values(curve, 0, "train_std")[0] == (0.001, pytest.approx(0))


def test_density_of_another_method_has_no_published_line(sketch):
    figure = density.draw(summary(*sweep("random")))
    assert "Grey" not in said(figure) and "published" not in figure.texts


def test_density_says_what_is_not_in_it(sketch):
    metrics = {"dev": {}, "test": {}}
    records = [r for r in sweep(metrics=metrics) if r.cell.method != "sam-0.1" or not r.cell.seed]
    notes = density.draw(summary(*records)).notes
    assert "One seed, so no standard deviation: rte / sam-0.1." in notes
    assert "No record holds the score on the training data: those panels are empty." in notes
    methods = ("sam", "random", "mag_pruning", "child_pruning")
    many = summary(*[r for key in methods for r in sweep(key)])
    assert "Not drawn for want of room: child_pruning." in density.draw(many).notes


# discontinuity


def test_discontinuity_marks_refreshes_and_counts_jumps(tmp_path, sketch):
    result = summary(*refreshed(tmp_path, interval=600, steps=1900), directory=tmp_path)
    figure = discontinuity.draw(result)
    assert "diff_pruning on CB, seed 0" in said(figure)
    assert "Grey triangles: jumps in Fu et al. 2023, arXiv 2211.15583, Fig. 3." in said(figure)
    assert "at 3 of 3 refreshes the mean loss" in figure.notes[0]
    assert "1\u202f200, 1\u202f800" in figure.caption


def test_discontinuity_says_which_log_is_missing_or_broken(tmp_path, sketch):
    records = refreshed(tmp_path, seeds=3, tail='{"event": "tra')
    (tmp_path / "cb/diff_pruning/seed-2/log.jsonl").unlink()
    (tmp_path / "cb/diff_pruning/seed-0/log.jsonl").write_bytes(b"\xff\n")
    figure = discontinuity.draw(summary(*records, directory=tmp_path))
    assert figure.notes[:3] == (
        "cb/diff_pruning/seed-0/log.jsonl is broken in line 1 and drawn up to there.",
        "cb/diff_pruning/seed-1/log.jsonl is broken in line 11 and drawn up to there.",
        "cb/diff_pruning/seed-2/log.jsonl is missing.",
    )
    assert "diff_pruning on CB, seed 1" in said(figure)


def test_discontinuity_without_any_log(tmp_path):
    records = refreshed(tmp_path, seeds=2)
    for path in tmp_path.rglob("log.jsonl"):
        path.unlink()
    reasons = dict(figures.draw(summary(*records, directory=tmp_path)).absent)
    assert reasons["discontinuity"] == (
        "no log can be read: cb/diff_pruning/seed-0/log.jsonl is missing, "
        "cb/diff_pruning/seed-1/log.jsonl is missing"
    )


def test_each_log_is_read_once(tmp_path, sketch, monkeypatch):
    read, seen = discontinuity.read_losses, []

    def counted(path):
        seen.append(path)
        return read(path)

    monkeypatch.setattr(discontinuity, "read_losses", counted)
    made = summary(*refreshed(tmp_path), directory=tmp_path)
    assert "discontinuity" in [figure.name for figure in figures.draw(made).figures]
    assert len(seen) == 1


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"event": "train", "step": 1}',
        '{"event": "train", "step": "1", "loss": 1}',
        '{"event": "train", "step": 1, "loss": true}',
        "[" * 100_000,
    ],
)
def test_a_log_is_read_up_to_its_first_broken_line(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "train", "step": 1, "loss": 0.5}\n' + line + "\n")
    assert discontinuity.read_losses(path) == (
        [(1, 0.5)],
        "is broken in line 2 and drawn up to there",
    )


def test_losses_without_a_place_on_a_log_axis_are_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"event": "train", "step": 1, "loss": 0}\n{"event": "train", "step": 2, "loss": NaN}\n'
    )
    assert discontinuity.read_losses(path) == ([], "holds no training loss above 0")
    assert discontinuity.read_losses(tmp_path)[1].startswith("cannot be read (")


def test_a_rise_is_counted_from_the_step_after_a_refresh():
    losses = [0.5] * 19 + [5.0] + [0.9] * 20
    made = cell("cb", "diff_pruning", fields={"mask_interval": 20})
    points = list(enumerate(losses, 1))
    run = discontinuity._Run(made, "", 20, points, "cb")
    assert run.refreshes == [20, 40]
    assert run.rises == (0, 1)
    cut = cell("cb", "diff_pruning", fields={"mask_interval": 20, "burn_in": 30})
    assert discontinuity._Run(cut, "", 20, points, "cb").refreshes == [20]


def test_thinning_keeps_every_jump():
    points = [(step, 1.0) for step in range(1, 10_001)]
    points[6000] = (6001, 9.0)
    points[6001] = (6002, 0.1)
    kept = discontinuity._thinned(points, 100)
    assert (6001, 9.0) in kept and (6002, 0.1) in kept and len(kept) <= 200
    assert kept == sorted(kept)


# learning curves


def test_a_curve_is_of_the_same_seeds_everywhere(sketch):
    records = [
        cell(seed=0, history=[(1, 0.2), (2, 0.4), (3, 0.6), (4, 0.8)]),
        cell(seed=1, history=[(1, 0.4), (2, None), (3, 0.8)]),
        cell(seed=2, history=[(1, 0.3), (3, 0.7), (4, 0.7)]),
        cell(seed=3, history=[]),
    ]
    group = summary(*records).rows[0].groups[0]
    assert learning_curves.curve(group) == [(1, pytest.approx(30)), (3, pytest.approx(70))]
    assert "Mean over 3 seeds." in said(learning_curves.draw(summary(*records)))


def test_learning_curves_draw_the_majority_baseline(sketch):
    figure = learning_curves.draw(summary(*three_methods()))
    assert "majority" in figure.texts and "52.7" in figure.texts
    made = summary(cell(primary=Primary(name="acc", dev=0.5, test=0.5, majority=0.625)))
    assert "62.5" in learning_curves.draw(made).texts
    plain = learning_curves.draw(summary(cell("stsb")))
    assert "majority" not in plain.texts
    assert "No majority baseline is known for these test sets." in plain.notes


def test_learning_curves_say_what_is_not_in_them(sketch):
    records = [cell(label=f"m{i:02}", name="sam") for i in range(style.MOST + 1)]
    records += [failure("rte", "m00", 1, "no")]
    notes = learning_curves.draw(summary(*records)).notes
    assert notes[0].endswith("tells so many marks apart: m16.")
    assert "Not all planned seeds are in the mean: rte / m00." in notes


# tuned share, time and memory


def test_the_pareto_front():
    points = dict(a=(2, 5), b=(1, 3), c=(3, 4), d=(2, 6), e=(4, 6), f=(1, 2), g=(2, 6), h=(9, 7))
    assert [*tradeoff.front(points).items()] == [
        ("b", (1, 3)),
        ("d", (2, 6)),
        ("g", (2, 6)),
        ("h", (9, 7)),
    ]
    assert tradeoff.front({}) == {}


def test_the_front_is_ringed_and_what_it_beats_is_shaded(sketch):
    full, random_, sam = (1e6 * share for share in (100, 0.5, 0.5))
    figure = tradeoff.draw_cost(
        summary(
            *[
                cell("rte", label, test=score, cost=Cost(peak_memory_bytes=int(cost)))
                for label, score, cost in (
                    ("full_tuning", 0.6, full),
                    ("random", 0.5, random_),
                    ("sam", 0.7, sam),
                    ("lora", 0.5, sam / 2),
                )
            ]
        )
    )
    (axes,) = figure.axes
    rings = [line for line in axes.lines if line.get_markersize() == 13]
    assert [[*map(tuple, ring.get_xydata())] for ring in rings] == [
        [(0.00025, pytest.approx(50)), (0.0005, pytest.approx(70))]
    ]
    # No line could be taken for data.
    assert {line.get_linestyle() for line in axes.lines} == {"None"}
    (shade,) = axes.patches
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    assert [*map(tuple, shade.get_xy()[:-1])] == [
        (0.00025, bottom),
        (0.00025, pytest.approx(50)),
        (0.0005, pytest.approx(50)),
        (0.0005, pytest.approx(70)),
        (right, pytest.approx(70)),
        (right, bottom),
    ]
    assert figure.notes[0] == "Pareto front by peak memory: lora, sam."
    assert figure.gist == (
        "AVG score [%] by peak memory, Pareto front: "
        "lora (50.0 at 0.00025 GB), sam (70.0 at 0.0005 GB)."
    )
    assert "Pareto front" in figure.texts


def test_costs_of_a_row():
    # No steps were timed: how long it took is unknown, even if choosing was.
    gone = Cost(select_seconds=50.0)
    records = [
        cell("rte", seed=0, cost=COST),
        cell("rte", seed=1, cost=gone),
        cell("cb", cost=Cost(train_seconds=200.0, select_seconds=0.0, peak_memory_bytes=10**9)),
    ]
    (row,) = summary(*records).rows
    assert tradeoff.seconds_to_stop(row) == 150
    assert tradeoff.peak_gigabytes(row) == 2
    (bare,) = summary(cell("rte"), cell("cb", cost=gone)).rows
    assert tradeoff.seconds_to_stop(bare) is None


def test_the_figure_and_the_table_have_the_same_time_to_stop():
    records = [
        cell("rte", seed=seed, cost=Cost(train_seconds=100.0 + seed, select_seconds=select))
        for seed, select in enumerate((10.0, None, 30.0))
    ]
    made = summary(*records)
    table = times.time_to_stop(made)
    mean = table.lines[0][table.fields.index("mean_seconds")]
    assert tradeoff.seconds_to_stop(made.rows[0]) == mean == 121


def test_units_of_time():
    assert tradeoff._unit([10, 119]) == ("s", 1.0)
    assert tradeoff._unit([10, 121]) == ("min", 60.0)
    assert tradeoff._unit([7200]) == ("h", 3600.0)
    assert tradeoff._unit([]) == ("s", 1.0)


def seven_tasks(**setting):
    out = []
    for task in ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc"):
        for method in ("full_tuning", "sam"):
            out.append(settled(cell(task, method), **setting))
    return summary(*out)


def test_published_costs_only_beside_their_own_experiment(sketch):
    same, other = seven_tasks(), seven_tasks(model="tiny")
    figure = tradeoff.draw_cost(same)
    assert "Tables 3 and 1 or 2, 10 seeds, hours of a TITAN RTX." in said(figure)
    assert "Table 3, which are of a TITAN RTX with 24 GB" in figure.caption
    assert figure.beside == ["Table 3", "Table 1"]
    figure = tradeoff.draw_cost(other)
    assert "TITAN" not in figure.caption + said(figure) and figure.beside == []
    assert "Grey" not in said(figure)
    assert figure.notes == (
        "Pareto front by time to stop: full_tuning, sam.",
        "Pareto front by peak memory: full_tuning, sam.",
        "The paper's hours (Table 3) are not drawn; not comparable: model is tiny.",
    )


def test_published_values_beside_another_experiment_are_said_to_be_not_comparable(sketch):
    same, other = seven_tasks(), seven_tasks(model="tiny", split="files")
    said_so = "Not comparable with the published values: model is tiny and split is files."
    figure = tradeoff.draw_tuned(same)
    assert "Tables 4 and 1 or 2, 10 seeds." in said(figure)
    assert not any("comparable" in note for note in figure.notes)
    figure = tradeoff.draw_tuned(other)
    assert "Tables 4 and 1 or 2, 10 seeds (not comparable)." in said(figure)
    assert figure.notes[0] == said_so
    two = summary(*three_methods())
    figure = ranks.draw(two)
    assert "10 seeds. Measured" in said(figure) and len(figure.notes) == 1
    figure = ranks.draw(summary(*[settled(each, model="tiny") for each in two.records]))
    assert "10 seeds (not comparable). Measured" in said(figure)
    assert figure.notes[1] == "Not comparable with the published values: model is tiny."
    # Of two sets one is: the notes say which.
    away = [settled(each, model="tiny") for each in two.records]
    figure = ranks.ranks([two, replace(summary(*away), benchmark="away")])
    assert "(not comparable)" not in said(figure)
    assert figure.notes[1] == "away: not comparable with the published values: model is tiny."


def test_where_some_results_are_comparable_the_others_are_not_said_to_be_all(tmp_path, sketch):
    records = list(seven_tasks().records)
    some = summary(settled(records[0], model="tiny"), *records[1:])
    note = "Partly not comparable with the published values: model is tiny (1 of 14 results)."
    for figure in (tradeoff.draw_tuned(some), tradeoff.draw_cost(some)):
        # A foot may be broken into lines there.
        foot = " ".join(said(figure).split())
        assert "(partly not comparable)." in foot and figure.notes[0] == note
    two = three_methods()
    away = [settled(each, model="tiny") for each in two]
    mixed = summary(*away[:3], *two[3:])
    assert "10 seeds (partly not comparable). Measured" in said(ranks.draw(mixed))
    figure = ranks.ranks([summary(*two), replace(summary(*away), benchmark="away")])
    assert "10 seeds (partly not comparable). Measured" in said(figure)
    # One panel of two.
    first = refreshed(tmp_path, interval=600, steps=1300)[0]
    other = settled(first, model="tiny").model_copy(
        update={"cell": first.cell.model_copy(update={"method": "b"})}
    )
    (tmp_path / "cb" / "b").symlink_to(tmp_path / "cb" / "diff_pruning")
    figure = discontinuity.draw(summary(first, other, directory=tmp_path))
    assert "Fig. 3 (partly not comparable)." in " ".join(said(figure).split())
    assert figure.notes[0].startswith("Partly not comparable with the published values: model")


def test_what_a_curve_shows_does_not_make_it_incomparable(sketch):
    records = sweep()
    figure = density.draw(summary(*records))
    assert "SAM, 10 seeds." in said(figure)
    assert not any("comparable" in note for note in figure.notes)
    figure = density.draw(summary(*[settled(each, model="tiny") for each in records]))
    assert "SAM, 10 seeds (not comparable)." in said(figure)
    assert figure.notes[0] == "Not comparable with the published values: model is tiny."
    assert figure.gist == "sam, density with the highest test mean: RTE 0.001 (70.5)."


def test_published_jumps_of_another_experiment(tmp_path, sketch):
    made = [settled(each, model="tiny") for each in refreshed(tmp_path, interval=600, steps=1300)]
    other = cell("rte", "diff_pruning")
    figure = discontinuity.draw(summary(*made, other, directory=tmp_path))
    assert "Fig. 3 (not comparable)." in said(figure)
    assert figure.notes[0] == "Not comparable with the published values: model is tiny."
    assert figure.gist.startswith("diff_pruning on CB: at 2 of 2 refreshes the mean loss")


def settled(made, **setting):
    return made.model_copy(update={"settings": {**made.settings, **setting}})


def test_published_points_stand_for_a_method_once():
    rows = seven_tasks().rows
    assert set(tradeoff._published(rows, published.percent_tuned, "mean")) == {"full_tuning", "sam"}
    assert tradeoff._published(rows, published.percent_tuned, "mean")["sam"] == (0.5, 77.12)
    # Two rows of one key, neither labelled so, stand for nothing.
    assert tradeoff._published([*rows, *rows][1:], published.percent_tuned, "std").keys() == {
        "full_tuning",
        "sam",
    }


def test_tradeoffs_say_what_is_not_in_them(sketch):
    records = [
        *three_methods(),
        cell("rte", "lora"),
        cell("rte", "bitfit", params=None),
        cell("cb", "bitfit", params=None, cost=Cost(), provenance=provenance(device="cuda:0")),
    ]
    result = summary(*records)
    assert tradeoff.draw_tuned(result).notes == (
        "Pareto front by tuned weights: full_tuning.",
        "Without an AVG, so not drawn: lora.",
        "Without count of tuned weights above 0, so not drawn: bitfit.",
    )
    assert tradeoff.draw_cost(result).notes[2:] == (
        "Without an AVG, so not drawn: lora.",
        "Without time, so not drawn: bitfit.",
        "The cells ran on different devices (cpu, cuda:0): compare with care.",
    )


def test_of_many_methods_the_papers_own_are_drawn_and_the_rest_is_named(sketch):
    labels = [f"m{i:02}" for i in range(style.MOST)]
    records = [cell(label=label, name="random") for label in [*labels, "sam"]]
    result = summary(*records)
    assert "sam" in [row.label for row in style.chosen(result.rows)]
    assert len(style.chosen(result.rows)) == style.MOST
    notes = tradeoff.draw_cost(result).notes[2:]
    assert notes[0].endswith("tells so many marks apart: m15.")
    assert notes[1] == "The Pareto front is that of the drawn methods."
    assert style.not_drawn(result.rows[:3]) == []


# looks


def test_methods_are_told_apart_without_colour():
    looks = [style.look(number) for number in range(style.MOST)]
    assert len({(look.marker, look.hollow) for look in looks}) == style.MOST
    half = style.MOST // 2
    assert all(looks[n].dash != looks[n + half].dash for n in range(half))
    rows = summary(*[cell(label=key) for key in published.METHODS]).rows
    assert len(set(map(str, style.method_looks(rows).values()))) == 10
    assert set(style.OWN) == {*published.METHODS, *stochastic.METHODS}
    assert sorted(style.OWN.values()) == [*range(style.MOST)] == sorted(style.SPARE)
    every = style.method_looks(summary(*[cell(label=key) for key in style.OWN]).rows)
    assert every == {key: style.look(number) for key, number in style.OWN.items()}


def test_the_methods_of_the_second_paper_have_each_a_colour_of_their_own():
    rows = summary(*[cell(label=key) for key in stochastic.METHODS]).rows
    looks = style.method_looks(rows)
    assert len({look.colour for look in looks.values()}) == len(stochastic.METHODS) - 1
    assert looks["frozen"].colour == looks["bitfit"].colour
    assert (looks["frozen"].marker, looks["frozen"].hollow) == ("*", True)
    # A variant takes no look of a method that is there.
    more = summary(*[cell(label=key) for key in (*stochastic.METHODS, "rest")]).rows
    assert style.method_looks(more)["rest"] == style.look(0)
    first = summary(*[cell(label=key) for key in ("sam", "lora", "rest")]).rows
    assert style.method_looks(first)["rest"] == style.look(10)


def test_a_method_keeps_its_look():
    alone = style.method_looks(summary(cell(label="sam")).rows)
    records = [cell(label="a", name="sam"), cell(label="sam"), cell(label="lora")]
    among = style.method_looks(summary(*records).rows)
    assert alone["sam"] == among["sam"] != among["a"]
    assert len(set(map(str, among.values()))) == 3


def test_neighbours_differ_in_luminance():
    def luminance(colour):
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        # As an image becomes grey (Rec. 601).
        return 0.299 * red + 0.587 * green + 0.114 * blue

    for palette in (style.PALETTE, style.DARK_PALETTE):
        assert len(palette) == 10
    greys = [luminance(colour) for colour in style.PALETTE]
    assert all(abs(a - b) > 20 for a, b in zip(greys, greys[1:], strict=False))
    ordered = sorted(greys)
    assert all(b - a > 6 for a, b in zip(ordered, ordered[1:], strict=False))
    # As a page lists the paper's methods.
    greys = [greys[style.OWN[key]] for key in published.METHODS]
    assert all(abs(a - b) > 17 for a, b in zip(greys, greys[1:], strict=False))


def test_words():
    assert style.seeds([]) == style.seeds([0]) == "no seed"
    assert style.seeds([1]) == "1 seed" and style.seeds([3, 10, 0]) == "3 to 10 seeds"
    assert style.many(list("abcdefgh")) == "a, b, c, d, e, f and 2 more"
    assert scales._power(0.001) == "0.001" and scales._power(1e-5) == "10⁻⁵"


# sheet


def test_no_text_is_too_small(three):
    for figure in three.values():
        sizes = {float(size) for size in re.findall(r"([\d.]+)px", figure.svg)}
        assert min(sizes) >= style.SMALL == 8, figure.name


def test_the_widest_numbers_have_room(sketch):
    """Ticks such as 100.00, as a training set comes to."""
    scores = {0.0005: 0.9834, 0.002: 1.0, 0.1: 0.9917}
    rows = [
        cell("cb", f"sam-{density}", seed, score, name="sam", fields={"density": density})
        for density, score in scores.items()
        for seed in range(2)
    ]
    near = [
        row.model_copy(update={"metrics": {**row.metrics, "train": {"acc": row.primary.test}}})
        for row in rows
    ]
    figure = density.draw(summary(*near))
    labels = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
    assert "100.00" in labels
    assert figure.axes[0].figure.get_tightbbox().x0 > 0.05


def test_no_text_is_cut_off(tmp_path, sketch):
    records = [*three_methods(), *sweep(), *refreshed(tmp_path)]
    long = cell("cb", "W" * 60)
    log = tmp_path / "cb" / "diff_pruning" / "seed-0" / "log.jsonl"
    losses = enumerate([0.9, 1e-3, 1e-5], 1)
    lines = [json.dumps({"event": "train", "step": step, "loss": loss}) for step, loss in losses]
    log.write_text("\n".join(lines))
    for figure in figures.draw(summary(*records, long, directory=tmp_path)).figures:
        canvas = figure.axes[0].figure
        box = canvas.get_tightbbox()
        width, height = canvas.get_size_inches()
        assert box.x0 >= 0 and box.y0 >= 0, figure.name
        assert box.x1 <= width and box.y1 <= height, figure.name


def test_a_single_panel_has_the_whole_width(sketch):
    result = summary(cell(label="lora"), cell(), cell(label="random"))
    for figure in (tradeoff.draw_tuned(result), learning_curves.draw(result)):
        (axes,) = figure.axes
        assert axes.get_position().width > 0.9
    canvas, axes = sheet.panels(sheet.Grid(1, 1, 2.0), (), "word " * 70)
    assert canvas.texts[0].get_text().count("\n") == 2


def test_a_legend_has_as_many_columns_as_fit():
    def columns(lengths, width):
        return sheet._abreast([("x" * length, {}) for length in lengths], width)

    assert columns([10] * 12, 6.0) == 4
    # One long label widens its own column alone.
    assert columns([10] * 8 + [40], 8.0) == 3
    assert columns([200, 200], 8.0) == 1 and columns([], 8.0) == 1


def test_a_log_axis_has_labels_whatever_its_span():
    def ticks(*values):
        with style.drawing("ranks"):
            _, (axes,) = sheet.panels(sheet.Grid(1, 1, 2.0), (), "")
            axes.plot(values, values, "o")
            scales.log_axis(axes, "x")
            low, high = axes.get_xlim()
            assert min(axes.get_xticks()) > 0
            return [tick for tick in axes.get_xticks() if low <= tick <= high], (low, high)

    assert ticks(7.0, 18.0)[0] == [8, 10, 12, 14, 16, 18]
    # A place at 0 or below has no logarithm.
    assert ticks(2.0, 12.0)[0] == [2, 4, 6, 8, 10, 12]
    assert ticks(1e-4, 1.0)[0] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    assert ticks(3.0, 3.0)[1] == pytest.approx((1.5, 6.0))


# inline


def described(svg):
    return ElementTree.fromstring(svg).find("{*}desc").text


def test_inline_svg_is_the_pages(three):
    for figure in three.values():
        svg = inline(figure.svg, "A <title>")
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img" and root[0].text == "A <title>"
        assert root[1].tag.endswith("}desc") and root[1].text == described(figure.svg)
        assert not re.search(r"<\?xml|<!DOCTYPE|<metadata|<style|<clipPath|clip-path|xlink", svg)
        for colour in (style.INK, style.QUIET, style.HAIR, style.PAPER):
            assert colour not in svg
        assert "var(--ink)" in svg and "var(--hair)" in svg and "var(--quiet)" in svg
        assert re.search(r"var\(--figure-\d,#[0-9a-f]{6}\)", svg)
        ids = set(re.findall(r' id="([^"]+)"', svg))
        assert ids == set(re.findall(r'href="#([^"]+)"', svg))
        assert texts(svg) == texts(figure.svg)
    assert dark_variables().count("--figure-") == len(style.PALETTE)


def test_inline_ids_differ_between_figures(three):
    drawn = [inline(figure.svg) for figure in three.values()]
    ids = [each for svg in drawn for each in set(re.findall(r' id="([^"]+)"', svg))]
    assert len(ids) == len(set(ids))


def test_inline_keeps_every_corner_to_a_tenth():
    data = "M 1.23 4.56 \nL 2.28 3.04 \nL 10 0 \nz"
    path = f"<svg xmlns='http://www.w3.org/2000/svg'><path d='{data}'/></svg>"
    assert ' d="M1.2 4.6l1.1-1.6l7.7-3z"' in inline(path)


def test_figures_of_many_records_stay_small():
    history = [(500 * i, 0.5 + (i * 7919 % 97) / 1000) for i in range(1, 61)]
    records = [
        cell(task, method, seed, 0.6 + (seed * 31 + len(method) * 17) % 10 / 50, history=history)
        for task in ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")
        for method in published.METHODS
        for seed in range(2)
    ]
    for figure in figures.draw(summary(*records)).figures:
        assert len(inline(figure.svg, figure.title).encode()) < 60_000, figure.name
