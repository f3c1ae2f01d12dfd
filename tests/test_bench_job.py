"""Whole jobs on a tiny model: ours beside Hugging Face's Trainer and PEFT's tuners."""

import importlib.util
import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from jiant_sparse.bench import job, peft_tuners
from jiant_sparse.bench.models import Setting
from jiant_sparse.cli import app
from jiant_sparse.data.store import phase_path
from jiant_sparse.data.tasks import find
from jiant_sparse.errors import InputError
from jiant_sparse.host import train
from jiant_sparse.methods.lora import LoRA

ALL = ("hf/full", "hf/lora", "hf/shira", "hf/super_tuning")
NUMBERS = {"milliseconds_median", "milliseconds_min", "milliseconds_max", "repeats"}


@pytest.fixture
def measured(data_dir, bert_dir):
    def run(*tasks, methods=("full_tuning",), **options):
        sizes = {"steps": 2, "repeats": 2, "batch_size": 4, "max_seq_length": 64, "density": 0.05}
        options = {"tasks": tasks, "methods": methods} | sizes | options
        return list(job.run(data_dir, str(bert_dir), **options))

    return run


@pytest.fixture
def work(tmp_path, data_dir, bert_dir):
    """work(task): what the jobs on a task share."""

    def make(name):
        setting = Setting(str(bert_dir), 4, 64, density=0.05)
        made = job._Work(find(name), tmp_path, str(bert_dir), setting)
        job._write_data(data_dir, made)
        return made

    return make


@pytest.fixture
def trainers(monkeypatch):
    """A rival for each one that there is, which takes twice the time of ours; whom it was given."""
    given = []

    def seconds(tune, work, steps, seed):
        given.append((tune, work.data_dir.name == "trial", steps, seed))
        return {"train": 2.0, "score": 4.0}

    monkeypatch.setattr(job, "absent", lambda: ())
    monkeypatch.setattr(job, "_ours", lambda *_: {"train": 1.0, "score": 2.0})
    monkeypatch.setattr(job, "_trainer", seconds)
    return given


def test_rows(measured, trainers, bert_dir):
    lines = []
    rows = measured("cb", "rte", methods=("lora", "random"), notify=lines.append)
    names = [["ours/lora", "hf/lora"], ["ours/random", "hf/shira", "hf/super_tuning"]]
    assert [(row["task"], row["contender"], row["part"]) for row in rows] == [
        (task, name, part)
        for task in ("cb", "rte")
        for group in names
        for part in job.PARTS
        for name in group
    ]
    found = {(row["contender"], row["part"]): row for row in rows if row["task"] == "cb"}
    ours = found["ours/random", "train"]
    ratios = [f"ratio_to_{name}{end}" for name in names[1][1:] for end in ("", "_min", "_max")]
    assert NUMBERS | {*ratios} < ours.keys()
    assert {ours[ratio] for ratio in ratios} == {0.5}
    assert "ratio_to_hf/lora" not in ours
    assert (ours["milliseconds_median"], ours["repeats"]) == (1000, 2)
    assert found["hf/lora", "score"]["milliseconds_median"] == 4000
    assert (ours["bench"], ours["model"], ours["steps"]) == ("job", str(bert_dir), 2)
    assert (ours["batch_size"], ours["sequence_length"], ours["density"]) == (4, 64, 0.05)
    # A step on few rows to begin with, and then every repeat in another order of rows.
    calls = [(True, 1, 0), (False, 2, 0), (False, 2, 1)]
    assert trainers[:3] == [(peft_tuners.lora, *call) for call in calls]
    assert lines[:2] == ["job: cb, ours/lora", "job: cb, hf/lora"]
    assert json.loads(json.dumps(rows)) == rows


def test_our_job_is_a_whole_cell(work, monkeypatch):
    jobs, records = [], []
    real = train.train

    def kept(given):
        jobs.append(given)
        records.append(real(given))
        return records[-1]

    monkeypatch.setattr(train, "train", kept)
    made = work("stsb")
    parts = [job._ours("random", made, 2, 3), job._ours("lora", made, 2, 4)]
    random, lora = records
    assert (random.steps, random.history[-1][0], random.provenance.padding) == (2, 2, "packed")
    assert random.settings["method"]["density"] == 0.05
    assert "density" not in lora.settings["method"]
    assert random.metrics.keys() == {"dev", "test"}, "training rows are not scored"
    assert (random.data.dev, random.data.test) == (10, 2)
    assert parts == [
        {"train": record.cost.train_seconds, "score": record.cost.eval_seconds}
        for record in records
    ]
    assert [each.cell.seed for each in jobs] == [3, 4]
    assert jobs[0].features != jobs[1].features, "each job tokenizes"
    assert not jobs[0].directory.exists(), "files go away"
    assert jobs[0].threads == torch.get_num_threads()


@pytest.mark.parametrize("name", ["cola", "cb", "stsb"])
def test_trainer_has_the_same_rows(work, name, bert_dir):
    import transformers

    made = work(name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_dir)
    rows = job._tokenized(made, "val", tokenizer)
    assert len(rows) == 10
    whole = [json.loads(line) for line in phase_path(made.data_dir, made.task, "val").open()]
    values = [row["label"] for row in whole]
    if name == "stsb":
        assert [row["labels"] for row in rows] == values
    else:
        assert [made.task.labels[row["labels"]] for row in rows] == values
    texts = [whole[0][field] for field in made.task.texts]
    assert rows[0]["input_ids"] == tokenizer(*texts)["input_ids"]
    short = replace(made, setting=replace(made.setting, sequence_length=9))
    assert max(len(row["input_ids"]) for row in job._tokenized(short, "val", tokenizer)) == 9


@pytest.mark.parametrize("name", ALL)
def test_trainer_trains(work, name, monkeypatch, capsys):
    pytest.importorskip("accelerate")
    (tune,) = (rivals[name] for rivals in job.RIVALS.values() if name in rivals)
    if tune:
        pytest.importorskip("peft")
    import transformers

    seen = []
    real = transformers.Trainer.train

    def watched(self):
        before = {key: weight.clone() for key, weight in self.model.named_parameters()}
        result = real(self)
        after = dict(self.model.named_parameters())
        seen.extend([self, {key for key in before if not torch.equal(before[key], after[key])}])
        return result

    monkeypatch.setattr(transformers.Trainer, "train", watched)
    parts = job._trainer(tune, work("cb"), 2, 5)
    trainer, moved = seen
    assert all(seconds > 0 for seconds in parts.values())
    assert trainer.state.global_step == 2
    assert type(trainer.optimizer.optimizer) is torch.optim.AdamW
    assert trainer.optimizer.optimizer.defaults["fused"]
    assert trainer.args.seed == 5
    assert {"classifier.weight", "classifier.bias"} < moved
    encoder = {key for key in moved if not key.startswith("classifier")}
    # A part of the name of every weight that the tuner adds.
    own = {"hf/full": "bert", "hf/lora": "lora_", "hf/shira": "shira", "hf/super_tuning": "super"}
    assert encoder and all(own[name] in key for key in encoder)
    assert tune or "bert.embeddings.word_embeddings.weight" in encoder
    assert not capsys.readouterr().out


def test_peft_s_lora_is_as_large_as_ours(bert_dir):
    pytest.importorskip("peft")
    from transformers import BertModel

    ours, theirs = (BertModel.from_pretrained(bert_dir) for _ in range(2))
    LoRA().attach(ours, None, lambda name: torch.Generator().manual_seed(0))
    tuned = peft_tuners.lora(theirs, 0.05)
    assert trained(tuned) == trained(ours) > 0
    layer = tuned.base_model.model.encoder.layer[0].attention.self.query
    assert layer.scaling["default"] == LoRA().alpha / LoRA().rank


def trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_whose_library_is_missing(monkeypatch):
    missing = set()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name not in missing or None)
    assert job.absent() == ()
    missing.add("peft")
    assert job.absent() == ALL[1:]
    missing.add("accelerate")
    assert job.absent() == ALL


def test_who_is_left_out_is_said(measured, trainers, monkeypatch):
    monkeypatch.setattr(job, "absent", lambda: ALL[1:])
    lines = []
    rows = measured("cb", methods=("full_tuning", "random"), notify=lines.append)
    assert {row["contender"] for row in rows} == {"ours/full_tuning", "hf/full", "ours/random"}
    assert lines[0] == (
        "left out: hf/shira, hf/super_tuning; to have them: pip install accelerate 'peft>=0.21'"
    )
    assert not [key for key in rows[-1] if key.startswith("ratio")]


def test_a_contender_that_fails_is_a_row(measured, trainers, monkeypatch):
    def broken(tune, work, steps, seed):
        raise TypeError("no such layer")

    monkeypatch.setattr(job, "_trainer", broken)
    first, *rest = measured("cb")
    assert (first["contender"], first["error"]) == ("hf/full", "TypeError: no such layer")
    assert [row["contender"] for row in rest] == ["ours/full_tuning"] * 3
    assert "ratio_to_hf/full" not in rest[0]


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        (("colla",), {}, "task 'colla' is unknown; did you mean cola"),
        (("copa",), {}, "task copa is no label for one or two texts; .*cb"),
        (("wsc",), {}, "task wsc is no label for one or two texts"),
        (("cb",), {"methods": ("lorra",)}, "method 'lorra' has no rivals; did you mean lora"),
        (("cb",), {"max_seq_length": 999}, "sequence_length is 999; .* takes at most 130"),
    ],
)
def test_bad_input_is_refused(measured, tasks, options, message):
    with pytest.raises(InputError, match=message):
        measured(*tasks, **options)


def test_missing_data_are_named(tmp_path, bert_dir):
    sizes = {"steps": 1, "repeats": 1, "batch_size": 4, "max_seq_length": 64, "density": 0.05}
    found = job.run(tmp_path, str(bert_dir), tasks=["cb"], methods=["lora"], **sizes)
    with pytest.raises(InputError, match="cb/train.jsonl: cannot be read: No such file"):
        list(found)


def test_the_command(data_dir, bert_dir, trainers):
    arguments = ["--data-dir", data_dir, "--model", bert_dir, "--tasks", "cb", "--methods", "lora"]
    arguments += ["--repeats", 1, "--steps", 3, "--batch-size", 2, "--max-seq-length", 32]
    done = CliRunner().invoke(app, ["bench", "job", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["contender"] for row in rows] == ["ours/lora", "hf/lora"] * 3
    row = rows[0]
    assert (row["steps"], row["batch_size"], row["sequence_length"]) == (3, 2, 32)
    assert {"accelerate", "peft"} < row["versions"].keys()
