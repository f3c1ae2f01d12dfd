"""BitFit: all bias terms train, LayerNorm's and the pooler's among them; Ben Zaken et al. 2022.

102,912 weights of RoBERTa-base with its pooler (0.0826 %). The authors of Fu et al. 2023 zero the
other gradients but let weight decay move those weights; here they are frozen.
"""

from dataclasses import dataclass

from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import surgery


@dataclass
class BitFit(Method):
    """Every tensor that is called `bias`."""

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Freeze all but the biases. Raises InputError if the encoder has none."""
        biases = [name for name in surgery.eligible(model) if name.split(".")[-1] == "bias"]
        if not biases:
            raise InputError("bitfit: the encoder has no tensor called bias")
        surgery.freeze(model)
        for name in biases:
            surgery.train_tensor(model, name)
