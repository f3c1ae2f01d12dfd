"""The errors that have a meaning of their own."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: a configuration, a data file, a model directory, a record or a command line.

    Each problem is one line that says what is wrong, what was got, what is allowed and where.
    The command line prints them all and exits with 2; nothing half-written is left.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, ...]]:
        # ValueError would rebuild itself from the joined text when it crosses a process border.
        return type(self), self.problems


class NotFinite(ArithmeticError):
    """A loss or an importance is NaN or infinite: the cell has failed, the message says where."""


def suggest(name: str, known: Iterable[str]) -> str:
    """`did you mean sam? known: random, sam`, or only the known names if none is close."""
    names = [*known]
    close = difflib.get_close_matches(str(name), names, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(names)}"


def printable(text: object) -> str:
    """`text` on one line, with escapes for what a terminal would obey or cannot show.

    For whatever comes from a file: control characters, line ends, lone surrogates.
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in str(text)
    )
