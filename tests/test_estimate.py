"""Time and disk of what is still to run, against numbers computed by hand."""

import pytest
from support.selecting import PROVENANCE

from jiant_sparse.grid.estimate import Estimate, Past, brief, describe
from jiant_sparse.grid.time_left import NEAR, TimeLeft
from jiant_sparse.host.device import pick
from jiant_sparse.schema.record import Cost, Params, Record, read

TRAIN = {"max_steps": 100, "eval_every": 20, "batch_size": 4}
HERE = "cpu" if pick("auto").type == "cpu" else "a GPU"
ELSEWHERE = "a GPU" if HERE == "cpu" else "cpu"
SAM = {"density": 0.1}


@pytest.fixture
def sam(make_job):
    """sam(task, **train fields) -> a job of sam with 100 steps, unless the fields say otherwise."""
    return lambda task="cb", **train: make_job(task, "sam", SAM, TRAIN | train)


@pytest.fixture
def estimated(tmp_path):
    """estimated(*jobs, workers=1) -> Estimate by the records below `out`."""
    return lambda *jobs, workers=1: Past(tmp_path / "out").estimate(jobs, workers)


def seconds(found: Estimate) -> float | None:
    return found.time.seconds


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
            "provenance": PROVENANCE.model_copy(
                update={"device": device, "finished": f"2026-01-01T00:{end}+00:00"}
            ),
        }
        written.append(key)
        Record(**fields | changes).write(key.directory(tmp_path / "out"))

    return write


def test_nothing_is_made_up_without_a_record(sam, past, estimated, tmp_path):
    past(sam(), inputs={"model": "another"})
    past(sam(), status="failed", error="no")
    broken = tmp_path / "out/b/cb/x/seed-0/record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    found = estimated(sam(), workers=2)
    assert found == Estimate(TimeLeft(None, 2, {}, 0, unmeasured=1), None, cells=1, sized=0)
    assert describe(found) == "time: not measured\ndisk: not measured"
    assert Past(tmp_path / "nowhere").estimate([sam()], 2) == found
    assert describe(estimated()) == "nothing to run"
    past(sam(), device=ELSEWHERE)
    found = estimated(sam())
    assert (seconds(found), found.bytes) == (None, 1000), "another device says nothing of time"


def test_a_cell_of_the_same_kind_takes_as_long(sam, past, estimated):
    past(sam())
    found = estimated(sam(), workers=4)
    # 50 + 12 + 3 seconds, and 70 - 65 for the rest.
    assert seconds(found) == pytest.approx(70)
    assert found.time.basis == {NEAR[0]: 1}
    assert (found.bytes, found.time.unmeasured, found.sized) == (1000, 0, 1)
    assert describe(found) == (
        "time: about 70 s (1 cell by records of the same task and method)\n"
        "disk: about 1 kB of deltas"
    )


def test_scaling_by_steps_examples_and_evaluations(sam, past, estimated):
    past(sam())
    job = sam(max_steps=310, batch_size=2, gradient_accumulation=3)
    # 50 s x 310/100 x 6/4; 12 s x (16 + 1)/(5 + 1), the 16th after step 310; 3 s; 5 s.
    assert seconds(estimated(job)) == pytest.approx(50 * 3.1 * 1.5 + 12 * 17 / 6 + 3 + 5)


def test_the_nearest_records_count_and_their_median(make_job, sam, past, estimated):
    other = make_job("cb", "bitfit", {}, TRAIN)
    past(other, cost={"train_seconds": 950.0}, end="16:10")
    found = estimated(sam())
    assert (seconds(found), found.time.basis) == (pytest.approx(950 + 15 + 5), {NEAR[3]: 1})
    assert (found.bytes, found.sized) == (None, 0), "another method's delta says nothing"
    past(sam("rte"), cost={"train_seconds": 150.0}, end="02:50")
    found = estimated(sam(), other)
    assert seconds(found) == pytest.approx(170 + 970)
    assert found.time.basis == {NEAR[0]: 1, NEAR[1]: 1}
    assert "(1 cell by records of the same task and method, 1 cell by re" in describe(found)
    for spent, end in ((30.0, "59:00"), (40.0, "00:59"), (99.0, "59:00")):
        past(sam(), cost={"train_seconds": spent}, end=end)
    # The rest is the least of all five: two were interrupted and resumed much later.
    assert seconds(estimated(sam())) == pytest.approx(40 + 15 + 4)


def test_workers_share_cells_and_not_one_cell(sam, past, estimated):
    past(sam())
    job, long = sam(), sam(max_steps=1000)
    for count, workers, expected in ((6, 2, 210), (3, 2, 105), (2, 8, 70)):
        assert seconds(estimated(*[job] * count, workers=workers)) == pytest.approx(expected)
    alone = seconds(estimated(long))
    assert seconds(estimated(job, long, workers=2)) == pytest.approx(alone)


def test_steps_are_those_of_runs_that_patience_ended(make_job, sam, past, estimated):
    train = {"patience": 2, "min_steps": 99}
    past(sam(patience=3))
    found = estimated(sam(**train))
    assert (seconds(found), found.time.bounded) == (pytest.approx(70), 1)
    assert describe(found).startswith(
        "time: at most 70 s (1 cell by records of the same task and method; "
        "1 cell to the last step, early stopping may end sooner)\n"
    )
    # The same training elsewhere is better than none.
    rte = make_job("rte", "bitfit", {}, TRAIN | train)
    past(rte, steps=60, stopped_by="patience", cost={"train_seconds": 30.0}, end="00:50")
    found = estimated(sam(**train))
    # 60 steps: 50 s x 60/100, and 3 of the 5 evaluations.
    assert (seconds(found), found.time.bounded) == (pytest.approx(30 + 12 * 4 / 6 + 3 + 5), 0)
    for steps, why in ((40, "patience"), (80, "patience"), (100, "max_steps")):
        cost = {"train_seconds": steps / 2}
        past(sam(**train), steps=steps, stopped_by=why, cost=cost, end="00:01")
    # Median of 40, 80 and 100 steps of half a second, for the same task and method.
    assert seconds(estimated(sam(**train))) == pytest.approx(40 + 12 * 5 / 6 + 3)


def test_what_a_cell_has_done_is_left_out(sam, past, estimated, tmp_path):
    job = sam()
    past(job)
    # 60 of 100 steps, 3 of 5 evaluations and the final one; the weights are selected.
    left = 50 * 0.6 + 12 * 4 / 6 + 5
    found = Past(tmp_path / "out").estimate([job], 1, {job.directory: 40})
    assert (seconds(found), brief(found)) == (pytest.approx(left), "about 43 s")
    folder = job.directory / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "step-000000040.ab.safetensors").touch()
    assert seconds(estimated(job)) == pytest.approx(left)
    further = Past(tmp_path / "out").estimate([job], 1, {job.directory: 80})
    assert seconds(further) == pytest.approx(50 * 0.2 + 12 * 2 / 6 + 5)


def test_record_of_fewer_steps_says_nothing_of_the_end(sam, past, tmp_path):
    job = sam(patience=2, min_steps=0)
    past(job, steps=60, stopped_by="patience", cost={"train_seconds": 30.0}, end="00:50")
    found = Past(tmp_path / "out")
    assert found.estimate([job], 1, {job.directory: 59}).time.bounded == 0
    beyond = found.estimate([job], 1, {job.directory: 60})
    # 40 steps of half a second, 2 evaluations and the final one of 2 s each, and 5 s.
    assert (seconds(beyond), beyond.time.bounded) == (pytest.approx(20 + 6 + 5), 1)


def test_a_later_record_counts_unless_it_measured_nothing(sam, past, estimated, tmp_path):
    job, known = sam(), Past(tmp_path / "out")
    past(job)
    past(job, status="failed", error="no")
    good, failed = (read(path) for path in sorted((tmp_path / "out").rglob("record.json")))
    known.add(failed)
    assert brief(known.estimate([job], 1)) == "not measured"
    known.add(good)
    assert known.estimate([job], 1) == estimated(job)


@pytest.mark.parametrize(("patience", "min_steps", "bounded"), [(2, 99, 1), (2, 100, 0), (0, 0, 0)])
def test_steps_are_a_bound_only_with_patience(sam, past, estimated, patience, min_steps, bounded):
    past(sam())
    found = estimated(sam(patience=patience, min_steps=min_steps, weight_decay=0.5))
    assert (seconds(found), found.time.bounded) == (pytest.approx(70), bounded)


def test_steps_of_a_larger_task_are_not_taken_over(sam, past, estimated):
    train = {"max_steps": None, "max_epochs": 5, "patience": 2}
    # All 5 epochs are 30 steps of half a second here, and were 100 there.
    past(sam("rte", **train), stopped_by="patience")
    assert seconds(estimated(sam(**train))) == pytest.approx(30 / 2 + 12 * 3 / 6 + 3 + 5)
    past(sam("rte", **train))
    for _ in range(2):
        cost = {"train_seconds": 10.0}
        past(sam("rte", **train), steps=20, stopped_by="patience", cost=cost, end="00:30")
    # Ends of 100, all (30 here), 20 and 20 steps: 25, evaluated twice.
    assert seconds(estimated(sam(**train))) == pytest.approx(25 / 2 + 12 * 3 / 6 + 3 + 5)


def test_bytes_are_the_heads_and_the_rest_by_density(make_job, sam, past, estimated):
    past(sam("rte"))
    twice, bitfit = make_job("cb", "sam", {"density": 0.2}, TRAIN), make_job("cb", "bitfit")
    assert estimated(twice).bytes == 400 + 2 * 600
    found = estimated(twice, sam(), bitfit)
    assert (found.bytes, found.sized, found.cells) == (1600 + 1000, 2, 3)
    assert found.time.unmeasured == 0
    assert describe(found).endswith(
        "disk: about 2.6 kB of deltas for 2 of 3 cells, the others not measured"
    )
    past(make_job("cb", "sam", SAM | {"burn_in": 3}, TRAIN), cost={"delta_bytes": 9000})
    assert estimated(sam()).bytes == 1000
    past(sam(), cost={"delta_bytes": 1100})
    assert estimated(sam()).bytes == 1100
    past(bitfit, cost={"delta_bytes": None})
    assert estimated(bitfit).bytes is None
