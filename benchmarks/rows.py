"""What is promised, and the two sides of each row: seqlab as its users get it, and a named baseline.

Sizes are (N, L, H_in, H): batch, steps, input, hidden. "Training" is forward and backward, with the gradients of the
input and all parameters. Both sides get the same numbers, and their results are compared before they are timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import seqlab
from seqlab.attention import AdditiveAttention
from seqlab.gradients import GradientMonitor, lag_spectrum
from seqlab.tbptt import tbptt

from .timing import Pair, Work

SIZES = [
    (32, 35, 128, 256),
    (16, 100, 64, 128),
    (32, 200, 256, 256),
    (8, 512, 128, 512),
    (64, 50, 32, 64),
    (1, 1000, 64, 128),
    (16, 30, 32, 32),
]
FASTEST = {SIZES[1], SIZES[3], SIZES[5], SIZES[6]}  # where RNN and GRU are promised in half the time
PROMISED = {("GRU", SIZES[1]): 0.55, ("RNN", SIZES[0]): 0.80, ("RNN", (24, 80, 96, 192)): 0.80}  # and what differs
LONG = [(32, 200, 32, 64), (16, 300, 64, 128)]


class Row(NamedTuple):
    """A line of the table."""

    promise: str
    size: str
    baseline: str
    at_most: float | None  # of the ratio; None where nothing is promised
    make: Pair
    memory: bool = False
    alike: bool = True  # whether both sides compute the same


def rows() -> Iterator[Row]:
    """Every row that a CPU can run, in the order of the table."""
    most = {"GRU": 0.80, "RNN": 0.75}
    for kind in ("GRU", "RNN"):
        for size in (*SIZES, (24, 80, 96, 192)):
            at_most = PROMISED.get((kind, size), 0.50 if size in FASTEST else most[kind])
            yield Row(f"{kind} training", str(size), f"nn.{kind}", at_most, partial(training, kind, size))
    for size in SIZES:
        yield Row("LSTM training, float32", str(size), "nn.LSTM", 1.05, partial(training, "LSTM", size))
    for size in SIZES:
        make = partial(training, "LSTM", size, dtype=torch.float64)
        yield Row("LSTM training, float64", str(size), "nn.LSTM", 0.90, make)
    for kind, at_most in (("LSTM", 0.20), ("GRU", 0.30), ("RNN", 0.30)):
        for directions in (1, 2):
            size = f"{SIZES[1]} {'both directions' if directions == 2 else ''}".strip()
            make = partial(variable_length, kind, SIZES[1], directions)
            yield Row(f"{kind}, lengths L/2 to L", size, f"nn.{kind}, packed", at_most, make)
    for kind, at_most in (("LSTM", 0.15), ("GRU", 0.20), ("RNN", 0.20)):
        for size in LONG:
            make = partial(training, kind, size, last_step=True)
            yield Row(f"{kind}, loss on the last step", str(size), f"nn.{kind}", at_most, make)
    for size in (SIZES[0], SIZES[1], SIZES[4], SIZES[6]):
        yield Row("GRU training, reset before", str(size), "its own loop", 0.50, partial(reset_before, size))
    for kind in ("GRU", "RNN", "LSTM"):
        for norms_only, what, at_most in ((True, "norm of each step", 1.03), (False, "GradientMonitor", 1.10)):
            make = partial(monitored, kind, SIZES[1], norms_only)
            yield Row(f"{kind} by hand, {what}", str(SIZES[1]), "without", at_most, make)
    attention = "50 queries of 100 keys, N=32, H=256"
    yield Row("additive attention, memory", attention, "broadcast", 0.10, additive, memory=True)
    yield Row("additive attention, training", attention, "broadcast", 1.00, additive)
    for k1, k2 in ((20, 40), (10, 40)):
        for thrifty, baseline, at_most in ((False, "forward pass run again", 0.85), (True, "same, states kept", None)):
            make = partial(truncated, k1, k2, thrifty)
            yield Row(f"TBPTT({k1}, {k2}) of a GRU", "(16, 240, 64, 128)", baseline, at_most, make)
    for kind in ("LSTM", "GRU", "RNN"):
        for size in SIZES:
            yield Row(f"{kind} inference", str(size), f"nn.{kind}", 1.05, partial(inference, kind, size))
    for kind in ("RNN", "LSTM", "GRU"):
        make = partial(spectrum, kind)
        yield Row(f"lag spectrum of {kind}, k <= 20", "(8, 60, 16, 32)", "autograd, step by step", None, make)


def gpu_rows() -> Iterator[Row]:
    """What is measured on CUDA, where torch's kernels, cuDNN's, do the work."""
    for kind in ("LSTM", "GRU", "RNN"):
        for size in SIZES[:4]:
            yield Row(f"{kind} training", str(size), f"nn.{kind}", None, partial(training, kind, size, device="cuda"))
    for size in SIZES[:3]:
        make = partial(reset_before, size, device="cuda")
        yield Row("GRU training, reset before", str(size), "its own loop", None, make)
        make = partial(reset_before, size, device="cuda", cudnn=True)
        at_most = 3.0 if size == SIZES[2] else None
        yield Row("GRU training, reset before", str(size), "cuDNN's nn.GRU, reset after", at_most, make, alike=False)
    for kind in ("LSTM", "GRU", "RNN"):
        for size in SIZES[1:3]:
            for norms_only, what in ((True, "norm of each step"), (False, "GradientMonitor")):
                make = partial(monitored, kind, size, norms_only, device="cuda")
                yield Row(f"{kind}, {what}", str(size), "not watched", 1.50, make)
    yield Row("additive attention, training", "as above", "broadcast", 1.10, partial(additive, device="cuda"))


def layers(kind: str, H_in: int, H: int, **options: Any) -> tuple[nn.Module, nn.Module]:
    """seqlab's layer and torch's, with the same weights."""
    ours, theirs = getattr(seqlab, kind)(H_in, H, **options), getattr(nn, kind)(H_in, H, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def training(
    kind: str,
    size: tuple[int, ...],
    last_step: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> tuple[Work, Work]:
    """A training step, with an error at every step of the output or at the last alone."""
    N, L, H_in, H = size
    x = torch.randn(L, N, H_in, dtype=dtype, device=device).requires_grad_()
    error = torch.randn(N, H, dtype=dtype, device=device) if last_step else torch.randn_like(x[..., :1]).expand(L, N, H)
    error = error.contiguous()

    def step(layer: nn.Module) -> tuple[Tensor, ...]:
        output = layer(x)[0]
        return grad(output[-1] if last_step else output, [x, *layer.parameters()], error)

    ours, theirs = layers(kind, H_in, H, dtype=dtype, device=device)
    return partial(step, ours), partial(step, theirs)


def variable_length(kind: str, size: tuple[int, ...], directions: int) -> tuple[Work, Work]:
    """A training step on a packed batch; lengths between L/2 and L, evenly drawn."""
    N, L, H_in, H = size
    lengths = torch.randint(L // 2, L + 1, (N,))
    lengths[0] = L
    packed = pack_padded_sequence(torch.randn(L, N, H_in), lengths, enforce_sorted=False)
    packed = PackedSequence(packed.data.requires_grad_(), *packed[1:])
    error = torch.randn(len(packed.data), directions * H)

    def step(layer: nn.Module) -> tuple[Tensor, ...]:
        return grad(layer(packed)[0].data, [packed.data, *layer.parameters()], error)

    ours, theirs = layers(kind, H_in, H, bidirectional=directions == 2)
    return partial(step, ours), partial(step, theirs)


def inference(kind: str, size: tuple[int, ...]) -> tuple[Work, Work]:
    """The forward pass alone."""
    N, L, H_in, H = size
    x = torch.randn(L, N, H_in)

    @torch.no_grad()
    def run(layer: nn.Module) -> Tensor:
        return layer(x)[0]

    ours, theirs = layers(kind, H_in, H)
    return partial(run, ours), partial(run, theirs)


def reset_before(size: tuple[int, ...], device: str = "cpu", cudnn: bool = False) -> tuple[Work, Work]:
    """A training step of the GRU that torch does not have, by the fastest engine, and by the loop or torch's GRU."""
    N, L, H_in, H = size
    x = torch.randn(L, N, H_in, device=device).requires_grad_()
    error = torch.randn(L, N, H, device=device)
    ours, loop = (seqlab.GRU(H_in, H, reset_after=False, backend=b, device=device) for b in ("auto", "loop"))
    loop.load_state_dict(ours.state_dict())
    baseline = nn.GRU(H_in, H, device=device) if cudnn else loop

    def step(layer: nn.Module) -> tuple[Tensor, ...]:
        return grad(layer(x)[0], [x, *layer.parameters()], error)

    return partial(step, ours), partial(step, baseline)


def monitored(kind: str, size: tuple[int, ...], norms_only: bool = False, device: str = "cpu") -> tuple[Work, Work]:
    """A training step, watched and not: a report, or the norm of each step's gradient. On the CPU both by hand."""
    N, L, H_in, H = size
    x, error = torch.randn(L, N, H_in, device=device), torch.randn(L, N, H, device=device)
    backend = "hand" if device == "cpu" else "auto"
    watched, plain = (getattr(seqlab, kind)(H_in, H, backend=backend, device=device) for _ in range(2))
    watched.load_state_dict(plain.state_dict())
    if norms_only:
        watched.watch_gradients(lambda *_: lambda gradients: torch.linalg.vector_norm(gradients["h"], dim=(1, 2)))
    else:
        monitor = GradientMonitor(watched).__enter__()  # to the end of the process

    def step(layer: nn.Module) -> tuple[Tensor, ...]:
        layer.zero_grad()
        layer(x)[0].backward(error)
        if layer is watched and not norms_only:
            monitor.step()
        return tuple(p.grad for p in layer.parameters())

    return partial(step, watched), partial(step, plain)


def additive(N: int = 32, device: str = "cpu") -> tuple[Work, Work]:
    """A training step of Bahdanau's attention, against tanh of all sums of queries and keys in one tensor."""
    queries, keys, H = 50, 100, 256
    attention = AdditiveAttention(H, H, H, device=device)
    q, k = (torch.randn(N, n, H, device=device).requires_grad_() for n in (queries, keys))
    error = torch.randn(N, queries, H, device=device)
    leaves = [q, k, *attention.parameters()]

    def ours() -> tuple[Tensor, ...]:
        return grad(attention(q, k)[0], leaves, error)

    def broadcast() -> tuple[Tensor, ...]:
        query, key = q @ attention.weight_query.t(), k @ attention.weight_key.t()
        scores = torch.tanh(query.unsqueeze(2) + key.unsqueeze(1)) @ attention.weight_score
        return grad(torch.softmax(scores, -1) @ k, leaves, error)

    return ours, broadcast


def truncated(k1: int, k2: int, thrifty: bool = False) -> tuple[Work, Work]:
    """A sequence in windows, without updates. The baseline goes over a window of k2 steps again for every k1 steps.

    The usual form runs the new steps first, for the state, then the window; the thrifty one finds the state in a
    window's output.
    """
    N, L, H_in, H = 16, 240, 64, 128
    layer, x, y = seqlab.GRU(H_in, H), torch.randn(L, N, H_in), torch.randn(L, N, H)

    def ours() -> tuple[Tensor, ...]:
        layer.zero_grad()
        for _ in tbptt(layer, x, y, nn.functional.mse_loss, k1, k2):
            pass
        return tuple(p.grad for p in layer.parameters())

    def again() -> tuple[Tensor, ...]:
        layer.zero_grad()
        states = [torch.zeros(1, N, H)]  # before each window of k1 steps
        for stop in range(k1, L + 1, k1):
            start = max(0, stop - k2)
            if not thrifty:
                with torch.no_grad():
                    states.append(layer(x[stop - k1 : stop], states[-1])[1])
            output, h_n = layer(x[start:stop], states[start // k1])
            nn.functional.mse_loss(output[-k1:], y[stop - k1 : stop]).backward()
            if thrifty:
                states.append(h_n.detach())
        return tuple(p.grad for p in layer.parameters())

    return ours, again


def spectrum(kind: str) -> tuple[Work, Work]:
    """How far back each step's loss reaches, for all steps at once, against a backward pass for each of them."""
    N, L, H_in, H, most = 8, 60, 16, 32, 20
    layer, x, y = getattr(seqlab, kind)(H_in, H), torch.randn(L, N, H_in), torch.randn(L, N, H)

    def loss(output: Tensor) -> Tensor:
        return (output - y).square().mean(-1)

    def ours() -> Tensor:
        return lag_spectrum(layer, x, loss, most)["h"].nan_to_num()

    def one_by_one() -> Tensor:
        found, states = torch.zeros(L, N, most + 1, dtype=torch.float64), []
        with layer.watch(lambda _layer, _direction, _t, state: states.append(state["h"])):
            losses = loss(layer(x)[0]).sum(1)
        for t in range(L):
            reached = states[max(0, t - most) : t + 1]
            for k, g in enumerate(reversed(grad(losses[t], reached, retain_graph=True))):
                found[t, :, k] = g.double().norm(dim=-1)
        return found

    return ours, one_by_one
