"""Train through the Trainer in one or two processes: see test_tuning_ddp.py."""

import faulthandler
import json
import multiprocessing
import os
import socket
import sys
from pathlib import Path

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from transformers import Trainer, TrainerCallback, TrainingArguments

from jiant_sparse import SparseConfig, SparseTrainerMixin, get_sparse_model
from jiant_sparse.errors import InputError
from support.tuning import batch_of, make

METHODS = ("random", "stochastic_tuning")


class SparseTrainer(SparseTrainerMixin, Trainer):
    pass


class Counting(TrainerCallback):
    """Counts the numbers that DistributedDataParallel all-reduces."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def on_train_begin(self, args, state, control, **_):
        wrapped = self.trainer.model_wrapped
        self.buffers = sum(b.numel() for b in getattr(wrapped, "modules_buffers", []))
        if hasattr(wrapped, "register_comm_hook"):
            wrapped.register_comm_hook(None, self.hook)

    def hook(self, group, bucket):
        self.sent.append(bucket.buffer().numel())
        return allreduce_hook(group, bucket)


def train(folder: Path, name: str, world: int, seed: int = 0) -> dict:
    """Three steps of a global batch of four rows; without dropout, which every process draws."""
    config = SparseConfig(name, density=0.05, seed=seed)
    model = get_sparse_model(make(), config, [batch_of()] * 2)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    arguments = TrainingArguments(
        str(folder / f"{name}-{world}"),
        per_device_train_batch_size=4 // world,
        max_steps=3,
        learning_rate=1e-2,
        weight_decay=0.1,
        max_grad_norm=0.5,
        save_steps=3,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        ddp_backend="gloo" if world > 1 else None,
    )
    batch, counting = batch_of(), Counting()
    rows = [{key: value[n % 4] for key, value in batch.items()} for n in range(12)]
    made = SparseTrainer(model, arguments, train_dataset=rows, callbacks=[counting])
    counting.trainer = made
    made.train()
    return {
        "sent": sum(counting.sent) / 3,
        "buffers": counting.buffers,
        "trains": model.get_nb_trainable_parameters()[0],
    }


def run(folder: Path, rank: int, port: int) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(120, exit=True)  # a hang fails
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    found = {name: train(folder, name, world=2) for name in METHODS}
    try:
        train(folder, "random", world=2, seed=rank)
    except InputError as error:
        found["error"] = str(error)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        free = one.getsockname()[1]
    # Forked, so that torch is imported once.
    fork = multiprocessing.get_context("fork")
    ends = [fork.Process(target=run, args=(Path(sys.argv[1]), rank, free)) for rank in range(2)]
    for end in ends:
        end.start()
    for end in ends:
        end.join()
    sys.exit(any(end.exitcode for end in ends))
