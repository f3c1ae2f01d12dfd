"""What the host does with a method's hooks, in which order, and with its probe."""

import pytest
import torch
from support.resuming import logged, losses

from jiant_sparse.host.train import train
from jiant_sparse.methods.full_tuning import FullTuning
from jiant_sparse.sparse import delta


def gradient(model) -> torch.Tensor:
    """The gradients of all weights, end to end."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.fixture
def recorded(monkeypatch):
    """recorded(): from then on FullTuning's hooks note what they see in the returned list. Its
    attributes change them. Make jobs before: planning attaches the method, too.
    """

    class Calls(list):
        penalty = 0.0
        scores_from = 0

    calls = Calls()

    def attach(self, model, probe, rng):
        self.encoder, self.step = model, 0
        calls.append(("attach", [rng("a").initial_seed(), rng("b").initial_seed()]))

    def before_step(self, step):
        calls.append(("before_step", step, gradient(self.encoder).norm()))

    def after_step(self, step, optimizer):
        self.step = step
        calls.append(("after_step", step, gradient(self.encoder).norm()))

    def install():
        monkeypatch.setattr(FullTuning, "attach", attach)
        monkeypatch.setattr(FullTuning, "before_step", before_step)
        monkeypatch.setattr(FullTuning, "after_step", after_step)
        monkeypatch.setattr(FullTuning, "penalty", lambda self: calls.penalty)
        monkeypatch.setattr(FullTuning, "scores_at", lambda self, step: step >= calls.scores_from)
        return calls

    return install


def test_order_around_the_clip(make_job, recorded):
    job = make_job(train={"max_steps": 2, "max_grad_norm": 1e-3})
    calls = recorded()
    train(job)
    assert [call[0] for call in calls] == [
        "attach", "before_step", "after_step", "before_step", "after_step",
    ]  # fmt: skip
    assert [call[1] for call in calls[1:]] == [1, 1, 2, 2]
    for before, after in (calls[1:3], calls[3:5]):
        assert before[2] > 1e-2, "not yet clipped"
        assert after[2] <= 1.001e-3, "clipped, and not yet zeroed"
    assert len(set(calls[0][1])) == 2, "streams of different names differ"


@pytest.mark.parametrize("penalty", [3.0, torch.tensor(3.0)])
def test_penalty_is_logged(penalty, make_job, recorded):
    settings = {"max_steps": 2, "gradient_accumulation": 2}
    plain, punished = (make_job(train=settings, output=o) for o in ("plain", "punished"))
    calls = recorded()
    train(plain)
    calls.penalty = penalty
    train(punished)
    # A constant has no gradient.
    assert losses(punished) == losses(plain)
    assert logged(punished, "train", "penalty") == [3.0, 3.0]
    assert "penalty" not in (plain.directory / "log.jsonl").read_text()


def test_penalty_trains(make_job, monkeypatch):
    """It draws the pooler's biases to zero, which are zero at first and leave it otherwise."""
    sizes = []
    for factor in (0.0, 100.0):
        job = make_job(output=f"factor {factor}")
        biases = []

        def penalty(self, biases=biases, factor=factor):
            return factor * biases[0].square().sum()

        monkeypatch.setattr(
            FullTuning,
            "attach",
            lambda self, model, *_, biases=biases: biases.append(model.pooler.dense.bias),
        )
        monkeypatch.setattr(FullTuning, "penalty", penalty)
        train(job)
        sizes.append(biases[0].abs().sum().item())
    assert sizes[1] < sizes[0]


def test_scores_at(make_job, recorded):
    job = make_job(train={"max_steps": 4, "eval_every": 1})
    recorded().scores_from = 3
    result = train(job)
    assert [step for step, _ in result.history] == [1, 2, 3, 4]
    assert result.best_step >= 3


def test_probe_passes(make_job, monkeypatch):
    """24 examples in batches of 10: their weighted mean is the gradient of the training set."""
    seen = []

    def attach(self, model, probe, rng):
        asked = [{"batches": None}, {"batches": 7}, {"batches": 2, "repeat": False}]
        for options in (*asked, {"batches": 1000, "repeat": False, "batch_size": 1}):
            weights, gradients = [], []
            for weight in probe(**options):
                weights.append(weight)
                gradients.append(gradient(model))
            seen.append((weights, gradients))

    job = make_job(train={"batch_size": 10})
    monkeypatch.setattr(FullTuning, "attach", attach)
    train(job)
    once, many, few, single = seen
    assert once[0] == [1.0, 1.0, 0.4]
    assert many[0] == [1.0, 1.0, 0.4, 1.0, 1.0, 0.4, 1.0]
    assert single[0] == [1.0] * 24 and few[0] == [1.0, 1.0]
    means = [
        sum(w * g for w, g in zip(*found, strict=True)) / sum(found[0]) for found in (once, single)
    ]
    torch.testing.assert_close(means[0], means[1], rtol=1e-3, atol=1e-6)
    plain = sum(once[1]) / 3
    assert (plain - means[1]).norm() > 10 * (means[0] - means[1]).norm()


def test_probe_head(make_job, monkeypatch):
    fields = {"burn_in": 2, "density": 0.02}
    jobs = [
        make_job("cb", "sam", fields | {"head_steps": steps}, {"learning_rate": 0.05}, str(steps))
        for steps in (0, 5)
    ]
    plain, trained = (train(job) for job in jobs)
    # Training begins with the same head, and with weights that are the same wherever they are.
    assert losses(jobs[0])[0] == losses(jobs[1])[0]
    indices = [delta.load(job.delta).entries for job in jobs]
    assert any(
        not torch.equal(index, indices[1][name][0])
        for name, (index, _) in indices[0].items()
        if name in indices[1]
    )
    assert "head_steps" not in plain.settings["method"]
    assert trained.settings["method"]["head_steps"] == 5


def test_probe_options_and_modes(make_job, monkeypatch):
    seen = {}

    def attach(self, model, probe, rng):
        model.eval()
        asked = {"plain": {}, "again": {}, "dropout": {"dropout": True}}
        for name, options in (asked | {"clipped": {"max_grad_norm": 1e-3}}).items():
            seen[name] = []
            for _ in probe(2, **options):
                assert model.training == options.get("dropout", False)
                seen[name].append(gradient(model))
        assert not model.training
        model.train()

    job = make_job()
    monkeypatch.setattr(FullTuning, "attach", attach)
    train(job)
    assert all(map(torch.equal, seen["plain"], seen["again"]))
    assert not torch.equal(seen["plain"][0], seen["plain"][1])
    assert not torch.equal(seen["plain"][0], seen["dropout"][0])
    assert max(found.norm() for found in seen["clipped"]) <= 1.001e-3
    cosine = torch.cosine_similarity(seen["clipped"][0], seen["plain"][0], dim=0)
    assert cosine == pytest.approx(1, abs=1e-5)
