"""The errors that have a meaning of their own."""

import difflib
from collections.abc import Iterable

LONGEST_PROBLEM = 2000
MOST_NAMED = 100


class InputError(ValueError):
    """Bad input: a configuration, a data file, a model directory, a record or a command line.

    Each problem is one line that says what is wrong, what was got, what is allowed and where.
    The command line prints them all and exits with 2; nothing half-written is left.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(map(_without_middle, problems))
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, ...]]:
        # ValueError would rebuild itself from the joined text when it crosses a process border.
        return type(self), self.problems


class NotFinite(ArithmeticError):
    """A loss or an importance is NaN or infinite: the cell has failed, the message says where."""


def _without_middle(problem: str) -> str:
    # It may quote what was found, which can have any length; what is allowed stands at the end.
    half = LONGEST_PROBLEM // 2
    if len(problem) <= LONGEST_PROBLEM:
        return problem
    return f"{problem[:half]} ... {problem[-half:]}"


def cut(text: str, most: int) -> str:
    """`text`, or its first `most` characters and three dots."""
    return text if len(text) <= most else f"{text[:most]}..."


def shown(value: object) -> str:
    """A value as an error quotes it: its repr, cut so that there is room for what is allowed."""
    return cut(repr(value), 100)


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean sam? known: random, sam`, or only the known names if none is close.

    Of more than MOST_NAMED names the first are told and compared.
    """
    names = [*known]
    told = names[:MOST_NAMED]
    close = difflib.get_close_matches(cut(str(name), 100), told, n=1)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(told)}{more}"


def printable(text: object) -> str:
    """`text` on one line, with escapes for what a terminal would obey or cannot show.

    For whatever comes from a file: control characters, line ends, lone surrogates.
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in str(text)
    )
