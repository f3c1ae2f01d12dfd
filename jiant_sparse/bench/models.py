"""The model under measurement: an encoder of a real shape with random weights, and one batch.

Neither weights nor a tokenizer nor the network is needed. Time and memory of a step depend on the
shapes, and for methods that look at values on which entries they choose.
"""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import jiant_sparse.host
from jiant_sparse.errors import InputError
from jiant_sparse.host import device as devices
from jiant_sparse.host import encoder_config
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import selection

PRECISIONS = ("fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")
CLASSES = 2
_SHAPES = Path(jiant_sparse.host.__path__[0]) / "shapes"
_SUFFIX = "-config.json"

Notify = Callable[[str], None]


def silent(line: str) -> None:
    """Print no progress."""


@dataclass(frozen=True)
class Setting:
    """What all contenders share.

    model: see `shape`. batch_size: examples. sequence_length: tokens of each example, without
    padding. density: trained fraction, in (0, 1]. device: see `host.device.pick`. precision:
    `fp32`, or `bf16` for a forward pass under autocast.
    Raises InputError for a value that is not allowed, and for a device that is missing.
    """

    model: str = "roberta-base"
    batch_size: int = 8
    sequence_length: int = 64
    density: float = 0.005
    device: str = "cpu"
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name in ("batch_size", "sequence_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        selection.check_density(self.density)
        for name, allowed in (("precision", PRECISIONS), ("device", DEVICES)):
            if (got := getattr(self, name)) not in allowed:
                raise InputError(f"{name} is {got!r}; it must be one of {', '.join(allowed)}")
        longest = encoder_config.longest_sequence(configuration(self.model))
        if self.sequence_length > longest:
            raise InputError(
                f"sequence_length is {self.sequence_length}; {self.model} takes at most {longest}"
            )
        devices.pick(self.device)

    @property
    def place(self) -> torch.device:
        """The device as torch names it."""
        return devices.pick(self.device)

    def fields(self) -> dict[str, Any]:
        """The setting for a row of results, with the model's sizes as `shapes`."""
        config = configuration(self.model)
        shapes = {
            "layers": config.num_hidden_layers,
            "hidden": config.hidden_size,
            "intermediate": config.intermediate_size,
            "vocabulary": config.vocab_size,
        }
        return asdict(self) | {"device": self.place.type, "shapes": shapes}


def shipped() -> tuple[str, ...]:
    """Names of the shapes that come with the package."""
    return tuple(sorted(path.name.removesuffix(_SUFFIX) for path in _SHAPES.glob(f"*{_SUFFIX}")))


def shape(name: str) -> Path:
    """Where a configuration lies: a shipped one, a model directory, or a config file.

    Raises InputError for anything else. Weights are not looked for.
    """
    if name in shipped():
        return _SHAPES / f"{name}{_SUFFIX}"
    path = Path(name)
    if path.is_file() or (path / "config.json").is_file():
        return path
    raise InputError(
        f"model-config is {name!r}; it must be one of {', '.join(shipped())}, a directory with a "
        "config.json, or a config file"
    )


def configuration(name: str) -> Any:
    """The configuration that `shape` finds; InputError for one that `run` would refuse."""
    return encoder_config.load(shape(name))


class Classifier(nn.Module):
    """An encoder, a linear head on its pooler's output, and the one batch that it trains on.

    ids: (batch_size, sequence_length) int64 without the padding id. labels: (batch_size,) int64.
    """

    ids: Tensor
    labels: Tensor
    real: Tensor | None = None
    """(rows, tokens) int64, 0 for padding; None = there is none."""

    def __init__(self, encoder: Any, setting: Setting) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, CLASSES)
        self.setting = setting
        generator = torch.Generator().manual_seed(derive(0, "bench", "batch"))
        rows, tokens = setting.batch_size, setting.sequence_length
        ids = torch.randint(encoder.config.vocab_size - 1, (rows, tokens), generator=generator)
        ids += ids >= encoder.config.pad_token_id
        labels = torch.randint(CLASSES, (rows,), generator=generator)
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("labels", labels, persistent=False)

    def loss(self) -> Tensor:
        """Cross entropy on the batch; the forward pass in the setting's precision."""
        with self._autocast():
            # A call, not .forward: libraries that wrap the encoder hook into calls.
            logits = self.head(
                self.encoder(input_ids=self.ids, attention_mask=self.real).pooler_output
            )
        return nn.functional.cross_entropy(logits.float(), self.labels)

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.setting.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.ids.device.type, dtype=torch.bfloat16)


def build(setting: Setting) -> Classifier:
    """A model in train mode on the setting's device, with the same random weights at every call."""
    with torch.random.fork_rng([]):
        torch.manual_seed(derive(0, "bench", "weights"))
        encoder = transformers.AutoModel.from_config(configuration(setting.model))
        classifier = Classifier(encoder, setting)
    return classifier.to(setting.place).train()


def rng(name: str) -> torch.Generator:
    """The random stream `name` of a measurement."""
    return torch.Generator().manual_seed(derive(0, "bench", name))
