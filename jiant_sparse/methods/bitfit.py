"""BitFit: all bias terms train, those of LayerNorms and the pooler too; Ben Zaken et al. 2022.

102,912 weights of RoBERTa-base with its pooler (0.0826 %). The program of Fu et al. 2023 zeroes the
other gradients but lets weight decay move the other weights; here they are frozen.
"""

from dataclasses import dataclass

from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import surgery


@dataclass
class BitFit(Method):
    """Every tensor called `bias`."""

    title = "BitFit"
    paper = "Ben Zaken et al. 2022, arXiv 2106.10199"
    category = "rule-based"
    readings = {}

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Freeze all but the biases. Raises InputError if the encoder has no bias."""
        biases = [name for name in surgery.eligible(model) if name.split(".")[-1] == "bias"]
        if not biases:
            raise InputError("bitfit: the encoder has no tensor called bias")
        surgery.freeze(model)
        for name in biases:
            surgery.train_tensor(model, name)
