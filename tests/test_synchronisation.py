"""What makes the host wait for a GPU in a training step: reading the loss, and what is listed here.

Counted on the CPU, by the operations that would wait on a GPU: those that read a value of the
device. What is computed from the collated batch's mask alone stays on the host and does not count.
"""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from support.models import bert, quick_fields
from support.rows import uneven
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from jiant_sparse.host import packing
from jiant_sparse.host.runner import SparseRunner
from jiant_sparse.host.train import train

# Operations whose result, or its size, the host needs; and those that do by a mask.
WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "_unique2",
    "repeat_interleave",
}
BY_MASK = {"index", "index_put", "index_put_", "_index_put_impl_"}
READS = {"tolist", "cpu", "numpy", "__array__"}
LOSS = "_local_scalar_dense"
# Beside the loss, by method: the list of docs/benchmarks.md.
ROWS = {"repeat_interleave"}
TOP = {"cpu", "nonzero", "numpy"}  # by numpy on a CPU what is nonzero on a GPU
DRAWN = {"cpu", "nonzero"}
EXPECTED: dict[str, set[str]] = {
    "full_tuning": set(),
    "bitfit": set(),
    "lora": set(),
    "adapter": set(),
    "mixout": set(),
    "mag_pruning": set(),  # its choice in the tiny model has no entry of an embedding
    "random": ROWS,
    "sam": ROWS,
    "child_pruning": ROWS,
    "diff_pruning": ROWS,
    "random_per_step": set(),
    "top_tuning": TOP,
    "stochastic_tuning": DRAWN,
}


class Counting(TorchDispatchMode):
    """Counts operations of WAITS and BY_MASK. host: tensors that are on the host by design."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        given = [item for item in tree_iter((args, kwargs)) if isinstance(item, Tensor)]
        if all(map(on_host, given)):
            for made in tree_iter(result):
                if isinstance(made, Tensor):
                    made.on_host = True
        elif name in WAITS or (name in BY_MASK and any(map(is_mask, args[1]))):
            self.found[name] += 1
        return result


class Reading(TorchFunctionMode):
    """Counts the reads that are no operation of their own on the CPU."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in READS and not on_host(args[0]):
            self.found[name] += 1
        result = function(*args, **(kwargs or {}))
        if name == "cpu":
            result = result.view_as(result)  # an object of its own, as a copy would be
        if name == "cpu" or (function is torch.tensor and "device" not in (kwargs or {})):
            result.on_host = True
        return result


def on_host(tensor):
    return getattr(tensor, "on_host", False)


def is_mask(index):
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def waits(job, monkeypatch, step=7):
    """The operations of one step that wait, with their number."""
    found = Counter()
    run_train_step, backward = SparseRunner.run_train_step, SparseRunner.backward

    def counted(self, train_dataloader_dict, train_state):
        if self.step + 1 != step:
            return run_train_step(self, train_dataloader_dict, train_state)
        batch = train_dataloader_dict[self.task.name].pop()  # collated on the host
        ready = {self.task.name: SimpleNamespace(pop=lambda: batch)}
        with Counting(found), Reading(found):
            return run_train_step(self, ready, train_state)

    def marked(self, batch, *rest):
        # With other padding the batch is moved to the device as a whole.
        batch.input_mask.on_host = self.train_settings.padding == "packed"
        return backward(self, batch, *rest)

    monkeypatch.setattr(SparseRunner, "run_train_step", counted)
    monkeypatch.setattr(SparseRunner, "backward", marked)
    train(job)
    return found


def from_numpy(array, plain=torch.from_numpy):
    found = plain(array)
    found.on_host = True
    return found


@pytest.mark.parametrize("padding", ["packed", "trimmed"])
@pytest.mark.parametrize("method", EXPECTED)
def test_a_step_waits_for_its_loss_alone(
    method, padding, make_job, data_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch, "from_numpy", from_numpy)
    fields = {"padding": padding, "max_steps": 8, "eval_every": 8, "score_train": 0}
    data = str(uneven(data_dir, "cb", tmp_path / "uneven"))
    job = make_job("cb", method, quick_fields(method), fields, data_dir=data)
    found = waits(job, monkeypatch)
    assert found.keys() == EXPECTED[method] | {LOSS}
    if EXPECTED[method] <= ROWS:
        # transformers asks once whether a batch has padding; packed, it asks the host.
        assert found[LOSS] == {"packed": 1, "trimmed": 2}[padding]


def test_packing_asks_the_host_alone():
    """On the meta device, which has no values: whatever reads one raises."""
    model = bert().to("meta")
    packing.install(model)
    ids = torch.ones(3, 6, dtype=torch.int64, device="meta")
    real = torch.arange(6) < torch.tensor([6, 2, 3])[:, None]
    output = model(input_ids=ids, attention_mask=real.long()).last_hidden_state
    assert (output.shape[:2], output.device.type) == ((3, 6), "meta")
    output.sum().backward()
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        model(input_ids=ids, attention_mask=real.long().to("meta"))
