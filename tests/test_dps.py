"""DpsMix and DpsDense against the stages written out, step by step, in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from support.models import bert, effective, rng, roberta, state, stored
from torch import Tensor, nn
from torch.func import functional_call

from jiant_sparse.errors import InputError
from jiant_sparse.methods.dps_dense import DpsDense
from jiant_sparse.methods.dps_mix import DpsMix
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.selection import largest_mask as largest

both = pytest.mark.parametrize("kind", [DpsMix, DpsDense])
OPTIONS = {"lr": 1e-2, "weight_decay": 0.1}
NORM = 0.3


class Tiny(nn.Module):
    """Layers used once, twice (its weight has a second owner), in even steps, and never."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.tied = nn.Linear(12, 9), nn.Linear(9, 9), nn.Linear(9, 9)
        self.even, self.never = nn.Linear(9, 9), nn.Linear(9, 4)
        self.norm = nn.LayerNorm(9)
        self.tied.weight = self.twice.weight

    def forward(self, x: Tensor, step: int) -> Tensor:
        x = self.twice(self.twice(self.first(x).tanh()).tanh())
        x = x + self.even(x).tanh() if step % 2 == 0 else x
        return self.norm(self.tied(x))


class Net(nn.Module):
    """An encoder with a head and a loss on random data, in float64."""

    def __init__(self, make) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.encoder = make()
        self.head = nn.Linear(9 if make is Tiny else 16, 3)
        self.double().train()

    def forward(self, step: int, rows: slice) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        labels = torch.randint(0, 3, (8,), generator=generator)[rows]
        if isinstance(self.encoder, Tiny):
            x = torch.randn(8, 12, generator=generator, dtype=torch.float64)
            features = self.encoder(x[rows], step)
        else:
            ids = torch.randint(4, 50, (8, 5), generator=generator)
            features = self.encoder(input_ids=ids[rows]).pooler_output
        return nn.functional.cross_entropy(self.head(features), labels)


class Run:
    """A method on a net. parts: micro-batches of a step; at_once: one backward pass for all."""

    def __init__(self, method, make=Tiny, parts=(slice(None),), at_once=False) -> None:
        self.net, self.method, self.parts, self.at_once = Net(make), method, parts, at_once
        self.step = 0

    def attach(self) -> "Run":
        self.method.attach(self.net.encoder, None, rng)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), **OPTIONS)
        return self

    def train(self, steps: int) -> dict[str, Tensor]:
        for _ in range(steps):
            self.step += 1
            torch.manual_seed(self.step)
            losses = (self.net(self.step, p) / len(self.parts) for p in self.parts)
            for loss in [sum(losses)] if self.at_once else losses:
                loss.backward()
            self.method.before_step(self.step)
            nn.utils.clip_grad_norm_(self.net.parameters(), NORM)
            self.optimizer.step()
            self.method.after_step(self.step, self.optimizer)
            self.net.zero_grad()
        return stored(self.net)


def linear(name: str) -> bool:
    """Of the matrices in these nets, those that are neither a lookup nor the head's."""
    return name.startswith("encoder.") and "embeddings" not in name


class Reference:
    """The fact sheet's 3.14 with exact counts and the true gradient; every layer by name."""

    def __init__(self, make, p: float, us: int, mix: bool, parts=(slice(None),)) -> None:
        self.net, self.p, self.us, self.mix, self.parts = Net(make), p, us, mix, parts
        self.weights = {n: w.requires_grad_() for n, w in state(self.net).items()}
        self.pretrained = state(self.net)
        self.linear = [n for n, w in self.weights.items() if w.dim() == 2 and linear(n)]
        self.optimizer = torch.optim.AdamW(self.weights.values(), **OPTIONS)
        self.masks: dict[str, Tensor] = {}

    def train(self, steps: int) -> dict[str, Tensor]:
        for step in range(1, steps + 1):
            stage, first = math.ceil(step / self.us) % 2, (step - 1) % self.us == 0
            if first and stage == 1:
                self.fisher = {n: torch.zeros_like(w).detach() for n, w in self.weights.items()}
                self.count = {n: torch.zeros_like(w).detach() for n, w in self.weights.items()}
            if first and stage == 0:
                self.target = {n: w.detach().clone() for n, w in self.weights.items()}
                self.masks = {n: self.choose(n) for n in self.linear}
            self.one(step, stage)
        return {n: w.detach() for n, w in self.weights.items()}

    def one(self, step: int, stage: int) -> None:
        seen = {n: w.detach().clone() for n, w in self.weights.items()}
        noise = {n: self.noise(n, step, stage) for n in self.linear}
        q = 1 - self.p
        for n in self.linear if self.mix else ():
            u, b = (self.pretrained if stage else self.target)[n], noise[n]
            seen[n] = ((1 - b) * u + b * seen[n] - q * u) / (1 - q)
        leaves = {n: w.requires_grad_() for n, w in seen.items()}
        torch.manual_seed(step)
        losses = [functional_call(self.net, leaves, (step, part)) for part in self.parts]
        loss = sum(losses) / len(losses)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        for (n, weight), gradient in zip(self.weights.items(), found, strict=True):
            weight.grad = gradient
            if n not in noise or gradient is None:
                continue
            if stage == 1:
                self.fisher[n] += gradient**2 * noise[n] / 1000
                self.count[n] += noise[n]
            if self.mix or stage == 0:
                weight.grad = gradient * noise[n] / ((1 - q) if self.mix else 1)
        nn.utils.clip_grad_norm_(self.weights.values(), NORM)
        self.optimizer.step()

    def noise(self, name: str, step: int, stage: int) -> Tensor:
        shape = self.weights[name].shape
        if stage == 0:
            return self.masks[name].double()
        if not self.mix:
            return torch.ones(shape)
        seed = rng(f"{name.removeprefix('encoder.')}/{step}").initial_seed()
        drawn = torch.rand(shape[1], generator=torch.Generator().manual_seed(seed)) < self.p
        return drawn.double().expand(shape)

    def choose(self, name: str) -> Tensor:
        count = self.count[name].clamp(min=1)
        score = self.fisher[name]
        if self.mix:
            score = score / count * (torch.exp(-count / self.us) if self.us >= 50 else 1)
        k = math.ceil(round(score.numel() * self.p, 6))
        order = np.argsort(-score.flatten().numpy(), kind="stable")
        mask = torch.zeros(score.numel(), dtype=torch.bool)
        mask[order[:k]] = True
        return mask.view(score.shape)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9, msg=name)


@both
@pytest.mark.parametrize(
    ("fraction", "stage", "steps"), [(0.7, 1, 5), (0.29, 4, 26), (0.7, 49, 60), (0.6, 50, 60)]
)
def test_every_stage_is_the_published_one(kind, fraction, stage, steps):
    run = Run(kind(updated_fraction=fraction, stage_steps=stage)).attach()
    reference = Reference(Tiny, fraction, stage, kind is DpsMix)
    same(run.train(steps), reference.train(steps))


@pytest.mark.parametrize(("kind", "make"), [(DpsMix, roberta), (DpsDense, bert)])
def test_on_transformers_with_dropout_too(kind, make):
    run = Run(kind(stage_steps=2), make).attach()
    same(run.train(7), Reference(make, 0.7, 2, kind is DpsMix).train(7))
    assert len(run.method.weights) == 13


@pytest.mark.parametrize(
    ("kind", "make", "at_once"),
    [(DpsMix, Tiny, False), (DpsMix, bert, True), (DpsDense, Tiny, True), (DpsDense, bert, False)],
)
def test_several_passes_are_one_step(kind, make, at_once):
    halves = (slice(0, 4), slice(4, 8))
    run = Run(kind(stage_steps=3), make, halves, at_once).attach()
    same(run.train(8), Reference(make, 0.7, 3, kind is DpsMix, halves).train(8))


@both
def test_a_tensor_the_loss_never_reached_has_its_first_entries(kind):
    run = Run(kind(updated_fraction=0.6, stage_steps=1)).attach()
    run.train(1)
    for name in ("never.weight", "even.weight"):
        mask = run.method.masks[name].flatten()
        assert mask.tolist() == [i < math.ceil(0.6 * len(mask)) for i in range(len(mask))]


@both
def test_evaluation_and_the_final_model_have_the_weights_themselves(kind):
    run = Run(kind(stage_steps=3), bert).attach()
    weights = run.train(5)
    for name, value in effective(run.net.eval(), weights).items():
        assert torch.equal(value, weights[name]), name
    names = set(weights)
    assert surgery.count(run.net.encoder, {n.removeprefix("encoder.") for n in names})[1] == 0
    surgery.fold(run.net.encoder)
    final = state(run.net)
    assert set(final) == names
    assert all(torch.equal(final[name], weights[name]) for name in names)


@both
def test_half_precision_gradients_are_summed_up_in_single(kind):
    encoder = Tiny().bfloat16().train()
    method = kind(stage_steps=2)
    method.attach(encoder, None, rng)
    encoder(torch.ones(2, 12, dtype=torch.bfloat16), 1).sum().backward()
    method.before_step(1)
    weight = method.weights["first.weight"]
    assert method.squares["first.weight"].dtype == torch.float32
    assert torch.equal(method.squares["first.weight"], weight.grad.float() ** 2)
    method.before_step(2)
    method.after_step(2, None)
    assert int(method.masks["first.weight"].sum()) == 76


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fraction", [1e-9, 0.07, 0.29, 0.5, 0.999])
def test_the_largest_are_an_exact_number_and_the_first_of_equals(dtype, fraction):
    for size, distinct in itertools.product((1, 7, 100, 1000), (1, 2, 5, 10**9)):
        values = np.random.default_rng(size).integers(0, distinct, size)
        scores = torch.tensor(values).to(dtype).reshape(-1, 1)
        mask = largest(scores, fraction)
        assert mask.shape == scores.shape
        k = -(-size * int(fraction * 10**9 + 0.5) // 10**9)
        order = np.argsort(-scores.double().numpy().ravel(), kind="stable")[:k]
        assert mask.ravel().nonzero().ravel().tolist() == sorted(order)


def test_infinities_are_ordered_as_numbers_are():
    scores = torch.tensor([1.0, float("inf"), 0.0, float("inf"), 2.0])
    assert largest(scores, 0.6).nonzero().ravel().tolist() == [1, 3, 4]


@both
def test_an_encoder_without_linear_layers_is_refused(kind):
    message = "the encoder has no linear layers; the choice is among their weights"
    with pytest.raises(InputError, match=f"^{message}$"):
        kind().attach(nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm(4)), None, rng)
