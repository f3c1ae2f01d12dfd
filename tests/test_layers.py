"""Sparse gradients of layers, against a plain dense layer in float64, gathered at the entries."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse
import torch
from support.models import bert, effective, rng, roberta, state
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import layers, products, recomputation, surgery
from jiant_sparse.sparse.gates import Gated
from jiant_sparse.sparse.parametrizations import Mixed, Noise, SparseWeight

# A size that no other tensor of these tests has.
ROWS, COLUMNS = 37, 53
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.fixture(params=["tapped", "dense"])
def path(request, monkeypatch) -> str:
    """Both ways to the gradient."""
    if request.param == "dense":
        monkeypatch.setattr(layers, "FORWARDS", {})
    return request.param


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def integers(high: int, *shape: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, high, shape))


def draw(numel: int, density: float, seed: int = 0) -> Tensor:
    count = max(1, int(density * numel))
    chosen = np.random.default_rng(seed).choice(numel, count, replace=False)
    return torch.from_numpy(np.sort(chosen))


def choice(model: nn.Module, density: float = 0.2) -> dict[str, Tensor]:
    named = enumerate(model.named_parameters())
    return {name: draw(p.numel(), density, seed) for seed, (name, p) in named}


def selected(model: nn.Module, chosen: dict[str, Tensor]) -> nn.Module:
    surgery.select(model, chosen)
    return model


def entries(model: nn.Module, name: str) -> SparseWeight:
    module, _, leaf = name.rpartition(".")
    return model.get_submodule(module).parametrizations[leaf][0]


def gradients(model: nn.Module, chosen: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: entries(model, name).values.grad for name in chosen}


def dense_gradients(model: nn.Module, chosen: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: model.get_parameter(name).grad.flatten()[i] for name, i in chosen.items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol=1e-10, atol=1e-12):
    """By default to what sums of float64 lose by another order."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        message = lambda text, name=name: f"{name}: {text}"  # noqa: E731
        torch.testing.assert_close(found[name], tensor, rtol=rtol, atol=atol, msg=message)


def numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def assert_sum(found: Tensor, expected: np.ndarray, magnitude: np.ndarray, terms: int) -> None:
    """Equal to what a sum loses at most that is taken in float32 (float64) and rounded at its end.

    magnitude: the sum of the terms' magnitudes. terms: their number.
    """
    end, sums = (torch.finfo(d).eps for d in (found.dtype, products.sum_dtype(found)))
    allowed = end * np.abs(expected) + (terms + 2) * sums * magnitude
    assert found.shape == expected.shape
    assert (np.abs(numpy(found) - expected) <= allowed).all()


# --- gradients of one layer

POSITIONS = {
    "one": torch.tensor([20 * COLUMNS + 7]),
    "first and last": torch.tensor([0, ROWS * COLUMNS - 1]),
    "five": draw(ROWS * COLUMNS, 5 / ROWS / COLUMNS),
    "0.005": draw(ROWS * COLUMNS, 0.005),
    "0.1": draw(ROWS * COLUMNS, 0.1),
    "below the whole product": draw(ROWS * COLUMNS, products.DENSE_FROM - 0.01),
    "above the whole product": draw(ROWS * COLUMNS, products.DENSE_FROM + 0.01),
    "0.9": draw(ROWS * COLUMNS, 0.9),
    "all": torch.arange(ROWS * COLUMNS),
    "first row": torch.arange(COLUMNS),
    "last row": torch.arange((ROWS - 1) * COLUMNS, ROWS * COLUMNS),
    "a column": torch.arange(3, ROWS * COLUMNS, COLUMNS),
}
LAYOUTS: dict[str, Callable[[int, int], Tensor]] = {
    "contiguous": lambda width, seed: normal(4, 6, width, seed=seed),
    "transposed tokens": lambda width, seed: normal(6, 4, width, seed=seed).transpose(0, 1),
    "features first": lambda width, seed: normal(width, 6, 4, seed=seed).permute(2, 1, 0),
    "every other": lambda width, seed: normal(4, 6, 2 * width, seed=seed)[..., ::2],
    "expanded tokens": lambda width, seed: normal(1, 6, width, seed=seed).expand(4, 6, width),
    "expanded": lambda width, seed: normal(1, 1, 1, seed=seed).expand(4, 6, width),
}


def linear(dtype=torch.float32, *, rows: int = ROWS, columns: int = COLUMNS, bias: bool = True):
    layer = nn.Linear(columns, rows, bias=bias)
    for seed, parameter in enumerate(layer.parameters(), 1):
        parameter.data = normal(*parameter.shape, seed=seed)
    return layer.to(dtype)


def embedding(dtype=torch.float32, *, rows: int = ROWS, columns: int = COLUMNS, **options):
    layer = nn.Embedding(rows, columns, **options)
    layer.weight.data = normal(rows, columns, seed=1)
    return layer.to(dtype)


MAKE = {"linear": linear, "embedding": embedding}


def inputs_of(kind: str, tokens: int = 7) -> Tensor:
    linear_inputs = normal(tokens, COLUMNS, seed=3)
    return linear_inputs if kind == "linear" else integers(ROWS, tokens, seed=3)


def check_linear(layer: nn.Linear, inputs: Tensor, gradient: Tensor) -> None:
    """One pass and its gradients, of the entries, of what trains whole and of the input."""
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    inputs.requires_grad_()
    output = layer(input=inputs)
    assert torch.equal(output, functional.linear(inputs, weight, bias))
    output.backward(gradient)
    x, g = (numpy(t).reshape(-1, t.shape[-1]) for t in (inputs, gradient))
    expected = (g @ numpy(weight)).reshape(inputs.shape)
    magnitude = (np.abs(g) @ np.abs(numpy(weight))).reshape(inputs.shape)
    assert_sum(inputs.grad, expected, magnitude, g.shape[1])
    sums = {"weight": (g.T @ x, np.abs(g).T @ np.abs(x)), "bias": (g.sum(0), np.abs(g).sum(0))}
    for leaf, (expected, magnitude) in sums.items():
        if leaf in getattr(layer, "parametrizations", {}):
            found, index = entries(layer, leaf).values, entries(layer, leaf).index.numpy()
        elif getattr(layer, leaf) is not None and getattr(layer, leaf).requires_grad:
            found, index = getattr(layer, leaf), slice(None)
        else:
            continue
        expected, magnitude = (part.ravel()[index] for part in (expected, magnitude))
        assert found.grad.dtype == found.dtype == layer.weight.dtype
        assert_sum(found.grad.flatten(), expected, magnitude, len(x))


def check_embedding(layer: nn.Embedding, ids: Tensor, gradient: Tensor) -> None:
    weight, index = layer.weight.detach(), entries(layer, "weight").index.numpy()
    output = layer(input=ids)
    assert torch.equal(output, weight[ids.long()])
    output.backward(gradient)
    rows = ids.numpy().ravel()
    counted = rows != (-1 if layer.padding_idx is None else layer.padding_idx)
    expected, magnitude = np.zeros((2, *weight.shape))
    g = numpy(gradient).reshape(-1, weight.shape[1])[counted]
    np.add.at(expected, rows[counted], g)
    np.add.at(magnitude, rows[counted], np.abs(g))
    found = entries(layer, "weight").values
    assert found.grad.dtype == found.dtype == layer.weight.dtype
    assert_sum(found.grad, expected.ravel()[index], magnitude.ravel()[index], len(rows))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_a_matrix(path, positions, dtype):
    layer = linear(dtype)
    surgery.freeze(layer)
    surgery.train_entries(layer, "weight", POSITIONS[positions])
    gradient = normal(40, ROWS, seed=4, dtype=dtype)
    check_linear(layer, normal(40, COLUMNS, seed=3, dtype=dtype), gradient)
    table = embedding(dtype)
    surgery.train_entries(table, "weight", POSITIONS[positions])
    # 500 tokens: of some rows so many that a sum in half precision would stand still.
    ids = integers(10, 500, seed=5) ** 2 // 3 + 9
    ids[:3] = torch.tensor([0, ROWS - 1, 20])
    assert len(ids.unique()) < ROWS
    if path == "tapped":
        check_embedding(table, ids, normal(500, COLUMNS, seed=4, dtype=dtype) + 1)


TRAINS = ["weight", "bias", "both", "weight, bias whole", "bias, weight whole", "no bias"]


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0), (2, 2, 3)])
@pytest.mark.parametrize("trains", TRAINS)
def test_linear_inputs_of_any_shape(path, shape, trains):
    layer = linear(torch.float64, bias=trains != "no bias")
    surgery.freeze(layer)
    if not trains.startswith("bias"):
        surgery.train_entries(layer, "weight", POSITIONS["0.1"])
    if trains in ("bias", "both", "bias, weight whole"):
        surgery.train_entries(layer, "bias", torch.tensor([0, 5, 6, ROWS - 1]))
    if "whole" in trains:
        surgery.train_tensor(layer, "weight" if trains.startswith("bias") else "bias")
    layer.float()  # the dtype may change after the choice
    check_linear(layer, normal(*shape, COLUMNS, seed=3), normal(*shape, ROWS, seed=4))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (6,), (2, 2, 3)])
@pytest.mark.parametrize("padding_idx", [None, 0, 4, ROWS - 1])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_ids_of_any_shape_and_padding(path, shape, padding_idx, dtype):
    layer = embedding(padding_idx=padding_idx)
    surgery.train_entries(layer, "weight", POSITIONS["0.9"])
    ids = integers(ROWS, *shape, seed=5).to(dtype)
    ids.view(-1)[: ids.numel() // 3] = padding_idx or 0
    check_embedding(layer, ids, normal(*shape, COLUMNS, seed=4))


@pytest.mark.parametrize("of_gradient", LAYOUTS)
@pytest.mark.parametrize("of_input", LAYOUTS)
def test_any_layout(of_input, of_gradient):
    for positions in ("five", "0.1", "0.9"):
        layer = linear()
        surgery.freeze(layer)
        surgery.train_entries(layer, "weight", POSITIONS[positions])
        surgery.train_entries(layer, "bias", torch.tensor([3, 4]))
        check_linear(layer, LAYOUTS[of_input](COLUMNS, 3).detach(), LAYOUTS[of_gradient](ROWS, 4))
    table = embedding(padding_idx=2)
    surgery.train_entries(table, "weight", POSITIONS["0.1"])
    check_embedding(table, integers(ROWS, 6, 4, seed=5).t(), LAYOUTS[of_gradient](COLUMNS, 4))


@pytest.mark.parametrize("seed", range(40))
def test_any_size(seed):
    """Tables of fewer rows than tokens among them, and ids that repeat."""
    numbers = np.random.default_rng(seed)
    tokens, rows, columns = map(int, numbers.choice([1, 2, 3, 7, 16, 17, 31, 32, 33, 100], 3))
    density = products.DENSE_FROM * numbers.uniform(0, 1.2)
    index = draw(rows * columns, density, seed)
    layer = selected(linear(rows=rows, columns=columns), {"weight": index})
    check_linear(layer, normal(tokens, columns, seed=seed), normal(tokens, rows, seed=seed + 1))
    padding = [None, 0, rows - 1][seed % 3]
    table = embedding(rows=rows, columns=columns, padding_idx=padding)
    surgery.train_entries(table, "weight", index)
    check_embedding(table, integers(rows, tokens, seed=seed), normal(tokens, columns, seed=seed))


def test_an_embedding_scaled_by_frequency():
    options = {"padding_idx": 3, "scale_grad_by_freq": True}
    plain, layer = (embedding(torch.float64, **options) for _ in range(2))
    surgery.train_entries(layer, "weight", POSITIONS["0.1"])
    ids, gradient = integers(9, 5, 7, seed=5), normal(5, 7, COLUMNS, seed=4, dtype=torch.float64)
    outputs = [module(ids) for module in (plain, layer)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.backward(gradient)
    chosen = {"weight": POSITIONS["0.1"]}
    assert_same(gradients(layer, chosen), dense_gradients(plain, chosen))


@pytest.mark.parametrize("verb", [surgery.select, surgery.narrow])
def test_an_embedding_that_rewrites_its_weights_is_refused(verb):
    model = nn.Sequential(nn.Linear(2, 2), embedding(max_norm=6.0))
    chosen = {"0.weight": torch.tensor([1]), "1.weight": POSITIONS["0.1"]}
    message = "1.weight: the embedding has max_norm 6.0, which rewrites"
    with pytest.raises(InputError, match=message):
        verb(model, chosen)
    if verb is surgery.narrow:
        assert type(model[0]) is nn.Linear


@pytest.mark.parametrize("positions", POSITIONS)
def test_row_starts_and_columns_are_the_csr_format(positions):
    index = POSITIONS[positions]
    found = SparseWeight(torch.zeros(ROWS, COLUMNS), index)
    mask = np.zeros(ROWS * COLUMNS, dtype=bool)
    mask[index] = True
    expected = scipy.sparse.csr_matrix(mask.reshape(ROWS, COLUMNS))
    assert found.row_start.dtype == found.column.dtype == torch.int32
    assert np.array_equal(found.row_start.numpy(), expected.indptr)
    assert np.array_equal(found.column.numpy(), expected.indices)
    assert found.state_dict().keys() == {"index", "values"}
    for shape in ((7,), (3, 4, 5)):
        assert not hasattr(SparseWeight(torch.zeros(shape), torch.tensor([0, 6])), "row_start")


# --- memory


class Recorder(TorchDispatchMode):
    """The size of the largest new tensor (of a sparse one: what it stores), and all operations."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.known = {t.untyped_storage().data_ptr() for t in known}
        self.largest = 0
        self.operations: list[str] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.operations.append(operation.overloadpacket.__name__)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                stored = tensor if tensor.layout is torch.strided else tensor.values()
                if stored.untyped_storage().data_ptr() not in self.known:
                    self.largest = max(self.largest, stored.numel())
        return result


@pytest.mark.parametrize("positions", ["one", "0.005", "0.1", "below the whole product"])
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_as_large_as_the_weight_is_made(path, kind, positions, dtype):
    layer = MAKE[kind](dtype)
    surgery.freeze(layer)
    surgery.train_entries(layer, "weight", POSITIONS[positions])
    inputs = inputs_of(kind)
    inputs = inputs.to(dtype).requires_grad_() if kind == "linear" else inputs
    with Recorder(layer.parametrizations.weight.original) as recorder:
        output = layer(inputs)
        assert {"addmm", "embedding"} & {*recorder.operations}
        copies = {"clone", "copy_", "_to_copy"}
        assert path == "dense" or copies.isdisjoint(recorder.operations), "no copy of the output"
        output.sum().backward()
    largest = max(7 * COLUMNS, len(POSITIONS[positions]))
    assert (recorder.largest <= largest) == (path == "tapped")
    assert (recorder.largest >= ROWS * COLUMNS) == (path == "dense")


@pytest.mark.parametrize("trains", ["bias", "nothing"])
def test_an_input_that_no_gradient_needs_is_not_kept(trains):
    chosen = POSITIONS["0.1"] if trains == "nothing" else torch.tensor([2])
    leaf = "weight" if trains == "nothing" else "bias"
    layer = selected(linear(), {leaf: chosen})
    entries(layer, leaf).values.requires_grad_(trains == "bias")
    inputs = normal(7, COLUMNS, seed=3).requires_grad_() * 2
    reference = StorageWeakRef(inputs.untyped_storage())
    output = layer(inputs)
    del inputs
    assert reference.expired()
    output.sum().backward()
    assert trains == "nothing" or entries(layer, "bias").values.grad == 7


# --- 50 steps


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    parts = nn.Embedding(13, 8, padding_idx=1), nn.Linear(8, 12), nn.GELU(), nn.LayerNorm(12)
    model = nn.Sequential(*parts, nn.Linear(12, 5))
    for p in model.parameters():
        # Multiples of 1/1024: the same numbers in every dtype.
        p.data = (torch.randn(p.shape) * 1024).round_() / 1024
    return model.to(dtype)


def loss_of(model: nn.Module, step: int) -> Tensor:
    target = integers(5, 24, seed=step + 100)
    return functional.cross_entropy(model(integers(13, 4, 6, seed=step)).flatten(0, 1), target)


class MaskedAdamW:
    """Loshchilov & Hutter 2019 on the chosen entries of a dense model, and the norm clipped."""

    def __init__(self, model: nn.Module, chosen: dict[str, Tensor], decay: float) -> None:
        self.model, self.decay, self.count = model, decay, 0
        self.masks = {n: torch.zeros(p.shape, dtype=p.dtype) for n, p in model.named_parameters()}
        for name, index in chosen.items():
            self.masks[name].view(-1)[index] = 1
        self.first, self.second = ({n: 0 * m for n, m in self.masks.items()} for _ in range(2))

    @torch.no_grad()
    def step(self, rate: float, max_norm: float) -> None:
        self.count += 1
        named = dict(self.model.named_parameters())
        masked = {name: named[name].grad * mask for name, mask in self.masks.items()}
        norm = sum(g.square().sum() for g in masked.values()).sqrt()
        scale = min(1.0, float(max_norm / (norm + 1e-6)))
        for name, mask in self.masks.items():
            p, g = named[name], masked[name] * scale
            self.first[name] = 0.9 * self.first[name] + 0.1 * g
            self.second[name] = 0.999 * self.second[name] + 0.001 * g * g
            mean = self.first[name] / (1 - 0.9**self.count)
            root = (self.second[name] / (1 - 0.999**self.count)).sqrt()
            decay = self.decay if p.dim() >= 2 else 0.0
            p -= rate * mask * (mean / (root + 1e-8) + decay * p)
        self.model.zero_grad()


# Per dtype: what 50 steps may add up to, of values, first and second moments of order 1.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_fifty_steps_equal_masked_dense_training(path, dtype, tolerance):
    steps, rate, decay, max_norm = 50, 0.02, 0.1, 0.8
    sparse, dense = network(dtype), network()
    chosen, start = choice(dense, 0.3), state(sparse)
    surgery.select(sparse, chosen)
    optimizer = torch.optim.AdamW(surgery.parameter_groups(sparse, decay), lr=rate)
    factor = lambda step: min((step + 1) / 5, (steps - step) / (steps - 5))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    reference = MaskedAdamW(dense, chosen, decay)
    for step in range(steps):
        loss_of(sparse, step).backward()
        nn.utils.clip_grad_norm_(sparse.parameters(), max_norm)
        optimizer.step()
        schedule.step()
        sparse.zero_grad()
        loss_of(dense, step).backward()
        reference.step(rate * factor(step), max_norm)
    for name, index in chosen.items():
        values = entries(sparse, name).values
        kept = optimizer.state[values]
        for found, expected in (
            (values, dense.get_parameter(name)),
            (kept["exp_avg"], reference.first[name]),
            (kept["exp_avg_sq"], reference.second[name]),
        ):
            difference = numpy(found) - numpy(expected).ravel()[index]
            assert np.abs(difference).max() <= tolerance * max(np.abs(numpy(found)).max(), 1e-3)
    surgery.fold(sparse)
    for name, index in chosen.items():
        after, frozen = sparse.get_parameter(name), torch.ones(start[name].numel(), dtype=bool)
        frozen[index] = False
        assert torch.equal(after.flatten()[frozen], start[name].flatten()[frozen])
        assert not torch.equal(after.flatten()[index], start[name].flatten()[index])


# --- several uses


class Twice(nn.Module):
    """One linear layer used twice, the second time on a GELU, and one embedding likewise."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.norm = nn.Embedding(13, 9), nn.LayerNorm(9)
        self.layer = nn.Linear(9, 9)
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        hidden = functional.gelu(self.layer(self.norm(self.embedding(ids))))
        return self.layer(hidden) * self.embedding(ids + 1)


def _accumulated(model: nn.Module) -> None:
    for batch in range(3):
        (loss_of(model, batch) / 3).backward()


def _two_passes(model: nn.Module) -> None:
    (loss_of(model, 0) + 2 * loss_of(model, 1)).backward()


def _kept_graph(model: nn.Module) -> None:
    loss = loss_of(model, 0)
    loss.backward(retain_graph=True)
    loss.backward()


def _used_twice(model: nn.Module) -> None:
    model(integers(12, 4, 5, seed=0)).sin().sum().backward()


@pytest.mark.parametrize("run", [_accumulated, _two_passes, _kept_graph, _used_twice])
def test_several_uses_add_up(path, run):
    make = Twice if run is _used_twice else network
    dense = make()
    chosen = choice(dense)
    sparse = selected(make(), chosen)
    for model in (sparse, dense):
        run(model)
    assert_same(gradients(sparse, chosen), dense_gradients(dense, chosen))


# --- tied weights


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.norm = nn.Embedding(13, 8).double(), nn.LayerNorm(8).double()
        self.output = nn.Linear(8, 13).double()
        self.output.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.output(self.norm(self.embedding(ids)))


def tied_loss(model: nn.Module, step: int) -> Tensor:
    ids = integers(13, 4, 6, seed=step)
    return functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten().roll(1))


def assert_tied(model: Tied) -> None:
    assert (type(model.embedding), type(model.output)) == (nn.Embedding, nn.Linear)
    assert type(model.embedding.weight) is nn.Parameter
    assert model.embedding.weight is model.output.weight


@pytest.mark.parametrize("name", ["embedding.weight", "output.weight"])
def test_tied_weights_have_one_vector_of_values(path, name):
    sparse, dense, index = Tied(), Tied(), draw(13 * 8, 0.3)
    start = state(dense)["embedding.weight"]
    surgery.select(sparse, {name: index})
    (values,) = [p for p in sparse.parameters() if p.requires_grad]
    assert surgery.count(sparse, list(state(dense))) == (len(index), 0)
    optimizer = torch.optim.AdamW(surgery.parameter_groups(sparse, 0.1), lr=0.05)
    reference = MaskedAdamW(dense, {"embedding.weight": index}, 0.1)
    for step in range(4):
        tied_loss(sparse, step).backward()
        tied_loss(dense, step).backward()
        expected = dense.embedding.weight.grad.flatten()[index]
        torch.testing.assert_close(values.grad, expected, rtol=1e-8, atol=1e-10)
        optimizer.step()
        reference.step(0.05, 1e9)
        sparse.zero_grad()
    assert torch.equal(sparse.embedding.weight, sparse.output.weight)
    surgery.fold(sparse)
    assert_tied(sparse)
    torch.testing.assert_close(sparse.output.weight, dense.output.weight, rtol=1e-8, atol=1e-10)
    frozen = torch.ones(13 * 8, dtype=bool)
    frozen[index] = False
    assert torch.equal(sparse.output.weight.flatten()[frozen], start.flatten()[frozen])
    assert torch.equal(sparse.output.weight.flatten()[index], values)


def _mixed(weight: Tensor) -> Mixed:
    return Mixed(weight, "embedding.weight", Noise(rng), 0.4, "elements", None)


def _gated(weight: Tensor) -> Gated:
    logit = normal(*weight.shape, seed=8)
    gates = Gated(weight, "embedding.weight", Noise(rng), (-1.5, 1.5), logit, None)
    gates.difference.data = normal(*weight.shape, seed=9).to(weight)
    return gates


@pytest.mark.parametrize("make", [_mixed, _gated])
def test_tied_weights_have_one_parametrization(make):
    sparse, dense = Tied(), Tied()
    surgery.freeze(sparse)
    parametrization = make(sparse.embedding.weight)
    surgery.edit(sparse, "embedding.weight", parametrization)
    stored = sparse.output.parametrizations.weight.original
    assert stored is sparse.embedding.parametrizations.weight.original
    trained = stored if make is _mixed else parametrization.difference
    trained.data.add_(0.5)
    seen = effective(sparse, ["embedding.weight", "output.weight"])
    assert torch.equal(*seen.values())
    # What the forward pass sees is linear in what trains: W(p + 1) - W(p) is its slope.
    trained.data.add_(1.0)
    slope = sparse.embedding.weight.detach() - seen["embedding.weight"]
    trained.data.sub_(1.0)
    dense.embedding.weight.data = seen["output.weight"].clone()
    for model in (sparse, dense):
        tied_loss(model, 0).backward()
    expected = slope * dense.embedding.weight.grad
    torch.testing.assert_close(trained.grad, expected, rtol=1e-8, atol=1e-10)
    evaluated = sparse.eval().output.weight.detach().clone()
    surgery.fold(sparse)
    assert_tied(sparse)
    assert torch.equal(sparse.embedding.weight, evaluated)


@pytest.mark.parametrize("first", ["whole", "gated"])
def test_narrowing_a_tied_tensor(path, first):
    sparse, dense, index = Tied(), Tied(), draw(13 * 8, 0.3)
    surgery.freeze(sparse)
    surgery.train_tensor(sparse, "embedding.weight")
    start = state(dense)["embedding.weight"]
    if first == "gated":
        surgery.edit(sparse, "embedding.weight", _gated(sparse.embedding.weight))
    optimizer = torch.optim.SGD([p for p in sparse.parameters() if p.requires_grad], lr=0.1)
    if first == "whole":
        tied_loss(sparse, 0).backward()
        optimizer.step()
        start = state(sparse)["embedding.weight"]
    evaluated = sparse.eval().output.weight.detach().clone()
    expected = start.clone()
    expected.view(-1)[index] = evaluated.view(-1)[index]
    surgery.narrow(sparse.train(), {"embedding.weight": index}, optimizer, keep_moments=False)
    assert sparse.embedding.parametrizations.weight[0] is sparse.output.parametrizations.weight[0]
    assert torch.equal(sparse.embedding.weight, expected)
    assert torch.equal(sparse.output.weight, expected)
    (values,) = [p for p in sparse.parameters() if p.requires_grad]
    dense.embedding.weight.data = expected.clone()
    for model in (sparse, dense):
        tied_loss(model, 1).backward()
    gradient = dense.embedding.weight.grad.flatten()[index]
    torch.testing.assert_close(values.grad, gradient, rtol=1e-8, atol=1e-10)
    optimizer.step()
    surgery.fold(sparse)
    assert_tied(sparse)
    expected.view(-1)[index] -= 0.1 * gradient
    torch.testing.assert_close(sparse.output.weight.detach(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("make", [None, _mixed, _gated])
def test_decay_leaks_once_and_into_no_other_parametrization(make):
    model, index = Tied(), torch.tensor([3, 9])
    if make is None:
        surgery.select(model, {"embedding.weight": index})
    else:
        surgery.freeze(model)
        surgery.edit(model, "embedding.weight", make(model.embedding.weight))
    before = effective(model, ["embedding.weight", "output.weight"])
    surgery.decay_frozen(model, 0.5)
    for name, after in effective(model, before).items():
        expected = before[name] * (0.5 if make is None else 1.0)
        expected.view(-1)[index] = before[name].view(-1)[index]
        assert torch.equal(after, expected)


# --- checkpoints, hooks, compilers


@pytest.mark.parametrize("last", [nn.LayerNorm(8), nn.GELU(), nn.Tanh()])
@pytest.mark.parametrize("reentrant", [True, False])
# What GELU or LayerNorm keeps has been packed by the hooks of the checkpoint that it ran in.
def test_a_layer_within_and_after_a_checkpointed_block(path, last, reentrant):
    dense = nn.Sequential(nn.Linear(8, 8), copy.deepcopy(last), nn.Linear(8, 3)).double()
    sparse, chosen = copy.deepcopy(dense), choice(dense)
    surgery.select(sparse, chosen)
    inputs = normal(5, 8, seed=1, dtype=torch.float64).requires_grad_()
    hidden = checkpoint(sparse[:2], inputs, use_reentrant=reentrant)
    sparse[2](hidden).sin().sum().backward()
    found, inputs.grad = inputs.grad, None
    dense(inputs).sin().sum().backward()
    torch.testing.assert_close(found, inputs.grad)
    assert_same(gradients(sparse, chosen), dense_gradients(dense, chosen))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("make", [bert, roberta])
def test_a_whole_encoder_with_checkpointing(reentrant, make):
    found = []
    for checkpoints in (False, True):
        model = make()
        chosen = choice(model, 0.1)
        surgery.select(model, chosen)
        if checkpoints:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        torch.manual_seed(1)
        output = model.train()(input_ids=integers(40, 3, 7, seed=2) + 5)
        (output.pooler_output.sum() + output.last_hidden_state.sin().sum()).backward()
        found.append(gradients(model, chosen))
    assert_same(found[1], found[0], rtol=1e-5, atol=1e-6)
    # A bias of all keys alike moves no attention: its gradient is nothing but rounding.
    reached = {name: g for name, g in found[0].items() if not name.endswith("key.bias")}
    assert all(g.abs().sum() > 0 for g in reached.values())


def test_saved_tensors_hooks(path):
    dense, asked = network(), []
    chosen = choice(dense)
    loss_of(dense, 0).backward()
    once = saved_tensors_hooks(
        lambda t: [t.clone()], lambda packed: asked.append(1) or packed.pop()
    )
    for hooks in (save_on_cpu(), once):
        sparse = selected(network(), chosen)
        with hooks:
            loss = loss_of(sparse, 0)
        loss.backward()
        assert_same(gradients(sparse, chosen), dense_gradients(dense, chosen))
    assert asked


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_trains_alike(backend, recwarn):
    torch._dynamo.reset()
    try:
        torch.compile(nn.Linear(3, 4), backend=backend)(torch.ones(2, 3)).sum().backward()
    except Exception as error:
        pytest.skip(f"{backend} does not work here: {error}")
    chosen = choice(network())
    models = [selected(network(), chosen) for _ in range(2)]
    optimizers = [torch.optim.AdamW(surgery.parameter_groups(m, 0.1), lr=0.05) for m in models]
    compiled = torch.compile(models[1], backend=backend)
    for step in range(4):
        losses = [loss_of(model, step) for model in (models[0], compiled)]
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-10, atol=1e-12)
        for loss in losses:
            loss.backward()
        assert_same(gradients(models[1], chosen), gradients(models[0], chosen), rtol=1e-8)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for model in models:
        surgery.fold(model)
    assert_same(state(models[1]), state(models[0]), rtol=1e-8, atol=1e-8)
    assert not [w for w in recwarn if "does not know how to trace" in str(w.message)]


# --- autocast


class Watched:
    """A linear layer's inputs and the gradients of its outputs."""

    def __init__(self, layer: nn.Module) -> None:
        layer.register_forward_hook(self._note)

    def _note(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.inputs, self.output = inputs[0].detach().clone(), output.detach()
        output.register_hook(lambda gradient: setattr(self, "gradient", gradient.clone()))


@pytest.mark.parametrize("before", [nn.Identity(), nn.GELU(), nn.LayerNorm(COLUMNS)])
@pytest.mark.parametrize("positions", ["five", "0.1", "0.9"])
def test_autocast_to_bfloat16(path, before, positions):
    layer, index = linear(), POSITIONS[positions]
    surgery.select(layer, {"weight": index, "bias": torch.tensor([1, 7])})
    watched = Watched(layer)
    inputs = normal(4, 20, COLUMNS, seed=3).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = layer(before(inputs)).sin().sum()
    loss.backward()
    assert watched.output.dtype == watched.gradient.dtype == torch.bfloat16
    g = numpy(watched.gradient).reshape(-1, ROWS)
    # The product has been taken of the input rounded to bfloat16, and so is the gradient's.
    x = numpy(watched.inputs.bfloat16()).reshape(-1, COLUMNS)
    bias, weight = (entries(layer, leaf).values.grad for leaf in ("bias", "weight"))
    assert bias.dtype == weight.dtype == torch.float32
    expected, magnitude = ((f(g).T @ f(x)).ravel()[index] for f in (np.copy, np.abs))
    allowed = 82 * 2.0**-23 * magnitude  # 80 terms, summed up in float32 in any order
    if before._parameters:
        # A normalised input differs in its last bit if it is computed again, and may be rounded
        # to the other of two bfloat16 neighbours, rarely: at most once in 80 terms.
        allowed = allowed + 2.0**-7 * np.abs(g).max() * np.abs(x).max()
    if path == "dense" or len(expected) >= products.DENSE_FROM * ROWS * COLUMNS:
        allowed = allowed + 2.0**-8 * np.abs(expected)  # rounded to bfloat16 at the end
    assert (np.abs(numpy(weight) - expected) <= allowed).all()
    of_bias = g.sum(0)[[1, 7]]
    slack = 0.0 if path == "tapped" else 2.0**-8
    allowed = 82 * 2.0**-23 * np.abs(g).sum(0)[[1, 7]] + slack * np.abs(of_bias)
    assert (np.abs(numpy(bias) - of_bias) <= allowed).all()


@pytest.mark.parametrize("positions", ["0.1", "0.9"])
def test_a_backward_pass_within_autocast_works_in_the_dtype_of_the_gradient(positions):
    layer = selected(linear(), {"weight": POSITIONS[positions]})
    inputs, gradient = normal(40, COLUMNS, seed=3), normal(40, ROWS, seed=4)
    output = layer(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        output.backward(gradient)
    x, g = numpy(inputs), numpy(gradient)
    expected, magnitude = ((f(g).T @ f(x)).ravel()[POSITIONS[positions]] for f in (np.copy, np.abs))
    assert_sum(entries(layer, "weight").values.grad, expected, magnitude, 40)


# --- recomputed inputs


def _norm_with_entries() -> nn.LayerNorm:
    norm = nn.LayerNorm(COLUMNS)
    for seed, leaf in enumerate(("weight", "bias")):
        getattr(norm, leaf).data = normal(COLUMNS, seed=seed)
        surgery.train_entries(norm, leaf, torch.tensor([0, 4, 9]))
        entries(norm, leaf).values.data += 1
    return norm


def _affine_norm(*shape: int, bias: bool = True) -> nn.LayerNorm:
    norm = nn.LayerNorm(shape, eps=0.1, bias=bias)
    for seed, parameter in enumerate(norm.parameters()):
        parameter.data = normal(*shape, seed=seed)
    return norm


AGAIN = {
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU(approximate="tanh"),
    "norm": _affine_norm(COLUMNS),
    "norm of two dimensions": _affine_norm(5, COLUMNS),
    "norm without affine": nn.LayerNorm(COLUMNS, elementwise_affine=False),
    "norm without bias": _affine_norm(COLUMNS, bias=False),
    "norm with entries": _norm_with_entries(),
}
KEPT: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "leaf": lambda x: x,
    "no grad": lambda x: functional.gelu(x.detach()),
    "view": lambda x: functional.gelu(x)[:, 0],
    "reshaped": lambda x: functional.gelu(x).view(20, -1),
    "transposed norm": lambda x: functional.layer_norm(x, (COLUMNS,)).transpose(0, 1),
    "dropout": lambda x: functional.dropout(functional.gelu(x), 0.5),
    "changed in place": lambda x: functional.gelu(x).mul_(2),
    "softmax": lambda x: x.softmax(-1),
    "batch norm": lambda x: functional.batch_norm(x.transpose(1, 2), None, None, training=True),
}


@pytest.mark.parametrize("name", AGAIN)
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_recomputed_inputs_equal_the_first(name, mean):
    inputs = (3 * normal(4, 5, COLUMNS, seed=3) + mean).requires_grad_()
    first = AGAIN[name](inputs)
    again = recomputation.recipe(first)()
    assert again.dtype == first.dtype
    torch.testing.assert_close(again, first, rtol=1e-6, atol=1e-6)
    with save_on_cpu():
        assert recomputation.recipe(AGAIN[name](inputs)) is None, "hooks pack what is kept"


# The mean and the scale that torch keeps of a bfloat16 input are bfloat16 too,
# while the forward pass used them in float32. Off-centre inputs come back ten times less exact.
@pytest.mark.parametrize("name", ["norm", "norm without affine"])
def test_a_norm_in_half_precision_is_as_exact(name):
    norm = copy.deepcopy(AGAIN[name]).bfloat16()
    inputs = (normal(40, COLUMNS, seed=3) + 10).bfloat16().requires_grad_()
    first = norm(inputs)
    recipe = recomputation.recipe(first)
    again = first if recipe is None else recipe()
    exact = copy.deepcopy(norm).double()(inputs.double())
    errors = [((t.double() - exact).norm() / exact.norm()).item() for t in (again, first)]
    assert errors[0] <= 2 * errors[1]


@pytest.mark.parametrize("name", [*AGAIN, *KEPT])
@pytest.mark.parametrize("readable", [True, False])
def test_a_layer_after_any_operation(monkeypatch, name, readable):
    """With torch's private fields, and with the public way: to keep the input."""
    if not readable:
        monkeypatch.setattr(recomputation, "is_readable", lambda node, name: False)
    torch.manual_seed(0)
    inputs = normal(4, 5, COLUMNS, seed=3).requires_grad_()
    hidden = (AGAIN | KEPT)[name](inputs)
    assert (recomputation.recipe(hidden) is not None) == (readable and name in AGAIN)
    layer = nn.Linear(hidden.shape[-1], ROWS)
    index = draw(layer.weight.numel(), 0.1)
    surgery.train_entries(layer, "weight", index)
    x = numpy(hidden).reshape(-1, hidden.shape[-1])
    gradient = normal(*hidden.shape[:-1], ROWS, seed=4)
    reference = StorageWeakRef(hidden.untyped_storage())
    output = layer(hidden)
    del hidden
    if not name.startswith("norm with") and name not in ("leaf", "view", "reshaped"):
        assert not readable or reference.expired() or name in KEPT, "it is not kept alive"
    output.backward(gradient)
    g = numpy(gradient).reshape(-1, ROWS)
    expected, magnitude = ((f(g).T @ f(x)).ravel()[index] for f in (np.copy, np.abs))
    found = numpy(entries(layer, "weight").values.grad)
    assert (np.abs(found - expected) <= 1e-6 * (magnitude + np.abs(g).sum())).all()


@pytest.mark.parametrize("changed", [0, 1], ids=["the input", "what that was computed from"])
@pytest.mark.parametrize("between", [nn.GELU(), nn.LayerNorm(COLUMNS), nn.Sigmoid()])
def test_a_change_in_place_before_the_backward_pass_gives_no_wrong_gradient(changed, between):
    layer, index = linear(), POSITIONS["0.1"]
    surgery.select(layer, {"weight": index})
    before = normal(7, COLUMNS, seed=3).requires_grad_() * 2
    seen = between(before)
    tokens = numpy(seen)[:, index.numpy() % COLUMNS].sum(0)
    output = layer(seen)
    (seen, before)[changed].mul_(2)
    try:
        (found,) = torch.autograd.grad(output.sum(), [entries(layer, "weight").values])
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        np.testing.assert_allclose(numpy(found), tokens, rtol=1e-4, atol=1e-5)


# --- everyday use


@pytest.mark.parametrize("kind", MAKE)
def test_an_operation_in_place_right_after_the_layer(path, kind):
    sparse, dense = MAKE[kind](), MAKE[kind](torch.float64)
    chosen = {"weight": POSITIONS["0.9"]}
    surgery.select(sparse, chosen)
    for layer in (sparse, dense):
        inputs = inputs_of(kind)
        output = layer(inputs.to(layer.weight.dtype) if kind == "linear" else inputs)
        output += 0.5
        functional.relu(output, inplace=True)
        output.square().sum().backward()
    expected = {name: t.float() for name, t in dense_gradients(dense, chosen).items()}
    assert_same(gradients(sparse, chosen), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", MAKE)
def test_passes_without_gradients_see_new_values(path, mode, kind):
    layer, inputs, index = MAKE[kind](), inputs_of(kind), POSITIONS["0.1"]
    plain = copy.deepcopy(layer)
    surgery.train_entries(layer, "weight", index)
    for _ in range(3):
        entries(layer, "weight").values.data += 1
        plain.weight.data.view(-1)[index] += 1
        with mode():
            output = layer(inputs)
            assert torch.equal(output, plain(inputs))
        assert not output.requires_grad
        assert layer(inputs).requires_grad
    layer.requires_grad_(False)
    assert layer(inputs).grad_fn is None


@pytest.mark.parametrize("frozen", [("weight",), ("bias",), ("weight", "bias"), ()])
def test_frozen_values_and_stored_tensors_get_no_gradient(path, frozen):
    layer, plain = linear(torch.float64), linear(torch.float64)
    chosen = {"weight": POSITIONS["0.1"], "bias": torch.tensor([0, 9])}
    surgery.select(layer, chosen)
    layer.requires_grad_(not frozen)  # the stored tensors too, if somebody asks for it
    for name in chosen:
        entries(layer, name).values.requires_grad_(name not in frozen)
    inputs = normal(6, COLUMNS, seed=3, dtype=torch.float64).requires_grad_()
    layer(inputs).sin().sum().backward()
    found, inputs.grad = inputs.grad, None
    plain(inputs).sin().sum().backward()
    torch.testing.assert_close(found, inputs.grad)
    for name, expected in dense_gradients(plain, chosen).items():
        gradient = entries(layer, name).values.grad
        assert layer.parametrizations[name].original.grad is None
        if name in frozen:
            assert gradient is None
        else:
            torch.testing.assert_close(gradient, expected)


def test_a_copy_trains_on_its_own(path):
    chosen = choice(network())
    model = selected(network(), chosen)
    before = effective(model, chosen)
    other = copy.deepcopy(model)
    twin = selected(network(), chosen)
    for trained in (other, twin):
        optimizer = torch.optim.AdamW(surgery.parameter_groups(trained, 0.1), lr=0.05)
        for step in range(3):
            loss_of(trained, step).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert_same(effective(other, chosen), effective(twin, chosen), rtol=0, atol=0)
    assert_same(effective(model, chosen), before, rtol=0, atol=0)
    assert all(entries(model, name).values.grad is None for name in chosen)
    surgery.fold(other)
    assert type(other[1]) is nn.Linear
    assert_same(state(other), effective(twin, chosen), rtol=0, atol=0)
    loss_of(model, 0).backward()
    assert all(entries(model, name).values.grad is not None for name in chosen)


def test_a_second_derivative_is_refused():
    layer = selected(linear(), {"weight": POSITIONS["0.1"]})
    loss = layer(normal(6, COLUMNS, seed=3)).square().sum()
    with pytest.raises(RuntimeError, match="has no second derivative: create_graph=True is not"):
        torch.autograd.grad(loss, entries(layer, "weight").values, create_graph=True)


def test_hooks_of_the_module_are_called(path):
    layer, calls = selected(linear(), {"weight": POSITIONS["0.1"]}), []
    layer.register_forward_pre_hook(lambda module, args: calls.append("before") or (2 * args[0],))
    layer.register_forward_hook(lambda module, args, output: calls.append("after") or 3 * output)
    layer.register_full_backward_hook(lambda *args: calls.append("backward"))
    inputs = normal(6, COLUMNS, seed=3).requires_grad_()
    output = layer(inputs)
    expected = 3 * functional.linear(2 * inputs, layer.weight, layer.bias)
    torch.testing.assert_close(output, expected)
    output.sum().backward()
    assert calls == ["before", "after", "backward"]
    tokens = 6 * numpy(inputs)[:, POSITIONS["0.1"].numpy() % COLUMNS]
    found = entries(layer, "weight").values.grad
    assert_sum(found, tokens.sum(0), np.abs(tokens).sum(0), 6)


@pytest.mark.parametrize("kind", MAKE)
def test_folded_modules_are_torchs_own(path, kind):
    layer, index = MAKE[kind](), POSITIONS["0.1"]
    start, own = state(layer), type(layer)
    surgery.select(layer, {name: torch.tensor([0, 3]) for name in start} | {"weight": index})
    entries(layer, "weight").values.data += 1
    surgery.fold(layer)
    assert type(layer) is own
    assert own.forward.__module__.startswith("torch.")
    assert "forward" not in vars(layer)
    assert not any(isinstance(module, SparseWeight) for module in layer.modules())
    start["weight"].view(-1)[index] += 1
    assert_same(state(layer), start, rtol=0, atol=0)


def test_a_module_keeps_its_forward_pass_until_its_last_tensor_is_plain():
    layer = linear()
    gates = Gated(layer.bias, "bias", Noise(rng), (-1.5, 1.5), torch.zeros(ROWS), None)
    surgery.freeze(layer)
    surgery.train_entries(layer, "weight", POSITIONS["0.1"])
    surgery.edit(layer, "bias", gates)
    surgery.narrow(layer, {"bias": torch.tensor([0, 6])})
    check_linear(layer, normal(6, COLUMNS, seed=3), normal(6, ROWS, seed=4))
    other = linear()
    other(normal(2, COLUMNS, seed=3)).sum().backward()
    assert other.weight.grad is not None, "the forward pass is of this one module"


class Scaled(nn.Linear):
    """A kind of linear layer with a forward pass of its own."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


class Doubled(nn.Module):
    """A parametrization of somebody else."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@pytest.mark.parametrize("subclass", [True, False])
def test_unknown_forward_passes_take_the_dense_way(subclass):
    layer = Scaled(COLUMNS, ROWS, bias=False) if subclass else linear(bias=False)
    weight, index = layer.weight.detach().double(), POSITIONS["0.1"]
    surgery.select(layer, {"weight": index})
    if not subclass:
        nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    inputs = normal(6, COLUMNS, seed=3)
    layer(inputs).square().sum().backward()
    plain = weight.requires_grad_()
    functional.linear(inputs.double(), 2 * plain).square().sum().backward()
    expected = {"weight": plain.grad.flatten()[index].float()}
    assert_same(gradients(layer, expected), expected, rtol=1e-5, atol=1e-4)


def test_another_parametrization_leaves_a_layer_its_own_forward_pass():
    model = nn.Embedding(5, 4, max_norm=1.0)
    with torch.no_grad():
        expected = copy.deepcopy(model)(torch.tensor([1, 2]))
        surgery.edit(model, "weight", Mixed(model.weight, "weight", Noise(rng), 0.5, "none", None))
        assert torch.equal(model(torch.tensor([1, 2])), expected)


@pytest.mark.parametrize("kind", [nn.Linear, nn.LayerNorm])
@pytest.mark.parametrize("tells", [True, False])
def test_a_backward_pass_after_a_step_is_refused_as_of_a_plain_module(
    monkeypatch, kind, path, tells
):
    """With torch's private version counter, and with the public way."""
    if not tells:
        monkeypatch.setattr("jiant_sparse.sparse.parametrizations.version", lambda tensor: None)
    module = kind(6, 6) if kind is nn.Linear else kind(6)
    surgery.train_entries(module, "weight", torch.tensor([0, 3]))
    inputs = normal(4, 6, seed=1).requires_grad_()
    early, late = module(inputs).sum(), module(inputs).sum()
    early.backward()
    with torch.no_grad():
        entries(module, "weight").values.add_(1.0)
    late.backward(retain_graph=True)  # nothing has been written yet: the weights are the old ones
    module(inputs)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        late.backward()


# --- whole encoders


@pytest.mark.parametrize("make", [bert, roberta])
@pytest.mark.parametrize("density", [0.02, 0.5])
def test_whole_encoders_on_both_paths(monkeypatch, make, density):
    ids, found = integers(40, 3, 9, seed=2) + 5, []
    ids[1:, 6:] = make().config.pad_token_id
    mask = (torch.arange(9) < 6) | (torch.arange(3) == 0)[:, None]

    def step(model: nn.Module) -> None:
        output = model.eval()(input_ids=ids, attention_mask=mask.long())
        (output.pooler_output.sum() + output.last_hidden_state.sin().sum()).backward()

    chosen, dense = choice(make(), density), make().double()
    step(dense)
    for forwards in (layers.FORWARDS, {}):
        monkeypatch.setattr(layers, "FORWARDS", forwards)
        model = selected(make(), chosen)
        step(model)
        found.append(gradients(model, chosen))
    expected = {name: g.float() for name, g in dense_gradients(dense, chosen).items()}
    largest = max(g.abs().max().item() for g in expected.values())
    assert_same(found[0], found[1], rtol=1e-5, atol=1e-5 * largest)
    assert_same(found[0], expected, rtol=1e-5, atol=1e-5 * largest)
