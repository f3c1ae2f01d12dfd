"""Methods that choose anew at every step: what they draw, and that nothing else moves."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from support.models import Trainer, bert, bits, end_to_end, rng, roberta, state
from support.unfolded import taken
from torch import nn

from jiant_sparse.errors import InputError, NotFinite
from jiant_sparse.host.train import train
from jiant_sparse.methods import base
from jiant_sparse.sparse import delta, surgery
from jiant_sparse.sparse.optimizer import AdamW

every_one = pytest.mark.parametrize("name", ["stochastic_tuning", "top_tuning", "random_per_step"])
by_importance = pytest.mark.parametrize("name", ["stochastic_tuning", "top_tuning"])
COUNT = 7664  # weights of the tiny BERT


def attached(name: str, make=bert, *, pooled: bool = True, **fields):
    encoder = make()
    trainer = Trainer(encoder, pooled=pooled)
    method = base.find(name)(**fields)
    method.attach(encoder, trainer.probe, rng)
    return trainer, method, encoder


@every_one
@pytest.mark.parametrize(("make", "pooled"), [(bert, True), (roberta, False)])
def test_at_every_step_only_the_drawn_move_bit_for_bit(name, make, pooled):
    trainer, method, encoder = attached(name, make, pooled=pooled, density=0.05)
    draw, numbers = method.draw, []
    masks = {n: torch.zeros_like(w, dtype=torch.bool) for n, w in method.weights.items()}
    support = copy.deepcopy(masks)

    def remember(step):
        chosen = draw(step)
        numbers.append(0)
        for key, mask in masks.items():
            mask.zero_()
            # What falls on a pooler that is not read does not move.
            if pooled or not key.startswith("pooler"):
                mask.view(-1)[chosen[key]] = True
                support[key] |= mask
                numbers[-1] += len(chosen[key])
        return chosen

    method.draw, first = remember, state(encoder)
    for _ in range(8):
        before = state(encoder)
        trainer.train(method, 1, weight_decay=0.5)
        for key, weight in state(encoder).items():
            assert torch.equal(bits(weight)[~masks[key]], bits(before[key])[~masks[key]]), key
    assert all(torch.equal(method.drawn[key], mask) for key, mask in support.items())
    assert method.support_size == sum(int(mask.sum()) for mask in support.values())
    assert method.moved_per_step == sum(numbers) / 8
    assert numbers == [method.k] * 8 or (not pooled and name == "random_per_step")
    assert method.k < method.support_size < 8 * method.k
    changed = sum(int((weight != first[key]).sum()) for key, weight in state(encoder).items())
    assert 0.8 * method.support_size < changed <= method.support_size


# --- which are drawn


def with_gradients(name: str, **fields):
    """(a method that has seen a batch, the importance of each weight, the encoder)"""
    trainer, method, encoder = attached(name, **fields)
    generator = torch.Generator().manual_seed(4)
    for weight in encoder.parameters():  # biases are zero at first
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    encoder.train()
    trainer.backward(rng("batch"))
    if name == "random_per_step":
        return method, None, encoder
    once = method.importance.take()
    method.importance.take = lambda: once
    return method, end_to_end(taken(method.importance, encoder).values()), encoder


def drawn(method: base.Method, step: int) -> np.ndarray:
    """(weights,) bool: what is drawn in a step."""
    masks = {name: np.zeros(weight.numel(), bool) for name, weight in method.weights.items()}
    for name, index in method.draw(step).items():
        masks[name][index] = True
    return end_to_end(masks.values())


def p_value(counts: np.ndarray, weights: np.ndarray) -> float:
    """Of a chi-square test; light entries together in bins of an expected 10."""
    order = np.argsort(-weights)
    expected = counts.sum() * weights[order] / weights.sum()
    bins = np.minimum(expected.cumsum() // 10, counts.sum() // 10 - 1)
    _, group = np.unique(bins, return_inverse=True)
    assert group[-1] > 14
    return stats.chisquare(np.bincount(group, counts[order]), np.bincount(group, expected)).pvalue


def test_stochastic_tuning_draws_by_the_square_of_the_importance():
    method, importance, _ = with_gradients("stochastic_tuning", density=1.5 / COUNT)
    counts = sum(drawn(method, step).astype(int) for step in range(1, 401))
    assert (method.k, counts.sum()) == (1, 400)
    assert p_value(counts, importance**2) > 1 / 30_000 > 1e-9 > p_value(counts, importance)
    assert not counts[importance == 0].any()


def test_random_per_step_draws_every_weight_as_often_as_any_other():
    method, _, _ = with_gradients("random_per_step", density=0.1)
    counts = sum(drawn(method, step).astype(int) for step in range(1, 401))
    assert counts.sum() == 400 * method.k
    assert p_value(counts, np.ones(COUNT)) > 1 / 30_000


def test_top_tuning_takes_the_largest_importances():
    method, importance, _ = with_gradients("top_tuning", density=0.07)
    chosen = drawn(method, 1)
    assert chosen.sum() == method.k == int(0.07 * COUNT)
    assert importance[chosen].min() >= importance[~chosen].max() > 0


@pytest.mark.parametrize("name", ["stochastic_tuning", "random_per_step"])
def test_steps_and_seeds_have_streams_of_their_own(name):
    method, same, other = (with_gradients(name, density=0.1)[0] for _ in range(3))
    other.rng = lambda stream: rng(f"seed 1 {stream}")
    first, again = drawn(method, 1), drawn(same, 1)
    assert np.array_equal(first, again)
    assert (first != drawn(method, 2)).any() and (first != drawn(other, 1)).any()


@by_importance
def test_if_fewer_have_any_importance_these_move_and_the_count_says_so(name):
    method, importance, encoder = with_gradients(name, density=1.0)
    method.before_step(1)
    total = (importance > 0).sum()
    assert 0 < total < method.k == COUNT
    assert (method.moved_per_step, method.support_size) == (total, total)
    masks = [mask.numpy() for mask in method.drawn.values()]
    assert np.array_equal(end_to_end(masks), importance > 0)
    for mask, weight in zip(masks, encoder.parameters(), strict=True):
        assert weight.grad._nnz() == mask.sum() if mask.any() else weight.grad is None


@by_importance
def test_the_importance_is_measured_as_the_fields_say(name):
    _, method, _ = attached(name, mean="absolute", padding=True)
    assert (method.importance.mean, method.importance.padding) == ("absolute", True)


# --- dense


def test_a_masked_gradient_under_adamw_bit_for_bit():
    """`momentum: dense`: torch's AdamW on a twin whose gradients are multiplied with the mask."""
    trainer, method, encoder = attached("random_per_step", density=0.1, momentum="dense")
    twin = Trainer(copy.deepcopy(encoder))
    again = copy.deepcopy(method)
    masks = {n: torch.zeros_like(p) for n, p in twin.encoder.named_parameters()}

    class Masked(base.Method):
        def before_step(self, step):
            chosen = again.draw(step)
            for n, p in twin.encoder.named_parameters():
                masks[n].zero_().view(-1)[chosen[n]] = 1
                p.grad *= masks[n]

    parts = nn.ModuleList([twin.encoder, twin.head])
    trainer.train(method, 5)
    twin.optimizer = torch.optim.AdamW(surgery.parameter_groups(parts, 0.1), lr=1e-2)
    twin.train(Masked(), 5)
    assert trainer.losses == twin.losses
    one, two = state(encoder), state(twin.encoder)
    assert all(torch.equal(bits(one[n]), bits(two[n])) for n in one)
    assert (method.support_size, method.moved_per_step) == (None, None)
    # Decay moves what was never drawn.
    name = "encoder.layer.0.output.dense.weight"
    assert bool((one[name] != state(bert())[name]).all())


# --- fields


@every_one
def test_a_tensor_that_is_not_contiguous_is_refused(name):
    encoder = bert()
    weight = encoder.pooler.dense.weight
    weight.data = weight.data.t()
    message = "^pooler.dense.weight: entries of a non-contiguous tensor cannot be trained$"
    with pytest.raises(InputError, match=message):
        base.find(name)().attach(encoder, None, rng)


@every_one
def test_as_many_as_there_are_biases_and_all_with_density_one(name):
    _, method, encoder = attached(name)
    biases = sum(p.numel() for n, p in encoder.named_parameters() if n.endswith(".bias"))
    assert (method.k, method.moved_per_step) == (biases, biases)
    _, method, encoder = attached(name, density=1)
    assert method.k == sum(p.numel() for p in encoder.parameters())
    _, method, _ = attached(name, density=0.123)
    assert method.k == int(0.123 * sum(p.numel() for p in encoder.parameters()))


@by_importance
def test_gradients_that_are_not_finite_stop_the_run(name):
    trainer, method, encoder = attached(name, density=0.01)
    trainer.encoder.train(), trainer.backward(rng("batch"))
    tensor = "encoder.layer.1.output.dense.weight"
    encoder.get_parameter(tensor).grad[3, 4] = float("nan")
    message = f"^the importance of {tensor} is nan at flat position 100 at step 1$"
    with pytest.raises(NotFinite, match=message):
        method.before_step(1)


# --- the host

RUN = {"max_steps": 5, "eval_every": 5, "weight_decay": 0.3}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("stochastic_tuning", {"gradient_accumulation": 2, "precision": "bf16", "batch_size": 3}),
        ("random_per_step", {}),
    ],
)
def test_a_run_moves_what_its_record_says(name, settings, make_job):
    job = make_job("cb", name, {"density": 0.02}, RUN | settings)
    params = train(job).params
    k = int(0.02 * params.eligible)
    assert params.moved_per_step == k
    assert 0 < params.changed <= params.selected < 5 * k
    assert params.trainable == params.eligible + params.head
    assert params.changed == delta.changed(delta.load(job.directory / "delta.safetensors"))


def test_dense_is_recorded_as_all_that_trains(make_job):
    fields = {"density": 0.02, "momentum": "dense"}
    params = train(make_job("cb", "stochastic_tuning", fields, RUN)).params
    assert params.moved_per_step is None
    assert params.selected == params.eligible
    assert params.changed > 10 * int(0.02 * params.eligible)


# --- a device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_one
def test_on_a_device_the_drawn_alone_move_too(name):
    trainer, method, encoder = attached(name, density=0.01)
    encoder.cuda(), trainer.head.cuda()
    before = {key: weight.detach().clone() for key, weight in encoder.named_parameters()}
    for step in range(1, 4):
        ids = torch.randint(4, 50, (4, 6), generator=rng(f"batch {step}")).cuda()
        trainer.head(encoder.train()(input_ids=ids).pooler_output).square().sum().backward()
        method.before_step(step)
        optimizer = AdamW(encoder.parameters(), lr=0.01, weight_decay=0.1)
        optimizer.step()
        encoder.zero_grad()
    for key, weight in encoder.named_parameters():
        undrawn = ~method.drawn[key].to(weight.device)
        assert torch.equal(weight[undrawn], before[key][undrawn])
    assert method.support_size > method.k
