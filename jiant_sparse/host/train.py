"""One cell from beginning to end: the run function, made of jiant's parts."""

import json
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from jiant.proj.main.modeling.primary import JiantModel
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
    resume,
)
from jiant_sparse.host.job import PHASES, Job
from jiant_sparse.host.loop import Scores, SparseMetarunner
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


def train(job: Job, control: Control | None = None, *, verbose: bool = False) -> Record:
    """Run one cell, or go on with it, and write its files; `record.json` comes last.

    control: may ask the run to stop.
    Raises Stopped if it did, after a checkpoint; InputError for input that turns out to be bad,
    NotFinite for a loss that is not a number, and OSError where files cannot be written. Then
    there is no record, and the last good checkpoint stays.
    """
    started = provenance.now()
    job.check_unchanged()
    with compat.shims(), device.repeatable(job.threads) as exceptions:
        machine = _machine(device.pick(job.cell.setup.device))
        costs = Costs(started, exceptions, [machine.model_dump()])
        return _Run(job, control or Control(), verbose, costs).execute()


class _Run:
    def __init__(self, job: Job, control: Control, verbose: bool, costs: Costs) -> None:
        self.job = job
        self.cell = job.cell
        self.control = control
        self.verbose = verbose
        self.costs = costs
        self.scores = Scores()
        self.begun = time.monotonic()
        self.device = device.pick(self.cell.setup.device)

    def execute(self) -> Record:
        device.reset_peak(self.device)
        directory = self.job.directory
        remove_partial(directory)
        state = checkpoint.latest(directory, self.job.identity, self._unusable)
        jiant_model, runner = self._build()
        self.base = _snapshot(jiant_model.encoder)
        # Of an earlier run whose record was removed.
        self.job.delta.unlink(missing_ok=True)
        at, step = (state["log"], len(state["step_seconds"])) if state else (None, 0)
        with log.Log(directory, at, step=step, tensorboard=self.job.tensorboard) as entries:
            runner.log_writer = entries
            self._begin(jiant_model, runner, state)
            metrics, evaluation_seconds = self._train_and_score(runner)
            entries.position()  # all of it on the disk before a record says that the cell is done
        self.control.confirm()
        record = self._record(jiant_model, runner, metrics, evaluation_seconds)
        self.control.confirm()
        record.write(directory)
        checkpoint.clear(directory)
        return record

    def _unusable(self, state: Mapping[str, Any]) -> str | None:
        if state["device"] != self.device.type:
            return f"is of a run on {state['device']}, this one is on {self.device.type}"
        if not log.reaches(self.job.directory, state["log"]):
            return "the log it belongs to is not whole"
        return None

    def _record(
        self,
        jiant_model: JiantModel,
        runner: SparseRunner,
        metrics: dict[str, dict[str, float | None]],
        evaluation_seconds: float,
    ) -> Record:
        """The record of the trained model, whose delta it writes."""
        # Only now: a method may choose in mid-training.
        selected, added = fit.tuned(runner.method, jiant_model.encoder, self.base.keys())
        changed, delta_bytes = self._save_delta(jiant_model)
        return Record(
            **self.job.identity,
            data=self.job.rows,
            status="ok",
            metrics=metrics,
            primary=self._primary(runner, metrics),
            best_step=self.scores.best_step,
            steps=runner.step,
            stopped_by=self.scores.stopped_by,
            params=Params(
                eligible=sum(tensor.numel() for tensor in self.base.values()),
                selected=selected,
                added=added,
                head=sum(p.numel() for p in _head(jiant_model).parameters()),
                trainable=self.costs.trainable,
                changed=changed,
                moved_per_step=runner.method.moved_per_step,
            ),
            cost=self._cost(runner, evaluation_seconds, delta_bytes),
            history=self.scores.history,
            provenance=self._provenance(runner),
        )

    def _primary(
        self, runner: SparseRunner, metrics: dict[str, dict[str, float | None]]
    ) -> Primary:
        name = self.cell.task.metric
        constant = majority(runner.task, runner.phases["test"].labels)
        return Primary(
            name=name,
            dev=metrics["dev"][name],
            test=metrics["test"][name],
            majority=constant.get(name),
        )

    def _train_and_score(self, runner: SparseRunner) -> tuple[dict[str, dict], float]:
        """(metrics by phase, seconds for them); if the run is stopped, a checkpoint is left."""

        def save() -> None:
            self.control.confirm()
            self.costs.peak_memory_bytes = self._peak()
            entries = runner.log_writer
            state = resume.state_dict(runner, self.scores, self.costs, entries, self.base)
            checkpoint.save(self.job.directory, runner.step, self.job.identity, state)

        loop = SparseMetarunner(runner, self.scores, save, begun=self.begun, verbose=self.verbose)
        try:
            loop.run_train_loop()
            self.control.tell("scoring", runner.step, runner.step, self.scores.best_score)
            started = time.perf_counter()
            metrics = {name: fractions(runner.score(phase)) for name, phase in PHASES.items()}
        except Stopped as stopped:
            if runner.step:
                save()
            raise Stopped(f"{stopped}; it goes on from step {runner.step}") from None
        return metrics, time.perf_counter() - started

    def _build(self) -> tuple[JiantModel, SparseRunner]:
        """Model, data and runner, with everything trainable and no optimiser yet."""
        cell, data = self.cell, self.job.data
        task = features.make_task(cell.task.reader, data.paths)
        # The head and a missing pooler depend on the seed alone: every method starts from the same.
        torch.manual_seed(derive(cell.seed, "model"))
        jiant_model = model.build(self.job.source, task, cell.setup.pooling).to(self.device)
        jiant_model.train()
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
        directory = self.job.directory / "jiant"
        config = container.container_config(cell, data, directory, examples)
        container.write_configs(cell, data, config, directory)
        runner = SparseRunner(
            method=cell.make_method(),
            phases=phases,
            train=cell.train,
            seed=cell.seed,
            control=self.control,
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

    def _begin(
        self, jiant_model: JiantModel, runner: SparseRunner, state: Mapping[str, Any] | None
    ) -> None:
        """The method's choice, the optimiser over what it leaves trainable; then the kept state."""
        self.control.tell("selecting")
        steps = runner.jiant_task_container.global_train_config.max_steps
        fit.check_scores(self.cell.method_name, runner.method, self.cell.train, steps)
        if self.cell.train.freeze_head:
            surgery.freeze(_head(jiant_model))
        if state:
            runner.method.restore(jiant_model.encoder, self._rng, state["method"])
            runner.optimizer_scheduler = make_optimizer(runner)
            resume.load_state_dict(runner, self.scores, self.costs, state)
            return
        started = time.perf_counter()
        runner.method.attach(jiant_model.encoder, ModelProbe(runner), self._rng)
        runner.optimizer_scheduler = make_optimizer(runner)
        self.costs.select_seconds = time.perf_counter() - started
        self.costs.trainable = sum(p.numel() for p in jiant_model.parameters() if p.requires_grad)
        # Whatever was drawn so far, all methods go on with the same dropout stream.
        resume.seed_generators(derive(self.cell.seed, "train"))

    def _rng(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive(self.cell.seed, self.cell.method_name, name))

    def _save_delta(self, jiant_model: JiantModel) -> tuple[int, int]:
        """(eligible entries that differ from their first values, bytes of the delta's file)."""
        base = self.base
        surgery.settle(jiant_model.encoder)
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
        return changed, delta.save(found, self.job.delta)

    def _cost(self, runner: SparseRunner, evaluation_seconds: float, delta_bytes: int) -> Cost:
        return Cost(
            train_seconds=sum(runner.step_seconds),
            eval_seconds=self.scores.eval_seconds + evaluation_seconds,
            select_seconds=self.costs.select_seconds,
            step_milliseconds_median=1000 * statistics.median(runner.step_seconds),
            peak_memory_bytes=self._peak(),
            delta_bytes=delta_bytes,
        )

    def _peak(self) -> int | None:
        """The peak of this part of the run and of those before."""
        peaks = (self.costs.peak_memory_bytes, device.peak_bytes(self.device))
        return max((peak for peak in peaks if peak is not None), default=None)

    def _provenance(self, runner: SparseRunner) -> Provenance:
        *earlier, here = self.costs.machines
        return Provenance(
            **here,
            earlier=earlier,
            pooler="initialised" if self.job.source.initialised else "loaded",
            dropped_examples={
                name: runner.phases[phase].dropped
                for name, phase in PHASES.items()
                if runner.phases[phase].dropped
            },
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


def _head(jiant_model: JiantModel) -> nn.Module:
    (taskmodel,) = jiant_model.taskmodels_dict.values()
    return taskmodel.head


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().to("cpu", copy=True) for name, p in module.named_parameters()}
