"""torch's LSTM kernel on packed batches and under late losses: against torch.nn.LSTM, values and all gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from seqlab.recurrent.vendor import INAUDIBLE, LONG, by_direction, lstm_sequence, vendor_obstacle

exact = {"rtol": 1e-10, "atol": 1e-12}
single = {"rtol": 1e-4, "atol": 1e-5}
f64 = torch.float64
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
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"][: 4 if layer.bias else 2]
    return [getattr(layer, name + "_reverse" * direction) for name in names]


def both(layer: nn.LSTM, input: Tensor | PackedSequence, hx: list[Tensor], direction: int):
    """One direction by torch.nn.LSTM and by the function, each as (output, h_n, c_n), and what they depend on."""
    output, (h_n, c_n) = layer(input, tuple(hx))
    is_packed = isinstance(input, PackedSequence)
    data, sizes = (input.data, input.batch_sizes) if is_packed else (input, None)
    H, weights = layer.hidden_size, weights_of(layer, direction)
    theirs = ((output.data if is_packed else output)[..., direction * H :][..., :H], h_n[direction], c_n[direction])
    state = (hx[0][direction], hx[1][direction])
    y, (h, c) = lstm_sequence(data, state, *weights, reverse=direction == 1, batch_sizes=sizes)
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
    output, _ = lstm_sequence(
        packed.data, (zeros, zeros), *weights_of(layer, 0), reverse=False, batch_sizes=packed.batch_sizes
    )
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
    _, (_, c_n) = lstm_sequence(packed.data, state, *weights_of(layer, 0), batch_sizes=packed.batch_sizes)
    alone = lstm_sequence(packed.data[1:2].unsqueeze(0), (state[0][1:], c0[1:]), *weights_of(layer, 0))[1][1]
    torch.testing.assert_close(c_n[1:], alone, rtol=1e-6, atol=0)


def test_first_and_second_derivatives_pass_gradcheck():
    packed = packed_batch([3, 2])
    leaves = [torch.randn(*s, dtype=f64, requires_grad=True) for s in ((2, 2), (2, 2), (8, 3), (8, 2), (8,), (8,))]

    def run(data, h, c, *weights):
        output, (h_n, c_n) = lstm_sequence(data, (h, c), *weights, reverse=True, batch_sizes=packed.batch_sizes)
        return output, h_n, c_n

    assert gradcheck(run, (packed.data, *leaves))
    assert gradgradcheck(run, (packed.data, *leaves))


@onednn
def test_second_derivatives_of_a_late_loss_are_those_of_torch():
    layer, x, zeros = nn.LSTM(3, 4), torch.randn(20, 2, 3, requires_grad=True), torch.zeros(2, 4)
    seconds = []
    for output in (lstm_sequence(x, (zeros, zeros), *layer.parameters())[0], layer(x)[0]):
        (first,) = grad(output[-1].square().sum(), x, create_graph=True)
        seconds.append(grad(first.square().sum(), [x, *layer.parameters()]))
    torch.testing.assert_close(*seconds, **single)


@onednn
def test_a_gradient_that_is_zero_has_second_derivatives_too():
    layer, x, zeros = nn.LSTM(3, 4), torch.randn(20, 2, 3, requires_grad=True), torch.zeros(2, 4)
    nn.init.zeros_(layer.weight_ih_l0)  # then no gradient reaches the input
    seconds = []
    for output in (lstm_sequence(x, (zeros, zeros), *layer.parameters())[0], layer(x)[0]):
        (first,) = grad(output[-1].sum(), x, create_graph=True)
        assert not first.any()
        seconds.append(grad(first.sum(), layer.weight_ih_l0)[0])
    assert seconds[0].any()
    torch.testing.assert_close(*seconds, **single)


# Late losses. The gradient that enters the kernel is caught by a hook on the kernel's output.


@pytest.fixture
def caught(monkeypatch):
    found: list[Tensor] = []
    lstm = torch.lstm

    def hooked(*args):
        results = lstm(*args)
        if results[0].requires_grad:
            results[0].register_hook(found.append)
        return results

    monkeypatch.setattr(torch, "lstm", hooked)
    return found


def run_long(results_to_loss, L: int = 250, reverse: bool = False, packed: bool = False):
    """Gradients of a loss of (output, h_n, c_n) over many steps, by torch and by the function, h_0 and c_0 too."""
    layer, H = nn.LSTM(3, 16, bidirectional=True), 16
    input = packed_batch([L, L - 20, L // 2], torch.float32) if packed else torch.randn(L, 3, 3, requires_grad=True)
    hx = [torch.randn(2, 3, H).requires_grad_() for _ in range(2)]
    theirs, ours, leaves = both(layer, input, hx, int(reverse))
    return grad(results_to_loss(*theirs), leaves), grad(results_to_loss(*ours), leaves)


LATE = {
    "last step": lambda y, h, c: y[-1].sum(),
    "h_n": lambda y, h, c: h.sum(),
    "c_n": lambda y, h, c: c.square().sum(),
    "h_n and one step": lambda y, h, c: h.sum() + y[120].sum(),
}


@onednn
@pytest.mark.parametrize("loss", LATE)
def test_under_a_late_loss_no_gradient_becomes_subnormal(loss, caught):
    theirs, ours = run_long(LATE[loss])
    assert caught[0].abs().min() >= 1e-32
    audible = [torch.where(d.abs() < INAUDIBLE, 0, d) for d in theirs]
    torch.testing.assert_close(ours[3:], theirs[3:], rtol=1e-6, atol=0)  # weights: to the last digit
    for d, wanted in zip(ours[:3], audible[:3], strict=True):  # at the border of audibility the offset may tip over
        torch.testing.assert_close(d, wanted, rtol=1e-4, atol=10 * INAUDIBLE)
    if loss != "h_n and one step":
        assert not ours[0][0].any()
        assert not ours[1].any()


@onednn
@pytest.mark.parametrize("packed", [False, True])
def test_reversed_the_late_steps_are_the_first(packed):
    theirs, ours = run_long(LATE["h_n"], reverse=True, packed=packed)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert not ours[0][-1].any()
    assert ours[0][0].any()


@onednn
def test_a_loss_on_every_step_enters_the_kernel_as_it_is(caught):
    weight = torch.randn(250, 3, 16)
    run_long(lambda y, h, c: (y * weight).sum())
    assert torch.equal(caught[0], weight)


@onednn
def test_a_gradient_that_is_differentiated_again_is_not_mixed_with_the_offset(caught):
    layer, x, zeros = nn.LSTM(3, 16), torch.randn(250, 3, 3), torch.zeros(3, 16)
    output, _ = lstm_sequence(x, (zeros, zeros), *layer.parameters())
    grad(output[-1].sum(), layer.weight_ih_l0, create_graph=True)
    assert not caught[0][0].any()


@onednn
@pytest.mark.parametrize("size", [0.0, 1e-29])
def test_an_inaudible_loss_counts_as_zero(size, caught):
    _, ours = run_long(lambda y, h, c: size * y[-1].sum())
    assert not any(d.any() for d in ours)
    assert not caught[0].any()


@onednn
def test_steps_after_the_loss_get_no_offset_that_an_expanding_recurrence_could_amplify(caught):
    layer, x, zeros = nn.LSTM(3, 16), torch.randn(250, 3, 3, requires_grad=True), torch.zeros(3, 16)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(40)
    output, _ = lstm_sequence(x, (zeros, zeros), *layer.parameters())
    found = grad(output[10].sum(), [x, *layer.parameters()])
    assert not caught[0][11:].any()
    torch.testing.assert_close(found, grad(layer(x)[0][10].sum(), [x, *layer.parameters()]), **single)


@onednn
def test_a_loss_as_small_as_no_loss_is_is_exact():
    theirs, ours = run_long(lambda y, h, c: 1e-20 * y[-1].sum())
    torch.testing.assert_close(ours[3:], theirs[3:], rtol=1e-5, atol=0)


@onednn
def test_a_gradient_that_vanishes_within_a_rectangle_is_zero_in_those_before(caught):
    layer, zeros = nn.LSTM(3, 16), torch.zeros(4, 16)
    packed = packed_batch([400, 200, 190, 180], torch.float32)
    weights = list(layer.parameters())
    found = []
    for y in (
        lstm_sequence(packed.data, (zeros, zeros), *weights, batch_sizes=packed.batch_sizes)[0],
        layer(packed)[0].data,
    ):
        found.append(grad(y[-1].sum(), [packed.data, *weights]))
    torch.testing.assert_close(found[0][1:], found[1][1:], **single)
    assert not found[0][0][:10].any()
    assert all(d.min() >= 1e-32 or not d.any() for d in (c.abs() for c in caught))


@onednn
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("which", ["output", "h_n", "c_n"])
def test_results_may_be_changed_in_place_where_torchs_may(which, packed):
    layer, zeros = nn.LSTM(3, 4), torch.zeros(2, 4)
    input = packed_batch([70, 30], torch.float32) if packed else torch.randn(70, 2, 3)
    sizes = input.batch_sizes if packed else None
    output, (h_n, c_n) = lstm_sequence(input.data, (zeros, zeros), *layer.parameters(), batch_sizes=sizes)
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
    arguments = (packed.data, (zeros, zeros), *weights_of(layer, 0))
    with torch.no_grad():
        output, (h_n, c_n) = lstm_sequence(*arguments, batch_sizes=packed.batch_sizes)
    wanted, (h, c) = layer(packed)
    torch.testing.assert_close((output, h_n, c_n), (wanted.data, h[0], c[0]), **exact)
    assert not output.requires_grad


@onednn
def test_long_and_packed_batches_in_float32_go_by_direction():
    layer, first = nn.LSTM(3, 4), nn.LSTM(3, 4, batch_first=True)
    assert by_direction(layer, torch.zeros(LONG, 2, 3))
    assert not by_direction(layer, torch.zeros(LONG - 1, LONG, 3))
    assert by_direction(first, torch.zeros(2, LONG, 3))
    assert not by_direction(first, torch.zeros(LONG, 2, 3))
    assert by_direction(first, torch.zeros(LONG, 3))
    assert by_direction(layer, packed_batch([2, 1], torch.float32))
    assert not by_direction(layer, packed_batch([2, 1]))
    assert not by_direction(nn.GRU(3, 4), torch.zeros(LONG, 2, 3))
    with torch.no_grad():
        assert not by_direction(layer, torch.zeros(LONG, 2, 3))
        assert by_direction(layer, packed_batch([2, 1], torch.float32))


@pytest.mark.parametrize(
    ("input", "words"),
    [
        (torch.zeros(2, dtype=f64), "in float32, not in torch.float64"),
        (torch.zeros(2, device="meta"), "on the CPU, not on meta"),
    ],
)
def test_obstacles_are_told_in_words(input, words):
    assert words in vendor_obstacle(input)


@onednn
def test_an_obstacle_of_the_moment_is_told_too(monkeypatch):
    assert vendor_obstacle(torch.zeros(2)) == ""
    with torch.autocast("cpu"):
        assert "autocast" in vendor_obstacle(torch.zeros(2))
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert vendor_obstacle(torch.zeros(2)) == "oneDNN is missing or turned off"
