"""Several result sets side by side: two commits, two machines, two readings, or the paper."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.errors import InputError
from jiant_sparse.report import notes, output
from jiant_sparse.report.comparison.pairs import PUBLISHED
from jiant_sparse.report.comparison.sets import Difference, ResultSet, differences, label
from jiant_sparse.report.comparison.table import comparison
from jiant_sparse.report.figures import ranks
from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.page import render_template
from jiant_sparse.report.render import to_text, wrapped


@dataclass(frozen=True)
class Compared:
    """The page that was written, and the text for a terminal."""

    text: str
    page: Path


def compare(
    directories: Sequence[Path],
    *,
    baseline: Path | str | None = None,
    output_dir: Path | None = None,
) -> Compared:
    """Write a page, the table `comparison` and the figure of ranks into `output_dir`.

    output_dir: `<first directory>/report/compare` if None. baseline: what the other sets are
    compared with: one of `directories`, None for the first, or "published" for the tables of Fu et
    al. 2023, for which one directory is enough.

    Raises InputError for too few directories, a directory given twice, a baseline that is not
    among the directories, and as `collect` for each directory; then nothing is written.
    """
    base = _checked(directories, baseline)
    sets = label(_frames(directories))
    against = None if base is None else sets[base]
    apart = differences(sets)
    table = comparison(sets, against, apart)
    frames = [item.frame for item in sets]
    ranked = any(ranks.why_absent(frame) is None for frame in frames)
    figures = [ranks.ranks(frames)] if ranked else []
    page = render_template(
        "compare.html",
        sets=sets,
        base=against.label if against else PUBLISHED,
        against=against,
        apart=apart,
        table=table,
        figures=figures,
        notes=notes,
    )
    target = directories[0] / "report" / "compare" if output_dir is None else output_dir
    written = output.write(target, [table], figures, page)
    return Compared(_text(sets, against, apart, to_text(table)), written)


def _checked(directories: Sequence[Path], baseline: Path | str | None) -> int | None:
    """The place of the baseline among the directories; None for the published tables."""
    places = [os.path.realpath(directory) for directory in directories]
    for i, place in enumerate(places):
        if (first := places.index(place)) < i:
            raise InputError(f"{directories[i]}: is given twice, as {directories[first]} before")
    if not directories:
        raise InputError("there is nothing to compare; give a directory")
    if baseline == PUBLISHED:
        return None
    if len(directories) < 2:
        raise InputError(
            f"got one directory to compare, {directories[0]}; give two or more, or compare it with "
            f"--baseline {PUBLISHED}"
        )
    chosen = places[0] if baseline is None else os.path.realpath(baseline)
    if chosen not in places:
        known = ", ".join(map(str, directories))
        raise InputError(
            f"--baseline {baseline}: is not one of the directories that are compared; allowed are "
            f"{PUBLISHED}, {known}"
        )
    return places.index(chosen)


def _frames(directories: Sequence[Path]) -> list[Frame]:
    found: list[Frame] = []
    problems: list[str] = []
    for directory in directories:
        try:
            found.append(load(directory))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    return found


def _text(
    sets: Sequence[ResultSet], against: ResultSet | None, apart: Sequence[Difference], table: str
) -> str:
    said = [f"{name}: {frame.directory}: {notes.status(frame)}" for name, frame in sets]
    for name, frame in sets if against is None else ():
        said.append(f"{name} against {PUBLISHED}: {notes.comparability(frame)[1]}")
    if apart:
        said += ["", "What differs:"]
    elif len(sets) > 1:
        said += ["", "Nothing that is recorded of the runs differs."]
    for item in apart:
        values = (f"{one.label}: {value}" for one, value in zip(sets, item.values, strict=True))
        said.append(f"{item.name}: {'; '.join(values)}")
    return "\n".join([*(line for one in said for line in wrapped(one) or [""]), "", table])
