"""Everything that an exact resume needs: taken from a run between two steps, and put back."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jiant_sparse.host.log import Log
from jiant_sparse.host.loop import Scores
from jiant_sparse.host.optimizer import set_schedule
from jiant_sparse.host.runner import SparseRunner
from jiant_sparse.sparse.states import drifted


@dataclass
class Costs:
    """Costs of a run over all of its parts, for its record. Seconds are wall-clock time.

    started: UTC. nondeterministic: operations that ran without a deterministic algorithm.
    machines: a `record.Machine` for each part, without repetitions, the present one last.
    trainable: weights that the optimizer held at first.
    """

    started: str
    nondeterministic: list[str]
    machines: list[dict[str, Any]]
    trainable: int = 0
    select_seconds: float = 0.0
    peak_memory_bytes: int | None = None


def state_dict(
    runner: SparseRunner, scores: Scores, costs: Costs, log: Log, base: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The state after the runner's last step, for `checkpoint.save`.

    base: the encoder's tensors before training.
    """
    return {
        "method": runner.method.state_dict(),
        "weights": _weights(runner, base),
        "optimizer": _moments(runner),
        "scores": dict(vars(scores)),
        "costs": dict(vars(costs)),
        "step_seconds": torch.tensor(runner.step_seconds, dtype=torch.float64),
        "log": log.position(),
        "random": _generators(runner.device),
        "device": runner.device.type,
    }


def load_state_dict(
    runner: SparseRunner, scores: Scores, costs: Costs, state: Mapping[str, Any]
) -> None:
    """Put a run back to a state. Its method is restored already, and its optimizer is new."""
    parameters = dict(runner.jiant_model.named_parameters())
    with torch.no_grad():
        for name, value in state["weights"].items():
            parameters[name].copy_(value)
    for name, moments in state["optimizer"].items():
        # AdamW reads its step count on the CPU; step counts of single entries move to the device.
        runner.optimizer_scheduler.optimizer.state[parameters[name]] = {
            key: value if key == "step" and not value.dim() else value.to(parameters[name].device)
            for key, value in moments.items()
        }
    runner.step_seconds = state["step_seconds"].tolist()
    set_schedule(runner.optimizer_scheduler.scheduler, runner.step)
    vars(scores).update(state["scores"])
    scores.history = [(step, score) for step, score in scores.history]
    _add_up(costs, state["costs"])
    _set_generators(state["random"], runner.device)


def _add_up(costs: Costs, before: Mapping[str, Any]) -> None:
    """Add the costs of the earlier parts to this part, which has only begun."""
    noticed, (here,) = costs.nondeterministic, costs.machines
    vars(costs).update(before)
    # `device.repeatable` goes on appending to the list of this part, so change it in place.
    noticed[:] = list(dict.fromkeys([*before["nondeterministic"], *noticed]))
    costs.nondeterministic = noticed
    costs.machines = [*(machine for machine in before["machines"] if machine != here), here]


def _weights(runner: SparseRunner, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that train, and frozen weights that differ from the base."""
    model, leaks = runner.jiant_model, runner.train_settings.decay_unselected
    kept = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad or leaks}
    moved = drifted(model.encoder, base)
    return kept | {f"encoder.{name}": tensor for name, tensor in moved.items()}


def _moments(runner: SparseRunner) -> dict[str, dict[str, Tensor]]:
    """The optimizer's state by parameter name: the order of parameters changes with a choice."""
    state = runner.optimizer_scheduler.optimizer.state
    return {
        name: dict(state[parameter])
        for name, parameter in runner.jiant_model.named_parameters()
        if parameter in state
    }


def seed_generators(seed: int) -> None:
    """Seed all global generators. Today only torch's is drawn from."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _generators(device: torch.device) -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, numbers, gauss = random.getstate()
    found = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": [version, list(numbers), gauss],
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def _set_generators(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    np.random.set_state(tuple(state["numpy"]))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
