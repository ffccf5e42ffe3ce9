"""Truncated BPTT: against a chain with a copy of the weights at every step, full BPTT and the detach loop."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from seqlab.cells import gru_step, lstm_step, rnn_step
from seqlab.recurrent import GRU, LSTM, RNN
from seqlab.tbptt import Window, tbptt

exact = {"rtol": 1e-10, "atol": 1e-12}
f64 = torch.float64
STEPS = {"RNN": rnn_step, "LSTM": lstm_step, "GRU": gru_step}
PAIRS = [(4, 4), (2, 6), (4, 6), (1, 5), (3, 24), (5, 7)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def sequences(L: int = 24, H: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(L, 2, 3, dtype=f64), torch.randn(L, 2, H, dtype=f64)


def length(k1: int) -> int:
    return 24 // k1 * k1


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters()]


# The oracle: one graph over the whole sequence, of the cells' steps, with weights of its own at each of them.


def layers_step(kind: str, weights: list[Tensor], x: Tensor, state: list) -> tuple[Tensor, list]:
    """One time step of a stack of layers, four weights each."""
    after = []
    for i, s in enumerate(state):
        s = STEPS[kind](x, s, *weights[4 * i : 4 * i + 4])
        after.append(s)
        x = s[0] if kind == "LSTM" else s
    return x, after


def truncated_sums(step, theta, state, x, y, k1, k2, lr=0.0):
    """At each window, the sum of ∂l_t/∂θ_u over the pairs that TBPTT(k1, k2) keeps; then a step of SGD."""
    theta = [p.detach().clone() for p in theta]
    copies, sums = [], []
    for start in range(0, len(x), k1):
        losses, steps = {}, range(start, min(start + k1, len(x)))
        for t in steps:
            copies.append([p.clone().requires_grad_() for p in theta])
            output, state = step(copies[t], x[t], state)
            losses[t] = mse_loss(output, y[t]) / len(steps)
        total = [torch.zeros_like(p) for p in theta]
        for t, loss in losses.items():
            for u in range(max(start + k1 - k2, 0), t + 1):
                parts = torch.autograd.grad(loss, copies[u], retain_graph=True, allow_unused=True)
                total = [a if b is None else a + b for a, b in zip(total, parts, strict=True)]
        sums.append(total)
        theta = [p - lr * grad for p, grad in zip(theta, total, strict=True)]
    return sums


def check_windows(model, sums, x, y, k1, k2, lr):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    windows = tbptt(model, x, y, mse_loss, k1, k2)
    for start, window, expected in zip(range(0, len(x), k1), windows, sums, strict=True):
        for p, grad in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(p.grad, grad, **exact)
        assert (window.start, window.stop) == (start, min(start + k1, len(x)))
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("lr", [0.0, 0.5], ids=["one-theta", "updates"])
@pytest.mark.parametrize(("k1", "k2"), PAIRS)
@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("depth", [1, 2])
def test_each_window_adds_the_truncated_sum(kind, k1, k2, lr, depth):
    """With lr > 0 the oracle's θ_u are the weights at the time of step u: what an optimizer between windows means."""
    check_layer(kind, depth, length(k1), k1, k2, lr)


@pytest.mark.parametrize("lr", [0.0, 0.5], ids=["one-theta", "updates"])
@pytest.mark.parametrize(("L", "k1", "k2"), [(11, 4, 4), (11, 4, 6), (13, 3, 9), (11, 5, 7), (9, 6, 10), (2, 5, 7)])
def test_the_last_window_may_be_shorter_and_goes_back_as_far_as_a_whole_one(L, k1, k2, lr):
    check_layer("GRU", 2, L, k1, k2, lr)


def check_layer(kind, depth, L, k1, k2, lr):
    layer = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}[kind](3, 4, depth, dtype=f64)
    x, y = sequences(L)
    zero = torch.zeros(2, 4, dtype=f64)
    state = [(zero, zero) if kind == "LSTM" else zero] * depth
    sums = truncated_sums(lambda w, x, s: layers_step(kind, w, x, s), layer.parameters(), state, x, y, k1, k2, lr)
    check_windows(layer, sums, x, y, k1, k2, lr)


@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU, lambda *a, **k: GRU(*a, **k, backend="loop")])
def test_torch_layers_and_the_loop_do_the_same(make):
    layer = make(3, 4, 2, dtype=f64)
    twin = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}[type(layer).__name__](3, 4, 2, dtype=f64)
    twin.load_state_dict(layer.state_dict())
    x, y = sequences()
    for _ in zip(tbptt(layer, x, y, mse_loss, 4, 6), tbptt(twin, x, y, mse_loss, 4, 6), strict=True):
        pass
    for a, b in zip(gradients(layer), gradients(twin), strict=True):
        torch.testing.assert_close(a, b, **exact)


class Tagger(nn.Module):
    """Embedding, two layers of different kinds, readout tied to the embedding; its state is nested, and learned."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4, dtype=f64)
        self.gru = GRU(4, 4, batch_first=True, dtype=f64)
        self.lstm = nn.LSTM(4, 4, batch_first=True, dtype=f64)
        self.readout = nn.Linear(4, 7, dtype=f64)
        self.readout.weight = self.embedding.weight
        self.start = nn.Parameter(torch.randn(1, 1, 4, dtype=f64))

    def forward(self, tokens: Tensor, state) -> tuple[Tensor, list]:
        if state is None:
            start = self.start.expand(1, len(tokens), 4).contiguous()
            state = [start, (start, start), torch.zeros(1, dtype=torch.long)]
        h, hc, count = state
        out, h = self.gru(self.embedding(tokens), h)
        out, hc = self.lstm(out, hc)
        return self.readout(out), [h, hc, count + tokens.shape[1]]


@pytest.mark.parametrize("lr", [0.0, 0.5], ids=["one-theta", "updates"])
@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (2, 6), (4, 6), (12, 12)])
def test_a_whole_model(k1, k2, lr):
    model = Tagger()
    names = [name for name, _ in model.named_parameters()]
    tokens, y = torch.randint(7, (2, 12)), torch.randn(2, 12, 7, dtype=f64)

    def step(theta, x, state):
        w = dict(zip(names, theta, strict=True))
        if state is None:
            state = [w["start"][0].expand(2, 4)] * 3
        gru, lstm = ([v for n, v in w.items() if n.startswith(kind)] for kind in ("gru", "lstm"))
        g = gru_step(w["embedding.weight"][x], state[0], *gru)
        h, c = lstm_step(g, (state[1], state[2]), *lstm)
        return h @ w["embedding.weight"].T + w["readout.bias"], [g, h, c]

    sums = truncated_sums(step, model.parameters(), None, tokens.T, y.transpose(0, 1), k1, k2, lr)
    windows = tbptt(model, tokens, y, mse_loss, k1, k2, dim=1)
    for number, (window, expected) in enumerate(zip(windows, sums, strict=True)):
        for (name, p), grad in zip(model.named_parameters(), expected, strict=True):
            if name == "start" and number * k1 + k1 - k2 > 0:  # out of reach
                assert p.grad is None
                continue
            torch.testing.assert_close(p.grad, grad, **exact)
            p.data -= lr * p.grad
            p.grad = None
        assert window.state[2].item() == window.stop
        assert window.output.shape == (2, k1, 7)


class Parts(NamedTuple):
    h: Tensor
    more: dict


class Nested(nn.Module):
    """A layer whose state is a NamedTuple with a dict, a list, a number and None in it."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.lstm = GRU(3, 4, dtype=f64), LSTM(4, 4, dtype=f64)

    def forward(self, x: Tensor, state: Parts | None) -> tuple[Tensor, Parts]:
        h, more = state or (None, {"hc": None, "position": 0})
        x, h = self.gru(x, h)
        x, hc = self.lstm(x, None if more["hc"] is None else tuple(more["hc"]))
        return x, Parts(h, {"hc": list(hc), "position": more["position"] + len(x), "nothing": None})


@pytest.mark.parametrize("lr", [0.0, 0.5], ids=["one-theta", "updates"])
@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (4, 6)])
def test_a_state_may_be_a_namedtuple_with_a_dict_in_it(k1, k2, lr):
    model, (x, y), zero = Nested(), sequences(12), torch.zeros(2, 4, dtype=f64)

    def step(theta, x, state):
        h = gru_step(x, state[0], *theta[:4])
        hc = lstm_step(h, state[1], *theta[4:])
        return hc[0], (h, hc)

    sums = truncated_sums(step, model.parameters(), (zero, (zero, zero)), x, y, k1, k2, lr)
    check_windows(model, sums, x, y, k1, k2, lr)
    *_, window = tbptt(model, x, y, mse_loss, k1, k2)
    assert type(window.state) is Parts
    assert window.state.more["position"] == 12
    assert not any(t.requires_grad for t in (window.state.h, *window.state.more["hc"]))


def test_an_empty_batch_gives_zeros():
    layer = GRU(3, 4, dtype=f64)
    for _ in tbptt(layer, torch.zeros(5, 0, 3, dtype=f64), torch.zeros(5, 0, 4, dtype=f64), sum_of_squares, 2, 4):
        pass
    assert all((p.grad == 0).all() for p in layer.parameters())


def sum_of_squares(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().sum()


# The two special cases, written out.


@pytest.mark.parametrize("cls", [RNN, LSTM, GRU])
def test_one_window_is_full_bptt(cls):
    layer, (x, y) = cls(3, 4, 2, dtype=f64), sequences()
    output, final = layer(x)
    loss = mse_loss(output, y)
    loss.backward()
    expected = gradients(layer)
    layer.zero_grad()
    (window,) = tbptt(layer, x, y, mse_loss, 24, 24)
    torch.testing.assert_close(gradients(layer), expected, **exact)
    torch.testing.assert_close(window, Window(0, 24, loss.detach(), output.detach(), window.state), **exact)
    torch.testing.assert_close(window.state, final, **exact)


@pytest.mark.parametrize("cls", [nn.LSTM, GRU])
def test_equal_k1_and_k2_are_the_detach_loop(cls):
    layer, (x, y) = cls(3, 4, dtype=f64), sequences()
    usual = copy.deepcopy(layer)
    optimizer, state = torch.optim.Adam(usual.parameters(), lr=0.1), None
    for chunk, target in zip(x.split(4), y.split(4), strict=True):
        output, state = usual(chunk, state)
        mse_loss(output, target).backward()
        optimizer.step()
        optimizer.zero_grad()
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for window in tbptt(layer, x, y, mse_loss, 4, 4):
        optimizer.step()
        optimizer.zero_grad()
        final = window.state
    torch.testing.assert_close(list(layer.parameters()), list(usual.parameters()), **exact)
    torch.testing.assert_close(final, state, **exact)


# What a caller relies on.


def test_a_loss_near_the_start_of_a_window_goes_back_through_fewer_steps():
    """The docstring's numbers: h_t = a h_{t-1} + x_t with x = 1 at one step only says which step a loss reaches."""
    k1, k2, L = 3, 9, 18
    for t in range(L):
        model = RNN(1, 1, nonlinearity="relu", bias=False, dtype=f64)
        nn.init.ones_(model.weight_ih_l0)
        nn.init.ones_(model.weight_hh_l0)
        x, y = torch.ones(L, 1, 1, dtype=f64), torch.zeros(L, 1, 1, dtype=f64)
        y[t] = 1
        for _ in tbptt(model, x, y, lambda output, mark: (output * mark).sum(), k1, k2):
            pass
        end = (t // k1 + 1) * k1
        assert model.weight_ih_l0.grad.item() == t - max(end - k2, 0) + 1  # ∂h_t/∂w_ih is 1 a step


def test_the_sequence_runs_once_and_its_values_are_those_of_one_run():
    layer, (x, y) = GRU(3, 4, dtype=f64), sequences()
    whole, final = layer(x)
    calls = []
    layer.register_forward_hook(lambda module, args, result: calls.append(len(args[0])))
    windows = list(tbptt(layer, x, y, mse_loss, 4, 6))
    assert calls == [math.gcd(4, 6)] * 12
    torch.testing.assert_close(torch.cat([w.output for w in windows]), whole.detach(), **exact)
    torch.testing.assert_close(windows[-1].state, final.detach(), **exact)
    for window in windows:
        torch.testing.assert_close(window.loss, mse_loss(window.output, y[window.start : window.stop]), **exact)
        assert not any(t.requires_grad for t in (window.loss, window.output, window.state))


def test_a_stream_goes_on_in_a_second_call():
    layer, (x, y) = LSTM(3, 4, dtype=f64), sequences()
    for _ in tbptt(layer, x, y, mse_loss, 4, 4):
        pass
    expected = gradients(layer)
    layer.zero_grad()
    state = None
    for x_part, y_part in zip(x.split(8), y.split(8), strict=True):
        for window in tbptt(layer, x_part, y_part, mse_loss, 4, 4, state):
            state = window.state
    torch.testing.assert_close(gradients(layer), expected, **exact)


def test_gradients_are_added_to_those_that_are_there():
    layer, (x, y) = RNN(3, 4, dtype=f64), sequences()
    for _ in tbptt(layer, x, y, mse_loss, 4, 6):
        pass
    once = gradients(layer)
    for _ in tbptt(layer, x, y, mse_loss, 4, 6):
        pass
    torch.testing.assert_close(gradients(layer), [2 * grad for grad in once], **exact)


def test_gradients_share_no_memory():
    """autograd gives two terms of one sum the very same tensor; added in place, each would count twice."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))

        def forward(self, x, state):
            return x + (self.a + self.b), None

    model, x = Sum(), torch.zeros(8, 2, 4)
    for _ in tbptt(model, x, x, lambda output, target: (output - target).sum(), 2, 4):
        pass
    assert model.a.grad.tolist() == model.b.grad.tolist() == [16.0] * 4


def test_frozen_weights_stay_without_gradient_and_the_loss_trains_its_own():
    layer, (x, y) = GRU(3, 4, dtype=f64), sequences()
    layer.weight_ih_l0.requires_grad_(False)
    scale = nn.Parameter(torch.ones((), dtype=f64))
    for _ in tbptt(layer, x, y, lambda output, target: mse_loss(scale * output, target), 4, 6):
        pass
    assert layer.weight_ih_l0.grad is None
    assert layer.weight_hh_l0.grad is not None
    output = layer(x)[0].detach()
    (expected,) = torch.autograd.grad(mse_loss(scale * output, y) * 6, scale)  # six windows, a mean each
    torch.testing.assert_close(scale.grad, expected, **exact)


def test_a_model_without_memory():
    class Pointwise(nn.Linear):
        def forward(self, x, state):
            return super().forward(x), None

    model, (x, y) = Pointwise(3, 4, dtype=f64), sequences()
    for window in tbptt(model, x, y, mse_loss, 4, 6):
        assert window.state is None
    (expected,) = torch.autograd.grad(6 * mse_loss(model(x, None)[0], y), model.weight)
    torch.testing.assert_close(model.weight.grad, expected, **exact)


# Memory: a graph node's context lives as long as the graph does.


class Token:
    pass


class Mark(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, tokens):
        ctx.token = Token()
        tokens.add(ctx.token)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad, None


@pytest.mark.parametrize(("k1", "k2"), PAIRS)
def test_no_more_chunks_are_alive_than_k2_steps(k1, k2):
    class Marked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = GRU(3, 4)
            self.tokens = weakref.WeakSet()
            self.weights = {}
            self.most = 0

        def forward(self, x, state):
            output, state = self.layer(x, state)
            output = Mark.apply(output, self.tokens)
            self.weights[id(self.layer.weight_hh_l0)] = weakref.ref(self.layer.weight_hh_l0)
            self.most = max(self.most, len(self.tokens))
            return output, state

    model, g, L = Marked(), math.gcd(k1, k2), length(k1)
    x, y = torch.randn(L, 2, 3), torch.randn(L, 2, 4)
    gc.disable()  # alive means held, not waiting for the collector
    try:
        for window in tbptt(model, x, y, mse_loss, k1, k2):
            kept = 0 if window.stop == L else min(k2 - k1, window.stop)
            assert len(model.tokens) == kept // g
            assert sum(weight() is not None for weight in model.weights.values()) <= math.ceil(k2 / k1)
        assert model.most == min(k2, L) // g
    finally:
        gc.enable()


def test_what_no_window_needs_again_is_freed_even_where_an_output_is_held():
    layer, outputs = GRU(3, 4), []
    layer.register_forward_hook(lambda module, args, result: outputs.append(result[0]))
    for _ in tbptt(layer, torch.randn(8, 2, 3), torch.randn(8, 2, 4), mse_loss, 2, 4):
        pass
    for output in outputs:
        with pytest.raises(RuntimeError, match="second time"):
            output.sum().backward()


# What is refused.


def refused(error, match, **changes):
    arguments = {"model": GRU(3, 4), "input": torch.zeros(8, 2, 3), "target": torch.zeros(8, 2, 4), "loss": mse_loss}
    arguments |= {"k1": 2, "k2": 4, **changes}
    with pytest.raises(error, match=match):
        next(tbptt(**arguments))


class Stateless(nn.Linear):
    def forward(self, x, state):
        return super().forward(x)


@pytest.mark.parametrize(
    ("error", "match", "changes"),
    [
        (ValueError, r"expected k1 <= k2, got k1=4 and k2=2; .* raise k2 to 4, or lower k1", {"k1": 4, "k2": 2}),
        (ValueError, "expected k1 of at least 1, got 0", {"k1": 0}),
        (TypeError, "expected k2 as an int, got 4.0", {"k2": 4.0}),
        (
            ValueError,
            "at least one step on axis dim=0",
            {"input": torch.zeros(0, 2, 3), "target": torch.zeros(0, 2, 4)},
        ),
        (ValueError, "one length on axis dim=0, got 8 and 6", {"target": torch.zeros(6, 2, 4)}),
        (TypeError, "expected input as a Tensor, got list", {"input": [1, 2]}),
        (ValueError, "input without a graph.*move what computes it", {"input": torch.zeros(8, 2, 3).requires_grad_()}),
        (ValueError, "target without a graph", {"target": torch.zeros(8, 2, 4).requires_grad_()}),
        (ValueError, "dim as an axis of input, 0 to 2, got -2", {"dim": -2}),
        (ValueError, "dim as an axis of input, 0 to 2, got 3", {"dim": 3}),
        (ValueError, r"expected dim=0, the axis of time in GRU with batch_first=False, got 1", {"dim": 1}),
        (ValueError, r"expected dim=1, .* batch_first=True, got 0", {"model": nn.GRU(3, 4, batch_first=True)}),
        (ValueError, "one direction, got LSTM of two", {"model": LSTM(3, 2, bidirectional=True)}),
        (TypeError, "model as a torch.nn.Module, got function", {"model": lambda x, s: (x, s)}),
        (ValueError, "parameters to train, got none", {"model": GRU(3, 4).requires_grad_(False)}),
        (TypeError, r"return \(output, state\), output a Tensor, got Tensor", {"model": Stateless(3, 4)}),
        (TypeError, "state of tensors and plain numbers, in tuples, lists or dicts, got object", {"state": [object()]}),
        (ValueError, "output, got one that does not", {"loss": lambda output, target: target.sum()}),
        (ValueError, r"as a scalar, got shape \(2, 2, 4\); reduce it", {"loss": torch.sub}),
        (TypeError, r"loss\(output, target\) as a Tensor, got float", {"loss": lambda o, t: 0.5}),
    ],
)
def test_refused(error, match, changes):
    refused(error, match, **changes)


def test_a_state_that_carries_a_graph_is_refused():
    layer = GRU(3, 4)
    _, state = layer(torch.zeros(8, 2, 3))
    refused(ValueError, r"state without a graph, got one of shape \(1, 2, 4\).*detach\(\) it", model=layer, state=state)
    refused(ValueError, "state without a graph", state=nn.Parameter(torch.zeros(1, 2, 4)))


def test_arguments_are_refused_at_the_call_not_at_the_first_window():
    with pytest.raises(ValueError, match="k1 <= k2"):
        tbptt(GRU(3, 4), torch.zeros(8, 2, 3), torch.zeros(8, 2, 4), mse_loss, 4, 2)


def test_an_output_without_the_steps_of_its_input_is_refused():
    class Last(GRU):
        def forward(self, x, state=None):
            output, state = super().forward(x, state)
            return output[-1:], state

    refused(ValueError, r"the 2 steps of its input on axis dim=0, got \(1, 2, 4\)", model=Last(3, 4))


def test_grad_mode_off_is_refused():
    with torch.no_grad():
        refused(ValueError, "is grad mode on")


def test_a_distributed_wrapper_is_refused():
    wrapped = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    refused(TypeError, r"pass model\.module", model=wrapped)
