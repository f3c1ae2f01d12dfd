"""`top_k` against a stable sort, draws against their streams, sums in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import sampling, selection
from jiant_sparse.sparse.selection import accumulate, bernoulli, budget, top_k, uniform

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INF = float("inf")


def stream(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(len(name))


def slow_global(scores, density):
    """Sort everything in float64, stably, and take the first k."""
    every = [
        (-value, n, position)
        for n, tensor in enumerate(scores.values())
        for position, value in enumerate(tensor.double().flatten().tolist())
    ]
    best = sorted(sorted(every)[: budget(len(every), density)], key=lambda entry: entry[1:])
    return {name: [p for _, m, p in best if m == n] for n, name in enumerate(scores)}


def slow_per_tensor(scores, density):
    return {name: slow_global({name: t}, density)[name] for name, t in scores.items()}


SLOW = {"global": slow_global, "per_tensor": slow_per_tensor}


def lists(index):
    return {name: positions.tolist() for name, positions in index.items()}


@pytest.fixture(params=[1, 3, 1 << 18])
def small_chunks(request, monkeypatch):
    """The sizes that hold for large models, so small that every branch runs on small tensors."""
    monkeypatch.setattr(selection, "_CHUNK", request.param)
    monkeypatch.setattr(selection, "_SLACK", 2)
    monkeypatch.setattr(sampling, "_POSITIONS", request.param)


@pytest.fixture(params=[2, 1 << 40], ids=["by sorting", "by marking"])
def both_draws(request, monkeypatch):
    """Both ways to draw, where the number of positions would decide."""
    monkeypatch.setattr(sampling, "_FEW", request.param)


# --- budget


@pytest.mark.parametrize(
    ("count", "density", "expected"),
    [
        (100, 0.29, 29),
        (1000, 0.001, 1),
        (10, 0.7, 7),
        (3, 0.3, 0),
        (0, 0.5, 0),
        (7, 1, 7),
        (124_645_632, 0.0002, 24_929),
    ],
)
def test_budget_is_the_floor_of_the_decimal_that_was_written(count, density, expected):
    assert budget(count, density) == expected


CHOOSE = {
    "budget": lambda density: budget(10, density),
    "top_k": lambda density, **scope: top_k({"w": torch.ones(2)}, density, **scope),
    "uniform": lambda density, **scope: uniform({"w": 2}, density, stream, **scope),
    "bernoulli": lambda density: bernoulli({"w": 2}, density, stream),
}


@pytest.mark.parametrize("choose", CHOOSE)
@pytest.mark.parametrize("density", [1.5, 0, -0.1, INF, float("nan")])
def test_a_density_or_scope_outside_its_range_is_refused(choose, density):
    with pytest.raises(InputError, match=rf"^density is {density}; it must be in \(0, 1\]$"):
        CHOOSE[choose](density)
    if choose in ("top_k", "uniform"):
        message = "^scope is 'layer'; it must be one of global, per_tensor$"
        with pytest.raises(InputError, match=message):
            CHOOSE[choose](0.5, scope="layer")


# --- top_k


values = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, INF, -INF, 6e-8, 1e-40]),
    st.floats(width=16, allow_nan=False),
    st.integers(-2, 2).map(float),
)
shapes = st.sampled_from([(0,), (), (1,), (7,), (2, 3), (5, 1, 4), (30,)])


@st.composite
def score_maps(draw):
    scores = {}
    for n in range(draw(st.integers(0, 4))):
        shape = draw(shapes)
        size = torch.Size(shape).numel()
        content = draw(st.lists(values, min_size=size, max_size=size))
        scores[f"t{n}"] = torch.tensor(content, dtype=draw(st.sampled_from(DTYPES))).view(shape)
    return scores


densities = st.one_of(
    st.sampled_from([0.005, 0.1, 0.29, 0.5, 0.9, 1.0]), st.floats(0, 1, exclude_min=True)
)


@pytest.mark.parametrize("chunk", [1, 4])
@settings(max_examples=150, deadline=None)
@given(scores=score_maps(), density=densities)
def test_top_k_equals_a_stable_sort(chunk, scores, density):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_CHUNK", chunk)
        patch.setattr(selection, "_SLACK", 2)
        for scope, slow in SLOW.items():
            index = top_k(scores, density, scope=scope)
            assert list(index) == list(scores)
            assert lists(index) == slow(scores, density)
            assert all(i.dtype == torch.int64 and not i.is_cuda for i in index.values())


LENGTH = 600
ORDERS = {
    "equal": torch.ones(LENGTH),
    "zero": torch.zeros(LENGTH),
    "ascending": torch.arange(LENGTH).float(),
    "descending": -torch.arange(LENGTH).float(),
    "two values": (torch.arange(LENGTH) % 7 == 3).float(),
    "all -inf": torch.full((LENGTH,), -INF),
    "all inf": torch.full((LENGTH,), INF),
    "best last": torch.cat([torch.zeros(LENGTH - 5), torch.ones(5)]),
    "signed zeros": torch.tensor([0.0, -0.0]).repeat(LENGTH // 2),
}


@pytest.mark.parametrize("order", ORDERS)
def test_top_k_in_awkward_orders(order, small_chunks):
    whole = ORDERS[order]
    scores = {"a": whole[:100], "b": whole[100:101], "c": whole[101:].view(499, 1)}
    for density in (0.005, 0.5, 0.995):
        for scope, slow in SLOW.items():
            assert lists(top_k(scores, density, scope=scope)) == slow(scores, density)


def test_top_k_of_views_and_parameters():
    whole = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    views = {"t": whole.t(), "s": whole[:, ::3], "e": whole[:1].expand(3, 10)}
    copies = {name: view.contiguous() for name, view in views.items()}
    before = whole.clone()
    assert lists(top_k(views, 0.35)) == lists(top_k(copies, 0.35))
    assert torch.equal(whole, before)
    weight = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
    assert lists(top_k({"w": weight}, 0.5)) == {"w": [0]}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scope", selection.SCOPES)
@pytest.mark.parametrize("density", [0.01, 1.0])
def test_top_k_refuses_nan_even_where_nothing_is_chosen(dtype, scope, density):
    bad = torch.tensor([[1, INF], [float("nan"), 2]], dtype=dtype)
    with pytest.raises(InputError) as error:
        top_k({"fine": torch.ones(3), "layer.weight": bad}, density, scope=scope)
    assert str(error.value) == "scores of layer.weight hold NaN at flat position 2; it has no rank"
    message = "^scores of w are int64; they must be one of float32, bfloat16, float16$"
    with pytest.raises(InputError, match=message):
        top_k({"w": torch.ones(2, dtype=torch.int64)}, density, scope=scope)


@pytest.mark.parametrize("scope", selection.SCOPES)
@pytest.mark.parametrize("density", [0.005, 0.01, 0.29, 0.5, 1.0])
def test_top_k_on_the_meta_device_chooses_as_many_as_with_values(scope, density):
    shapes = {"a": (3, 41), "b": (7,), "none": (0,), "c": (10, 10), "d": ()}
    scores = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    index = top_k(scores, density, scope=scope)
    assert all(i.dtype == torch.int64 and i.device.type == "cpu" for i in index.values())
    real = {name: torch.zeros(shape) for name, shape in shapes.items()}
    assert lists(index) == lists(top_k(real, density, scope=scope)), "they count as equal"


# --- uniform


def test_uniform_takes_the_first_distinct_positions_of_its_stream(small_chunks, both_draws):
    for count, k in ((50, 0), (50, 1), (50, 20), (50, 24), (50, 25), (50, 30), (50, 49), (50, 50)):
        generator = torch.Generator().manual_seed(count + k)
        few, seen = min(k, count - k), set()
        while len(seen) < few:
            seen |= set((torch.randint(2**62, (1,), generator=generator) % count).tolist())
        expected = seen if few == k else set(range(count)) - seen
        generator.manual_seed(count + k)
        assert sampling.uniform_index(count, k, generator).tolist() == sorted(expected)


@pytest.mark.parametrize("share", [130, 127, 4])
def test_both_ways_to_draw_take_the_same_from_the_same_stream(share, monkeypatch):
    count = 1_000_003
    drawn = []
    for few in (2, 1 << 40, sampling._FEW):
        monkeypatch.setattr(sampling, "_FEW", few)
        generator = torch.Generator().manual_seed(5)
        index = sampling.uniform_index(count, count // share, generator)
        drawn.append((index, generator.get_state()))
    assert drawn[0][0].numel() == count // share
    for index, state in drawn[1:]:
        assert torch.equal(index, drawn[0][0])
        assert torch.equal(state, drawn[0][1]), "and leave the stream at the same place"


def test_few_of_many_are_drawn_without_memory_for_all():
    """A mark for each of 2**50 positions would be a million GiB."""
    index = sampling.uniform_index(2**50, 1000, stream("a"))
    assert index.dtype == torch.int64
    assert len(set(index.tolist())) == 1000
    assert bool((index.diff() > 0).all())
    assert 0 <= int(index[0]) < 2**42 < 2**49 < int(index[-1]) < 2**50


def test_positions_of_a_large_model_are_not_biased_to_low_ones():
    # torch.randint(count) reduces 32 bits: positions below 2**32 % count would come up 35 times
    # for 34 of the others, which moves this share by 22 standard deviations.
    count, draws = 124_645_632, 1_000_000
    low = 2**32 % count
    positions = sampling._positions(count, draws, torch.Generator().manual_seed(0))
    share = low / count
    deviation = (share * (1 - share) / draws) ** 0.5
    assert abs((positions < low).mean() - share) < 4 * deviation


@pytest.mark.parametrize("density", [0.004, 0.3, 1.0])
def test_a_global_draw_is_cut_at_the_tensors_borders_and_others_are_of_one_tensor(density):
    sizes = {"none": 0, "a": 700, "b": 1, "also none": 0, "c": 900, "last": 0}
    whole = sampling.uniform_index(1601, budget(1601, density), stream("uniform")).tolist()
    index, start = lists(uniform(sizes, density, stream)), 0
    assert list(index) == list(sizes)
    for name, size in sizes.items():
        assert index[name] == [p - start for p in whole if start <= p < start + size]
        start += size
    for name, index in uniform(sizes, density, stream, scope="per_tensor").items():
        k = budget(sizes[name], density)
        assert torch.equal(index, sampling.uniform_index(sizes[name], k, stream(name)))


@pytest.mark.parametrize("draw", [uniform, bernoulli])
def test_draws_depend_on_their_streams_alone(draw):
    asked = []

    def rng(name):
        asked.append(name)
        return stream(name)

    options = {"scope": "per_tensor"} if draw is uniform else {}
    torch.manual_seed(7)
    before = torch.get_rng_state()
    few = lists(draw({"a": 90, "bb": 70}, 0.3, rng, **options))
    assert asked == ["a", "bb"]
    more = lists(draw({"new": 20, "bb": 70, "a": 90}, 0.3, stream, **options))
    assert few == {name: more[name] for name in few}, "another layer moves no mask"
    assert few["a"][: len(few["bb"])] != few["bb"]
    assert torch.equal(torch.get_rng_state(), before)
    if draw is uniform:
        draw({"a": 5, "b": 7}, 0.5, rng)
        assert asked[2:] == ["uniform"]


def test_draws_are_pinned():
    """A recorded cell is drawn again from its seed, by any later version of this program."""
    index = uniform({"a": 40, "b": 60}, 0.08, lambda _: torch.Generator().manual_seed(11))
    assert lists(index) == {"a": [8, 11, 15], "b": [4, 7, 25, 28, 55]}
    few = uniform({"a": 40_000, "b": 60_000}, 0.00005, lambda _: torch.Generator().manual_seed(11))
    assert lists(few) == {"a": [26508, 39511], "b": [5215, 25947, 53095]}
    index = bernoulli({"a": 40, "b": 60}, 0.08, lambda _: torch.Generator().manual_seed(11))
    assert lists(index) == {"a": [15, 17, 28, 33], "b": [15, 17, 28, 33, 43]}


# --- accumulate

SUMS = {
    "signed_sum": lambda g, share: (share * g).sum(0),
    "fisher": lambda g, share: (share * g**2).sum(0),
    "absolute": lambda g, share: (share * np.abs(g)).sum(0),
}


@pytest.mark.parametrize("shares", [[1.0] * 6, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0625]])
@pytest.mark.parametrize("score", selection.SUMS)
def test_accumulate_adds_up_what_each_batch_leaves(score, shares):
    drawn = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    weights = {name: torch.nn.Parameter(torch.ones(4, 3)) for name in ("always", "odd", "never")}
    seen = []

    def batches():
        for number, gradient in enumerate(drawn):
            weights["always"].grad = torch.from_numpy(gradient.copy())
            weights["odd"].grad = torch.from_numpy(2 * gradient) if number % 2 else None
            yield shares[number]
            seen.append(weights["always"].grad.numpy().copy())

    totals = accumulate(weights, batches(), selection.SUMS[score])
    assert list(totals) == list(weights)
    exact, share = drawn.astype(np.float64), np.array(shares)[:, None, None]
    odd = SUMS[score](2 * exact[1::2], share[1::2])
    expected = {"always": SUMS[score](exact, share), "odd": odd, "never": 0}
    for name, total in totals.items():
        assert not total.requires_grad
        assert total.shape == (4, 3)
        np.testing.assert_allclose(total, np.broadcast_to(expected[name], (4, 3)), atol=1e-5)
    assert np.array_equal(seen, drawn), "the gradients are not written to"
    assert all(torch.equal(weight, torch.ones(4, 3)) for weight in weights.values())
