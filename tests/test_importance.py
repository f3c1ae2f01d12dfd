"""|mu theta g| against the unfolded network: every connection, position by position."""

import copy

import numpy as np
import pytest
import torch
from support.models import bert, roberta
from support.unfolded import Unfolded, assert_same, taken
from torch import nn

from jiant_sparse.errors import InputError, NotFinite
from jiant_sparse.sparse import sampling, surgery
from jiant_sparse.sparse.importance import Importance

PAD = {bert: 0, roberta: 1}


def batch(make, rows: int, tokens: int, seed: int = 0) -> torch.Tensor:
    """Ids of which the last ones of each row but the first are padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 50, (rows, tokens), generator=generator)
    for row in range(1, rows):
        ids[row, tokens - row :] = PAD[make]
    return ids


class Pair:
    """An encoder with `Importance`, and its twin that is unfolded; both do the same."""

    def __init__(self, make, *, padding: bool = False, mean: str = "signed") -> None:
        self.pad, self.padding = PAD[make], padding
        self.plain = make().train()
        for weight in self.plain.parameters():
            # Biases are zero at first, and of no importance.
            weight.data += 0.02 * torch.randn(weight.shape)
        self.watched = copy.deepcopy(self.plain)
        self.unfolded = Unfolded(absolute=mean == "absolute")
        self.importance = Importance(self.watched, mean=mean, padding=padding)

    def forward(self, encoder, ids, *, pooled=True, autocast=False, types=None) -> torch.Tensor:
        torch.manual_seed(int(ids.sum()))
        options = {} if types is None else {"token_type_ids": types}
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = encoder(input_ids=ids, attention_mask=(ids != self.pad).long(), **options)
        features = output.pooler_output if pooled else output.last_hidden_state[:, 0]
        return (features.float() * torch.linspace(-1, 2, features.shape[1])).square().sum()

    def losses(self, ids, **options) -> list[torch.Tensor]:
        with self.unfolded.passing((ids != self.pad) | self.padding):
            plain = self.forward(self.plain, ids, **options)
        watched = self.forward(self.watched, ids, **options)
        assert torch.equal(plain, watched), "no forward pass is changed"
        return [plain, watched]

    def backward(self, ids, **options) -> None:
        for loss in self.losses(ids, **options):
            loss.backward()

    def check(self) -> dict[str, np.ndarray]:
        expected = self.unfolded.importance(self.plain)
        found = taken(self.importance, self.watched)
        assert_same(found, expected)
        return found


def check_pass(importance, watched, plain, inputs, counted, *, autocast=False):
    """One pass of small models. Returns the importances by tensor name."""
    unfolded = Unfolded()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        with unfolded.passing(counted):
            features = plain(*inputs)
        both = features, watched(*inputs)
    for output in both:
        (output.float() * torch.linspace(-1, 1, output.shape[-1])).square().sum().backward()
    expected = unfolded.importance(plain)
    assert_same(taken(importance, watched), expected)
    return expected


@pytest.mark.parametrize("make", [bert, roberta])
@pytest.mark.parametrize(("padding", "mean"), [(False, "signed"), (True, "absolute")])
def test_every_connection_of_one_batch(make, padding, mean):
    pair = Pair(make, padding=padding, mean=mean)
    pair.backward(batch(make, 4, 9))
    found = pair.check()
    assert len(found) == len(dict(pair.watched.named_parameters()))
    assert all(values.any() for values in found.values())


@pytest.mark.parametrize(("make", "padding"), [(bert, False), (roberta, True)])
def test_micro_batches_count_by_their_positions(make, padding):
    pair = Pair(make, padding=padding)
    pair.backward(batch(make, 5, 9))
    pair.backward(batch(make, 2, 12, seed=1))
    pair.check()


def test_segments_have_frequencies_of_their_own():
    pair = Pair(bert)
    ids = batch(bert, 3, 8)
    types = (torch.arange(8) > torch.tensor([[2], [4], [5]])).long()
    pair.backward(ids, types=types)
    name = "embeddings.token_type_embeddings.weight"
    found = pair.check()[name]
    assert found[0].any() and found[1].any()


def test_what_was_padding_in_one_step_is_not_in_the_next():
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.dense = nn.Embedding(9, 6, padding_idx=0), nn.Linear(6, 4)

        def forward(self, given):
            return self.dense(given if given.is_floating_point() else self.words(given))

    torch.manual_seed(0)
    plain = Either()
    watched = copy.deepcopy(plain)
    importance = Importance(watched, mean="signed", padding=False)
    ids = torch.tensor([[3, 4, 5], [6, 0, 0]])
    for given, counted in ((ids, ids != 0), (torch.randn(2, 3, 6), torch.ones(2, 3).bool())):
        plain.zero_grad(), watched.zero_grad()
        check_pass(importance, watched, plain, [given], counted)


def test_evaluations_do_not_count():
    pair = Pair(bert)
    for ids in (batch(bert, 4, 9), batch(bert, 4, 9, seed=1)):
        pair.backward(ids)
        pair.watched.eval()
        with torch.no_grad():
            pair.watched(input_ids=batch(bert, 3, 9, seed=2))
        pair.watched.train()
    pair.check()


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_two_passes_before_one_backward_and_layers_that_run_again_in_it(reentrant):
    """COPA scores two choices one after the other, of the same shape but not the same padding."""
    pair = Pair(bert)
    if reentrant is not None:
        pair.watched.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        pair.watched.enable_input_require_grads()
    runs = []
    layer = pair.watched.encoder.layer[0].output.dense
    layer.register_forward_hook(lambda *_: runs.append(None))
    # They run again when the padding is that of the other pass.
    pairs = [pair.losses(ids) for ids in (batch(bert, 3, 7), batch(bert, 3, 7, seed=1).flip(0))]
    for first, second in zip(*pairs, strict=True):
        (first + 2 * second).backward()
    assert len(runs) == (2 if reentrant is None else 4)
    pair.check()


def test_half_precision_is_averaged_in_full():
    pair = Pair(bert)
    pair.backward(batch(bert, 4, 9), autocast=True)
    pair.check()


def test_features_in_half_precision_are_normalised_in_full():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 30), nn.LayerNorm(30))
    watched = copy.deepcopy(plain)
    importance = Importance(watched, mean="signed", padding=False)
    inputs, counted = torch.randn(3, 5, 6), torch.ones(3, 5, dtype=torch.bool)
    check_pass(importance, watched, plain, [inputs], counted, autocast=True)


def test_a_tensor_that_the_loss_does_not_reach_is_left_out():
    pair = Pair(roberta)
    pair.backward(batch(roberta, 4, 9), pooled=False)
    assert not any(name.startswith("pooler") for name in pair.check())


def test_a_second_module_with_the_same_weight_counts_too():
    """The same linear layer twice, once more under another name, and a layer that is not used."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(9, 6, padding_idx=0)
            self.types = nn.Embedding(9, 6)
            self.types.weight = self.words.weight
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
            self.second.weight = self.first.weight
            self.norm = nn.LayerNorm((2, 3))
            self.plain = nn.LayerNorm(6, elementwise_affine=False)
            self.unused = nn.Linear(6, 2)

        def forward(self, ids, types):
            x = self.first(self.words(ids) + self.types(types))
            x = self.plain(self.second(torch.relu(self.first(input=x))))
            return self.norm(x.view(*x.shape[:-1], 2, 3)).flatten(-2)

    torch.manual_seed(0)
    plain = Shared()
    watched = copy.deepcopy(plain)
    importance = Importance(watched, mean="signed", padding=False)
    ids = torch.tensor([[3, 4, 5, 8], [6, 3, 0, 0], [1, 2, 2, 0]])
    types = torch.tensor([[1, 1, 2, 2], [1, 7, 7, 7], [1, 1, 1, 1]])
    expected = check_pass(importance, watched, plain, [ids, types], ids != 0)
    assert "unused.weight" not in expected and len(expected) == 5


def test_only_rows_of_the_batch_are_kept_of_embeddings():
    pair = Pair(roberta)
    ids = batch(roberta, 4, 9)
    pair.backward(ids)
    words = pair.importance.take()["embeddings.word_embeddings.weight"]
    present = sorted(set(ids.flatten().tolist()) - {1})
    assert words.numbers.tolist() == present
    assert words.numel() == 16 * len(present)
    flat = torch.tensor([0, 15, 16, 16 * len(present) - 1])
    expected = [16 * present[0], 16 * present[0] + 15, 16 * present[1], 16 * present[-1] + 15]
    assert words.positions(flat).tolist() == expected


@pytest.mark.parametrize("rows", [1, 3])
def test_positions_that_are_given_do_not_say_what_is_padding(rows):
    """RoBERTa's position embedding has a padding_idx too."""
    encoder = roberta()
    importance = Importance(encoder, mean="signed", padding=False)
    ids = torch.tensor([[5, 6, 7, 1], [5, 6, 1, 1], [9, 8, 7, 6]])
    positions = torch.arange(4).expand(rows, 4)
    encoder.train()(input_ids=ids, position_ids=positions).last_hidden_state.sum().backward()
    mu = importance._mu("p", encoder.embeddings.position_embeddings.weight)
    assert mu[:5].tolist() == pytest.approx([3 / 9, 3 / 9, 2 / 9, 1 / 9, 0])


def test_a_folded_encoder_and_a_second_collector_leave_nothing_behind():
    def hooks(module):
        return sum(len(m._forward_hooks) for m in module.modules())

    encoder = bert()
    encoder.pooler.register_forward_hook(print)
    one = Importance(encoder, mean="signed", padding=False)
    many = hooks(encoder)
    assert many > 10
    twin = copy.deepcopy(encoder)
    Importance(encoder, mean="signed", padding=False)
    assert hooks(encoder) == many
    for module in (encoder, twin):
        surgery.fold(module)
        assert [*module.pooler._forward_hooks.values()] == [print]
        assert hooks(module) == 1
    encoder.pooler._forward_hooks.clear()
    encoder.train()(torch.tensor([[3, 4]])).last_hidden_state.sum().backward()
    assert not one._totals


# --- errors


def sharing(first: nn.Module, leaf: str, second: nn.Module, other: str) -> nn.Module:
    setattr(second, other, getattr(first, leaf))
    return nn.Sequential(first, second)


KINDS = "it must be of Linear, LayerNorm, Embedding$"
UNKNOWN = "^{}: which values a weight of {} carries is not known; "


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (nn.Sequential(nn.Conv1d(2, 2, 1)), UNKNOWN.format("0.weight", "Conv1d") + KINDS),
        (nn.ParameterList([torch.zeros(2)]), UNKNOWN.format("0", "ParameterList")),
        (nn.MultiheadAttention(4, 2), UNKNOWN.format("in_proj_weight", "MultiheadAttention")),
        (nn.EmbeddingBag(4, 2), UNKNOWN.format("weight", "EmbeddingBag")),
        (
            sharing(nn.Embedding(5, 3), "weight", nn.Linear(3, 5), "weight"),
            "^1.weight: modules of two kinds share this weight$",
        ),
        (
            sharing(nn.LayerNorm(3), "weight", nn.Linear(3, 3), "bias"),
            "^1.bias: modules of two kinds share this weight$",
        ),
        (
            nn.Sequential(nn.Embedding(5, 3, max_norm=2.0)),
            "^0.weight: the embedding has max_norm 2.0, which rewrites .*; it must be None$",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_weights_of_unknown_meaning_are_refused(encoder, message):
    with pytest.raises(InputError, match=message):
        Importance(encoder, mean="signed", padding=False)
    shared_biases = sharing(nn.LayerNorm(3), "bias", nn.Linear(3, 3), "bias")
    Importance(shared_biases, mean="signed", padding=False)


def test_a_layer_that_did_not_run_in_training_mode_is_named():
    pair = Pair(bert)
    pair.watched.pooler.eval()
    pair.forward(pair.watched, batch(bert, 2, 5)).backward()
    message = "^pooler.dense.weight: has a gradient, but its module did not run in training mode$"
    with pytest.raises(InputError, match=message):
        pair.importance.take()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("embeddings.word_embeddings.weight", float("nan")),
        ("encoder.layer.1.output.dense.weight", float("inf")),
        ("encoder.layer.0.output.LayerNorm.weight", float("nan")),
        ("pooler.dense.bias", float("inf")),
    ],
)
def test_a_gradient_that_is_not_finite_is_named(name, value):
    pair = Pair(bert)
    pair.backward(batch(bert, 2, 5))
    gradient = pair.watched.get_parameter(name).grad
    gradient.view(-1)[:] = value
    with pytest.raises(NotFinite, match=f"{name} is (nan|inf)"):
        sampling.sample(pair.importance.take(), 2, torch.Generator(), power=2)
