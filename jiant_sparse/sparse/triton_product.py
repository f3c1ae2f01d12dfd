"""The gradient of chosen entries of a linear layer's weight, as a Triton kernel for CUDA.

torch.sparse.sampled_addmm computes the same in float32 and has no half precision. Triton is
optional: without it this module imports and `available` is False. The kernels have run in
Triton's interpreter and been compiled for sm_80 and sm_90; they have not run on a GPU.

Layout. A product needs one column of each operand. In (tokens, features) order two tokens of a
column are 2 * features bytes apart, so every half costs a 32-byte sector: sixteen times the bytes.
One pass therefore turns each operand to (features, tokens), through square tiles whose reads and
writes are whole 128-byte lines.

Blocking. At 2,048 tokens a product is two contiguous runs of 4 KiB of halves, read from the L2
cache, which holds the turned operands (at most 16 MB). Entries are sorted by row and a row has 4 to
15, so the 4 of a program mostly share their gradient's run, which stays in L1. A step of 4 entries
x 512 tokens is four 16-byte loads in flight on each of 128 threads; 2,949 entries make 738
programs, 5 to 6 for each of 132 multiprocessors. Larger programs would be too few to hide latency.

Determinism. Each product is summed by one program: 512 partial sums, a fixed tree over them, no
atomics, and block sizes that nothing tunes at run time.
"""

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

HALF = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, *HALF)
_SIDE = 64  # of a transposed tile: a line of 128 bytes of halves each way
_ENTRIES = 4
_TOKENS = 512


if triton is not None:

    @triton.jit
    def _turn(
        source, target, tokens, features, token_stride, feature_stride, width, SIDE: tl.constexpr
    ):
        """target[f, t] = source[t, f], and zero for t from `tokens` to `width`."""
        tile = tl.program_id(0)
        tiles_across = width // SIDE
        # 64 bits: an offset in a large operand exceeds 32.
        token = (tile % tiles_across).to(tl.int64) * SIDE + tl.arange(0, SIDE)
        feature = (tile // tiles_across).to(tl.int64) * SIDE + tl.arange(0, SIDE)
        values = tl.load(
            source + token[:, None] * token_stride + feature[None, :] * feature_stride,
            mask=(token < tokens)[:, None] & (feature < features)[None, :],
            other=0,
        )
        tl.store(
            target + feature[:, None] * width + token[None, :],
            tl.trans(values),
            mask=(feature < features)[:, None],
        )

    @triton.jit
    def _products(
        gradient,
        inputs,
        row,
        column,
        result,
        entries,
        width,
        ENTRIES: tl.constexpr,
        TOKENS: tl.constexpr,
    ):
        """result[e] = gradient[row[e]] . inputs[column[e]] over `width` contiguous tokens."""
        entry = tl.program_id(0).to(tl.int64) * ENTRIES + tl.arange(0, ENTRIES)
        real = entry < entries
        # The entries past the last repeat (0, 0), which exists, and are not stored.
        gradient_row = tl.load(row + entry, mask=real, other=0).to(tl.int64)[:, None]
        inputs_row = tl.load(column + entry, mask=real, other=0).to(tl.int64)[:, None]
        total = tl.zeros((ENTRIES, TOKENS), dtype=tl.float32)
        for start in range(0, width, TOKENS):
            token = start + tl.arange(0, TOKENS)[None, :]
            inside = token < width
            left = tl.load(gradient + gradient_row * width + token, mask=inside, other=0)
            right = tl.load(inputs + inputs_row * width + token, mask=inside, other=0)
            total += left.to(tl.float32) * right.to(tl.float32)
        tl.store(result + entry, tl.sum(total, axis=1), mask=real)


def available() -> bool:
    """Whether Triton can be imported; found out once, when this module is imported."""
    return triton is not None


def sampled(gradient: Tensor, inputs: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The sum over t of gradient[t, row[e]] * inputs[t, column[e]] for each entry e: (k,) float32.

    gradient: (tokens, out) and inputs: (tokens, in), any strides, both float32, bfloat16 or
    float16, on one CUDA device. row, column: (k,) int32 or int64, in range, which is not checked;
    sorted by row for speed only. Accumulates in float32; equal arguments give equal bits.
    Not differentiable. Raises ValueError for other arguments, RuntimeError without Triton.
    """
    _check(gradient, inputs, row, column)
    entries = row.numel()
    result = torch.zeros(entries, dtype=torch.float32, device=gradient.device)
    if entries == 0 or gradient.shape[0] == 0:
        return result
    with torch.cuda.device_of(gradient):  # Triton launches on the current device
        turned, turned_inputs = _by_feature(gradient), _by_feature(inputs)
        _products[(triton.cdiv(entries, _ENTRIES),)](
            turned,
            turned_inputs,
            row.contiguous(),
            column.contiguous(),
            result,
            entries,
            turned.shape[1],
            ENTRIES=_ENTRIES,
            TOKENS=_TOKENS,
        )
    return result


def _by_feature(source: Tensor) -> Tensor:
    """(tokens, features) as (features, width), its rows filled with zeros to whole tiles.

    The filling aligns every row to 16 bytes and its end to whole 16-byte loads.
    """
    tokens, features = source.shape
    width = triton.cdiv(tokens, _SIDE) * _SIDE
    target = source.new_empty((features, width))
    tiles = width // _SIDE * triton.cdiv(features, _SIDE)
    _turn[(tiles,)](source, target, tokens, features, *source.stride(), width, SIDE=_SIDE)
    return target


def _check(gradient: Tensor, inputs: Tensor, row: Tensor, column: Tensor) -> None:
    """Raises what `sampled` says, before anything is launched."""
    if triton is None:
        raise RuntimeError("triton_product.sampled needs Triton, which cannot be imported")
    if gradient.ndim != 2 or inputs.ndim != 2 or gradient.shape[0] != inputs.shape[0]:
        shapes = tuple(gradient.shape), tuple(inputs.shape)
        _refuse("gradient and inputs", shapes, "they must be (tokens, out), (tokens, in)")
    if gradient.dtype != inputs.dtype or gradient.dtype not in DTYPES:
        allowed = ", ".join(map(str, DTYPES))
        dtypes = gradient.dtype, inputs.dtype
        _refuse("gradient and inputs", dtypes, f"they must both be one of {allowed}")
    if row.ndim != 1 or row.shape != column.shape:
        _refuse("row and column", (tuple(row.shape), tuple(column.shape)), "they must both be (k,)")
    if not {row.dtype, column.dtype} <= {torch.int32, torch.int64}:
        dtypes = row.dtype, column.dtype
        _refuse("row and column", dtypes, "they must be torch.int32 or torch.int64")
    devices = {tensor.device for tensor in (gradient, inputs, row, column)}
    if len(devices) != 1:
        got = ", ".join(sorted(map(str, devices)))
        raise ValueError(f"the arguments are on {got}; they must be on one device")
    # In Triton's interpreter a kernel is no JITFunction, and runs on CPU tensors.
    if isinstance(_products, triton.JITFunction) and not gradient.is_cuda:
        raise ValueError(f"the arguments are on {gradient.device}; Triton needs a CUDA device")


def _refuse(names: str, got: tuple[object, object], allowed: str) -> None:
    raise ValueError(f"{names} are {got[0]} and {got[1]}; {allowed}")
