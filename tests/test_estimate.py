"""Time and disk of what is still to run, against numbers computed by hand."""

import pytest

from jiant_sparse.grid.estimate import Estimate, Past, brief, describe, estimate
from jiant_sparse.host.device import pick
from jiant_sparse.schema.record import Cost, Params, Provenance, Record, read

TRAIN = {"max_steps": 100, "eval_every": 20, "batch_size": 4}
HERE = "cpu" if pick("auto").type == "cpu" else "a GPU"


@pytest.fixture
def past(tmp_path):
    """past(job, **changes) writes a record: 100 steps in 50 s, 5 evaluations and the final 12 s,

    3 s of choosing, 70 s from start to end; a delta of 1,000 bytes, 400 of which are the head's.
    """
    written = []

    def write(job, *, cost=None, device=HERE, end="01:10", train=None, **changes) -> None:
        settings = job.cell.settings
        settings |= {"train": settings["train"] | (train or {})}
        key = job.cell.key.model_copy(update={"seed": 100 + len(written)})
        spent = {"train_seconds": 50.0, "eval_seconds": 12.0, "select_seconds": 3.0}
        weights = {"eligible": 9, "selected": 9, "added": 0, "trainable": 9, "changed": 9}
        fields = {
            **job.identity,
            "cell": key,
            "settings": settings,
            "status": "ok",
            "steps": 100,
            "stopped_by": "max_steps",
            "params": Params(head=100, **weights),
            "cost": Cost(**spent | {"delta_bytes": 1000} | (cost or {})),
            "history": [(step, 0.5) for step in range(20, 101, 20)],
            "provenance": Provenance(
                commit=None,
                dirty=None,
                versions={},
                device=device,
                threads=1,
                pooler=None,
                started="2026-01-01T00:00:00+00:00",
                finished=f"2026-01-01T00:{end}+00:00",
            ),
        }
        written.append(key)
        Record(**fields | changes).write(key.directory(tmp_path / "out"))

    return write


def test_nothing_is_made_up_without_a_record(make_job, past, tmp_path):
    jobs = [make_job("cb", "sam", {"density": 0.1}, TRAIN)]
    past(jobs[0], inputs={"model": "another"})
    past(
        jobs[0], device="a GPU" if HERE == "cpu" else "cpu", inputs=jobs[0].inputs | {"model": "0"}
    )
    past(jobs[0], status="failed", error="no")
    broken = tmp_path / "out/b/cb/x/seed-0/record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    found = estimate(jobs, tmp_path / "out", 2)
    assert found == Estimate(None, None, cells=1, timed=0, sized=0, bounded=0, basis="")
    assert describe(found) == "time: not measured\ndisk: not measured"
    assert estimate(jobs, tmp_path / "nowhere", 2) == found
    assert describe(estimate([], tmp_path / "out", 2)) == "nothing to run"


def test_a_cell_of_the_same_kind_takes_as_long(make_job, past, tmp_path):
    job = make_job("cb", "sam", {"density": 0.1}, TRAIN)
    past(job)
    found = estimate([job], tmp_path / "out", 4)
    # 50 + 12 + 3 seconds, and 70 - 65 for the rest.
    assert found.seconds == pytest.approx(70)
    assert (found.bytes, found.timed, found.sized) == (1000, 1, 1)
    assert found.basis == "1 cell by records of the same task and method"
    assert describe(found) == (
        "time: about 70 s (1 cell by records of the same task and method)\n"
        "disk: about 1.0 kB of deltas"
    )


def test_training_goes_by_steps_and_examples_and_evaluating_by_evaluations(
    make_job, past, tmp_path
):
    past(make_job("cb", "sam", {"density": 0.1}, TRAIN))
    longer = TRAIN | {"max_steps": 310, "batch_size": 2, "gradient_accumulation": 3}
    job = make_job("cb", "sam", {"density": 0.1}, longer)
    # 50 s x 310/100 x 6/4; 12 s x (16 + 1)/(5 + 1), the 16th after step 310; 3 s; 5 s.
    expected = 50 * 3.1 * 1.5 + 12 * 17 / 6 + 3 + 5
    assert estimate([job], tmp_path / "out", 1).seconds == pytest.approx(expected)


def test_the_nearest_records_count_and_their_median(make_job, past, tmp_path):
    own = make_job("cb", "sam", {"density": 0.1}, TRAIN)
    rte = make_job("rte", "sam", {"density": 0.1}, TRAIN)
    other = make_job("cb", "bitfit", {}, TRAIN)
    past(other, cost={"train_seconds": 950.0}, end="16:10")
    found = estimate([own], tmp_path / "out", 1)
    assert found.seconds == pytest.approx(950 + 15 + 5)
    assert found.basis == "1 cell by records of other methods"
    assert (found.bytes, found.sized) == (None, 0)  # another method's delta says nothing
    past(rte, cost={"train_seconds": 150.0}, end="02:50")
    found = estimate([own, other], tmp_path / "out", 1)
    assert found.seconds == pytest.approx(170 + 970)
    assert found.basis == (
        "1 cell by records of the same method, 1 cell by records of the same task and method"
    )
    for seconds, end in ((30.0, "59:00"), (40.0, "00:59"), (99.0, "59:00")):
        past(own, cost={"train_seconds": seconds}, end=end)
    # The rest is the least of all five: two were stopped and went on much later.
    assert estimate([own], tmp_path / "out", 1).seconds == pytest.approx(40 + 15 + 4)


def test_records_of_another_device_say_nothing_of_time(make_job, past, tmp_path):
    job = make_job("cb", "sam", {"density": 0.1}, TRAIN)
    past(job, device="a GPU" if HERE == "cpu" else "cpu")
    found = estimate([job], tmp_path / "out", 1)
    assert (found.seconds, found.bytes) == (None, 1000)


def test_workers_share_cells_and_not_one_cell(make_job, past, tmp_path):
    job = make_job("cb", "sam", {"density": 0.1}, TRAIN)
    past(job)
    assert estimate([job] * 6, tmp_path / "out", 2).seconds == pytest.approx(210)
    assert estimate([job] * 3, tmp_path / "out", 2).seconds == pytest.approx(105)
    assert estimate([job] * 2, tmp_path / "out", 8).seconds == pytest.approx(70)
    long = make_job("cb", "sam", {"density": 0.1}, TRAIN | {"max_steps": 1000})
    alone = estimate([long], tmp_path / "out", 1).seconds
    assert estimate([job, long], tmp_path / "out", 2).seconds == pytest.approx(alone)


def test_steps_are_those_of_runs_that_patience_ended(make_job, past, tmp_path):
    train = TRAIN | {"patience": 2, "min_steps": 99}
    job = make_job("cb", "sam", {"density": 0.1}, train)
    rte = make_job("rte", "bitfit", {}, train)
    past(make_job("cb", "sam", {"density": 0.1}, TRAIN | {"patience": 3}))
    found = estimate([job], tmp_path / "out", 1)
    assert found.seconds == pytest.approx(70)
    assert found.bounded == 1
    assert describe(found).startswith(
        "time: at most 70 s (1 cell by records of the same task and method; "
        "1 cell to the last step, early stopping may end sooner)\n"
    )
    # The same training elsewhere is better than none.
    past(rte, steps=60, stopped_by="patience", cost={"train_seconds": 30.0}, end="00:50")
    found = estimate([job], tmp_path / "out", 1)
    # 60 steps: 50 s x 60/100, and 3 of the 5 evaluations.
    assert found.seconds == pytest.approx(30 + 12 * 4 / 6 + 3 + 5)
    assert found.bounded == 0
    for steps, why in ((40, "patience"), (80, "patience"), (100, "max_steps")):
        past(job, steps=steps, stopped_by=why, cost={"train_seconds": steps / 2}, end="00:01")
    # Median of 40, 80 and 100 steps of half a second, for the same task and method.
    own = 40 + 12 * 5 / 6 + 3
    assert estimate([job], tmp_path / "out", 1).seconds == pytest.approx(own)


def test_what_lies_behind_a_cell_that_has_begun_is_left_out(make_job, past, tmp_path):
    job = make_job("cb", "sam", {"density": 0.1}, TRAIN)
    past(job)
    # 60 of 100 steps, 3 of 5 evaluations and the final one; the choice is made.
    left = 50 * 0.6 + 12 * 4 / 6 + 5
    found = Past(tmp_path / "out").estimate([job], 1, {job.directory: 40})
    assert (found.seconds, found.timed) == (pytest.approx(left), 1)
    assert brief(found) == "about 43 s"
    folder = job.directory / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "step-000000040.ab.safetensors").touch()
    assert estimate([job], tmp_path / "out", 1).seconds == pytest.approx(left)
    further = Past(tmp_path / "out").estimate([job], 1, {job.directory: 80})
    assert further.seconds == pytest.approx(50 * 0.2 + 12 * 2 / 6 + 5)


def test_a_record_of_fewer_steps_does_not_say_where_a_cell_ends(make_job, past, tmp_path):
    job = make_job("cb", "sam", {"density": 0.1}, TRAIN | {"patience": 2, "min_steps": 0})
    past(job, steps=60, stopped_by="patience", cost={"train_seconds": 30.0}, end="00:50")
    found = Past(tmp_path / "out")
    assert found.estimate([job], 1, {job.directory: 59}).bounded == 0
    beyond = found.estimate([job], 1, {job.directory: 60})
    # 40 steps of half a second, 2 evaluations and the final one of 2 s each, and 5 s.
    assert (beyond.seconds, beyond.bounded) == (pytest.approx(20 + 6 + 5), 1)


def test_a_record_that_comes_later_counts_unless_it_measured_nothing(make_job, past, tmp_path):
    job = make_job("cb", "sam", {"density": 0.1}, TRAIN)
    known = Past(tmp_path / "out")
    past(job)
    past(job, status="failed", error="no")
    good, failed = (read(path) for path in sorted((tmp_path / "out").rglob("record.json")))
    known.add(failed)
    assert brief(known.estimate([job], 1)) == "not measured"
    known.add(good)
    assert known.estimate([job], 1) == estimate([job], tmp_path / "out", 1)


@pytest.mark.parametrize(("patience", "min_steps", "bounded"), [(2, 99, 1), (2, 100, 0), (0, 0, 0)])
def test_only_where_patience_may_end_a_run_are_its_steps_a_bound(
    make_job, past, tmp_path, patience, min_steps, bounded
):
    past(make_job("cb", "sam", {"density": 0.1}, TRAIN))
    train = TRAIN | {"patience": patience, "min_steps": min_steps, "weight_decay": 0.5}
    found = estimate([make_job("cb", "sam", {"density": 0.1}, train)], tmp_path / "out", 1)
    assert (found.seconds, found.bounded) == (pytest.approx(70), bounded)


def test_steps_of_a_larger_task_are_not_taken_over(make_job, past, tmp_path):
    train = TRAIN | {"max_steps": None, "max_epochs": 5, "patience": 2}
    job, rte = make_job("cb", "sam", None, train), make_job("rte", "sam", None, train)
    # All 5 epochs are 30 steps of half a second here, and were 100 there.
    seconds = 30 / 2 + 12 * 3 / 6 + 3 + 5
    past(rte, stopped_by="patience")
    assert estimate([job], tmp_path / "out", 1).seconds == pytest.approx(seconds)
    past(rte)
    past(rte, steps=20, stopped_by="patience", cost={"train_seconds": 10.0}, end="00:30")
    past(rte, steps=20, stopped_by="patience", cost={"train_seconds": 10.0}, end="00:30")
    # Ends of 100, all (30 here), 20 and 20 steps: 25, evaluated twice.
    seconds = 25 / 2 + 12 * 3 / 6 + 3 + 5
    assert estimate([job], tmp_path / "out", 1).seconds == pytest.approx(seconds)


def test_without_patience_nothing_ends_earlier(make_job, past, tmp_path):
    job = make_job("cb", "sam", {"density": 0.1}, {"max_steps": None, "max_epochs": 5, **TRAIN})
    past(make_job("cb", "sam", {"density": 0.1}, TRAIN | {"weight_decay": 0.5}))
    assert estimate([job], tmp_path / "out", 1).bounded == 0
    epochs = make_job("cb", "sam", {"density": 0.1}, TRAIN | {"max_steps": None, "max_epochs": 5})
    # 24 examples are 6 batches of 4: 30 steps, evaluated after 20 and 30.
    seconds = 50 * 0.3 + 12 * 3 / 6 + 3 + 5
    assert estimate([epochs], tmp_path / "out", 1).seconds == pytest.approx(seconds)


def test_bytes_are_the_heads_and_the_rest_by_density(make_job, past, tmp_path):
    past(make_job("rte", "sam", {"density": 0.1}, TRAIN))
    twice = make_job("cb", "sam", {"density": 0.2}, TRAIN)
    same = make_job("cb", "sam", {"density": 0.1}, TRAIN)
    bitfit = make_job("cb", "bitfit", {}, TRAIN)
    assert estimate([twice], tmp_path / "out", 1).bytes == 400 + 2 * 600
    found = estimate([twice, same, bitfit], tmp_path / "out", 1)
    assert (found.bytes, found.sized, found.timed, found.cells) == (1600 + 1000, 2, 3, 3)
    assert describe(found).endswith(
        "disk: about 2.6 kB of deltas for 2 of 3 cells, the others not measured"
    )
    past(make_job("cb", "sam", {"density": 0.1, "burn_in": 3}, TRAIN), cost={"delta_bytes": 9000})
    assert estimate([same], tmp_path / "out", 1).bytes == 1000
    past(same, cost={"delta_bytes": 1100})
    assert estimate([same], tmp_path / "out", 1).bytes == 1100
    past(bitfit, cost={"delta_bytes": None})
    assert estimate([bitfit], tmp_path / "out", 1).bytes is None


@pytest.mark.parametrize(
    ("seconds", "size", "expected"),
    [
        (90.4, 999, "time: about 90 s (b)\ndisk: about 999 bytes of deltas"),
        (3000, 2_500_000, "time: about 50 min (b)\ndisk: about 2.5 MB of deltas"),
        (36000, 3_140_000_000, "time: about 10.0 h (b)\ndisk: about 3.1 GB of deltas"),
        (864000, 12e12, "time: about 10.0 days (b)\ndisk: about 12000.0 GB of deltas"),
    ],
)
def test_in_words(seconds, size, expected):
    assert (
        describe(Estimate(seconds, size, cells=2, timed=2, sized=2, bounded=0, basis="b"))
        == expected
    )
