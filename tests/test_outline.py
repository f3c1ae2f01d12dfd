"""What a cell says before it begins, against what it then does."""

import pytest

from jiant_sparse.errors import InputError
from jiant_sparse.grid.estimate import first_stop, total_steps
from jiant_sparse.grid.outline import outline
from jiant_sparse.host.train import train
from jiant_sparse.methods import base
from jiant_sparse.schema.control import Control


def told(job) -> dict[str, str]:
    """The lines by their names."""
    return dict(line.split(": ", 1) for line in outline(job, None).splitlines())


def test_epochs_parts_of_a_batch_and_early_stopping(make_job):
    settings = {"max_steps": None, "max_epochs": 300, "batch_size": 5, "gradient_accumulation": 2}
    job = make_job("cb", "bitfit", None, settings | {"patience": 3, "min_steps": 10})
    lines = told(job)
    # 24 rows are 5 batches, 3 steps.
    assert lines["steps"] == "900 of 2 x 5 examples, 300 epochs"
    assert lines["rate"] == "0.01 after 90 steps of warm-up, then falling to 0"
    assert lines["dev"] == (
        "scored every 2 steps; 3 scores without a better one end the run after step 10, "
        "at step 11 at the earliest"
    )
    assert told(make_job("cb", "bitfit"))["steps"] == "4 of 4 examples, 0.7 epochs"


def test_examples_that_are_too_long_make_fewer_steps(make_job):
    settings = {"max_steps": None, "max_epochs": 2}
    assert told(make_job("wsc", "bitfit", None, settings))["steps"] == (
        "12 of 4 examples, 2 epochs; fewer if an example is too long for 64 tokens"
    )


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("full_tuning", {}, "(100.0000 %); the task head"),
        ("lora", {"rank": 1}, " and 128 added ones ("),
        ("stochastic_tuning", {}, "%), selected anew in each step; the task head trains as well"),
        ("child_pruning", {"burn_in": 2, "density": 0.1}, "tunes 1,217 of the encoder's 12,176 ("),
    ],
)
def test_what_a_method_tunes(make_job, method, fields, expected):
    assert expected in told(make_job("cb", method, fields))["weights"]


def test_frozen_head_late_score_single_examples(make_job):
    late = told(make_job("cb", "child_pruning", {"burn_in": 3}, {"freeze_head": True}))
    assert late["weights"].endswith("; the task head is frozen")
    assert late["dev"] == (
        "scored every 2 steps, competing for the best checkpoint from step 3; no early stopping"
    )
    assert told(make_job("cb", "fish", {"samples": 7}))["selection"].endswith(
        " Before step 1 it takes the gradients of 7 batches of 1."
    )


def test_a_method_that_cannot_be_counted_says_so(make_job, monkeypatch):
    job = make_job("cb", "full_tuning")

    def attach(self, model, probe, rng):
        float(model.pooler.dense.weight.detach().max())

    monkeypatch.setattr(base.find("full_tuning"), "attach", attach)
    weights = told(job)["weights"]
    assert weights.startswith("cannot be counted without weights: ")
    assert weights.endswith("; the task head trains as well")


def test_a_training_too_short_for_its_method_is_refused(make_job):
    job = make_job("cb", "dps_dense", None, {"max_steps": None, "max_epochs": 1})
    with pytest.raises(InputError, match="dps_dense .* needs 51 steps; the run has 6"):
        outline(job, None)


@pytest.mark.parametrize(
    ("method", "fields", "settings", "expected"),
    [
        ("bitfit", {}, {"patience": 2, "min_steps": 8}, 9),
        ("bitfit", {}, {"patience": 1, "min_steps": 0, "eval_offset": 1}, 3),
        ("child_pruning", {"burn_in": 3}, {"patience": 2, "min_steps": 0}, 8),
        ("bitfit", {}, {"patience": 6, "min_steps": 0}, None),
        ("bitfit", {}, {"patience": 2, "min_steps": 12}, None),
        ("bitfit", {}, {"patience": 0, "min_steps": 0}, None),
    ],
)
def test_run_that_never_gets_better_ends_at_first_stop(
    make_job, method, fields, settings, expected
):
    # At this rate no score changes.
    job = make_job("cb", method, fields, settings | {"learning_rate": 1e-30, "max_steps": 12})
    assert first_stop(job) == expected
    record = train(job)
    assert (record.steps, record.stopped_by) == (
        (expected, "patience") if expected else (total_steps(job), "max_steps")
    )


def test_progress_of_selection_and_training(make_job):
    class Listening(Control):
        """Keeps all that is told."""

        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "progress":
                heard.append((value.phase, value.batch, value.batches, value.step, value.steps))

    heard = []
    train(make_job("cb", "sam", {"burn_in": 3, "density": 0.1}, {"max_steps": 2}), Listening())
    assert heard == [
        ("loading", 0, None, 0, None),
        ("selecting", 0, None, 0, None),
        *[("selecting", batch, 3, 0, None) for batch in range(3)],
        *[("training", 0, None, step, 2) for step in range(3)],
        ("scoring", 0, None, 2, 2),
    ]
