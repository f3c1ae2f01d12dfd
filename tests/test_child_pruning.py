"""ChildPruning against NumPy: what a projection keeps, and what the optimiser remembers of it."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from support.models import (
    Trainer,
    bert,
    effective,
    end_to_end,
    largest_mask,
    rng,
    state,
    trained_masks,
)
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.child_pruning import ChildPruning
from jiant_sparse.sparse import selection, surgery

DENSITY = 0.02
RATE, DECAY = 1e-2, 0.1
SIZES = {name: p.numel() for name, p in bert().named_parameters()}


class Sight(NamedTuple):
    """All tensors' entries laid end to end; of a tensor that trains in part, its rest as 0."""

    values: np.ndarray
    first: np.ndarray
    second: np.ndarray


def look(encoder: nn.Module, optimizer: torch.optim.Optimizer) -> Sight:
    rows = []
    for name, value in effective(encoder, SIZES).items():
        path, _, leaf = name.rpartition(".")
        module = encoder.get_submodule(path)
        row = np.zeros((3, value.numel()), np.float32)
        row[0] = value.flatten().numpy()
        where, p = slice(None), module._parameters.get(leaf)
        if p is None:
            entries = module.parametrizations[leaf][0]
            where, p = entries.index.numpy(), entries.values
        memory = optimizer.state.get(p, {})
        for place, moment in enumerate(("exp_avg", "exp_avg_sq"), 1):
            if moment in memory:
                row[place, where] = memory[moment].flatten().numpy()
        rows.append(row)
    return Sight(*np.concatenate(rows, axis=1))


class Run:
    """A training that is looked at right before and right after each `after_step`.

    start: the pretrained values, end to end.
    """

    def __init__(self, steps: int, **fields) -> None:
        self.encoder = bert()
        self.start = end_to_end(state(self.encoder).values())
        self.trainer, self.method = Trainer(self.encoder), ChildPruning(density=DENSITY, **fields)
        self.method.attach(self.encoder, None, rng)
        self.before: dict[int, Sight] = {}
        self.after: dict[int, Sight] = {}
        self.project, self.method.after_step = self.method.after_step, self.after_step
        self.trainer.train(self.method, steps, DECAY)

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        self.before[step] = look(self.encoder, optimizer)
        self.project(step, optimizer)
        self.after[step] = look(self.encoder, optimizer)


def largest(scores: np.ndarray, scope: str = "global") -> np.ndarray:
    return largest_mask(scores, [scores.size] if scope == "global" else SIZES.values(), DENSITY)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one.view(np.int32), other.view(np.int32))


@pytest.mark.parametrize("scope", selection.SCOPES)
def test_a_projection_keeps_the_largest_changes_and_their_moments(scope):
    run = Run(9, scope=scope, interval=3, burn_in=None)
    start = run.start
    for step in (3, 6, 9):
        before, after = run.before[step], run.after[step]
        kept = largest(np.abs(before.values - start), scope)
        assert (before.values != start).mean() > 0.9
        assert same_bits(after.values[kept], before.values[kept])
        assert same_bits(after.values[~kept], start[~kept])
        for moment in ("first", "second"):
            old, new = getattr(before, moment), getattr(after, moment)
            assert old[kept].all()
            assert old[~kept].any()
            assert same_bits(new[kept], old[kept])
            expected = old[~kept] if moment == "second" else 0 * old[~kept]
            assert np.array_equal(new[~kept], expected)


def test_between_projections_nothing_is_touched_and_every_tensor_trains():
    run = Run(5, interval=3, burn_in=None)
    for step in (1, 2, 4, 5):
        before, after = run.before[step], run.after[step]
        for part in ("values", "first", "second"):
            assert same_bits(getattr(before, part), getattr(after, part))
    assert (run.after[5].values != run.after[3].values).mean() > 0.9


def test_distances_are_averaged_over_the_projections():
    run = Run(9, interval=2, burn_in=9, momentum=0.7)
    start = run.start
    average, unlike_momentary = None, 0
    for step in (2, 4, 6, 8, 9):
        moved = np.abs(run.before[step].values.astype(np.float64) - start)
        average = moved if average is None else 0.3 * moved + 0.7 * average
        kept = run.after[step].values != start
        assert kept.sum() == int(start.size * DENSITY)
        # Averages in float32 may order two that agree to their last digits otherwise.
        assert average[kept].min() >= average[~kept].max() * (1 - 1e-5)
        unlike_momentary += (kept != largest(moved)).sum()
    assert unlike_momentary, "the average makes no difference here"


@pytest.mark.parametrize(
    ("scope", "interval", "burn_in"), [("global", 2, 4), ("per_tensor", 2, 3), ("global", 100, 3)]
)
def test_after_the_burn_in_only_the_last_choice_ever_differs(scope, interval, burn_in):
    end = burn_in + 8
    run = Run(end, scope=scope, interval=interval, burn_in=burn_in)
    start = run.start
    before = run.before[burn_in]
    kept = largest(np.abs(before.values - start), scope)
    assert before.first[~kept].any(), "there is a momentum that could move what is frozen"
    masks = trained_masks(run.encoder, list(SIZES)).values()
    assert np.array_equal(end_to_end(masks), kept)
    for step in range(burn_in, end + 1):
        values = run.after[step].values
        assert same_bits(values[~kept], start[~kept])
        last = run.after.get(step - 1)
        assert step == burn_in or (values[kept] != last.values[kept]).mean() > 0.9
    surgery.fold(run.encoder)
    folded = state(run.encoder)
    assert same_bits(end_to_end(folded[name] for name in SIZES), run.after[end].values)


@pytest.mark.parametrize("reset", [False, True])
def test_the_chosen_go_on_with_their_moments_or_start_again(reset):
    run = Run(4, interval=2, burn_in=4, reset=reset)
    start = run.start
    assert (run.after[2].values != start).any(), "only the last projection resets"
    before, after = run.before[4], run.after[4]
    kept = largest(np.abs(before.values - start))
    assert same_bits(after.values, np.where(kept & (not reset), before.values, start))
    for moment in ("first", "second"):
        old, new = getattr(before, moment), getattr(after, moment)
        assert old[kept].all() and np.array_equal(new, old * kept * (not reset))


def test_a_first_step_at_rate_0_loses_nothing():
    run = Run(0, interval=1, burn_in=None)
    trainer, start = run.trainer, run.start
    parts = nn.ModuleList([trainer.encoder, trainer.head])
    trainer.optimizer = torch.optim.AdamW(parts.parameters(), lr=0.0, weight_decay=DECAY)
    trainer.train(run.method, 1)
    assert same_bits(run.before[1].values, start)
    assert same_bits(run.after[1].values, start)
    trainer.optimizer.param_groups[0]["lr"] = RATE
    trainer.train(run.method, 1)
    assert (run.before[2].values != start).mean() > 0.9
    kept = largest(np.abs(run.before[2].values - start))
    assert not kept[: kept.sum()].all(), "the choice among ties was the first entries"
    assert np.array_equal(run.after[2].values != start, kept)


def test_a_final_choice_before_anything_has_moved_is_an_error():
    method = ChildPruning(burn_in=3)
    method.attach(bert(), None, rng)
    with pytest.raises(InputError, match="child_pruning: no weight has moved up to step 3, so"):
        method.after_step(3, None)
