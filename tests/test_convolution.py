"""Dilated convolution: an explicit loop, the field measured by gradients, the past carried on, and what is refused."""

from __future__ import annotations

import doctest
import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from seqlab.convolution import DilatedBlock, DilatedStack, receptive_field
from seqlab.tbptt import tbptt

EXACT = {"rtol": 0.0, "atol": 1e-12}
f64 = torch.float64


def randn(*shape):
    return torch.randn(shape, dtype=f64, requires_grad=True)


def doubling(layers):
    return [2**i for i in range(layers)]


# Against a loop over steps, units and taps, in plain Python.


def looped_block(x, weights, dilation):
    """x: a list of L steps of H floats each."""
    W, b = weights["conv.weight"].tolist(), weights["conv.bias"].tolist()
    H, K = len(x[0]), len(W[0][0])

    def linear(name, z):
        return [
            sum(w * v for w, v in zip(row, z, strict=True)) + bias
            for row, bias in zip(weights[f"{name}.weight"].tolist(), weights[f"{name}.bias"].tolist(), strict=True)
        ]

    outputs, skips = [], []
    for t in range(len(x)):
        a = list(b)
        for unit in range(2 * H):
            for k in range(K):
                back = t - (K - 1 - k) * dilation
                if back >= 0:
                    a[unit] += sum(W[unit][i][k] * x[back][i] for i in range(H))
        z = [math.tanh(a[i]) / (1 + math.exp(-a[H + i])) for i in range(H)]
        skips.append(linear("skip", z))
        last = "residual.weight" not in weights
        outputs.append(x[t] if last else [u + v for u, v in zip(x[t], linear("residual", z), strict=True)])
    return outputs, skips


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_a_block_is_the_loop(kernel_size, dilation):
    block, x = DilatedBlock(3, kernel_size, dilation, dtype=f64), randn(2, 7, 3)
    output, skip, past = block(x)
    for n in range(2):
        outputs, skips = looped_block(x[n].tolist(), block.state_dict(), dilation)
        assert_close(output[n].detach(), torch.tensor(outputs, dtype=f64), **EXACT)
        assert_close(skip[n].detach(), torch.tensor(skips, dtype=f64), **EXACT)
    assert past.shape == (2, (kernel_size - 1) * dilation, 3)


def test_a_stack_is_the_loop():
    stack, x = DilatedStack(2, 3, [1, 2, 4], kernel_size=3, dtype=f64), randn(1, 9, 2)
    steps = stack.input(x)[0].tolist()
    total = torch.zeros(9, 3, dtype=f64)
    for block, dilation in zip(stack.blocks, [1, 2, 4], strict=True):
        steps, skips = looped_block(steps, block.state_dict(), dilation)
        total += torch.tensor(skips, dtype=f64)
    assert_close(stack(x)[0][0].detach(), total, **EXACT)


def test_gradients_of_first_and_second_order():
    stack = DilatedStack(2, 2, [1, 2], dtype=f64)
    names, parameters = zip(*stack.named_parameters(), strict=True)

    def run(x, *parameters):
        return torch.func.functional_call(stack, dict(zip(names, parameters, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(run, (randn(1, 4, 2), *parameters))
    assert torch.autograd.gradgradcheck(run, (randn(1, 4, 2), *parameters))


def test_every_parameter_has_a_gradient():
    stack = DilatedStack(2, 3, [1, 2])
    stack(torch.randn(2, 5, 2))[0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in stack.parameters())


# The field.


@pytest.mark.parametrize(("kernel_size", "field"), [(2, 512), (3, 1023)])
def test_nine_layers_reach_512_and_1023_steps(kernel_size, field):
    """By the gradient of one output: exactly zero outside the field and after the step, and nowhere zero within."""
    stack, L = DilatedStack(1, 2, doubling(9), kernel_size, dtype=f64), field + 20
    assert stack.receptive_field == receptive_field(doubling(9), kernel_size) == field
    with torch.no_grad():
        for name, p in stack.named_parameters():
            p.fill_(0.0 if "bias" in name else 0.1)  # alike and positive: no path cancels another
    x = torch.full((1, L, 1), 0.1, dtype=f64, requires_grad=True)
    t = L - 10
    (gradient,) = torch.autograd.grad(stack(x)[0][0, t].sum(), x)
    seen = gradient[0, :, 0] != 0
    assert seen.nonzero().flatten().tolist() == list(range(t - field + 1, t + 1))


@given(
    dilations=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    kernel_size=st.integers(1, 3),
    more=st.integers(0, 3),
)
@settings(max_examples=25, deadline=None)
def test_the_field_is_what_gradients_reach(dilations, kernel_size, more):
    """The first step of the field counts, the one before and all later ones do not."""
    torch.manual_seed(0)
    stack = DilatedStack(1, 2, dilations, kernel_size, dtype=f64)
    t = stack.receptive_field - 1 + more
    x = torch.randn(1, t + 3, 1, dtype=f64, requires_grad=True)
    (gradient,) = torch.autograd.grad(stack(x)[0][0, t, 0], x)
    assert gradient[0, more].abs() > 0
    assert (gradient[0, :more] == 0).all()
    assert (gradient[0, t + 1 :] == 0).all()


# The past.


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("parts", [[1] * 12, [5, 1, 6], [12]], ids=["steps", "parts", "at-once"])
def test_going_on_from_a_state_is_the_whole_pass(kernel_size, parts):
    stack, x = DilatedStack(2, 3, [1, 2, 4], kernel_size, dtype=f64), randn(2, 12, 2)
    whole, final = stack(x)
    outputs, state = [], None
    for part in x.split(parts, dim=1):
        output, state = stack(part, state)
        outputs.append(output)
    assert_close(torch.cat(outputs, 1), whole, **EXACT)
    assert_close(state, final, **EXACT)
    leaves = [x, *stack.parameters()]
    a, b = (torch.autograd.grad(out.pow(2).sum(), leaves) for out in (torch.cat(outputs, 1), whole))
    assert_close(a, b, rtol=0, atol=1e-10)


def test_truncated_bptt_takes_it_as_it_takes_a_recurrent_layer():
    stack, x = DilatedStack(2, 3, [1, 2, 4], dtype=f64), randn(2, 12, 2).detach()
    y = torch.randn(2, 12, 3, dtype=f64)
    whole = stack(x)[0]
    windows = list(tbptt(stack, x, y, nn.functional.mse_loss, 4, 4, dim=1))
    assert_close(torch.cat([w.output for w in windows], 1), whole.detach(), **EXACT)


# What is refused.


X = torch.zeros(2, 5, 3)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "DilatedStack: expected at least one dilation, got none", lambda: DilatedStack(3, 4, [])),
        (ValueError, "receptive_field: expected dilation of at least 1, got 0", lambda: DilatedStack(3, 4, [1, 0])),
        (TypeError, "expected kernel_size as an int, got 2.0", lambda: receptive_field([1], 2.0)),
        (ValueError, "DilatedStack: expected hidden_size of at least 1", lambda: DilatedStack(3, 0, [1])),
        (ValueError, "DilatedBlock: expected dilation of at least 1, got 0", lambda: DilatedBlock(3, dilation=0)),
        (
            ValueError,
            r"DilatedStack: expected input \(N, L, H_in\) with H_in=2 and at least one step, got \(2, 5, 3\)",
            lambda: DilatedStack(2, 4, [1])(X),
        ),
        (ValueError, r"H_in=3 .*got \(5, 3\); the batch comes first", lambda: DilatedStack(3, 4, [1])(X[0])),
        (ValueError, r"at least one step, got \(2, 0, 3\)", lambda: DilatedStack(3, 4, [1])(X[:, :0])),
        (ValueError, "expected input of torch.float32", lambda: DilatedStack(3, 4, [1])(X.double())),
        (TypeError, "expected input as a Tensor, got list", lambda: DilatedStack(3, 4, [1])([1])),
        (ValueError, "a state of 2 tensors, one for each block, got 1", lambda: DilatedStack(3, 4, [1, 2])(X, (X,))),
        (ValueError, r"past .* = \(2, 4, 3\), got \(2, 5, 3\)", lambda: DilatedBlock(3, dilation=4)(X, X)),
        (ValueError, r"DilatedBlock: expected x \(N, L, H\) with H=4", lambda: DilatedBlock(4)(X)),
    ],
)
def test_refused(error, match, call):
    with pytest.raises(error, match=match):
        call()


# What the field means, and the examples run.


@pytest.mark.parametrize(("lag", "learned"), [(7, True), (8, False)], ids=["within", "beyond"])
def test_a_symbol_within_the_field_is_learned_and_one_beyond_it_is_not(lag, learned):
    """Three layers see eight steps, their own included; chance is 1/4."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    embedding, stack, readout = nn.Embedding(4, 8), DilatedStack(8, 16, doubling(3)), nn.Linear(16, 4)
    optimizer = torch.optim.Adam([p for m in (embedding, stack, readout) for p in m.parameters()], lr=0.01)
    for _ in range(240):
        symbols = torch.randint(4, (16, 40 + lag), generator=generator)
        logits, target = readout(stack(embedding(symbols))[0][:, lag:]), symbols[:, :-lag]
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten()).backward()
        optimizer.step()
    accuracy = (logits.argmax(2) == target).float().mean().item()
    assert (accuracy > 0.95) if learned else (accuracy < 0.35)


def test_examples_in_docstrings():
    torch.manual_seed(0)
    results = doctest.testmod(importlib.import_module("seqlab.convolution"))
    assert results.failed == 0
    assert results.attempted > 0
