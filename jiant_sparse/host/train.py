"""Train one cell, from its job to its record, with jiant's parts.

`_Run.execute` is the whole way: the newest checkpoint, model and data, the method's choice or its
restored state, training, scores, delta, record.
"""

import json
import statistics
import time
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jiant.proj.main.runner import RunnerParameters
from torch import Tensor, nn

from jiant_sparse.files import remove_partial
from jiant_sparse.host import (
    checkpoint,
    compat,
    container,
    device,
    feature_cache,
    features,
    fit,
    log,
    model,
    packing,
    resume,
)
from jiant_sparse.host.job import PHASES, Job
from jiant_sparse.host.loop import Loop, Scores
from jiant_sparse.host.metrics import fractions, majority
from jiant_sparse.host.optimizer import make_optimizer
from jiant_sparse.host.resume import Costs
from jiant_sparse.host.runner import ModelProbe, SparseRunner
from jiant_sparse.schema import provenance
from jiant_sparse.schema.control import Control, Stopped
from jiant_sparse.schema.record import Cost, Machine, Params, Primary, Provenance, Record
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import delta, surgery
from jiant_sparse.sparse.bits import differing

Metrics = dict[Literal["dev", "test", "train"], dict[str, float | None]]


def train(job: Job, control: Control | None = None, *, verbose: bool = False) -> Record:
    """Run one cell, or resume it, and write its files; `record.json` comes last.

    control: lets the caller stop the run. verbose: show a progress bar.
    Raises Stopped after a checkpoint if the caller stopped the run, InputError for bad input,
    NotFinite for a loss that is NaN or infinite, and OSError where a file cannot be written. There
    is no record then, and the last whole checkpoint stays.
    """
    started = provenance.now()
    job.check_unchanged()
    with compat.shims(), device.repeatable(job.threads) as nondeterministic:
        machine = _machine(device.pick(job.cell.setup.device))
        costs = Costs(started, nondeterministic, [machine.model_dump()])
        return _Run(job, control or Control(), costs, verbose).execute()


class _Run:
    def __init__(self, job: Job, control: Control, costs: Costs, verbose: bool) -> None:
        self.job = job
        self.cell = job.cell
        self.control = control
        self.costs = costs
        self.verbose = verbose
        self.scores = Scores()
        self.begun = time.monotonic()
        self.device = device.pick(self.cell.setup.device)

    def execute(self) -> Record:
        device.reset_peak(self.device)
        directory = self.job.directory
        remove_partial(directory)
        state = checkpoint.latest(directory, self.job.identity, self._unusable)
        self.runner = self._build()
        self.encoder = self.runner.jiant_model.encoder
        (taskmodel,) = self.runner.jiant_model.taskmodels_dict.values()
        self.head = taskmodel.head
        self.base = _snapshot(self.encoder)
        self.job.delta.unlink(missing_ok=True)  # left by a run whose record was removed
        at, step = (state["log"], len(state["step_seconds"])) if state else (None, 0)
        with log.Log(directory, at, step=step, tensorboard=self.job.tensorboard) as entries:
            self.runner.log_writer = entries
            self._choose_or_restore(state)
            metrics = self._train_and_score(entries)
            entries.position()  # syncs the log before a record says that the cell is done
        self.control.confirm()
        record = self._record(metrics)
        self.control.confirm()
        record.write(directory)
        checkpoint.clear(directory)
        return record

    def _unusable(self, state: Mapping[str, Any]) -> str | None:
        """Why the run cannot resume from a checkpoint's state, or None."""
        if state["device"] != self.device.type:
            return f"is of a run on {state['device']}, this one is on {self.device.type}"
        if not log.reaches(self.job.directory, state["log"]):
            return "the log it belongs to is not whole"
        return None

    def _build(self) -> SparseRunner:
        """Model, data and runner; everything trains, and there is no optimizer yet."""
        cell, data = self.cell, self.job.data
        task = features.make_task(cell.task.like, data.paths)
        # The seed alone decides the head and a missing pooler, so all methods start from the same.
        torch.manual_seed(derive(cell.seed, "model"))
        jiant_model = model.build(self.job.source, task, cell.setup.pooling).to(self.device)
        jiant_model.train()
        method = cell.make_method()
        self.padding = packing.choose(cell.train.padding, jiant_model.encoder, method)
        phases = {
            phase: feature_cache.load_phase(
                task,
                data.paths[phase],
                data.sha256[phase],
                cell.train.max_seq_length,
                directory=self.job.features,
                source=self.job.source,
                tools=lambda: (jiant_model.tokenizer, jiant_model.encoder),
            )
            for phase in PHASES.values()
        }
        features.check_dropped(phases, data.paths, cell.train)
        examples = len(phases["train"].rows)
        config = container.write_configs(cell, data, self.job.directory / "jiant", examples)
        return SparseRunner(
            method=method,
            phases=phases,
            train=cell.train.model_copy(update={"padding": self.padding}),
            seed=cell.seed,
            control=self.control,
            jiant_task_container=container.make_container(task, config),
            jiant_model=jiant_model,
            optimizer_scheduler=None,
            device=self.device,
            rparams=RunnerParameters(
                local_rank=-1, n_gpu=1, fp16=False, max_grad_norm=cell.train.max_grad_norm
            ),
            log_writer=None,
        )

    def _choose_or_restore(self, state: Mapping[str, Any] | None) -> None:
        """Let the method choose and make the optimizer, or put both back from a checkpoint."""
        self.control.tell("selecting")
        runner = self.runner
        steps = runner.jiant_task_container.global_train_config.max_steps
        fit.check_scores(self.cell.method_name, runner.method, self.cell.train, steps)
        if self.cell.train.freeze_head:
            surgery.freeze(self.head)
        if state:
            runner.method.restore(self.encoder, self._rng, state["method"])
            runner.optimizer_scheduler = make_optimizer(runner)
            resume.load_state_dict(runner, self.scores, self.costs, state)
            return
        started = time.perf_counter()
        runner.method.attach(self.encoder, ModelProbe(runner), self._rng)
        runner.optimizer_scheduler = make_optimizer(runner)
        self.costs.select_seconds = time.perf_counter() - started
        trainable = (p.numel() for p in runner.jiant_model.parameters() if p.requires_grad)
        self.costs.trainable = sum(trainable)
        # Dropout draws the same stream with every method, whatever its choice has drawn.
        resume.seed_generators(derive(self.cell.seed, "train"))

    def _rng(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive(self.cell.seed, self.cell.method_name, name))

    def _train_and_score(self, entries: log.Log) -> Metrics:
        """Metrics by phase of the best state. If the run is stopped, it leaves a checkpoint."""
        runner, scores = self.runner, self.scores

        def save() -> None:
            self.control.confirm()
            self.costs.peak_memory_bytes = self._peak()
            state = resume.state_dict(runner, scores, self.costs, entries, self.base)
            checkpoint.save(self.job.directory, runner.step, self.job.identity, state)

        try:
            Loop(runner, scores, save, begun=self.begun, verbose=self.verbose).run()
            self.control.tell("scoring", runner.step, runner.step, scores.best_score)
            started = time.perf_counter()
            metrics = self._score()
        except Stopped as stopped:
            if runner.step:
                save()
            raise Stopped(f"{stopped}; it goes on from step {runner.step}") from None
        scores.eval_seconds += time.perf_counter() - started
        return metrics

    def _score(self) -> Metrics:
        metrics: Metrics = {}
        for name, phase in PHASES.items():
            limit = self.cell.train.score_train if phase == "train" else None
            if phase == "val" and self.scores.best_metrics is not None:
                metrics[name] = self.scores.best_metrics
            elif limit != 0:
                metrics[name] = fractions(self.runner.score(phase, limit))
        return metrics

    def _record(self, metrics: Metrics) -> Record:
        """Write the delta of the trained model, and make its record."""
        runner, name = self.runner, self.cell.task.metric
        # Counted only now: a method may choose in mid-training.
        selected, added = fit.tuned(runner.method, self.encoder, self.base.keys())
        changed, delta_bytes = self._save_delta()
        constant = majority(runner.task, runner.phases["test"].labels)
        return Record(
            **self.job.identity,
            data=self.job.rows,
            status="ok",
            metrics=metrics,
            primary=Primary(
                name=name,
                dev=metrics["dev"][name],
                test=metrics["test"][name],
                majority=constant.get(name),
            ),
            best_step=self.scores.best_step,
            steps=runner.step,
            stopped_by=self.scores.stopped_by,
            params=Params(
                eligible=sum(tensor.numel() for tensor in self.base.values()),
                selected=selected,
                added=added,
                head=sum(p.numel() for p in self.head.parameters()),
                trainable=self.costs.trainable,
                changed=changed,
                moved_per_step=runner.method.moved_per_step,
            ),
            cost=self._cost(delta_bytes),
            history=self.scores.history,
            provenance=self._provenance(),
        )

    def _save_delta(self) -> tuple[int, int]:
        """(eligible weights that differ from the base, bytes of the delta's file)."""
        surgery.settle(self.encoder)
        tuned = _snapshot(self.encoder)
        # No pretrained model has a pooler that was drawn at random: the delta stores all of it.
        drawn = self.job.source.initialised
        pretrained = {name: tensor for name, tensor in self.base.items() if name not in drawn}
        changed = sum(differing(self.base[name], tuned[name]).numel() for name in drawn)
        tuned |= {f"head.{name}": tensor for name, tensor in _snapshot(self.head).items()}
        key = self.cell.key
        meta = {"benchmark": key.benchmark, "task": key.task, "method": key.method}
        meta |= {"settings": json.dumps(self.cell.settings["method"]), "seed": str(key.seed)}
        found = delta.extract(pretrained, tuned, meta)
        return changed + delta.changed(found), delta.save(found, self.job.delta)

    def _cost(self, delta_bytes: int) -> Cost:
        return Cost(
            train_seconds=sum(self.runner.step_seconds),
            eval_seconds=self.scores.eval_seconds,
            select_seconds=self.costs.select_seconds,
            step_milliseconds_median=1000 * statistics.median(self.runner.step_seconds),
            peak_memory_bytes=self._peak(),
            delta_bytes=delta_bytes,
        )

    def _peak(self) -> int | None:
        """Peak memory in bytes over all parts of the run; None where the system does not tell."""
        peaks = (self.costs.peak_memory_bytes, device.peak_bytes(self.device))
        return max((peak for peak in peaks if peak is not None), default=None)

    def _provenance(self) -> Provenance:
        *earlier, here = self.costs.machines
        dropped = {name: self.runner.phases[phase].dropped for name, phase in PHASES.items()}
        return Provenance(
            **here,
            earlier=[Machine.model_validate(machine) for machine in earlier],
            pooler="initialised" if self.job.source.initialised else "loaded",
            padding=self.padding,
            dropped_examples={name: count for name, count in dropped.items() if count},
            nondeterministic=self.costs.nondeterministic,
            started=self.costs.started,
            finished=provenance.now(),
        )


def _machine(on: torch.device) -> Machine:
    commit, dirty = provenance.commit()
    return Machine(
        commit=commit,
        dirty=dirty,
        versions=provenance.versions(),
        device=device.name(on),
        threads=torch.get_num_threads(),
    )


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a module's parameters on the CPU."""
    return {name: p.detach().to("cpu", copy=True) for name, p in module.named_parameters()}
