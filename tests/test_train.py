"""One cell through jiant: what it does, measured from outside."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.models import in_turn
from support.refusals import refusal
from support.resuming import logged, losses
from support.rows import read, write
from torch import nn
from transformers import AutoModel, BertTokenizer

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.grid import plan
from jiant_sparse.grid.worker import work
from jiant_sparse.host import dropout, features, loop, runner
from jiant_sparse.host.export import export
from jiant_sparse.host.train import train
from jiant_sparse.methods.full_tuning import FullTuning
from jiant_sparse.schema import record
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import delta


@pytest.mark.parametrize(("task", "encoder"), in_turn(TASKS, "bert_dir", "roberta_dir"))
def test_every_task(task, encoder, make_job, request):
    directory = request.getfixturevalue(encoder)
    job = make_job(task, "random", {"density": 0.05}, model=str(directory))
    result = train(job)
    assert result == record.read(job.directory / "record.json")
    assert result.metrics.keys() == {"dev", "test", "train"}
    metric = job.cell.task.metric
    assert result.primary.name == metric
    assert result.primary.test == result.metrics["test"][metric]
    assert result.provenance.pooler == ("loaded" if encoder == "bert_dir" else "initialised")
    assert 0 < result.params.changed <= result.params.selected
    assert result.params.selected == int(result.params.eligible * 5 // 100)
    assert result.params.trainable == result.params.selected + result.params.head
    found = delta.load(job.delta)
    assert {name for name in found.new if not name.startswith("head.")} == (
        set() if encoder == "bert_dir" else {"pooler.dense.weight", "pooler.dense.bias"}
    )
    labels = [row["label"] for row in read(job.data.paths["test"])]
    constant = {"acc": max(map(labels.count, labels)) / len(labels), "mcc": 0.0, "corr": None}
    if metric in constant:
        assert result.primary.majority == pytest.approx(constant[metric])


def test_full_tuning_equals_plain_jiant(make_job, still_dir, tmp_path, monkeypatch):
    """Ten steps of jiant's own runner, caches and data loader against ten of ours."""
    import jiant.proj.main.components.container_setup as container_setup
    import jiant.proj.main.modeling.model_setup as model_setup
    import jiant.proj.main.runner as jiant_runner
    import jiant.shared.caching as caching
    from jiant.shared.model_setup import OptimizerScheduler
    from jiant.utils.zlog import InMemoryZLogger
    from transformers import get_linear_schedule_with_warmup

    # One batch size for all, because jiant pads a whole phase to one length.
    train_fields = {"max_steps": 10, "eval_every": 10, "padding": "jiant"}
    job = make_job(train=train_fields, model=str(still_dir))
    train(job)

    directory = job.directory / "jiant"
    settings = json.loads((directory / "container_config.json").read_text())
    task = container_setup.create_task_dict(settings["task_config_path_dict"], verbose=False)["cb"]
    torch.manual_seed(derive(0, "model"))
    model = model_setup.setup_jiant_model(
        str(still_dir), None, {"cb": task},
        container_setup.TaskmodelsConfig.from_dict(settings["taskmodels_config"]),
    )  # fmt: skip
    rows = features.load_phase(
        task, job.data.paths["train"], model.tokenizer, model.encoder, 64
    ).rows
    cache = settings["task_cache_config_dict"]["cb"]["train"]
    caching.chunk_and_save(rows, 1000, {"chunk_size": 1000}, cache)
    allowed = [type(rows[0]["data_row"]), np.ndarray, np.dtype, np.dtypes.Int64DType]
    allowed.append(np._core.multiarray._reconstruct)
    decayed = [p for n, p in model.named_parameters() if "bias" not in n and "LayerNorm" not in n]
    others = [p for n, p in model.named_parameters() if "bias" in n or "LayerNorm" in n]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=1e-2, eps=1e-8, fused=True,
    )  # fmt: skip
    steps = container_setup.GlobalTrainConfig.from_dict(settings["global_train_config"])
    schedule = get_linear_schedule_with_warmup(optimizer, steps.warmup_steps, steps.max_steps)
    with torch.serialization.safe_globals(allowed):
        container = container_setup.JiantTaskContainer(
            task_dict={"cb": task},
            task_sampler=container_setup.jiant_task_sampler.UniformMultiTaskSampler(
                {"cb": task}, 0
            ),
            task_cache_dict={"cb": {"train": caching.ChunkedFilesDataCache(cache)}},
            global_train_config=steps,
            task_specific_configs=container_setup.create_task_specific_configs(
                settings["task_specific_configs_dict"]
            ),
            taskmodels_config=None,
            task_run_config=container_setup.TaskRunConfig.from_dict(settings["task_run_config"]),
            metrics_aggregator=None,
        )
        plain_runner = jiant_runner.JiantRunner(
            jiant_task_container=container,
            jiant_model=model,
            optimizer_scheduler=OptimizerScheduler(optimizer, schedule),
            device=torch.device("cpu"),
            rparams=jiant_runner.RunnerParameters(
                local_rank=-1, n_gpu=1, fp16=False, max_grad_norm=1.0
            ),
            log_writer=InMemoryZLogger(),
        )
        # jiant takes its one permutation from NumPy's global generator. Ten steps of six batches
        # reach the second epoch, which jiant replays: ask the same of ours.
        order = features.Epochs(task, rows, 4, seed=derive(0, "train"))
        np.random.seed(0)
        monkeypatch.setattr(
            np.random, "shuffle", lambda index: index.__setitem__(slice(None), order.order(0))
        )
        for _ in plain_runner.run_train_context(verbose=False):
            pass

    replayed = make_job(
        train=train_fields | {"reshuffle": False}, model=str(still_dir), output="replayed"
    )
    train(replayed)
    ours = delta.load(replayed.delta)
    base = load_file(still_dir / "model.safetensors")
    tuned = delta.apply(ours, base)
    for name, parameter in model.encoder.named_parameters():
        assert torch.equal(tuned[name], parameter), name
    for name, parameter in model.taskmodels_dict["cb"].head.named_parameters():
        assert torch.equal(tuned[f"head.{name}"], parameter), name
    assert losses(job)[:6] == losses(replayed)[:6]
    assert losses(job)[6:] != losses(replayed)[6:]


def test_too_many_dropped_rows(make_job, data_dir, tmp_path):
    shutil.copytree(data_dir / "wsc", tmp_path / "data/wsc")
    path = tmp_path / "data/wsc/test.jsonl"
    rows = read(path)
    rows[0]["text"] += " indeed" * 30 + f" {rows[0]['target']['span2_text']}"
    rows[0]["target"]["span2_index"] = len(rows[0]["text"].split()) - 1
    write(path, rows)
    job, allowed = (
        make_job(
            "wsc", data_dir=str(tmp_path / "data"), train={"max_seq_length": 24, "allow_dropped": a}
        )
        for a in (False, True)
    )
    assert "test.jsonl: 1 of 12 rows do not fit" in refusal(train, job)
    assert not (job.directory / "record.json").exists()
    assert not (job.directory / "log.jsonl").exists(), "nothing was trained"
    result = train(allowed)
    assert result.provenance.dropped_examples == {"test": 1}
    assert result.data == record.Data(
        train=24, dev=10, test=12, published_train_val=False, published_test=False
    )
    assert refusal(plan.states, [job]) == (
        f"{job.directory}/record.json: 1 of 12 test rows do not fit max_seq_length and were not "
        "scored; that counts only if train.allow_dropped is true"
    )
    assert plan.states([allowed]) == ["ok"]


def test_methods_start_from_the_same_head_and_batches(make_job):
    """At learning rate 0 nothing moves, so the losses show what each method was given."""
    shown = []
    for method, fields in (("full_tuning", {}), ("sam", {"burn_in": 3}), ("random", {})):
        job = make_job(method=method, fields=fields, train={"warmup_fraction": 1.0, "max_steps": 1})
        train(job)
        shown.append(losses(job))
    assert shown[0] == shown[1] == shown[2]


def test_probing_changes_nothing(make_job, monkeypatch):
    plain = make_job(output="plain")
    train(plain)

    def attach(self, model, probe, rng):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        gradients = []
        for _ in probe(3, dropout=True, max_grad_norm=1.0):
            gradients.append(model.embeddings.word_embeddings.weight.grad.clone())
            torch.rand(7)
        assert not torch.equal(gradients[0], gradients[1])
        assert all(torch.equal(before[n], p) for n, p in model.named_parameters())
        assert all(p.grad is None for p in model.parameters())

    monkeypatch.setattr(FullTuning, "attach", attach)
    probed = make_job(output="probed")
    train(probed)
    assert losses(probed) == losses(plain)
    files = [job.delta for job in (plain, probed)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_evaluation_does_not_change_training(make_job):
    often = make_job(train={"eval_every": 1}, output="often")
    never = make_job(train={"eval_every": 100}, output="never")
    train(often), train(never)
    assert losses(often) == losses(never)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"eval_every": 3, "max_steps": 7, "eval_offset": 1}, [2, 5, 7]),
        ({"eval_every": 9, "max_steps": 4}, [4]),
    ],
)
def test_evaluation_steps(make_job, settings, steps):
    job = make_job(train=settings)
    result = train(job)
    assert [step for step, _ in result.history] == logged(job, "dev", "step") == steps
    assert result.stopped_by == "max_steps"


NAN = float("nan")


@pytest.mark.parametrize(
    ("settings", "scores", "steps", "best", "stopped_by"),
    [
        ({"patience": 2, "min_steps": 5}, [0.1, 0.5, 0.5, 0.4, 0.3, 0.2], 6, 2, "patience"),
        ({"max_steps": 4}, [NAN, -0.5, NAN, -0.7], 4, 2, "max_steps"),
    ],
)
def test_best_step(settings, scores, steps, best, stopped_by, make_job, monkeypatch):
    """Strictly better scores count, NaN is worse than any, and the best weights come back."""
    heads, given = [], iter(scores)

    def head(of):
        head = of.jiant_model.taskmodels_dict[of.task.name].head
        return torch.cat([p.detach().flatten() for p in head.parameters()])

    def dev_metrics(self):
        heads.append(head(self.runner))
        value = next(given)
        return dict.fromkeys(("major", "acc"), None if value != value else value)

    plain = runner.SparseRunner.score

    def score(self, phase, limit=None):
        assert torch.equal(head(self), heads[best - 1])
        return plain(self, phase, limit)

    monkeypatch.setattr(loop.Loop, "dev_metrics", dev_metrics)
    monkeypatch.setattr(runner.SparseRunner, "score", score)
    result = train(make_job(train={"max_steps": 50, "eval_every": 1} | settings))
    assert (result.steps, result.best_step, result.stopped_by) == (steps, best, stopped_by)
    assert [s for _, s in result.history] == [None if s != s else s for s in scores]
    assert result.primary.dev == scores[best - 1]
    assert not torch.equal(heads[best - 1], heads[-1])


@pytest.mark.parametrize(("limit", "again"), [(3, [("val", None)]), (None, [])])
def test_dev_examples_limit_selection_only(limit, again, make_job, monkeypatch):
    """And dev is scored once more for the record only if selection saw a part of it."""
    asked = []
    plain = runner.SparseRunner.score

    def score(self, phase, limit=None):
        asked.append((phase, limit))
        return plain(self, phase, limit)

    monkeypatch.setattr(runner.SparseRunner, "score", score)
    train(make_job(train={"dev_examples": limit}))
    assert asked == [("val", limit), ("val", limit), *again, ("test", None), ("train", None)]


def test_accumulation_is_one_step_on_the_whole(make_job, monkeypatch):
    """Micro-batches weigh by their size: 24 examples are 16 and 8."""
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    monkeypatch.setattr(dropout, "dropout", lambda x, p: x)
    one = make_job(train={"batch_size": 24, "max_steps": 3}, output="one")
    fields = {"batch_size": 16, "gradient_accumulation": 2, "max_steps": 3}
    two = make_job(train=fields, output="two")
    train(one), train(two)
    np.testing.assert_allclose(losses(one), losses(two), rtol=2e-4)


DIVERGING = {"learning_rate": 1e30, "warmup_fraction": 0.0}


def test_a_loss_that_is_not_finite_fails_the_cell(make_job):
    job = make_job()
    train(job)
    # What an earlier run left goes, too.
    assert job.delta.exists()
    (job.directory / "record.json").unlink()
    job = make_job(train=DIVERGING | {"max_steps": 9})
    result = work(job)
    assert result.status == "failed"
    assert result.error.startswith("NotFinite: the training loss is")
    step = int(result.error.split("at step ")[1])
    assert step == len(losses(job)) + 1
    assert record.read(job.directory / "record.json") == result
    assert not job.delta.exists()
    last = work(make_job(train=DIVERGING | {"max_steps": 1}, output="last step"))
    assert last.status == "failed"
    assert "NotFinite: the loss on val is nan at step 1" in last.error


def test_seeds_decide_heads_and_choices(make_job):
    jobs = [
        make_job(method="random", fields={"density": 0.1}, seeds=[seed], train={"max_steps": 2})
        for seed in (0, 1)
    ]
    for job in jobs:
        train(job)
    one, two = (delta.load(job.delta) for job in jobs)
    assert losses(jobs[0])[0] != losses(jobs[1])[0]
    head = "head.dense.weight"
    assert (one.new[head] - two.new[head]).abs().mean() > 0.05
    name = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(one.entries[name][0], two.entries[name][0])


def test_clipping_and_epsilon(make_job):
    """A gradient far below epsilon moves nothing."""
    settings = {"max_steps": 3, "warmup_fraction": 0.0, "weight_decay": 0.0, "adam_epsilon": 1e-4}
    moved = []
    for change in ({}, {"max_grad_norm": 1e-9}, {"adam_epsilon": 1e3}):
        job = make_job(train=settings | change, output=f"{change}")
        train(job)
        model = AutoModel.from_pretrained(job.source.path)
        base = {name: p.detach() for name, p in model.named_parameters()}
        tuned = delta.apply(delta.load(job.delta), base)
        moved.append(max((tuned[n] - p).abs().max().item() for n, p in base.items()))
    assert moved[0] > 1e-3 and max(moved[1:]) < 1e-4


def test_bf16(make_job):
    fp32, bf16 = (
        make_job(train={"precision": p, "max_steps": 1}, output=p) for p in ("fp32", "bf16")
    )
    train(fp32), train(bf16)
    assert losses(fp32) != losses(bf16)
    np.testing.assert_allclose(losses(fp32)[0], losses(bf16)[0], rtol=0.05)


def test_missing_cuda(make_job):
    if torch.cuda.is_available():
        assert train(make_job(device="cuda")).provenance.device != "cpu"
        return
    assert "device is cuda, but torch sees no CUDA device" in refusal(make_job, device="cuda")


@pytest.mark.parametrize("pooling", ["first_token", "mean"])
def test_pooling_leaves_the_pooler_untrained(make_job, pooling):
    job = make_job(pooling=pooling)
    train(job)
    changed = delta.load(job.delta).entries
    assert changed
    assert not any(name.startswith("pooler.") for name in changed)


def test_metrics_recomputed_from_the_delta(make_job, tmp_path):
    """Exported, loaded by transformers, run by hand: the same test accuracy."""
    job = make_job("rte", "random", {"density": 0.1}, train={"max_steps": 20, "eval_every": 5})
    result = train(job)
    export(job.delta, str(job.source.path), tmp_path / "exported")
    encoder = AutoModel.from_pretrained(tmp_path / "exported").eval()
    tokenizer = BertTokenizer.from_pretrained(tmp_path / "exported")
    head = load_file(tmp_path / "exported" / "head.safetensors")
    right = 0
    rows = read(job.data.paths["test"])
    for row in rows:
        batch = tokenizer(row["premise"], row["hypothesis"], return_tensors="pt")
        with torch.no_grad():
            pooled = encoder(**batch).pooler_output
        hidden = torch.tanh(nn.functional.linear(pooled, head["dense.weight"], head["dense.bias"]))
        logits = nn.functional.linear(hidden, head["out_proj.weight"], head["out_proj.bias"])
        right += ["entailment", "not_entailment"][int(logits.argmax())] == row["label"]
    assert right / len(rows) == result.primary.test
