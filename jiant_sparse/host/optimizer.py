"""The optimizer and its schedule over what a method leaves trainable."""

from collections.abc import Callable
from functools import partial

from jiant.shared.model_setup import OptimizerScheduler
from torch.optim.lr_scheduler import LambdaLR

from jiant_sparse.host.runner import SparseRunner
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.optimizer import SGD, AdamW
from jiant_sparse.sparse.parametrizations import Schedule


def make_optimizer(runner: SparseRunner) -> OptimizerScheduler:
    """The optimizer of all trainable weights; linear warm-up from 0 and decay to 0.

    Gates may have a schedule of their own.
    """
    train = runner.train_settings
    groups = surgery.parameter_groups(runner.jiant_model, train.weight_decay)
    optimizer: SGD | AdamW
    if train.optimizer == "sgd":
        momentum = 0.9 if train.sgd_momentum is None else train.sgd_momentum
        optimizer = SGD(groups, lr=train.learning_rate, momentum=momentum)
    else:
        # Fused: one pass over the weights, a fifth of the time or less on a CPU.
        optimizer = AdamW(groups, lr=train.learning_rate, eps=train.adam_epsilon, fused=True)
    steps = runner.jiant_task_container.global_train_config
    training = partial(_linear, steps.warmup_steps, steps.max_steps)
    factors: list[Callable[[int], float]] = [
        partial(_own, Schedule(*group["schedule"]), training) if "schedule" in group else training
        for group in optimizer.param_groups
    ]
    return OptimizerScheduler(optimizer, LambdaLR(optimizer, factors))


def _linear(warmup: int, total: int, step: int) -> float:
    """Share of the peak rate after `step` steps: up in `warmup` steps, down to 0 at `total`."""
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


def _own(own: Schedule, training: Callable[[int], float], step: int) -> float:
    return own.factor(step, training(step))


def set_schedule(schedule: LambdaLR, step: int) -> None:
    """Advance a new schedule to `step` steps."""
    rates = [
        first * factor(step)
        for first, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    schedule.load_state_dict(schedule.state_dict() | {"last_epoch": step, "_last_lr": rates})
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
