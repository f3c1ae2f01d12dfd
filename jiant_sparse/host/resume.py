"""Everything that an exact resume needs, taken out of a run between two steps and put back."""

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
    """What is known of a run over all of its parts, for its record.

    started: UTC. nondeterministic: operations without a deterministic algorithm that ran.
    machines: as in `record.Machine`, what the parts ran on, without repetitions, this one last.
    trainable: weights that the optimiser held at first. Seconds are wall-clock.
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
    """The state after the runner's last step, for `checkpoint.save`; see `load_state_dict`.

    base: the first values of the encoder's tensors.
    """
    return {
        "method": runner.method.state_dict(),
        "weights": _weights(runner, base),
        "optimizer": _moments(runner),
        "scores": vars(scores) | {"history": [list(entry) for entry in scores.history]},
        "costs": dict(vars(costs)),
        "step_seconds": torch.tensor(runner.step_seconds, dtype=torch.float64),
        "log": log.position(),
        "random": _generators(runner.device),
        "device": runner.device.type,
    }


def load_state_dict(
    runner: SparseRunner, scores: Scores, costs: Costs, state: Mapping[str, Any]
) -> None:
    """Put a run back to a state. The method is restored and the optimiser is fresh."""
    parameters = dict(runner.jiant_model.named_parameters())
    with torch.no_grad():
        for name, value in state["weights"].items():
            parameters[name].copy_(value)
    for name, moments in state["optimizer"].items():
        # The step count stays on the CPU, where AdamW reads it; those of single entries do not.
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
    """Costs of this part, which has only begun, on top of those before."""
    noticed, (here,) = costs.nondeterministic, costs.machines
    vars(costs).update(before)
    # The list of this part stays the one that is added to while it runs.
    noticed[:] = list(dict.fromkeys([*before["nondeterministic"], *noticed]))
    costs.nondeterministic = noticed
    costs.machines = [*(machine for machine in before["machines"] if machine != here), here]


def _weights(runner: SparseRunner, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What trains, and what is frozen but no longer as it was."""
    model, leaks = runner.jiant_model, runner.train_settings.decay_unselected
    kept = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad or leaks}
    moved = drifted(model.encoder, base)
    return kept | {f"encoder.{name}": tensor for name, tensor in moved.items()}


def _moments(runner: SparseRunner) -> dict[str, dict[str, Tensor]]:
    """The optimiser's state by the names of the parameters: their order changes with a cut."""
    state = runner.optimizer_scheduler.optimizer.state
    return {
        name: dict(state[parameter])
        for name, parameter in runner.jiant_model.named_parameters()
        if parameter in state
    }


def seed_generators(seed: int) -> None:
    """Give all global generators a new stream. Only torch's is drawn from today."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _generators(device: torch.device) -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    version, numbers, gauss = random.getstate()
    found = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, keys.tolist(), *rest],
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
