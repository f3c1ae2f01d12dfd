"""Every index comes back from its code, in as few bytes as promised; nothing else is read."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.index_codes import CODES, decode, encode


def spread(count, density):
    """Positions of `count`, each taken with the same probability."""
    return torch.from_numpy(np.flatnonzero(np.random.default_rng(0).random(count) < density))


def stored_bytes(stored):
    return stored.numel() * stored.element_size()


def spelled(positions, escape):
    """Gaps one number at a time."""
    numbers, expected = [], 0
    for position in positions:
        gap = position - expected
        while gap >= escape:
            numbers.append(escape)
            gap -= escape
        numbers.append(gap)
        expected = position + 1
    return numbers


# By code: positions for which it is the smallest, and what is stored.
LAYOUTS = [
    ("bits", [0], [0b00000001]),
    ("bits", [2, 3, 23], [0b00001100, 0, 0b10000000]),
    ("gaps8", [24], [24]),
    ("gaps8", [1, 3, 100], [1, 1, 96]),
    ("gaps8", [0, 255, 511], [0, 254, 255, 0]),
    ("gaps8", [510, 511], [255, 255, 0, 0]),
    ("gaps8", [9, 775, 776, 777], [9, 255, 255, 255, 0, 0, 0]),
    ("gaps16", [765], [765]),
    ("gaps16", [600, 66135, 66136], [600, 65534, 0]),
    ("gaps16", [700, 66236, 66237], [700, 65535, 0, 0]),
    ("int32", [131_070], [131_070]),
    ("int32", [0, 2**31 - 1], [0, 2**31 - 1]),
    ("int64", [0, 2**31], [0, 2**31]),
    ("int64", [2**40], [2**40]),
]


@pytest.mark.parametrize(("code", "positions", "numbers"), LAYOUTS)
def test_the_layout_of_each_code(code, positions, numbers):
    found, stored = encode(torch.tensor(positions))
    assert (found, stored.tolist()) == (code, numbers)
    assert stored.dtype == CODES[code]
    assert decode(code, stored, len(positions)).tolist() == positions


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.lists(st.integers(0, 200), min_size=1, unique=True),
        st.lists(st.integers(0, 20_000), min_size=1, unique=True),
        st.lists(st.sampled_from([k * n + d for k in (255, 65535) for n in range(9)
                                  for d in (0, 1, 2)]), min_size=1, unique=True),
        st.lists(st.integers(0, 2**40), min_size=1, unique=True),
    )
)  # fmt: skip
@example([254])
@example([255, 256])
@example([65534, 131_070])
def test_an_index_goes_round_in_the_smallest_code(positions):
    index = torch.tensor(sorted(positions))
    code, stored = encode(index)
    back = decode(code, stored, len(index))
    assert back.dtype == torch.int64 and torch.equal(back, index)
    last = int(index[-1])
    assert stored_bytes(stored) == min(
        last // 8 + 1,
        len(spelled(index.tolist(), 255)) if last < 10**6 else 2**62,
        2 * len(spelled(index.tolist(), 65535)) if last < 10**8 else 2**62,
        (4 if last < 2**31 else 8) * len(index),
    )


@pytest.mark.parametrize(
    ("density", "code", "least", "most"),
    [
        (0.5, "bits", 0.24, 0.26),
        (0.05, "gaps8", 1.0, 1.001),
        (0.005, "gaps8", 1.37, 1.40),
        (0.001, "gaps16", 2.0, 2.001),
        (0.000_1, "gaps16", 2.0, 2.05),
        (0.000_01, "int32", 4.0, 4.0),
    ],
)
def test_bytes_for_each_position(density, code, least, most):
    index = spread(3_000_000, density)
    found, stored = encode(index)
    assert found == code
    assert least <= stored_bytes(stored) / len(index) <= most


def numbers(values, dtype):
    return torch.tensor(values).to(dtype)


REFUSALS = [
    ("zip", numbers([1], torch.uint8), 1, "code is 'zip'; it must be one of bits, gaps8, gaps16"),
    ("bits", numbers([1], torch.int32), 1, "bits are int32 [1]; they must be uint8 [n], n >= 1"),
    ("gaps16", numbers([1], torch.uint8), 1, "gaps16 are uint8 [1]; they must be uint16 [n]"),
    ("gaps8", numbers([[1]], torch.uint8), 1, "gaps8 are uint8 [1, 1]; they must be uint8 [n]"),
    ("gaps8", numbers([], torch.uint8), 0, "gaps8 are uint8 [0]; they must be uint8 [n], n >= 1"),
    ("bits", numbers([0, 6], torch.uint8), 3, "bits hold 2 positions; there are 3 values"),
    ("gaps8", numbers([255, 6], torch.uint8), 2, "gaps8 hold 1 positions; there are 2 values"),
    ("gaps8", numbers([255], torch.uint8), 1, "gaps8 hold 0 positions; there are 1 values"),
    ("int32", numbers([1, 6], torch.int32), 1, "int32 hold 2 positions; there are 1 values"),
    ("gaps8", numbers([6, 255], torch.uint8), 1, "gaps stop inside a gap; the last must end with"),
]


@pytest.mark.parametrize(("code", "stored", "count", "message"), REFUSALS)
def test_what_is_no_index_is_refused(code, stored, count, message):
    with pytest.raises(InputError) as error:
        decode(code, stored, count)
    assert str(error.value).startswith(message)
