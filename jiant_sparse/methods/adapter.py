"""Adapter: small new modules in every layer train, the encoder is frozen; Houlsby et al. 2019.

Inserted by AdapterHub's `adapters` library, the maintained successor of adapter-transformers, which
Fu et al. 2023 used. By default one bottleneck follows each feed-forward block (`seq_bn`, Pfeiffer
et al. 2020), a sixteenth of the hidden size wide: 894,528 new weights for RoBERTa-base, 0.7177 %;
the paper prints 0.72.

The paper counts an adapter as a sparse model because, initialised to zero, it does not change the
pretrained function; nor does the default here. The library's own default, which their program took,
draws all matrices from N(0, 0.02^2) (`init: bert`).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import nn

from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.methods.readings import one_of
from jiant_sparse.sparse import modules

# The names of adapters 1.3.0, whose import takes seconds; a test compares them. Two are left out:
# prompt_tuning makes sequences longer than the mask and the spans that the task heads get; loreft
# keeps a part of its projections outside of parameters, so that a delta would lose it.
Config = Literal[
    "seq_bn", "double_seq_bn", "par_bn", "scaled_par_bn", "seq_bn_inv", "double_seq_bn_inv",
    "pfeiffer", "houlsby", "parallel", "scaled_parallel", "pfeiffer+inv", "houlsby+inv",
    "compacter", "compacter++", "prefix_tuning", "prefix_tuning_flat", "lora", "mtl_lora",
    "ia3", "vera", "dora", "dvora", "noreft", "direft", "mam", "unipelt",
]  # fmt: skip
# Prefixes are keys of each row, gates average over a row, ReFT edits a row's first and last tokens.
_BY_ROW = ("prefix_tuning", "prefix_tuning_flat", "mam", "unipelt", "noreft", "direft")
_BOTTLENECK = one_of("seq_bn", "pfeiffer")


@dataclass
class Adapter(Method):
    """AdapterHub modules.

    config: name of an AdapterHub configuration.
    reduction_factor: hidden size over bottleneck size; null = the configuration's (16).
    init: first values of a bottleneck: `mam_adapter` (its last layer is zero, so that step 0 is the
        pretrained model, except for the invertible part of the `_inv` configurations), `bert`
        (N(0, 0.02^2), the library's default) or `houlsby` (N(0, 0.01^2), truncated). null =
        `mam_adapter` for plain bottlenecks, otherwise the configuration's own.

    `unipelt`'s gates average over padding: its scores depend on how examples fall into batches.
    """

    title = "Adapter"
    paper = "Houlsby et al. 2019, arXiv 1902.00751"
    category = "added modules"
    readings = {
        "config": (_BOTTLENECK, _BOTTLENECK),
        "init": (one_of(None, "mam_adapter"), "bert"),
        # What is frozen as a whole does not decay in the program either.
        "train.decay_unselected": (False, False),
    }

    config: Config = "seq_bn"
    reduction_factor: Annotated[float, Gt(0)] | None = None
    init: Literal["mam_adapter", "bert", "houlsby"] | None = None

    @property
    def packs(self) -> bool:
        return self.config not in _BY_ROW

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Freeze the encoder and insert the adapter. Raises InputError if it does not fit."""
        with torch.random.fork_rng():
            torch.manual_seed(rng("init").initial_seed())
            modules.add_adapter(model, self.config, self.reduction_factor, self.init)
