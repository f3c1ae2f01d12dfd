"""Private parts of torch lie in one file, and give what the public way gives."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from jiant_sparse.sparse import _torch_private
from jiant_sparse.sparse._torch_private import (
    checkpoint_recomputes,
    in_backward,
    transposed,
    without_hooks,
)

PACKAGE = Path(__file__).parent.parent / "jiant_sparse"
UNDOCUMENTED = {"native_channel_shuffle", "hooked"}


def defined(tree: ast.Module) -> set[str]:
    """Names with an underscore that a module defines: functions, fields, attributes of self."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if getattr(node.value, "id", "") == "self":
                found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[-1])
    return found


def foreign(tree: ast.Module, ours: set[str]) -> set[str]:
    """Private attributes, and names in getattr, that the package does not define."""
    found = set()
    for node in ast.walk(tree):
        name = getattr(node, "attr", "") if isinstance(node, ast.Attribute) else ""
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr"):
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
        private = name.startswith("_") and not name.startswith("__") and name not in ours
        if (private and ast.unparse(node) != "os._exit") or name in UNDOCUMENTED:
            found.add(name)
    return found


def test_no_other_file_uses_private_torch():
    trees = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    ours = set().union(*map(defined, trees.values()))
    found = {path.name: names for path, tree in trees.items() if (names := foreign(tree, ours))}
    assert found.keys() == {"_torch_private.py"}, found
    sample = ast.parse("module._parameters; torch._C.x; getattr(node, '_saved_self'); self._own")
    assert foreign(sample, {"_own"}) == {"_parameters", "_C", "_saved_self"}


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_recomputation_is_told_apart_either_way(reentrant):
    seen = []

    class Watched(nn.Linear):
        def forward(self, inputs):
            seen.append((in_backward(), checkpoint_recomputes()))
            return super().forward(inputs)

    inner = nn.Sequential(Watched(3, 3), nn.Tanh(), Watched(3, 3))

    def outer(inputs):
        return checkpoint(inner, inputs, use_reentrant=reentrant).sin()

    inputs = torch.ones(2, 3, requires_grad=True)
    inner(checkpoint(outer, inner(inputs), use_reentrant=reentrant)).sum().backward()
    assert seen[:6] == [(False, False)] * 6
    assert len(seen) >= 8 and {*seen[6:]} == {(True, True)}


def test_without_the_task_id_the_public_way_is_taken(monkeypatch):
    monkeypatch.delattr(torch._C, "_current_graph_task_id")
    assert in_backward() is False


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 7), (1, 9), (0, 4)])
@pytest.mark.parametrize("layout", [lambda m: m, lambda m: m[:, ::2], torch.t])
def test_a_transposition_is_the_same_either_way(monkeypatch, shape, layout):
    matrix = layout(torch.arange(shape[0] * shape[1], dtype=torch.float32).view(shape))
    found = [transposed(matrix.to(d)) for d in (torch.float32, torch.float64, torch.bfloat16)]
    monkeypatch.delattr(torch, "native_channel_shuffle")
    for turned in (*found, transposed(matrix)):
        assert turned.is_contiguous()
        assert torch.equal(turned, matrix.t().to(turned.dtype))


def test_a_step_without_torchs_mark_is_taken_as_it_is():
    def step(optimizer):
        return 1

    assert without_hooks(step) is step
    step.hooked, step.__wrapped__ = True, test_a_step_without_torchs_mark_is_taken_as_it_is
    assert without_hooks(step) is step.__wrapped__


def test_what_torch_does_not_tell_is_taken_for_unreadable():
    node = torch.nn.functional.gelu(torch.ones(2, requires_grad=True)).grad_fn
    assert _torch_private.is_readable(node, "self")
    assert not _torch_private.is_readable(node, "something")
    assert _torch_private.version(torch.ones(1)) == 0
    assert _torch_private.version(object()) is None
