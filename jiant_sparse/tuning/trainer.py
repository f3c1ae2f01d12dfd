"""A mix-in with which transformers' `Trainer` trains a `SparseModel` as `sparse.step` does.

    class SparseTrainer(SparseTrainerMixin, Trainer): pass

The Trainer clips before its callbacks can see a gradient. So clipping is taken over: a hook on the
optimizer's step calls `before_step` with complete, unscaled gradients and then clips; another one
calls `after_step`. No hook is called for a step that a gradient scaler skips.
"""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from jiant_sparse.errors import InputError, shown
from jiant_sparse.methods.base import Method
from jiant_sparse.methods.choices import LateChoice
from jiant_sparse.sparse import delta
from jiant_sparse.sparse.optimizer import AdamW, clip_grad_norm_
from jiant_sparse.sparse.parametrizations import Schedule
from jiant_sparse.tuning import training_state
from jiant_sparse.tuning.model import SparseModel

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

_ADAMW = ("adamw_torch", "adamw_torch_fused")


class SparseTrainerMixin(_Trainer):
    """Stands before `transformers.Trainer`, or a class derived from it, among the base classes.

    The model is a `SparseModel` that trains. The optimizer is `sparse.optimizer.AdamW`, unless one
    is given. Checkpoints have the delta and `training_state.FILE`, never the whole model;
    `resume_from_checkpoint` goes on bit for bit on a CPU. The loss has the method's penalty in it.
    """

    model: SparseModel
    args: Any
    state: Any
    optimizer: Any
    label_smoother: Any
    processing_class: Any
    _state: training_state.State | None = None  # to resume from
    _hooked: Optimizer | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        from transformers.utils import can_return_loss, find_labels

        self._check()
        base: Any = self.model.get_base_model()
        kind, parameters = type(base), inspect.signature(base.forward).parameters.values()
        # The Trainer has looked at the wrapper, which takes anything.
        self.can_return_loss = can_return_loss(kind)
        self.label_names = self.args.label_names or find_labels(kind)
        takes_anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.model_accepts_loss_kwargs = getattr(base, "accepts_loss_kwargs", takes_anything)
        if self.label_smoother is not None and (
            kind.__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
        ):
            self.label_smoother = partial(self.label_smoother, shift_labels=True)
        if self.args.gradient_checkpointing:
            # Reentrant checkpoints lose the gradients of layers whose input needs none.
            self.args.gradient_checkpointing_kwargs = {
                **(self.args.gradient_checkpointing_kwargs or {}),
                "use_reentrant": False,
            }

    @property
    def _method(self) -> Method:
        assert self.model.method is not None
        return self.model.method

    @property
    def _optimizer(self) -> Optimizer:
        """The optimizer itself, which accelerate wraps."""
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def _check(self) -> None:
        """Raise InputError for what does not fit."""
        args, model = self.args, self.model
        if not isinstance(model, SparseModel) or model.method is None:
            kind = type(model).__name__
            raise InputError(f"the model is a {kind} without a method; use get_sparse_model")
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or args.n_gpu > 1:
            raise InputError(
                "FSDP, DeepSpeed and DataParallel split or copy the tensors that a method has "
                "edited; use DistributedDataParallel (torchrun), or one device"
            )
        late = isinstance(model.method, LateChoice) and model.method.burn_in is not None
        if args.world_size > 1 and late and not model.method.chosen:
            raise InputError(
                f"{model.method.name} changes what trains during training, which "
                "DistributedDataParallel does not follow; train in one process"
            )
        if (args.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise InputError("use_reentrant is True; it must be False: layers would not train")
        if args.load_best_model_at_end and args.save_only_model:
            raise InputError("load_best_model_at_end is True; save_only_model must be False then")
        if args.optim not in _ADAMW and not self.optimizer and not self.optimizer_cls_and_kwargs:
            raise InputError(
                f"optim is {shown(str(getattr(args.optim, 'value', args.optim)))}; it must be "
                f"{' or '.join(_ADAMW)}, or give an optimizer in optimizers=(optimizer, None)"
            )

    def create_accelerator_and_postprocess(self) -> None:
        """Let accelerate's clipping only make a place for the norm, which `_before` fills."""
        super().create_accelerator_and_postprocess()
        self._norm = torch.zeros(())
        self.accelerator.clip_grad_norm_ = lambda *_, **__: self._norm

    def _set_signature_columns_if_needed(self) -> None:
        wrapped, self.model = self.model, self.model.get_base_model()  # type: ignore[assignment]
        try:
            super()._set_signature_columns_if_needed()
        finally:
            self.model = wrapped

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
        **options: Any,
    ) -> Any:
        """The Trainer's loss, in training with the method's penalty."""
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch, **options)
        if not model.training:
            return found
        # Of a sum over all micro-batches each has its part; a mean is divided later.
        is_sum = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        is_sum = is_sum or self.compute_loss_func is not None
        parts = self.current_gradient_accumulation_steps if is_sum else 1
        penalty = self._method.penalty() / parts
        return (found[0] + penalty, found[1]) if return_outputs else found + penalty

    def create_optimizer(self) -> Optimizer:
        """Make our AdamW, unless an optimizer was given, and hook the method to its step."""
        args = self.args
        if self.optimizer is None and self.optimizer_cls_and_kwargs is None:
            self.optimizer = AdamW(
                self.model.optimizer_groups(args.weight_decay),
                lr=args.learning_rate,
                betas=(args.adam_beta1, args.adam_beta2),
                eps=args.adam_epsilon,
                # A gradient scaler leaves gradients scaled for a fused optimizer.
                fused=args.optim == "adamw_torch_fused" and not args.fp16,
            )
        else:
            super().create_optimizer()
        if args.fp16 and any(g.get("fused") for g in self._optimizer.param_groups):
            raise InputError("fp16 is True and the optimizer fused; it would see scaled gradients")
        if args.world_size > 1:
            self._agree()
        if self._state is not None:
            training_state.regroup(self._optimizer, self.model, self._state)
        if self._hooked is not self._optimizer:
            self._hooked = self._optimizer
            self._hooked.register_step_pre_hook(self._before)
            self._hooked.register_step_post_hook(self._after)
        return self.optimizer

    def _agree(self) -> None:
        """Raise InputError if another process trains other entries; DDP need not send positions."""
        positions = {n: b for n, b in self.model.named_buffers() if ".parametrizations." in n}
        vars(self.model)["_ddp_params_and_buffers_to_ignore"] = [*positions]
        own = delta.fingerprint(positions)
        found: list[Any] = [None] * self.args.world_size
        distributed.all_gather_object(found, own)
        if any(other != own for other in found):
            raise InputError(
                f"{self._method.name}: the processes have chosen other entries; give each process "
                "the same SparseConfig and the same calibration batches"
            )

    def _before(self, *_: Any) -> None:
        self._method.before_step(self.state.global_step + 1)
        if self.args.max_grad_norm:
            norm = clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
            self._norm.copy_(norm)

    def _after(self, *_: Any) -> None:
        self._method.after_step(self.state.global_step + 1, self._optimizer)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The Trainer's schedule; groups with one of their own follow that."""
        made = super().create_scheduler(num_training_steps, optimizer)
        for n, group in enumerate(self._optimizer.param_groups):
            if "schedule" not in group:
                continue
            if not isinstance(made, LambdaLR):
                raise InputError(
                    f"{self._method.name} needs a schedule of learning rates that is a LambdaLR, "
                    f"not a {type(made).__name__}"
                )
            own = partial(_factor, Schedule(*group["schedule"]), made.lr_lambdas[n])
            made.lr_lambdas[n], group["lr"] = own, made.base_lrs[n] * own(0)
        return made

    def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
        """Leave scores out that come before the method's choice."""
        competes = self._method.scores_at(self.state.global_step)
        return competes and super()._determine_best_metric(metrics, trial)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        directory: str = output_dir or self.args.output_dir
        self.model.save_pretrained(directory)
        tokenizer = self.processing_class or getattr(self.data_collator, "tokenizer", None)
        if tokenizer is not None:
            tokenizer.save_pretrained(directory)

    def _save_optimizer_and_scheduler(self, output_dir: Any) -> None:
        if self.args.should_save:
            path = Path(output_dir) / training_state.FILE
            training_state.save(path, self.model, self._optimizer, self.lr_scheduler)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._state = training_state.read(Path(resume_from_checkpoint) / training_state.FILE)
        training_state.restore(self.model, self._state)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        state, self._state = self._state, None
        if state is not None:
            training_state.load_optimizer(self._optimizer, self.lr_scheduler, self.model, state)

    def _load_best_model(self) -> None:
        state = training_state.read(Path(self.state.best_model_checkpoint) / training_state.FILE)
        training_state.restore(self.model, state)


def _factor(own: Schedule, training: Callable[[int], float], step: int) -> float:
    return own.factor(step, training(step))
