"""The errors that callers tell apart, and how errors quote what they found."""

import difflib
from collections.abc import Iterable

LONGEST_PROBLEM = 2000
MOST_NAMED = 100


class InputError(ValueError):
    """Bad input: a configuration, a data file, a model directory, a record or a command line.

    Each problem is one line that says what is wrong, what was got, what is allowed and where.
    The command line prints all problems and exits with 2; nothing half-written is left.

    >>> InputError("f.yaml: density is 2; it must be in (0, 1]").problems
    ('f.yaml: density is 2; it must be in (0, 1]',)
    """

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(map(_without_middle, problems))
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, ...]]:
        # Between processes ValueError would be rebuilt from the joined text.
        return type(self), self.problems


class NotFinite(ArithmeticError):
    """A loss or an importance is NaN or infinite; the message says where. The cell has failed."""


def _without_middle(problem: str) -> str:
    # A quoted value can have any length, and what is allowed comes after it.
    half = LONGEST_PROBLEM // 2
    if len(problem) <= LONGEST_PROBLEM:
        return problem
    return f"{problem[:half]} ... {problem[-half:]}"


def cut(text: str, most: int) -> str:
    """Cut `text` to its first `most` characters and three dots, if it is longer.

    >>> cut("abcdef", 3)
    'abc...'
    """
    return text if len(text) <= most else f"{text[:most]}..."


def shown(value: object) -> str:
    """Quote a value in an error: its repr, cut to 100 characters."""
    return cut(repr(value), 100)


def suggest(name: str, known: Iterable[str]) -> str:
    """Name the closest known name, if one is close, and the known names.

    Of more than MOST_NAMED names the first are named and compared.

    >>> suggest("sma", ["random", "sam"])
    'did you mean sam? known: random, sam'
    """
    names = [*known]
    told = names[:MOST_NAMED]
    close = difflib.get_close_matches(cut(str(name), 100), told, n=1)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(told)}{more}"


def printable(text: object) -> str:
    """Escape what a terminal would obey or cannot show: control characters, line ends, surrogates.

    For all text that comes from files.

    >>> print(printable("a\\x1b[2J"))
    a\\x1b[2J
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in str(text)
    )
