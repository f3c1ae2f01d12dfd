"""The tables of results, published values, times and weights: cells, data and notes."""

import statistics
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_ind_from_stats
from support.pages import ordinary
from support.records import cells, failure, lines, plan, provenance, record, write

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report import numbers
from jiant_sparse.report.claims import judge
from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.render import to_csv, to_markdown
from jiant_sparse.report.table import Cell, Table
from jiant_sparse.report.tables import beside, make
from jiant_sparse.report.tables.parameters import parameters
from jiant_sparse.report.tables.results import results
from jiant_sparse.report.tables.times import times
from jiant_sparse.schema.record import Cost, Machine, Params, Primary, Record

SEVEN = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")
GOLDEN = Path(__file__).parent / "golden"


def frame(directory: Path, *records: Record) -> Frame:
    return load(write(directory, *records))


def test_golden_files(tmp_path: Path) -> None:
    """Every table of one benchmark as CSV, the results as Markdown, too.

    After a change that is meant, write the new text into tests/golden.
    """
    found = load(ordinary(tmp_path))
    made = make(found, found.keyed("sam"), judge(found))
    texts = {f"{table.name}.csv": to_csv(table) for table in made}
    texts["results.md"] = to_markdown(made[0])
    assert texts == {path.name: path.read_text("utf-8") for path in GOLDEN.iterdir()}


# --- Results


def test_means_and_deviations_are_marked(tmp_path: Path) -> None:
    scores = {"sam": (0.7, 0.8), "random": (0.7, 0.72), "lora": (0.6, 0.61), "bitfit": (0.5, 0.6)}
    records = [record("rte", m, k, v) for m, vs in scores.items() for k, v in enumerate(vs)]
    table = results(frame(tmp_path, *records))
    found = {method: cells(table, method) for method in scores}
    marks = {method: (row["RTE"].rank, row["RTE"].spread_rank) for method, row in found.items()}
    assert marks == {"sam": (1, 3), "random": (2, 2), "lora": (3, 1), "bitfit": (4, 3)}
    assert found["sam"]["RTE"] == Cell("75.00", 75.0, 1, "5.00", 3, tone="good")
    assert found["random"]["RTE"].tone == "" and found["random"]["AVG"].rank == 2
    # A method alone is not the best of anything.
    alone = cells(results(frame(tmp_path / "alone", record())), "sam")
    assert alone["RTE"].tone == alone["AVG"].tone == ""


def test_what_does_not_count_is_said(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        *(record(task, "sam", k) for task in ("rte", "cb") for k in (0, 1)),
        *(record("rte", "lora", k) for k in (0, 1)),
        record("rte", "random", 0),
        failure("rte", "random", 1, "x"),
        record("cb", "random", 1, None),
    )
    plan(["rte", "cb"], ["sam", "random", "lora"], 2).write(directory)
    table = results(load(directory))
    sam, random, lora = (cells(table, method) for method in ("sam", "random", "lora"))
    assert {cell.note for cell in sam.values()} == {""}
    assert random["RTE"].note == "n = 1, 1 failed"
    assert random["CB"] == Cell("1 missing, 1 without value", tone="alarm")
    assert random["AVG"] == Cell("incomplete 1/2", tone="quiet")
    assert lora["CB"].text == "2 missing"
    said = "Cells: 8 ok, 1 failed, 3 missing; 1 warning. The page says which and why."
    assert table.notes[-1] == said
    plan(["rte", "cb"], ["sam", "lora"], 3).write(directory)
    fewer = cells(results(load(directory)), "sam")
    assert (fewer["RTE"].note, fewer["AVG"].note) == ("n = 2, 1 missing", "not all cells")


def test_one_seed_and_no_score(tmp_path: Path) -> None:
    table = results(frame(tmp_path, record(), failure("rte", "lora", 0, "x")))
    assert "mean over 1 seed" in table.caption and cells(table, "sam")["RTE"].spread == ""
    none = results(frame(tmp_path / "none", failure("rte", "sam", 0, "x")))
    assert none.caption == "No cell has a test value yet."


def majorities(directory: Path, **majority: float | None) -> Table:
    records = []
    for task, value in majority.items():
        primary = Primary(name=TASKS[task].metric, dev=0.5, test=0.6, majority=value)
        records += [record(task, method, primary=primary) for method in ("sam", "lora")]
    return results(frame(directory, *records))


def test_the_most_frequent_answer_is_the_last_row(tmp_path: Path) -> None:
    table = majorities(tmp_path, rte=0.5271, stsb=None, wsc=0.625)
    row = table.rows[-1]
    texts = ["most frequent answer", "–", "52.71", "62.50", "–", "–", "–"]
    assert [cell.text for cell in row] == texts
    assert {cell.tone for cell in row} == {"quiet"} and {cell.rank for cell in row} == {None}
    answer = "always giving the most frequent answer scores"
    assert f"WSC: 2 of the 2 means lie below 62.50, which {answer}." in table.notes
    assert not [note for note in table.notes if note.startswith("RTE")]
    # It has an average where all are known, and no row where none is.
    assert majorities(tmp_path / "a", rte=0.5, wsc=0.6).rows[-1][3].text == "55.00"
    none = majorities(tmp_path / "b", rte=None, wsc=None)
    assert [row[0].text for row in none.rows] == ["lora", "sam"]


def test_a_method_with_another_label_says_its_key(tmp_path: Path) -> None:
    setting = {"method": {"name": "sam"}}
    table = results(frame(tmp_path, record(), record("rte", "twice", setting=setting)))
    assert [(row[0].text, row[0].note) for row in table.rows[:2]] == [("sam", ""), ("twice", "sam")]


def test_data_of_results(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        *(record("rte", "sam", k, 0.7 + k / 100) for k in (0, 2)),
        record("rte", "sam", 3, None),
        failure("rte", "x", 0, ""),
    )
    plan(["rte"], ["sam", "x"], 4).write(directory)
    table = results(load(directory))
    (sam, other), (average, nothing) = lines(table), lines(table, average=True)
    where = {"benchmark": "bench", "task": "rte", "method": "sam", "n": 2, "seeds": "0 2"}
    scores = {"mean": 71.0, "std": pytest.approx(1), "rank": 1, "std_rank": 1, "majority": 52.71}
    shares = {"tuned_percent": 0.5, "drawn_percent": None, "changed_percent": pytest.approx(0.499)}
    assert sam == {**where, **scores, **shares, "missing": 1, "failed": 0, "undefined": 1}
    assert (other["n"], other["seeds"], other["mean"], other["failed"]) == (0, "", None, 1)
    assert average == {**sam, "task": "AVG", "n": None, "seeds": None}
    assert (nothing["method"], nothing["mean"], nothing["failed"]) == ("x", None, 1)


# --- Beside the published values


def test_published_values_beside_measured(tmp_path: Path) -> None:
    near, far = (0.75, 0.76, 0.78), (0.60, 0.61, 0.62)
    table = beside.published(
        frame(
            tmp_path,
            *(record("rte", "sam", k, v) for k, v in enumerate(near)),
            *(record("rte", "lora", k, v) for k, v in enumerate(far)),
            *(record("rte", "bitfit", k, 0.9 + v) for k, v in enumerate((0.01, 0.02))),
            record("rte", "frozen", 0),
        )
    )
    found = {row[0].text: row[1] for row in table.rows}
    assert list(found) == ["bitfit", "lora", "sam"]
    assert found["sam"] == Cell("76.79", 76.79, spread="1.72", note="−0.46 compatible")
    assert (found["lora"].note, found["lora"].tone) == ("−15.97 lower", "alarm")
    assert (found["bitfit"].note, found["bitfit"].tone) == ("+18.76 too few runs", "quiet")
    assert table.rows[0][2] == Cell(tone="quiet")
    assert "of 2 equal pairs, about 0.1 would come out unequal" in table.notes[1]
    assert "The paper's AVG is over its seven tasks" in table.notes[-1]
    data = {line["method"]: line for line in lines(table)}
    sam, few = data["sam"], data["bitfit"]
    moments = (statistics.mean(near) * 100, statistics.stdev(near) * 100, 3)
    theirs = (76.79, 1.72 * (10 / 9) ** 0.5, 10)
    expected = ttest_ind_from_stats(*moments, *theirs, equal_var=False)
    assert (sam["t"], sam["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert (sam["published_mean"], sam["published_std"], sam["published_runs"]) == (76.79, 1.72, 10)
    assert (sam["n"], sam["table"], sam["word"], sam["reasons"]) == (3, 1, "compatible", "")
    assert sam["difference"] == pytest.approx(sam["mean"] - 76.79)
    assert (few["t"], few["df"], few["p"], few["word"]) == (None, None, None, "too few runs")
    assert few["reasons"] == "2 runs; a test needs 3"


def test_the_published_average_is_beside_seven_tasks(tmp_path: Path) -> None:
    records = [record(t, "sam", k, 0.7 + k / 50) for t in SEVEN for k in (0, 1, 2)]
    table = beside.published(frame(tmp_path, *records))
    average = cells(table, "sam")["AVG"]
    assert (average.text, average.spread, average.note) == ("77.12", "1.51", "−5.12 lower")
    assert not [note for note in table.notes if "AVG" in note]
    (line,) = lines(table, average=True)
    assert (line["n"], line["published_mean"], line["word"]) == (None, 77.12, "lower")
    assert line["mean"] == pytest.approx(72.0) and line["p"] < 0.05


SMALL = {"model": "pkg://tiny/model", "split": "random"}


@pytest.mark.parametrize(
    ("records", "title", "note", "rte"),
    [
        (
            [record("rte", "sam", k, setting=SMALL) for k in (0, 1)],
            ": not comparable",
            "Not comparable: model is pkg://tiny/model, split is random.",
            "−6.79",
        ),
        (
            [record()],
            "",
            "Comparable: same model, data, split and training as published.",
            "−6.79 too few runs",
        ),
        (
            [record(), record("cb", setting=SMALL)],
            ": partly not comparable",
            "Partly not comparable: model is pkg://tiny/model (1 of 2 results), split is random "
            "(1 of 2 results).",
            "−6.79 too few runs",
        ),
        (
            [failure("rte", "sam", 0, "x")],
            "",
            "Not comparable: there is no result to compare.",
            "no result",
        ),
    ],
)
def test_comparability_beside_the_published_values(
    tmp_path: Path, records: list[Record], title: str, note: str, rte: str
) -> None:
    table = beside.published(frame(tmp_path, *records))
    assert table.title == f"Published beside measured{title}" and table.notes[0] == note
    assert cells(table, "sam")["RTE"].note == rte
    assert ("Welch" in table.caption) == (title != ": not comparable")


def test_one_test_and_none(tmp_path: Path) -> None:
    values = enumerate((0.75, 0.76, 0.78))
    table = beside.published(frame(tmp_path, *(record(seed=k, test=v) for k, v in values)))
    assert "one equal pair in twenty would come out unequal" in table.notes[1]
    untested = beside.published(frame(tmp_path / "b", record()))
    assert "not corrected" not in " ".join(untested.notes)
    reduced = beside.published(frame(tmp_path / "c", record(setting={"drop_train": 0.1})))
    assert "Fu et al. 2023, Table 2" in reduced.caption and reduced.rows[0][1].text == "75.74"
    assert beside.published(frame(tmp_path / "d", record("sst", "sam"))) is None


# --- Times


def timed(
    seconds: float | None, seed: int = 0, /, task: str = "rte", method: str = "sam", **changes: Any
) -> Record:
    """A cell of `seconds` of steps; `select` of choosing and `step` milliseconds if given."""
    cost = Cost(
        train_seconds=seconds,
        select_seconds=changes.pop("select", 0.0),
        eval_seconds=1e6,
        step_milliseconds_median=changes.pop("step", None),
    )
    return record(task, method, seed, cost=cost, **changes)


def time_tables(directory: Path, *records: Record) -> tuple[Table, Table, Table]:
    """To stop, per step, to best."""
    stop, step, best = times(frame(directory, *records))
    return stop, step, best


def test_time_to_stop_and_to_best(tmp_path: Path) -> None:
    records = [timed(t, k, select=4.0, best_step=3, steps=4) for k, t in enumerate((20.0, 30.0))]
    stop, _, best = time_tables(tmp_path, *records)
    assert (stop.name, stop.title) == ("time_to_stop", "Time to stop (s)")
    paper = "paper 3.15 h"
    assert cells(stop, "sam")["RTE"] == Cell("29.00", 29.0, spread="5.00", note=paper)
    where = {"benchmark": "bench", "task": "rte", "method": "sam", "n": 2}
    numbers = {"mean_seconds": 29.0, "std_seconds": 5.0, "published_hours": 3.15}
    assert lines(stop) == [{**where, **numbers}]
    assert cells(best, "sam")["RTE"] == Cell("22.75", 22.75, spread="3.75")
    assert "An estimate" in best.caption and "published_hours" not in best.data


def test_hours_are_beside_the_row_of_the_method_alone(tmp_path: Path) -> None:
    denser = {"method": {"name": "sam", "density": 0.01}}
    records = [timed(5.0), timed(5.0, method="denser", setting=denser)]
    table, *_ = time_tables(tmp_path / "a", *records)
    notes = {method: cells(table, method)["RTE"].note for method in ("sam", "denser")}
    assert notes == {"sam": "paper 3.15 h", "denser": ""}
    hours = {line["method"]: line["published_hours"] for line in lines(table)}
    assert hours == {"sam": 3.15, "denser": None}
    # Of two variants neither stands for the method.
    several, *_ = time_tables(
        tmp_path / "b", records[1], timed(5.0, method="densest", setting=denser)
    )
    assert not several.holds("published_hours")
    assert not any("hours" in note for note in several.notes)


def test_unknown_times_are_dashes_and_not_imputed(tmp_path: Path) -> None:
    failed = timed(7.0, 2, status="failed", error="diverged", primary=None)
    records = [timed(None, 0, select=5.0), timed(20.0, 1), failed]
    records += [timed(None, method="mixout"), timed(5.0, method="random", select=None)]
    table, *_ = time_tables(tmp_path, *records)
    assert cells(table, "sam")["RTE"].text == "20.00"
    assert cells(table, "mixout")["RTE"] == Cell()
    assert cells(table, "random")["RTE"] == Cell(note="paper 6.70 h")
    counts = {line["method"]: (line["n"], line["mean_seconds"]) for line in lines(table)}
    assert counts == {"random": (0, None), "mixout": (0, None), "sam": (1, 20.0)}
    plan(["rte"], ["sam", "lora"], 1).write(tmp_path / "bench")
    planned, *_ = times(load(tmp_path / "bench"))
    assert cells(planned, "lora")["RTE"] == Cell(note="paper 4.87 h")


@pytest.mark.parametrize(
    ("seconds", "unit", "texts"),
    [
        ((3600.0, 7200.0, 1800.0), "h", ["1.00", "2.00", "0.50"]),
        ((60.0, 3601.0, 90.0), "min", ["1.00", "60.02", "1.50"]),
        ((59.0, 3600.0, 1.0), "s", ["59.00", "3600.00", "1.00"]),
        ((0.5, 0.25, 0.001), "s", ["0.50", "0.25", "<0.01"]),
        ((None, None, None), "s", ["–", "–", "–"]),
    ],
)
def test_one_unit_for_a_table(
    tmp_path: Path, seconds: tuple[float | None, ...], unit: str, texts: list[str]
) -> None:
    tasks = ("cola", "rte", "cb")
    found = [timed(s, task=task) for task, s in zip(tasks, seconds, strict=True)]
    table, *_ = time_tables(tmp_path, *found)
    assert [column.subtitle for column in table.columns] == ["", *[unit] * 4]
    assert table.title == f"Time to stop ({unit})"
    assert [cells(table, "sam")[title].text for title in ("CoLA", "RTE", "CB")] == texts


def test_the_average_of_times(tmp_path: Path) -> None:
    records = [timed(10.0 * i, s, task=t) for i, t in enumerate(SEVEN, 1) for s in (0, 1)]
    records += [timed(5.0, task=t, method="random") for t in SEVEN[:-1]]
    table, *_ = time_tables(tmp_path, *records)
    assert cells(table, "sam")["AVG"] == Cell("40.00", 40.0, spread="0.00", note="paper 2.02 h")
    assert cells(table, "random")["AVG"] == Cell(note="paper 2.62 h")
    random, sam = lines(table, average=True)
    assert (sam["n"], sam["mean_seconds"], sam["std_seconds"]) == (None, 40.0, 0.0)
    assert (random["mean_seconds"], random["published_hours"]) == (None, 2.62)
    # One seed has no deviation; one task is not the paper's seven.
    alone, *_ = time_tables(tmp_path / "b", timed(5.0))
    assert cells(alone, "sam")["AVG"] == Cell("5.00", 5.0)


def test_step_time(tmp_path: Path) -> None:
    _, table, _ = time_tables(tmp_path, timed(9.0, 0, step=75.5), timed(9.0, 1, step=74.5))
    assert (table.name, table.title) == ("step_time", "Time per step (ms)")
    found = cells(table, "sam")["RTE"]
    assert (found.text, found.spread, found.note) == ("75.00", "0.50", "")
    (line,) = lines(table)
    assert (line["mean_milliseconds"], line["std_milliseconds"]) == pytest.approx((75, 0.5))
    _, slow, _ = time_tables(tmp_path / "slow", timed(9.0, step=2500.0))
    assert slow.title == "Time per step (s)"
    assert lines(slow)[0]["mean_milliseconds"] == pytest.approx(2500)


def test_notes_of_times(tmp_path: Path) -> None:
    unknown = Machine(commit=None, dirty=None, versions={}, device=None, threads=None)
    resumed = timed(1.0, provenance=provenance(earlier=[unknown]))
    gpu = timed(1.0, 1, provenance=provenance(device="cuda:0 H200\x1b", threads=1))
    one, *_ = time_tables(tmp_path / "a", timed(1.0), failure("rte", "sam", 1, "x"))
    assert one.notes[0] == "Taken on cpu, 2 threads."
    assert not any("differ" in note for note in one.notes)
    two, step, _ = time_tables(tmp_path / "b", resumed, gpu)
    assert two.notes[0] == (
        "Taken on an unknown device; cpu, 2 threads; cuda:0 H200\ufffd, 1 thread."
    )
    assert two.notes[1] == "The machines differ: the times are not of one experiment."
    hours = (
        "The paper's hours are of a TITAN RTX, and only times of one compare with them; the "
        "settings are"
    )
    same = "comparable: same model, data, split and training as published"
    assert two.notes[-1] == f"{hours} {same}."
    assert not any("paper" in note for note in step.notes)
    apart, *_ = time_tables(tmp_path / "c", timed(1.0, setting={"model": "tiny"}))
    assert apart.notes[-1] == f"{hours} not comparable: model is tiny."


# --- Weights


def counted(seed: int = 0, /, task: str = "rte", method: str = "sam", **changes: Any) -> Record:
    counts = {"eligible": 1000, "selected": 5, "added": 0, "head": 20, "trainable": 25}
    counts |= {"changed": 4}
    known = {*Params.model_fields} & {*changes}
    counts |= {name: changes.pop(name) for name in known}
    return record(task, method, seed, params=Params(**counts), **changes)


def test_shares_and_counts(tmp_path: Path) -> None:
    table = parameters(frame(tmp_path, counted(0), counted(1)))
    found = cells(table, "sam")
    assert (found["tuned"].text, found["tuned"].value) == ("0.50", 0.5)
    assert found["paper"] == Cell("0.50", 0.5)
    assert (found["changed"].text, found["changed"].tone) == ("0.40", "")
    assert [found[name].text for name in ("selected", "added", "head")] == ["5", "0", "20"]
    (line,) = lines(table)
    assert (line["n"], line["eligible"], line["moved_per_step"]) == (2, 1000, None)
    shares = [line[f"{name}_percent"] for name in ("tuned", "changed", "published")]
    assert shares == [0.5, 0.4, 0.5]
    assert table.notes == ("The paper's shares are of RoBERTa-base, density 0.5 %.",)


def test_ranges_new_weights_and_too_many_changes(tmp_path: Path) -> None:
    records = [counted(0, selected=4, head=20), counted(1, selected=8), counted(task="cb", head=30)]
    lora = counted(method="lora", selected=0, added=3, changed=1)
    table = parameters(frame(tmp_path, *records, lora))
    sam, added = cells(table, "sam"), cells(table, "lora")
    assert (sam["selected"].text, sam["head"].text) == ("4–8", "20–30")
    assert sam["selected"].value == pytest.approx(17 / 3)
    assert sam["tuned"].value == pytest.approx(17 / 30)
    assert any(note.startswith("A range") for note in table.notes)
    assert [line["selected"] for line in lines(table) if line["method"] == "sam"] == [6, 5]
    assert [added[name].text for name in ("tuned", "selected", "added")] == ["0.30", "0", "3"]
    assert (added["changed"].tone, added["changed"].note) == ("alarm", "more than selected")


@pytest.mark.parametrize(
    "setting", [{"model": "tiny"}, {"method": {"name": "sam", "density": 0.01}}]
)
def test_a_share_of_something_else_is_quiet(tmp_path: Path, setting: dict[str, Any]) -> None:
    records = [counted(setting=setting), counted(method="random"), counted(method="fish")]
    table = parameters(frame(tmp_path, *records))
    tones = {m: cells(table, m)["paper"].tone for m in ("sam", "random")}
    assert tones == {"sam": "quiet", "random": ""}
    assert table.notes[0].endswith("density 0.5 %; another model, density or q: sam.")
    assert cells(table, "fish")["paper"].text == "–"


def test_unknown_counts(tmp_path: Path) -> None:
    table = parameters(frame(tmp_path, record(params=None)))
    found = cells(table, "sam")
    assert found["tuned"] == found["changed"] == found["selected"] == found["head"] == Cell()
    (line,) = lines(table)
    assert (line["selected"], line["n"], line["tuned_percent"]) == (None, 0, None)
    assert parameters(frame(tmp_path / "b", counted(method="fish"))).notes == ()


# --- Numbers


def test_numbers_hide_nothing() -> None:
    shares = (None, float("nan"), 0, 100, 99.9989, 0.5, 0.0912, 0.00001)
    shown = ["–", "–", "0", "100", ">99.99", "0.50", "0.091", "<0.0001"]
    assert [numbers.percent(v) for v in shares] == shown
    differences = [numbers.signed(v, 1) for v in (None, 0.04, -0.04, 1.25, -3.0)]
    assert differences == ["–", "0.0", "0.0", "+1.2", "−3.0"]
    assert numbers.count(124645632) == "124\u202f645\u202f632"
    times = [numbers.seconds(v) for v in (None, 9.96, 600, 7200)]
    assert times == ["–", "10.0 s", "10.0 min", "2.0 h"]
    assert [numbers.size(v) for v in (None, 999, 52300, 4e9)] == ["–", "999 B", "52.3 kB", "4 GB"]
    assert numbers.printable("a\ud800b") == "a\ufffdb"


@pytest.mark.parametrize("bad", [{"name": "mine"}, {"rows": ((Cell(),) * 2,)}])
def test_a_table_that_does_not_fit_is_an_error(tmp_path: Path, bad: dict[str, Any]) -> None:
    table = results(frame(tmp_path, record()))
    with pytest.raises(ValueError, match=r"is not one of results, |a row has 2 cells; it must"):
        Table(**{**vars(table), **bad})
