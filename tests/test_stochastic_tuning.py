"""The draw of Stochastic Tuning against its law, with importances of the unfolded network."""

import numpy as np
import pytest
import torch
from support.importances import after_backward, bert, roberta
from support.models import rng, state

TRIALS = 500


def drawn_counts(method, sizes: dict[str, int], trials: int) -> np.ndarray:
    """How often every weight is drawn from these gradients in the steps 1 to `trials`."""
    once = method.importance.take()
    method.importance.take = lambda: once
    counts = {name: np.zeros(size, int) for name, size in sizes.items()}
    for step in range(1, trials + 1):
        for name, index in method.draw(step).items():
            counts[name][index.numpy()] += 1
    return np.concatenate([*counts.values()])


def inclusion(p: np.ndarray, k: int) -> np.ndarray:
    """How likely each entry is among k successive draws without replacement, k = 2 or 3."""
    # By the first draw j: of what is then left i comes second with p_i / (1 - p_j).
    odds = p / (1 - p)
    second = p * (odds.sum() - odds)
    if k == 2:
        return p + second
    third = np.zeros_like(p)
    # Third after the pair (j, l): p_j p_l / (1 - p_j) / (1 - p_j - p_l), for all l at once.
    for j in range(len(p)):
        left = 1 - p[j] - p
        left[j] = 1
        pair = p[j] * p / (1 - p[j]) / left
        pair[j] = 0
        all_pairs = pair.sum() - pair
        all_pairs[j] = 0
        third += p * all_pairs
    return p + second + third


def test_the_law_written_out_is_that_of_three_entries():
    p = np.array([0.5, 0.3, 0.2])
    assert inclusion(p, 3) == pytest.approx([1, 1, 1])
    assert inclusion(p, 2) == pytest.approx(
        [1 - 0.3 * 0.2 / 0.7 - 0.2 * 0.3 / 0.8, 0.675, 0.485714]
    )


def statistic(counts: np.ndarray, chances: np.ndarray, trials: int) -> tuple[float, float, int]:
    """(chi-square of the inclusions, what chance exceeds once in 30,000, bins)."""
    order = np.argsort(chances)[::-1]
    expected, seen = trials * chances[order], counts[order]
    single = int((expected >= 8).sum())
    # The light ones in bins of an expected 20 each, by their likelihood.
    group = np.concatenate([np.arange(single), single + (expected[single:].cumsum() // 20)])
    group = group.astype(int)
    sums, hits = np.bincount(group, expected), np.bincount(group, seen)
    whole = sums > 8
    variance = sums * (1 - np.minimum(sums / trials, 1) * (np.bincount(group) == 1))
    chi = float((((hits - sums) ** 2)[whole] / variance[whole]).sum())
    freedom = int(whole.sum())
    scale = 2 / (9 * freedom)
    return chi, freedom * (1 - scale + 4 * scale**0.5) ** 3, freedom


@pytest.mark.parametrize(
    ("make", "k", "fields"),
    [
        (bert, 2, {}),
        (roberta, 3, {"padding": True, "mean": "absolute"}),
    ],
)
def test_every_weight_is_drawn_as_often_as_the_law_says(make, k, fields):
    total = sum(p.numel() for p in make().parameters())
    fields = {"density": (k + 0.5) / total, **fields}
    method, importance, encoder = after_backward("stochastic_tuning", make, **fields)
    assert method.k == k
    sizes = {name: p.numel() for name, p in encoder.named_parameters()}
    assert list(importance) == list(sizes)
    flat = {name: values.ravel() for name, values in importance.items()}
    theta = {n: p.detach().double().abs().numpy().ravel() for n, p in encoder.named_parameters()}
    counts = drawn_counts(method, sizes, TRIALS)
    assert counts.sum() == k * TRIALS

    def fits(weights: list[np.ndarray]) -> tuple[float, float, int]:
        whole = np.concatenate(weights)
        return statistic(counts, inclusion(whole / whole.sum(), k), TRIALS)

    chi, bound, bins = fits([values**2 for values in flat.values()])
    assert chi < bound and bins > 14
    assert not counts[np.concatenate([*flat.values()]) == 0].any()
    # What other readings of the paper would give is far from what was drawn.
    no_theta = [np.divide(v, theta[n], where=theta[n] > 0, out=0 * v) for n, v in flat.items()]
    for other in ([*flat.values()], [values**2 for values in no_theta]):
        chi, bound, _ = fits(other)
        assert chi > 2 * bound


def test_the_k_of_bitfit_and_its_own_stream_for_every_step():
    method, _, encoder = after_backward("stochastic_tuning", bert)
    assert method.k == sum(p.numel() for n, p in encoder.named_parameters() if "bias" in n)
    once = method.importance.take()
    method.importance.take = lambda: once
    chosen = [method.draw(step) for step in (1, 2, 1)]
    as_list = [{name: index.tolist() for name, index in each.items()} for each in chosen]
    assert as_list[0] == as_list[2] != as_list[1]
    for each in chosen:
        assert sum(map(len, each.values())) == method.k
        for name, index in each.items():
            positions = index.tolist()
            assert positions == sorted(set(positions))
            assert all(0 <= p < encoder.get_parameter(name).numel() for p in positions)
    other = after_backward("stochastic_tuning", bert)[0]
    other.rng = lambda name: rng(f"seed 1 {name}")
    assert {n: i.tolist() for n, i in other.draw(1).items()} != as_list[0]


@pytest.mark.parametrize("name", ["stochastic_tuning", "top_tuning"])
def test_if_fewer_have_any_importance_these_move_and_the_count_says_so(name):
    method, importance, encoder = after_backward(name, roberta, density=1.0)
    before = state(encoder)
    positive = {name: values.ravel() > 0 for name, values in importance.items()}
    method.before_step(1)
    total = sum(int(mask.sum()) for mask in method.drawn.values())
    assert 0 < total < method.k == sum(p.numel() for p in encoder.parameters())
    assert (method.moved_per_step, method.support_size) == (total, total)
    for tensor, mask in positive.items():
        if "key.bias" in tensor:  # no softmax depends on it; its gradient is of rounding alone
            continue
        assert np.array_equal(method.drawn[tensor].view(-1).numpy(), mask), tensor
        gradient = encoder.get_parameter(tensor).grad
        assert (gradient is None) == (not mask.any())
        assert gradient is None or gradient._nnz() == mask.sum()
    assert all(torch.equal(value, before[n]) for n, value in state(encoder).items())
