"""DiffPruning against NumPy in float64: penalty, gates, projection and cut."""

import numpy as np
import pytest
import torch
from support.models import (
    Trainer,
    bert,
    bits,
    effective,
    rng,
    sigmoid,
    state,
    trained_masks,
)
from torch import Tensor, nn

from jiant_sparse.methods.diff_pruning import DiffPruning
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.gates import Gated
from jiant_sparse.sparse.parametrizations import Schedule, SparseWeight

COUNT = 7664  # weights of the tiny BERT


def edits(encoder: nn.Module, kind: type) -> dict:
    """The edits of one kind, by the tensors' first names."""
    return {
        path.replace("parametrizations.", "").removesuffix(".0"): module
        for path, module in encoder.named_modules()
        if isinstance(module, kind)
    }


def differing(encoder: nn.Module, before: dict[str, Tensor]) -> Tensor:
    """(m,) where the weights of this moment differ from the earlier ones in a bit."""
    weights = effective(encoder, before)
    return torch.cat([(bits(weights[n]) != bits(old)).flatten() for n, old in before.items()])


def gate(logit: Tensor | None, low: float, high: float) -> np.ndarray:
    """The deterministic gate; 1 where there is none."""
    logit = np.inf if logit is None else logit.detach().numpy()
    return np.clip(sigmoid(logit) * (high - low) + low, 0, 1)


def changes(encoder: nn.Module, low: float = -1.5, high: float = 1.5) -> dict[str, np.ndarray]:
    """g z w of every tensor."""
    return {
        name: gate(edit.group_logit, low, high)
        * gate(edit.logit, low, high)
        * edit.difference.detach().double().numpy()
        for name, edit in edits(encoder, Gated).items()
    }


def gated(steps: int = 0, **fields) -> tuple[DiffPruning, Trainer, dict]:
    """A model after some steps, its biases' zeros being negative ones before; and what it was."""
    encoder = bert()
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            parameter.data.fill_(-0.0)
    before, trainer = state(encoder), Trainer(encoder)
    method = DiffPruning(**fields)
    method.attach(encoder, trainer.probe, rng)
    trainer.train(method, steps)
    return method, trainer, before


def scramble(encoder: nn.Module) -> None:
    """Random differences and gates, some of them closed."""
    generator = torch.Generator().manual_seed(31)
    with torch.no_grad():
        for edit in edits(encoder, Gated).values():
            edit.difference.normal_(generator=generator)
            edit.logit.normal_(0.5, 2, generator=generator)
            if edit.group_logit is not None:
                edit.group_logit.uniform_(-0.2, 2, generator=generator)


def assert_largest(scores: dict[str, np.ndarray], masks: dict, density: float, scope: str) -> None:
    """The masks hold as many of the largest magnitudes as the density says."""
    for group in [list(scores)] if scope == "global" else [[name] for name in scores]:
        values = np.abs(np.concatenate([scores[name].ravel() for name in group]))
        chosen = np.concatenate([masks[name].numpy().ravel() for name in group])
        # A tensor whose own gate is closed has no positive score, and nothing of it is chosen.
        assert chosen.sum() == (int(len(values) * density) if values.any() else 0)
        if chosen.any():
            # Scores in float32 may order two that agree to their last digits otherwise.
            assert values[chosen].min() >= values[~chosen].max() * (1 - 1e-5)


@pytest.mark.parametrize(("structured", "stretch"), [(True, (-1.5, 1.5)), (False, (-0.3, 2.0))])
def test_the_penalty_is_the_weighted_expected_number_of_open_gates(structured, stretch):
    (low, high), l0 = stretch, 3e-3
    fields = {"stretch_low": low, "stretch_high": high, "l0_weight": l0}
    method, trainer, before = gated(structured=structured, **fields)
    scramble(trainer.encoder)
    open_gates = count = 0
    for edit in edits(trainer.encoder, Gated).values():
        for logit in [edit.logit] + ([edit.group_logit] if structured else []):
            open_gates += sigmoid(logit.detach().numpy() - np.log(-low / high)).sum()
            count += logit.numel()
    assert count == COUNT + (len(before) if structured else 0)
    assert method.penalty().item() == pytest.approx(l0 * open_gates, rel=1e-5)


def test_gates_and_differences_have_the_schedules_of_the_fields():
    def schedules(**fields) -> list[tuple]:
        _, trainer, _ = gated(burn_in=7, **fields)
        found = edits(trainer.encoder, Gated).values()
        assert all((e.logit == 5).all() and e.group_logit == 5 for e in found)
        leaves = ("logit", "group_logit", "difference")
        return [tuple(e.schedule(getattr(e, leaf)) for leaf in leaves) for e in found]

    gates, differences = Schedule(0.25), Schedule(steps=7)
    assert {*schedules(gate_learning_rate=0.25)} == {(gates, gates, differences)}
    plain = schedules(gate_learning_rate=None, gated_schedule="training")
    assert {*plain} == {(None, None, None)}


@pytest.mark.parametrize(
    ("scope", "score", "structured"),
    [
        ("global", "delta", True),
        ("global", "logit", False),
        ("per_tensor", "delta", False),
        ("per_tensor", "logit", True),
    ],
)
def test_the_cut_keeps_the_largest_and_puts_all_others_back(scope, score, structured):
    fields = {"scope": scope, "score": score, "structured": structured, "stretch_high": 2.0}
    method, trainer, before = gated(2, burn_in=3, density=0.05, **fields)
    encoder, head = trainer.encoder, list(trainer.head.parameters())
    scramble(encoder)
    scores = change = changes(encoder, high=2.0)
    if score == "logit":
        scores = {n: e.logit.detach().numpy() for n, e in edits(encoder, Gated).items()}
    evaluated = effective(encoder.eval(), before)
    method.after_step(3, trainer.optimizer)
    masks = trained_masks(encoder, list(before))
    assert_largest(scores, masks, 0.05, scope)
    for name, after in effective(encoder, before).items():
        mask, pretrained = masks[name], before[name]
        expected = (pretrained.double().numpy() + change[name])[mask]
        np.testing.assert_allclose(after[mask], expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(bits(after)[mask], bits(evaluated[name])[mask])
        assert torch.equal(bits(after)[~mask], bits(pretrained)[~mask]), name
    decays = {p: g["weight_decay"] for g in trainer.optimizer.param_groups for p in g["params"]}
    left = {e.values: 0.1 * e.is_matrix for e in edits(encoder, SparseWeight).values()}
    assert decays == left | {p: 0.1 * (p.dim() == 2) for p in head}
    assert set(trainer.optimizer.state) == set(head)
    assert method.penalty() == 0 and not edits(encoder, Gated)


@pytest.mark.parametrize("burn_in", [None, 100])
def test_a_projection_forgets_all_but_the_largest_differences(burn_in):
    fields = {"density": 0.1, "random_gates": True, "burn_in": burn_in}
    method, trainer, _ = gated(4, mask_interval=4, **fields)
    _, twin, _ = gated(4, mask_interval=99, **fields)
    masks, originals = {}, edits(twin.encoder, Gated)
    for name, edit in edits(trainer.encoder, Gated).items():
        old = originals[name]
        masks[name] = mask = edit.difference.detach() != 0
        assert torch.equal(edit.difference[mask], old.difference[mask])
        memory, theirs = trainer.optimizer.state[edit.difference], twin.optimizer.state
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(memory[key][mask], theirs[old.difference][key][mask]), name
            dropped = theirs[old.difference][key][~mask]
            assert torch.equal(memory[key][~mask], dropped * (key == "exp_avg_sq")), name
        assert memory["step"] == 4
        for gates, before in ((edit.logit, old.logit), (edit.group_logit, old.group_logit)):
            assert torch.equal(gates, before)
            assert torch.equal(trainer.optimizer.state[gates]["exp_avg"], theirs[before]["exp_avg"])
    assert_largest(changes(twin.encoder), masks, 0.1, "global")


@pytest.mark.parametrize(
    ("burn_in", "interval", "settled"), [(3, 2, "00011111"), (None, 3, "00010010")]
)
def test_scores_count_from_the_cut_on_or_right_after_each_projection(burn_in, interval, settled):
    method, trainer, before = gated(burn_in=burn_in, mask_interval=interval, density=0.1)
    for step in range(8):
        trainer.train(method, min(step, 1))
        assert method.scores_at(step) == (settled[step] == "1") or step == 0
        few = bool(differing(trainer.encoder.eval(), before).sum() <= 766)
        assert few == (settled[step] == "1" or step % interval == 0)
        is_cut = settled[step] == "1" and burn_in is not None
        assert bool(method.penalty() == 0) == is_cut
        assert bool(edits(trainer.encoder, Gated)) != is_cut


def test_gates_are_drawn_anew_at_each_step_and_never_in_evaluation():
    method, trainer, before = gated(3, random_gates=True)
    encoder, generator = trainer.encoder, torch.get_rng_state()
    evaluated, drawn = effective(encoder.eval(), before), effective(encoder.train(), before)
    assert differing(encoder, evaluated).any() and not differing(encoder, drawn).any()
    method.after_step(4, trainer.optimizer)
    assert differing(encoder, drawn).any()
    assert not differing(encoder.eval(), evaluated).any()
    assert torch.equal(torch.get_rng_state(), generator)
    surgery.fold(encoder)
    assert not differing(encoder, evaluated).any()


def test_random_gates_are_sigmoids_of_normal_draws_from_the_runs_stream():
    def logits(streams):
        encoder = bert()
        DiffPruning(random_gates=True).attach(encoder, None, streams)
        return torch.cat([e.logit.detach().flatten() for e in edits(encoder, Gated).values()])

    one, other = logits(rng), logits(lambda name: rng(f"other/{name}"))
    assert torch.equal(one, logits(rng)) and not torch.equal(one, other)
    assert one.min() > 0 and one.max() < 1
    normal = torch.special.logit(one.double())
    assert abs(normal.mean()) < 4 / COUNT**0.5 and abs(normal.std() - 1) < 3 / COUNT**0.5
