"""ChildPruning against NumPy: what a projection keeps, and what the optimiser remembers of it."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from support.models import Trainer, bert, effective, end_to_end, rng, state, trained_masks
from torch import nn

from jiant_sparse.methods.child_pruning import ChildPruning
from jiant_sparse.sparse import selection, surgery

DENSITY = 0.02
RATE, DECAY = 1e-2, 0.1
SHAPES = {name: p.shape for name, p in bert().named_parameters()}
SIZES = {name: shape.numel() for name, shape in SHAPES.items()}


class Sight(NamedTuple):
    """All tensors' entries laid end to end; of a tensor that trains in part, its rest as 0."""

    values: np.ndarray
    first: np.ndarray
    second: np.ndarray


def look(encoder: nn.Module, optimizer: torch.optim.Optimizer) -> Sight:
    rows = []
    for name, value in effective(encoder, SHAPES).items():
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


class Watched:
    """A method that is looked at right before and right after each `after_step`."""

    def __init__(self, encoder: nn.Module, method: ChildPruning) -> None:
        self.encoder, self.method = encoder, method
        self.penalty, self.before_step = method.penalty, method.before_step
        self.before: dict[int, Sight] = {}
        self.after: dict[int, Sight] = {}
        self.settled: list[int] = []

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        self.before[step] = look(self.encoder, optimizer)
        self.method.after_step(step, optimizer)
        self.after[step] = look(self.encoder, optimizer)
        if self.method.scores_at(step):
            self.settled.append(step)


def run(steps: int, **fields) -> tuple[Trainer, Watched, np.ndarray]:
    """After some steps; and the pretrained values, end to end."""
    encoder = bert()
    start = end_to_end(state(encoder).values())
    trainer, method = Trainer(encoder), ChildPruning(density=DENSITY, **fields)
    method.attach(encoder, None, rng)
    watched = Watched(encoder, method)
    trainer.train(watched, steps, DECAY)
    return trainer, watched, start


def largest(scores: np.ndarray, scope: str = "global") -> np.ndarray:
    """The entries with the largest scores as a mask; among equals the earlier."""
    mask = np.zeros(scores.size, bool)
    first = 0
    for size in [scores.size] if scope == "global" else SIZES.values():
        order = np.argsort(-scores[first : first + size], kind="stable")
        mask[first + order[: int(size * DENSITY)]] = True
        first += size
    return mask


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one.view(np.int32), other.view(np.int32))


@pytest.mark.parametrize("scope", selection.SCOPES)
def test_a_projection_keeps_the_largest_changes_and_their_moments(scope):
    _, watched, start = run(9, scope=scope, interval=3, burn_in=None)
    for step in (3, 6, 9):
        before, after = watched.before[step], watched.after[step]
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
    _, watched, _ = run(5, interval=3, burn_in=None)
    for step in (1, 2, 4, 5):
        before, after = watched.before[step], watched.after[step]
        for part in ("values", "first", "second"):
            assert same_bits(getattr(before, part), getattr(after, part))
    moved = watched.after[5].values != watched.after[3].values
    assert moved.mean() > 0.9
    borders = np.cumsum([0, *SIZES.values()])
    assert np.logical_or.reduceat(moved, borders[:-1]).all()
    assert all(p.requires_grad for p in watched.encoder.parameters())


def test_distances_are_averaged_over_the_projections():
    _, watched, start = run(9, interval=2, burn_in=9, momentum=0.7)
    average, unlike_momentary = None, 0
    for step in (2, 4, 6, 8, 9):
        moved = np.abs(watched.before[step].values.astype(np.float64) - start)
        average = moved if average is None else 0.3 * moved + 0.7 * average
        kept = watched.after[step].values != start
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
    _, watched, start = run(end, scope=scope, interval=interval, burn_in=burn_in)
    before = watched.before[burn_in]
    kept = largest(np.abs(before.values - start), scope)
    assert before.first[~kept].any(), "there is a momentum that could move what is frozen"
    masks = trained_masks(watched.encoder, list(SHAPES)).values()
    assert np.array_equal(end_to_end(masks), kept)
    for step in range(burn_in, end + 1):
        values = watched.after[step].values
        assert same_bits(values[~kept], start[~kept])
        last = watched.after.get(step - 1)
        assert step == burn_in or (values[kept] != last.values[kept]).mean() > 0.9
    surgery.fold(watched.encoder)
    folded = state(watched.encoder)
    assert same_bits(end_to_end(folded[name] for name in SHAPES), watched.after[end].values)


@pytest.mark.parametrize("reset", [False, True])
def test_the_chosen_go_on_with_their_moments_or_start_again(reset):
    _, watched, start = run(4, interval=2, burn_in=4, reset=reset)
    assert (watched.after[2].values != start).any(), "only the last projection resets"
    before, after = watched.before[4], watched.after[4]
    kept = largest(np.abs(before.values - start))
    assert same_bits(after.values, np.where(kept & (not reset), before.values, start))
    for moment in ("first", "second"):
        old, new = getattr(before, moment), getattr(after, moment)
        assert old[kept].all() and np.array_equal(new, old * kept * (not reset))


@pytest.mark.parametrize(
    ("fields", "settled"),
    [
        ({"interval": 3, "burn_in": None}, [3, 6]),
        ({"interval": 1, "burn_in": None}, [1, 2, 3, 4, 5, 6, 7]),
        ({"interval": 2, "burn_in": 5}, [5, 6, 7]),
    ],
)
def test_scores_compete_only_where_the_model_is_projected(fields, settled):
    _, watched, _ = run(7, **fields)
    assert watched.settled == settled


def test_a_first_step_at_rate_0_loses_nothing():
    trainer, watched, start = run(0, interval=1, burn_in=None)
    parts = nn.ModuleList([trainer.encoder, trainer.head])
    trainer.optimizer = torch.optim.AdamW(parts.parameters(), lr=0.0, weight_decay=DECAY)
    trainer.train(watched, 1)
    assert same_bits(watched.before[1].values, start)
    assert same_bits(watched.after[1].values, start)
    trainer.optimizer.param_groups[0]["lr"] = RATE
    trainer.train(watched, 1)
    assert (watched.before[2].values != start).mean() > 0.9
    kept = largest(np.abs(watched.before[2].values - start))
    assert not kept[: kept.sum()].all(), "the choice among ties was the first entries"
    assert np.array_equal(watched.after[2].values != start, kept)
