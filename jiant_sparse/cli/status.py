"""`jiant-sparse status`: which cells are done, running and waiting, and which failed."""

import dataclasses
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jiant_sparse.grid.status import Running, Status, TimeLeft

WIDTH = 100
LISTED = 20
"""Failed cells, and broken records, that are named; further ones are counted."""
LATE_SECONDS = 30.0
"""Age from which a heartbeat is shown: one comes every 10 s."""
_CLEAR = "\x1b[H\x1b[2J"


def status(
    directory: Annotated[
        Path, typer.Argument(help="<output> for all benchmarks in it, or <output>/<benchmark>.")
    ],
    watch: Annotated[
        float | None,
        typer.Option(min=0.1, help="Repeat every so many seconds until all cells have ended."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show which cells are done, running, waiting or failed, and the time left; changes no file."""
    from jiant_sparse.grid.status import look

    if as_json and watch is not None:
        raise typer.BadParameter("prints one document; leave out --watch", param_hint="--json")
    try:
        while True:
            found = look(directory)
            if as_json:
                benchmarks = [dataclasses.asdict(status) for status in found]
                typer.echo(json.dumps({"benchmarks": benchmarks}, indent=1))
            else:
                _show("\n\n".join(map(describe, found)), again=watch is not None)
            if watch is None or not any(status.time_left for status in found):
                return
            time.sleep(watch)
    except KeyboardInterrupt:
        return  # how watching ends


def describe(status: "Status") -> str:
    """Word the state of one benchmark, in lines of at most WIDTH columns."""
    counts = [f"{status.done} done", f"{len(status.running)} running"]
    counts += [f"{len(status.failed)} failed"]
    counts += [f"{len(status.broken)} broken"] if status.broken else []
    marked = f" ({status.with_checkpoint} with a checkpoint)" if status.with_checkpoint else ""
    counts += [f"{status.waiting} waiting{marked}"]
    lines = _wrapped(f"{status.benchmark}: {status.cells} cells: {', '.join(counts)}")
    lines += _running(status.running)
    lines += _listed("failed", [f"{cell.cell}: {cell.error}" for cell in status.failed])
    lines += _listed("broken", [f"{cell.path}: {cell.problem}" for cell in status.broken])
    lines += _wrapped(_left(status.time_left, status.done)) if status.time_left else []
    return "\n".join(lines)


def _show(text: str, *, again: bool) -> None:
    """Print `text`. again: on a terminal in place of the one before, with --watch."""
    if again:
        text = _CLEAR + text if sys.stdout.isatty() else text + "\n"
    typer.echo(text)


def _running(cells: "Sequence[Running]") -> list[str]:
    if not cells:
        return []
    late = any(cell.heartbeat_seconds > LATE_SECONDS for cell in cells)
    rows = [["running", "owner", "phase", "step", "best dev", "last heartbeat"]]
    for cell in cells:
        age = cell.heartbeat_seconds
        rows.append(
            [
                f"  {cell.cell}",
                cell.owner or "unknown",
                cell.phase or "-",
                f"{cell.step}/{cell.steps}" if cell.steps else str(cell.step or "-"),
                "-" if cell.score is None else f"{100 * cell.score:.1f} %",
                f"{age:.0f} s ago" if age > LATE_SECONDS else "",
            ]
        )
    return _table([row if late else row[:-1] for row in rows])


def _table(rows: list[list[str]]) -> list[str]:
    """Align rows of texts; the first two columns are cut to share the room that is left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = WIDTH - sum(widths[2:]) - 2 * (len(widths) - 1)
    widths[1] = min(widths[1], max(room - widths[0], 2 * room // 5))
    widths[0] = min(widths[0], room - widths[1])
    lines = ("  ".join(map(_fitted, row, widths)) for row in rows)
    return [line.rstrip() for line in lines]


def _fitted(text: str, width: int) -> str:
    """Pad `text` to `width`; cut the middle of a longer one, for a pid or seed ends it."""
    end = (width - 3) // 2
    return text.ljust(width) if len(text) <= width else f"{text[: width - 3 - end]}...{text[-end:]}"


def _listed(title: str, entries: Sequence[str]) -> list[str]:
    lines = [title] if entries else []
    for entry in entries[:LISTED]:
        lines += _wrapped(f"  {entry}")
    return lines + ([f"  and {len(entries) - LISTED} more"] if len(entries) > LISTED else [])


def _left(left: "TimeLeft", done: int) -> str:
    from jiant_sparse.units import duration

    if left.seconds is None:
        return f"time left: not measured: no {'done cell went as far' if done else 'cell is done'}"
    how = f"with {left.at_a_time} at a time" if left.at_a_time > 1 else "with one at a time"
    basis = ", ".join(f"{cells} by {near}" for near, cells in left.basis.items())
    notes = [f"medians of done cells: {basis}"]
    if left.bounded:
        notes.append(f"{left.bounded} to the last step, early stopping may end sooner")
    if left.unmeasured:
        notes.append(f"{left.unmeasured} more not measured: no done cell went as far")
    about = "at most" if left.bounded and not left.unmeasured else "about"
    return f"time left: {about} {duration(left.seconds)} {how} ({'; '.join(notes)})"


def _wrapped(text: str) -> list[str]:
    """Wrap to at most three lines: the first line of an error can be long."""
    return textwrap.wrap(
        text,
        WIDTH,
        subsequent_indent="      ",
        break_on_hyphens=False,
        max_lines=3,
        placeholder=" ...",
    )
