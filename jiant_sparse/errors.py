"""The one error that a user can cause and mend."""


class InputError(ValueError):
    """Bad input: a configuration, a data file, a model directory, a record or a command line.

    Each problem is one line that says what is wrong, what was got, what is allowed and where.
    The command line prints them all and exits with 2; nothing has been written by then.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, ...]]:
        # ValueError would rebuild itself from the joined text when it crosses a process border.
        return type(self), self.problems
