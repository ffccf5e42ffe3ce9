"""Gradients through time: against chains of autograd, products of Jacobians, closed forms and planted faults."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import statistics
import weakref
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from seqlab.cells import gru_step, lstm_step, rnn_step
from seqlab.gradients import (
    GradientMonitor,
    Profile,
    Report,
    lag_spectrum,
    recurrent_jacobians,
    singular_values,
    spectral_radius,
)
from seqlab.gradients.report import find
from seqlab.recurrent import GRU, LSTM, RNN

LAYERS = [RNN, LSTM, GRU]
exact = {"rtol": 1e-12, "atol": 1e-14}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def chain(layer: nn.Module, x: Tensor) -> list[dict[str, Tensor]]:
    """The states of a one-layer network, each kept with its total gradient: the unrolled chain, written out."""
    weights = list(layer.parameters())
    h = c = x.new_zeros(x.shape[1], layer.hidden_size)
    states = []
    for x_t in x:
        if isinstance(layer, LSTM):
            h, c = lstm_step(x_t, (h, c), *weights)
        else:
            h = gru_step(x_t, h, *weights) if isinstance(layer, GRU) else rnn_step(x_t, h, *weights)
        states.append({"h": h, "c": c} if isinstance(layer, LSTM) else {"h": h})
        for state in states[-1].values():
            state.retain_grad()
    return states


def relu_layer(a: float, H: int = 4) -> RNN:
    """h_t = relu(a h_{t-1} + 1): every unit stays positive, so that ∂h_t/∂h_{t-1} = a I."""
    layer = RNN(2, H, nonlinearity="relu", dtype=torch.float64)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
        layer.weight_hh_l0.copy_(a * torch.eye(H, dtype=torch.float64))
        layer.bias_ih_l0.fill_(1)
        layer.bias_hh_l0.zero_()
    return layer


def monitored(model: nn.Module, *inputs: Tensor, loss=lambda out: out[0][-1].pow(2).sum(), **options):
    with GradientMonitor(model, **options) as monitor:
        loss(model(*inputs)).backward()
    return monitor.report


# Jacobians.


@pytest.mark.parametrize(
    "make",
    [
        RNN,
        LSTM,
        GRU,
        lambda *a, **k: GRU(*a, **k, reset_after=False),
        lambda *a, **k: RNN(*a, **k, nonlinearity="relu"),
        lambda *a, **k: LSTM(*a, **k, bias=False),
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_jacobians_equal_autograd_one_step_at_a_time(make, given):
    layer, x = make(3, 5, dtype=torch.float64), torch.randn(6, 2, 3, dtype=torch.float64)
    parts = len(layer.state_names)
    start = [torch.randn(1, 2, 5, dtype=torch.float64) * given for _ in range(parts)]
    hx = (tuple(start) if parts == 2 else start[0]) if given else None
    jacobians = recurrent_jacobians(layer, x, hx)
    assert jacobians.shape == (6, 2, 5 * parts, 5 * parts)
    assert not jacobians.requires_grad
    state = [s[0] for s in start]
    for t in range(6):
        for n in range(2):

            def one_step(s, t=t, n=n):
                cut = tuple(s[None, None, :].chunk(parts, dim=-1))
                _, after = layer(x[t : t + 1, n : n + 1], cut if parts == 2 else cut[0])
                return torch.cat(after if parts == 2 else [after], dim=-1).flatten()

            expected = torch.autograd.functional.jacobian(one_step, torch.cat([s[n] for s in state]))
            torch.testing.assert_close(jacobians[t, n], expected, **exact)
        _, after = layer(x[t : t + 1], tuple(s[None] for s in state) if parts == 2 else state[0][None])
        state = [s[0].detach() for s in (after if parts == 2 else [after])]


@pytest.mark.parametrize("cls", LAYERS)
def test_jacobians_in_other_layouts(cls):
    layer, x = cls(3, 5), torch.randn(6, 2, 3)
    first = copy.deepcopy(layer)
    first.batch_first = True
    jacobians = recurrent_jacobians(layer, x)
    torch.testing.assert_close(recurrent_jacobians(first, x.transpose(0, 1)), jacobians)
    torch.testing.assert_close(recurrent_jacobians(layer, x[:, 1]), jacobians[:, 1])
    hx = [torch.randn(1, 2, 5) for _ in layer.state_names]
    given = recurrent_jacobians(layer, x, hx if len(hx) == 2 else hx[0])
    alone = [h[:, 1] for h in hx]
    torch.testing.assert_close(recurrent_jacobians(layer, x[:, 1], alone if len(hx) == 2 else alone[0]), given[:, 1])
    assert not layer._watchers


def test_jacobians_transposed_carry_the_gradient_back():
    layer, x = LSTM(3, 4, dtype=torch.float64), torch.randn(9, 1, 3, dtype=torch.float64)
    profiles, jacobians = monitored(layer, x).profiles, recurrent_jacobians(layer, x)
    gradient = torch.cat([2 * layer(x)[0][-1].detach(), torch.zeros(1, 4)], dim=-1)  # the loss is ‖h_L‖²
    for t in range(8, 0, -1):
        gradient = (jacobians[t].mT @ gradient.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(gradient[:, :4].norm(), profiles["h_l0"].gradient[t - 1], **exact)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: recurrent_jacobians(nn.LSTM(3, 5), torch.zeros(4, 2, 3)), TypeError, "got LSTM.*load_state_dict"),
        (lambda: recurrent_jacobians(RNN(3, 5, num_layers=2), torch.zeros(4, 2, 3)), ValueError, "num_layers=2.*copy"),
        (
            lambda: recurrent_jacobians(GRU(3, 5, bidirectional=True), torch.zeros(4, 3)),
            ValueError,
            "bidirectional=True",
        ),
        (lambda: recurrent_jacobians(RNN(3, 5), torch.zeros(4, 2, 7)), ValueError, "RNN: expected input.*H_in=3"),
        (lambda: recurrent_jacobians(LSTM(3, 5), torch.zeros(4, 3), torch.zeros(1, 5)), TypeError, "hx as a pair"),
        (
            lambda: recurrent_jacobians(RNN(3, 5), pack_padded_sequence(torch.zeros(4, 1, 3), [4])),
            TypeError,
            "got a Pack",
        ),
    ],
)
def test_jacobians_refuse(call, error, match):
    with pytest.raises(error, match=match):
        call()


TREATMENTS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "pruning": lambda layer, name: prune.random_unstructured(layer, name, 0.5),
    "old weight_norm": nn.utils.weight_norm,
}
treatments = pytest.mark.parametrize("treat", TREATMENTS.values(), ids=TREATMENTS)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("cls", LAYERS)
@treatments
def test_jacobians_and_spectra_of_computed_weights_are_those_of_their_values(cls, treat):
    layer, plain = cls(3, 5, dtype=torch.float64), cls(3, 5, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    treat(layer, "weight_hh_l0")
    treat(layer, "weight_ih_l0")
    for measure in (recurrent_jacobians, lambda layer, x: lag_spectrum(layer, x, lambda h: h.sum(-1), 4)):
        found = measure(layer, x)
        with torch.no_grad():
            for name, parameter in plain.named_parameters():
                parameter.copy_(getattr(layer.eval(), name))
        layer.train()
        torch.testing.assert_close(found, measure(plain, x), equal_nan=True, **exact)


# Matrices.


def test_spectral_radius_and_singular_values_of_known_matrices():
    rotation = torch.tensor([[0.0, -2.0], [2.0, 0.0]], dtype=torch.float64)
    shear = torch.tensor([[0.5, 100.0], [0.0, 0.5]], dtype=torch.float64)
    both = torch.stack([rotation, shear])
    torch.testing.assert_close(spectral_radius(both), torch.tensor([2.0, 0.5], dtype=torch.float64), **exact)
    values = singular_values(both)
    torch.testing.assert_close(values[0], torch.tensor([2.0, 2.0], dtype=torch.float64), **exact)
    assert values[1, 0] > 100
    torch.testing.assert_close(values[1].prod(), torch.tensor(0.25, dtype=torch.float64))
    orthogonal, _ = torch.linalg.qr(torch.randn(3, 4, 6, 6, dtype=torch.float64))
    torch.testing.assert_close(spectral_radius(orthogonal), torch.ones(3, 4, dtype=torch.float64), **exact)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_matrix_functions_keep_dtype_and_small_values(dtype):
    small = torch.eye(3, dtype=dtype) * 2.0**-14
    assert spectral_radius(small).dtype == singular_values(small).dtype == dtype
    assert spectral_radius(small).item() == 2.0**-14
    torch.testing.assert_close(singular_values(small), torch.full((3,), 2.0**-14, dtype=dtype), rtol=1e-6, atol=0)


def test_matrix_functions_are_differentiable():
    W = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(spectral_radius, W)
    assert torch.autograd.gradcheck(singular_values, W)


@pytest.mark.parametrize("function", [spectral_radius, singular_values])
@pytest.mark.parametrize(
    ("matrix", "error", "match"),
    [
        ([[1.0]], TypeError, "got list; use torch.as_tensor"),
        (torch.ones(2, 2, dtype=torch.int64), TypeError, "got a Tensor of torch.int64"),
        (torch.ones(3), ValueError, r"\(\.\.\., m, n\), got \(3,\)"),
        (torch.full((2, 2), math.nan), ValueError, "finite values, got NaN or Inf"),
    ],
)
def test_matrix_functions_refuse(function, matrix, error, match):
    with pytest.raises(error, match=f"{function.__name__}.*{match}"):
        function(matrix)


def test_spectral_radius_refuses_a_matrix_that_is_not_square():
    with pytest.raises(ValueError, match=r"square matrices \(\.\.\., n, n\), got \(2, 3\)"):
        spectral_radius(torch.ones(2, 3))


# The monitor's numbers.


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("loss", [lambda h: h[-1].pow(2).sum(), lambda h: h.sin().mean(), lambda h: h[3].sum()])
def test_profiles_equal_the_chain_written_out(cls, loss):
    layer, x = cls(3, 5, dtype=torch.float64), torch.randn(7, 4, 3, dtype=torch.float64)
    report = monitored(layer, x, loss=lambda out: loss(out[0]))
    seen = {name: p.grad.clone() for name, p in layer.named_parameters()}
    layer.zero_grad()
    states = chain(layer, x)
    loss(torch.stack([s["h"] for s in states])).backward()
    for key in states[0]:
        p = report.profiles[f"{key}_l0"]
        zero = torch.zeros(4, 5)
        expected = torch.stack([(zero if s[key].grad is None else s[key].grad).norm() for s in states])
        torch.testing.assert_close(p.gradient, expected.double(), **exact)
        torch.testing.assert_close(p.size, torch.stack([s[key].detach().norm() for s in states]), **exact)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(seen[name], parameter.grad, **exact)
        assert report.parameters[name] == pytest.approx((parameter.grad.norm().item(), parameter.norm().item()))
    assert report.norm == pytest.approx(math.hypot(*(g for g, _ in report.parameters.values())))


def test_profiles_equal_products_of_jacobians():
    layer, x = RNN(3, 5, dtype=torch.float64), torch.randn(12, 1, 3, dtype=torch.float64)
    gradient = monitored(layer, x, loss=lambda out: out[0][-1, 0, 2]).profiles["h_l0"].gradient
    product = torch.eye(5, dtype=torch.float64)
    for t, jacobian in reversed(list(enumerate(recurrent_jacobians(layer, x)[:, 0]))):
        torch.testing.assert_close(product[2].norm(), gradient[t], **exact)
        product = product @ jacobian


@pytest.mark.parametrize("a", [0.5, 0.9, 1.0, 1.05, 1.2])
def test_a_multiple_of_the_identity_gives_its_powers(a):
    report = monitored(relu_layer(a), torch.zeros(101, 1, 2, dtype=torch.float64), loss=lambda out: out[0][-1].sum())
    p = report.profiles["h_l0"]
    torch.testing.assert_close(p.gradient, 2 * a ** torch.arange(100, -1, -1, dtype=torch.float64), **exact)
    assert p.rate == pytest.approx(a, rel=1e-9)
    assert p.ratio == pytest.approx(a**100)
    assert report.verdict.split()[0] == {0.5: "vanishing", 0.9: "vanishing", 1.0: "healthy:"}.get(a, "exploding")


def test_verdict_names_the_rate_and_the_step():
    report = monitored(relu_layer(0.5), torch.zeros(20, 1, 2, dtype=torch.float64), loss=lambda out: out[0][-1].sum())
    # 0.5^9 is above a thousandth and 0.5^10 below: step 19 - 9 is the first that counts
    seen = "‖∂L/∂h_t‖ changes by ×0.5 a step back in time, below 0.001 of its largest before step 10 of 20"
    assert report.verdict == f"vanishing in h_l0: {seen}"
    assert [f.kind for f in report.findings] == ["vanishing"]


def test_norms_far_below_the_root_of_the_smallest_float32():
    report = monitored(relu_layer(0.5).float(), torch.zeros(121, 1, 2), loss=lambda out: out[0][-1].sum())
    expected = 2 * 0.5 ** torch.arange(120, -1, -1, dtype=torch.float64)  # from 1.5e-36, whose square is 0 in float32
    torch.testing.assert_close(report.profiles["h_l0"].gradient, expected, rtol=1e-12, atol=0)


# Layers, directions, calls, kinds of input.


class OwnGRU(nn.Module):
    """A recurrent layer that no monitor knows."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.candidate = nn.Linear(8, 10), nn.Linear(8, 5)

    def forward(self, x):
        h = x.new_zeros(x.shape[1], 5)
        for x_t in x:
            r, z = self.gates(torch.cat([x_t, h], -1)).sigmoid().chunk(2, -1)
            h = z * h + (1 - z) * self.candidate(torch.cat([x_t, r * h], -1)).tanh()
        return h


class Model(nn.Module):
    """An embedding, two recurrent layers of several kinds, and a head on the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3, sparse=True)
        self.encoder = LSTM(3, 4, num_layers=2, bidirectional=True, dropout=0.5, batch_first=True)
        self.top = GRU(8, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, tokens):
        return self.head(self.top(self.encoder(self.embedding(tokens))[0])[0][:, -1])


def test_every_layer_and_direction_has_its_profile():
    report = monitored(Model(), torch.randint(7, (3, 10)), loss=lambda out: out.pow(2).mean())
    states = [f"encoder.{s}_l{k}{r}" for k in (0, 1) for r in ("", "_reverse") for s in "hc"]
    assert list(report.profiles) == [*states, "top.h_l0"]
    assert all(len(p.gradient) == 10 and (p.gradient > 0).any() for p in report.profiles.values())
    assert all(gradient > 0 for gradient, _ in report.parameters.values())
    assert "embedding.weight" in report.parameters


def test_reverse_direction_is_on_the_inputs_axis_and_judged_in_its_own_order():
    layer, x = RNN(3, 5, bidirectional=True, dtype=torch.float64), torch.randn(30, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh_l0_reverse.mul_(0.3)
    report = monitored(layer, x, loss=lambda out: out[1][1].pow(2).sum())
    assert report.verdict.startswith("vanishing in h_l0 and 1 more: ‖∂L/∂h_t‖ is 0 at every step: cut off")
    p = report.profiles["h_l0_reverse"]
    assert p.gradient.argmax() == 0
    assert p.ratio < 1e-3
    assert p.rate < 0.6
    assert "below 0.001 of its largest after step" in report.findings[1].text
    alone = RNN(3, 5, dtype=torch.float64)
    alone.load_state_dict({k.removesuffix("_reverse"): v for k, v in layer.state_dict().items() if "reverse" in k})
    forward = monitored(alone, x.flip(0), loss=lambda out: out[1].pow(2).sum()).profiles["h_l0"]
    torch.testing.assert_close(p.gradient, forward.gradient.flip(0), **exact)
    assert p.rate == pytest.approx(forward.rate)


@pytest.mark.parametrize(("cls", "key"), [(RNN, "h_l0"), (GRU, "h_l0"), (LSTM, "h_l0"), (LSTM, "c_l0")])
def test_packed_equals_each_sequence_alone(cls, key):
    layer = cls(3, 5, dtype=torch.float64)
    x = [torch.randn(n, 3, dtype=torch.float64) for n in (4, 7, 2)]
    packed = pack_padded_sequence(nn.utils.rnn.pad_sequence(x), [4, 7, 2], enforce_sorted=False)
    p = monitored(layer, packed, loss=lambda out: pad_packed_sequence(out[0])[0].pow(2).sum()).profiles[key]
    squares = torch.zeros(7, dtype=torch.float64)
    for sequence in x:
        alone = monitored(layer, sequence, loss=lambda out: out[0].pow(2).sum()).profiles[key]
        squares[: len(sequence)] += alone.gradient**2
    assert p.direct > 0.5
    torch.testing.assert_close(p.gradient, squares.sqrt(), **exact)


@pytest.mark.parametrize("cls", LAYERS)
def test_a_decoder_called_step_by_step_has_one_time_axis(cls):
    layer, x = cls(3, 5, dtype=torch.float64), torch.randn(6, 2, 3, dtype=torch.float64)
    whole = monitored(layer, x).profiles
    with GradientMonitor(layer) as monitor:
        state = None
        for x_t in x:
            output, state = layer(x_t[None], hx=state)
        output[-1].pow(2).sum().backward()
    assert monitor.report.profiles.keys() == whole.keys()
    for key, p in monitor.report.profiles.items():
        torch.testing.assert_close(p.gradient, whole[key].gradient, **exact)
        assert p.direct == pytest.approx(1 / 6)


@pytest.mark.parametrize("make", [RNN, LSTM, GRU, lambda *a, **k: GRU(*a, **k, reset_after=False)])
@pytest.mark.parametrize("form", ["time-first", "batch-first", "unbatched", "packed"])
def test_both_paths_give_the_same_report(make, form):
    options = {"num_layers": 2, "bidirectional": True, "batch_first": form == "batch-first", "dtype": torch.float64}
    layer, reports = make(3, 5, **options), []
    x = torch.randn({"batch-first": (2, 9, 3), "unbatched": (9, 3)}.get(form, (9, 2, 3)), dtype=torch.float64)
    input = pack_padded_sequence(x, [6, 9], enforce_sorted=False) if form == "packed" else x
    for layer.backend in ("hand", "loop"):
        for create_graph in (False, True):
            with GradientMonitor(layer) as monitor:
                output, state = layer(input)
                output, state = layer(input, state)  # goes on: one time axis
                output = output.data if form == "packed" else output
                loss = output.square().sum() + output[-1].sum()
                torch.autograd.grad(loss, list(layer.parameters()), create_graph=create_graph)
            reports.append(monitor.report)
    first = reports[0]
    for other in reports[1:]:
        assert list(other.profiles) == list(first.profiles)
        for name, p in first.profiles.items():
            q = other.profiles[name]
            assert len(p.gradient) == len(p.size) == 18
            torch.testing.assert_close((p.gradient, p.size), (q.gradient, q.size), **exact)
            assert (p.saturated, p.dead, p.subnormal, p.direct) == (q.saturated, q.dead, q.subnormal, q.direct)


def test_a_step_that_does_not_exist_counts_nowhere():
    """In a batch of unequal lengths the size of a state is that of the sequences that have the step."""
    layer = GRU(3, 5, dtype=torch.float64)
    x = [torch.randn(n, 3, dtype=torch.float64) for n in (4, 7)]
    packed = pack_padded_sequence(nn.utils.rnn.pad_sequence(x), [4, 7], enforce_sorted=False)
    size = monitored(layer, packed, loss=lambda out: out[0].data.sum()).profiles["h_l0"].size
    outputs = [layer(sequence)[0].detach() for sequence in x]
    torch.testing.assert_close(size[:4], torch.cat([h[:4] for h in outputs], 1).norm(dim=1), **exact)
    torch.testing.assert_close(size[4:], outputs[1][4:].norm(dim=1), **exact)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("backend", ["hand", "loop"])
def test_checkpointing_is_monitored_once(backend, use_reentrant):
    layer, x = GRU(3, 5, backend=backend, dtype=torch.float64), torch.randn(9, 2, 3, dtype=torch.float64)
    x.requires_grad_()
    plain = monitored(layer, x).profiles["h_l0"]
    with GradientMonitor(layer) as monitor:
        checkpoint(lambda x: layer(x)[0], x, use_reentrant=use_reentrant)[-1].pow(2).sum().backward()
    assert list(monitor.report.profiles) == ["h_l0"]
    torch.testing.assert_close(monitor.report.profiles["h_l0"].gradient, plain.gradient, **exact)


def test_unconnected_calls_have_profiles_of_their_own():
    layer, x, y = RNN(3, 5), torch.randn(6, 2, 3), torch.randn(4, 2, 3)
    with GradientMonitor(layer) as monitor:
        with torch.no_grad():
            layer(x)
        (layer(x)[0][-1] * layer(y)[0][-1]).sum().backward()
    lengths = {name: len(p.gradient) for name, p in monitor.report.profiles.items()}
    assert lengths == {"h_l0": 6, "h_l0 (call 2)": 4}


def test_layers_without_a_graph_are_left_out():
    layer = RNN(3, 5, num_layers=2)
    layer.weight_ih_l0.requires_grad_(False)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name.endswith("l1"))
    with GradientMonitor(layer) as monitor:
        (layer(torch.randn(6, 2, 3))[0][-1] + layer(torch.randn(4, 2, 3))[0][-1]).sum().backward()
    assert list(monitor.report.profiles) == ["h_l1", "h_l1 (call 2)"]
    assert monitor.report.parameters["weight_hh_l0"][0] == 0


def test_two_backward_passes_add_up_and_create_graph_is_let_be():
    layer, x = GRU(3, 5, dtype=torch.float64), torch.randn(6, 2, 3, dtype=torch.float64)
    once = monitored(layer, x)
    with GradientMonitor(layer) as monitor:
        loss = layer(x)[0][-1].pow(2).sum()
        loss.backward(retain_graph=True)
        loss.backward(inputs=list(layer.parameters()))
    torch.testing.assert_close(monitor.report.profiles["h_l0"].gradient, 2 * once.profiles["h_l0"].gradient, **exact)
    with GradientMonitor(layer) as monitor:
        torch.autograd.grad(layer(x)[0][-1].pow(2).sum(), layer.weight_hh_l0, create_graph=True)
    torch.testing.assert_close(monitor.report.profiles["h_l0"].gradient, once.profiles["h_l0"].gradient, **exact)


# Verdicts on planted faults.


@pytest.mark.parametrize("cls", LAYERS)
def test_default_initialisation_vanishes_over_100_steps(cls):
    report = monitored(cls(8, 32), torch.randn(100, 4, 8))
    assert report.verdict.startswith("vanishing in h_l0")
    assert 0.3 < report.profiles["h_l0"].rate < 0.8


def test_errors_at_every_step_leave_it_undecided():
    model, x = RNN(8, 32), torch.randn(100, 4, 8)
    report = monitored(model, x, loss=lambda out: out[0].pow(2).mean())
    assert report.verdict.startswith("undecided")
    assert report.profiles["h_l0"].direct > 0.5
    assert monitored(model, x).profiles["h_l0"].direct == pytest.approx(0.01)


def test_equal_errors_that_add_up_do_not_explode():
    report = monitored(relu_layer(1.0), torch.zeros(1000, 1, 2, dtype=torch.float64), loss=lambda out: out[0].sum())
    assert report.profiles["h_l0"].ratio == pytest.approx(1000)
    assert report.verdict.startswith("undecided")


def test_saturation_and_dead_units():
    layer = RNN(3, 16)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(20)
    report = monitored(layer, torch.randn(20, 4, 3))
    assert "saturated in h_l0" in report.verdict
    assert report.profiles["h_l0"].saturated > 0.5
    layer = relu_layer(0.9)
    with torch.no_grad():
        layer.bias_ih_l0[:3] = -1
    p = monitored(layer, torch.zeros(20, 1, 2, dtype=torch.float64)).profiles["h_l0"]
    assert p.dead == 0.75
    assert p.saturated == 0
    assert "dead in h_l0: 75% of the units" in monitored(layer, torch.zeros(20, 1, 2, dtype=torch.float64)).verdict


def test_dead_network_passes_no_gradient():
    layer = relu_layer(0.9)
    with torch.no_grad():
        layer.bias_ih_l0.fill_(-1)
    report = monitored(layer, torch.zeros(20, 1, 2, dtype=torch.float64), loss=lambda out: out[0][-1].sum())
    assert report.profiles["h_l0"].gradient.tolist() == [0] * 19 + [2]
    report = monitored(layer, torch.zeros(20, 1, 2, dtype=torch.float64), loss=lambda out: out[0][-1].pow(2).sum())
    assert "vanishing in h_l0: ‖∂L/∂h_t‖ is 0 at every step" in report.verdict


def test_subnormal_gradients():
    report = monitored(relu_layer(0.5).float(), torch.zeros(140, 1, 2), loss=lambda out: out[0][-1].sum())
    # 2^-127 to 2^-139 are below the smallest normal number, 2^-126
    assert report.profiles["h_l0"].subnormal == pytest.approx(13 / 140)
    assert "subnormal in h_l0: 9% of ∂L/∂h_t" in report.verdict


def test_nan_in_the_forward_pass():
    x = torch.randn(9, 2, 3)
    x[4, 1, 0] = math.nan
    assert monitored(LSTM(3, 5), x).verdict == "non-finite in h_l0: NaN at step 4, first met in the forward pass"
    report = monitored(RNN(3, 5, bidirectional=True), x, loss=lambda out: out[1].sum())
    assert report.verdict == "non-finite in h_l0: NaN at step 4, first met in the forward pass"
    x = torch.full((9, 2, 3), 1e38)
    layer = RNN(3, 5, nonlinearity="relu")
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
        layer.weight_hh_l0.fill_(1)
    assert "Inf at step 0, first met in the forward pass" in monitored(layer, 10 * x).verdict


def test_nan_in_the_backward_pass():
    x = torch.randn(9, 2, 3)
    verdict = monitored(GRU(3, 5), x, loss=lambda out: (out[0][6] * 0).sqrt().sum()).verdict
    assert verdict == "non-finite in h_l0: NaN in ∂L/∂h_t at step 6, first met in the backward pass"

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.scale = RNN(3, 5), nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return self.rnn(x)[0][-1].sum() + self.scale.sqrt()

    verdict = monitored(Head(), x, loss=lambda out: out).verdict
    assert verdict == "non-finite in scale: Inf in the gradient, first met in the backward pass"


def test_nan_in_the_loss_and_in_a_weight():
    layer, x = RNN(3, 5), torch.randn(9, 2, 3)
    with GradientMonitor(layer) as monitor:
        loss = (layer(x)[0][-1].sum() * 0).log() * 0
        loss.backward()
        report = monitor.step(loss)
    assert report.verdict == "non-finite in the loss: NaN though every recurrent state is finite"
    with torch.no_grad():
        layer.bias_hh_l0[2] = math.inf
    assert monitored(layer, x).verdict.startswith("non-finite in bias_hh_l0: Inf in the weight, from before this step")


def test_a_gradient_far_above_those_before_it():
    layer, x = GRU(3, 5), torch.randn(4, 2, 3)
    with GradientMonitor(layer) as monitor:
        for scale in (1.0, 1.1, 0.9, 1000.0):
            layer.zero_grad()
            (scale * layer(x)[0][-1].sum()).backward()
            monitor.step()
    assert [report.verdict.split()[0] for report in monitor.reports] == ["healthy:"] * 3 + ["exploding"]
    assert "in the parameters" in monitor.report.verdict


@pytest.mark.parametrize(("times", "kind"), [(8, "healthy:"), (12, "exploding")])
def test_exploding_is_the_named_factor_over_the_median(times, kind):
    """Norms before: 1, 3, 2, 4 and an Inf, which does not count; their median is 2.5."""
    layer, x = GRU(3, 5, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)
    layer(x)[0][-1].sum().backward()
    unit = math.hypot(*(float(p.grad.norm()) for p in layer.parameters()))
    with GradientMonitor(layer, exploding=10) as monitor:
        for norm in (1, 3, math.inf, 2, 4, 2.5 * times):
            layer.zero_grad()
            (norm / unit * layer(x)[0][-1].sum()).backward()
            monitor.step()
    assert monitor.report.norm == pytest.approx(2.5 * times)
    assert monitor.report.verdict.split()[0] == kind
    assert (f"{times} times its median in the reports before" in monitor.report.verdict) == (kind == "exploding")


@pytest.mark.parametrize("kind", ["h", "c"])
@pytest.mark.parametrize(("below", "vanishes"), [(0.99, True), (1.01, False)])
def test_vanishing_is_the_named_share_of_the_largest(below, vanishes, kind):
    gradient = torch.tensor([below * 0.25, 0.5, 1.0], dtype=torch.float64)
    p = Profile(kind, False, gradient, torch.ones(3), saturated=0, dead=0, subnormal=0, direct=0)
    report = Report(0, None, 1.0, {}, {"x": p}, partial(find, vanishing=0.25, exploding=10))
    assert [f.kind for f in report.findings] == ["vanishing"] * vanishes


@pytest.mark.parametrize("share", ["saturated", "dead", "subnormal"])
def test_shares_are_faults_above_their_limits(share):
    limit = {"subnormal": 0.01}.get(share, 0.5)
    for above in (False, True):
        shares = {"saturated": 0, "dead": 0, "subnormal": 0, share: limit * (1.02 if above else 0.98)}
        p = Profile("h", False, torch.ones(3, dtype=torch.float64), torch.ones(3), **shares, direct=0)
        report = Report(0, None, 1.0, {}, {"x": p}, partial(find, vanishing=0.25, exploding=10))
        assert [f.kind for f in report.findings] == [share] * above


def test_after_three_reports_without_gradient_any_gradient_is_exploding():
    layer, x = GRU(3, 5), torch.randn(4, 2, 3)
    with GradientMonitor(layer) as monitor:
        for scale in (0.0, 0.0, 0.0, 1.0):
            layer.zero_grad()
            (scale * layer(x)[0][-1].sum()).backward()
            monitor.step()
    assert "exploding in the parameters: gradient norm" in monitor.report.verdict


# Life of a monitor.


def run_reports(layer: nn.Module, n: int, **options) -> GradientMonitor:
    x = torch.ones(2, 1, 1)
    with GradientMonitor(layer, **options) as monitor:
        for _ in range(n):
            layer(x)[0][-1].sum().backward()
            _ = monitor.step().verdict
    return monitor


@pytest.mark.parametrize(("keep", "held"), [(None, 40), (7, 7), (100, 40)])
def test_the_newest_reports_are_kept_and_none_holds_the_others(keep, held):
    """Each report once kept the norms of all before it: memory grew with the square of their number."""
    monitor = run_reports(RNN(1, 1), 40, keep=keep)
    assert [report.step for report in monitor.reports] == list(range(40 - held, 40))
    sizes = [len(pickle.dumps(report)) for report in monitor.reports]
    assert max(sizes) < 1.05 * min(sizes)
    assert monitor.report.judge is monitor.reports[0].judge


def test_a_verdict_compares_with_one_number_the_median_of_all_norms_before():
    layer, x = GRU(3, 5), torch.randn(4, 2, 3)
    with GradientMonitor(layer, keep=2) as monitor:
        norms = []
        for n in range(12):
            layer.zero_grad()
            ((n * 7 % 12) * layer(x)[0][-1].sum()).backward()
            assert monitor.step().usual == (statistics.median(norms) if n >= 3 else math.inf)
            norms.append(monitor.report.norm)


def test_reports_compare_and_travel():
    monitor = run_reports(LSTM(1, 1), 2)
    one, two = monitor.reports
    assert one == one
    assert one != two
    assert two in monitor.reports
    assert len({one, two, *one.profiles.values()}) == 4
    for again in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert again.verdict == one.verdict
        assert again.table() == one.table()


def test_a_second_backward_pass_that_reaches_fewer_steps():
    """What the first pass left at the later steps must not be counted again."""
    for backend in ("loop", "hand"):
        layer, x = LSTM(3, 5, backend=backend, dtype=torch.float64), torch.randn(8, 2, 3, dtype=torch.float64)
        whole, part = (monitored(layer, x, loss=lambda out, t=t: out[0][t].sum()).profiles for t in (7, 3))
        with GradientMonitor(layer) as monitor:
            output = layer(x)[0]
            output[7].sum().backward(retain_graph=True)
            output[3].sum().backward()
        for name, p in monitor.report.profiles.items():
            torch.testing.assert_close(p.gradient[4:], whole[name].gradient[4:], **exact)
            assert (p.gradient[:4] <= whole[name].gradient[:4] + part[name].gradient[:4] + 1e-12).all()
            assert (p.gradient[:4] > whole[name].gradient[:4]).all()


@pytest.mark.parametrize("cls", LAYERS)
def test_a_second_backward_pass_that_ends_before_the_last_steps(cls):
    """From a state in the middle: the hooks of later steps are silent, and nothing of the first pass may be left."""
    layer, x, states = cls(3, 5, dtype=torch.float64), torch.randn(8, 2, 3, dtype=torch.float64), []
    whole = monitored(layer, x, loss=lambda out: out[0][7].sum()).profiles
    with layer.watch(lambda _l, _d, _t, state: states.append(state["h"])), GradientMonitor(layer) as monitor:
        output = layer(x)[0]
        output[7].sum().backward(retain_graph=True)
        states[3].sum().backward()
    for name, p in monitor.report.profiles.items():
        torch.testing.assert_close(p.gradient[4:], whole[name].gradient[4:], **exact)
        assert (p.gradient[:4] > whole[name].gradient[:4]).all()


def test_shares_equal_their_definitions():
    layer, x = LSTM(3, 50, dtype=torch.float64), torch.randn(40, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(6)
    cells, errors = [], torch.tensor([1.0, 0.2, 0.11, 0.09, 0.01] * 16, dtype=torch.float64).view(40, 2, 1)
    with layer.watch(lambda _l, _d, _t, state: cells.append(state["c"].detach())):
        layer(x)
    profiles = monitored(layer, x, loss=lambda out: (out[0] * errors).sum()).profiles
    c = torch.stack(cells)
    assert profiles["c_l0"].saturated == pytest.approx(float((c.tanh().abs() > 0.97).double().mean()))
    assert 0.02 < profiles["c_l0"].saturated < float((c.abs() > 0.97).double().mean())
    assert profiles["h_l0"].direct == pytest.approx(3 / 5)


def test_norms_far_above_the_root_of_the_largest_float32():
    report = monitored(relu_layer(2.0).float(), torch.zeros(101, 1, 2), loss=lambda out: out[0][-1].sum())
    expected = 2 * 2.0 ** torch.arange(100, -1, -1, dtype=torch.float64)  # to 2.5e30, whose square is Inf in float32
    torch.testing.assert_close(report.profiles["h_l0"].gradient, expected, rtol=1e-12, atol=0)


def test_another_default_device():
    """Every tensor made along the way names its device."""
    layer, cell, x = LSTM(3, 5), nn.GRUCell(3, 5), torch.randn(6, 2, 3)
    with torch.device("meta"):
        assert monitored(layer, x).verdict
        with GradientMonitor(cell) as monitor:
            cell(x[1, :1], cell(x[0])[:1]).sum().backward()  # a step of two rows and one of one
            report = monitor.step(1.5)
        assert report.loss == 1.5
        assert str(report)
        assert report.table()
        report.log(Silent())
        assert recurrent_jacobians(layer, x).device.type == "cpu"
        assert spectral_radius(torch.eye(3, device="cpu")).item() == 1
        assert singular_values(torch.eye(3, device="cpu")).tolist() == [1, 1, 1]
        spectrum = lag_spectrum(layer, x, lambda h: h.sum(-1), 3)
    assert spectrum["h"].device.type == "cpu"


class Silent:
    """A TensorBoard writer that writes nothing."""

    def __getattr__(self, name):
        return lambda *_: None


def hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_watchers", "_gradient_watchers")
    return sum(len(getattr(module, kind, ())) for module in model.modules() for kind in kinds)


class Kept:
    """What autograd keeps in place of a tensor: lives as long as the graph."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("backend", ["auto", "loop"])
def test_hooks_and_graph_are_gone_after_the_step(cls, backend):
    layer, kept = cls(3, 5, num_layers=2, backend=backend), weakref.WeakSet()
    path = layer.path()

    def keep(tensor: Tensor) -> Kept:
        box = Kept(tensor.detach())
        kept.add(box)
        return box

    gc.disable()  # nothing may wait for the collector of cycles
    try:
        with GradientMonitor(layer) as monitor:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda box: box.tensor):
                output, _ = layer(torch.randn(6, 2, 3))
            output[-1].sum().backward(retain_graph=True)
            assert hooks(layer) == 1
            assert len(kept) > 0
            monitor.step()
            del output, _
            assert len(kept) == 0
    finally:
        gc.enable()
    assert hooks(layer) == 0
    assert layer.path() == path
    assert not any(p.gradient.requires_grad for p in monitor.report.profiles.values())


def test_hooks_are_gone_after_an_exception():
    layer = GRU(3, 5)
    monitor = GradientMonitor(layer)

    def fail():
        with monitor:
            layer(torch.randn(6, 2, 3))[0].sum().backward()
            raise KeyError("planted")

    with pytest.raises(KeyError, match="planted"):
        fail()
    assert hooks(layer) == 0
    assert monitor.reports == []
    with monitor:
        layer(torch.randn(6, 2, 3))[0].sum().backward()
    assert len(monitor.reports) == 1


def test_every_n_samples_and_watches_nothing_between():
    layer, x, paths = LSTM(3, 5), torch.randn(6, 2, 3), []
    with GradientMonitor(layer, every=3) as monitor:
        for step in range(7):
            paths.append(layer.path()[0])
            layer(x)[0][-1].sum().backward()
            report = monitor.step()
            assert (report is not None) == (step % 3 == 0)
    assert paths == ["hand", "torch", "torch", "hand", "torch", "torch", "hand"]
    assert [report.step for report in monitor.reports] == [0, 3, 6]
    assert monitor.report is monitor.reports[-1]


def test_monitoring_changes_no_gradient():
    model, x = GRU(3, 5, num_layers=2, dtype=torch.float64), torch.randn(6, 2, 3, dtype=torch.float64)
    model(x)[0].pow(2).sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    monitored(model, x, loss=lambda out: out[0].pow(2).sum())
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, **exact)


def run_twice(layer):
    monitor = GradientMonitor(layer)
    with monitor, monitor:
        pass


def run(layer, *, backward=True, grad=True):
    with GradientMonitor(layer), torch.set_grad_enabled(grad):
        output = layer(torch.randn(4, 2, 3))[0].sum()
        if backward and grad:
            output.backward()


def empty_block(layer):
    with GradientMonitor(layer):
        pass


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: GradientMonitor(RNN), TypeError, "expected a torch.nn.Module, got type"),
        (lambda: GradientMonitor(nn.Sequential(OwnGRU())), ValueError, "got 0: OwnGRU, not a layer or cell of torch"),
        (lambda: GradientMonitor(nn.Linear(3, 5)), ValueError, "cell of torch.nn or seqlab.*got Linear without any"),
        (lambda: GradientMonitor(RNN(3, 5), keep=0), ValueError, "keep as an integer of at least 1, got 0"),
        (lambda: GradientMonitor(RNN(3, 5), every=0), ValueError, "every as an integer of at least 1, got 0"),
        (lambda: GradientMonitor(RNN(3, 5), every=1.5), ValueError, "every as an integer of at least 1, got 1.5"),
        (lambda: GradientMonitor(RNN(3, 5), vanishing=2), ValueError, "0 < vanishing < 1 < exploding, got 2 and 100"),
        (lambda: GradientMonitor(RNN(3, 5)).report, RuntimeError, "no report yet"),
        (lambda: GradientMonitor(RNN(3, 5)).step(), RuntimeError, "outside a block"),
        (lambda: run_twice(RNN(3, 5)), RuntimeError, "already watching"),
        (lambda: empty_block(RNN(3, 5)), RuntimeError, "got no forward pass with a graph"),
        (lambda: run(RNN(3, 5), backward=False), RuntimeError, r"got a forward pass alone; call.*loss.backward\(\)"),
        (lambda: run(RNN(3, 5), grad=False), RuntimeError, r"no forward pass with a graph.*torch.no_grad"),
        (lambda: run(RNN(3, 5, backend="torch")), ValueError, "backend='torch' is not possible.*'loop'"),
    ],
)
def test_misuse_is_told_with_a_remedy(call, error, match):
    with pytest.raises(error, match=match):
        call()


# Words, columns, files.


def test_table_has_a_line_for_each_state_and_parameter():
    model, tokens = Model(), torch.randint(7, (3, 10))
    with GradientMonitor(model) as monitor:
        loss = model(tokens).pow(2).mean()
        loss.backward()
        report = monitor.step(loss)
    table = report.table()
    assert table.startswith(f"step 0   loss {loss.item():.4g}   gradient ")
    for name in [*report.profiles, *report.parameters]:
        assert sum(line.startswith(f"{name} ") for line in table.splitlines()) == 1
    assert max(map(len, table.splitlines())) <= 120


def test_verdict_names_each_kind_once():
    report = monitored(LSTM(3, 5, num_layers=2), torch.randn(100, 2, 3))
    assert report.verdict.count("vanishing") == 1
    assert "vanishing in h_l0 and 3 more" in report.verdict
    assert len(report.findings) == 4


def test_log_can_be_read_back(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    layer = LSTM(3, 5)
    with SummaryWriter(tmp_path) as writer, GradientMonitor(layer) as monitor:
        for _ in range(3):
            layer(torch.randn(12, 2, 3))[0][-1].sum().backward()
            monitor.step().log(writer)
    events = EventAccumulator(str(tmp_path)).Reload()
    norms = events.Scalars("gradient/norm")
    assert [(e.step, e.value) for e in norms] == [(r.step, pytest.approx(r.norm)) for r in monitor.reports]
    histogram = events.Histograms("gradient over t/h_l0")[-1].histogram_value
    torch.testing.assert_close(torch.tensor(histogram.bucket).double(), monitor.report.profiles["h_l0"].gradient)
    assert histogram.bucket_limit == [t + 0.5 for t in range(12)]
    assert events.Scalars("gradient a step back/c_l0")[-1].value == pytest.approx(monitor.report.profiles["c_l0"].rate)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_report():
    layer, x = LSTM(3, 5, num_layers=2, dtype=torch.float64), torch.randn(40, 2, 3, dtype=torch.float64)
    here = monitored(layer, x)
    layer.zero_grad()
    there = monitored(layer.cuda(), x.cuda())
    for name, p in there.profiles.items():
        torch.testing.assert_close(p.gradient, here.profiles[name].gradient, rtol=1e-8, atol=0)
    assert there.findings[0].kind == here.findings[0].kind
    torch.testing.assert_close(spectral_radius(torch.eye(3).cuda()), torch.ones(()).cuda())
