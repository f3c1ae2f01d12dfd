"""The training loop: evaluations at their steps, patience, checkpoints, the best state back."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from jiant.proj.main.runner import TrainState
from torch import Tensor

from jiant_sparse.host.container import evaluations
from jiant_sparse.host.metrics import fractions
from jiant_sparse.host.runner import SparseRunner


@dataclass
class Scores:
    """Dev scores so far. A score is jiant's major metric; None stands for NaN."""

    history: list[tuple[int, float | None]] = field(default_factory=list)
    best_step: int | None = None
    best_score: float | None = None
    best_state: dict[str, Tensor] = field(default_factory=dict)
    best_metrics: dict[str, float | None] | None = None  # None if only a part of dev was scored
    evaluations_since_best: int = 0
    stopped_by: Literal["max_steps", "patience"] | None = None
    eval_seconds: float = 0.0

    def is_better(self, score: float | None) -> bool:
        """Whether `score` is strictly better than the best so far; the first one always is."""
        if self.best_step is None:
            return True
        return score is not None and (self.best_score is None or score > self.best_score)


class Loop:
    """Trains a run to its end.

    save: writes a checkpoint of the run; called between steps only. begun: start of the run, by
    time.monotonic. verbose: show jiant's progress bar.
    """

    def __init__(
        self,
        runner: SparseRunner,
        scores: Scores,
        save: Callable[[], None],
        *,
        begun: float,
        verbose: bool,
    ) -> None:
        self.runner = runner
        self.train = runner.train_settings
        self.scores = scores
        self.save = save
        self.verbose = verbose
        self.steps = runner.jiant_task_container.global_train_config.max_steps
        self.evaluations = evaluations(self.train, self.steps)
        self._saved_at = begun

    def run(self) -> None:
        """Train from the present step to the end, then put the best state into the model."""
        self._tell()
        self._save_if_due()  # choosing weights may have taken long
        # A stopped run may have left the evaluation of its last step undone.
        if not (self.runner.step and self._after_step()):
            at = TrainState(self.runner.step, {self.runner.task.name: self.runner.step})
            for _ in self.runner.resume_train_context(at, self.verbose):
                if self._after_step():
                    break
        with torch.no_grad():
            for name, parameter in self._moving():
                parameter.copy_(self.scores.best_state[name])

    def dev_metrics(self) -> dict[str, float | None]:
        """jiant's metrics on dev, or on its first `train.dev_examples`; NaN is None."""
        return fractions(self.runner.score("val", self.train.dev_examples))

    def _after_step(self) -> bool:
        """Evaluate if due, and save a checkpoint if due. Returns whether training has ended."""
        self._tell()
        if self.runner.step in self.evaluations:
            self._evaluate()
        ended = self._has_ended()
        if ended:
            self._evaluate()
        self._save_if_due()
        self.runner.control.check()
        return ended

    def _has_ended(self) -> bool:
        """At the last step, or past min_steps after `patience` evaluations without a better one."""
        impatient = 0 < self.train.patience <= self.scores.evaluations_since_best
        if impatient and self.runner.step > self.train.min_steps:
            self.scores.stopped_by = "patience"
        elif self.runner.step >= self.steps:
            self.scores.stopped_by = "max_steps"
        return self.scores.stopped_by is not None

    def _save_if_due(self) -> None:
        """Save every `checkpoint_every` steps, and `checkpoint_minutes` after the last save."""
        step, every = self.runner.step, self.train.checkpoint_every
        by_step = every is not None and step > 0 and step % every == 0
        if by_step or time.monotonic() - self._saved_at >= 60 * self.train.checkpoint_minutes:
            self.save()
            self._saved_at = time.monotonic()

    def _tell(self) -> None:
        self.runner.control.tell("training", self.runner.step, self.steps, self.scores.best_score)

    def _evaluate(self) -> None:
        """Score on dev once a step. A strictly better score becomes the best; NaN never does."""
        step, scores = self.runner.step, self.scores
        if scores.history and scores.history[-1][0] == step:
            return
        started = time.perf_counter()
        found = self.dev_metrics()
        score = found["major"]
        scores.history.append((step, score))
        self.runner.log_writer.write_entry("dev", {"step": step, "score": score})
        if self.runner.method.scores_at(step):
            if scores.is_better(score):
                scores.best_step, scores.best_score = step, score
                scores.best_metrics = found if self.train.dev_examples is None else None
                scores.best_state = {
                    name: parameter.detach().to("cpu", copy=True)
                    for name, parameter in self._moving()
                }
                scores.evaluations_since_best = 0
            else:
                scores.evaluations_since_best += 1
        scores.eval_seconds += time.perf_counter() - started

    def _moving(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters that a step may change: the same from the first competing score to the end."""
        leaks = self.train.decay_unselected
        named = self.runner.jiant_model.named_parameters()
        return ((name, p) for name, p in named if p.requires_grad or leaks)
