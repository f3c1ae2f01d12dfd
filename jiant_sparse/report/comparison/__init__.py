"""Several result sets side by side: two commits, two machines, two readings, or the paper."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.errors import InputError
from jiant_sparse.report import output, words
from jiant_sparse.report.arrange import summarise
from jiant_sparse.report.collect import collect
from jiant_sparse.report.comparison.sets import Difference, Set, differences, label
from jiant_sparse.report.comparison.table import PUBLISHED, comparison
from jiant_sparse.report.figures import ranks
from jiant_sparse.report.page import render_template
from jiant_sparse.report.render import to_text, wrapped
from jiant_sparse.report.summary import Summary


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
    """Write a page, the table `comparison` and the figure of ranks into `output_dir`,
    `<first directory>/report/compare` if None.

    baseline: what the others are held against: one of `directories`, None for the first, or
    "published" for the tables of Fu et al. 2023, for which one directory is enough.

    Raises InputError for too few directories, one given twice, a baseline that is none of them,
    and as `collect` for each; then nothing is written.
    """
    base = _checked(directories, baseline)
    sets = label(_summaries(directories))
    against = None if base is None else sets[base]
    apart = differences(sets)
    table = comparison(sets, against, apart)
    summaries = [item.summary for item in sets]
    figures = [ranks.ranks(summaries)] if _ranked(summaries) else []
    page = render_template(
        "compare.html",
        sets=sets,
        base=against.label if against else PUBLISHED,
        against=against,
        apart=apart,
        table=table,
        figures=figures,
        words=words,
    )
    target = directories[0] / "report" / "compare" if output_dir is None else output_dir
    written = output.write(target, [table], figures, page)
    return Compared(_text(sets, against, apart, to_text(table)), written)


def _checked(directories: Sequence[Path], baseline: Path | str | None) -> int | None:
    """The place of the baseline among the directories; None for the published tables."""
    places = [os.path.realpath(directory) for directory in directories]
    for i, place in enumerate(places):
        if place in places[:i]:
            first = directories[places.index(place)]
            raise InputError(f"{directories[i]}: is given twice, as {first} before")
    if baseline == PUBLISHED:
        if not directories:
            raise InputError("there is nothing to compare; give a directory")
        return None
    if len(directories) < 2:
        got = ", ".join(map(str, directories)) or "none"
        raise InputError(
            f"got one directory to compare, {got}; give two or more, or compare it with "
            f"--baseline {PUBLISHED}"
        )
    if baseline is None:
        return 0
    if os.path.realpath(baseline) not in places:
        known = ", ".join(map(str, directories))
        raise InputError(
            f"--baseline {baseline}: is not one of the directories that are compared; allowed are "
            f"{PUBLISHED}, {known}"
        )
    return places.index(os.path.realpath(baseline))


def _summaries(directories: Sequence[Path]) -> list[Summary]:
    found, problems = [], []
    for directory in directories:
        try:
            found.append(summarise(collect(directory)))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    return found


def _ranked(summaries: Sequence[Summary]) -> bool:
    return any(ranks.why_absent(summary) is None for summary in summaries)


def _text(sets: Sequence[Set], against: Set | None, apart: Sequence[Difference], table: str) -> str:
    said = [
        f"{item.label}: {item.summary.directory}: {words.status(item.summary)}" for item in sets
    ]
    if against is None:
        said += [
            f"{i.label} against {PUBLISHED}: {words.comparability(i.summary)[1]}" for i in sets
        ]
    if apart:
        said += ["", "What differs:"]
        for item in apart:
            pairs = zip(sets, item.values, strict=True)
            values = "; ".join(f"{one.label}: {value}" for one, value in pairs)
            said.append(f"{item.name}: {values}")
    elif len(sets) > 1:
        said += ["", "Nothing that is recorded of the runs differs."]
    return "\n".join([*(line for one in said for line in wrapped(one) or [""]), "", table])
