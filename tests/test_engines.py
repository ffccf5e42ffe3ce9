"""The gradient of a layer, whatever engine computes it, watched or not: float64 says what is right.

Float32 is compared where the problem is well conditioned: weights that move by 1e-6 of their size move the gradient by
less than 1 %. There each engine must be as near to float64 as torch.nn is: to 3e-4, or to 30 times torch's error.
"""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import seqlab

f64 = torch.float64
KINDS = ["LSTM", "GRU", "RNN"]
onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


def rows(output: Tensor | PackedSequence) -> Tensor:
    return output.data if isinstance(output, PackedSequence) else output


def lengths_of(L: int, N: int) -> Tensor:
    return torch.linspace(max(1, L // 8), L, N).long()


LOSSES = {  # of (output (L, N, H), final h (N, H)) and of the sequences' lengths
    "dense": lambda y, h, n: y.square().sum(),
    "last step": lambda y, h, n: y[-1].square().sum(),
    "h_n": lambda y, h, n: h.sin().sum(),
    "each row's end": lambda y, h, n: y[n - 1, torch.arange(len(n))].square().sum(),
    "one row only": lambda y, h, n: y[-1, 0].square().sum(),
    "an early step": lambda y, h, n: y[len(y) // 8].square().sum(),
    "two steps far apart": lambda y, h, n: y[-1].square().sum() + y[len(y) // 4].square().sum(),
    "the second half": lambda y, h, n: y[len(y) // 2 :].square().sum(),
    "every 50th step": lambda y, h, n: y[::50].square().sum(),
}
INPUTS = {  # of x (L, N, H_in) and the lengths
    "as drawn": lambda x, n: x,
    "padded": lambda x, n: torch.where((torch.arange(len(x))[:, None] < n)[..., None], x, 0.0),
    "empty slots": lambda x, n: torch.cat([x[:, :1], torch.zeros_like(x[:, 1:])], 1),
    "times 20": lambda x, n: 20 * x,
}


def close_late(layer: nn.RNNBase, x: Tensor, steps: int, how_far: float) -> Tensor:
    """A further input closes all gates of the last steps: of an LSTM the forget and the output gate, of a GRU z."""
    x = torch.cat([x, torch.zeros_like(x[..., :1])], -1)
    x[len(x) - steps :, :, -1] = 1
    H = layer.hidden_size
    with torch.no_grad():
        layer.weight_ih_l0[:, -1] = 0
        if isinstance(layer, nn.LSTM):
            layer.weight_ih_l0[H : 2 * H, -1] = layer.weight_ih_l0[3 * H :, -1] = -how_far
        elif isinstance(layer, nn.GRU):
            layer.weight_ih_l0[H : 2 * H, -1] = -how_far
    return x


def problem(kind, seed, L, N, H, scale, forget_bias, input="as drawn", closed=0, how_far=0):
    """torch's layer in float32, and its input."""
    torch.manual_seed(seed)
    layer, x = getattr(nn, kind)(4, H), torch.randn(L, N, 3)
    x = close_late(layer, INPUTS[input](x, lengths_of(L, N)), closed, how_far)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(scale)
        if kind == "LSTM":
            layer.bias_hh_l0[H : 2 * H] += forget_bias
    return layer, x


def gradient(layer, x, loss) -> list[Tensor]:
    """By input sample and by parameter, in float64, on whatever the layer computes with."""
    x = x.to(layer.weight_hh_l0.dtype).detach().requires_grad_()
    output, final = layer(x)
    h = (final[0] if isinstance(final, tuple) else final)[-1]
    found = torch.autograd.grad(LOSSES[loss](output, h, lengths_of(*x.shape[:2])), [x, *layer.parameters()])
    return [*found[0].double().unbind(1), *(d.double() for d in found[1:])]


def error(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Of each tensor, relative to its own size; to 1e-30 if it is smaller: subnormal numbers have played a part."""
    tiny = 1e8 * torch.finfo(torch.float32).tiny
    return [float((d - e).abs().max() / (e.abs().max() + tiny)) for d, e in zip(found, exact, strict=True)]


def watched(layer, x, loss):
    with layer.watch_gradients(lambda *_: lambda gradients: None):
        return gradient(layer, x, loss)


def compare(kind, loss, *setting, **more):
    """(Whether it was compared, messages about what is wrong.)"""
    layer, x = problem(kind, *setting, **more)
    double = copy.deepcopy(layer).double()
    exact = gradient(double, x, loss)
    if not all(d.isfinite().all() and d.abs().max() < 1e30 for d in exact):
        return False, []
    with torch.no_grad():
        for p in double.parameters():
            p.mul_(1 + 1e-6 * torch.randn_like(p))
    if max(error(gradient(double, x, loss), exact)) > 0.01:
        return False, []
    allowed = max(3e-4, 30 * max(error(gradient(layer, x, loss), exact)))
    wrong = []
    for backend in ("auto", "hand", "loop"):
        ours = getattr(seqlab, kind)(4, layer.hidden_size, backend=backend)
        ours.load_state_dict(layer.state_dict())
        for way in (gradient, watched):
            far = error(way(ours, x, loss), exact)
            if not all(e <= allowed for e in far):  # a NaN is wrong too
                wrong.append(f"{backend}, {way.__name__}: {far}, allowed {allowed}")
    return True, wrong


COMPARED = {"compared": 0, "ill conditioned": 0}


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["LSTM", "LSTM", "GRU", "RNN"]),
    loss=st.sampled_from(list(LOSSES)),
    seed=st.integers(0, 99),
    L=st.sampled_from([20, 130, 200, 400]),
    N=st.integers(1, 4),
    H=st.sampled_from([1, 5, 16]),
    scale=st.sampled_from([0, 0.3, 1, 4, 8, 40]),
    forget_bias=st.sampled_from([0, 1, 5]),
    input=st.sampled_from(list(INPUTS)),
    closed=st.sampled_from([0, 0, 4, 16]),
    how_far=st.sampled_from([5, 15, 40]),
)
def test_every_engine_is_as_near_to_float64_as_torch_is(**situation):
    compared, wrong = compare(**situation)
    COMPARED["compared" if compared else "ill conditioned"] += 1
    assert not wrong, "\n".join(wrong)


def test_the_comparison_above_has_compared():
    if sum(COMPARED.values()) >= 60:  # not if it was chosen away, or ran in another process
        assert COMPARED["compared"] >= 25, COMPARED


# Those that an offset of 1e-31 in oneDNN's backward pass got wrong by up to 1e34.


@pytest.mark.parametrize("loss", ["each row's end", "one row only", "last step"])
@pytest.mark.parametrize("input", ["padded", "empty slots"])
@pytest.mark.parametrize("scale", [4, 8, 40])
@pytest.mark.parametrize("closed", [0, 4, 16])
def test_padding_and_empty_slots_under_an_expanding_recurrence(loss, input, scale, closed):
    _, wrong = compare("LSTM", loss, 0, 600, 4, 16, scale, 1, input, closed, 15)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("scale", [1, 4, 6])
def test_two_thousand_steps(scale):
    _, wrong = compare("LSTM", "each row's end", 1, 2000, 3, 12, scale, 1, "padded")
    assert not wrong, "\n".join(wrong)


def smallest_case() -> tuple[nn.LSTM, Tensor]:
    """One unit whose recurrence expands where its input is 0: any error that is put there grows without bound."""
    layer = nn.LSTM(1, 1)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        layer.weight_ih_l0[2] = layer.weight_hh_l0[2] = 1
        layer.bias_ih_l0[[0, 1, 3]] = 10
    x = torch.zeros(128, 2, 1)
    x[:, 0] = 3
    return layer, x


@pytest.mark.parametrize("backend", ["auto", "hand", "loop", "torch"])
@pytest.mark.parametrize("packed", [False, True])
def test_an_empty_slot_has_gradient_zero(backend, packed):
    layer, x = smallest_case()
    ours = seqlab.LSTM(1, 1, backend=backend)
    ours.load_state_dict(layer.state_dict())
    found = []
    for one in (ours, layer):
        input = x.clone().requires_grad_()
        output = one(pack_padded_sequence(input, torch.tensor([128, 128])) if packed else input)[0]
        loss = rows(output)[-2 if packed else -1, 0]
        found.append(torch.autograd.grad(loss.sum(), [input, *one.parameters()]))
    for ours_, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=1e-4, atol=1e-10)
    assert not found[0][0][:, 1].any()
    assert max(float(d.abs().max()) for d in found[0]) < 1e-3


# What torch does to a backward pass.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("L", [20, 200])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, f64])
def test_batched_gradients(kind, L, packed, dtype):
    """autograd.grad(is_grads_batched=True), as in jacobian(vectorize=True): several losses in one backward pass."""
    torch.manual_seed(0)
    theirs = getattr(nn, kind)(3, 4, bidirectional=True, dtype=dtype)
    ours = getattr(seqlab, kind)(3, 4, bidirectional=True, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    x, found = torch.randn(L, 2, 3, dtype=dtype, requires_grad=True), []
    for layer in (ours, theirs):
        output = rows(layer(pack_padded_sequence(x, torch.tensor([L, L // 2])) if packed else x)[0])
        basis = torch.zeros(3, *output.shape, dtype=dtype)
        basis[0, -1], basis[1], basis[2, 0] = 1, torch.linspace(-1, 1, 8, dtype=dtype), 2
        if layer is theirs and kind == "LSTM":  # oneDNN's node has no rule for vmap
            one_by_one = [torch.autograd.grad(output, [x, *layer.parameters()], b, retain_graph=True) for b in basis]
            found.append([torch.stack(d) for d in zip(*one_by_one, strict=True)])
        else:
            found.append(torch.autograd.grad(output, [x, *layer.parameters()], basis, is_grads_batched=True))
    for d, e in zip(*found, strict=True):
        torch.testing.assert_close(d, e, **({"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["auto", "loop", "hand", "torch"])
@pytest.mark.parametrize("L", [1, 20, 200])
def test_an_empty_batch_has_gradient_zero(kind, backend, L):
    layer, x = (
        getattr(seqlab, kind)(3, 4, bidirectional=True, backend=backend),
        torch.zeros(L, 0, 3, requires_grad=True),
    )
    output, final = layer(x)
    (output.sum() + sum(s.sum() for s in (final if isinstance(final, tuple) else [final]))).backward()
    assert output.shape == (L, 0, 8)
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("L", [3, 20, 200])
@pytest.mark.parametrize("packed", [False, True])
def test_autocast_in_half_precision_takes_an_engine_that_can(kind, dtype, L, packed):
    layer, x = getattr(seqlab, kind)(3, 4), torch.randn(L, 2, 3)
    expected = layer(x)[0].detach()
    with torch.autocast("cpu", dtype=dtype):
        output = rows(layer(pack_padded_sequence(x, torch.tensor([L, L])) if packed else x)[0])
    output.float().sum().backward()
    torch.testing.assert_close(output.float().view(L, 2, 4), expected, rtol=0, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["auto", "loop", "hand", "torch"])
def test_the_default_device_plays_no_part(kind, backend):
    layer = getattr(seqlab, kind)(3, 4, bidirectional=True, backend=backend)
    packed = pack_padded_sequence(torch.randn(140, 3, 3), torch.tensor([140, 9, 1]))
    for input in (torch.randn(140, 2, 3), torch.randn(5, 3), packed):
        with torch.device("meta"):
            output = rows(layer(input)[0])
            output[-1].sum().backward()
        assert output.device.type == "cpu"


# Watched at the speed of torch's kernels: made for a GPU, the same anywhere.


def watched_gradients(layer: nn.RNNBase, x: Tensor, loss) -> list[Tensor]:
    """Of a loss of output and final states: by input and parameter, then the states and totals that a watcher sees."""
    seen = {}
    x = x.detach().requires_grad_()

    def watcher(k, d, states):
        seen.update({(k, d, name): s for name, s in states.items()})
        return lambda totals: seen.update({(k, d, name, "total"): g for name, g in totals.items()})

    with layer.watch_gradients(watcher):
        output, final = layer(x)
    found = torch.autograd.grad(loss(output, final), [x, *layer.parameters()])
    return [output, *found, *(seen[key] for key in sorted(seen, key=str))]


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", ["dense", "last step", "h_n"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "RNN-relu"])
def test_watched_kernels_show_what_the_loop_shows(kind, loss, bias, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    kind, _, relu = kind.partition("-")
    options = {"num_layers": 2, "bidirectional": True, "bias": bias, "dtype": f64, "device": device}
    options |= {"nonlinearity": "relu"} if relu else {}
    losses = {
        "dense": lambda y, final: y.square().sum() + (final[-1] if kind == "LSTM" else final).sin().sum(),
        "last step": lambda y, final: y[-1].square().sum(),
        "h_n": lambda y, final: (final[0] if kind == "LSTM" else final).sin().sum(),
    }
    torch.manual_seed(0)
    x, found = torch.randn(37, 3, 4, dtype=f64, device=device), []
    loop = getattr(seqlab, kind)(4, 5, backend="loop", **options)
    watched = getattr(seqlab, kind)(4, 5, backend="watched", **options)
    watched.load_state_dict(loop.state_dict())
    found = [watched_gradients(layer, x, losses[loss]) for layer in (watched, loop)]
    assert len(found[0]) == len(found[1])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("frozen", [["weight_ih"], ["weight_hh"], ["weight_ih", "weight_hh", "bias"]])
def test_watched_kernels_show_gradients_to_frozen_weights_too(frozen):
    layer, seen = seqlab.GRU(3, 4, backend="watched"), []
    for name, p in layer.named_parameters():
        p.requires_grad_(not name.startswith(tuple(frozen)))
    h_0 = torch.zeros(1, 2, 4, requires_grad=True)
    with layer.watch_gradients(lambda *_: seen.append):
        layer(torch.randn(6, 2, 3), h_0)[0].sum().backward()
    assert seen[0]["h"].all()
