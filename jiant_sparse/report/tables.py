"""The summary as CSV, as Markdown and as text for a terminal."""

import csv
import io
import re
import textwrap
from collections.abc import Sequence

from jiant_sparse.report import words
from jiant_sparse.report.numbers import DASH, fixed, percent, printable, signed
from jiant_sparse.report.published import Value
from jiant_sparse.report.summary import Average, Group, Row, Summary, share_percent

WIDTH = 100
# Lines of one kind of gap or warning in a table's notes.
MOST = 20
COLUMNS = (
    *("benchmark", "task", "method", "n", "mean", "std", "rank", "published_mean"),
    *("published_std", "difference", "tuned_percent", "changed_percent", "comparable"),
    *("missing", "failed"),
)


def as_csv(summary: Summary) -> str:
    """One line per task and method, values in percent to 6 decimals; an empty field is unknown."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for group in summary.groups:
        comparable = None if group.departures is None or not group.published else "no"
        if comparable and not group.departures:
            comparable = "yes"
        writer.writerow(
            [
                *(summary.benchmark, group.task.label, group.method, group.score.n),
                *(_plain(group.score.mean), _plain(group.score.std), group.rank),
                *_published(group.published),
                *(_plain(group.difference), _plain(share_percent(group.ok, "tuned"))),
                *(_plain(share_percent(group.ok, "changed")), comparable),
                *(None if group.missing is None else len(group.missing), len(group.failed)),
            ]
        )
    return text.getvalue()


def as_markdown(summary: Summary) -> str:
    """The main table and the published one in GitHub's Markdown."""
    parts = [f"### {_markdown(summary.benchmark)}", _lead(summary)]
    parts.append(_pipes(*_results(summary, digits=2)))
    parts += [f"- {_markdown(line)}" for line in _remarks(summary)]
    head, body = _compared(summary, digits=2)
    if body:
        source, verdict = _published_lead(summary)
        parts += [source, f"**{_markdown(verdict)}**"]
        parts.append(_pipes(head, body))
    blocks = "\n\n".join(parts)
    return re.sub(r"(?m)^(- .*)\n\n(?=- )", r"\1\n", blocks) + "\n"


def as_text(summary: Summary) -> str:
    """Both tables for a terminal of 100 columns; wide tables continue below themselves."""
    lines = [printable(summary.benchmark), _lead(summary), ""]
    lines += _folded(*_results(summary, digits=1))
    remarks = [part for line in _remarks(summary) for part in _wrapped(line)]
    lines += ["", *remarks] if remarks else []
    head, body = _compared(summary, digits=1)
    if body:
        lead = [part for line in _published_lead(summary) for part in _wrapped(line)]
        lines += ["", *lead, "", *_folded(head, body)]
    return "\n".join(lines) + "\n"


def _lead(summary: Summary) -> str:
    number = words.seeds(summary)
    if number is None:
        return f"{words.status(summary)}. No cell has a test value yet."
    over = "mean over 1 seed" if number == 1 else f"mean±std over {number} seeds"
    return f"{words.status(summary)}. Test metric in percent: {over} (rank)."


def _published_lead(summary: Summary) -> list[str]:
    source = f"{words.SOURCE}, {words.tables(summary.groups)}: {words.SETTING}"
    sign = words.comparability(summary)[1]
    return [f"Published ({source}) and difference.", printable(sign[0].upper() + sign[1:] + ".")]


def _remarks(summary: Summary) -> list[str]:
    """Footnotes, then every gap with its reason, then warnings; long lists end with a count."""
    failed, missing = [], []
    for group in summary.groups:
        where = f"{group.task.label} / {group.method}"
        for record in group.failed:
            error = _first_line(record.error or "no message recorded")
            failed.append(f"failed: {where} seed {record.cell.seed}: {error}")
        if group.missing:
            missing.append(f"missing: {where} {words.seeds_of(group.missing)}")
    unusable = [
        f"unusable: {item.path}: {_first_line('; '.join(item.problems))}"
        for item in summary.skipped
    ]
    lines = [] if _no_star(summary) else ["* not all planned cells count."]
    lines += words.footnotes(summary)
    for part in (failed, missing, unusable, words.warnings(summary)):
        more = len(part) - MOST
        lines += part[:MOST] + ([f"... and {more} more; index.html has all."] if more > 0 else [])
    return [printable(line) for line in lines]


def _first_line(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= 2 * WIDTH else line[: 2 * WIDTH] + "…"


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _no_star(summary: Summary) -> bool:
    return all(group.complete for group in summary.groups if group.score.n)


def _results(summary: Summary, digits: int) -> tuple[list[list[str]], list[list[str]]]:
    """Two lines of heads and the body: tasks, AVG, tuned and changed percent."""
    usual = words.seeds(summary)
    titles = [printable(task.title) for task in summary.tasks]
    metrics = [printable(words.metric(task)) for task in summary.tasks]
    head = [["method", *titles, "AVG", "tuned %", "changed %"], ["", *metrics, "", "", ""]]
    body = [
        [
            printable(row.label),
            *(_score(group, usual, digits) for group in row.groups),
            _average(row, digits),
            percent(share_percent(row.ok, "tuned")),
            percent(share_percent(row.ok, "changed")),
        ]
        for row in summary.rows
    ]
    return head, body


def _score(group: Group, usual: int | None, digits: int) -> str:
    if group.score.mean is None:
        return words.gaps(group) or DASH
    number = f" n={group.score.n}" if group.score.n != usual else ""
    star = "" if group.complete else "*"
    return f"{_pm(group.score.mean, group.score.std, digits)}{number} ({group.rank}){star}"


def _average(row: Row, digits: int) -> str:
    average = row.average
    if average.mean is None:
        return f"incomplete {average.with_value}/{average.tasks}"
    star = "" if row.complete else "*"
    return f"{_pm(average.mean, average.std, digits)} ({average.rank}){star}"


def _compared(summary: Summary, digits: int) -> tuple[list[list[str]], list[list[str]]]:
    """Heads and body of published values with differences; rows without any are left out."""
    head = [["method", *(printable(task.title) for task in summary.tasks), "AVG"]]
    body = [
        [printable(row.label), *(_gap(part, digits) for part in (*row.groups, row.average))]
        for row in summary.rows
        if _has_published(row)
    ]
    return head, body


def _has_published(row: Row) -> bool:
    return any(group.published for group in row.groups)


def _gap(part: Group | Average, digits: int) -> str:
    if part.published is None:
        return DASH
    value = _pm(part.published.mean, part.published.std, digits)
    return f"{value} ({signed(part.difference, digits)})"


def _pm(mean: float, std: float | None, digits: int) -> str:
    return fixed(mean, digits) + ("" if std is None else f"±{fixed(std, digits)}")


def _folded(head: list[list[str]], body: list[list[str]]) -> list[str]:
    """A table whose first column repeats wherever the others would pass the width."""
    rows = [*head, *body]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for columns in _pieces(widths):
        lines += [""] if lines else []
        block = [_line([row[0], *(row[i] for i in columns)], widths, columns) for row in rows]
        rule = "─" * max(map(len, block))
        lines += [*block[: len(head)], rule, *block[len(head) :]]
    return lines


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[int]) -> str:
    rest = [cell.rjust(widths[i]) for cell, i in zip(cells[1:], columns, strict=True)]
    return "  ".join([cells[0].ljust(widths[0]), *rest]).rstrip()


def _pieces(widths: Sequence[int]) -> list[list[int]]:
    """The columns after the first, in as few runs as fit into WIDTH."""
    pieces: list[list[int]] = []
    used = WIDTH + 1
    for column, width in enumerate(widths[1:], 1):
        if used + 2 + width > WIDTH:
            pieces.append([])
            used = widths[0]
        pieces[-1].append(column)
        used += 2 + width
    return pieces


def _pipes(head: list[list[str]], body: list[list[str]]) -> str:
    columns = zip(*head, strict=True)
    names = [f"{top} ({''.join(rest)})" if any(rest) else top for top, *rest in columns]
    rows = [names, ["---", *["--:"] * (len(names) - 1)], *body]
    return "\n".join(
        "| " + " | ".join(cell if i == 1 else _markdown(cell) for cell in row) + " |"
        for i, row in enumerate(rows)
    )


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|&#~])", r"\\\1", printable(text))


def _plain(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _published(value: Value | None) -> tuple[float | None, float | None]:
    return (None, None) if value is None else (value.mean, value.std)
