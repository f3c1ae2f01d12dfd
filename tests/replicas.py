"""One of two processes that train the same model on other data: test_attached.py."""

import os
import sys
from pathlib import Path

import torch
from support import bert, rng
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from jiant_sparse.methods import base
from jiant_sparse.sparse.optimizer import AdamW

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
os.environ |= {"MASTER_ADDR": "127.0.0.1"}
store = distributed.FileStore(str(folder / "store"), 2)
distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
saved = {}
for name in ("stochastic_tuning", "top_tuning", "random_per_step"):
    encoder = bert()
    method = base.find(name)(density=0.02)
    method.attach(encoder, None, rng)
    torch.manual_seed(3)
    model = DistributedDataParallel(nn.ModuleDict({"encoder": encoder, "head": nn.Linear(16, 3)}))
    optimizer = AdamW(model.parameters(), lr=1e-2)
    batches = torch.Generator().manual_seed(100 + rank)
    for step in range(1, 6):
        torch.manual_seed(step)
        ids = torch.randint(4, 50, (4, 6), generator=batches)

        def forward(ids=ids):
            features = encoder(input_ids=ids).pooler_output
            return nn.functional.cross_entropy(model.module["head"](features), ids[:, 0] % 3)

        model.module.forward = forward
        model().backward()
        method.before_step(step)
        optimizer.step()
        optimizer.zero_grad()
    saved |= {f"{name}.{key}": p.detach() for key, p in encoder.named_parameters()}
    moved = sum((p != q).sum() for p, q in zip(encoder.parameters(), bert().parameters()))
    assert 0 < moved <= 5 * method.k
torch.save(saved, folder / f"{rank}.pt")
distributed.destroy_process_group()
