"""The lag spectrum: against autograd one loss at a time, products of Jacobians, and a closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from seqlab.gradients import lag_spectrum, recurrent_jacobians
from seqlab.recurrent import GRU, LSTM, RNN

MAKERS = {
    "RNN": lambda **options: RNN(3, 5, dtype=torch.float64, **options),
    "RNN-relu": lambda **options: RNN(3, 5, dtype=torch.float64, nonlinearity="relu", **options),
    "RNN-no-bias": lambda **options: RNN(3, 5, dtype=torch.float64, bias=False, **options),
    "GRU": lambda **options: GRU(3, 5, dtype=torch.float64, **options),
    "GRU-reset-before": lambda **options: GRU(3, 5, dtype=torch.float64, reset_after=False, **options),
    "LSTM": lambda **options: LSTM(3, 5, dtype=torch.float64, **options),
}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
L, N, K = 9, 2, 6
exact = {"rtol": 0, "atol": 1e-10, "equal_nan": True}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64)


def per_step(layer, x, loss, max_lag, hx=None):
    """The same by autograd, a backward pass for each loss and each state: h_u (and c_u) as leaves, the rest unrolled.

    The state is cut at u, so that in an LSTM h_u and c_u are two independent coordinates, as the function promises.
    """
    zeros = x.new_zeros(1, x.shape[1], layer.hidden_size)
    state = list(hx) if isinstance(hx, tuple) else [zeros for _ in layer.state_names] if hx is None else [hx]
    found = torch.full((len(state), len(x), x.shape[1], max_lag + 1), math.nan, dtype=x.dtype)
    for u in range(len(x)):
        _, after = layer(x[u : u + 1], tuple(state) if len(state) == 2 else state[0])
        state = [s.detach().requires_grad_() for s in (after if len(state) == 2 else [after])]
        outputs = [state[0]]
        if u + 1 < len(x):
            outputs.append(layer(x[u + 1 :], tuple(state) if len(state) == 2 else state[0])[0])
        losses = loss(torch.cat([x.new_zeros(u, x.shape[1], layer.hidden_size), *outputs]))
        for t in range(u, min(u + max_lag + 1, len(x))):
            grads = torch.autograd.grad(losses[t].sum(), state, retain_graph=True, materialize_grads=True)
            for part, grad in enumerate(grads):
                found[part, t, :, t - u] = grad[0].norm(dim=-1)
    return dict(zip(layer.state_names, found, strict=True))


@makers
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "hx"])
def test_spectrum_equals_autograd_one_loss_at_a_time(make, given):
    layer, readout, x, y = make(), nn.Linear(5, 4, dtype=torch.float64), randn(L, N, 3), randn(L, N, 4)
    start = tuple(randn(1, N, 5) for _ in layer.state_names) if given else None
    hx = start if start is None or len(start) == 2 else start[0]

    def loss(output):
        return (readout(output) - y).pow(2).mean(-1)

    spectrum = lag_spectrum(layer, x, loss, K, hx)
    assert {part.shape for part in spectrum.values()} == {(L, N, K + 1)}
    torch.testing.assert_close(spectrum, per_step(layer, x, loss, K, hx), **exact)
    assert all(p.grad is None for p in [*layer.parameters(), *readout.parameters()])
    assert not layer._watchers


@pytest.mark.parametrize("cls", [RNN, LSTM, GRU])
def test_a_row_is_the_product_of_jacobians(cls):
    layer, x, g = cls(3, 5, dtype=torch.float64), randn(L, N, 3), randn(L, N, 5)
    spectrum, jacobians = lag_spectrum(layer, x, lambda h: (h * g).sum(-1), L - 1), recurrent_jacobians(layer, x)
    v = torch.cat([g[-1], *([torch.zeros_like(g[-1])] * (len(layer.state_names) - 1))], dim=-1)
    for k in range(L):
        for part, name in zip(v.split(5, dim=-1), layer.state_names, strict=True):
            torch.testing.assert_close(spectrum[name][-1, :, k], part.norm(dim=-1), **exact)
        v = (jacobians[L - 1 - k].mT @ v.unsqueeze(-1)).squeeze(-1)


def test_spectrum_of_a_scaled_identity_falls_by_its_factor_at_each_lag():
    layer = RNN(1, 4, nonlinearity="relu", bias=False)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
        layer.weight_hh_l0.copy_(0.5 * torch.eye(4))
    spectrum = lag_spectrum(layer, torch.ones(60, 1, 1), lambda h: h[..., 0], 59)["h"]
    torch.testing.assert_close(spectrum[-1, 0], 0.5 ** torch.arange(60, dtype=torch.float64), rtol=1e-6, atol=0)
    exists = torch.arange(60)[:, None] >= torch.arange(60)
    assert (spectrum[:, 0].isnan() == ~exists).all()


def test_norms_below_the_square_root_of_float32_are_not_lost():
    layer = RNN(1, 4, nonlinearity="relu", bias=False)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
        layer.weight_hh_l0.copy_(0.1 * torch.eye(4))
    spectrum = lag_spectrum(layer, torch.ones(32, 1, 1), lambda h: h[..., 0], 30)["h"]
    assert spectrum.dtype == torch.float64
    assert float(spectrum[-1, 0, 30]) == pytest.approx(1e-30, rel=1e-4)


@pytest.mark.parametrize("cls", [RNN, LSTM, GRU])
def test_spectrum_in_other_layouts(cls):
    layer, x, y = cls(3, 5), torch.randn(L, N, 3), torch.randn(L, N, 5)
    wanted = lag_spectrum(layer, x, lambda h: (h - y).square().sum(-1), K)
    over_batch = lag_spectrum(layer, x, lambda h: (h - y).square().sum((1, 2)), K)
    torch.testing.assert_close(over_batch, wanted, equal_nan=True)
    alone = lag_spectrum(layer, x[:, 1], lambda h: (h - y[:, 1]).square().sum(-1), K)
    torch.testing.assert_close(alone, {name: part[:, 1] for name, part in wanted.items()}, equal_nan=True)
    layer.batch_first = True
    turned = y.transpose(0, 1)
    with torch.no_grad():  # a figure is often drawn where no gradient is wanted
        first = lag_spectrum(layer, x.transpose(0, 1), lambda h: (h - turned).square().sum(-1), K)
    torch.testing.assert_close(first, wanted, equal_nan=True)


def test_with_a_loss_at_the_last_step_alone_its_row_is_the_total_gradient():
    layer, x = GRU(3, 5, dtype=torch.float64), randn(L, N, 3)
    only_last = torch.zeros(L, 1, dtype=torch.float64)
    only_last[-1] = 1
    spectrum = lag_spectrum(layer, x, lambda h: only_last * h.square().sum(-1), L - 1)["h"]
    states = []
    with layer.watch(lambda _l, _d, _t, state: states.append(state["h"])):
        loss = layer(x)[0][-1].square().sum()
    for k, grad in enumerate(torch.autograd.grad(loss, states[::-1])):
        torch.testing.assert_close(spectrum[-1, :, k].norm(), grad.norm(), **exact)
    assert spectrum[:-1].nan_to_num().eq(0).all()


def each(h):
    return h.square().sum(-1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: lag_spectrum(nn.RNN(3, 5), x, each, 2), TypeError, "expected a layer of seqlab .* got RNN"),
        (lambda x: lag_spectrum(RNN(3, 5, num_layers=2), x, each, 2), ValueError, "got num_layers=2"),
        (lambda x: lag_spectrum(GRU(3, 5, bidirectional=True), x, each, 2), ValueError, "bidirectional=True"),
        (lambda x: lag_spectrum(RNN(3, 5), pack_sequence([x[:, 0]]), each, 2), TypeError, "PackedSequence"),
        (lambda x: lag_spectrum(RNN(4, 5), x, each, 2), ValueError, "H_in=4"),
        (lambda x: lag_spectrum(RNN(3, 5), x, each, 9), ValueError, "below the length, 9, got 9; lower it to 8"),
        (lambda x: lag_spectrum(RNN(3, 5), x, each, 0), ValueError, "max_lag of at least 1, got 0"),
        (lambda x: lag_spectrum(RNN(3, 5), x, each, 2.0), TypeError, "expected max_lag as an int"),
        (lambda x: lag_spectrum(RNN(3, 5), x, lambda h: 1.0, 2), TypeError, "as a Tensor, got float"),
        (lambda x: lag_spectrum(RNN(3, 5), x, lambda h: h.sum(), 2), ValueError, r"\(9, 2\) or \(9,\), .* got \(\)"),
        (lambda x: lag_spectrum(RNN(3, 5), x, lambda h: x.sum(-1), 2), ValueError, "got one without a graph"),
        (
            lambda x: lag_spectrum(RNN(3, 5), x, lambda h: x.clone().requires_grad_().sum(-1), 2),
            ValueError,
            "to depend on the output, got one that does not",
        ),
        (lambda x: lag_spectrum(RNN(3, 5), x, lambda h: each(h).cumsum(0), 2), ValueError, "last step reaches back"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.randn(L, N, 3))
