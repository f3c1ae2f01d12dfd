"""LoRA: low-rank updates of linear layers train, the encoder is frozen; Hu et al. 2022.

y = W x + b + (alpha / r) B A x with Microsoft's `loralib`. B starts at zero, so that step 0 is the
pretrained model; A is kaiming-uniform. W is never merged with B A, neither in evaluation (as
loralib 0.1.2 would by default) nor on disk; `jiant-sparse delta apply --fold` merges on request.

Defaults are the official ones for RoBERTa: query and value, r = 8, alpha = 16, no dropout;
294,912 new weights in RoBERTa-base. The program of Fu et al. 2023 takes six layers of each block
and loralib's alpha = 1, draws B like A (`init_b: kaiming`), and freezes the random task head
(`train: {freeze_head: true}`); its rank is not published. No usual rank gives the 0.91 % of Table
4; r = 7 on these six layers gives 0.93.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Interval, MinLen
from torch import nn

from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.methods.fields import Count
from jiant_sparse.sparse import modules, surgery

_SIX_LAYERS = ["query", "key", "value", "output.dense", "intermediate.dense"]


@dataclass
class LoRA(Method):
    """B A beside chosen linear layers.

    modules: ends of module names; a linear layer is chosen if its dotted name ends in one of them.
    rank: r, at most the smaller side of each chosen layer.
    alpha: the update is scaled by alpha / rank.
    dropout: on the input of A.
    init_b: `zeros` or `kaiming` (uniform, as A).
    """

    title = "LoRA"
    paper = "Hu et al. 2022, arXiv 2106.09685"
    category = "added modules"
    readings = {
        "modules": (["query", "value"], _SIX_LAYERS),
        "alpha": (lambda alpha, run: alpha == 2 * run["rank"], 1),  # official: 2, at any rank
        "dropout": (0, 0),
        "init_b": ("zeros", "kaiming"),
        # What is frozen as a whole does not decay in the program either.
        "train.decay_unselected": (False, False),
        "train.freeze_head": (False, True),
    }

    modules: Annotated[list[str], MinLen(1)] = field(default_factory=lambda: ["query", "value"])
    rank: Count = 8
    alpha: Annotated[float, Gt(0)] = 16.0
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    init_b: Literal["zeros", "kaiming"] = "zeros"

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Freeze the encoder and put the updates beside the chosen layers.

        Raises InputError if modules match nothing or no linear layer, if weights are tied, and if
        the rank is too high.
        """
        names = modules.matching(model, self.modules)
        modules.check_low_rank(model, names, self.rank)
        surgery.freeze(model)
        for name in names:
            layer = modules.add_low_rank(
                model, name, rank=self.rank, alpha=self.alpha, dropout=self.dropout
            )
            generator = rng(name)
            parts = ("lora_A", "lora_B") if self.init_b == "kaiming" else ("lora_A",)
            for part in map(layer.get_parameter, parts):
                drawn = torch.empty(part.shape)  # on the CPU: the same on every device
                nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator)
                part.data.copy_(drawn)
