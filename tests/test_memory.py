"""The content-addressed memory: its equations in NumPy, gradients, what each part does, and a task that needs it."""

from __future__ import annotations

import copy
import doctest
import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from seqlab.cells import gru_step
from seqlab.memory import ContentMemory, ContentMemoryCell, content_weights, read, write
from seqlab.tasks import associative_recall
from seqlab.tbptt import tbptt

EXACT = {"rtol": 0.0, "atol": 1e-12}
f64 = torch.float64
N, H_IN, H, S, W = 2, 3, 4, 5, 6


def randn(*shape):
    return torch.randn(shape, dtype=f64, requires_grad=True)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# The equations, one sequence and one slot at a time.


def numpy_weights(M, k, beta):
    return softmax(beta * np.array([slot @ k / (np.linalg.norm(slot) * np.linalg.norm(k)) for slot in M]))


def numpy_write(M, w, e, a):
    return np.stack([slot * (1 - w_s * e) + w_s * a for slot, w_s in zip(M, w, strict=True)])


def numpy_read(M, w):
    return sum(w_s * slot for slot, w_s in zip(M, w, strict=True))


def test_the_functions_are_the_equations():
    M, k, beta = randn(N, S, W), randn(N, W), torch.tensor([0.5, 20.0], dtype=f64)
    e, a = torch.rand(N, W, dtype=f64), randn(N, W)
    w = content_weights(M, k, beta)
    for n in range(N):
        M_n, k_n, w_n, e_n, a_n = (each[n].detach().numpy() for each in (M, k, w, e, a))
        assert_close(w_n, numpy_weights(M_n, k_n, beta[n].item()), **EXACT)
        assert_close(write(M, w, e, a)[n].detach().numpy(), numpy_write(M_n, w_n, e_n, a_n), **EXACT)
        assert_close(read(M, w)[n].detach().numpy(), numpy_read(M_n, w_n), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, f64])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 3000.0])  # 3000² is beyond half
def test_weights_are_right_in_any_precision_and_with_vectors_of_length_zero(dtype, scale):
    M, k = torch.randn(N, S, W, dtype=f64), scale * torch.randn(N, W, dtype=f64)
    M[0, 1] = 0.0
    M, k = (each.to(dtype).requires_grad_() for each in (M, k))
    w = content_weights(M, k, torch.tensor([0.5, 4.0], dtype=dtype))
    assert w.dtype == dtype
    wanted = content_weights(M.double(), k.double(), torch.tensor([0.5, 4.0], dtype=f64))
    assert_close(w.double(), wanted, rtol=0.0, atol=30 * torch.finfo(dtype).eps)
    assert w.isfinite().all()
    if scale == 0.0:
        assert_close(w, torch.full_like(w, 1 / S))
    if scale != 1e-6:  # whose gradient grows as 1 / scale
        w[:, 0].sum().backward()
        assert M.grad.isfinite().all()
        assert k.grad.isfinite().all()


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_gradients_of_the_functions(check):
    M, w, beta = randn(N, 3, 2), torch.rand(N, 3, dtype=f64, requires_grad=True), randn(N)
    assert check(content_weights, (M, randn(N, 2), beta))
    assert check(write, (M, w, randn(N, 2), randn(N, 2)))
    assert check(read, (M, w))


def test_the_cell_is_the_equations():
    cell, inputs = ContentMemoryCell(H_IN, H, S, W, dtype=f64), torch.randn(7, N, H_IN, dtype=f64)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_()
    p = {name: value.numpy() for name, value in cell.state_dict().items()}
    gru = [torch.from_numpy(p[f"controller.{name}"]) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    for n in range(N):
        h, M, w, state = np.zeros(H), p["memory"], np.full(S, 1 / S), None
        for x in inputs[:, n]:
            h = gru_step(torch.cat([x, torch.from_numpy(numpy_read(M, w))]), torch.from_numpy(h), *gru).numpy()
            a = p["interface.weight"] @ np.concatenate([h, x.numpy()]) + p["interface.bias"]
            key, beta, gate, erase, add = np.split(a, [W, W + 1, W + 2, 2 * W + 2])
            gate = sigmoid(gate)
            w = gate * numpy_weights(M, key, np.log1p(np.exp(beta))) + (1 - gate) * w
            M = numpy_write(M, w, sigmoid(erase), add)
            y, state = cell(x.unsqueeze(0), state)
            assert_close(y[0].detach().numpy(), np.concatenate([h, numpy_read(M, w)]), **EXACT)
            assert_close([part[0].detach().numpy() for part in state], [h, M, w], **EXACT)


def test_gradients_of_the_layer():
    layer = ContentMemory(2, 2, 3, 2, dtype=f64)
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def run(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(run, (randn(4, 1, 2), *parameters))
    assert torch.autograd.gradgradcheck(run, (randn(2, 1, 2), *parameters))


# What the parts do.


@given(beta=st.floats(0, 1e4), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 2**16))
@settings(max_examples=50, deadline=None)
def test_weights_are_a_distribution_that_knows_directions_alone(beta, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    M, k = (torch.randn(1, *shape, dtype=f64, generator=generator) for shape in ((S, W), (W,)))
    w = content_weights(M, k, torch.tensor([beta], dtype=f64))
    assert (w >= 0).all()
    assert_close(w.sum(), torch.tensor(1.0, dtype=f64))
    assert_close(content_weights(scale * M, k / scale, torch.tensor([beta], dtype=f64)), w, rtol=1e-7, atol=1e-9)
    order = torch.randperm(S, generator=generator)
    assert_close(content_weights(M[:, order], k, torch.tensor([beta], dtype=f64)), w[:, order])


def test_beta_goes_from_all_slots_alike_to_the_most_like():
    M = torch.eye(3).unsqueeze(0)
    key = torch.tensor([[0.9, 1.0, 0.0]])
    assert_close(content_weights(M, key, torch.tensor([0.0])), torch.full((1, 3), 1 / 3))
    assert_close(content_weights(M, key, torch.tensor([1000.0])), torch.tensor([[0.0, 1.0, 0.0]]))


def test_what_is_written_to_one_slot_is_read_from_it_and_the_others_stay():
    M, a = torch.randn(1, S, W), torch.randn(1, W)
    one = torch.eye(S)[2:3]
    after = write(M, one, torch.ones(1, W), a)
    assert_close(read(after, one), a)
    assert torch.equal(after[:, [0, 1, 3, 4]], M[:, [0, 1, 3, 4]])
    assert torch.equal(write(M, one, torch.zeros(1, W), torch.zeros(1, W)), M)


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_layer_is_the_cell_along_time_and_goes_on_from_a_state(batch_first):
    layer, x = ContentMemory(H_IN, H, S, W, batch_first, dtype=f64), randn(9, N, H_IN)
    outputs, state = [], layer.cell.start(N)
    for step in x:
        y, state = layer.cell(step, state)
        outputs.append(y)

    def run(x, state=None):
        output, state = layer(x.transpose(0, 1) if batch_first else x, state)
        return output.transpose(0, 1) if batch_first else output, state

    whole, final = run(x)
    assert_close(whole, torch.stack(outputs), **EXACT)
    assert_close(final, state, **EXACT)
    first, state = run(x[:4])
    second, final = run(x[4:], state)
    assert_close(torch.cat([first, second]), whole, **EXACT)


def test_truncated_bptt_takes_it_as_it_takes_a_recurrent_layer():
    layer, x, y = ContentMemory(H_IN, H, S, W, dtype=f64), torch.randn(8, N, H_IN, dtype=f64), torch.zeros(8, N, H + W)
    usual = copy.deepcopy(layer)
    for _ in tbptt(layer, x, y.double(), nn.functional.mse_loss, 8, 8):
        pass
    nn.functional.mse_loss(usual(x)[0], y.double()).backward()
    for a, b in zip(layer.parameters(), usual.parameters(), strict=True):
        assert_close(a.grad, b.grad, **EXACT)


# A task that needs it.


def test_it_learns_associative_recall():
    """Four pairs of 26 keys and 10 values; naming one of the four values seen is right in 1/4 + 3/4 · 1/10 = 0.325."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    embedding, layer, readout = nn.Embedding(36, 32), ContentMemory(32, 64, slots=16, width=32), nn.Linear(96, 10)
    parameters = [p for module in (embedding, layer, readout) for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.005)

    def run(n):
        input, target = associative_recall(n, pairs=4, generator=generator)
        output, _ = layer(embedding(input))
        return readout(output[-1]), target

    for _ in range(250):
        logits, target = run(64)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, target).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    logits, target = run(500)
    assert (logits.argmax(1) == target).float().mean() > 0.75


# What is refused.

CELL, LAYER, X = ContentMemoryCell(H_IN, H, S, W), ContentMemory(H_IN, H, S, W), torch.zeros(7, N, H_IN)
MEMORY = torch.zeros(N, S, W)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "ContentMemoryCell: expected slots of at least 1, got 0", lambda: ContentMemory(3, 4, 0, 6)),
        (TypeError, "ContentMemoryCell: expected width as an int", lambda: ContentMemoryCell(3, 4, 5, 6.0)),
        (ValueError, r"input \(N, H_in\) with H_in=3, got \(7, 2, 3\); a cell takes one", lambda: CELL(X)),
        (ValueError, "ContentMemoryCell: expected input of torch.float32", lambda: CELL(X[0].double())),
        (ValueError, r"ContentMemory: expected input \(L, N, H_in\) with H_in=3 .*\(2, 3\)", lambda: LAYER(X[0])),
        (ValueError, r"at least one step, got \(0, 2, 3\)", lambda: LAYER(X[:0])),
        (
            ValueError,
            r"input \(N, L, H_in\) with H_in=3 .*got \(7, 2, 2\)",
            lambda: ContentMemory(3, 4, 5, 6, batch_first=True)(X[..., :2]),
        ),
        (ValueError, r"content_weights: expected memory \(N, S, W\), got \(5, 6\)",
         lambda: content_weights(MEMORY[0], X[0], X[0])),
        (ValueError, r"content_weights: expected key \(N, W\) = \(2, 6\), to fit memory .*got \(2, 3\)",
         lambda: content_weights(MEMORY, X[0], X[0, :, 0])),
        (ValueError, r"content_weights: expected beta \(N\) = \(2,\)",
         lambda: content_weights(MEMORY, MEMORY[:, 0], torch.ones(N, 1))),
        (ValueError, r"read: expected weights \(N, S\) = \(2, 5\)", lambda: read(MEMORY, torch.ones(N, W))),
        (ValueError, r"write: expected add \(N, W\) = \(2, 6\)",
         lambda: write(MEMORY, torch.ones(N, S), torch.ones(N, W), torch.ones(N, S))),
    ],
)  # fmt: skip
def test_refused(error, match, call):
    with pytest.raises(error, match=match):
        call()


def test_a_state_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"weights \(N, S\) = \(3, 5\)"):
        CELL(X[0], (torch.zeros(N, H), torch.zeros(3, S, W), torch.zeros(N, S)))
    with pytest.raises(TypeError, match=r"state as a triple \(h, M, w\), got Tensor"):
        LAYER(X, MEMORY)
    with pytest.raises(ValueError, match=r"expected hx of shape \(2, 4\)"):
        CELL(X[0], (torch.zeros(3, H), MEMORY, torch.zeros(N, S)))


def test_examples_in_docstrings():
    torch.manual_seed(0)
    results = doctest.testmod(importlib.import_module("seqlab.memory"))
    assert results.failed == 0
    assert results.attempted > 0
