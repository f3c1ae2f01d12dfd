"""The contract: what every file in methods/ must keep. A new method needs no row here."""

import dataclasses
import math
import random
from typing import get_args

import numpy as np
import pytest
import torch
from support.models import Trainer, bert, quick_fields, rng, roberta, state, trained_masks

from jiant_sparse.config import load as config
from jiant_sparse.errors import InputError
from jiant_sparse.methods import base, fields
from jiant_sparse.methods.choices import StepChoice
from jiant_sparse.report import published
from jiant_sparse.schema.cell import Train
from jiant_sparse.sparse import delta, layers, selection, surgery

every_method = pytest.mark.parametrize("name", base.names())
every_encoder = pytest.mark.parametrize("make", [bert, roberta])
STEPS = 20


@pytest.fixture(params=["chosen gradients", "dense gradients"])
def way(request, monkeypatch) -> None:
    """A method cannot tell on which way the gradient of its entries came."""
    if request.param == "dense gradients":
        monkeypatch.setattr(layers, "FORWARDS", {})


def make_method(name: str) -> base.Method:
    """The method as a configuration gives it, with a burn-in that a test can wait for."""
    return base.find(name)(**quick_fields(name))


def configure(name: str, fields: dict) -> config.Benchmark:
    raw = {"benchmark": "b", "model": "m", "data_dir": "d", "seeds": [0], "tasks": {"cb": {}}}
    return config.parse(raw | {"methods": {name: fields}}, "f.yaml")


def tuned(name: str, make, **options):
    """An encoder after 20 AdamW steps with decay; and what it was, and what might change.

    Of a method whose support moves that is every weight that was ever drawn.
    """
    encoder = make()
    before = state(encoder)
    trainer = Trainer(encoder, **options)
    method = make_method(name)
    assert method.scores_at(STEPS)
    method.attach(encoder, trainer.probe, rng)
    head = state(trainer.head)
    trainer.train(method, STEPS)
    masks = trained_masks(encoder, list(before))
    counts = surgery.count(encoder, before.keys())
    if method.moved_per_step is not None:
        assert (
            0
            < method.moved_per_step
            <= method.support_size
            < sum(map(torch.numel, before.values()))
        )
        masks, counts = method.drawn, (method.support_size, 0)
    assert any(not torch.equal(head[k], v) for k, v in state(trainer.head).items())
    return encoder, before, masks, counts


@every_method
def test_loads_from_an_empty_block(name):
    (cell,) = configure(name, {}).cells
    assert dataclasses.asdict(cell.make_method()) == cell.method_fields


@every_method
def test_rejects_unknown_keys_by_name(name):
    with pytest.raises(InputError, match=f"methods.{name}.densitty: is not a known key"):
        configure(name, {"densitty": 0.1})


@every_method
def test_rejects_bad_values_by_name(name):
    for field, hint in fields.of(base.find(name)).items():
        with pytest.raises(InputError) as caught:
            configure(name, {field: [[]]})
        allowed = f"is [[]]; it must be {fields.allowed(hint)}"
        assert f"f.yaml: methods.{name}.{field}: {allowed}" in caught.value.problems


@every_method
def test_declares_what_a_report_needs(name):
    kind = base.find(name)
    assert kind.title and kind.paper
    assert kind.category in get_args(base.Category)
    known = {*fields.of(kind), *(f"train.{field}" for field in Train.model_fields)}
    assert {*(kind.readings or ())} | {*(kind.left_open or ())} <= known


@every_method
@every_encoder
@pytest.mark.parametrize("pooled", [True, False])
def test_only_what_is_selected_changes(name, make, pooled, way):
    encoder, before, masks, (selected, added) = tuned(name, make, pooled=pooled)
    assert selected == sum(int(mask.sum()) for mask in masks.values())
    method = make_method(name)
    if hasattr(method, "density") and not isinstance(method, StepChoice):
        total = sum(tensor.numel() for tensor in before.values())
        assert selected == selection.budget(total, method.density)
    surgery.settle(encoder)
    after = state(encoder)
    assert before.keys() <= after.keys()
    assert added == sum(tensor.numel() for key, tensor in after.items() if key not in before)
    for tensor, mask in masks.items():
        assert torch.equal(after[tensor][~mask], before[tensor][~mask]), tensor
    change = delta.extract(before, after)
    assert delta.changed(change) <= selected
    assert delta.changed(change) + added > 0 or name == "frozen"


@every_method
def test_same_seed_same_bytes(name):
    one, two = (state(tuned(name, bert)[0]) for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)


@every_method
def test_attach_leaves_the_global_generators_and_the_gradients_alone(name):
    encoder = bert()
    trainer = Trainer(encoder)
    before = state(encoder)
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    make_method(name).attach(encoder, trainer.probe, rng)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]
    assert all(p.grad is None for p in encoder.parameters())
    surgery.settle(encoder)
    after = state(encoder)
    assert all(torch.equal(after[key], value) for key, value in before.items())


@every_method
def test_delta_takes_the_base_to_the_tuned_model_bit_by_bit(name, tmp_path):
    encoder, before, _, _ = tuned(name, roberta)
    surgery.settle(encoder)
    path = tmp_path / "delta.safetensors"
    delta.save(delta.extract(before, state(encoder)), path)
    applied = delta.apply(delta.load(path), before)
    assert before.keys() <= applied.keys()
    for key, value in state(encoder).items():
        assert torch.equal(applied[key].view(torch.int32), value.view(torch.int32)), key


@every_method
def test_penalty_is_finite_and_not_negative(name):
    encoder = bert()
    method = make_method(name)
    method.attach(encoder, Trainer(encoder).probe, rng)
    penalty = float(torch.as_tensor(method.penalty()).detach())
    assert math.isfinite(penalty)
    assert penalty >= 0


@every_method
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_a_fresh_instance_goes_on_from_the_state_as_if_it_were_the_old_one(name, steps, way):
    (old, method), (new, fresh) = ((Trainer(bert()), make_method(name)) for _ in range(2))
    method.attach(old.encoder, old.probe, rng)
    old.train(method, steps)
    fresh.restore(new.encoder, rng, method.state_dict())
    with torch.no_grad():
        for part in ("encoder", "head"):
            pairs = zip(
                getattr(old, part).named_parameters(),
                getattr(new, part).named_parameters(),
                strict=True,
            )
            for (source_name, source), (name, target) in pairs:
                assert source_name == name
                assert source.requires_grad == target.requires_grad
                target.copy_(source)
    new.take_over(old)
    old.train(method, 5)
    new.train(fresh, 5)
    assert old.losses[-5:] == new.losses[-5:]
    for trainer in (old, new):
        surgery.settle(trainer.encoder)
    one, two = state(old.encoder), state(new.encoder)
    assert all(torch.equal(one[key], two[key]) for key in one)


@every_method
def test_every_file_opens_with_what_it_is(name):
    kind = base.find(name)
    module = __import__(kind.__module__, fromlist=["_"])
    assert module.__doc__.split(":")[0] == kind.__name__ or module.__doc__.startswith(kind.__name__)
    assert kind.__name__.lower() == name.replace("_", "")


def test_unknown_method_is_named_with_a_suggestion():
    with pytest.raises(InputError, match="unknown method 'radnom'; did you mean random?"):
        base.find("radnom")


def test_the_ten_of_the_paper_are_there():
    assert set(published.METHODS) <= set(base.names())


@every_method
def test_a_fraction_that_leaves_nothing_to_tune_is_refused(name):
    fields = {field.name for field in dataclasses.fields(base.find(name))}
    small = {"density": 1e-9} if "density" in fields else {"q": 1 - 1e-9} if "q" in fields else None
    if small is None:
        return
    encoder = bert()
    trainer, method = Trainer(encoder), base.find(name)(**(quick_fields(name) | small))
    with pytest.raises(InputError, match="too small: no weight of [0-9,]+ would train"):
        method.attach(encoder, trainer.probe, rng)
        trainer.train(method, 4)


@pytest.mark.parametrize("fields", [{"burn_in": 1}, {}])
@pytest.mark.parametrize("name", ["sam", "fish", "child_tuning_d"])
def test_a_choice_among_too_few_positive_scores_is_an_error(name, fields):
    """All but 3 of the 7,664 weights have no gradient: the rest would go by position."""
    encoder, method = bert(), base.find(name)
    fields = {key: value for key, value in fields.items() if hasattr(method, key)}

    def probe(batches, **options):
        for parameter in encoder.parameters():
            parameter.grad = torch.zeros_like(parameter)
        encoder.pooler.dense.bias.grad[:3] = 1
        yield 1.0

    with pytest.raises(InputError) as caught:
        method(density=0.01, **fields).attach(encoder, probe, rng)
    assert str(caught.value) == (
        f"{name}: 3 of 7,664 scores are positive, but k is 76: the choice of the rest would be "
        "arbitrary"
    )
    # Nothing is half done.
    base.find("random")().attach(encoder, None, rng)


def test_late_choices_among_too_few_positive_scores_are_errors():
    for name, changes in (
        ("child_pruning", {"burn_in": 3, "interval": 9}),
        ("diff_pruning", {"burn_in": 3}),
        ("diff_pruning", {"burn_in": None, "mask_interval": 3}),
        ("mag_pruning", {"burn_in": 3}),
    ):
        encoder = bert()
        trainer, method = Trainer(encoder), base.find(name)(density=0.01, **changes)
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.zero_()
        method.attach(encoder, trainer.probe, rng)
        trainer.train(method, 1)
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.zero_()
        encoder.embeddings.LayerNorm.bias.data[2] = 5  # one weight away from its start
        with pytest.raises(InputError, match=f"{name}: [01] of 7,664 scores are positive, but k"):
            method.after_step(3, trainer.optimizer)
