"""Saved deltas on one base model: switched, stacked, merged; and what a user does with a model."""

import copy
import io
import json
import pickle
from functools import partial

import pytest
import torch
from support.tuning import IDS, LABELS, batch_of, logits, make, same, state, tune, tuned
from torch import nn
from transformers import BertForSequenceClassification

from jiant_sparse import SparseConfig, SparseModel, get_sparse_model
from jiant_sparse.errors import InputError
from jiant_sparse.sparse import delta
from jiant_sparse.sparse.optimizer import AdamW

refused = partial(pytest.raises, InputError)
QUERY, VALUE = (
    "bert.encoder.layer.0.attention.self.query",
    "bert.encoder.layer.0.attention.self.value",
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Three deltas of the same base: of query and value, which are apart, and of both."""
    path = tmp_path_factory.mktemp("deltas")
    common = {"density": 0.5, "modules_to_save": []}
    tuned(target_modules=[QUERY], **common).save_pretrained(path / "query")
    tuned(target_modules=[VALUE], seed=1, **common).save_pretrained(path / "value")
    tuned(target_modules=[QUERY, VALUE], seed=2, **common).save_pretrained(path / "both")
    tuned(density=0.1).save_pretrained(path / "head")
    return path


@pytest.fixture
def model(saved) -> SparseModel:
    """A base model with the three deltas, none of them on."""
    found = SparseModel(make())
    for name in ("query", "value", "both"):
        found.load_delta(saved / name, name)
    return found


def weights(model: SparseModel) -> dict[str, torch.Tensor]:
    return {n: p.detach().double() for n, p in model.get_base_model().named_parameters()}


def differences(model: SparseModel, name: str) -> dict[str, torch.Tensor]:
    model.set_delta([name])
    now = weights(model)
    model.set_delta([])
    return {n: now[n] - old for n, old in weights(model).items()}


def expected(model: SparseModel, parts: dict[str, float], rule: str) -> dict[str, torch.Tensor]:
    """Dense: base plus the combined differences. No trained value equals its base here."""
    apart = [{n: w * d for n, d in differences(model, name).items()} for name, w in parts.items()]
    found = {}
    for name, old in weights(model).items():
        stacked = torch.stack([part[name] for part in apart])
        total = stacked.sum(0)
        if rule == "mean":
            total /= (stacked != 0).sum(0).clamp(min=1)
        if rule == "first":
            total = torch.where(stacked[0] != 0, stacked[0], stacked[1])
        found[name] = old + total
    return found


def assert_close(model: SparseModel, wanted: dict[str, torch.Tensor]) -> None:
    for name, now in weights(model).items():
        torch.testing.assert_close(now, wanted[name], rtol=1e-6, atol=1e-8)


# --- switch, stack, merge


def test_switching_is_exact_and_gives_the_base_back(model, saved):
    fresh = state(make())
    alone = {n: logits(SparseModel.from_pretrained(make(), saved / n)) for n in ("query", "both")}
    for name in ("query", "both", "query"):
        model.set_delta([name])
        assert model.active == (name,) and torch.equal(logits(model), alone[name])
    with model.disable_delta():
        assert torch.equal(logits(model), logits(make()))
    assert torch.equal(logits(model), alone["query"])
    model.set_delta([])
    assert same(state(model.get_base_model()), fresh)
    assert not any(p.requires_grad for p in model.parameters())
    assert all(p.requires_grad for p in model.unload().parameters())


def test_deltas_that_are_apart_add_up_to_their_bits(model, saved):
    model.set_delta(["query", "value"])
    own = dict(model.get_base_model().named_parameters())
    for name in ("query", "value"):
        for key, (index, values) in delta.load(saved / name / "delta.safetensors").entries.items():
            assert torch.equal(own[key].detach().view(-1)[index], values)
    assert same(state(model.unload()), state(make()))


def test_entries_that_several_deltas_change_need_a_rule(model):
    model.set_delta(["value"])
    before = logits(model)
    with refused() as caught:
        model.set_delta(["query", "both"])
    first, second = (model.deltas[n].writes[f"{QUERY}.weight"][0] for n in ("query", "both"))
    common = first[torch.isin(first, second)]
    assert str(caught.value) == (
        f"query and both both change {len(common)} entries of {QUERY}.weight, the first at "
        f"position {common[0]}; on_conflict must be sum, mean or first"
    )
    assert model.active == ("value",) and torch.equal(logits(model), before)


@pytest.mark.parametrize("rule", ["sum", "mean", "first"])
def test_rules_for_conflicts(model, rule):
    wanted = expected(model, {"query": 1, "both": 1}, rule)
    model.set_delta(["query", "both"], on_conflict=rule)
    assert_close(model, wanted)
    weighted = expected(model, {"both": 0.5, "value": -2}, rule)
    model.merge_deltas(["both", "value"], [0.5, -2], on_conflict=rule)
    model.set_delta(["merged"])
    assert_close(model, weighted)
    assert same(state(model.unload()), state(make()))


def test_a_merged_delta_is_saved_and_loaded(model, tmp_path):
    model.merge_deltas(["query", "value"], name="sum")
    model.set_delta(["query", "value"])
    stacked = logits(model)
    model.save_pretrained(tmp_path, name="sum")
    assert torch.equal(logits(SparseModel.from_pretrained(make(), tmp_path)), stacked)
    with refused(match="random cannot train on from a delta alone"):
        SparseModel.from_pretrained(make(), tmp_path, is_trainable=True)
    plain = model.merge_and_unload()
    assert type(plain) is BertForSequenceClassification and torch.equal(logits(plain), stacked)


def test_heads_that_trained_whole_are_switched_too(saved, tmp_path):
    tuned(density=0.1, seed=4).save_pretrained(tmp_path)
    model = SparseModel.from_pretrained(make(), saved / "head")
    head = model.classifier.weight.clone()
    model.load_delta(tmp_path, "other")
    model.set_delta(["other"])
    other = model.classifier.weight.clone()
    with refused(match="default and other both change|classifier.weight trained"):
        model.set_delta(["default", "other"], on_conflict="sum")
    model.set_delta(["default", "other"], on_conflict="mean")
    torch.testing.assert_close(model.classifier.weight, (head + other) / 2)
    model.set_delta(["other", "default"], on_conflict="first")
    assert torch.equal(model.classifier.weight, other)
    # A base with another random head is still the base.
    twin = make()
    nn.init.ones_(twin.classifier.weight)
    loaded = SparseModel.from_pretrained(twin, saved / "head")
    assert torch.equal(loaded.classifier.weight, head)
    assert torch.equal(loaded.unload().classifier.weight, torch.ones(3, 16))


def test_low_rank_updates_are_deltas_like_others(tmp_path):
    lora = tuned(method="lora")
    lora.save_pretrained(tmp_path)
    model = SparseModel.from_pretrained(make(), tmp_path)
    merged = lora.merge_and_unload()
    assert torch.equal(logits(model), logits(merged)) and same(state(make()), state(model.unload()))
    assert [*state(merged)] == [*state(make())]


def test_calls_that_do_not_fit_are_refused(model, saved):
    for call, message in (
        (lambda: model.set_delta(["qury"]), "no delta is called 'qury'; did you mean query?"),
        (lambda: model.set_delta("query"), "names of deltas are 'query'; give a list, each name"),
        (lambda: model.set_delta(["query"] * 2), "names of deltas are .*; give a list, each name"),
        (lambda: model.set_delta([], "max"), "on_conflict is 'max'; it must be error or sum or me"),
        (lambda: model.merge_deltas(["query"], [1, 2]), "2 weights for 1 deltas; give one for eac"),
        (lambda: model.merge_deltas([]), "names of deltas are .*; name at least one"),
        (lambda: model.load_delta(saved / "both", "both"), "there is a delta called 'both' alrea"),
        (lambda: model.merge_deltas(["both"], name="value"), "there is a delta called 'value' al"),
        (lambda: model.save_pretrained("x"), "0 deltas are active; say by name which one to save"),
    ):
        with refused(match=message):
            call()
    training = get_sparse_model(make(), SparseConfig("random"))
    for call in (
        lambda: training.load_delta(saved / "both", "both"),
        lambda: training.set_delta([]),
        lambda: training.merge_deltas(["both"]),
    ):
        with refused(match="the model trains by random, and a delta would change"):
            call()


# --- wrong bases and damaged files


def test_another_base_is_refused_by_its_first_tensor(saved):
    base = make()
    with torch.no_grad():
        base.bert.encoder.layer[1].output.dense.bias[3] += 1
    before = state(base)
    for trainable in (False, True):
        with refused() as caught:
            SparseModel.from_pretrained(base, saved / "query", is_trainable=trainable)
        assert str(caught.value).startswith(
            f"{saved / 'query'}: base is not the delta's base: bert.encoder.layer.1.output.dense."
            "bias is the first tensor to differ; the delta was made from {'name': None"
        )
    assert same(state(base), before) and all(p.requires_grad for p in base.parameters())
    with refused(match="base lacks bert.embeddings.word_embeddings.weight, which"):
        SparseModel.from_pretrained(make("roberta"), saved / "query")
    with refused(match="base is not the delta's base: bert.embeddings.word_emb"):
        SparseModel.from_pretrained(make().bfloat16(), saved / "query")


def test_a_head_of_another_size_is_refused(saved):
    base = make()
    base.classifier = nn.Linear(16, 5)
    with refused() as caught:
        SparseModel.from_pretrained(base, saved / "head")
    assert str(caught.value).endswith(
        "classifier.weight is float32 [3, 16]; in the model it is float32 [5, 16]: make a model of "
        "the same class and number of labels"
    )


def test_files_that_do_not_belong_together_are_refused(saved, tmp_path):
    model = tuned(density=0.1)
    model.save_pretrained(tmp_path)
    mixed = (saved / "both" / "delta.safetensors").read_bytes()
    (tmp_path / "delta.safetensors").write_bytes(mixed)
    with refused(match="sparse_config.json was written with another delta.safet"):
        SparseModel.from_pretrained(make(), tmp_path)
    path = tmp_path / "sparse_config.json"
    document = json.loads(path.read_text())
    document["sparse"]["version"] = 9
    for text, message in (
        (json.dumps(document), "sparse_config.json: the SparseConfig has version 9; it must be 1"),
        ("{", "sparse_config.json: is not JSON: "),
        ("[]", r"sparse_config.json: is \[\]; it must be a mapping"),
        ("{}", "sparse_config.json: a SparseConfig is None; it must be a mapping with method"),
    ):
        path.write_text(text)
        with refused(match=message):
            SparseModel.from_pretrained(make(), tmp_path)
    path.unlink()
    with refused(match="sparse_config.json: cannot be read: No such file"):
        SparseModel.from_pretrained(make(), tmp_path)


def test_nothing_is_written_for_a_loop_that_forgets_a_hook(tmp_path):
    model = get_sparse_model(make(), SparseConfig("mixout"))
    optimizer = AdamW(model.optimizer_groups(0.0), lr=1e-2)
    model.train()(input_ids=IDS, labels=LABELS).loss.backward()
    optimizer.step()
    for call in (lambda: model.save_pretrained(tmp_path / "a"), model.merge_and_unload):
        with refused(match="mixout: the training loop has never called the metho"):
            call()
    with pytest.raises(TypeError, match="not JSON serializable"):
        tuned().save_pretrained(tmp_path / "a", about={"x": object()})
    assert not (tmp_path / "a").exists()
    assert same(state(model.unload()), state(make()))


# --- what a user does with a model that trains, or has a delta


@pytest.fixture(params=["random", "bitfit", "mixout", "lora", "loaded"])
def either(request, saved) -> SparseModel:
    if request.param == "loaded":
        return SparseModel.from_pretrained(make(), saved / "both")
    fields = {"density": 0.2} if request.param == "random" else {}
    return tuned(method=request.param, **fields)


def test_a_deep_copy_is_a_model_of_its_own(either, tmp_path):
    before, fresh = logits(either), logits(make())
    twin = copy.deepcopy(either)
    if twin.method is not None:
        twin.save_pretrained(tmp_path)
        assert not torch.equal(logits(tune(twin)), before)
    assert torch.equal(logits(either), before)
    assert torch.equal(logits(twin.unload()), fresh) and torch.equal(logits(either), before)
    assert torch.equal(logits(either.unload()), fresh)


def test_nothing_is_saved_or_switched_while_the_base_computes(either, tmp_path):
    before = logits(either)
    with either.disable_delta(), either.disable_delta():
        assert torch.equal(logits(either), logits(make()))
        for call in (
            lambda: either.save_pretrained(tmp_path),
            lambda: either.set_delta([]),
            either.unload,
            either.merge_and_unload,
        ):
            with refused(match="the model has its base's values in disable_delta"):
                call()
    assert torch.equal(logits(either), before) and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_and_autocast_change_no_gradient(reentrant):
    def gradients(checkpointing):
        model = get_sparse_model(make("llama"), SparseConfig("random", density=0.2)).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model(**batch_of("llama"), use_cache=False).loss.backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    assert same(gradients(False), gradients(True))
    model = get_sparse_model(make(), SparseConfig("random", density=0.2)).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(input_ids=IDS, labels=LABELS).loss
    loss.backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_pickling_is_refused(either):
    for call in (pickle.dumps, lambda m: torch.save(m, io.BytesIO()), copy.copy):
        with refused(match="a SparseModel cannot be pickled; save_pretrained wri"):
            call(either)


def test_another_dtype_is_refused_and_another_device_is_not(either):
    before = logits(either)
    for call in (
        lambda: either.half(),
        lambda: either.bfloat16(),
        lambda: either.to(torch.float64),
        lambda: either.to("cpu", torch.float16),
    ):
        with refused(match="a model with a method or deltas cannot change its dty"):
            call()
    assert torch.equal(logits(either.to("cpu").float()), before)
    assert {p.dtype for p in either.unload().half().parameters()} == {torch.float16}


def test_a_base_that_was_converted_behind_our_back_is_not_saved(tmp_path):
    model = tuned()
    model.get_base_model().half()
    with refused(match="is float16 .*, but was torch.float32 when the method was"):
        model.save_pretrained(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_state_goes_back_into_the_same_model(either):
    trained, kept = logits(either), state(either)
    if either.method is None:
        with refused(match="load_state_dict would write over the values of a del"):
            either.load_state_dict(kept)
        assert torch.equal(logits(either), trained)
        return
    tune(either)
    either.load_state_dict(kept)
    assert torch.equal(logits(either), trained)
    assert same(state(either.unload()), state(make()))


@pytest.mark.parametrize("either", ["random", "bitfit", "lora"], indirect=True)
def test_a_state_of_another_base_is_refused(either):
    kept = state(either)
    kept["base_model.bert.encoder.layer.0.attention.self.key.weight"][3, 3] += 1
    before = state(either)
    with refused(match="the state is of another base model: bert.encoder.layer.0"):
        either.load_state_dict(kept)
    assert same(state(either), before)


def test_the_state_of_a_model_that_trains_names_the_weights_as_they_are(either):
    names = {f"base_model.{name}" for name in make().state_dict()}
    assert names <= {*either.state_dict()}
    plain = make()
    plain.load_state_dict({n: either.state_dict()[f"base_model.{n}"] for n in plain.state_dict()})
    torch.testing.assert_close(logits(plain), logits(either), rtol=0, atol=1e-7)


def test_what_the_wrapper_lacks_comes_from_the_model(either, tmp_path):
    assert either.config.num_labels == 3 and either.device.type == "cpu"
    assert either.get_base_model().num_labels == either.num_labels == 3
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        either.nothing  # noqa: B018
    # The model's own method writes the whole model, under the names that it has without us.
    either.get_base_model().save_pretrained(tmp_path)
    plain = BertForSequenceClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(plain), logits(either), rtol=0, atol=1e-7)


def test_values_that_change_under_a_delta_are_noticed(saved):
    model = SparseModel.from_pretrained(make(), saved / "both")
    with torch.no_grad():
        model.get_parameter(f"base_model.{QUERY}.weight").zero_()
    with refused(match=f"{QUERY}.weight has been changed while a delta was on or"):
        model.unload()
