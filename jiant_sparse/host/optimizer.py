"""AdamW and its schedule over what a method leaves trainable."""

import transformers
from jiant.shared.model_setup import OptimizerScheduler
from torch.optim.lr_scheduler import LambdaLR

from jiant_sparse.host.runner import SparseRunner
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.optimizer import AdamW


def make_optimizer(runner: SparseRunner) -> OptimizerScheduler:
    """AdamW over what trains, linear warm-up from 0 and linear decay to 0; gates may differ."""
    train = runner.train_settings
    optimizer = AdamW(
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


def set_schedule(schedule: LambdaLR, step: int) -> None:
    """Put a fresh schedule to where it is after `step` steps."""
    rates = [
        first * factor(step)
        for first, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    schedule.last_epoch, schedule._last_lr = step, rates
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
