"""Packed batches give the logits and gradients of padded ones, in every method and task."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from support.models import SIZES, bert, quick_fields, roberta
from support.resuming import losses
from support.rows import uneven
from transformers import AutoConfig, AutoModel, BertConfig

from jiant_sparse.host import features, packing, runner
from jiant_sparse.host.runner import SparseRunner
from jiant_sparse.host.train import train
from jiant_sparse.methods import base as methods
from jiant_sparse.methods.base import Method
from jiant_sparse.sparse import delta

BATCHES = {
    "odd lengths": [3, 41, 17, 17, 1, 12, 30, 16],
    "one row much longer": [2, 2, 3, 60],
    "rows of one token": [1, 1, 1, 5],
    "no padding": [7, 7],
    "one row": [9],
    "like lengths": [10, 9, 8, 10],
}


def batch(lengths, padding_idx):
    ids = torch.randint(5, 50, (len(lengths), max(lengths)), generator=torch.manual_seed(3))
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return ids.masked_fill(~real, padding_idx), real


def outputs(model, ids, real):
    """(last hidden states of real tokens, pooled output, gradients of all weights)."""
    output = model(input_ids=ids, attention_mask=real.long())
    hidden, pooled = output.last_hidden_state[real], output.pooler_output
    weights = torch.randn(hidden.shape, generator=torch.manual_seed(4), dtype=hidden.dtype)
    ((hidden * weights).sum() + pooled.sum()).backward()
    return hidden, pooled, *(p.grad for p in model.parameters())


@pytest.mark.parametrize("lengths", BATCHES)
@pytest.mark.parametrize("make", [bert, roberta])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_outputs_and_gradients_are_those_of_the_padded_batch(make, lengths, checkpointing):
    plain = make().double()
    for module in plain.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    if checkpointing:
        plain.gradient_checkpointing_enable({"use_reentrant": False})
    plain.train()
    packed = copy.deepcopy(plain)
    packing.install(packed)
    ids, real = batch(BATCHES[lengths], plain.config.pad_token_id)
    found = outputs(packed, ids, real)
    torch.testing.assert_close(found, outputs(plain, ids, real), rtol=1e-10, atol=1e-12)


def test_layers_compute_no_padding():
    model = bert()
    packing.install(model)
    ids, real = batch(BATCHES["odd lengths"], 0)
    seen = []
    model.encoder.layer[0].register_forward_hook(lambda m, args, output: seen.append(output[0]))
    hidden = model(input_ids=ids, attention_mask=real.long()).last_hidden_state
    assert seen[0].shape == (1, real.sum(), model.config.hidden_size)
    assert hidden.shape[:2] == ids.shape and not hidden[~real].any()


def test_bf16():
    model = bert().eval()
    ids, real = batch(BATCHES["odd lengths"], 0)
    found = []
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(model(input_ids=ids, attention_mask=real.long()).last_hidden_state[real])
        packing.install(model)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0.05)


def test_another_kind_of_attention():
    config = BertConfig(vocab_size=50, **SIZES)
    model = AutoModel.from_config(config, attn_implementation="eager")
    assert packing.choose("packed", model, Method()) == "trimmed"
    packing.install(model)
    ids, real = batch([3, 5], 0)
    with pytest.raises(
        ValueError, match="add.* of a mask of packed rows.*train.padding to trimmed"
    ):
        model(input_ids=ids, attention_mask=real.long())


def test_another_batch_after_an_error():
    model = bert()
    packing.install(model)
    ids, real = batch([3, 5], 0)
    handle = model.encoder.layer[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(input_ids=ids, attention_mask=real.long())
    handle.remove()
    whole = torch.ones(1, 4, dtype=torch.int64)
    assert model(input_ids=whole + 5, attention_mask=whole).last_hidden_state.shape[:2] == (1, 4)


# --- whole cells


def cells(make_job, data_dir, tmp_path, *what, train_fields=None, **keys):
    """(record, weights, losses) of the same cell, packed and trimmed.

    By plain SGD: AdamW moves a weight with a gradient near 0 by its sign, which rounding decides.
    """
    found = []
    data = str(uneven(data_dir, what[0], tmp_path / "uneven"))
    for padding in ("packed", "trimmed"):
        fields = {"padding": padding, "optimizer": "sgd", "sgd_momentum": 0.0, "batch_size": 5}
        job = make_job(*what, fields | (train_fields or {}), output=padding, data_dir=data, **keys)
        record = train(job)
        found.append((record, tuned(job), losses(job)))
    return found


def tuned(job):
    """All weights at the end. Of a delta alone, entries that rounding moves would come and go."""
    base = load_file(job.source.path / "model.safetensors")
    return delta.apply(delta.load(job.directory / "delta.safetensors"), base)


def assert_same(packed, trimmed):
    (packed, tensors, found_losses), (trimmed, expected, losses) = packed, trimmed
    assert found_losses == pytest.approx(losses, rel=1e-5)
    assert packed.provenance.padding == "packed" and trimmed.provenance.padding == "trimmed"
    torch.testing.assert_close(tensors, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", methods.names())
def test_every_method(method, make_job, still_dir, data_dir, tmp_path):
    fields = quick_fields(method) | ({"density": 0.02} if method == "random" else {})
    found = cells(make_job, data_dir, tmp_path, "cb", method, fields, model=str(still_dir))
    assert_same(*found)


@pytest.mark.parametrize("task", ["cola", "stsb", "copa", "wsc"])
@pytest.mark.parametrize("pooling", ["pooler", "first_token", "mean"])
def test_every_kind_of_task(task, pooling, make_job, still_dir, data_dir, tmp_path):
    fields = {"gradient_accumulation": 2, "length_grouping": 2, "max_steps": 2}
    found = cells(
        make_job, data_dir, tmp_path, task, "full_tuning", {},
        train_fields=fields, model=str(still_dir), pooling=pooling,
    )  # fmt: skip
    assert_same(*found)


@pytest.mark.parametrize(
    ("method", "fields", "position"),
    [
        ("adapter", {"config": "prefix_tuning"}, "absolute"),
        ("adapter", {"config": "unipelt"}, "absolute"),
        ("adapter", {"config": "direft"}, "absolute"),
        ("stochastic_tuning", {"padding": True}, "absolute"),
        ("bitfit", {}, "relative_key"),
    ],
)
def test_what_tells_rows_apart_runs_trimmed_and_says_so(
    method, fields, position, make_job, bert_dir, tmp_path, monkeypatch
):
    budgets = []
    monkeypatch.setattr(runner, "within", lambda *budget: budgets.append(budget) or [budget[0]])
    model = shutil.copytree(bert_dir, tmp_path / "model")
    config = json.loads((model / "config.json").read_text()) | {"position_embedding_type": position}
    (model / "config.json").write_text(json.dumps(config))
    if position != "absolute":
        AutoModel.from_config(AutoConfig.from_pretrained(model)).save_pretrained(model)
    job = make_job("cb", method, fields, {"max_steps": 1, "eval_every": 1}, model=str(model))
    assert job.cell.train.padding == "packed"
    assert train(job).provenance.padding == "trimmed"
    assert {budget[1:] for budget in budgets} == {(8192, "trimmed")}  # what is computed counts


def test_padding_as_jiant_has_it(make_job, data_dir, tmp_path, monkeypatch):
    """All batches, of training and evaluation, are as wide as the longest row of their file."""
    whole = []
    collate = features.batches

    def batches(task, parts, padding):
        for part in parts:
            ((batch, metadata),) = collate(task, [part], padding)
            whole.append(batch.input_ids.shape[-1] == part[0]["data_row"].input_ids.shape[-1])
            yield batch, metadata

    monkeypatch.setattr(features, "batches", batches)
    monkeypatch.setattr(runner, "batches", batches)
    data = str(uneven(data_dir, "cb", tmp_path / "uneven"))
    record = train(make_job(train={"padding": "jiant"}, data_dir=data))
    assert record.provenance.padding == "jiant"
    assert len(whole) > 4 and all(whole)
    whole.clear()
    train(make_job(train={"padding": "trimmed"}, data_dir=data, output="trimmed"))
    assert not all(whole)


def test_records_of_earlier_versions_were_trimmed(make_job):
    assert make_job().cell.settings["train"]["padding"] == "packed"
    assert "padding" not in make_job(train={"padding": "trimmed"}).cell.settings["train"]


@pytest.mark.parametrize(("rows", "scored"), [(None, 24), (5, 5), (0, None)])
def test_rows_of_the_training_data_that_are_scored(rows, scored, make_job, monkeypatch):
    seen = []
    score = SparseRunner.score

    def note(self, phase, limit=None):
        seen.append((phase, len(self.phases[phase].by_length(limit)[0])))
        return score(self, phase, limit)

    monkeypatch.setattr(SparseRunner, "score", note)
    record = train(make_job(train={"score_train": rows}))
    assert dict(seen).get("train") == scored
    assert ("train" in record.metrics) == (scored is not None)
