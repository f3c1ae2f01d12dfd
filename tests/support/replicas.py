"""Two processes that train the same model on other data: see test_attached.py."""

import multiprocessing
import sys
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import BertModel

from jiant_sparse.methods import base
from jiant_sparse.sparse.optimizer import AdamW
from jiant_sparse.sparse.step import optimizer_step
from support.models import bert, rng


class Classifier(nn.Module):
    """An encoder and a head; gives the loss."""

    def __init__(self, encoder: BertModel) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.encoder, self.head = encoder, nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        logits = self.head(self.encoder(input_ids=ids).pooler_output)
        return nn.functional.cross_entropy(logits, ids[:, 0] % 3)


def train(name: str, rank: int) -> dict[str, Tensor]:
    """The encoder after five steps on batches of this rank's own."""
    encoder = bert()
    method = base.find(name)(density=0.02)
    method.attach(encoder, None, rng)
    model = DistributedDataParallel(Classifier(encoder))
    optimizer = AdamW(model.parameters(), lr=1e-2)
    batches = torch.Generator().manual_seed(100 + rank)
    for step in range(1, 6):
        torch.manual_seed(step)
        model(torch.randint(4, 50, (4, 6), generator=batches)).backward()
        optimizer_step(model, method, optimizer, step)
    return {f"{name}.{key}": p.detach() for key, p in encoder.named_parameters()}


def run(folder: Path, rank: int) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    saved = {}
    for name in ("stochastic_tuning", "top_tuning", "random_per_step"):
        saved |= train(name, rank)
    torch.save(saved, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    # Forked, so that torch is imported once.
    fork = multiprocessing.get_context("fork")
    ends = [fork.Process(target=run, args=(Path(sys.argv[1]), rank)) for rank in range(2)]
    for end in ends:
        end.start()
    for end in ends:
        end.join()
    sys.exit(any(end.exitcode for end in ends))
