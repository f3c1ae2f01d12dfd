"""The contract: what every file in methods/ must keep. A new method needs no row here."""

import dataclasses
import math
import random
from contextlib import contextmanager
from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch
from support.methods import configure
from support.models import Trainer, bert, bits, quick_fields, rng, roberta, state, trained_masks

from jiant_sparse.errors import InputError
from jiant_sparse.methods import base, fields
from jiant_sparse.methods.choices import StepChoice
from jiant_sparse.report import published
from jiant_sparse.schema.cell import Train
from jiant_sparse.sparse import delta, layers, selection, surgery

every_method = pytest.mark.parametrize("name", base.names())
# A method cannot tell whether the gradient of its entries came from a dense one.
SETTINGS = [
    (bert, True, False),
    (bert, False, True),
    (roberta, True, True),
    (roberta, False, False),
]
STEPS = 12
TINY = {"density": 1e-9, "q": 1 - 1e-9}


@contextmanager
def gradients(*, dense: bool):
    with pytest.MonkeyPatch.context() as patch:
        if dense:
            patch.setattr(layers, "FORWARDS", {})
        yield


def make_method(name: str, **fields) -> base.Method:
    """The method with a burn-in that a test can wait for."""
    return base.find(name)(**(quick_fields(name) | fields))


@dataclasses.dataclass
class Tuned:
    """An encoder before and after AdamW steps with decay; what trained, as masks and counted.

    Of a method that chooses anew at every step that is every weight that was ever drawn.
    """

    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]
    masks: dict[str, torch.Tensor]
    selected: int
    added: int


@cache
def tuned(name: str, make=bert, pooled=True, dense=False, streams=rng) -> Tuned:
    encoder = make()
    before = state(encoder)
    trainer = Trainer(encoder, pooled=pooled)
    method = make_method(name)
    assert method.scores_at(STEPS)
    with gradients(dense=dense):
        method.attach(encoder, trainer.probe, streams)
        head = state(trainer.head)
        trainer.train(method, STEPS)
    assert any(not torch.equal(head[k], v) for k, v in state(trainer.head).items())
    masks = trained_masks(encoder, list(before))
    selected, added = surgery.count(encoder, before.keys())
    if (moved := method.moved_per_step) is not None:
        masks, (selected, added) = method.drawn, (method.support_size, 0)
        assert 0 < moved <= selected < sum(map(torch.numel, before.values()))
    surgery.settle(encoder)
    return Tuned(before, state(encoder), masks, selected, added)


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
@pytest.mark.parametrize(("make", "pooled", "dense"), SETTINGS)
def test_only_what_is_selected_changes(name, make, pooled, dense):
    run = tuned(name, make, pooled, dense)
    before, after, masks = run.before, run.after, run.masks
    assert run.selected == sum(int(mask.sum()) for mask in masks.values())
    method = make_method(name)
    if hasattr(method, "density") and not isinstance(method, StepChoice):
        total = sum(tensor.numel() for tensor in before.values())
        assert run.selected == selection.budget(total, method.density)
    assert before.keys() <= after.keys()
    assert run.added == sum(tensor.numel() for key, tensor in after.items() if key not in before)
    for tensor, mask in masks.items():
        assert torch.equal(after[tensor][~mask], before[tensor][~mask]), tensor
    changed = delta.changed(delta.extract(before, after))
    assert changed <= run.selected
    assert changed + run.added > 0 or name == "frozen"


@every_method
def test_same_seed_same_bytes(name):
    one, two = tuned(name, *SETTINGS[0]).after, tuned.__wrapped__(name).after
    assert all(torch.equal(one[key], two[key]) for key in one)


@every_method
def test_another_seed_is_another_run_if_anything_is_drawn(name):
    asked = []

    def streams(stream):
        asked.append(stream)
        return rng(f"another seed {stream}")

    one, two = tuned(name, *SETTINGS[0]).after, tuned.__wrapped__(name, streams=streams).after
    assert all(torch.equal(one[key], two[key]) for key in one) == (not asked)


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
    run, path = tuned(name, *SETTINGS[2]), tmp_path / "delta.safetensors"
    delta.save(delta.extract(run.before, run.after), path)
    applied = delta.apply(delta.load(path), run.before)
    assert run.before.keys() <= applied.keys()
    assert all(torch.equal(bits(applied[key]), bits(value)) for key, value in run.after.items())


@every_method
def test_penalty_is_finite_and_not_negative(name):
    encoder = bert()
    method = make_method(name)
    method.attach(encoder, Trainer(encoder).probe, rng)
    penalty = float(torch.as_tensor(method.penalty()).detach())
    assert math.isfinite(penalty)
    assert penalty >= 0


@every_method
@pytest.mark.parametrize(("steps", "dense"), [(1, False), (3, True), (6, False)])
def test_a_fresh_instance_goes_on_from_the_state_as_if_it_were_the_old_one(name, steps, dense):
    (old, method), (new, fresh) = ((Trainer(bert()), make_method(name)) for _ in range(2))
    with gradients(dense=dense):
        method.attach(old.encoder, old.probe, rng)
        old.train(method, steps)
        fresh.restore(new.encoder, rng, method.state_dict())
        for part in ("encoder", "head"):
            theirs, own = (dict(getattr(x, part).named_parameters()) for x in (old, new))
            assert list(theirs) == list(own)
            for key, target in own.items():
                assert theirs[key].requires_grad == target.requires_grad
                target.data.copy_(theirs[key])
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


@pytest.mark.parametrize("name", [n for n in base.names() if fields.of(base.find(n)).keys() & TINY])
def test_a_fraction_that_leaves_nothing_to_tune_is_refused(name):
    small = {key: value for key, value in TINY.items() if key in fields.of(base.find(name))}
    trainer, method = Trainer(bert()), make_method(name, **small)
    with pytest.raises(InputError, match="too small: no weight of [0-9,]+ would train"):
        method.attach(trainer.encoder, trainer.probe, rng)
        trainer.train(method, 4)


@pytest.mark.parametrize(
    ("name", "given"), [("sam", {"burn_in": 1}), ("fish", {}), ("child_tuning_d", {})]
)
def test_a_choice_among_too_few_positive_scores_is_an_error(name, given):
    """All but 3 of the 7,664 weights have no gradient: the rest would go by position."""
    encoder = bert()

    def probe(batches, **options):
        for parameter in encoder.parameters():
            parameter.grad = torch.zeros_like(parameter)
        encoder.pooler.dense.bias.grad[:3] = 1
        yield 1.0

    with pytest.raises(InputError) as caught:
        base.find(name)(density=0.01, **given).attach(encoder, probe, rng)
    assert str(caught.value) == (
        f"{name}: 3 of 7,664 scores are positive, but k is 76: the choice of the rest would be "
        "arbitrary"
    )
    # Nothing is half done.
    base.find("random")().attach(encoder, None, rng)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("child_pruning", {"burn_in": 3, "interval": 9}),
        ("diff_pruning", {"burn_in": 3}),
        ("diff_pruning", {"burn_in": None, "mask_interval": 3}),
        ("mag_pruning", {"burn_in": 3}),
    ],
)
def test_a_late_choice_among_too_few_positive_scores_is_an_error(name, given):
    encoder = bert()
    trainer, method = Trainer(encoder), base.find(name)(density=0.01, **given)

    def all_zero():
        for parameter in encoder.parameters():
            parameter.data.zero_()

    all_zero()
    method.attach(encoder, trainer.probe, rng)
    trainer.train(method, 1)
    all_zero()
    encoder.embeddings.LayerNorm.bias.data[2] = 5  # one weight away from its start
    with pytest.raises(InputError, match=f"{name}: [01] of 7,664 scores are positive, but k"):
        method.after_step(3, trainer.optimizer)
