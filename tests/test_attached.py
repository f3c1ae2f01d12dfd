"""What a user does with a model that a method is attached to: right, or one clear error."""

import copy
import gc
import io
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from support.models import SIZES, Trainer, bert, rng, roberta, state
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

from jiant_sparse.errors import InputError
from jiant_sparse.methods import base
from jiant_sparse.methods.adapter import Adapter
from jiant_sparse.methods.lora import LoRA
from jiant_sparse.methods.random import Random
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.optimizer import AdamW
from jiant_sparse.sparse.step import optimizer_step

IDS = torch.randint(4, 50, (3, 6), generator=torch.Generator().manual_seed(21))
HOOKED = {
    "stochastic_tuning": "before_step",
    "top_tuning": "before_step",
    "random_per_step": "before_step",
    "child_tuning_f": "before_step",
    "child_pruning": "after_step",
    "diff_pruning": "after_step and penalty",
    "mixout": "after_step",
    "dps_dense": "after_step and before_step",
    "dps_mix": "after_step and before_step",
}


def attached(name: str, encoder: nn.Module, **fields) -> base.Method:
    method = base.find(name)(**fields)
    probe = Trainer(encoder).probe if method.name in ("sam", "fish", "child_tuning_d") else None
    method.attach(encoder, probe, rng)
    return method


def output(encoder: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return encoder.eval()(input_ids=IDS).pooler_output


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


# --- one method, on a fresh model


def test_a_part_of_a_claimed_model_is_refused_too():
    model = nn.ModuleDict({"encoder": bert(), "other": nn.Linear(2, 2)})
    attached("stochastic_tuning", model["encoder"])
    with pytest.raises(InputError, match="random: the encoder has a method already, stochastic_tu"):
        Random().attach(model, None, rng)
    with pytest.raises(InputError, match="random: the encoder has a method already, stochastic_tu"):
        Random().attach(model["encoder"].embeddings, None, rng)
    Random(density=0.5).attach(model["other"], None, rng)


@pytest.mark.parametrize("second", ["bitfit", "full_tuning", "adapter"])
@pytest.mark.parametrize("first", ["random", "mixout", "lora"])
def test_a_second_method_is_refused_until_the_first_is_folded(first, second):
    encoder = bert()
    attached(first, encoder)
    message = f"{second}: the encoder has a method already, {first}; fold the encoder first"
    with pytest.raises(InputError, match=message):
        attached(second, encoder)
    surgery.fold(encoder)
    attached(second, encoder)


def test_an_instance_has_one_model_and_takes_keywords():
    method, encoder = base.find("child_tuning_f")(), bert()
    method.attach(model=encoder, probe=None, rng=rng)
    encoder(input_ids=IDS).pooler_output.sum().backward()
    method.before_step(step=1)
    method = attached("random", bert())
    with pytest.raises(InputError, match="this random has a model already; make a new instance"):
        method.attach(bert(), None, rng)


def test_a_method_that_could_not_be_attached_leaves_the_model_free():
    encoder = bert()
    with pytest.raises(InputError, match="no module's name ends in 'quary'"):
        LoRA(modules=["quary"]).attach(encoder, None, rng)
    with pytest.raises(InputError, match="rank is 17"):
        LoRA(modules=["intermediate.dense", "query"], rank=17).attach(encoder, None, rng)
    encoder.pooler.dense.weight.data = encoder.pooler.dense.weight.data.t().contiguous().t()
    with pytest.raises(InputError, match="non-contiguous"):
        Random(density=0.9).attach(encoder, None, rng)
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    encoder.pooler.dense.weight.data = encoder.pooler.dense.weight.data.contiguous()
    before = state(encoder)
    attached("random", encoder)
    surgery.fold(encoder)
    assert_same(state(encoder), before)


@pytest.mark.parametrize("name", ["random", "bitfit", "lora"])
def test_weights_that_the_user_froze_are_an_error(name):
    encoder = bert()
    encoder.embeddings.requires_grad_(False)
    with pytest.raises(InputError) as caught:
        attached(name, encoder)
    assert str(caught.value) == (
        f"{name}: 5 tensors of the encoder are frozen, first embeddings.word_embeddings.weight; "
        "the method chooses among all weights, so requires_grad must be True for each"
    )


@pytest.mark.parametrize("name", ["sam", "fish", "child_tuning_d"])
def test_a_method_that_needs_gradients_says_so(name):
    with pytest.raises(InputError, match=f"{name} looks at gradients before training, but probe"):
        base.find(name)().attach(bert(), None, rng)


# --- an optimizer from before


@pytest.mark.parametrize("name", ["random", "lora", "adapter", "diff_pruning"])
def test_an_optimizer_from_before_the_method_is_refused_at_its_first_step(name):
    encoder, head = bert(), nn.Linear(16, 2)
    kind = torch.optim.SGD if name == "lora" else torch.optim.AdamW
    optimizer = kind([*encoder.parameters(), *head.parameters()], lr=1e-2)
    attached(name, encoder)
    before = state(head)
    head(encoder(input_ids=IDS).pooler_output).sum().backward()
    with pytest.raises(InputError) as caught:
        optimizer.step()
    assert str(caught.value) == (
        f"{name}: the optimizer was made before the method was attached and trains nothing of "
        "what the method has made; make the optimizer afterwards"
    )
    assert_same(state(head), before)


@pytest.mark.parametrize("name", ["bitfit", "multi_head", "frozen", "random"])
def test_an_optimizer_over_all_parameters_made_afterwards_is_fine(name):
    encoder, head = bert(), nn.Linear(16, 2)
    attached(name, encoder)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-2)
    before = state(encoder)
    head(encoder(input_ids=IDS).pooler_output).sum().backward()
    optimizer.step()
    moved = any(not torch.equal(before[key], value) for key, value in state(encoder).items())
    assert moved == (name != "frozen")


def test_an_optimizer_over_all_parameters_lives_through_the_cut():
    encoder, head = bert(), nn.Linear(16, 2)
    method = attached("diff_pruning", encoder, burn_in=2, density=0.1)
    gates = weakref.ref(next(iter(method.gated.values())))
    optimizer = AdamW([*encoder.parameters(), *head.parameters()], lr=1e-2)
    for step in range(1, 5):
        loss = head(encoder.train()(input_ids=IDS).pooler_output).square().sum()
        (loss + method.penalty()).backward()
        optimizer_step(nn.ModuleList([encoder, head]), method, optimizer, step)
    del loss
    gc.collect()
    assert gates() is None, "nothing keeps the gates after the cut"
    surgery.fold(encoder)


def test_optimizers_of_parts_and_of_other_models_are_fine():
    encoder, head, other = bert(), nn.Linear(16, 50, bias=False), nn.Linear(3, 3)
    elsewhere = torch.optim.SGD(other.parameters(), lr=0.1)
    head.weight = encoder.embeddings.word_embeddings.weight  # a tied decoder
    decoder = torch.optim.SGD(head.parameters(), lr=0.1)
    attached("random", encoder)
    encoder(input_ids=IDS).pooler_output.sum().backward()
    decoder.step()
    elsewhere.step()
    for parameter in encoder.parameters():
        torch.optim.SGD([parameter], lr=0.1).step()
    surgery.fold(encoder)
    torch.optim.SGD(encoder.parameters(), lr=0.1).step()


def test_a_late_choice_needs_an_optimizer_of_all_weights():
    encoder = bert()
    method = attached("child_pruning", encoder, burn_in=2, interval=9, density=0.1)
    names = [name for name, _ in encoder.named_parameters() if "embeddings" not in name]
    optimizer = AdamW([encoder.get_parameter(name) for name in names], lr=1e-2)
    for step in (1, 2):
        encoder.train()(input_ids=IDS).pooler_output.square().sum().backward()
        optimizer.step()
        if step == 1:
            method.after_step(step, optimizer)
    with torch.no_grad():
        encoder.embeddings.word_embeddings.weight += 1
    with pytest.raises(InputError, match="trains a part of the encoder's weights only"):
        method.after_step(2, optimizer)


# --- hooks that nobody calls


def test_every_method_with_hooks_is_looked_at():
    assert {name for name in base.names() if base.find(name)().hooks} == {*HOOKED}
    assert base.find("mag_pruning")(burn_in=3).hooks == ("after_step",)


@pytest.mark.parametrize("name", HOOKED)
def test_fold_refuses_weights_whose_method_was_never_called(name):
    encoder = bert()
    attached(name, encoder)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-2, fused=name == "mixout")
    for _ in range(2):
        encoder.train()(input_ids=IDS).pooler_output.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    before = state(encoder)
    with pytest.raises(InputError) as caught:
        surgery.fold(encoder)
    assert str(caught.value) == (
        f"{name}: the training loop has never called the method's {HOOKED[name]}, so the weights "
        "are not what the method makes of them; call the hooks at every step, or fold with "
        "unchecked=True"
    )
    assert_same(state(encoder), before)
    surgery.fold(encoder, unchecked=True)
    assert state(encoder).keys() == state(bert()).keys()


@pytest.mark.parametrize("name", HOOKED)
def test_fold_takes_weights_of_a_loop_that_calls_the_hooks_and_untrained_ones(name):
    for steps in (0, 4):
        encoder = bert()
        trainer, method = Trainer(encoder), base.find(name)()
        method.attach(encoder, trainer.probe, rng)
        encoder.load_state_dict(encoder.state_dict())
        trainer.train(method, steps)
        twin = copy.deepcopy(encoder)
        surgery.fold(encoder)
        surgery.fold(twin)
        assert_same(state(encoder), state(twin))
        assert list(state(encoder)) == list(state(bert()))
        attached("random", twin)


# --- folding


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (bert, LoRA()),
        (roberta, LoRA(modules=["output.dense", "query"], rank=3, alpha=5.0)),
        (roberta, Adapter(config="lora")),
        (bert, Adapter(config="ia3")),
        (roberta, Adapter(config="dora")),
    ],
)
def test_low_rank_updates_are_merged_and_saved_models_keep_them(method, make):
    encoder = make()
    names = [name for name, _ in encoder.named_parameters()]
    method.attach(encoder, None, rng)
    with torch.no_grad():
        for number, parameter in enumerate(encoder.parameters()):
            if parameter.requires_grad:
                torch.manual_seed(number)
                parameter.add_(0.3 * torch.randn_like(parameter))
    before = output(encoder)
    assert (before - output(make())).abs().max() > 1e-4
    surgery.fold(encoder)
    assert [name for name, _ in encoder.named_parameters()] == names
    torch.testing.assert_close(output(encoder), before, rtol=1e-5, atol=1e-6)
    plain = make(1)
    # AdapterHub keeps a second name of the embeddings.
    assert not plain.load_state_dict(encoder.state_dict(), strict=False).missing_keys
    torch.testing.assert_close(output(plain), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("config", ["seq_bn", "par_bn", "prefix_tuning", "mam", "unipelt"])
def test_adapters_cannot_be_folded_and_stay_as_they_are(config):
    encoder = bert()
    method = Adapter(config=config)
    trainer = Trainer(encoder)
    method.attach(encoder, None, rng)
    trainer.train(method, 2)
    before, names = output(encoder), state(encoder).keys()
    with pytest.raises(InputError, match="is no change of weights and cannot be folded into them"):
        surgery.fold(encoder)
    assert torch.equal(output(encoder), before) and state(encoder).keys() == names
    surgery.settle(encoder)
    assert torch.equal(output(encoder), before)


# --- states


def trained(name: str, **fields) -> tuple[nn.Module, base.Method]:
    encoder = bert()
    trainer, method = Trainer(encoder), base.find(name)(**fields)
    method.attach(encoder, trainer.probe, rng)
    trainer.train(method, 3)
    return encoder, method


EDITED = {
    "lora": {"init_b": "kaiming", "alpha": 160.0},
    "child_pruning": {"burn_in": 2, "interval": 5, "density": 0.1},
    "random": {"density": 0.05},
    "sam": {"density": 0.05, "burn_in": 2},
    "mixout": {"q": 0.5},
    "diff_pruning": {"burn_in": 2, "density": 0.1},
    "dps_mix": {},
}


@pytest.mark.parametrize("name", EDITED)
def test_a_saved_model_is_the_tuned_one_and_its_state_goes_into_the_same_choice(name, tmp_path):
    encoder, _ = trained(name, **EDITED[name])
    expected = output(encoder)
    encoder.save_pretrained(tmp_path)
    # LoRA computes W x + B A x; saved, the sum is one matrix.
    close = {"rtol": 1e-5, "atol": 1e-6} if name == "lora" else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(output(BertModel.from_pretrained(tmp_path)), expected, **close)
    plain = bert(seed=1)
    missing, unexpected = plain.load_state_dict(encoder.state_dict(), strict=False)
    torch.testing.assert_close(output(plain), expected, **close)
    assert not missing
    assert all("parametrizations" in key or "lora_" in key for key in unexpected)
    # Of other weights: the state brings all of them, pretrained ones too.
    late = name in ("diff_pruning", "child_pruning")
    other = bert() if late or name == "sam" else bert(seed=7)
    method, trainer = base.find(name)(**EDITED[name]), Trainer(other)
    method.attach(other, trainer.probe, rng)
    trainer.train(method, 2 if late else 0)
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(output(other), expected)
    for model in (encoder, other):
        surgery.fold(model, unchecked=True)
    assert_same(state(encoder), state(other))


@pytest.mark.parametrize("density", [0.05, 0.1])
@pytest.mark.parametrize("name", ["random", "mixout"])
def test_a_state_of_other_choices_is_refused_and_no_edited_tensor_is_loaded(name, density):
    fields = [{"density": d} if name == "random" else {"q": 1 - d} for d in (0.05, density)]
    encoder, _ = trained(name, **fields[0])
    other = bert()
    method = base.find(name)(**fields[1])
    method.attach(other, None, lambda stream: rng(f"another seed {stream}"))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(RuntimeError, match="embeddings.word_embeddings.weight: the state trains"):
        other.load_state_dict(encoder.state_dict(), strict=density == 0.1)
    edited = {key.partition(".parametrizations")[0] for key in before if "parametriz" in key}
    assert "embeddings.word_embeddings" in edited
    for key, value in other.state_dict().items():
        if f"{key.rpartition('.')[0]}.parametrizations.{key.rpartition('.')[2]}.0.index" in before:
            assert torch.equal(before[key], value), key


@pytest.mark.parametrize(
    ("name", "strict"), [("random", True), ("mixout", False), ("dps_mix", True)]
)
def test_a_plain_state_is_refused(name, strict):
    encoder = bert()
    attached(name, encoder)
    expected = output(encoder)
    with pytest.raises(RuntimeError, match="a model in which this tensor has not been edited"):
        encoder.load_state_dict(bert(5).state_dict(), strict=strict)
    if name == "mixout":  # edits every tensor
        assert torch.equal(output(encoder), expected)


@pytest.mark.parametrize("name", ["random", "mixout", "diff_pruning"])
@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForSequenceClassification])
def test_tied_weights_are_saved_once_and_an_encoder_with_its_head(kind, name, tmp_path):
    def make() -> tuple[nn.Module, base.Method]:
        torch.manual_seed(0)
        model = kind(BertConfig(vocab_size=50, **SIZES))
        return model, attached(name, model if kind is BertForMaskedLM else model.bert)

    model, _ = make()
    with torch.no_grad():
        for module in model.modules():
            for leaf in ("values", "difference"):
                if leaf in module._parameters:
                    module._parameters[leaf].add_(0.01)
        expected = model.eval()(input_ids=IDS).logits
        model.save_pretrained(tmp_path)
        again = kind.from_pretrained(tmp_path).eval()
        assert torch.equal(again(input_ids=IDS).logits, expected)
        twin, _ = make()
        twin.load_state_dict(model.state_dict())
        assert torch.equal(twin.eval()(input_ids=IDS).logits, expected)


def test_an_attached_model_is_copied_but_not_pickled():
    encoder, _ = trained("random", density=0.1)
    twin = copy.deepcopy(encoder)
    assert torch.equal(output(twin), output(encoder))
    with pytest.raises(InputError, match="cannot be pickled; save its state_dict"):
        torch.save(encoder, io.BytesIO())
    surgery.fold(encoder)
    torch.save(encoder, io.BytesIO())
    assert not any(module._state_dict_hooks for module in encoder.modules())
    assert not any(module._load_state_dict_pre_hooks for module in encoder.modules())
    # The copy is a model of its own.
    assert "parametrizations" in "".join(twin.state_dict())
    surgery.fold(twin)
    assert torch.equal(output(twin), output(encoder))


@pytest.mark.parametrize("name", ["random", "mixout", "bitfit"])
def test_a_resize_after_attaching_is_an_error(name):
    encoder = bert()
    attached(name, encoder)
    encoder.resize_token_embeddings(60)
    with pytest.raises(InputError) as caught:
        encoder(input_ids=IDS)
    assert str(caught.value) == (
        f"{name}: embeddings.word_embeddings.weight, of 50 rows, was resized to 60 after the "
        "method was attached, which has no effect on what trains; resize it before"
    )
    with pytest.raises(InputError, match="was resized to 60"):
        surgery.fold(encoder)


# --- second derivatives


def test_every_way_to_a_second_derivative_raises():
    layer, x = nn.Linear(4, 3), torch.randn(5, 4, requires_grad=True)
    surgery.select(layer, {"weight": torch.tensor([0, 5, 7]), "bias": torch.tensor([1])})
    values = [layer.parametrizations[leaf][0].values for leaf in ("weight", "bias")]

    def loss(x=x):
        return layer(x).pow(3).sum()

    for way in (
        lambda: torch.autograd.grad(loss(), values, create_graph=True),
        lambda: torch.autograd.grad(layer(x).sum(), [x], create_graph=True),
        lambda: loss().backward(create_graph=True),
        lambda: torch.autograd.functional.hvp(loss, x, x),
    ):
        with pytest.raises(RuntimeError, match="has no second derivative: create_graph=True is no"):
            way()
    for way in (
        lambda: torch.func.hessian(loss)(x.detach()),
        lambda: torch.func.jvp(loss, (x.detach(),), (x.detach(),)),
    ):
        with pytest.raises(RuntimeError, match="setup_context|forward AD|jvp"):
            way()
    torch.autograd.grad(loss(), values, retain_graph=True)
    surgery.fold(layer)
    torch.autograd.grad(loss(), [x], create_graph=True)


# --- several processes


def test_replicas_under_ddp_draw_the_same_weights(tmp_path):
    command = [sys.executable, "-m", "support.replicas", str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parent, timeout=300, check=True)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert_same(one, two)
