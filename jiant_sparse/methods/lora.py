"""LoRA: low-rank updates of linear layers train, the encoder is frozen; Hu et al. 2022.

y = W x + b + (alpha / r) B A x with Microsoft's `loralib`. B is zero at first, so that step 0 is
the pretrained model; A is kaiming-uniform. W is never merged with B A, neither in evaluation (as
loralib 0.1.2 would by default) nor on disk; `jiant-sparse delta apply --fold` does it on request.

Defaults are the official ones for RoBERTa: query and value, r = 8, alpha = 16, no dropout;
294,912 new weights in RoBERTa-base. The program of Fu et al. 2023 takes six layers of each block
and loralib's alpha = 1, draws B like A (`init_b: kaiming`), and freezes the random task head
(`train: {freeze_head: true}`); its rank is not published. Nothing with a usual rank gives the
0.91 % of Table 4; r = 7 on these six layers gives 0.93.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import modules, surgery

INIT_B = ("zeros", "kaiming")


@dataclass
class LoRA(Method):
    """B A beside chosen linear layers.

    modules: ends of module names; a linear layer is chosen if its dotted name ends in one of them.
    rank: r, at least 1, at most the smaller side of each chosen layer.
    alpha: the update is scaled by alpha / rank; above 0.
    dropout: on the input of A, in [0, 1).
    init_b: `zeros` or `kaiming` (uniform, as A).
    """

    modules: list[str] = field(default_factory=lambda: ["query", "value"])
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    init_b: str = "zeros"

    def __post_init__(self) -> None:
        if not self.modules:
            raise InputError("modules is empty; name at least one, such as query")
        if self.rank < 1:
            raise InputError(f"rank is {self.rank}; it must be at least 1")
        if not self.alpha > 0:
            raise InputError(f"alpha is {self.alpha}; it must be above 0")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if self.init_b not in INIT_B:
            raise InputError(f"init_b is {self.init_b!r}; it must be one of {', '.join(INIT_B)}")

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Freeze the encoder and put the updates beside the chosen layers.

        Raises InputError for modules that match nothing or no linear layer, for tied weights, and
        for too high a rank.
        """
        names = modules.matching(model, self.modules)
        modules.check_low_rank(model, names, self.rank)
        surgery.freeze(model)
        for name in names:
            layer = modules.add_low_rank(
                model, name, rank=self.rank, alpha=self.alpha, dropout=self.dropout
            )
            generator = rng(name)
            parts = (layer.lora_A, layer.lora_B) if self.init_b == "kaiming" else (layer.lora_A,)
            for part in parts:
                drawn = torch.empty(part.shape)  # on the CPU: the same on every device
                nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator)
                part.data.copy_(drawn)
