"""The optimizer and its schedule over what a method leaves trainable."""

from collections.abc import Callable
from functools import partial

import transformers
from jiant.shared.model_setup import OptimizerScheduler
from torch.optim.lr_scheduler import LambdaLR

from jiant_sparse.host.runner import SparseRunner
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.edits import Schedule
from jiant_sparse.sparse.optimizer import SGD, AdamW


def make_optimizer(runner: SparseRunner) -> OptimizerScheduler:
    """The optimizer over what trains; linear warm-up from 0 and decay to 0, but for gates."""
    train = runner.train_settings
    groups = surgery.parameter_groups(runner.jiant_model, train.weight_decay)
    if train.optimizer == "sgd":
        optimizer = SGD(groups, lr=train.learning_rate, momentum=train.sgd_momentum)
    else:
        optimizer = AdamW(groups, lr=train.learning_rate, eps=train.adam_epsilon)
    steps = runner.jiant_task_container.global_train_config
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, num_warmup_steps=steps.warmup_steps, num_training_steps=steps.max_steps
    )
    for position, group in enumerate(optimizer.param_groups):
        if "schedule" in group:
            training = schedule.lr_lambdas[position]
            schedule.lr_lambdas[position] = partial(_own, group["schedule"], training)
            group["lr"] = group["initial_lr"] * schedule.lr_lambdas[position](0)
    return OptimizerScheduler(optimizer, schedule)


def _own(own: Schedule, training: Callable[[int], float], step: int) -> float:
    return own.factor(step, training(step))


def set_schedule(schedule: LambdaLR, step: int) -> None:
    """Put a fresh schedule to where it is after `step` steps."""
    rates = [
        first * factor(step)
        for first, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    schedule.last_epoch, schedule._last_lr = step, rates
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
