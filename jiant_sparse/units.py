"""Words for durations, sizes and counts, the same in the terminal, the log and the report."""


def duration(seconds: float) -> str:
    """Name a duration of at least 0 seconds in the unit that keeps it short.

    >>> [duration(90), duration(3000), duration(36_000), duration(864_000)]
    ['90 s', '50 min', '10.0 h', '10.0 days']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def size(count: float) -> str:
    """Name a number of bytes in powers of 1000, with three digits.

    >>> [size(999), size(52_300), size(999_600), size(1_200_000_000), size(1234e12)]
    ['999 B', '52.3 kB', '1 MB', '1.2 GB', '1234 TB']
    """
    for unit in ("B", "kB", "MB", "GB"):
        # What rounds to 1000 is 1 of the next unit.
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB" if count < 999.5 else f"{count:.0f} TB"


def counted(count: int, noun: str) -> str:
    """Name a number of things whose noun has a plural in -s.

    >>> [counted(0, "run"), counted(1, "run"), counted(2, "run")]
    ['0 runs', '1 run', '2 runs']
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"
