"""The mix-in for transformers' Trainer: the steps of `sparse.step`, and resumes to the bit."""

from functools import partial
from typing import Any

import pytest
import torch
from support.models import quick_fields
from support.tuning import batch_of, make, same
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from jiant_sparse import SparseConfig, SparseModel, SparseTrainerMixin, get_sparse_model
from jiant_sparse.errors import InputError
from jiant_sparse.methods import base, fields
from jiant_sparse.sparse import delta
from jiant_sparse.sparse.optimizer import AdamW
from jiant_sparse.sparse.step import optimizer_step
from jiant_sparse.tuning import training_state

refused = partial(pytest.raises, InputError)
MATRICES = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"]}


class SparseTrainer(SparseTrainerMixin, Trainer):
    """Keeps what every micro-batch was computed from, and its exact loss."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: list[tuple] = []
        self.losses: list[float] = []

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        self.seen.append((dict(inputs), num_items_in_batch, torch.get_rng_state()))
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.losses.append(loss.item())
        return loss


def rows(family: str = "bert", times: int = 6) -> list[dict]:
    """Rows of two batches of 2, some of them with columns that the model does not take."""
    batch = batch_of(family)
    one = [{key: value[n] for key, value in batch.items()} for n in range(4)]
    return [row | {"number": torch.tensor(n)} for n, row in enumerate(one * (times // 2))]


def settings(name: str) -> dict:
    given = {key: min(value, 2) for key, value in quick_fields(name).items()}
    has_density = "density" in fields.of(base.find(name))
    return {"method_kwargs": given} | ({"density": 0.1} if has_density else {})


def sparse(name: str = "random", family: str = "bert", **more: Any) -> SparseModel:
    config = SparseConfig(name, **(settings(name) | more))
    return get_sparse_model(make(family), config, [batch_of(family)] * 2)


def trainer(path, model: nn.Module, family: str = "bert", **more: Any) -> SparseTrainer:
    own = {key: more.pop(key) for key in ("eval_dataset", "optimizers") if key in more}
    args: dict[str, Any] = {
        "per_device_train_batch_size": 2,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "max_grad_norm": 0.5,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "optim": "adamw_torch",
    }
    arguments = TrainingArguments(str(path), **(args | more))
    return SparseTrainer(model, arguments, train_dataset=rows(family), **own)


def moments(made: SparseTrainer) -> dict[str, Tensor]:
    names = {p: n for n, p in made.model.named_parameters()}
    found = {
        f"{names[p]} {key}": value
        for p, state in made._optimizer.state.items()
        for key, value in state.items()
    }
    return dict(sorted(found.items()))


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def groups(made: SparseTrainer) -> list[dict]:
    return [
        {key: value for key, value in group.items() if key != "params"}
        for group in made._optimizer.param_groups
    ]


METHODS = [name for name in base.names() if name != "adapter"]
# Choices after the checkpoint, and a frozen weight that has moved before the choice.
LATER = [("child_pruning", {"burn_in": 5}), ("mag_pruning", {"burn_in": 2})]


@pytest.mark.parametrize(("name", "own"), [*((name, {}) for name in METHODS), *LATER])
def test_a_resumed_training_equals_an_uninterrupted_one(name, own, tmp_path):
    made = partial(sparse, name, method_kwargs=settings(name)["method_kwargs"] | own)
    whole = trainer(tmp_path, made(), save_strategy="steps", save_steps=3)
    whole.train()
    resumed = trainer(tmp_path / "b", made())
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed.losses == whole.losses[3:]
    assert same(weights(resumed.model), weights(whole.model))
    assert same(moments(resumed), moments(whole))
    assert groups(resumed) == groups(whole)
    for each in (resumed, whole):
        plain = each.model.unload()
        assert same(weights(plain.bert), weights(make().bert))


def test_saving_changes_nothing_and_saves_no_model(tmp_path):
    one = trainer(tmp_path / "a", sparse(density=0.01))
    one.train()
    other = trainer(tmp_path / "b", sparse(density=0.01), save_strategy="steps", save_steps=2)
    other.train()
    assert one.losses == other.losses and same(weights(one.model), weights(other.model))
    for step in (2, 4, 6):
        folder = tmp_path / "b" / f"checkpoint-{step}"
        assert sorted(path.name for path in folder.iterdir()) == [
            *("README.md", "delta.safetensors", "rng_state.pth", "sparse_config.json"),
            *("trainer_state.json", "training_state.safetensors"),
        ]
        # k entries and a head: their values, positions and two moments.
        k = other.model.get_nb_trainable_parameters()[0]
        state = training_state.read(folder / training_state.FILE)
        assert sum(tensor.numel() for tensor in state["weights"].values()) == k
    loaded = SparseModel.from_pretrained(make(), folder)
    with torch.no_grad():
        assert torch.equal(
            loaded(**batch_of()).logits, other.model.eval()(**batch_of()).logits
        )
    other.save_model(str(tmp_path / "c"))
    assert delta.load(tmp_path / "c" / "delta.safetensors").entries


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"max_grad_norm": 0.0},
        {"bf16": True},
        {"gradient_checkpointing": True},
        {"optim": "adamw_torch_fused"},
    ],
    ids=str,
)
def test_a_step_is_that_of_a_plain_loop(family, more, tmp_path):
    """With a penalty, a hook before and one after the step; to the bit."""
    for name, own in (("diff_pruning", {"gated_schedule": "training"}), ("top_tuning", {})):
        own = settings(name)["method_kwargs"] | own
        made = partial(sparse, name, family, target_modules=MATRICES[family], method_kwargs=own)
        options = {"max_steps": 3, "lr_scheduler_type": "constant", **more}
        trained = trainer(tmp_path, made(), family, **options)
        trained.train()
        model, bound = made(), options.get("max_grad_norm", 0.5) or None
        if "gradient_checkpointing" in more:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        fused = options.get("optim") == "adamw_torch_fused"
        optimizer = AdamW(model.optimizer_groups(0.1), lr=1e-2, fused=fused)
        parts = options.get("gradient_accumulation_steps", 1)
        losses = []
        for n, (batch, items, random) in enumerate(trained.seen):
            torch.set_rng_state(random)
            model.train()
            with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in more):
                if family == "llama":  # a sum over all micro-batches
                    loss = model(**batch, num_items_in_batch=items).loss
                    loss = loss + model.method.penalty() / parts
                else:
                    loss = (model(**batch).loss + model.method.penalty()) / parts
            loss.backward()
            losses.append(loss.item())
            if n % parts == parts - 1:
                step = n // parts + 1
                optimizer_step(model, model.method, optimizer, step, max_grad_norm=bound)
        assert losses == trained.losses and len(losses) == 3 * parts
        assert same(weights(model), weights(trained.model))
