"""oneDNN's LSTM on packed batches and under late losses: against torch.nn.LSTM, values and all gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import seqlab
from seqlab.recurrent.engines.onednn import lstm

exact = {"rtol": 1e-10, "atol": 1e-12}
single = {"rtol": 1e-4, "atol": 1e-5}
f64 = torch.float64
NAMES = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
LENGTHS = [[5], [5, 5, 5], [4, 3, 1], [40, 40, 25, 12, 3], [60, 20, 20, 19, 1, 1], [33, 32, 31, 30, 20, 12, 10, 9, 1]]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def packed_batch(lengths: list[int], dtype: torch.dtype = f64) -> PackedSequence:
    x = torch.randn(max(lengths), len(lengths), 3, dtype=dtype)
    packed = pack_padded_sequence(x, torch.tensor(lengths))
    return PackedSequence(packed.data.detach().requires_grad_(), packed.batch_sizes)


def weights_of(layer: nn.LSTM, direction: int) -> list[Tensor]:
    return [getattr(layer, f"{name}_l0" + "_reverse" * direction) for name in NAMES[: 4 if layer.bias else 2]]


def lstm_of(layer: nn.LSTM, data: Tensor, state: tuple[Tensor, Tensor], batch_sizes: Tensor | None = None):
    return lstm(data, state, dict(zip(NAMES, weights_of(layer, 0), strict=False)), False, batch_sizes)


def both(layer: nn.LSTM, input: Tensor | PackedSequence, hx: list[Tensor], direction: int):
    """One direction by torch.nn.LSTM and by the function, each as (output, h_n, c_n), and what they depend on."""
    output, (h_n, c_n) = layer(input, tuple(hx))
    is_packed = isinstance(input, PackedSequence)
    data, sizes = (input.data, input.batch_sizes) if is_packed else (input, None)
    H, weights = layer.hidden_size, weights_of(layer, direction)
    theirs = ((output.data if is_packed else output)[..., direction * H :][..., :H], h_n[direction], c_n[direction])
    state = (hx[0][direction], hx[1][direction])
    y, (h, c) = lstm(data, state, dict(zip(NAMES, weights, strict=False)), direction == 1, sizes)
    return theirs, (y, h, c), [data, *hx, *weights]


def loss_of(results: tuple[Tensor, ...], factors: list[Tensor]) -> Tensor:
    return sum((r * f).sum() for r, f in zip(results, factors, strict=True))


def agree(layer: nn.LSTM, input: Tensor | PackedSequence, N: int, tolerance: dict[str, float]) -> None:
    for direction in range(2):
        hx = [torch.randn(2, N, layer.hidden_size, dtype=layer.weight_ih_l0.dtype).requires_grad_() for _ in range(2)]
        theirs, ours, leaves = both(layer, input, hx, direction)
        torch.testing.assert_close(ours, theirs, **tolerance)
        factors = [torch.randn_like(r) for r in theirs]
        wanted = grad(loss_of(theirs, factors), leaves, retain_graph=True)
        torch.testing.assert_close(grad(loss_of(ours, factors), leaves), wanted, **tolerance)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_a_packed_batch_has_the_values_and_gradients_of_torch(lengths, bias):
    layer = nn.LSTM(3, 4, bias=bias, bidirectional=True, dtype=f64)
    agree(layer, packed_batch(lengths), len(lengths), exact)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 45), min_size=1, max_size=7))
def test_any_lengths(lengths):
    agree(nn.LSTM(3, 4, bidirectional=True, dtype=f64), packed_batch(sorted(lengths)[::-1]), len(lengths), exact)


@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_batch_has_the_values_and_gradients_of_torch(bias):
    layer = nn.LSTM(3, 4, bias=bias, bidirectional=True, dtype=f64)
    agree(layer, torch.randn(6, 2, 3, dtype=f64, requires_grad=True), 2, exact)


@onednn
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_float32_agrees_with_torch_and_is_computed_by_onednn(lengths):
    packed = packed_batch(lengths, torch.float32)
    layer = nn.LSTM(3, 16, bidirectional=True)
    agree(layer, packed, len(lengths), single)
    zeros = torch.zeros(len(lengths), 16)
    output, _ = lstm_of(layer, packed.data, (zeros, zeros), packed.batch_sizes)
    assert any("MkldnnRnnLayer" in name for name in graph(output))


def graph(x: Tensor) -> set[str]:
    """Names of the nodes behind a tensor."""
    found, todo = {}, [x.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in found:
            found[node] = node.name()
            todo += [following for following, _ in node.next_functions]
    return set(found.values())


@onednn
def test_padding_leaves_the_cell_state_as_it_is():
    layer, lengths = nn.LSTM(3, 8), [40, 1]
    packed = packed_batch(lengths, torch.float32)
    c0 = torch.tensor([1e-30, 1e-3, 1.0, 50.0, -1e-30, -1e-3, -1.0, -50.0]).expand(2, 8)
    state = (torch.zeros(2, 8), c0)
    _, (_, c_n) = lstm_of(layer, packed.data, state, packed.batch_sizes)
    alone = lstm_of(layer, packed.data[1:2].unsqueeze(0), (state[0][1:], c0[1:]))[1][1]
    torch.testing.assert_close(c_n[1:], alone, rtol=1e-6, atol=0)


@onednn
@pytest.mark.parametrize("bias", [60.0, 1000.0])
def test_padding_leaves_the_cell_state_as_it_is_whatever_the_gates_are(bias):
    layer = nn.LSTM(3, 8)
    with torch.no_grad():
        layer.bias_ih_l0[:8], layer.bias_ih_l0[8:16] = bias, -bias  # all in, nothing kept
    packed = packed_batch([40, 1], torch.float32)
    state = (torch.zeros(2, 8), torch.randn(2, 8))
    _, (_, c_n) = lstm_of(layer, packed.data, state, packed.batch_sizes)
    alone = lstm_of(layer, packed.data[1:2].unsqueeze(0), (state[0][1:], state[1][1:]))[1][1]
    torch.testing.assert_close(c_n[1:], alone, rtol=1e-6, atol=0)


def test_first_and_second_derivatives_pass_gradcheck():
    packed = packed_batch([3, 2])
    leaves = [torch.randn(*s, dtype=f64, requires_grad=True) for s in ((2, 2), (2, 2), (8, 3), (8, 2), (8,), (8,))]

    def run(data, h, c, *weights):
        output, (h_n, c_n) = lstm(data, (h, c), dict(zip(NAMES, weights, strict=True)), True, packed.batch_sizes)
        return output, h_n, c_n

    assert gradcheck(run, (packed.data, *leaves))
    assert gradgradcheck(run, (packed.data, *leaves))


@onednn
def test_second_derivatives_of_a_late_loss_are_those_of_torch():
    layer, x, zeros = nn.LSTM(3, 4), torch.randn(20, 2, 3, requires_grad=True), torch.zeros(2, 4)
    seconds = []
    for output in (lstm_of(layer, x, (zeros, zeros))[0], layer(x)[0]):
        (first,) = grad(output[-1].square().sum(), x, create_graph=True)
        seconds.append(grad(first.square().sum(), [x, *layer.parameters()]))
    torch.testing.assert_close(*seconds, **single)


@onednn
def test_a_gradient_that_is_zero_has_second_derivatives_too():
    layer, x, zeros = nn.LSTM(3, 4), torch.randn(20, 2, 3, requires_grad=True), torch.zeros(2, 4)
    nn.init.zeros_(layer.weight_ih_l0)  # then no gradient reaches the input
    seconds = []
    for output in (lstm_of(layer, x, (zeros, zeros))[0], layer(x)[0]):
        (first,) = grad(output[-1].sum(), x, create_graph=True)
        assert not first.any()
        seconds.append(grad(first.sum(), layer.weight_ih_l0)[0])
    assert seconds[0].any()
    torch.testing.assert_close(*seconds, **single)


# Late losses: float64 says what is right.


@pytest.fixture
def in_the_kernel(monkeypatch):
    """Whether a gradient has come to oneDNN's node, one entry for each backward pass through it."""
    found: list[bool] = []
    lstm = torch.lstm

    def hooked(*args):
        results = lstm(*args)
        if results[0].requires_grad:
            node = results[0].grad_fn
            node.register_prehook(lambda grads: found.append(any(d is not None for d in grads)))
        return results

    monkeypatch.setattr(torch, "lstm", hooked)
    return found


def run_long(results_to_loss, L: int = 250, reverse: bool = False, packed: bool = False):
    """Gradients of a loss of (output, h_n, c_n) over many steps, in float64 by torch and by the function."""
    layer, H = nn.LSTM(3, 16, bidirectional=True), 16
    input = packed_batch([L, L - 20, L // 2], torch.float32) if packed else torch.randn(L, 3, 3, requires_grad=True)
    hx = [torch.randn(2, 3, H).requires_grad_() for _ in range(2)]
    _, ours, leaves = both(layer, input, hx, int(reverse))
    double = copy.deepcopy(layer).double()
    data = input.data.detach().double().requires_grad_()
    input = PackedSequence(data, input.batch_sizes) if packed else data
    theirs, _, leaves64 = both(double, input, [h.detach().double().requires_grad_() for h in hx], int(reverse))
    return grad(results_to_loss(*theirs), leaves64), grad(results_to_loss(*ours), leaves)


def assert_close_to_double(found: tuple[Tensor, ...], exact: tuple[Tensor, ...], tolerance: float = 1e-5) -> None:
    """Each tensor to some digits of its own size, except what float32 holds only as subnormal numbers."""
    for d, e in zip(found, exact, strict=True):
        normal = e.abs() > 1e-37
        torch.testing.assert_close(d.double()[normal], e[normal], rtol=1e-2, atol=tolerance * float(e.abs().max()))
        assert not (d[~normal].abs() > 2e-37).any()


LATE = {
    "last step": lambda y, h, c: y[-1].sum(),
    "h_n": lambda y, h, c: h.sum(),
    "c_n": lambda y, h, c: c.square().sum(),
    "h_n and one step": lambda y, h, c: h.sum() + y[120].sum(),
    "an early step": lambda y, h, c: y[10].sum(),
    "1e-20 of the last step": lambda y, h, c: 1e-20 * y[-1].sum(),
    "each row's end": lambda y, h, c: y[torch.tensor([249, 150, 80]), torch.arange(3)].square().sum(),
}


@onednn
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("loss", LATE)
def test_a_late_loss_has_the_gradient_of_float64_and_no_subnormal_numbers(loss, reverse, in_the_kernel):
    exact, found = run_long(LATE[loss], reverse=reverse)
    assert_close_to_double(found, exact)
    subnormal = [(d != 0) & (d.abs() < torch.finfo(torch.float32).tiny / 1e4) for d in found[:1]]
    assert not any(s.any() for s in subnormal)
    if loss not in ("an early step", "each row's end") and not reverse:
        assert in_the_kernel[0] is False or not any(in_the_kernel)


@onednn
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("which", ["h", "c"])
def test_a_late_loss_on_a_packed_batch(which, reverse):
    exact, found = run_long(lambda y, h, c: {"h": h, "c": c}[which].square().sum(), reverse=reverse, packed=True)
    assert_close_to_double(found, exact)


@onednn
def test_a_dense_loss_is_onednns_to_the_last_bit(in_the_kernel):
    layer, x = nn.LSTM(3, 16), torch.randn(250, 3, 3, requires_grad=True)
    zeros, error, leaves = torch.zeros(3, 16), torch.randn(250, 3, 16), [x, *layer.parameters()]
    wanted = grad(layer(x)[0], leaves, error)
    output, _ = lstm_of(layer, x, (zeros, zeros))
    assert all(torch.equal(d, e) for d, e in zip(grad(output, leaves, error), wanted, strict=True))
    assert in_the_kernel[-1] is True


@onednn
def test_padding_behind_the_loss_leaves_a_dense_loss_dense(in_the_kernel):
    """A masked loss on a padded batch: the steps behind a row's end wait for nothing, and oneDNN is faster."""
    layer, x, zeros = nn.LSTM(3, 16), torch.randn(250, 3, 3, requires_grad=True), torch.zeros(3, 16)
    error = torch.randn(250, 3, 16)
    error[100:, 1:] = 0
    found = grad(lstm_of(layer, x, (zeros, zeros))[0], [x, *layer.parameters()], error)
    assert in_the_kernel == [True]
    torch.testing.assert_close(found, grad(layer(x)[0], [x, *layer.parameters()], error), **single)


@onednn
def test_a_gradient_that_is_differentiated_again_is_onednns(in_the_kernel):
    layer, x, zeros = nn.LSTM(3, 16), torch.randn(250, 3, 3), torch.zeros(3, 16)
    grad(lstm_of(layer, x, (zeros, zeros))[0][-1].sum(), layer.weight_ih_l0, create_graph=True)
    assert in_the_kernel == [True]


@onednn
def test_nan_comes_through_a_late_loss():
    _, found = run_long(lambda y, h, c: y[-1].sum() * torch.nan)
    assert all(d.isnan().any() for d in found[3:])


@onednn
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("which", ["output", "h_n", "c_n"])
def test_results_may_be_changed_in_place_where_torchs_may(which, packed):
    layer, zeros = nn.LSTM(3, 4), torch.zeros(2, 4)
    input = packed_batch([70, 30], torch.float32) if packed else torch.randn(70, 2, 3)
    sizes = input.batch_sizes if packed else None
    output, (h_n, c_n) = lstm_of(layer, input.data, (zeros, zeros), sizes)
    results = {"output": output, "h_n": h_n, "c_n": c_n}
    wanted = grad(results[which].square().sum(), layer.weight_hh_l0, retain_graph=True)
    results[which].mul_(2)
    if which == "output" and not packed:  # oneDNN's backward pass needs it
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()
    else:
        found = grad((results[which] / 2).square().sum(), layer.weight_hh_l0)
        torch.testing.assert_close(found, wanted)


def test_inference_is_the_same_and_builds_no_graph():
    packed, zeros = packed_batch([5, 3, 1]), torch.zeros(3, 4, dtype=f64)
    layer = nn.LSTM(3, 4, dtype=f64)
    with torch.no_grad():
        output, (h_n, c_n) = lstm_of(layer, packed.data, (zeros, zeros), packed.batch_sizes)
    wanted, (h, c) = layer(packed)
    torch.testing.assert_close((output, h_n, c_n), (wanted.data, h[0], c[0]), **exact)
    assert not output.requires_grad


@pytest.mark.parametrize(
    ("layer", "input", "words"),
    [
        (seqlab.GRU(3, 5), torch.zeros(8, 2, 3), "oneDNN has no GRU"),
        (seqlab.LSTM(3, 5, dtype=f64), torch.zeros(8, 2, 3, dtype=f64), "in float32, not in torch.float64"),
        (seqlab.LSTM(3, 5, device="meta"), torch.zeros(8, 2, 3, device="meta"), "on the CPU, not on meta"),
    ],
)
def test_what_onednn_cannot_do_is_refused_by_name(layer, input, words):
    layer.backend = "onednn"
    with pytest.raises(ValueError, match=f"backend='onednn' is not possible, since .*{words}"):
        layer(input)


@onednn
def test_an_obstacle_of_the_moment_is_told_too(monkeypatch):
    layer, x = seqlab.LSTM(3, 5), torch.zeros(200, 2, 3)
    assert layer.path(x)[0] == "onednn"
    layer.backend = "onednn"
    with torch.autocast("cpu"), pytest.raises(ValueError, match="autocast"):
        layer(x)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    with pytest.raises(ValueError, match="oneDNN is missing or turned off"):
        layer(x)
