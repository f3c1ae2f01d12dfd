"""The main table: every method on every task, as the paper's Tables 1 and 2."""

from statistics import fmean

from jiant_sparse.report import caveats, words
from jiant_sparse.report.numbers import fixed, percent
from jiant_sparse.report.published import AVERAGE
from jiant_sparse.report.summary import (
    Average,
    Group,
    Row,
    Summary,
    by_step,
    share_percent,
    test_percent,
)
from jiant_sparse.report.table import Cell, Column, Table

FIELDS = (
    *("benchmark", "task", "method", "n", "seeds", "mean", "std", "rank", "std_rank", "majority"),
    *("tuned_percent", "drawn_percent", "changed_percent", "missing", "failed", "undefined"),
)
SHARES = ("tuned", "drawn", "changed")


def results(summary: Summary) -> Table:
    """Test metric in percent: mean and population std with their ranks, AVG as in the paper, shares
    of tuned and changed weights, and what always giving the most frequent answer scores."""
    usual = words.seeds(summary)
    heads = [Column(task.title, words.metric(task)) for task in summary.tasks]
    shares = (Column("tuned %"), Column("changed %"))
    best = [_contested([row.groups[i] for row in summary.rows]) for i in range(len(heads))]
    averages = _contested([row.average for row in summary.rows])
    rows = [
        (
            Cell(row.label, note=row.key if row.key and row.key != row.label else ""),
            *(_score(group, usual, good) for group, good in zip(row.groups, best, strict=True)),
            _average(row, averages),
            *(_share(row, count) for count in ("tuned", "changed")),
        )
        for row in summary.rows
    ]
    return Table(
        name="results",
        title="Results",
        caption=_caption(usual),
        columns=(Column("method"), *heads, Column("AVG", "all tasks"), *shares),
        rows=(*rows, *_baseline(summary)),
        notes=tuple(filter(None, _notes(summary))),
        fields=FIELDS,
        lines=(
            *(_line(summary, group) for group in summary.groups),
            *(_average_line(summary, row) for row in summary.rows),
        ),
    )


def _caption(usual: int | None) -> str:
    if usual is None:
        return "No cell has a test value yet."
    over, marked, deviations = "over 1 seed", "a column's largest means", ""
    if usual > 1:
        over = f"± population standard deviation over {usual} seeds"
        marked = "a column's largest means and smallest deviations"
        deviations = " and the mean of the task deviations"
    return (
        f"Test metric in percent: mean {over}, unless n says otherwise. Marked 1 to 3: {marked}. "
        f"AVG is the mean of the task means{deviations}. "
        "Tuned, changed: shares of the encoder's weights."
    )


def _notes(summary: Summary) -> list[str]:
    return [
        caveats.chosen_on_test(summary),
        *caveats.left_out(summary),
        *words.footnotes(summary),
        *words.below_majority(summary),
        caveats.per_step(summary.rows),
        words.not_counted(summary),
    ]


def _contested(parts: list[Group] | list[Average]) -> bool:
    """Whether the first rank has anyone to be ahead of."""
    return sum(part.rank is not None for part in parts) > 1


def _score(group: Group, usual: int | None, contested: bool) -> Cell:
    gaps = words.gaps(group)
    score = group.score
    if score.mean is None:
        return Cell(gaps, tone="alarm") if gaps else Cell(tone="quiet")
    number = f"n = {score.n}" if score.n != usual or gaps else ""
    return Cell(
        fixed(score.mean, 2),
        value=score.mean,
        rank=group.rank,
        spread="" if score.std is None else fixed(score.std, 2),
        spread_rank=group.std_rank,
        note=", ".join(part for part in (number, gaps) if part),
        tone="good" if contested and group.rank == 1 else "",
    )


def _average(row: Row, contested: bool) -> Cell:
    average = row.average
    if average.mean is None:
        return Cell(f"incomplete {average.with_value}/{average.tasks}", tone="quiet")
    return Cell(
        fixed(average.mean, 2),
        value=average.mean,
        rank=average.rank,
        spread="" if average.std is None else fixed(average.std, 2),
        spread_rank=average.std_rank,
        note="" if row.complete else "not all cells",
        tone="good" if contested and average.rank == 1 else "",
    )


def _share(row: Row, count: str) -> Cell:
    share = share_percent(row.ok, count)
    note = "per step" if count == "tuned" and by_step(row.ok) else ""
    return Cell(percent(share), value=share, note=note)


def _baseline(summary: Summary) -> list[tuple[Cell, ...]]:
    """The row of the most frequent answer: no method, so it has no rank; none if nothing is
    known. Its AVG, too, is over all tasks or not at all."""
    scores = [task.majority for task in summary.tasks]
    if all(score is None for score in scores):
        return []
    average = _average_majority(summary)
    cells = [Cell(fixed(score, 2), value=score, tone="quiet") for score in (*scores, average)]
    head = Cell("most frequent answer", tone="quiet")
    return [(head, *cells, Cell(tone="quiet"), Cell(tone="quiet"))]


def _average_majority(summary: Summary) -> float | None:
    scores = [task.majority for task in summary.tasks]
    known = [score for score in scores if score is not None]
    return fmean(known) if known and len(known) == len(scores) else None


def _line(summary: Summary, group: Group) -> tuple[object, ...]:
    return (
        *(summary.benchmark, group.task.label, group.method, group.score.n),
        " ".join(str(seed) for seed in _seeds(group)),
        *(group.score.mean, group.score.std, group.rank, group.std_rank, group.task.majority),
        *(share_percent(group.ok, count) for count in SHARES),
        None if group.missing is None else len(group.missing),
        *(len(group.failed), len(group.undefined)),
    )


def _average_line(summary: Summary, row: Row) -> tuple[object, ...]:
    """AVG is over tasks and has no n; the counts of cells are over all tasks."""
    average, missing = row.average, [group.missing for group in row.groups]
    return (
        *(summary.benchmark, AVERAGE, row.label, None, None),
        *(average.mean, average.std, average.rank, average.std_rank, _average_majority(summary)),
        *(share_percent(row.ok, count) for count in SHARES),
        None if None in missing else sum(len(seeds or ()) for seeds in missing),
        sum(len(group.failed) for group in row.groups),
        sum(len(group.undefined) for group in row.groups),
    )


def _seeds(group: Group) -> list[int]:
    """Those behind the mean."""
    return [record.cell.seed for record in group.records if test_percent(record) is not None]
