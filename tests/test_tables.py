"""Golden files of every table and of the terminal, and what these cannot show."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.pages import ordinary
from support.records import cells, failure, lines, plan, record, write
from support.zoo import zoo

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report import numbers
from jiant_sparse.report.claims import judge
from jiant_sparse.report.comparison.sets import differences, label
from jiant_sparse.report.comparison.table import comparison
from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.render import to_csv, to_markdown
from jiant_sparse.report.table import Cell, Table
from jiant_sparse.report.tables import beside, make
from jiant_sparse.report.tables.parameters import parameters
from jiant_sparse.report.tables.results import results
from jiant_sparse.report.tables.times import times
from jiant_sparse.report.terminal import as_text
from jiant_sparse.schema.record import Cost, Primary, Record

SEVEN = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")
GOLDEN = Path(__file__).parent / "golden"


def frame(directory: Path, *records: Record) -> Frame:
    return load(write(directory, *records))


# --- Golden files: after a change that is meant, write the new texts into tests/golden.


def golden(name: str, directory: Path) -> dict[str, str]:
    """What the files of tests/golden/<name> should hold."""
    if name == "comparison":
        one, other = label([load(ordinary(directory / "a")), load(zoo(directory / "b"))])
        apart = differences([one, other])
        made = {
            "measured": comparison([one, other], one, apart),
            "published": comparison([one, other], None, apart),
        }
        texts = {f"{name}.md": to_markdown(table) for name, table in made.items()}
        return texts | {"measured.csv": to_csv(made["measured"])}
    found = load({"ordinary": ordinary, "zoo": zoo}[name](directory))
    tables = make(found, found.keyed("sam"), judge(found))
    texts = {"terminal.txt": as_text(found, tables)}
    for table in tables:
        texts[f"{table.name}.csv"], texts[f"{table.name}.md"] = to_csv(table), to_markdown(table)
    return texts


@pytest.mark.parametrize("name", ["ordinary", "zoo", "comparison"])
def test_golden_files(tmp_path: Path, name: str) -> None:
    made = golden(name, tmp_path)
    assert made == {path.name: path.read_text("utf-8") for path in (GOLDEN / name).iterdir()}
    assert all(len(line) <= 100 for line in made.get("terminal.txt", "").splitlines())


# --- What a golden file does not show: tones, marks and what columns are sorted by.


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    """The tables of the zoo by their names."""
    found = load(zoo(tmp_path_factory.mktemp("zoo")))
    return {table.name: table for table in make(found, "sam", [])}


@pytest.mark.parametrize(
    ("table", "method", "column", "tone"),
    [
        ("results", "lora", "RTE", "good"),
        ("results", "sam", "RTE", ""),
        ("results", "fish", "CB", "alarm"),
        ("results", "fish", "AVG", "quiet"),
        ("results", "gone", "CB", "quiet"),
        ("results", "most frequent answer", "RTE", "quiet"),
        ("published", "sam", "RTE", ""),
        ("published", "sam", "CB", "alarm"),
        ("published", "random", "WSC", "alarm"),
        ("published", "full_tuning", "CB", "quiet"),
        ("published", "mixout", "RTE", "quiet"),
        ("published", "bitfit", "RTE", "quiet"),
        ("published", "sam", "AVG", "quiet"),
        ("parameters", "sam", "paper", ""),
        ("parameters", "mixout", "paper", "quiet"),
        ("parameters", "random", "paper", "quiet"),
        ("parameters", "lora", "changed", "alarm"),
        ("parameters", "sam", "changed", ""),
        ("significance_pooled", "fish", "RTE", "good"),
        ("significance_pooled", "bitfit", "RTE", "quiet"),
        ("significance_pooled", "denser", "RTE", ""),
    ],
)
def test_tones(strange: dict[str, Table], table: str, method: str, column: str, tone: str) -> None:
    assert cells(strange[table], method)[column].tone == tone


def test_marks_and_values(strange: dict[str, Table], tmp_path: Path) -> None:
    lora, sam = (cells(strange["results"], method) for method in ("lora", "sam"))
    assert (lora["RTE"].rank, lora["RTE"].value) == (1, pytest.approx(76.6333333))
    assert sam["tuned %"].value == 0.5 and cells(strange["results"], "fish")["CB"].value is None
    assert cells(strange["step_time"], "sam")["RTE"].value == pytest.approx(0.0715)
    assert cells(strange["parameters"], "stochastic_tuning")["selected"].value == 401
    # A method alone is not the best of anything.
    alone = cells(results(frame(tmp_path, record())), "sam")
    assert alone["RTE"].tone == alone["AVG"].tone == ""


# --- Edges of each table


def test_one_seed_and_no_score(tmp_path: Path) -> None:
    table = results(frame(tmp_path, record(), failure("rte", "lora", 0, "x")))
    assert "mean over 1 seed" in table.caption and cells(table, "sam")["RTE"].spread == ""
    failed = frame(tmp_path / "none", failure("rte", "sam", 0, "x"))
    none, *_, weights = make(failed, "sam", judge(failed))
    assert none.caption == "No cell has a test value yet." and weights.notes == ()


def test_an_average_over_fewer_cells_says_so(tmp_path: Path) -> None:
    directory = write(tmp_path, *(record("rte", "sam", k) for k in (0, 1)))
    plan(["rte"], ["sam"], 3).write(directory)
    found = cells(results(load(directory)), "sam")
    assert (found["RTE"].note, found["AVG"].note) == ("n = 2, 1 missing", "not all cells")


@pytest.mark.parametrize(("wsc", "average"), [(0.6, "55.00"), (None, "–")])
def test_the_most_frequent_answer_has_an_average_over_all_tasks(
    tmp_path: Path, wsc: float | None, average: str
) -> None:
    def answering(task: str, majority: float | None) -> Record:
        primary = Primary(name=TASKS[task].metric, dev=0.5, test=0.6, majority=majority)
        return record(task, primary=primary)

    table = results(frame(tmp_path, answering("rte", 0.5), answering("wsc", wsc)))
    assert cells(table, "most frequent answer")["AVG"].text == average
    none = results(frame(tmp_path / "none", answering("rte", None)))
    assert [row[0].text for row in none.rows] == ["sam"]


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
    assert "not corrected" not in " ".join(table.notes)


def test_one_test_another_table_and_nothing_published(tmp_path: Path) -> None:
    values = enumerate((0.75, 0.76, 0.78))
    table = beside.published(frame(tmp_path, *(record(seed=k, test=v) for k, v in values)))
    assert "one equal pair in twenty would come out unequal" in table.notes[1]
    reduced = beside.published(frame(tmp_path / "c", record(setting={"drop_train": 0.1})))
    assert "Fu et al. 2023, Table 2" in reduced.caption and reduced.rows[0][1].text == "75.74"
    assert beside.published(frame(tmp_path / "d", record("sst", "sam"))) is None


def test_the_published_average_is_beside_seven_tasks(tmp_path: Path) -> None:
    records = [record(t, "sam", k, 0.7 + k / 50) for t in SEVEN for k in (0, 1, 2)]
    table = beside.published(frame(tmp_path, *records))
    average = cells(table, "sam")["AVG"]
    assert (average.text, average.spread, average.note) == ("77.12", "1.51", "−5.12 lower")
    assert not [note for note in table.notes if "AVG" in note]
    (line,) = lines(table, average=True)
    assert (line["n"], line["published_mean"], line["word"]) == (None, 77.12, "lower")


# --- Times


def timed(
    seconds: float | None, task: str = "rte", method: str = "sam", seed: int = 0, **changes: Any
) -> Record:
    """A cell of `seconds` of steps; `step` milliseconds each if given."""
    step = changes.pop("step", None)
    cost = Cost(train_seconds=seconds, select_seconds=0.0, step_milliseconds_median=step)
    return record(task, method, seed, cost=cost, **changes)


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
    found = [timed(s, task) for task, s in zip(("cola", "rte", "cb"), seconds, strict=True)]
    table, *_ = times(frame(tmp_path, *found))
    assert [column.subtitle for column in table.columns] == ["", *[unit] * 4]
    assert table.title == f"Time to stop ({unit})"
    assert [cells(table, "sam")[title].text for title in ("CoLA", "RTE", "CB")] == texts


def test_a_step_of_seconds(tmp_path: Path) -> None:
    _, table, _ = times(frame(tmp_path, timed(9.0, step=2500.0)))
    assert table.title == "Time per step (s)"
    assert lines(table)[0]["mean_milliseconds"] == pytest.approx(2500)


def test_the_average_of_times(tmp_path: Path) -> None:
    records = [timed(10.0 * i, t, seed=s) for i, t in enumerate(SEVEN, 1) for s in (0, 1)]
    records += [timed(5.0, t, "random") for t in SEVEN[:-1]]
    table, *_ = times(frame(tmp_path, *records))
    assert cells(table, "sam")["AVG"] == Cell("40.00", 40.0, spread="0.00", note="paper 2.02 h")
    assert cells(table, "random")["AVG"] == Cell(note="paper 2.62 h")
    # One seed has no deviation; one task is not the paper's seven.
    alone, *_ = times(frame(tmp_path / "b", timed(5.0)))
    assert cells(alone, "sam")["AVG"] == Cell("5.00", 5.0)


def test_the_papers_hours_are_beside_no_variant(tmp_path: Path) -> None:
    denser = {"method": {"name": "sam", "density": 0.01}}
    records = [timed(5.0, method=label, setting=denser) for label in ("denser", "densest")]
    table, *_ = times(frame(tmp_path, *records))
    assert not table.holds("published_hours")
    assert not any("hours" in note for note in table.notes)


def test_weights_of_what_the_paper_does_not_have(tmp_path: Path) -> None:
    table = parameters(frame(tmp_path, record(method="fish")))
    assert table.notes == () and cells(table, "fish")["paper"] == Cell()


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
        replace(table, **bad)
