"""jiant's runner with our hooks in it; `sparse.step` draws the training step.

After a step, loop.py evaluates on dev when due (best state, history, patience) and writes a
checkpoint when due.
"""

import contextlib
import math
import time
import warnings
from collections.abc import Iterator
from typing import Any

import jiant.proj.main.runner as jiant_runner
import torch
from jiant.proj.main.modeling.primary import wrap_jiant_forward
from scipy.stats import ConstantInputWarning
from sklearn.exceptions import UndefinedMetricWarning
from torch import Tensor

from jiant_sparse.errors import NotFinite
from jiant_sparse.host.features import Epochs, Phase, batches, within
from jiant_sparse.methods.base import Method
from jiant_sparse.schema.cell import Train
from jiant_sparse.schema.control import Control
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.optimizer import AdamW, clip_grad_norm_
from jiant_sparse.sparse.step import optimizer_step


class SparseRunner(jiant_runner.JiantRunner):
    """jiant's runner with a method's hooks, our data order and our precision.

    phases: features of `train`, `val` and `test`. seed: the cell's. control: lets a caller stop the
    run between two steps, or two batches of an evaluation or a probe. parts: arguments of jiant's
    runner.
    """

    def __init__(
        self,
        *,
        method: Method,
        phases: dict[str, Phase],
        train: Train,
        seed: int,
        control: Control,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.method = method
        self.phases = phases
        self.train_settings = train
        self.seed = seed
        self.control = control
        (self.task,) = self.jiant_task_container.task_dict.values()
        self.step_seconds: list[float] = []
        if train.precision == "bf16":
            # jiant hands logits to NumPy, which has no bfloat16; the loss is more exact, too.
            head = self.jiant_model.taskmodels_dict[self.task.name].head
            head.register_forward_hook(lambda module, inputs, output: output.float())

    def get_train_dataloader_dict(self) -> dict[str, Epochs]:
        """Endless reshuffled batches, from the next step on. jiant replays the first epoch."""
        epochs = self.epochs("train")
        epochs.skip(self.step * self.train_settings.gradient_accumulation)
        return {self.task.name: epochs}

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return len(self.step_seconds)

    def epochs(self, stream: str, batch_size: int | None = None) -> Epochs:
        """Endless training batches in the order of `stream`. batch_size: None is train's."""
        return Epochs(
            self.task,
            self.phases["train"].rows,
            batch_size or self.train_settings.batch_size,
            seed=derive(self.seed, stream),
            train=self.train_settings,
        )

    def backward(self, batch: Any, penalty: Tensor | float = 0.0, parts: float = 1) -> float:
        """Add the gradient of (loss + penalty) / parts. Returns the loss without the penalty."""
        there = batch.to(self.device)
        if self.train_settings.padding == "packed":
            # Packing counts the rows' lengths: on a GPU the host would wait for them.
            there = there.new(input_mask=batch.input_mask)
        with self._autocast():
            output = wrap_jiant_forward(
                jiant_model=self.jiant_model,
                batch=there,
                task=self.task,
                compute_loss=True,
            )
        ((output.loss + penalty) / parts).backward()
        return output.loss.item()

    def run_train_step(self, train_dataloader_dict: dict, train_state: Any) -> None:
        """One optimizer step over `gradient_accumulation` micro-batches.

        Each micro-batch weighs by its number of examples: the last of an epoch may be short.
        """
        started = time.perf_counter()
        self.jiant_model.train()
        step, pending = self.step + 1, train_dataloader_dict[self.task.name]
        batches = [pending.pop()[0] for _ in range(self.train_settings.gradient_accumulation)]
        examples = sum(map(size, batches))
        loss = penalty = 0.0
        for batch in batches:
            extra, parts = self.method.penalty(), examples / size(batch)
            loss += self.backward(batch, extra, parts) / parts
            penalty += (extra.item() if isinstance(extra, Tensor) else extra) / parts
            if not math.isfinite(loss + penalty):
                raise NotFinite(f"the training loss is {loss + penalty} at step {step}")
        learning_rate = _training_rate(self.optimizer_scheduler.scheduler)
        settings = self.train_settings
        optimizer_step(
            self.jiant_model,
            self.method,
            self.optimizer_scheduler.optimizer,
            step,
            max_grad_norm=self.rparams.max_grad_norm,
            scheduler=self.optimizer_scheduler.scheduler,
            encoder=self.jiant_model.encoder,
            frozen_decay=learning_rate * settings.weight_decay * settings.decay_unselected,
        )
        train_state.step(task_name=self.task.name)
        self.step_seconds.append(time.perf_counter() - started)
        entry = {"step": step, "loss": loss, "learning_rate": learning_rate}
        self.log_writer.write_entry("train", entry | ({"penalty": penalty} if penalty else {}))

    def score(self, phase: str, limit: int | None = None) -> Any:
        """jiant's metrics (`.major`, `.minor`) on the first `limit` rows of a phase, or on all.

        Draws nothing from the global generators, so evaluation does not change training.
        Raises NotFinite for a NaN or infinite loss: the argmax of NaN looks like a prediction.
        """
        rows, labels = self.phases[phase].by_length(limit)
        settings = self.train_settings
        parts = within(rows, settings.eval_tokens, settings.padding)
        with self._autocast(), warnings.catch_warnings():
            # Constant predictions leave some metrics undefined; the record says so.
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            warnings.simplefilter("ignore", ConstantInputWarning)
            result = jiant_runner.run_val(
                val_dataloader=self._stoppable(batches(self.task, parts, settings.padding)),
                val_labels=labels,
                jiant_model=self.jiant_model,
                task=self.task,
                device=self.device,
                local_rank=self.rparams.local_rank,
                verbose=False,
            )
        if not math.isfinite(result["loss"]):
            raise NotFinite(f"the loss on {phase} is {result['loss']} at step {self.step}")
        return result["metrics"]

    def _stoppable(self, batches: Iterator) -> Iterator:
        for batch in batches:
            self.control.check()
            yield batch

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.train_settings.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


class ModelProbe:
    """Gradients of training batches, without a change to the model or the run.

    See `methods.base.Probe`. Draws its batches in an order of its own.
    """

    def __init__(self, runner: SparseRunner) -> None:
        self.runner = runner

    def __call__(
        self,
        batches: int | None,
        *,
        repeat: bool = True,
        dropout: bool = False,
        max_grad_norm: float | None = None,
        batch_size: int | None = None,
        head_steps: int = 0,
    ) -> Iterator[float]:
        model = self.runner.jiant_model
        epochs = self.runner.epochs("probe", batch_size)
        if batches is None or not repeat:
            batches = min(batches or epochs.batches, epochs.batches)
        modes = {module: module.training for module in model.modules()}
        devices = [self.runner.device] if self.runner.device.type == "cuda" else []
        with torch.random.fork_rng(devices), contextlib.ExitStack() as stack:
            torch.manual_seed(derive(self.runner.seed, "probe/head"))
            try:
                stack.enter_context(self._trained_head(head_steps, dropout))
                torch.manual_seed(derive(self.runner.seed, "probe"))
                for done in range(batches):
                    self.runner.control.tell_batch(done, batches)
                    model.train(dropout)
                    model.zero_grad()
                    batch, _ = epochs.pop()
                    self._backward(batch)
                    if max_grad_norm is not None:
                        clip_grad_norm_(model.parameters(), max_grad_norm)
                    yield size(batch) / epochs.batch_size
            finally:
                model.zero_grad()
                for module, mode in modes.items():
                    module.training = mode

    @contextlib.contextmanager
    def _trained_head(self, steps: int, dropout: bool) -> Iterator[None]:
        """Train the head for `steps` of AdamW at the peak rate; restore it after the block."""
        model = self.runner.jiant_model
        head = model.taskmodels_dict[self.runner.task.name].head
        before = {name: p.detach().clone() for name, p in head.named_parameters()}
        optimizer = AdamW(head.parameters(), lr=self.runner.train_settings.learning_rate)
        epochs = self.runner.epochs("probe/head")
        model.train(dropout)
        try:
            with surgery.frozen(model.encoder):
                for done in range(steps):
                    self.runner.control.tell_batch(done, steps)
                    self._backward(epochs.pop()[0])
                    clip_grad_norm_(head.parameters(), self.runner.rparams.max_grad_norm)
                    optimizer.step()
                    model.zero_grad()
            yield
        finally:
            with torch.no_grad():
                for name, parameter in head.named_parameters():
                    parameter.copy_(before[name])

    def _backward(self, batch: Any) -> None:
        self.runner.control.check()
        loss = self.runner.backward(batch)
        if not math.isfinite(loss):
            raise NotFinite(f"the loss is {loss} while weights are being chosen")


def size(batch: Any) -> int:
    """Number of examples in one of jiant's batches."""
    return len(batch.input_ids)


def _training_rate(schedule: Any) -> float:
    """The next step's learning rate for parameters without a schedule of their own."""
    groups = zip(schedule.optimizer.param_groups, schedule.get_last_lr(), strict=True)
    rates = {"schedule" in group: rate for group, rate in reversed([*groups])}
    return rates.get(False, rates.get(True, 0.0))
