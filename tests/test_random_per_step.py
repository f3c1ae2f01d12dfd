"""RandomPerStep: a new uniform choice at every step, over all weights."""

import torch
from support.models import Trainer, bert, roberta

from jiant_sparse.methods.random_per_step import RandomPerStep
from jiant_sparse.seeds import derive


def attached(make=bert, seed: int = 0, **fields) -> RandomPerStep:
    def rng(name):
        return torch.Generator().manual_seed(derive(seed, name))

    method = RandomPerStep(**fields)
    encoder = make()
    method.attach(encoder, Trainer(encoder).probe, rng)
    return method


def flat(method: RandomPerStep, step: int) -> torch.Tensor:
    """(weights,) bool: what is drawn in a step."""
    chosen = method.draw(step)
    masks = []
    for name, weight in method.weights.items():
        masks.append(torch.zeros(weight.numel(), dtype=torch.bool))
        masks[-1][chosen[name]] = True
        assert len(chosen[name]) == int(masks[-1].sum())
    return torch.cat(masks)


def test_every_weight_is_as_likely_as_any_other():
    method = attached(density=0.1)
    counts = sum(flat(method, step).int() for step in range(1, 401))
    assert int(counts.sum()) == 400 * method.k
    n, p = len(counts), method.k / len(counts)
    chi = float(((counts - 400 * p) ** 2).sum() / (400 * p * (1 - p)))
    # Each count is binomial; all but independent, so the sum is near n, give or take sqrt(2 n).
    assert abs(chi - n) < 5 * (2 * n) ** 0.5


def test_steps_and_seeds_have_streams_of_their_own():
    one, same, other = attached(density=0.1), attached(density=0.1), attached(seed=1, density=0.1)
    assert torch.equal(flat(one, 7), flat(same, 7))
    expected = one.k**2 / len(flat(one, 1))
    for a, b in ((flat(one, 1), flat(one, 2)), (flat(one, 1), flat(other, 1))):
        assert abs(int((a & b).sum()) - expected) < 5 * expected**0.5


def test_gradients_do_not_matter_and_unreached_tensors_do_not_move():
    """The draw is over all weights: what falls on a pooler that is not read is lost."""
    method = attached(roberta, density=0.2)
    drawn = flat(method, 1)
    for name, weight in method.weights.items():
        if not name.startswith("pooler"):
            weight.grad = torch.zeros_like(weight)
    method.before_step(1)
    moved = torch.cat([mask.view(-1) for mask in method.drawn.values()])
    pooler = sum(w.numel() for n, w in method.weights.items() if n.startswith("pooler"))
    assert torch.equal(moved[:-pooler], drawn[:-pooler]) and not moved[-pooler:].any()
    assert method.moved_per_step == int(moved.sum()) < method.k
    assert not any(module._forward_hooks for module in bert().modules())
