"""What the host does with a method's hooks, in which order, and with its probe."""

import json

import pytest
import torch

from jiant_sparse.host.train import train
from jiant_sparse.methods.full_tuning import FullTuning


@pytest.fixture
def recorded(monkeypatch):
    """recorded(): from then on FullTuning's hooks note what they see in the returned list, whose
    attributes change them. Jobs are made before, for planning attaches a method as well.
    """

    class Calls(list):
        penalty = 0.0
        scores_from = 0

    calls = Calls()

    def attach(self, model, probe, rng):
        self.encoder, self.step = model, 0
        calls.append(("attach", [rng("a").initial_seed(), rng("b").initial_seed()]))

    def norm(self):
        gradients = [p.grad.norm() for p in self.encoder.parameters() if p.grad is not None]
        return torch.stack(gradients).norm().item()

    def before_step(self, step):
        calls.append(("before_step", step, norm(self)))

    def after_step(self, step, optimizer):
        self.step = step
        calls.append(("after_step", step, norm(self)))

    def install():
        monkeypatch.setattr(FullTuning, "attach", attach)
        monkeypatch.setattr(FullTuning, "before_step", before_step)
        monkeypatch.setattr(FullTuning, "after_step", after_step)
        monkeypatch.setattr(FullTuning, "penalty", lambda self: calls.penalty)
        monkeypatch.setattr(FullTuning, "scores_at", lambda self, step: step >= calls.scores_from)
        return calls

    return install


def losses(job) -> list[float]:
    lines = map(json.loads, (job.directory / "log.jsonl").read_text().splitlines())
    return [entry["loss"] for entry in lines if entry["event"] == "train"]


def test_hooks_come_in_order_around_the_clip(make_job, recorded):
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


def test_a_penalty_is_added_to_the_loss(make_job, recorded):
    settings = {"max_steps": 2, "gradient_accumulation": 2}
    plain, punished = (make_job(train=settings, output=o) for o in ("plain", "punished"))
    calls = recorded()
    train(plain)
    calls.penalty = 3.0
    train(punished)
    assert losses(punished) == pytest.approx([loss + 3.0 for loss in losses(plain)], rel=1e-5)


def test_scores_do_not_compete_before_the_method_says_so(make_job, recorded):
    job = make_job(train={"max_steps": 4, "eval_every": 1})
    recorded().scores_from = 3
    result = train(job)
    assert [step for step, _ in result.history] == [1, 2, 3, 4]
    assert result.best_step >= 3


def test_the_probe_clips_and_drops_out_as_asked_and_leaves_modes_alone(make_job, monkeypatch):
    seen = {}

    def attach(self, model, probe, rng):
        model.eval()
        asked = {"plain": {}, "again": {}, "dropout": {"dropout": True}}
        for name, options in (asked | {"clipped": {"max_grad_norm": 1e-3}}).items():
            gradients = []
            for _ in probe(2, **options):
                assert model.training == options.get("dropout", False)
                flat = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
                gradients.append(torch.cat(flat))
            seen[name] = gradients
        assert not model.training
        model.train()

    job = make_job()
    monkeypatch.setattr(FullTuning, "attach", attach)
    train(job)
    assert all(map(torch.equal, seen["plain"], seen["again"]))
    assert not torch.equal(seen["plain"][0], seen["plain"][1])
    assert not torch.equal(seen["plain"][0], seen["dropout"][0])
    assert max(gradient.norm() for gradient in seen["clipped"]) <= 1.001e-3
    cosine = torch.cosine_similarity(seen["clipped"][0], seen["plain"][0], dim=0)
    assert cosine == pytest.approx(1, abs=1e-5)
