"""jiant's metarunner with exact evaluation steps, the best state back, and checkpoints."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import jiant.proj.main.components.task_sampler as task_sampler
import torch
from jiant.proj.main.metarunner import JiantMetarunner
from jiant.proj.main.runner import TrainState
from torch import Tensor

from jiant_sparse.host.container import evaluations
from jiant_sparse.host.runner import SparseRunner


@dataclass
class Scores:
    """What the dev scores said so far. A score is jiant's aggregated major metric."""

    history: list[tuple[int, float | None]] = field(default_factory=list)
    best_step: int | None = None
    best_score: float | None = None
    best_state: dict[str, Tensor] = field(default_factory=dict)
    evaluations_since_best: int = 0
    stopped_by: str | None = None
    eval_seconds: float = 0.0

    def is_better(self, score: float | None) -> bool:
        """Whether it is strictly better than the best so far; the first always is."""
        if self.best_step is None:
            return True
        return score is not None and (self.best_score is None or score > self.best_score)


class SparseMetarunner(JiantMetarunner):
    """jiant's loop: one evaluation where it is due, patience, and the best state in the end.

    save: writes a checkpoint of the run as it is. Its calls come between steps. begun: when the
    run began, by time.monotonic.
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
        train = runner.train_settings
        super().__init__(
            runner=runner,
            save_every_steps=0,
            eval_every_steps=train.eval_every,
            save_checkpoint_every_steps=0,
            no_improvements_for_n_evals=train.patience,
            checkpoint_saver=None,
            output_dir=None,
            verbose=verbose,
            save_best_model=False,
            save_last_model=False,
            log_writer=runner.log_writer,
        )
        self.scores = scores
        self.save = save
        self.evaluations = evaluations(train, self.global_train_config.max_steps)
        self._saved_at = begun
        if runner.step:
            self.train_state = TrainState(runner.step, {runner.task.name: runner.step})

    def run_train_loop(self) -> None:
        """Train to the end, from wherever the run is; then the model holds its best state."""
        self.begin_training()
        self._tell()
        self._save_if_due()  # the choice may have taken long
        # A run that was stopped may have left an evaluation undone.
        if not (self.runner.step and self._ended()):
            for _ in self.yield_train_step():
                if self._ended():
                    break
        self._restore_best()

    def should_eval_model(self) -> bool:
        """After the steps that, with the offset, eval_every divides (jiant's offset is 1)."""
        return self.runner.step in self.evaluations

    def should_break_training(self) -> bool:
        """At the last step, or past min_steps after `patience` evaluations without a better one."""
        train, scores = self.runner.train_settings, self.scores
        impatient = 0 < train.patience <= scores.evaluations_since_best
        if impatient and self.runner.step > train.min_steps:
            scores.stopped_by = "patience"
        elif self.runner.step >= self.global_train_config.max_steps:
            scores.stopped_by = "max_steps"
        return scores.stopped_by is not None

    def should_save_checkpoint(self) -> bool:
        """Every `checkpoint_every` steps, and when the last is `checkpoint_minutes` old."""
        train = self.runner.train_settings
        step, every = self.runner.step, train.checkpoint_every
        due = every is not None and step > 0 and step % every == 0
        return due or time.monotonic() - self._saved_at >= 60 * train.checkpoint_minutes

    def eval_save(self) -> None:
        """Score on dev; a strictly better score becomes the best, and NaN is worse than any."""
        started = time.perf_counter()
        container = self.runner.jiant_task_container
        results = self.runner.run_val(
            task_name_list=container.task_run_config.train_val_task_list, use_subset=True
        )
        score = float(
            task_sampler.compute_aggregate_major_metrics_from_results_dict(
                metrics_aggregator=container.metrics_aggregator, results_dict=results
            )
        )
        self._note(None if math.isnan(score) else score)
        self.scores.eval_seconds += time.perf_counter() - started

    def _ended(self) -> bool:
        """After a step: score if that is due, then see whether it was the last."""
        self._tell()
        if self.should_eval_model() and not self._scored():
            self.eval_save()
        ended = self.should_break_training()
        if ended and not self._scored():
            self.eval_save()
        self._save_if_due()
        self.runner.control.check()
        return ended

    def _save_if_due(self) -> None:
        if self.should_save_checkpoint():
            self.save()
            self._saved_at = time.monotonic()

    def _scored(self) -> bool:
        return self.scores.history[-1:] != [] and self.scores.history[-1][0] == self.runner.step

    def _tell(self) -> None:
        steps = self.global_train_config.max_steps
        self.runner.control.tell("training", self.runner.step, steps, self.scores.best_score)

    def _note(self, score: float | None) -> None:
        step, scores = self.runner.step, self.scores
        scores.history.append((step, score))
        self.log_writer.write_entry("dev", {"step": step, "score": score})
        if not self.runner.method.scores_at(step):
            return
        if scores.is_better(score):
            scores.best_step, scores.best_score = step, score
            scores.best_state = {
                name: parameter.detach().to("cpu", copy=True) for name, parameter in self._moving()
            }
            scores.evaluations_since_best = 0
        else:
            scores.evaluations_since_best += 1

    def _restore_best(self) -> None:
        with torch.no_grad():
            for name, parameter in self._moving():
                parameter.copy_(self.scores.best_state[name])

    def _moving(self) -> Iterator[tuple[str, Tensor]]:
        """What a step may change. The same from the first score that competes to the end."""
        leaks = self.runner.train_settings.decay_unselected
        return ((n, p) for n, p in self.model.named_parameters() if p.requires_grad or leaks)
