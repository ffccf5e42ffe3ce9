"""Matrix products of the hand-written passes, each from the library of torch's two that is fast on this processor.

torch gives float32 products to MKL, which uses AVX-512 on Intel's processors alone; oneDNN, to which torch gives its
own LSTM, uses it on all. On an AMD processor with AVX-512 oneDNN takes half the time. It has no float64, and costs
about 10 µs a call, so that small products stay where they are. ``torch.backends.mkldnn.enabled = False`` turns it off.
R rows, K columns in, G columns out.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

CHUNK = 512  # rows that oneDNN gets at once: it compiles a kernel for each new shape, which takes a millisecond
Adder = Callable[[Tensor, Tensor], Tensor]


def linear(x: Tensor, W: Tensor, b: Tensor | None, out: Tensor) -> None:
    """out = x Wᵀ + b: x (R, K), W (G, K), b (G), out (R, G)."""
    whole = _whole(x, len(W))
    for k in range(0, whole, CHUNK):
        out[k : k + CHUNK] = _onednn_linear(x[k : k + CHUNK], W, b)
    if b is None:
        torch.mm(x[whole:], W.t(), out=out[whole:])
    else:
        torch.addmm(b, x[whole:], W.t(), out=out[whole:])


def outer(d: Tensor, x: Tensor) -> Tensor:
    """dᵀ x, the sum of the outer products of the rows of d (R, G) and x (R, K): (G, K)."""
    whole = _whole(x, d.shape[1])
    total = d[whole:].t() @ x[whole:]
    for k in range(0, whole, CHUNK):
        total += _onednn_linear(x[k : k + CHUNK].t().contiguous(), d[k : k + CHUNK].contiguous().t(), None).t()
    return total


def _whole(x: Tensor, G: int) -> int:
    """How many rows of x oneDNN takes."""
    return len(x) - len(x) % CHUNK if _by_onednn(x, CHUNK * x.shape[1] * G) else 0


def adder(W: Tensor, N: int) -> Adder:
    """The function (out, x): out += x Wᵀ, for many x (N, K); W (G, K) is brought into the best layout once."""
    if _by_onednn(W, W.numel() * N):
        packed = torch.ops.mkldnn._reorder_linear_weight(W.contiguous(), N)
        product = torch.ops.mkldnn._linear_pointwise.default
        return lambda out, x: out.add_(product(x, packed, None, "none", [], ""))
    Wt = W.contiguous().t() if mkl_is_slow() and N > 1 else W.t().contiguous()
    return lambda out, x: out.addmm_(x, Wt)


def _onednn_linear(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    """x Wᵀ + b."""
    if not (W.is_contiguous() or W.t().is_contiguous()):
        W = W.contiguous()  # with other layouts it takes a hundred times longer
    return torch.ops.mkldnn._linear_pointwise(x, W, b, "none", [], "")


def _by_onednn(x: Tensor, multiplications: int) -> bool:
    """Whether oneDNN is faster: for large products, of 2 million multiplications (40 µs with MKL) and more."""
    if multiplications < 2_000_000 or x.dtype != torch.float32 or x.device.type != "cpu":
        return False
    return bool(torch.backends.mkldnn.enabled) and mkl_is_slow()


@cache
def mkl_is_slow() -> bool:
    """Whether this is a processor with AVX-512 that is not Intel's, and torch has oneDNN."""
    ops = torch.ops.mkldnn
    if not (hasattr(ops, "_linear_pointwise") and hasattr(ops, "_reorder_linear_weight")):
        return False
    cpuinfo = Path("/proc/cpuinfo")  # on Linux platform.processor() does not name the maker
    maker = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and "GenuineIntel" not in maker
