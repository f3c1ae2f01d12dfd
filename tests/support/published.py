"""What only the tests read of the published files."""

import csv

from jiant_sparse.report import published


def figure4() -> list[tuple[int, int, float, float]]:
    """Figure 4: (stability rank, number of points, mean performance rank, its deviation).

    Rank 1 has the smallest deviation or the highest mean; the points are Tables 1 and 2 with
    their AVG columns; the deviation (half a bar) is that of the population.
    """
    path = published.DIRECTORY / "figure4_rank.csv"
    names = ("mean_performance_rank", "std")
    return [
        (int(row["stability_rank"]), int(row["n_points"]), *(float(row[name]) for name in names))
        for row in csv.DictReader(path.read_text("utf-8").splitlines())
    ]
