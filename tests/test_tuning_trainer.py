"""The mix-in for transformers' Trainer: the steps of `sparse.step`, and resumes to the bit."""

from functools import partial
from typing import Any

import pytest
import torch
from support.models import quick_fields
from support.tuning import batch_of, make, same
from support.tuning import state as weights
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


@pytest.fixture(autouse=True)
def _no_precision_from_another_test(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # TrainingArguments(bf16=True) sets it


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
        "max_grad_norm": 0.01,  # less than any
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
    states = made._optimizer.state.items()
    found = {f"{names[p]} {key}": v for p, state in states for key, v in state.items()}
    return dict(sorted(found.items()))


def groups(made: SparseTrainer) -> list[dict]:
    return [{**group, "params": len(group["params"])} for group in made._optimizer.param_groups]


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
        assert same(weights(each.model.unload().bert), weights(make().bert))


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
        assert torch.equal(loaded(**batch_of()).logits, other.model.eval()(**batch_of()).logits)
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
        model, bound = made(), options.get("max_grad_norm", 0.01) or None
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


def test_labels_columns_and_the_kind_of_loss_are_the_base_models(tmp_path):
    bert, llama = (trainer(tmp_path, sparse(family=f), f) for f in ("bert", "llama"))
    assert bert.label_names == llama.label_names == ["labels"]
    assert not bert.can_return_loss and not bert.model_accepts_loss_kwargs
    assert llama.model_accepts_loss_kwargs
    bert.train()
    assert {*bert.seen[0][0]} == {"input_ids", "labels"}
    assert {*bert._signature_columns} > {"token_type_ids", "labels"}
    assert bert.state.log_history[0]["grad_norm"] > 0.01  # before clipping
    assert bert.predict(rows()).label_ids.shape == (12,)


def test_an_evaluation_has_no_penalty(tmp_path):
    made = trainer(tmp_path, sparse("diff_pruning"), eval_dataset=rows(times=2))
    loss = made.evaluate()["eval_loss"]
    assert loss == pytest.approx(made.model(**batch_of()).loss.item(), abs=1e-6)


def test_smoothed_labels_of_a_decoder_are_those_of_the_next_token(tmp_path):
    ours = trainer(tmp_path, sparse(family="llama"), "llama", label_smoothing_factor=0.1)
    plain = Trainer(make("llama"), ours.args)
    losses = [t.compute_loss(t.model.eval(), {**batch_of("llama")}) for t in (ours, plain)]
    assert losses[0] == losses[1]


def test_groups_with_a_schedule_of_their_own_follow_it(tmp_path):
    made = trainer(tmp_path, sparse("diff_pruning"), warmup_steps=3)
    made.create_optimizer_and_scheduler(6)
    factors = [[f(step) for step in range(4)] for f in made.lr_scheduler.lr_lambdas]
    assert [0, 1 / 3, 2 / 3, 1] in factors  # the head
    own = factors.index([1, 1 / 2, 2 / 3, 1])  # the differences, until the choice after step 2
    assert made.optimizer.param_groups[own]["lr"] == 1e-2


def test_the_best_model_is_loaded_at_the_end(tmp_path):
    """The best after the method's choice, of scores that only get worse."""
    model = sparse("child_pruning", method_kwargs={"burn_in": 2})
    wrong = [row | {"labels": (row["labels"] + 1) % 3} for row in rows(times=2)]
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps"}
    options |= {"load_best_model_at_end": True, "eval_dataset": wrong, "save_steps": 1}
    made = trainer(tmp_path, model, **options)
    made.train()
    scores = [e["eval_loss"] for e in made.state.log_history if "eval_loss" in e]
    assert len(scores) == 6 and scores == sorted(scores) and scores[0] < scores[1] < scores[2]
    assert made.state.best_model_checkpoint.endswith("checkpoint-2")
    assert made.evaluate()["eval_loss"] == scores[1]
    with refused(match="load_best_model_at_end is True; save_only_model must be False"):
        trainer(tmp_path, sparse(), save_only_model=True, **options)


def test_an_optimizer_of_the_user(tmp_path):
    def made(path, **more: Any) -> SparseTrainer:
        model = sparse("random")
        own = torch.optim.SGD(model.optimizer_groups(0.0), lr=0.1, momentum=0.9)
        return trainer(path, model, optimizers=(own, None), **more)

    whole = made(tmp_path / "a", save_strategy="steps", save_steps=3)
    whole.train()
    assert type(whole._optimizer) is torch.optim.SGD
    resumed = made(tmp_path / "b")
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert resumed.losses == whole.losses[3:]
    assert same(weights(resumed.model), weights(whole.model))


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    trainer(tmp_path, sparse(), save_strategy="steps", save_steps=3, max_steps=3).train()
    folder = tmp_path / "checkpoint-3"

    def resume(model: SparseModel) -> None:
        before = weights(model)
        try:
            trainer(tmp_path, model).train(resume_from_checkpoint=str(folder))
        finally:
            assert same(weights(model), before)

    with refused(match="trained with density=0.1, the model has 0.2; make the model with"):
        resume(sparse(density=0.2))
    other = get_sparse_model(make(seed=1), sparse().sparse_config)
    with refused(match="another base model: bert.embeddings.word_embeddings.weight is the first"):
        resume(other)
    state = folder / training_state.FILE
    state.write_bytes(state.read_bytes()[:100])
    with refused(match="training_state.safetensors: is damaged, or no training state: "):
        resume(sparse())
    state.unlink()
    with refused(match="there is no such file; resume from a checkpoint of a SparseTrainer that"):
        resume(sparse())


def test_what_does_not_fit_is_refused(tmp_path):
    for model in (make(), SparseModel(make())):
        with refused(match="the model is a (Bert|Sparse).* without a method; use get_sparse_model"):
            trainer(tmp_path, model)
    with refused(match="optim is 'sgd'; it must be adamw_torch or adamw_torch_fused, or give an"):
        trainer(tmp_path, sparse(), optim="sgd")
    with refused(match="use_reentrant is True; it must be False"):
        trainer(tmp_path, sparse(), gradient_checkpointing_kwargs={"use_reentrant": True})
    options = {"eval_strategy": "steps", "eval_dataset": rows()}
    options["lr_scheduler_type"] = "reduce_lr_on_plateau"
    with refused(match="diff_pruning needs a schedule of learning rates that is a LambdaLR, not"):
        trainer(tmp_path, sparse("diff_pruning"), **options).train()


def test_ways_to_spread_a_training_are_refused(tmp_path, monkeypatch):
    made = trainer(tmp_path, sparse("child_pruning"), optim="adamw_torch_fused")
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with refused(match="child_pruning changes what trains during training, which Distr"):
        made._check()
    made.is_fsdp_enabled = True
    with refused(match="FSDP, DeepSpeed and DataParallel split or copy the tensors"):
        made._check()
    monkeypatch.undo()
    made.create_optimizer()
    made.args.fp16 = True
    with refused(match="fp16 is True and the optimizer fused; it would see scaled gradients"):
        made.create_optimizer()
