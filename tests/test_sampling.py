"""Draws against their laws, written out for few entries and in the limit."""

from collections import Counter
from itertools import combinations, permutations
from math import prod

import pytest
import torch

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import blocks, sampling
from jiant_sparse.sparse.blocks import Product
from jiant_sparse.sparse.sampling import sample
from jiant_sparse.sparse.selection import bernoulli

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INF = float("inf")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lists(index):
    return {name: positions.tolist() for name, positions in index.items()}


def of(values, power=1, k=1, seed=0):
    """The index that is drawn from one tensor of these values."""
    return sample({"w": torch.tensor(values)}, k, seeded(seed), power=power)["w"].tolist()


def law(weights: list[float], k: int) -> dict[tuple[int, ...], float]:
    """Probability of every set of k entries: the sum over the orders in which it can be drawn."""
    chances = {}
    for entries in combinations(range(len(weights)), k):
        chances[entries] = sum(
            prod(
                weights[entry] / sum(w for other, w in enumerate(weights) if other not in order[:n])
                for n, entry in enumerate(order)
            )
            for order in permutations(entries)
        )
    return chances


def chi_square_bound(freedom: int) -> float:
    """Exceeded by chance about once in 30,000 (Wilson and Hilferty's approximation at z = 4)."""
    scale = 2 / (9 * freedom)
    return freedom * (1 - scale + 4 * scale**0.5) ** 3


def assert_follows(seen: dict, expected: dict) -> None:
    """Chi-square test of counts; what is expected less than five times is put together."""
    assert seen.keys() <= expected.keys()
    rare = {key for key, number in expected.items() if number < 5}
    bins = [(seen.get(key, 0), number) for key, number in expected.items() if key not in rare]
    rest = sum(expected[key] for key in rare)
    seen_rest = sum(seen.get(key, 0) for key in rare)
    if rest > 1:
        bins.append((seen_rest, rest))
    else:
        assert seen_rest < 8
    statistic = sum((got - number) ** 2 / number for got, number in bins)
    assert statistic < chi_square_bound(len(bins) - 1)


@pytest.fixture(params=[1, 4, 64])
def block(request, monkeypatch):
    """Blocks so small that few entries have many, and all sizes that depend on them."""
    monkeypatch.setattr(blocks, "BLOCK", request.param)
    monkeypatch.setattr(blocks, "_CHUNK", {"cpu": 2 * request.param})
    monkeypatch.setattr(sampling, "_ROWS", 2)
    return request.param


@pytest.fixture
def rounds(monkeypatch):
    """The number of entries drawn in each round."""
    sizes, real = [], sampling._round

    def counted(*arguments, **options):
        new = real(*arguments, **options)
        sizes.append(new.numel())
        return new

    monkeypatch.setattr(sampling, "_round", counted)
    return sizes


# --- the law


# Probabilities from 1 in 31 to 16 in 31: successive draws differ much from other laws (sets in
# proportion to the product of their weights, or entries drawn by themselves until there are k).
WEIGHTS = [1.0, 2.0, 4.0, 8.0, 16.0]
CONCENTRATED = [1e-6, 1.0, 2e-6, 3e-6, 0.0, 1e-13]


def _weighted(values: list[float], k: int, power: int = 1):
    weights = {"a": torch.tensor(values[:3]), "b": torch.tensor(values[3:]).view(-1, 1)}

    def draw(generator: torch.Generator) -> tuple[int, ...]:
        index = sample(weights, k, generator, power=power)
        assert all(i.dtype == torch.int64 and i.device.type == "cpu" for i in index.values())
        return (*index["a"].tolist(), *(index["b"] + 3).tolist())

    return draw, law([value**power for value in values], k)


def _uniform(count: int, k: int):
    return lambda g: tuple(sampling.uniform_index(count, k, g).tolist()), law([1.0] * count, k)


def _bernoulli(count: int, p: float):
    sets = [chosen for k in range(count + 1) for chosen in combinations(range(count), k)]
    chances = {chosen: p ** len(chosen) * (1 - p) ** (count - len(chosen)) for chosen in sets}
    return lambda g: tuple(bernoulli({"a": count}, p, lambda _: g)["a"].tolist()), chances


LAWS = {
    "2 of 5": _weighted(WEIGHTS, 2),
    "3 of 5": _weighted(WEIGHTS, 3),
    "2 behind one that has nearly all the weight": _weighted(CONCENTRATED, 3, power=2),
    "1 of 5, uniform": _uniform(5, 1),
    "3 of 6, uniform": _uniform(6, 3),
    "4 of 7, uniform": _uniform(7, 4),
    "each of 3 by itself": _bernoulli(3, 0.3),
}


@pytest.mark.parametrize("name", LAWS)
def test_every_set_comes_up_with_its_probability(name, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 2)
    draw, chances = LAWS[name]
    assert sum(chances.values()) == pytest.approx(1)
    generator, trials = seeded(2), 2500
    seen = Counter(draw(generator) for _ in range(trials))
    assert_follows(seen, {key: trials * chance for key, chance in chances.items()})


def arrived(rates: torch.Tensor, share: float) -> torch.Tensor:
    """How much of each of equally many entries is drawn when `share` of all of them is.

    Successive draws are a race: an entry arrives at an exponential time with its weight as rate,
    and the first k are drawn. Among many entries, the time of the k-th is nearly certain.
    """
    low, high = 0.0, 100.0
    for _ in range(80):
        time = (low + high) / 2
        chances = 1 - torch.exp(-rates.double() * time)
        low, high = (time, high) if chances.mean() < share else (low, time)
    return chances


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_entries_of_a_large_draw_are_independent_up_to_a_common_time(share, rounds):
    groups, rates = 40_000, torch.tensor([1.0, 2.0, 5.0])
    drawn = sample({"w": rates.repeat(groups)}, int(share * 3 * groups), seeded(1))["w"]
    marked = torch.zeros(3 * groups, dtype=torch.int64)
    marked[drawn] = 1
    patterns = marked.view(groups, 3) @ torch.tensor([1, 2, 4])
    chance = [
        prod(float(p if pattern >> n & 1 else 1 - p) for n, p in enumerate(arrived(rates, share)))
        for pattern in range(8)
    ]
    seen = dict(enumerate(patterns.bincount(minlength=8).tolist()))
    assert_follows(seen, {pattern: groups * p for pattern, p in enumerate(chance)})
    assert len(rounds) > 1, "repeats were drawn and made up for"


def test_squares_of_tiny_importances_are_not_lost():
    """In float32 the squares of 1e-30 are zero, and 1e-45 is denormal itself."""
    importances = torch.tensor([1e-30, 2e-30, 1e-45, 0.0]).repeat(20_000)
    assert not importances.square().any(), "float32 loses them"
    places = (sample({"w": importances}, 10_000, seeded(), power=2)["w"] % 4).bincount(minlength=4)
    assert places.sum() == 10_000
    assert places[2:].tolist() == [0, 0]
    expected = 20_000 * arrived(torch.tensor([1.0, 4.0]), 0.25)
    assert places[:2].tolist() == pytest.approx(expected.tolist(), abs=4 * 1_500**0.5)
    alone = sample({"w": importances}, 60_000, seeded(), power=2)["w"]
    assert torch.equal(alone, importances.nonzero().view(-1))


# --- concentrated weights


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 5, 6, 7])
def test_weights_far_apart_are_drawn_from_the_largest_down(k, power, block):
    # Even 1e-12 is once in 10^12: with one seed it is no chance.
    assert of([1e-24, 1e-36, 1.0, 1e12, 0.0, 1e24, 1e-12, 1e36], power, k) == sorted(
        [7, 5, 3, 2, 6, 0, 1][:k]
    )


def test_a_few_entries_with_all_the_weight_cost_a_round_and_not_a_repeat_each(rounds):
    weights = torch.full((5_000,), 1e-12)
    heavy = torch.tensor([7, 2_500, 4_999])
    weights[heavy] = 1.0
    index = sample({"w": weights}, 1_000, seeded(), power=2)["w"]
    assert set(heavy.tolist()) < set(index.tolist())
    assert rounds[0] == 3
    assert len(rounds) < 12


def test_weights_over_the_whole_range_of_float32_end_soon(rounds):
    exponents = torch.empty(4_000, dtype=torch.float64).uniform_(-148, 127, generator=seeded())
    weights = exponents.exp2().float()
    assert len(of(weights.tolist(), 2, 3_999)) == 3_999
    assert len(rounds) < 100


def test_rounds_of_limited_size_draw_on(monkeypatch, rounds):
    monkeypatch.setattr(sampling, "_DRAWS", 10)
    assert len(of([1.0] * 300, 1, 95)) == 95
    assert max(rounds) <= 10


# --- what is never drawn, and borders


def test_zero_weights_are_never_drawn(block):
    for seed in range(30):
        weights = (torch.rand(40, generator=seeded(seed)) < 0.3).float()
        weights[seed] = 1e-45
        weights[-1] = -0.0
        positive = weights.nonzero().view(-1).tolist()
        few = {"zeros": torch.zeros(9), "w": weights, "none": torch.zeros(0, 3)}
        index = lists(sample(few, len(positive), seeded(seed)))
        assert [*index.items()] == [("zeros", []), ("w", positive), ("none", [])]
        assert set(lists(sample(few, 2, seeded(seed)))["w"]) <= set(positive)


@pytest.mark.parametrize(("mark", "expected"), [(0.0, 2), (1 - 2**-53, 66)])
def test_the_smallest_and_largest_random_numbers_stay_inside(mark, expected, monkeypatch):
    weights = torch.zeros(200)
    weights[2:67] = torch.rand(65, generator=seeded()) + 0.1
    weights[4:60:3] = 0
    monkeypatch.setattr(torch, "rand", lambda n, **_: torch.full((n,), mark, dtype=torch.float64))
    for scale in (1.0, 3e-38, 7e37, 1 / 3):
        scaled = {"z": torch.zeros(100), "w": weights * scale}
        assert lists(sample(scaled, 1, seeded()))["w"] == [expected]


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65])
def test_the_last_entry_of_a_short_block_can_be_drawn_and_none_beyond(size):
    weights = {"a": torch.ones(size), "b": torch.ones(65), "c": torch.ones(())}
    index = lists(sample(weights, size + 66, seeded()))
    assert index == {"a": [*range(size)], "b": [*range(65)], "c": [0]}
    weights["a"] = torch.zeros(size)
    weights["a"][-1:] = 1
    assert lists(sample(weights, 67 if size else 66, seeded()))["a"] == ([size - 1] if size else [])


def test_no_limit_at_2_to_the_24():
    """torch.multinomial refuses more entries. One value stands for all: no memory is needed."""
    weights = torch.ones(1).expand(2**24 + 1000)
    index = sample({"w": weights}, 4_000, seeded())["w"]
    assert len(set(index.tolist())) == 4_000
    assert int(index[0]) < 2**16 and int(index[-1]) > 2**24 - 2**16
    assert abs(float((index < 2**23).float().mean()) - 0.5) < 4 * (0.25 / 4_000) ** 0.5


# --- the result


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrow_weights_are_squared_in_float64(dtype):
    """300^2 is infinite in float16, and 2^-20 squared is zero there."""
    for value in (300.0, 2.0**-20):
        weights = {"w": torch.tensor([value, 0.0, value], dtype=dtype)}
        assert lists(sample(weights, 2, seeded(), power=2)) == {"w": [0, 2]}


def test_the_same_seed_draws_the_same_and_another_another():
    weights = {"a": torch.rand(3_000, generator=seeded()), "b": torch.rand(500, generator=seeded())}
    first = lists(sample(weights, 200, seeded(1)))
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert lists(sample(weights, 200, seeded(1))) == first
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn from the global generator"
    assert lists(sample(weights, 200, seeded(2))) != first
    generator = seeded(1)
    assert lists(sample(weights, 200, generator)) == first
    assert lists(sample(weights, 200, generator)) != first, "the generator has moved on"


def test_the_number_of_threads_and_the_size_of_pieces_move_nothing(monkeypatch):
    weights = {"a": torch.rand(700_000, generator=seeded()), "b": torch.ones(100)}
    first = sample(weights, 9_000, seeded(), power=2)["a"]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert torch.equal(sample(weights, 9_000, seeded(), power=2)["a"], first)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(blocks, "_CHUNK", {"cpu": 1 << 16})
    monkeypatch.setattr(sampling, "_ROWS", 100)
    assert torch.equal(sample(weights, 9_000, seeded(), power=2)["a"], first)


def test_draws_are_pinned():
    """A recorded cell is drawn again from its seed, by any later version of this program."""
    weights = {"a": torch.arange(40.0), "b": torch.arange(60.0).view(6, 10)}
    index = sample(weights, 8, seeded(11), power=2)
    assert lists(index) == {"a": [30, 35, 37, 39], "b": [16, 27, 46, 53]}


# --- computed weights, and fewer than asked for


def test_weights_that_are_computed_are_drawn_as_if_they_were_stored(block):
    left, right, factor = (torch.randn(n, 9, generator=seeded(n)) for n in (7, 7, 1))
    left, right, factor = left, right.flip(0).abs(), factor[0]
    stored = (left * right * factor).abs()
    others = {"a": torch.rand(5, generator=seeded()), "z": torch.ones(1)}
    for k in (1, 6, 40):
        expected = lists(sample({**others, "w": stored}, k, seeded(k), power=2))
        computed = {**others, "w": Product(left, right, factor)}
        assert lists(sample(computed, k, seeded(k), power=2)) == expected


@pytest.mark.parametrize("power", [1, 2])
def test_if_fewer_are_positive_than_asked_for_all_of_them_are_drawn(power, block):
    weights = {"a": torch.tensor([0.0, 1.0, 1e-30, 0.0]), "b": torch.tensor([2.0, 0.0])}
    for k in (3, 4, 100):
        index = sample(weights, k, seeded(), power=power, short=True)
        assert lists(index) == {"a": [1, 2], "b": [0]}
    assert sum(map(len, sample(weights, 2, seeded(), power=power, short=True).values())) == 2
    for nothing in ({}, {"w": torch.zeros(70)}):
        index = sample(nothing, 3, seeded(), power=power, short=True)
        assert lists(index) == {name: [] for name in nothing}


# --- errors


@pytest.mark.parametrize(
    ("value", "name"), [(float("nan"), "nan"), (INF, "inf"), (-INF, "-inf"), (-0.5, "-0.5")]
)
def test_weights_that_are_no_weights_are_refused(value, name):
    bad = torch.ones(2, 70, dtype=torch.bfloat16)
    bad[1, 3] = value
    with pytest.raises(InputError) as error:
        sample({"fine": torch.ones(3), "layer.weight": bad}, 1, seeded())
    assert str(error.value) == (
        f"a weight of layer.weight is {name} at flat position 73; "
        "it must be finite and not negative"
    )


@pytest.mark.parametrize(
    ("k", "options", "message"),
    [
        (-1, {}, "k is -1; it must be at least 0"),
        (4, {}, "k is 4; it must be at most 3, the number of positive weights"),
        (100, {"power": 2}, "k is 100; it must be at most 3, the number of positive weights"),
        (1, {"power": 1.5}, "power is 1.5; it must be one of 1, 2"),
        (1, {"power": 0}, "power is 0; it must be one of 1, 2"),
    ],
)
def test_other_numbers_and_powers_are_refused(k, options, message, block):
    weights = {"a": torch.tensor([0.0, 1.0, 1e-30, 0.0]), "b": torch.tensor([2.0, 0.0])}
    assert lists(sample(weights, 3, seeded(), power=2)) == {"a": [1, 2], "b": [0]}
    assert lists(sample(weights, 0, seeded())) == {"a": [], "b": []}
    with pytest.raises(InputError, match=f"^{message}$"):
        sample(weights, k, seeded(), **options)
    for nothing in ({}, {"w": torch.zeros(5)}, {"w": torch.zeros(0)}):
        with pytest.raises(InputError, match="^k is 1; it must be at most 0, the number of pos"):
            sample(nothing, 1, seeded())
    message = "^weights of w are float64; they must be one of float32, bfloat16, float16$"
    with pytest.raises(InputError, match=message):
        sample({"w": torch.ones(2, dtype=torch.float64)}, 1, seeded())
