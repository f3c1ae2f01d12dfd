"""Sparse gradients of layers, against a plain dense layer in float64, gathered at the entries."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
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
SHARES = [1e-9, 0.005, 0.1, products.DENSE_FROM - 0.01, products.DENSE_FROM + 0.01, 0.9, 1.0]


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


def draw(numel: int, share: float, seed: int = 0) -> Tensor:
    count = max(1, int(share * numel))
    chosen = np.random.default_rng(seed).choice(numel, count, replace=False)
    return torch.from_numpy(np.sort(chosen))


SOME, MOST = draw(ROWS * COLUMNS, 0.1), draw(ROWS * COLUMNS, 0.9)


def choice(model: nn.Module, share: float = 0.2) -> dict[str, Tensor]:
    named = enumerate(model.named_parameters())
    return {name: draw(p.numel(), share, seed) for seed, (name, p) in named}


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


def inputs_of(kind: str, dtype=torch.float32) -> Tensor:
    ids = integers(ROWS, 7, seed=3)
    return normal(7, COLUMNS, seed=3, dtype=dtype) if kind == "linear" else ids


# --- gradients of one layer

LAYOUTS: list[Callable[[tuple[int, ...], int], Tensor]] = [
    lambda shape, seed: normal(*shape, seed=seed),
    lambda shape, seed: normal(*shape[::-1], seed=seed).permute(*range(len(shape))[::-1]),
    lambda shape, seed: normal(*shape[:-1], 2 * shape[-1], seed=seed)[..., ::2],
    lambda shape, seed: normal(shape[-1], seed=seed).expand(shape),
    lambda shape, seed: normal(1, seed=seed).expand(shape),
]
SIZES = [1, 2, 3, 7, 16, 17, 31, 32, 33, 100]
SHAPES = [(), (0,), (1,), (2, 0), (2, 2, 3), (16,), (40,), (100,)]
TRAINS = ["weight", "bias", "both", "weight, bias whole", "bias, weight whole", "no bias"]


@pytest.mark.parametrize("seed", range(90))
def test_gradients_of_a_linear_layer(path, seed):
    """Of the entries, of what trains whole and of the input."""
    numbers = np.random.default_rng(seed)
    dtype, trains = DTYPES[seed % 3], TRAINS[seed % 6]
    rows, columns = map(int, numbers.choice(SIZES, 2))
    shape = SHAPES[numbers.integers(len(SHAPES))]
    layouts = numbers.choice(len(LAYOUTS), 2)
    layer = linear(torch.float64, rows=rows, columns=columns, bias=trains != "no bias")
    surgery.freeze(layer)
    index = draw(rows * columns, numbers.choice(SHARES), seed)
    if not trains.startswith("bias"):
        surgery.train_entries(layer, "weight", index)
    if trains in ("bias", "both", "bias, weight whole"):
        surgery.train_entries(layer, "bias", draw(rows, 0.3, seed))
    if "whole" in trains:
        surgery.train_tensor(layer, "weight" if trains.startswith("bias") else "bias")
    layer.to(dtype)  # the dtype may change after the choice
    inputs, gradient = (
        LAYOUTS[layout]((*shape, size), number).to(dtype)
        for number, (layout, size) in enumerate(zip(layouts, (columns, rows), strict=True))
    )
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    output = layer(input=inputs.requires_grad_())
    assert torch.equal(output, functional.linear(inputs, weight, bias))
    output.backward(gradient)
    x, g = (numpy(t).reshape(-1, t.shape[-1]) for t in (inputs, gradient))
    expected = (g @ numpy(weight)).reshape(inputs.shape)
    magnitude = (np.abs(g) @ np.abs(numpy(weight))).reshape(inputs.shape)
    assert_sum(inputs.grad, expected, magnitude, rows)
    sums = {"weight": (g.T @ x, np.abs(g).T @ np.abs(x)), "bias": (g.sum(0), np.abs(g).sum(0))}
    for leaf, (expected, magnitude) in sums.items():
        if leaf in getattr(layer, "parametrizations", {}):
            found, index = entries(layer, leaf).values, entries(layer, leaf).index.numpy()
        elif getattr(layer, leaf) is not None and getattr(layer, leaf).requires_grad:
            found, index = getattr(layer, leaf), slice(None)
        else:
            continue
        assert found.grad.dtype == found.dtype == dtype
        expected, magnitude = (part.ravel()[index] for part in (expected, magnitude))
        assert_sum(found.grad.flatten(), expected, magnitude, len(x))


@pytest.mark.parametrize("seed", range(60))
def test_gradients_of_an_embedding(path, seed):
    """Tables of fewer rows than tokens among them, and ids that repeat."""
    numbers = np.random.default_rng(seed)
    by_frequency = seed % 5 == 0
    # Where torch computes the gradient it adds up bfloat16 in bfloat16.
    dtype = DTYPES[seed % (3 if path == "tapped" and not by_frequency else 2)]
    rows, columns = map(int, numbers.choice(SIZES, 2))
    shape = [*SHAPES, (500,)][numbers.integers(len(SHAPES) + 1)]
    padding = [None, 0, rows // 2, rows - 1][seed % 4]
    options = {"padding_idx": padding, "scale_grad_by_freq": by_frequency}
    layer = embedding(torch.float64, rows=rows, columns=columns, **options)
    index = draw(rows * columns, numbers.choice(SHARES), seed)
    surgery.train_entries(layer, "weight", index)
    layer.to(dtype)
    ids = torch.from_numpy(np.array(numbers.integers(0, rows, shape[::-1])).T)
    ids = ids.to([torch.int64, torch.int32][seed % 2])
    layout = LAYOUTS[numbers.integers(len(LAYOUTS))]
    gradient = (layout((*shape, columns), 4) + 1).to(dtype)
    output = layer(input=ids)
    assert torch.equal(output, layer.weight.detach()[ids.long()])
    output.backward(gradient)
    tokens = ids.numpy().ravel()
    g = numpy(gradient).reshape(-1, columns)
    if by_frequency:
        g = g / np.bincount(tokens, minlength=rows)[tokens, None]
    counted = tokens != (-1 if padding is None else padding)
    expected, magnitude = np.zeros((2, rows, columns))
    np.add.at(expected, tokens[counted], g[counted])
    np.add.at(magnitude, tokens[counted], np.abs(g[counted]))
    found = entries(layer, "weight").values
    assert found.grad.dtype == found.dtype == dtype
    expected, magnitude = (part.ravel()[index.numpy()] for part in (expected, magnitude))
    assert_sum(found.grad, expected, magnitude, len(tokens))


@pytest.mark.parametrize("verb", [surgery.select, surgery.narrow])
def test_an_embedding_that_rewrites_its_weights_is_refused(verb):
    model = nn.Sequential(nn.Linear(2, 2), embedding(max_norm=6.0))
    with pytest.raises(InputError, match="1.weight: the embedding has max_norm 6.0, which rewrit"):
        verb(model, {"0.weight": torch.tensor([1]), "1.weight": SOME})
    assert verb is surgery.select or type(model[0]) is nn.Linear, "nothing is half done"


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


@pytest.mark.parametrize("share", [1e-9, products.DENSE_FROM - 0.01])
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_as_large_as_the_weight_is_made(path, kind, share, dtype):
    layer, index = MAKE[kind](dtype), draw(ROWS * COLUMNS, share)
    surgery.select(layer, {"weight": index})
    inputs = inputs_of(kind, dtype)
    with Recorder(layer.parametrizations.weight.original) as recorder:
        output = layer(inputs.requires_grad_(kind == "linear"))
        assert {"addmm", "embedding"} & {*recorder.operations}
        copies = {"clone", "copy_", "_to_copy"}
        assert path == "dense" or copies.isdisjoint(recorder.operations), "no copy of the output"
        output.sum().backward()
    assert (recorder.largest <= max(7 * COLUMNS, len(index))) == (path == "tapped")
    assert (recorder.largest >= ROWS * COLUMNS) == (path == "dense")


@pytest.mark.parametrize("leaf", ["weight", "bias"])
def test_an_input_that_no_gradient_needs_is_not_kept(leaf):
    layer = selected(linear(), {leaf: torch.tensor([2])})
    entries(layer, leaf).values.requires_grad_(leaf == "bias")
    inputs = normal(7, COLUMNS, seed=3).requires_grad_() * 2
    reference = StorageWeakRef(inputs.untyped_storage())
    output = layer(inputs)
    del inputs
    assert reference.expired()
    output.sum().backward()
    assert leaf == "weight" or entries(layer, "bias").values.grad == 7


# --- 50 steps


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    """One of its linear layers is used twice, the second time on a GELU."""
    torch.manual_seed(0)
    twice = nn.Linear(8, 8)
    parts = nn.Embedding(13, 8, padding_idx=1), twice, nn.GELU(), twice, nn.LayerNorm(8)
    model = nn.Sequential(*parts, nn.Linear(8, 5))
    for p in model.parameters():
        # Multiples of 1/1024: the same numbers in every dtype.
        p.data = (torch.randn(p.shape) * 1024).round_() / 1024
    return model.to(dtype)


def loss_of(model: nn.Module, step: int) -> Tensor:
    target = integers(5, 24, seed=step + 100)
    return functional.cross_entropy(model(integers(13, 4, 6, seed=step)).flatten(0, 1), target)


# Per dtype: what 50 steps may add up to, of values, first and second moments of order 1.
@pytest.mark.parametrize(
    ("dtype", "tolerance", "narrowed_at", "keep_moments"),
    [
        (torch.float64, 1e-9, 0, True),
        (torch.float32, 2e-3, 0, True),
        (torch.float64, 1e-9, 5, True),
        (torch.float64, 1e-9, 5, False),
    ],
)
def test_fifty_steps_equal_masked_dense_training(path, dtype, tolerance, narrowed_at, keep_moments):
    """Of torch's AdamW with decay, a schedule and clipping, the rest put back after each step."""
    models = sparse, dense = network(dtype), network()
    chosen = choice(dense, 0.3) | {"4.bias": torch.tensor([], dtype=torch.int64)}
    others = {name: torch.ones(p.shape, dtype=bool) for name, p in dense.named_parameters()}
    for name, index in chosen.items():
        others[name].view(-1)[index] = False
    if narrowed_at == 0:
        surgery.select(sparse, chosen)
    factor = lambda step: min((step + 1) / 5, (50 - step) / 45)  # noqa: E731
    groups = [surgery.parameter_groups(model, 0.1) for model in models]
    optimizers = [torch.optim.AdamW(group, lr=0.02) for group in groups]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, factor) for o in optimizers]
    for step in range(50):
        if step == narrowed_at:
            start, then = state(network(dtype)) if step == 0 else state(sparse), state(dense)
            if step:
                surgery.narrow(sparse, chosen, optimizers[0], keep_moments=keep_moments)
            if not keep_moments:
                optimizers[1].state.clear()
        for model, optimizer, schedule in zip(models, optimizers, schedules, strict=True):
            loss_of(model, step).backward()
            masked = dense.named_parameters() if model is dense and step >= narrowed_at else ()
            for name, p in masked:
                p.grad[others[name]] = 0
            nn.utils.clip_grad_norm_(model.parameters(), 0.8)
            optimizer.step()
            schedule.step()
            model.zero_grad()
            for name, p in dense.named_parameters() if masked else ():
                p.data[others[name]] = then[name][others[name]]
    for name in chosen.keys() - {"4.bias"}:
        values, whole = entries(sparse, name).values, dense.get_parameter(name)
        pairs = [(values, whole)]
        for key in ("exp_avg", "exp_avg_sq"):
            pairs.append((optimizers[0].state[values][key], optimizers[1].state[whole][key]))
        for found, expected in pairs:
            difference = numpy(found) - numpy(expected)[~others[name].numpy()]
            assert np.abs(difference).max() <= tolerance * max(np.abs(numpy(found)).max(), 1e-3)
    surgery.fold(sparse)
    for name, mask in others.items():
        assert torch.equal(sparse.get_parameter(name) != start[name], ~mask)


# --- everything that may happen around a layer


def _accumulated(model: nn.Module) -> None:
    for batch in range(3):
        (loss_of(model, batch) / 3).backward()


def _two_passes(model: nn.Module) -> None:
    (loss_of(model, 0) + 2 * loss_of(model, 1)).backward()


def _kept_graph(model: nn.Module) -> None:
    loss = loss_of(model, 0)
    loss.backward(retain_graph=True)
    loss.backward()


def _in_place(model: nn.Module) -> None:
    hidden = model[0](integers(13, 4, 6, seed=0))
    hidden += 0.5
    functional.relu(hidden, inplace=True)
    output = model[1](hidden)
    output += 0.5
    functional.relu(output, inplace=True)
    model[2:](output).sin().sum().backward()


def _hooked(hooks: saved_tensors_hooks) -> Callable[[nn.Module], None]:
    def run(model: nn.Module) -> None:
        with hooks:
            loss = loss_of(model, 0)
        loss.backward()

    return run


def _checkpointed(end: int, *, reentrant: bool) -> Callable[[nn.Module], None]:
    """The next layer sees what GELU (3) or LayerNorm (5) has kept, packed by the checkpoint."""

    def run(model: nn.Module) -> None:
        hidden = model[0](integers(13, 4, 6, seed=0))
        hidden = checkpoint(model[1:end], hidden, use_reentrant=reentrant)
        model[end:](hidden).sin().sum().backward()

    return run


USES = {
    "accumulated batches": _accumulated,
    "two passes": _two_passes,
    "a graph that is kept": _kept_graph,
    "operations in place": _in_place,
    "tensors saved on the CPU": _hooked(save_on_cpu()),
    "tensors unpacked once": _hooked(saved_tensors_hooks(lambda t: [t.clone()], list.pop)),
    "checkpoint up to GELU": _checkpointed(3, reentrant=False),
    "checkpoint up to LayerNorm": _checkpointed(5, reentrant=False),
    "reentrant checkpoint up to GELU": _checkpointed(3, reentrant=True),
    "reentrant checkpoint up to LayerNorm": _checkpointed(5, reentrant=True),
}


@pytest.mark.parametrize("use", USES)
def test_gradients_are_those_of_a_dense_model(path, use):
    dense = network()
    chosen = choice(dense)
    sparse = selected(network(), chosen)
    for model in (sparse, dense):
        USES[use](model)
    assert_same(gradients(sparse, chosen), dense_gradients(dense, chosen))


@pytest.mark.parametrize("make", [bert, roberta])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_whole_encoders(monkeypatch, make, share):
    """On both paths, and with both kinds of checkpointing."""

    def step(model: nn.Module) -> None:
        ids = integers(40, 3, 9, seed=2) + 5
        ids[1:, 6:] = model.config.pad_token_id
        torch.manual_seed(1)
        output = model.train()(input_ids=ids, attention_mask=ids.ne(model.config.pad_token_id))
        (output.pooler_output.sum() + output.last_hidden_state.sin().sum()).backward()

    dense = make()
    chosen = choice(dense, share)
    step(dense)
    expected = dense_gradients(dense, chosen)
    largest = max(g.abs().max().item() for g in expected.values())
    # A bias of all keys alike moves no attention: its gradient is nothing but rounding.
    assert all(g.any() for name, g in expected.items() if not name.endswith("key.bias"))
    for forwards, reentrant in (
        (layers.FORWARDS, None), ({}, None), (layers.FORWARDS, True), (layers.FORWARDS, False)
    ):  # fmt: skip
        monkeypatch.setattr(layers, "FORWARDS", forwards)
        model = selected(make(), chosen)
        if reentrant is not None:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        step(model)
        assert_same(gradients(model, chosen), expected, rtol=1e-5, atol=1e-5 * largest)


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
    assert not [w for w in recwarn if "does not know how to trace" in str(w.message)]


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


NAMES = ["embedding.weight", "output.weight"]
TIED_INDEX = draw(13 * 8, 0.3)


def _entries(model: Tied, name: str) -> nn.Parameter:
    surgery.train_entries(model, name, TIED_INDEX)
    return entries(model, name).values


def _mixed(model: Tied, name: str) -> nn.Parameter:
    form = Mixed(model.embedding.weight, name, Noise(rng), 0.4, "elements", None)
    surgery.edit(model, {name: form})
    return model.embedding.parametrizations.weight.original


def _gated(model: Tied, name: str) -> nn.Parameter:
    weight, logit = model.embedding.weight, normal(13, 8, seed=8)
    gates = Gated(weight, name, Noise(rng), (-1.5, 1.5), logit, None)
    gates.difference.data = normal(13, 8, seed=9).to(weight)
    surgery.edit(model, {name: gates})
    return gates.difference


def edited(make: Callable, name: str = NAMES[0]) -> tuple[Tied, nn.Parameter]:
    """A model whose tied tensor trains in another form, and what trains of it."""
    model = Tied()
    surgery.freeze(model)
    return model, make(model, name)


def check_tied(model: Tied, trained: nn.Parameter, index: Tensor | slice) -> None:
    """The gradient of what trains, of a dense twin; and both modules fold to one plain tensor."""
    one, two = (m.parametrizations.weight for m in (model.embedding, model.output))
    assert one.original is two.original and one[0] is two[0]
    trained.data.add_(0.5)
    seen = effective(model, NAMES)
    assert torch.equal(*seen.values())
    # What the forward pass sees is linear in what trains: W(p + 1) - W(p) is its slope.
    trained.data.add_(1.0)
    slope = model.embedding.weight.detach() - seen[NAMES[0]]
    trained.data.sub_(1.0)
    dense = Tied()
    dense.embedding.weight.data = seen[NAMES[1]].clone()
    for each in (model, dense):
        ids = integers(13, 4, 6, seed=0)
        functional.cross_entropy(each(ids).flatten(0, 1), ids.flatten().roll(1)).backward()
    expected = (slope * dense.embedding.weight.grad).flatten()[index]
    torch.testing.assert_close(trained.grad.flatten(), expected, rtol=1e-8, atol=1e-10)
    evaluated = model.eval().output.weight.detach().clone()
    surgery.fold(model)
    assert (type(model.embedding), type(model.output)) == (nn.Embedding, nn.Linear)
    assert type(model.embedding.weight) is nn.Parameter
    assert model.embedding.weight is model.output.weight
    assert torch.equal(model.embedding.weight, evaluated)


@pytest.mark.parametrize("name", NAMES)
def test_tied_weights_have_one_vector_of_values(path, name):
    model, values = edited(_entries, name)
    start = state(Tied())[NAMES[0]].flatten()
    assert surgery.count(model, NAMES) == (len(TIED_INDEX), 0)
    assert entries(model, name).state_dict().keys() == {"index", "values"}
    check_tied(model, values, TIED_INDEX)
    changed = (model.output.weight.flatten() != start).nonzero().flatten()
    assert torch.equal(changed, TIED_INDEX)


@pytest.mark.parametrize("make", [_mixed, _gated])
def test_tied_weights_have_one_parametrization(make):
    check_tied(*edited(make), slice(None))


@pytest.mark.parametrize("make", [_gated, "whole"])
def test_narrowing_a_tied_tensor(path, make):
    model = Tied() if make == "whole" else edited(make)[0]
    start = state(Tied())[NAMES[0]]
    expected = start.clone()
    evaluated = model.eval().output.weight.detach()
    expected.view(-1)[TIED_INDEX] = evaluated.view(-1)[TIED_INDEX]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    surgery.narrow(model.train(), {NAMES[0]: TIED_INDEX}, optimizer, keep_moments=False)
    assert torch.equal(model.embedding.weight, expected)
    values = entries(model, NAMES[0]).values
    assert any(values is p for group in optimizer.param_groups for p in group["params"])
    check_tied(model, values, TIED_INDEX)


@pytest.mark.parametrize("make", [_entries, _mixed, _gated])
def test_decay_leaks_once_and_into_no_other_parametrization(make):
    model, _ = edited(make)
    before = effective(model, NAMES)
    surgery.decay_frozen(model, 0.5)
    for name, after in effective(model, before).items():
        expected = before[name] * (0.5 if make is _entries else 1.0)
        expected.view(-1)[TIED_INDEX] = before[name].view(-1)[TIED_INDEX]
        assert torch.equal(after, expected)


# --- autocast


@pytest.mark.parametrize("before", [nn.Identity(), nn.GELU(), nn.LayerNorm(COLUMNS)])
@pytest.mark.parametrize("index", [SOME, MOST], ids=["some", "most"])
def test_autocast_to_bfloat16(path, before, index):
    layer = selected(linear(), {"weight": index, "bias": torch.tensor([1, 7])})
    seen = []
    layer.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    inputs = normal(4, 20, COLUMNS, seed=3).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = layer(before(inputs)).sin().sum()
    ((hidden, output),) = seen
    (upstream,) = torch.autograd.grad(loss, output, retain_graph=True)
    loss.backward()
    assert output.dtype == upstream.dtype == torch.bfloat16
    g = numpy(upstream).reshape(-1, ROWS)
    # The product has been taken of the input rounded to bfloat16, and so is the gradient's.
    x = numpy(hidden.bfloat16()).reshape(-1, COLUMNS)
    bias, weight = (entries(layer, leaf).values.grad for leaf in ("bias", "weight"))
    assert bias.dtype == weight.dtype == torch.float32
    expected, magnitude = ((f(g).T @ f(x)).ravel()[index] for f in (np.copy, np.abs))
    allowed = 82 * 2.0**-23 * magnitude  # 80 terms, summed up in float32 in any order
    if before._parameters:
        # A normalised input differs in its last bit if it is computed again, and may be rounded
        # to the other of two bfloat16 neighbours, rarely: at most once in 80 terms.
        allowed = allowed + 2.0**-7 * np.abs(g).max() * np.abs(x).max()
    if path == "dense" or index is MOST:
        allowed = allowed + 2.0**-8 * np.abs(expected)  # rounded to bfloat16 at the end
    assert (np.abs(numpy(weight) - expected) <= allowed).all()
    of_bias, magnitude = (f(g).sum(0)[[1, 7]] for f in (np.copy, np.abs))
    slack = 0.0 if path == "tapped" else 2.0**-8
    allowed = 82 * 2.0**-23 * magnitude + slack * np.abs(of_bias)
    assert (np.abs(numpy(bias) - of_bias) <= allowed).all()


@pytest.mark.parametrize("index", [SOME, MOST], ids=["some", "most"])
def test_a_backward_pass_within_autocast_works_in_the_dtype_of_the_gradient(index):
    layer = selected(linear(), {"weight": index})
    inputs, gradient = normal(40, COLUMNS, seed=3), normal(40, ROWS, seed=4)
    output = layer(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        output.backward(gradient)
    x, g = numpy(inputs), numpy(gradient)
    expected, magnitude = ((f(g).T @ f(x)).ravel()[index] for f in (np.copy, np.abs))
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


# The mean and the scale that torch keeps of a bfloat16 input are bfloat16 too,
# while the forward pass used them in float32. Off-centre inputs come back ten times less exact.
def test_a_norm_in_half_precision_is_kept():
    norm = copy.deepcopy(AGAIN["norm"]).bfloat16()
    inputs = (normal(40, COLUMNS, seed=3) + 10).bfloat16().requires_grad_()
    assert recomputation.recipe(norm(inputs)) is None


@pytest.mark.parametrize("name", [*AGAIN, *KEPT])
@pytest.mark.parametrize(("readable", "mean"), [(True, 0.0), (True, 30.0), (False, 0.0)])
def test_a_layer_after_any_operation(monkeypatch, name, readable, mean):
    """With torch's private fields, and with the public way: to keep the input."""
    if not readable:
        monkeypatch.setattr(recomputation, "is_readable", lambda node, name: False)
    torch.manual_seed(0)
    inputs = (3 * normal(4, 5, COLUMNS, seed=3) + mean).requires_grad_()
    hidden = (AGAIN | KEPT)[name](inputs)
    recipe = recomputation.recipe(hidden)
    assert (recipe is not None) == (readable and name in AGAIN)
    if recipe is not None:
        torch.testing.assert_close(recipe(), hidden, rtol=1e-6, atol=1e-6)
        del recipe
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
    layer = selected(linear(), {"weight": SOME})
    before = normal(7, COLUMNS, seed=3).requires_grad_() * 2
    seen = between(before)
    tokens = numpy(seen)[:, SOME.numpy() % COLUMNS].sum(0)
    output = layer(seen)
    (seen, before)[changed].mul_(2)
    try:
        (found,) = torch.autograd.grad(output.sum(), [entries(layer, "weight").values])
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        np.testing.assert_allclose(numpy(found), tokens, rtol=1e-4, atol=1e-5)


# --- everyday use


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", MAKE)
def test_passes_without_gradients_see_new_values(path, mode, kind):
    layer, inputs = MAKE[kind](), inputs_of(kind)
    plain = copy.deepcopy(layer)
    surgery.train_entries(layer, "weight", SOME)
    for _ in range(3):
        entries(layer, "weight").values.data += 1
        plain.weight.data.view(-1)[SOME] += 1
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
    chosen = {"weight": SOME, "bias": torch.tensor([0, 9])}
    surgery.select(layer, chosen)
    layer.requires_grad_(not frozen)  # the stored tensors too, if somebody asks for it
    for name in chosen:
        entries(layer, name).values.requires_grad_(name not in frozen)
    inputs = normal(6, COLUMNS, seed=3, dtype=torch.float64).requires_grad_()
    layer(inputs).sin().sum().backward()
    plain(inputs).sin().sum().backward()
    expected = dense_gradients(plain, chosen) | {name: None for name in frozen}
    for name, gradient in gradients(layer, chosen).items():
        assert layer.parametrizations[name].original.grad is None
        torch.testing.assert_close(gradient, expected[name])


def test_a_copy_trains_on_its_own_and_folds_to_torchs_modules(path):
    chosen = choice(network())
    model = selected(network(), chosen)
    before = effective(model, chosen)
    other, twin = copy.deepcopy(model), selected(network(), chosen)
    for trained in (other, twin):
        optimizer = torch.optim.AdamW(surgery.parameter_groups(trained, 0.1), lr=0.05)
        for step in range(3):
            loss_of(trained, step).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert_same(effective(model, chosen), before, rtol=0, atol=0)
    assert all(entries(model, name).values.grad is None for name in chosen)
    surgery.fold(other)
    assert [type(module) for module in other] == [type(module) for module in network()]
    assert all(type(module).forward.__module__.startswith("torch.") for module in other)
    assert not any("forward" in vars(m) or isinstance(m, SparseWeight) for m in other.modules())
    assert_same(state(other), effective(twin, chosen), rtol=0, atol=0)
    loss_of(model, 0).backward()
    assert all(entries(model, name).values.grad is not None for name in chosen)


def test_hooks_of_the_module_are_called(path):
    layer, calls = selected(linear(), {"weight": SOME}), []
    layer.register_forward_pre_hook(lambda module, args: calls.append("before") or (2 * args[0],))
    layer.register_forward_hook(lambda module, args, output: calls.append("after") or 3 * output)
    layer.register_full_backward_hook(lambda *args: calls.append("backward"))
    inputs = normal(6, COLUMNS, seed=3).requires_grad_()
    output = layer(inputs)
    expected = 3 * functional.linear(2 * inputs, layer.weight, layer.bias)
    torch.testing.assert_close(output, expected)
    output.sum().backward()
    assert calls == ["before", "after", "backward"]
    tokens = 6 * numpy(inputs)[:, SOME.numpy() % COLUMNS]
    found = entries(layer, "weight").values.grad
    assert_sum(found, tokens.sum(0), np.abs(tokens).sum(0), 6)


def test_a_module_keeps_its_forward_pass_until_its_last_tensor_is_plain():
    layer, chosen = linear(torch.float64), {"weight": SOME, "bias": torch.tensor([0, 6])}
    plain = copy.deepcopy(layer)
    gates = Gated(layer.bias, "bias", Noise(rng), (-1.5, 1.5), torch.zeros(ROWS), None)
    surgery.freeze(layer)
    surgery.train_entries(layer, "weight", SOME)
    surgery.edit(layer, {"bias": gates})
    surgery.narrow(layer, {"bias": chosen["bias"]})
    for each in (layer, plain):
        each(normal(6, COLUMNS, seed=3, dtype=torch.float64)).sin().sum().backward()
    assert plain.weight.grad.all(), "the forward pass is of the one module"
    assert_same(gradients(layer, chosen), dense_gradients(plain, chosen))


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
    weight, chosen = layer.weight.detach().double(), {"weight": SOME}
    surgery.select(layer, chosen)
    if not subclass:
        nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    inputs = normal(6, COLUMNS, seed=3)
    layer(inputs).square().sum().backward()
    plain = weight.requires_grad_()
    functional.linear(inputs.double(), 2 * plain).square().sum().backward()
    expected = {"weight": plain.grad.flatten()[SOME].float()}
    assert_same(gradients(layer, chosen), expected, rtol=1e-5, atol=1e-4)


def test_another_parametrization_leaves_a_layer_its_own_forward_pass():
    model = nn.Embedding(5, 4, max_norm=1.0)
    with torch.no_grad():
        expected = copy.deepcopy(model)(torch.tensor([1, 2]))
        surgery.edit(
            model, {"weight": Mixed(model.weight, "weight", Noise(rng), 0.5, "none", None)}
        )
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
