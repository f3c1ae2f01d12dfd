"""The code in README and docs: a method that is one file, and the loop without jiant."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.methods import method_file
from support.models import Trainer, bert, rng, state, trained_masks
from support.tuning import batch_of, logits, make, tuned

from jiant_sparse import SparseModel
from jiant_sparse.config import load as config
from jiant_sparse.host.train import train
from jiant_sparse.methods import base

ROOT = Path(__file__).parent.parent


def example(page: str, part: str) -> str:
    """The one Python example of a page that contains `part`."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    (text,) = (block for block in blocks if part in block)
    return text


@pytest.fixture
def snip(tmp_path) -> Iterator[type[base.Method]]:
    """The method of docs/library.md, in the folder of methods."""
    with method_file(tmp_path, "snip", example("docs/library.md", "class Snip")) as kind:
        yield kind


def test_the_method_chooses_by_its_rule(snip):
    encoder = bert()
    before = state(encoder)
    trainer, method = Trainer(encoder), snip(density=0.01, burn_in=3)
    total = {name: torch.zeros_like(weight) for name, weight in before.items()}
    for _ in trainer.probe(3):
        for name, parameter in encoder.named_parameters():
            total[name] += parameter.grad
    scores = torch.cat([(total[n] * before[n]).abs().flatten() for n in before])
    method.attach(encoder, trainer.probe, rng)
    masks = torch.cat([m.flatten() for m in trained_masks(encoder, list(before)).values()])
    assert masks.sum() == 76 and scores[masks].min() >= scores[~masks].max()
    fresh, other = snip(density=0.01, burn_in=3), bert()
    fresh.restore(other, rng, method.state_dict())
    again = torch.cat([m.flatten() for m in trained_masks(other, list(before)).values()])
    assert torch.equal(masks, again)


def test_the_method_runs_in_a_benchmark(snip, make_job):
    job = make_job("cb", "snip", {"density": 0.05, "burn_in": 2})
    result = train(job)
    assert result.params.selected == int(result.params.eligible * 5 // 100)
    with pytest.raises(config.InputError, match="snip.burn_in: is 0; it must be an integer"):
        make_job("cb", "snip", {"burn_in": 0})


def test_the_loop_runs():
    model = torch.nn.ModuleDict({"roberta": bert(), "head": torch.nn.Linear(16, 2)})
    model.roberta = model["roberta"]
    scope = {
        "model": model,
        "batches": [torch.ones(2, 3, dtype=torch.int64)] * 2,
        "loss": lambda model, batch: model.roberta(batch).pooler_output.sum(),
    }
    before = state(model.roberta)
    exec(example("docs/library.md", "surgery.fold(model.roberta)"), scope)
    after = state(model.roberta)
    assert before.keys() == after.keys()
    assert 0 < sum(int((after[n] != before[n]).sum()) for n in before) <= 38


@pytest.mark.parametrize("page", ["README.md", "docs/library.md"])
def test_the_few_lines_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"base": make(), "loader": [batch_of()] * 3}
    text = example(page, "model = get_sparse_model")
    short = text.replace("density=0.005", 'density=0.005, method_kwargs={"burn_in": 2}')
    assert short != text
    exec(short, scope)
    assert scope["model"].active == ("default",)
    trained = not torch.equal(logits(scope["model"]), logits(make()))
    assert trained == ("optimizer_step" in text)


def test_the_life_of_several_deltas_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("code", "chat")):
        tuned("llama", density=0.2, seed=seed).save_pretrained(f"out/{name}")
    scope = {"base": make("llama"), "SparseModel": SparseModel}
    exec(example("docs/library.md", "load_delta"), scope)
    assert torch.equal(logits(scope["base"], "llama"), logits(make("llama"), "llama"))
