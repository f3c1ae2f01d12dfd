"""What is chosen anew at every step: only that moves, and every entry by an AdamW of its own."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from support.models import Trainer, bert, bits, rng, roberta, state
from torch import nn

from jiant_sparse.errors import InputError, NotFinite
from jiant_sparse.host import optimizer as host_optimizer
from jiant_sparse.host.train import train
from jiant_sparse.methods import base
from jiant_sparse.schema.control import Control, Stopped
from jiant_sparse.sparse import delta, surgery
from jiant_sparse.sparse.optimizer import AdamW

NAMES = ("stochastic_tuning", "top_tuning", "random_per_step")
every_one = pytest.mark.parametrize("name", NAMES)


class Watched(AdamW):
    """Compares, at every step, all bits of weights and moments before and after."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.named: dict[torch.Tensor, torch.Tensor] = {}
        self.counts: dict[torch.Tensor, torch.Tensor] = {}
        self.numbers: list[int] = []

    def step(self, closure=None):
        weights = [p for group in self.param_groups for p in group["params"]]
        before = {p: self._bits(p) for p in weights}
        chosen = {p: self._mask(p) for p in weights}
        super().step(closure)
        self.numbers.append(sum(int(m.sum()) for m in chosen.values() if m is not None))
        for p, mask in chosen.items():
            if mask is None:
                continue
            self.named[p] = self.named.get(p, False) | mask
            self.counts[p] = self.counts.get(p, 0) + mask.int()
            for old, new in zip(before[p], self._bits(p), strict=False):
                assert torch.equal(old[~mask], new[~mask])
            if p in self.state:
                assert torch.equal(self.state[p]["step"], self.counts[p])

    def _bits(self, p: torch.Tensor) -> list[torch.Tensor]:
        moments = [self.state.get(p, {}).get(key) for key in ("exp_avg", "exp_avg_sq", "step")]
        return [bits(t).clone() for t in (p, *moments) if t is not None]

    def _mask(self, p: torch.Tensor) -> torch.Tensor | None:
        """The entries that may move; None where all may, as in the head."""
        if p.grad is None:
            return torch.zeros_like(p, dtype=torch.bool)
        if not p.grad.is_sparse:
            return None
        mask = torch.zeros_like(p, dtype=torch.bool)
        mask[tuple(p.grad.indices())] = True
        return mask


def attached(name: str, make=bert, *, pooled: bool = True, **fields):
    encoder = make()
    trainer = Trainer(encoder, pooled=pooled)
    method = base.find(name)(**fields)
    method.attach(encoder, trainer.probe, rng)
    return trainer, method, encoder


# --- lazy


@every_one
@pytest.mark.parametrize(("make", "pooled"), [(bert, True), (roberta, False)])
def test_at_every_step_only_the_drawn_move_bit_for_bit(name, make, pooled, monkeypatch):
    monkeypatch.setattr("support.models.AdamW", Watched)
    trainer, method, encoder = attached(name, make, pooled=pooled, density=0.05)
    first = state(encoder)
    steps = 8
    trainer.train(method, steps, weight_decay=0.5)
    watched = trainer.optimizer
    head = {*trainer.head.parameters()}
    assert head.isdisjoint(watched.named) and head <= set(watched.state)
    drawn = {n: watched.named[p] for n, p in encoder.named_parameters()}
    assert all(torch.equal(method.drawn[n], mask) for n, mask in drawn.items())
    assert method.support_size == sum(int(mask.sum()) for mask in drawn.values())
    assert method.moved_per_step == sum(watched.numbers) / steps
    if pooled:
        assert watched.numbers == [method.k] * steps
    else:
        assert not any(mask.any() for n, mask in drawn.items() if "pooler" in n)
    expected = method.k * (1 if pooled or name != "random_per_step" else 0.97)
    assert 0.9 * expected < method.moved_per_step <= expected
    assert method.k < method.support_size < steps * method.k
    after = state(encoder)
    for n, mask in drawn.items():
        assert torch.equal(bits(after[n])[~mask], bits(first[n])[~mask])
    changed = sum(int((after[n] != first[n]).sum()) for n in first)
    assert 0.8 * method.support_size < changed <= method.support_size


@every_one
def test_every_entrys_way_is_that_of_torchs_adamw_on_it_alone(name):
    """Through the trainer, its clipping included; a few entries of every tensor."""
    trainer, method, encoder = attached(name, density=0.3)
    trainer.train(method, 1, weight_decay=0.4)
    decays = {p: g["weight_decay"] for g in trainer.optimizer.param_groups for p in g["params"]}
    # From a fresh start, so that the twins begin with the entries.
    trainer.optimizer.state.clear()
    twins = {}
    for n, p in encoder.named_parameters():
        for at in range(0, p.numel(), p.numel() // 4):
            twin = nn.Parameter(p.detach().view(-1)[at].clone())
            twins[n, at] = twin, torch.optim.AdamW([twin], weight_decay=decays[p], lr=1e-2)
    plain, steps = trainer.optimizer.step, []

    def step():
        steps.append(0)
        for (n, at), (twin, optimizer) in twins.items():
            gradient = encoder.get_parameter(n).grad
            if gradient is None or not method.last[n][at]:
                continue
            steps[-1] += 1
            twin.grad = gradient.to_dense().view(-1)[at].clone()
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
        plain()

    draw = method.draw

    def remember(number):
        chosen = draw(number)
        method.last = {}
        for n, index in chosen.items():
            method.last[n] = torch.zeros(encoder.get_parameter(n).numel(), dtype=torch.bool)
            method.last[n][index] = True
        return chosen

    method.draw, trainer.optimizer.step = remember, step
    for rate in (1e-2, 5e-3, 2e-2, 1e-3, 4e-3, 0.0, 3e-3):
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        trainer.train(method, 1)
    assert 0 < min(steps) <= max(steps) < len(twins)
    for (n, at), (twin, _) in twins.items():
        ours = encoder.get_parameter(n).detach().view(-1)[at]
        torch.testing.assert_close(ours, twin.detach(), rtol=3e-6, atol=3e-8, msg=n)


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


@pytest.mark.parametrize("name", ["stochastic_tuning", "top_tuning"])
def test_dense_leaves_whole_gradients_that_are_zero_but_for_the_drawn(name):
    trainer, method, encoder = attached(name, density=0.1, momentum="dense")
    lazy_trainer, lazy, lazy_encoder = attached(name, density=0.1)
    torch.manual_seed(0), trainer.encoder.train(), trainer.backward(rng("batch"))
    torch.manual_seed(0), lazy_trainer.encoder.train(), lazy_trainer.backward(rng("batch"))
    method.before_step(1), lazy.before_step(1)
    moving = 0
    for n, p in encoder.named_parameters():
        other = lazy_encoder.get_parameter(n).grad
        other = torch.zeros_like(p) if other is None else other.to_dense()
        assert not p.grad.is_sparse and torch.equal(p.grad, other)
        moving += int((p.grad != 0).sum())
    assert moving == method.k


# --- fields


@every_one
def test_a_density_that_leaves_nothing_is_refused(name):
    with pytest.raises(InputError, match="no weight of [0-9,]+ would train in a step$"):
        attached(name, density=1e-5)


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


def test_gradients_that_are_not_finite_stop_the_run():
    for name in ("stochastic_tuning", "top_tuning"):
        trainer, method, encoder = attached(name, density=0.01)
        trainer.encoder.train(), trainer.backward(rng("batch"))
        tensor = "encoder.layer.1.output.dense.weight"
        encoder.get_parameter(tensor).grad[3, 4] = float("nan")
        with pytest.raises(
            NotFinite, match=f"^the importance of {tensor} is nan at flat position 100 at step 1$"
        ):
            method.before_step(1)


# --- the host


def through_the_host(make_job, monkeypatch, name, fields=None, train_fields=None, **keys):
    """(job, record, what its optimiser saw, the encoder's weights by name)."""
    made, plain = [], surgery.parameter_groups

    class Kept(Watched):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    def parameter_groups(model, weight_decay):
        made.append(dict(model.encoder.named_parameters()))
        return plain(model, weight_decay)

    monkeypatch.setattr(surgery, "parameter_groups", parameter_groups)
    monkeypatch.setattr(host_optimizer, "AdamW", Kept)
    settings = {"max_steps": 5, "eval_every": 5, "weight_decay": 0.3} | (train_fields or {})
    job = make_job("cb", name, fields, settings, **keys)
    record = train(job)
    weights, optimizer = made
    return job, record, optimizer, weights


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("stochastic_tuning", {"gradient_accumulation": 2, "precision": "bf16", "batch_size": 3}),
        ("stochastic_tuning", {}),
        ("top_tuning", {}),
        ("random_per_step", {}),
    ],
)
def test_a_run_moves_what_its_record_says(name, settings, make_job, monkeypatch):
    fields = {"density": 0.02}
    job, record, watched, weights = through_the_host(make_job, monkeypatch, name, fields, settings)
    k = int(0.02 * record.params.eligible)
    assert watched.numbers == [k] * 5
    assert record.params.moved_per_step == k
    assert record.params.selected == sum(int(mask.sum()) for mask in watched.named.values())
    assert 0 < record.params.changed <= record.params.selected < 5 * k
    assert record.params.trainable == record.params.eligible + record.params.head
    before = load_file(job.source.path / "model.safetensors")
    change = delta.load(job.directory / "delta.safetensors")
    after = delta.apply(change, {n: before[n] for n in change.base})
    assert set(before) == set(weights)
    for n, weight in weights.items():
        assert not ((bits(after[n]) != bits(before[n])) & ~watched.named[weight]).any(), n


def test_dense_is_recorded_as_all_that_trains(make_job, monkeypatch):
    fields = {"density": 0.02, "momentum": "dense"}
    _, record, watched, _ = through_the_host(make_job, monkeypatch, "stochastic_tuning", fields)
    assert record.params.moved_per_step is None
    assert record.params.selected == record.params.eligible
    assert record.params.changed > 10 * int(0.02 * record.params.eligible)
    assert watched.numbers == [0] * 5


def test_a_run_in_two_parts_draws_moves_and_counts_the_same(make_job):
    """COPA, two passes for each batch, accumulated."""

    class Halt(Control):
        def tell(self, phase, step=0, steps=None, score=None):
            super().tell(phase, step, steps, score)
            if (phase, step) == ("training", 3):
                self.stop("stopped")

    fields = {"density": 0.03, "padding": True}
    settings = {"max_steps": 5, "eval_every": 5, "gradient_accumulation": 2}
    whole, parts = (
        make_job("copa", "stochastic_tuning", fields, settings, output=output)
        for output in ("whole", "parts")
    )
    expected = train(whole).params
    with pytest.raises(Stopped):
        train(parts, Halt())
    assert train(parts).params == expected
    one, two = (job.directory / "delta.safetensors" for job in (whole, parts))
    assert one.read_bytes() == two.read_bytes()
    losses = [
        [json.loads(line).get("loss") for line in (job.directory / "log.jsonl").open()]
        for job in (whole, parts)
    ]
    assert losses[0] == losses[1]


# --- a device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["stochastic_tuning", "top_tuning", "random_per_step"])
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
