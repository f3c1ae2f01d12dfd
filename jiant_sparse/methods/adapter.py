"""Adapter: small new modules in every layer train, the encoder is frozen; Houlsby et al. 2019.

Inserted by AdapterHub's `adapters` library, the maintained successor of adapter-transformers, which
Fu et al. 2023 used. By default one bottleneck after each feed-forward block (`seq_bn`, Pfeiffer et
al. 2020), a sixteenth of the hidden size wide: 894,528 new weights for RoBERTa-base, 0.7177 %, the
paper's 0.72.

The paper counts an adapter as a sparse model because, initialised to zero, it leaves the
pretrained function as it is; so does the default here. The library's own default, which their
program took, draws all matrices from N(0, 0.02^2) (`init: bert`).
"""

from dataclasses import dataclass

import torch
from torch import nn

from jiant_sparse.errors import InputError, suggest
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import modules

# The names of adapters 1.3.0, whose import takes seconds; a test compares. Without prompt_tuning,
# which makes sequences longer than the mask and the spans that the task heads get, and loreft,
# which keeps a part of its projections where no parameter is: a delta would not bring it along.
CONFIGS = (
    "seq_bn", "double_seq_bn", "par_bn", "scaled_par_bn", "seq_bn_inv", "double_seq_bn_inv",
    "pfeiffer", "houlsby", "parallel", "scaled_parallel", "pfeiffer+inv", "houlsby+inv",
    "compacter", "compacter++", "prefix_tuning", "prefix_tuning_flat", "lora", "mtl_lora",
    "ia3", "vera", "dora", "dvora", "noreft", "direft", "mam", "unipelt",
)  # fmt: skip
INITS = ("mam_adapter", "bert", "houlsby")


@dataclass
class Adapter(Method):
    """AdapterHub modules.

    config: name of an AdapterHub configuration.
    reduction_factor: hidden size over bottleneck size, above 0; None = the configuration's (16).
    init: of a bottleneck: `mam_adapter` (its last layer is zero: step 0 is the pretrained model,
        but for the invertible part of the `_inv` configurations), `bert` (N(0, 0.02^2), the
        library's default) or `houlsby` (N(0, 0.01^2), truncated). None = `mam_adapter` for plain
        bottlenecks, the configuration's own for all else.

    `unipelt`'s gates average over padding: its scores depend on how examples fall into batches.
    """

    config: str = "seq_bn"
    reduction_factor: float | None = None
    init: str | None = None

    def __post_init__(self) -> None:
        if self.config not in CONFIGS:
            raise InputError(f"config is {self.config!r}; {suggest(self.config, CONFIGS)}")
        if self.init is not None and self.init not in INITS:
            raise InputError(f"init is {self.init!r}; it must be one of {', '.join(INITS)} or null")
        if self.reduction_factor is not None and not self.reduction_factor > 0:
            raise InputError(f"reduction_factor is {self.reduction_factor}; it must be above 0")

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Freeze the encoder and insert the adapter; raises InputError if it does not fit."""
        with torch.random.fork_rng():
            torch.manual_seed(rng("init").initial_seed())
            modules.add_adapter(model, self.config, self.reduction_factor, self.init)
