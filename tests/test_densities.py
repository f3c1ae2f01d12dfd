"""Rows that differ in their density alone, out of a benchmark of all sorts."""

from support.claims import frame_of
from support.records import failure, record

from jiant_sparse.report import densities


def row(label, name="sam", tasks=("rte",), seeds=2, **fields):
    setting = {"method": {"name": name, **fields}}
    return [record(task, label, k, 0.7, setting=setting) for task in tasks for k in range(seeds)]


def curves(*rows):
    found = densities.curves(frame_of(*(item for line in rows for item in line)))
    return {key: [*points.items()] for key, points in found.items()}


def test_a_curve_for_each_method_of_two_densities_ascending():
    assert curves(
        row("sam-0.1", density=0.1),
        row("sam", density=0.005),
        row("sam-0.01", density=0.01),
        row("random", "random", density=0.005),
        row("random-1", "random", density=1),
        row("mag_pruning", "mag_pruning", density=0.005),
        row("full_tuning", "full_tuning"),
    ) == {
        "random": [(0.005, "random"), (1.0, "random-1")],
        "sam": [(0.005, "sam"), (0.01, "sam-0.01"), (0.1, "sam-0.1")],
    }


def test_one_density_is_no_curve():
    assert curves(row("sam", density=0.005), row("random", "random", density=0.01)) == {}


def test_rows_that_differ_otherwise_are_not_of_one_curve():
    assert curves(
        row("a", density=0.005, scope="per_tensor"),
        row("b", density=0.005, scope="global"),
        row("c", density=0.01, scope="global"),
        row("d", density=0.1, scope="per_tensor"),
        row("e", density=0.2, scope="global"),
    ) == {"sam": [(0.005, "b"), (0.01, "c"), (0.2, "e")]}


def test_of_two_equal_rows_the_first_stands_on_the_curve():
    rows = [row("a", density=0.005), row("b", density=0.005), row("c", density=0.01)]
    assert curves(*rows) == {"sam": [(0.005, "a"), (0.01, "c")]}


def test_other_fields_may_differ_by_task_and_a_task_may_lack():
    def by_task(label, density, **burn_in):
        return [r for t, b in burn_in.items() for r in row(label, tasks=(t,), density=density, b=b)]

    assert curves(
        by_task("a", 0.005, rte=700, cola=600),
        by_task("b", 0.01, rte=700),
        by_task("c", 0.1, rte=600, cola=600),
        by_task("d", 0.2, cola=600),
    ) == {"sam": [(0.005, "a"), (0.01, "b"), (0.2, "d")]}


def test_what_is_not_one_density_is_on_no_curve():
    mixed = row("mixed", density=0.01, seeds=1) + row("mixed", density=0.02, seeds=2)[1:]
    strange = [row(f"x{k}", density=value) for k, value in enumerate((None, "0.1", True, 0, 1.5))]
    unknown = [record("rte", "odd", 0, 0.7, setting={"method": "sam"})]
    known = [row("a", density=0.005), row("b", density=0.05)]
    expected = {"sam": [(0.005, "a"), (0.05, "b")]}
    assert curves(mixed, *strange, unknown, *known) == expected


def test_a_failed_cell_still_says_its_density():
    assert (
        curves(
            row("sam", density=0.01),
            [failure("rte", "random", 0, "x")],
            [failure("cb", "sam", 0, "x")],
        )
        == {}
    )
    two = row("a", density=0.01) + row("b", density=0.02)
    lost = [r for r in two if r.cell.method == "a"] + [
        record("rte", "b", 0, None, setting={"method": {"name": "sam", "density": 0.02}})
    ]
    assert curves(lost) == {"sam": [(0.01, "a"), (0.02, "b")]}


def test_rows_of_other_training_are_not_of_one_curve():
    def trained(label, density, **train):
        method = {"name": "sam", "density": density}
        return [record("rte", label, 0, 0.7, setting={"method": method, **train})]

    fast, slow = {"train": {"learning_rate": 1e-3}}, {"train": {"learning_rate": 1e-4}}
    assert curves(
        trained("a", 0.005, **slow),
        trained("b", 0.01, **fast),
        trained("c", 0.1, **fast),
        trained("d", 0.2, **slow, drop_train=0.1),
    ) == {"sam": [(0.01, "b"), (0.1, "c")]}


def test_a_row_whose_seeds_differ_otherwise_is_on_no_curve():
    mixed = row("m", density=0.1, seeds=1, burn_in=600)
    mixed += row("m", density=0.1, seeds=2, burn_in=700)[1:]
    known = [row("a", density=0.005, burn_in=700), row("b", density=0.05, burn_in=700)]
    assert curves(mixed, *known) == {"sam": [(0.005, "a"), (0.05, "b")]}
    # A seed of its own is no difference.
    assert curves(*known, row("c", density=0.2, seeds=3, burn_in=700))["sam"][-1] == (0.2, "c")
