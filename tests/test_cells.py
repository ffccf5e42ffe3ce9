"""One step of each network: the numbers of the equations, torch's cells, derivatives, and what is refused."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import seqlab
from seqlab import gru_step, lstm_step, rnn_step

PAIRS = [
    pytest.param(seqlab.RNNCell, nn.RNNCell, {}, id="RNNCell"),
    pytest.param(seqlab.RNNCell, nn.RNNCell, {"nonlinearity": "relu"}, id="RNNCell-relu"),
    pytest.param(seqlab.LSTMCell, nn.LSTMCell, {}, id="LSTMCell"),
    pytest.param(seqlab.GRUCell, nn.GRUCell, {}, id="GRUCell"),
]
cells = pytest.mark.parametrize(("ours", "theirs", "options"), PAIRS)
EXACT = {"rtol": 0.0, "atol": 1e-12}
GRADIENTS = {"rtol": 0.0, "atol": 1e-10}


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def flat(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# One unit, one input, numbers small enough for paper; math alone is the oracle.


def test_rnn_step_is_its_equation():
    h = rnn_step(flat(2.0), flat(0.5), column(0.3), column(-0.8), flat(0.1), flat(0.2))
    assert_close(h, flat(math.tanh(0.3 * 2.0 + 0.1 - 0.8 * 0.5 + 0.2)), **EXACT)


def test_rnn_step_with_relu_is_its_equation():
    weights = column(0.3), column(-0.8)
    assert_close(rnn_step(flat(2.0), flat(0.5), *weights, nonlinearity="relu"), flat(0.6 - 0.4), **EXACT)
    assert_close(rnn_step(flat(-2.0), flat(0.5), *weights, nonlinearity="relu"), flat(0.0), **EXACT)


def test_lstm_step_is_its_equations():
    x, h, c = 2.0, 0.5, -0.4
    w, u, b = (0.1, 0.2, 0.3, 0.4), (-0.5, 0.6, -0.7, 0.8), (0.01, 1.0, 0.03, 0.04)
    i, f, g, o = (wk * x + uk * h + bk for wk, uk, bk in zip(w, u, b, strict=True))
    c_next = sigmoid(f) * c + sigmoid(i) * math.tanh(g)
    h_next = sigmoid(o) * math.tanh(c_next)
    zero = torch.zeros(4, dtype=torch.float64)
    got = lstm_step(flat(x), (flat(h), flat(c)), column(*w), column(*u), flat(*b), zero)
    assert_close(got, (flat(h_next), flat(c_next)), **EXACT)


@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_step_is_its_equations(reset_after):
    x, h = 2.0, 0.5
    w, u, b_ih, b_hh = (0.1, 0.2, 0.3), (-0.5, 0.6, -0.7), (0.01, 0.02, 0.03), (0.1, 0.2, 0.3)
    r, z = (sigmoid(w[k] * x + b_ih[k] + u[k] * h + b_hh[k]) for k in (0, 1))
    recurrent = r * (u[2] * h + b_hh[2]) if reset_after else u[2] * (r * h) + b_hh[2]
    n = math.tanh(w[2] * x + b_ih[2] + recurrent)
    got = gru_step(flat(x), flat(h), column(*w), column(*u), flat(*b_ih), flat(*b_hh), reset_after=reset_after)
    assert_close(got, flat((1 - z) * n + z * h), **EXACT)


def test_the_two_places_of_the_reset_gate_differ_in_more_than_one_unit():
    cell = seqlab.GRUCell(3, 4, dtype=torch.float64)
    before = seqlab.GRUCell(3, 4, dtype=torch.float64, reset_after=False)
    before.load_state_dict(cell.state_dict())
    x, h = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    assert (cell(x, h) - before(x, h)).abs().max() > 1e-3


@cells
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("given", [True, False], ids=["hx", "zeros"])
def test_cell_matches_torch_forward_and_backward(ours, theirs, options, bias, batched, given):
    torch.manual_seed(0)
    reference = theirs(3, 5, bias=bias, dtype=torch.float64, **options)
    torch.manual_seed(0)
    cell = ours(3, 5, bias=bias, dtype=torch.float64, **options)
    shape = (4,) if batched else ()
    x = torch.randn(*shape, 3, dtype=torch.float64, requires_grad=True)
    hx = [torch.randn(*shape, 5, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    state = (tuple(hx) if ours is seqlab.LSTMCell else hx[0]) if given else None
    leaves = [x, *hx] if given else [x]

    def run(model):
        out = model(x, state)
        values = out if isinstance(out, tuple) else (out,)
        loss = sum((v.sin() * (k + 1)).sum() for k, v in enumerate(values))
        return values, torch.autograd.grad(loss, [*leaves, *model.parameters()], allow_unused=True)

    (values, gradients), (wanted, wanted_gradients) = run(cell), run(reference)
    assert_close(values, wanted, **EXACT)
    for gradient, expected in zip(gradients, wanted_gradients, strict=True):
        assert (gradient is None) == (expected is None)
        if gradient is not None:
            assert_close(gradient, expected, **GRADIENTS)


@pytest.mark.parametrize(
    ("step", "blocks"),
    [
        pytest.param(rnn_step, 1, id="rnn"),
        pytest.param(lambda x, h, c, *w: lstm_step(x, (h, c), *w), 4, id="lstm"),
        pytest.param(gru_step, 3, id="gru-after"),
        pytest.param(lambda *args: gru_step(*args, reset_after=False), 3, id="gru-before"),
    ],
)
def test_first_and_second_derivatives_of_a_step(step, blocks):
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    states = [leaf(2, 2) for _ in range(2 if blocks == 4 else 1)]
    weights = leaf(blocks * 2, 3), leaf(blocks * 2, 2), leaf(blocks * 2), leaf(blocks * 2)
    inputs = (leaf(2, 3), *states, *weights)
    assert torch.autograd.gradcheck(step, inputs)
    assert torch.autograd.gradgradcheck(step, inputs)


@cells
def test_cell_is_a_torch_cell_in_all_but_the_step(ours, theirs, options):
    torch.manual_seed(1)
    reference = theirs(3, 5, **options)
    torch.manual_seed(1)
    cell = ours(3, 5, **options)
    assert isinstance(cell, theirs)
    assert repr(cell) == repr(reference)
    assert_close(dict(cell.state_dict()), dict(reference.state_dict()), rtol=0, atol=0)
    reference.load_state_dict(ours(3, 5, **options).state_dict())
    cell.load_state_dict(reference.state_dict())
    x = torch.randn(2, 3)
    for twin in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell)), reference):
        assert_close(twin(x), cell(x))


def test_reset_before_is_shown():
    assert repr(seqlab.GRUCell(3, 5, reset_after=False)) == "GRUCell(3, 5, reset_after=False)"


def test_steps_map_over_a_batch_of_weights():
    weight_ih, weight_hh = torch.randn(7, 5, 3), torch.randn(7, 5, 5)
    x, h = torch.randn(2, 3), torch.randn(2, 5)
    mapped = torch.func.vmap(lambda w, u: rnn_step(x, h, w, u))(weight_ih, weight_hh)
    assert_close(mapped, torch.stack([rnn_step(x, h, w, u) for w, u in zip(weight_ih, weight_hh, strict=True)]))


def test_weights_of_another_cell_are_refused():
    x, h = torch.zeros(2, 4), torch.zeros(2, 4)
    weights = torch.zeros(12, 4), torch.zeros(12, 4)
    with pytest.raises(ValueError, match=r"lstm_step: expected weight_ih of shape \(16, 4\).*got \(12, 4\); check"):
        lstm_step(x, (h, h), *weights)
    with pytest.raises(ValueError, match=r"rnn_step: expected weight_ih of shape \(4, 4\)"):
        rnn_step(x, h, *weights)
    with pytest.raises(ValueError, match=r"gru_step: expected bias_hh of shape \(12,\).*got \(4,\)"):
        gru_step(x, h, *weights, torch.zeros(12), torch.zeros(4))
    with pytest.raises(ValueError, match=r"gru_step: expected weight_hh of shape \(12, 4\)"):
        gru_step(x, h, torch.zeros(12, 4), torch.zeros(12, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: rnn_step(*[torch.zeros(1, 1)] * 4, nonlinearity="gelu"),
            ValueError,
            "rnn_step: expected nonlinearity",
        ),
        (lambda: seqlab.RNNCell(3, 5, nonlinearity="gelu"), ValueError, "RNNCell: expected nonlinearity.*got 'gelu'"),
        (lambda: seqlab.RNNCell(0, 5), ValueError, "RNNCell: expected input_size of at least 1, got 0"),
        (lambda: seqlab.LSTMCell(3, 2.0), TypeError, "LSTMCell: expected hidden_size as an int, got 2.0"),
        (lambda: seqlab.GRUCell(3, True), TypeError, "GRUCell: expected hidden_size as an int, got True"),
        (lambda: seqlab.GRUCell(3, 5)([1.0]), TypeError, "GRUCell: expected input as a Tensor, got list"),
        (lambda: seqlab.GRUCell(3, 5)(torch.zeros(2, 4)), ValueError, r"input \(N, H_in\).*H_in=3, got \(2, 4\)"),
        (
            lambda: seqlab.RNNCell(3, 5)(torch.zeros(7, 2, 3)),
            ValueError,
            r"got \(7, 2, 3\); a cell takes one time step",
        ),
        (
            lambda: seqlab.RNNCell(3, 5)(torch.zeros(2, 3), torch.zeros(1, 5)),
            ValueError,
            r"expected hx of shape \(2, 5\), to fit the input, got \(1, 5\); leave hx out",
        ),
        (
            lambda: seqlab.LSTMCell(3, 5)(torch.zeros(2, 3), torch.zeros(2, 5)),
            TypeError,
            "LSTMCell: expected hx as a pair, hidden and cell state, got Tensor; pass",
        ),
        (
            lambda: seqlab.LSTMCell(3, 5)(torch.zeros(2, 3), (torch.zeros(2, 5),)),
            TypeError,
            "got 1 items; pass",
        ),
        (
            lambda: seqlab.GRUCell(3, 5)(torch.zeros(2, 3).double()),
            ValueError,
            r"expected input of torch.float32, as the weights, got torch.float64; use input.to\(torch.float32\)",
        ),
        (lambda: seqlab.GRUCell(3, 5)(torch.zeros(2, 3).long()), ValueError, "embed indices with nn.Embedding"),
        (
            lambda: seqlab.GRUCell(3, 5)(torch.zeros(2, 3), torch.zeros(2, 5, device="meta")),
            ValueError,
            r"GRUCell: expected hx on cpu, where the weights are, got meta; use hx.to\('cpu'\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
