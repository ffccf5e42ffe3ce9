"""The monitor on models of torch.nn: the same numbers as on seqlab's layers, and a model that is left as it was."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import seqlab
from seqlab import GradientMonitor

KINDS = ["RNN", "LSTM", "GRU"]
exact = {"rtol": 1e-12, "atol": 1e-14}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def loss_of(output) -> Tensor:
    output = output[0] if isinstance(output, tuple) and not isinstance(output, PackedSequence) else output
    output = output.data if isinstance(output, PackedSequence) else output
    return output.square().mean() + output[-1].sum()


def gradients(model: nn.Module) -> list[Tensor]:
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return found


def same_profiles(one, other, **tolerance):
    assert len(one) == len(other) > 0
    for p, q in zip(one.values(), other.values(), strict=True):
        torch.testing.assert_close((p.gradient, p.size), (q.gradient, q.size), **tolerance)
        assert (p.saturated, p.dead, p.subnormal) == (q.saturated, q.dead, q.subnormal)
        assert p.direct == pytest.approx(q.direct)


# Layers.


@pytest.mark.parametrize("kind", [*KINDS, "RNN-relu"])
@pytest.mark.parametrize("form", ["time-first", "batch-first", "unbatched", "packed"])
@pytest.mark.parametrize("large", [False, True], ids=["one", "two-layers-both-directions"])
def test_a_layer_of_torch_has_the_report_of_seqlabs(kind, form, large):
    name, _, relu = kind.partition("-")
    options = {"batch_first": form == "batch-first", "dtype": torch.float64, **({"nonlinearity": relu} if relu else {})}
    options |= {"num_layers": 2, "bidirectional": True} if large else {"bias": False}
    plain, ours = getattr(nn, name)(3, 5, **options), getattr(seqlab, name)(3, 5, **options)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn({"batch-first": (2, 9, 3), "unbatched": (9, 3)}.get(form, (9, 2, 3)), dtype=torch.float64)
    x = pack_padded_sequence(x, [6, 9], enforce_sorted=False) if form == "packed" else x
    loss_of(wanted := plain(x)).backward()
    wanted_gradients = gradients(plain)
    with GradientMonitor(nn.Sequential(plain)) as monitor:
        loss_of(output := plain(x)).backward()
    with GradientMonitor(ours) as other:
        loss_of(ours(x)).backward()
    torch.testing.assert_close(output, wanted, **exact)
    torch.testing.assert_close(gradients(plain), wanted_gradients, rtol=1e-10, atol=1e-12)
    assert list(monitor.report.profiles) == [f"0.{state}" for state in other.report.profiles]
    same_profiles(monitor.report.profiles, other.report.profiles, **exact)
    assert monitor.report.unwatched == {}


def test_an_lstm_with_projections_is_watched_and_computes_the_same():
    model, x = nn.LSTM(3, 5, 2, proj_size=2, dtype=torch.float64), torch.randn(9, 2, 3, dtype=torch.float64)
    loss_of(wanted := model(x)).backward()
    wanted_gradients = gradients(model)
    with GradientMonitor(model) as monitor:
        loss_of(output := model(x)).backward()
    torch.testing.assert_close(output, wanted, **exact)
    torch.testing.assert_close(gradients(model), wanted_gradients, rtol=1e-10, atol=1e-12)
    assert list(monitor.report.profiles) == ["h_l0", "c_l0", "h_l1", "c_l1"]
    torch.testing.assert_close(monitor.report.profiles["h_l1"].size, output[0].detach().norm(dim=(1, 2)), **exact)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout_draws_the_same_numbers_and_evaluation_none(kind, batch_first):
    model = getattr(nn, kind)(3, 5, num_layers=3, dropout=0.5, bidirectional=True, batch_first=batch_first)
    x, wanted = torch.randn(7, 4, 3), {}
    for training in (True, False):
        model.train(training)
        torch.manual_seed(1)
        wanted[training] = model(x)[0]
        state = torch.get_rng_state()
        with GradientMonitor(model):
            torch.manual_seed(1)
            output = model(x)[0]
            assert torch.equal(torch.get_rng_state(), state)
            loss_of(output).backward()
        torch.testing.assert_close(output, wanted[training], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_subclass_that_calls_its_parent_is_watched_inside(kind):
    class Packs(getattr(nn, kind)):
        def forward(self, x, lengths):
            return super().forward(pack_padded_sequence(x, lengths))[0].data

    model, x = Packs(3, 5, dtype=torch.float64), torch.randn(9, 2, 3, dtype=torch.float64)
    plain = getattr(nn, kind)(3, 5, dtype=torch.float64)
    plain.load_state_dict(model.state_dict())
    with GradientMonitor(model) as monitor:
        loss_of(model(x, [9, 6])).backward()
    with GradientMonitor(plain) as other:
        loss_of(plain(pack_padded_sequence(x, [9, 6]))).backward()
    same_profiles(monitor.report.profiles, other.report.profiles, **exact)
    assert type(model) is Packs


@pytest.mark.parametrize("module", [nn, seqlab], ids=["torch", "seqlab"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_parametrised_layer_is_watched(module, kind):
    layer, x = getattr(module, kind)(3, 5, dtype=torch.float64), torch.randn(6, 2, 3, dtype=torch.float64)
    plain = getattr(nn, kind)(3, 5, dtype=torch.float64)
    plain.load_state_dict(layer.state_dict())
    weight_norm(layer, "weight_hh_l0")
    cls = type(layer)
    with GradientMonitor(layer) as monitor:
        loss_of(layer(x)).backward()
    with GradientMonitor(plain) as other:
        loss_of(plain(x)).backward()
    assert type(layer) is cls
    same_profiles(monitor.report.profiles, other.report.profiles, **exact)
    assert "parametrizations.weight_hh_l0.original0" in monitor.report.parameters


# Cells.


class Unrolled(nn.Module):
    """A cell called step by step, as many models have it."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state, outputs = None, []
        for x_t in x:
            state = self.cell(x_t, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs)


@pytest.mark.parametrize("module", [nn, seqlab], ids=["torch", "seqlab"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("loss", [loss_of, lambda out: out[-1].sum()], ids=["all-steps", "last-step"])
def test_a_cell_has_the_profile_of_a_layer(module, kind, batched, loss):
    model, layer = Unrolled(getattr(module, kind + "Cell")(3, 5).double()), getattr(seqlab, kind)(3, 5).double()
    layer.load_state_dict({f"{name}_l0": value for name, value in model.cell.state_dict().items()})
    x = torch.randn(9, 2, 3, dtype=torch.float64) if batched else torch.randn(9, 3, dtype=torch.float64)
    loss(wanted := model(x)).backward()
    wanted_gradients = gradients(model)
    with GradientMonitor(model) as monitor:
        loss(output := model(x)).backward()
    with GradientMonitor(layer) as other:
        loss(layer(x)[0]).backward()
    torch.testing.assert_close(output, wanted, **exact)
    torch.testing.assert_close(gradients(model), wanted_gradients, rtol=1e-10, atol=1e-12)
    assert list(monitor.report.profiles) == ["cell.h", "cell.c"][: 1 + (kind == "LSTM")]
    same_profiles(monitor.report.profiles, other.report.profiles, **exact)
    assert monitor.report.verdict.replace("cell.", "") == other.report.verdict.replace("_l0", "")


def test_a_state_changed_in_place_between_two_calls_is_what_the_cell_gets():
    cell, x = nn.LSTMCell(3, 5, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)
    keep = torch.tensor([[1.0], [0.0]], dtype=torch.float64)

    def run():
        h, c = cell(x[0])
        for x_t in x[1:]:
            h *= keep
            h, c = cell(x_t, hx=(h, c))
        h.sum().backward()
        return h

    wanted, expected = run(), gradients(cell)
    with GradientMonitor(cell) as monitor:
        torch.testing.assert_close(run(), wanted, **exact)
    torch.testing.assert_close(gradients(cell), expected, **exact)
    assert len(monitor.report.profiles["h"].gradient) == 4


def test_each_sequence_of_a_cell_that_starts_without_a_graph_has_a_profile():
    model = Unrolled(nn.GRUCell(3, 5))
    with GradientMonitor(model) as monitor:
        (model(torch.randn(6, 2, 3))[-1] + model(torch.randn(4, 2, 3))[-1]).sum().backward()
    assert {name: len(p.gradient) for name, p in monitor.report.profiles.items()} == {"cell.h": 6, "cell.h (call 2)": 4}


def test_cells_of_other_types_are_watched_from_outside():
    class Normed(nn.LSTMCell):
        def forward(self, x, hx):
            h, c = super().forward(x, hx)
            return nn.functional.layer_norm(h, h.shape[-1:]), c

    model, x = Unrolled(Normed(3, 5)), torch.randn(6, 2, 3)
    wanted = model(x)
    with GradientMonitor(model) as monitor:
        output = model(x)
        loss_of(output).backward()
    torch.testing.assert_close(output, wanted)
    torch.testing.assert_close(monitor.report.profiles["cell.h"].size, wanted.norm(dim=(1, 2)).double().detach())


# The model stays as it was.


class Mixed(nn.Module):
    """Layers and a cell of torch.nn, as in many a model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.encoder = nn.LSTM(3, 4, bidirectional=True, batch_first=True)
        self.top = seqlab.GRU(8, 5, batch_first=True)
        self.decoder = nn.GRUCell(5, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, tokens):
        h = self.top(self.encoder(self.embedding(tokens))[0])[0][:, -1]
        for _ in range(3):
            h = self.decoder(h, h)
        return self.head(h)


def face(model: nn.Module):
    """All that a monitor could leave behind."""
    return [
        (type(m), sorted(vars(m)), repr(m), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()
    ]


@pytest.mark.parametrize(
    "again", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "copy", "pickle"]
)
def test_copies_and_pickles_are_those_of_the_model_unwatched(again):
    model, tokens = Mixed(), torch.randint(7, (3, 6))
    before, keys, wanted = face(model), list(model.state_dict()), model(tokens)
    parts = {name: face(getattr(model, name)) for name in ("encoder", "top", "decoder")}
    with GradientMonitor(model) as monitor:
        for name, part in parts.items():
            assert face(again(getattr(model, name))) == part
            assert face(getattr(model, name)) != part
        if again is not copy.copy:  # which shares the layers, watched ones
            assert face(again(model)) == before
            torch.testing.assert_close(again(model)(tokens), wanted)
        assert list(model.state_dict()) == keys
        assert isinstance(model.encoder, nn.LSTM)
        assert repr(model) == before[0][2]
        model(tokens).sum().backward()
    assert face(model) == before
    states = ["encoder.h_l0", "encoder.c_l0", "encoder.h_l0_reverse", "encoder.c_l0_reverse", "top.h_l0", "decoder.h"]
    assert list(monitor.report.profiles) == states


def test_an_exception_leaves_the_model_as_it_was():
    model = Mixed()
    before = face(model)

    def fail():
        with GradientMonitor(model):
            model(torch.randint(7, (3, 6))).sum().backward()
            raise KeyError("planted")

    with pytest.raises(KeyError, match="planted"):
        fail()
    assert face(model) == before


def test_between_samples_the_model_is_unwatched():
    model, tokens, classes = Mixed(), torch.randint(7, (3, 6)), []
    with GradientMonitor(model, every=3) as monitor:
        for _ in range(5):
            classes.append(type(model.encoder) is nn.LSTM)
            model(tokens).sum().backward()
            monitor.step()
    assert classes == [False, True, True, False, True]
    assert [report.step for report in monitor.reports] == [0, 3]


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_two_monitors_see_the_same_and_leave_in_any_order(first_to_leave):
    model, tokens = Mixed(), torch.randint(7, (3, 6))
    before, monitors = face(model), [GradientMonitor(model), GradientMonitor(model)]
    for monitor in monitors:
        monitor.__enter__()
    model(tokens).sum().backward()
    for monitor in (monitors[first_to_leave], monitors[1 - first_to_leave]):
        monitor.step()
        monitor.__exit__(None, None, None)
    same_profiles(monitors[0].report.profiles, monitors[1].report.profiles)
    assert face(model) == before


# What is not watched is named.


class OwnRNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(5, 5))

    def forward(self, x):
        h = x.new_zeros(x.shape[1], 5)
        for x_t in x:
            h = (x_t @ self.weight_ih.T + h @ self.weight_hh.T).tanh()
        return h


class Elman(OwnRNN):
    """Recurrent by its weights, not by its name."""


class OwnForward(nn.GRU):
    def forward(self, x):
        return x.sum() * self.weight_hh_l0.sum()


class Odd(nn.GRUCell):
    def forward(self, x, hx=None):
        return {"h": super().forward(x, hx)}


@pytest.mark.parametrize(
    ("make", "run", "where", "why"),
    [
        (OwnRNN, lambda m, x: m(x).sum(), "other", "OwnRNN, not a layer or cell of torch.nn or seqlab"),
        (Elman, lambda m, x: m(x).sum(), "other", "Elman, not a layer or cell"),
        (lambda: nn.Sequential(OwnRNN()), lambda m, x: m(x).sum(), "other.0", "OwnRNN, not a layer"),
        (lambda: OwnForward(3, 5), lambda m, x: m(x), "other", "OwnForward, whose forward no call with a graph"),
        (lambda: nn.LSTM(3, 5), lambda m, x: x.sum(), "other", "LSTM, whose forward no call with a graph"),
        (lambda: nn.RNN(3, 5), lambda m, x: m(x)[0].detach().sum(), "other.h_l0", "no gradient came"),
        (lambda: Odd(3, 5), lambda m, x: m(x[0])["h"].sum(), "other", r"its forward returned \(dict\) where a cell"),
    ],
)
def test_what_is_not_watched_is_named(make, run, where, why):
    model, x = nn.ModuleDict({"rnn": nn.GRU(3, 5), "other": make()}), torch.randn(6, 2, 3)
    with GradientMonitor(model) as monitor:
        (model["rnn"](x)[0][-1].sum() + run(model["other"], x)).backward()
    report = monitor.report
    assert list(report.profiles) == ["rnn.h_l0"]
    assert list(report.unwatched) == [where]
    assert re.search(why, report.unwatched[where])
    for text in (str(report), report.table()):
        assert f"not watched: {where}: " in text


def test_a_model_around_watched_layers_is_not_named_for_its_name():
    class MyLSTMModel(Unrolled):
        pass

    model = MyLSTMModel(nn.LSTMCell(3, 5))
    with GradientMonitor(model) as monitor:
        model(torch.randn(6, 2, 3))[-1].sum().backward()
    assert monitor.report.unwatched == {}


# On a screen.


@pytest.mark.parametrize("size", [1, 2, 40])
def test_a_printed_report_fits_a_screen(size):
    name = "a_long_name_for_a_layer_of_a_large_model_with_many_blocks"
    layers = {f"{name}_{k}": nn.LSTM(3, 3, num_layers=2, bidirectional=k > 0) for k in range(size)}
    model = nn.ModuleDict({**layers, **{f"own_{k}": OwnRNN() for k in range(size - 1)}})
    x = torch.randn(300, 2, 3)
    with GradientMonitor(model) as monitor:
        sum(model[key](x)[0][-1].sum() for key in layers).backward()
    text, report = str(monitor.report), monitor.report
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    states = sum("×" in line and "%" in line for line in lines)
    if size == 1:
        assert text == f"{report.table().splitlines()[0]}\n" or "left out" not in text
        assert states == len(report.profiles)
    else:
        assert states >= 4
        shown = sum("e-" in line or "e+" in line for line in lines[2:]) - states
        of = len(report.profiles), len(report.parameters)
        assert lines[-1].startswith(f"left out: {of[0] - states} of {of[0]} states, ")
        assert f"{of[1] - shown} of {of[1]} parameters" in lines[-1]
    assert report.verdict[:60] in text


def test_the_rows_kept_are_the_faulty_ones():
    model = nn.ModuleDict({f"layer{k}": nn.RNN(3, 5) for k in range(30)})
    with torch.no_grad():
        for weight in model["layer17"].parameters():
            weight.mul_(30)
        model["layer23"].weight_hh_l0.requires_grad_(False)
    x = torch.randn(3, 2, 3)
    with GradientMonitor(model) as monitor:
        sum(layer(x)[0].sum() for layer in model.values()).backward()
    text = str(monitor.report)
    assert "saturated in layer17.h_l0" in text
    assert "\nlayer17.h_l0 " in text
    assert "\nlayer23.weight_hh_l0 " in text
    assert len(repr(monitor.report)) < 80


# What users do with and to a watched module.


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("L", [4, 10, 150])
def test_a_packed_batch_whose_loss_reads_the_final_state_alone(kind, L):
    layer = kind(3, 4)
    packed = pack_sequence([torch.randn(L, 3), torch.randn(2, 3)])
    with GradientMonitor(layer) as monitor:
        layer(packed)[1][0].sum().backward()
    assert monitor.report.profiles


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRUCell])
def test_batched_gradients_go_through_and_are_not_measured(kind):
    layer, x = kind(3, 4), torch.randn(5, 2, 3) if kind is nn.LSTM else torch.randn(2, 3)
    with GradientMonitor(layer):
        output = layer(x)
        output = output[0] if kind is nn.LSTM else output
        basis = torch.eye(output.numel()).view(-1, *output.shape)[:3]
        found = torch.autograd.grad(output, list(layer.parameters()), basis, is_grads_batched=True, retain_graph=True)
        one = torch.autograd.grad(output, list(layer.parameters()), basis[1])
    torch.testing.assert_close([d[1] for d in found], list(one))


def test_a_subclass_with_names_of_seqlabs_is_named_and_computes_as_before():
    class Mine(nn.GRU):
        reset_after = False

        def step(self):
            return "mine"

    model = nn.ModuleDict({"mine": Mine(3, 4), "other": nn.GRU(4, 4)})
    model["mine"].backend = "cudnn"
    x = torch.randn(5, 2, 3)
    expected = model["mine"](x)[0]
    with GradientMonitor(model) as monitor:
        output = model["mine"](x)[0]
        model["other"](output)[0].sum().backward()
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    assert "has its own backend, reset_after, step" in monitor.report.unwatched["mine"]


def test_a_parametrisation_made_inside_the_block_stays():
    layer, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
    with GradientMonitor(layer):
        nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
        layer(x)[0].sum().backward()
    layer.zero_grad()
    layer(x)[0].sum().backward()
    assert isinstance(layer, nn.GRU)
    assert all(p.grad is not None for p in layer.parametrizations.parameters())
    assert copy.deepcopy(layer.state_dict()).keys() == layer.state_dict().keys()
    assert not type(layer).__mro__[1].__module__.startswith("seqlab")
