"""One cell from beginning to end: the run function, made of jiant's parts."""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from jiant.proj.main.modeling.primary import JiantModel
from jiant.proj.main.runner import RunnerParameters
from jiant.shared.model_setup import OptimizerScheduler
from jiant.utils.zlog import BaseZLogger
from torch import Tensor, nn

from jiant_sparse.benchmark import provenance
from jiant_sparse.benchmark.record import Cost, Params, Primary, Provenance, Record
from jiant_sparse.host import compat, container, device, features, fit, model
from jiant_sparse.host.job import Job
from jiant_sparse.host.runner import ModelProbe, Progress, SparseMetarunner, SparseRunner
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import delta, surgery
from jiant_sparse.sparse.bits import differing

PHASES = {"dev": "val", "test": "test", "train": "train"}


def train(job: Job, *, verbose: bool = False) -> Record:
    """Run one cell and write its files; `record.json` comes last.

    Raises InputError for input that turns out to be bad, and NotFinite for a loss that is not a
    number; then no record and no delta are left.
    """
    started = provenance.now()
    job.check_unchanged()
    with compat.shims():
        return _Run(job, verbose).execute(started)


class _Log(BaseZLogger):
    """`log.jsonl`: one JSON object per entry, there as soon as it is written."""

    def __init__(self, path: Path) -> None:
        self._stream = open(path, "w", 1, encoding="utf-8")  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def write_entry(self, key: str, entry: dict[str, Any]) -> None:
        self._stream.write(json.dumps({"event": key, **entry}) + "\n")

    def flush(self) -> None:
        self._stream.flush()


@dataclass
class _Seconds:
    """Wall-clock seconds by what they were spent on."""

    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.spent[what] = self.spent.get(what, 0.0) + time.perf_counter() - started


class _Run:
    def __init__(self, job: Job, verbose: bool) -> None:
        self.job = job
        self.cell = job.cell
        self.verbose = verbose
        self.seconds = _Seconds()
        self.device = device.pick(self.cell.setup.device)

    def execute(self, started: str) -> Record:
        device.reset_peak(self.device)
        jiant_model, runner = self._build()
        # Of an earlier run whose record was removed.
        (self.job.directory / "delta.safetensors").unlink(missing_ok=True)
        base = _snapshot(jiant_model.encoder)
        with _Log(self.job.directory / "log.jsonl") as log:
            runner.log_writer = log
            with self.seconds.on("select"):
                self._attach(jiant_model, runner)
            trainable = sum(p.numel() for p in jiant_model.parameters() if p.requires_grad)
            metarunner = SparseMetarunner(runner, verbose=self.verbose)
            progress = metarunner.run_train_loop()
            # Only now: a method may choose in mid-training.
            selected, added = fit.tuned(runner.method, jiant_model.encoder, base.keys())
        with self.seconds.on("final evaluation"):
            metrics = {name: _fractions(runner.score(phase)) for name, phase in PHASES.items()}
        changed, delta_bytes = self._save_delta(jiant_model, base)
        params = Params(
            eligible=sum(tensor.numel() for tensor in base.values()),
            selected=selected,
            added=added,
            head=sum(p.numel() for p in _head(jiant_model).parameters()),
            trainable=trainable,
            changed=changed,
        )
        record = Record(
            **self.job.identity,
            status="ok",
            metrics=metrics,
            primary=_primary(self.cell.task.metric, metrics),
            best_step=progress.best_step,
            steps=len(runner.step_seconds),
            stopped_by=progress.stopped_by,
            params=params,
            cost=self._cost(runner, progress, delta_bytes),
            history=progress.history,
            provenance=self._provenance(started, runner),
        )
        record.write(self.job.directory)
        return record

    def _build(self) -> tuple[JiantModel, SparseRunner]:
        """Model, data and runner, with everything trainable and no optimiser yet."""
        cell, data = self.cell, self.job.data
        task = features.make_task(cell.task.reader, data.paths)
        # The head and a missing pooler depend on the seed alone: every method starts from the same.
        torch.manual_seed(derive(cell.seed, "model"))
        jiant_model = model.build(self.job.source, task, cell.setup.pooling).to(self.device)
        jiant_model.train()
        phases = {
            phase: features.load_phase(
                task,
                data.paths[phase],
                jiant_model.tokenizer,
                jiant_model.encoder,
                cell.train.max_seq_length,
            )
            for phase in PHASES.values()
        }
        examples = len(phases["train"].rows)
        directory = self.job.directory / "jiant"
        config = container.container_config(cell, data, directory, examples)
        container.write_configs(cell, data, config, directory)
        runner = SparseRunner(
            method=cell.make_method(),
            phases=phases,
            train=cell.train,
            seed=cell.seed,
            jiant_task_container=container.make_container(task, config, examples),
            jiant_model=jiant_model,
            optimizer_scheduler=None,
            device=self.device,
            rparams=RunnerParameters(
                local_rank=-1, n_gpu=1, fp16=False, max_grad_norm=cell.train.max_grad_norm
            ),
            log_writer=None,
        )
        return jiant_model, runner

    def _attach(self, jiant_model: JiantModel, runner: SparseRunner) -> None:
        """The method's choice, then the optimiser over what it left trainable."""
        steps = runner.jiant_task_container.global_train_config.max_steps
        fit.check_scores(self.cell.method_name, runner.method, self.cell.train, steps)
        if self.cell.train.freeze_head:
            surgery.freeze(_head(jiant_model))

        def rng(name: str) -> torch.Generator:
            seed = derive(self.cell.seed, self.cell.method_name, name)
            return torch.Generator().manual_seed(seed)

        runner.method.attach(jiant_model.encoder, ModelProbe(runner), rng)
        runner.optimizer_scheduler = make_optimizer(runner)
        # Whatever was drawn so far, all methods go on with the same dropout stream.
        torch.manual_seed(derive(self.cell.seed, "train"))

    def _save_delta(self, jiant_model: JiantModel, base: dict[str, Tensor]) -> tuple[int, int]:
        """(eligible entries that differ from their first values, bytes of the delta's file)."""
        surgery.fold(jiant_model.encoder)
        tuned = _snapshot(jiant_model.encoder)
        # A pooler drawn at random is in no pretrained model: the delta has to bring it whole.
        drawn = self.job.source.initialised
        pretrained = {name: tensor for name, tensor in base.items() if name not in drawn}
        changed = sum(differing(base[name], tuned[name]).numel() for name in drawn)
        tuned |= {f"head.{name}": tensor for name, tensor in _snapshot(_head(jiant_model)).items()}
        key = self.cell.key
        meta = {"benchmark": key.benchmark, "task": key.task, "method": key.method}
        meta["settings"] = json.dumps(self.cell.settings["method"])
        found = delta.extract(pretrained, tuned, {**meta, "seed": str(key.seed)})
        changed += delta.changed(found)
        return changed, delta.save(found, self.job.directory / "delta.safetensors")

    def _cost(self, runner: SparseRunner, progress: Progress, delta_bytes: int) -> Cost:
        spent = self.seconds.spent
        return Cost(
            train_seconds=sum(runner.step_seconds),
            eval_seconds=progress.eval_seconds + spent["final evaluation"],
            select_seconds=spent["select"],
            step_milliseconds_median=1000 * statistics.median(runner.step_seconds),
            peak_memory_bytes=device.peak_bytes(self.device),
            delta_bytes=delta_bytes,
        )

    def _provenance(self, started: str, runner: SparseRunner) -> Provenance:
        commit, dirty = provenance.commit()
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return Provenance(
            commit=commit,
            dirty=dirty,
            versions=provenance.versions(),
            device=name,
            threads=torch.get_num_threads(),
            pooler="initialised" if self.job.source.initialised else "loaded",
            dropped_examples={
                name: runner.phases[phase].dropped
                for name, phase in PHASES.items()
                if runner.phases[phase].dropped
            },
            started=started,
            finished=provenance.now(),
        )


def make_optimizer(runner: SparseRunner) -> OptimizerScheduler:
    """AdamW over what trains, linear warm-up from 0 and linear decay to 0; gates may differ."""
    train = runner.train_settings
    optimizer = torch.optim.AdamW(
        surgery.parameter_groups(runner.jiant_model, train.weight_decay),
        lr=train.learning_rate,
        eps=train.adam_epsilon,
    )
    steps = runner.jiant_task_container.global_train_config
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, num_warmup_steps=steps.warmup_steps, num_training_steps=steps.max_steps
    )
    for position, group in enumerate(optimizer.param_groups):
        if group.get("constant"):
            group["lr"] = group["initial_lr"]
            schedule.lr_lambdas[position] = _one
    return OptimizerScheduler(optimizer, schedule)


def _one(step: int) -> float:
    return 1.0


def _head(jiant_model: JiantModel) -> nn.Module:
    (taskmodel,) = jiant_model.taskmodels_dict.values()
    return taskmodel.head


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().to("cpu", copy=True) for name, p in module.named_parameters()}


def _fractions(metrics: Any) -> dict[str, float | None]:
    """All of jiant's metrics; one that is not a number (a constant prediction's) is None."""
    values = {"major": metrics.major, **metrics.minor}
    return {name: None if value != value else float(value) for name, value in values.items()}


def _primary(metric: str, metrics: dict[str, dict[str, float | None]]) -> Primary:
    return Primary(name=metric, dev=metrics["dev"][metric], test=metrics["test"][metric])
