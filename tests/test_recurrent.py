"""The layers as modules: the path they take, what a watcher sees, what travels with them, and what is refused."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import seqlab
from seqlab.recurrent.engines import ENGINES, hand

LAYERS = [seqlab.RNN, seqlab.LSTM, seqlab.GRU]
layers = pytest.mark.parametrize("kind", LAYERS)
engines = pytest.mark.parametrize("backend", ["loop", "hand", "torch", "auto"])
compiles = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's compiler looks


def states_of(final):
    return list(final) if isinstance(final, tuple) else [final]


# The path. The table of the book's page is the specification: a row for each of these situations.

PAGE = Path(__file__).parents[1] / "book" / "paths.md"
LONG = torch.zeros(20, 2, 3)


def packed_batch(dtype=torch.float32):
    return pack_padded_sequence(torch.zeros(20, 2, 3, dtype=dtype), torch.tensor([20, 12]))


def watched(kind, **options):
    layer = kind(3, 5, **options)
    layer.watch(lambda *_: None)
    return layer


def gradient_watched(kind, **options):
    layer = kind(3, 5, **options)
    layer.watch_gradients(lambda *_: None)
    return layer


def inside(context, layer, x=LONG):
    with context:
        return layer.path(x)


def under_grad(layer):
    seen = []
    grad(lambda x: (seen.append(layer.path(x)), x.sum())[1])(LONG)
    return seen[0]


def compiled(layer):
    seen = []

    @torch.compile(backend="eager")
    def model(x):
        seen.append(layer.path(x))
        return x + 1

    model(LONG)
    return seen[0]


def exported(layer):
    seen = []

    class Model(nn.Module):
        def forward(self, x):
            seen.append(layer.path(x))
            return x + 1

    torch.export.export(Model(), (LONG,), strict=False)
    return seen[-1]


def on_gpu(layer):
    with pytest.MonkeyPatch.context() as patch:  # a device that is always there, and that no pass runs on
        patch.setattr(hand, "hand_obstacle", lambda data: "")
        return layer.to("meta").path(LONG.to("meta"))


class Damped(seqlab.GRU):
    """A layer whose equation is another."""

    def step(self, input, state, weights):
        (h,) = super().step(input, state, weights)
        return (0.5 * h,)


def with_its_own_step():
    layer = seqlab.RNN(3, 5)
    layer.step = lambda input, state, weights: state
    return layer


half = {"dtype": torch.bfloat16}
SITUATIONS = {
    "training an RNN or a GRU": [lambda: seqlab.RNN(3, 5).path(LONG), lambda: seqlab.GRU(3, 5).path(packed_batch())],
    "training an LSTM in float32": [lambda: seqlab.LSTM(3, 5).path(LONG)],
    "training an LSTM in float64": [lambda: seqlab.LSTM(3, 5, dtype=torch.float64).path(LONG.double())],
    "training an LSTM in float32 over 128 steps or more": [
        lambda: seqlab.LSTM(3, 5).path(torch.zeros(128, 2, 3)),
        lambda: seqlab.LSTM(3, 5, batch_first=True).path(torch.zeros(2, 128, 3)),
    ],
    "an LSTM in float32 on a PackedSequence": [
        lambda: seqlab.LSTM(3, 5).path(packed_batch()),
        lambda: inside(torch.no_grad(), seqlab.LSTM(3, 5), packed_batch()),
    ],
    "a call of few steps, as in a decoder": [
        lambda kind=kind: kind(3, 5, batch_first=True).path(torch.zeros(20, 5, 3)) for kind in LAYERS[::2]
    ],
    "under `torch.no_grad()`": [lambda kind=kind: inside(torch.no_grad(), kind(3, 5)) for kind in LAYERS],
    "all parameters frozen": [lambda kind=kind: kind(3, 5).requires_grad_(False).path(LONG) for kind in LAYERS],
    "`LSTM(proj_size=...)`": [lambda: seqlab.LSTM(3, 5, proj_size=2, dtype=torch.float64).path(LONG.double())],
    "a subclass with its own `step`": [lambda: Damped(3, 5).path(LONG), lambda: with_its_own_step().path(LONG)],
    "`GRU(reset_after=False)`": [lambda: seqlab.GRU(3, 5, reset_after=False).path(LONG)],
    "a `GradientMonitor` watches an LSTM in float32": [
        lambda x=x: gradient_watched(seqlab.LSTM).path(x) for x in (LONG, torch.zeros(200, 2, 3), packed_batch())
    ],
    "`layer.watch(fn)`": [lambda kind=kind: watched(kind).path(LONG) for kind in LAYERS],
    "bfloat16 or float16": [lambda kind=kind: kind(3, 5, **half).path(LONG.bfloat16()) for kind in LAYERS],
    "autocast": [lambda kind=kind: inside(torch.autocast("cpu", **half), kind(3, 5)) for kind in LAYERS],
    "autocast, `GRU(reset_after=False)`": [
        lambda: inside(torch.autocast("cpu", **half), seqlab.GRU(3, 5, reset_after=False))
    ],
    "a GPU": [lambda kind=kind: on_gpu(kind(3, 5)) for kind in LAYERS],
    "a GPU, and a `GradientMonitor` watches": [lambda kind=kind: on_gpu(gradient_watched(kind)) for kind in LAYERS],
    "`torch.func`: grad, jacrev, vmap, ...": [lambda kind=kind: under_grad(kind(3, 5)) for kind in LAYERS],
    "forward-mode differentiation": [lambda kind=kind: inside(forward_ad.dual_level(), kind(3, 5)) for kind in LAYERS],
    "`torch.export`": [lambda kind=kind: exported(kind(3, 5)) for kind in LAYERS],
    "`torch.compile`": [lambda kind=kind: compiled(kind(3, 5)) for kind in LAYERS],
}


def rows_of_the_page():
    rows = [line.strip("|").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "| " in line]
    rows = [[cell.strip() for cell in row] for row in rows if len(row) == 3]
    return {situation: (path.strip("`"), reason) for situation, path, reason in rows if path.startswith("`")}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_auto_takes_the_path_that_the_book_says(situation):
    for ask in SITUATIONS[situation]:
        assert ask() == rows_of_the_page()[situation]


def test_every_row_of_the_book_is_tested():
    assert list(rows_of_the_page()) == list(SITUATIONS)


@pytest.mark.parametrize(
    ("kind", "backend"),
    [(kind, backend) for kind in LAYERS for backend in ("loop", "hand", "torch", "auto")] + [(seqlab.LSTM, "onednn")],
)
def test_a_call_takes_the_engine_that_it_says(kind, backend, monkeypatch):
    layer, taken = kind(3, 5, backend=backend), []
    for name, engine in ENGINES.items():
        monkeypatch.setattr(engine, "run", lambda call, name=name, f=engine.run: taken.append(name) or f(call))
    if backend != "auto":
        assert layer.path(LONG) == (backend, f"backend='{backend}' was asked for")
    for x in (LONG, torch.zeros(200, 2, 3), packed_batch()):
        layer(x)
        assert taken.pop() == layer.path(x)[0]


@layers
def test_an_initial_state_that_asks_for_a_gradient_counts(kind):
    layer, seen = kind(3, 5).requires_grad_(False), []
    h = torch.zeros(1, 2, 5, requires_grad=True)
    with layer.watch_gradients(lambda *args: seen.append(args)):
        layer(LONG)
        assert seen == []
        layer(LONG, (h, h) if kind is seqlab.LSTM else h)
    assert len(seen) == 1


# A subclass with another equation.


@layers
@pytest.mark.parametrize("L", [3, 20, 200])
@pytest.mark.parametrize("packed", [False, True])
def test_a_step_of_a_subclass_is_computed_whatever_is_asked(kind, L, packed):
    class Halved(kind):
        """The equation of the parent on half the input."""

        def step(self, input, state, weights):
            return super().step(0.5 * input, state, weights)

    layer, plain = Halved(3, 5, bidirectional=True), kind(3, 5, bidirectional=True, backend="loop")
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(L, 2, 3)
    inputs = [pack_padded_sequence(factor * x, torch.tensor([L, L])) if packed else factor * x for factor in (1, 0.5)]
    for context in (torch.enable_grad, torch.no_grad):
        with context():
            output, expected = layer(inputs[0])[0], plain(inputs[1])[0]
        assert_close(output.data, expected.data) if packed else assert_close(output, expected)
    for backend in ("hand", "torch"):
        layer.backend = backend
        with pytest.raises(ValueError, match=f"backend='{backend}' is not possible, since a subclass has its own step"):
            layer(x)


# Projections.


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")  # torch's, once
@pytest.mark.parametrize("backend", ["auto", "loop", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["time-first", "batch-first", "unbatched", "packed", "with states"])
def test_projections_are_torchs(backend, dtype, form):
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 2, "batch_first": form == "batch-first"}
    theirs = nn.LSTM(3, 5, **options, dtype=dtype)
    ours = seqlab.LSTM(3, 5, **options, dtype=dtype, backend=backend)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(*((6, 3) if form == "unbatched" else (6, 2, 3)), dtype=dtype, requires_grad=True)
    hx = (torch.randn(4, 2, 2, dtype=dtype), torch.randn(4, 2, 5, dtype=dtype)) if form == "with states" else None
    found = []
    for layer in (ours, theirs):
        input = pack_padded_sequence(x, torch.tensor([3, 6]), enforce_sorted=False) if form == "packed" else x
        output, final = layer(input, hx)
        rows = output.data if form == "packed" else output
        loss = rows.square().sum() + sum(s.sin().sum() for s in final)
        found.append([rows, *final, *torch.autograd.grad(loss, [x, *layer.parameters()])])
    assert_close(*found, **({} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}))


def test_projections_are_watched_by_the_loop():
    layer, seen = seqlab.LSTM(3, 5, proj_size=2), []
    with layer.watch_gradients(lambda layer, direction, states: seen.append(states)):
        layer(torch.zeros(4, 2, 3))
        assert layer.path(torch.zeros(200, 2, 3))[0] == "loop"
    assert (seen[0]["h"].shape, seen[0]["c"].shape) == ((4, 2, 2), (4, 2, 5))
    with pytest.raises(ValueError, match=r"LSTM: expected h_0 .* = \(1, 2, 2\), got \(1, 2, 5\)"):
        layer(torch.zeros(4, 2, 3), (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)))
    with pytest.raises(ValueError, match="backend='hand' is not possible, since its derivation has no projection"):
        seqlab.LSTM(3, 5, proj_size=2, backend="hand")(torch.zeros(4, 2, 3))


# Watching.


@layers
@pytest.mark.parametrize("form", ["time-first", "batch-first", "unbatched"])
def test_watcher_sees_each_state_at_its_place_in_time(kind, form):
    layer = kind(3, 5, num_layers=2, bidirectional=True, batch_first=form == "batch-first")
    x = torch.randn({"time-first": (4, 2, 3), "batch-first": (2, 4, 3), "unbatched": (4, 3)}[form])
    seen = {}
    with layer.watch(lambda layer, direction, t, state: seen.update({(layer, direction, t): state})):
        output, final = layer(x)
    visits = [(k, d, t) for k in range(2) for d in range(2) for t in (range(4), reversed(range(4)))[d]]
    assert list(seen) == visits
    assert set(seen[0, 0, 0]) == ({"h", "c"} if kind is seqlab.LSTM else {"h"})
    assert seen[0, 0, 0]["h"].shape == ((1, 5) if form == "unbatched" else (2, 5))
    time = output.transpose(0, 1) if form == "batch-first" else output
    for t in range(4):
        top = torch.cat([seen[1, 0, t]["h"], seen[1, 1, t]["h"]], dim=-1)
        assert_close(top.squeeze(0) if form == "unbatched" else top, time[t])
    for name, state in zip("hc", states_of(final), strict=False):
        for index in range(4):
            last = seen[index // 2, index % 2, 3 if index % 2 == 0 else 0][name]
            assert_close(last.squeeze(0) if form == "unbatched" else last, state[index])


@layers
def test_watcher_of_a_packed_batch_sees_the_callers_order(kind):
    layer, lengths = kind(3, 5, bidirectional=True), torch.tensor([2, 4, 1])
    x, seen = torch.randn(4, 3, 3), {}
    with layer.watch(lambda layer, direction, t, state: seen.update({(direction, t): state["h"]})):
        output, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
    padded, _ = pad_packed_sequence(output)
    for t in range(4):
        running = t < lengths
        assert_close(torch.cat([seen[0, t], seen[1, t]], dim=-1)[running], padded[t, running])


@layers
def test_hooks_in_a_packed_batch_get_the_gradients_of_each_sequence_alone(kind):
    layer, lengths = kind(3, 5, num_layers=2, bidirectional=True, dtype=torch.float64), [2, 4, 1]
    x = torch.randn(4, 3, 3, dtype=torch.float64)

    def gradients(input):
        found = {}

        def watcher(layer, direction, t, state):
            for name, s in state.items():
                s.register_hook(lambda gradient, key=(layer, direction, t, name): found.update({key: gradient}))

        with layer.watch(watcher):
            output, final = layer(input)
        output = output if isinstance(output, torch.Tensor) else output.data
        loss = output.square().sum() + sum((k + 1) * s.sum() for k, s in enumerate(states_of(final)))
        loss.backward()
        return found

    together = gradients(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False))
    for n, length in enumerate(lengths):
        alone = gradients(x[:length, n])
        for (k, direction, t, name), gradient in together.items():
            expected = alone[k, direction, t, name][0] if t < length else torch.zeros(5, dtype=torch.float64)
            assert_close(gradient[n], expected, rtol=0, atol=1e-12)


@layers
def test_a_hook_on_a_watched_state_gets_the_total_gradient(kind):
    """The same derivatives without hooks: run the rest of the sequence from the state at t.

    In an LSTM, c_t reaches the loss through h_t = o_t * tanh(c_t) as well as through c_{t+1}.
    """
    layer = kind(3, 5, dtype=torch.float64)
    x, weigh = torch.randn(6, 2, 3, dtype=torch.float64), torch.randn(6, 2, 5, dtype=torch.float64)
    total, states = {}, {}

    def watcher(layer, direction, t, state):
        states[t] = {name: s.detach() for name, s in state.items()}
        for name, s in state.items():
            s.register_hook(lambda gradient, key=(t, name): total.update({key: gradient}))

    with layer.watch(watcher):
        (layer(x)[0] * weigh).sum().backward()

    def loss_from(t, *state):
        rest, _ = layer(x[t + 1 :], tuple(s.unsqueeze(0) for s in state) if len(state) == 2 else state[0].unsqueeze(0))
        return (state[0] * weigh[t]).sum() + (rest * weigh[t + 1 :]).sum()

    for t in range(5):
        h = states[t]["h"].clone().requires_grad_()
        if kind is seqlab.LSTM:
            c = states[t]["c"].clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss_from(t, h, c.detach()), h)
            o = states[t]["h"] / states[t]["c"].tanh()
            (gradient_c,) = torch.autograd.grad(loss_from(t, o * c.tanh(), c), c)
            assert_close(total[t, "c"], gradient_c, rtol=0, atol=1e-10)
        else:
            (gradient,) = torch.autograd.grad(loss_from(t, h), h)
        assert_close(total[t, "h"], gradient, rtol=0, atol=1e-12)
    assert_close(total[5, "h"], weigh[5])


@layers
@pytest.mark.parametrize("backend", ["loop", "hand", "watched"])
@pytest.mark.parametrize("form", ["time-first", "batch-first", "unbatched", "packed"])
def test_gradient_watcher_gets_states_and_total_gradients(kind, backend, form):
    """The oracle are hooks on each state of the loop."""
    if (backend, form) == ("watched", "packed"):
        with pytest.raises(ValueError, match="a packed batch has no step for all sequences at once"):
            gradient_watched(kind, backend=backend)(packed_batch())
        return
    options = {"num_layers": 2, "bidirectional": True, "batch_first": form == "batch-first", "dtype": torch.float64}
    layer = kind(3, 5, backend=backend, **options)
    x = torch.randn({"batch-first": (2, 4, 3), "unbatched": (4, 3)}.get(form, (4, 2, 3)), dtype=torch.float64)
    input = pack_padded_sequence(x, torch.tensor([2, 4]), enforce_sorted=False) if form == "packed" else x

    def loss_of(result):
        output, final = result
        output = output.data if form == "packed" else output
        return output.square().sum() + sum((k + 1) * s.sum() for k, s in enumerate(states_of(final)))

    def padded(values):
        return pad_packed_sequence(values)[0] if form == "packed" else values

    states, gradients = {}, {}
    with layer.watch_gradients(
        lambda layer, direction, s: (
            states.update({(layer, direction): s}) or (lambda g: gradients.update({(layer, direction): g}))
        )
    ):
        result = layer(input)
    loss_of(result).backward()

    layer.backend, seen, hooked = "loop", {}, {}

    def watcher(k, direction, t, state):
        for name, s in state.items():
            seen[k, direction, t, name] = s.detach()
            s.register_hook(lambda g, key=(k, direction, t, name): hooked.update({key: g}))

    with layer.watch(watcher):
        loss_of(layer(input)).backward()
    assert states.keys() == gradients.keys() == {(k, d) for k in range(2) for d in range(2)}
    for (k, direction, t, name), expected in hooked.items():
        running = t < torch.tensor([2, 4]) if form == "packed" else slice(None)
        state, gradient = states[k, direction][name], gradients[k, direction][name]
        assert type(state) is type(gradient) is type(input)
        assert_close(padded(state)[t][running], seen[k, direction, t, name][running], rtol=0, atol=1e-12)
        assert_close(padded(gradient)[t][running], expected[running], rtol=0, atol=1e-10)


@layers
@pytest.mark.parametrize("backend", ["loop", "hand", "watched"])
def test_gradient_watcher_is_told_of_each_backward_pass_and_of_its_call(kind, backend):
    layer, told = kind(3, 5, backend=backend), []
    calls = iter("ab")

    def watcher(layer, direction, states):
        call = next(calls)
        return lambda gradients: told.append((call, gradients["h"]))

    x = torch.randn(4, 2, 3)
    with layer.watch_gradients(watcher):
        first, second = layer(x)[0], layer(x)[0]
    if backend != "watched":
        layer(x)
    second[-1].sum().backward()
    first[1].sum().backward(retain_graph=True)
    first[3].sum().backward()
    assert [call for call, _ in told] == ["b", "a", "a"]
    assert torch.count_nonzero(told[1][1][2:]) == 0
    assert_close(told[0][1], told[2][1])
    assert not any(g.requires_grad for _, g in told)


@layers
@pytest.mark.parametrize("backend", ["loop", "hand", "auto"])
def test_gradient_watchers_see_nothing_where_no_backward_pass_can_follow(kind, backend):
    layer, told = kind(3, 5, num_layers=2, backend=backend), []
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name.endswith("l1"))
    with layer.watch_gradients(lambda layer, *_: told.append(layer)):
        with torch.no_grad():
            layer(torch.randn(4, 2, 3))
        assert told == []
        layer(torch.randn(4, 2, 3))[0].sum().backward()
    assert told == [1]


@layers
def test_watchers_are_called_in_order_and_removed_by_their_handles(kind):
    layer, calls = kind(3, 5), []
    first, second = (layer.watch(lambda *_, name=name: calls.append(name)) for name in "ab")
    layer(torch.zeros(1, 2, 3))
    first.remove()
    layer(torch.zeros(1, 2, 3))
    second.remove()
    layer(torch.zeros(1, 2, 3))
    assert calls == ["a", "b", "b"]
    calls.clear()
    first, second = (layer.watch_gradients(lambda *_, name=name: calls.append(name)) for name in "ab")
    output = layer(torch.zeros(1, 2, 3))[0]
    first.remove()
    layer(torch.zeros(1, 2, 3))
    second.remove()
    output.sum().backward()
    assert calls == ["a", "b", "b"]


@layers
def test_retain_grad_works_on_a_watched_state(kind):
    layer, kept = kind(3, 5), []
    with layer.watch(lambda layer, direction, t, state: (state["h"].retain_grad(), kept.append(state["h"]))):
        layer(torch.randn(4, 2, 3))[0][-1].sum().backward()
    assert all(h.grad is not None for h in kept)
    assert_close(kept[-1].grad, torch.ones(2, 5))


@layers
def test_watching_leaves_no_reference_cycle(kind):
    """Else every watched graph would live until the garbage collector runs."""
    layer = kind(3, 5)
    gc.disable()
    try:
        with layer.watch(lambda *_: None):
            output = layer(torch.randn(4, 2, 3))[0]
        alive = weakref.ref(output)
        del output
        assert alive() is None
    finally:
        gc.enable()


# Drop-in for torch.nn.


@layers
def test_a_layer_is_torchs_layer_with_the_same_seed(kind):
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.5, "bias": False}
    parent = getattr(nn, kind.__name__)
    torch.manual_seed(3)
    reference = parent(3, 5, **options)
    torch.manual_seed(3)
    layer = kind(3, 5, **options)
    assert isinstance(layer, parent)
    assert repr(layer) == repr(reference)
    assert list(layer.state_dict()) == list(reference.state_dict())
    assert_close(dict(layer.state_dict()), dict(reference.state_dict()), rtol=0, atol=0)
    layer.reset_parameters()
    reference.load_state_dict(layer.state_dict())
    layer.load_state_dict(reference.state_dict())
    x = torch.randn(2, 4, 3)
    assert_close(layer.eval()(x), reference.eval()(x))


@layers
def test_positional_arguments_are_torchs(kind):
    names = {
        seqlab.RNN: [
            "num_layers",
            "nonlinearity",
            "bias",
            "batch_first",
            "dropout",
            "bidirectional",
            "device",
            "dtype",
        ],
        seqlab.GRU: ["num_layers", "bias", "batch_first", "dropout", "bidirectional", "device", "dtype"],
        seqlab.LSTM: [
            *["num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size"],
            *["device", "dtype"],
        ],
    }
    positional = [
        name
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    assert positional == ["input_size", "hidden_size", *names[kind]]


def test_what_differs_from_torch_is_shown():
    assert repr(seqlab.GRU(3, 5, backend="loop", reset_after=False)) == "GRU(3, 5, backend=loop, reset_after=False)"


@layers
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_and_pickles_leave_watchers_behind(kind, copier):
    layer = kind(3, 5, num_layers=2, backend="loop")
    calls = []
    with layer.watch(lambda *_: calls.append(1)), layer.watch_gradients(lambda *_: calls.append(1)):
        twin = copier(layer)
        x = torch.randn(4, 2, 3)
        expected = layer(x)
        count = len(calls)
        assert_close(twin(x), expected)
    assert len(calls) == count


@layers
@engines
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_and_pickles_compute_the_same_apart_from_the_original(kind, backend, copier):
    layer, x = kind(3, 5, num_layers=2, backend=backend), torch.randn(8, 2, 3)
    layer(x)[0].sum().backward()
    twin = copier(layer)
    assert twin.path(x) == layer.path(x)
    assert_close(twin(x), layer(x))
    with torch.no_grad():
        twin.weight_hh_l0.zero_()
    assert layer.weight_hh_l0.abs().sum() > 0


@layers
@pytest.mark.parametrize("backend", ["loop", "auto"])
@pytest.mark.parametrize("strict", [False, True])
def test_export(kind, backend, strict):
    layer = kind(3, 5, bidirectional=True, backend=backend).eval()
    x = torch.randn(2, 1, 3)
    program = torch.export.export(layer, (x,), strict=strict)
    assert_close(program.module()(x), layer(x))


@layers
@engines
def test_functional_call_uses_the_parameters_that_are_given(kind, backend):
    layer, other, x = kind(3, 5, backend=backend), kind(3, 5), torch.randn(8, 2, 3)
    expected = layer(x)
    given = {name: p.detach().requires_grad_() for name, p in other.named_parameters()}
    output = functional_call(layer, given, (x,))[0]
    assert_close(output, other(x)[0])
    found = torch.autograd.grad(output.square().sum(), list(given.values()))
    assert_close(found, torch.autograd.grad(other(x)[0].square().sum(), list(other.parameters())))
    assert_close(layer(x), expected)  # its own are back


@layers
def test_hand_named_under_a_transform_is_refused(kind):
    layer = kind(3, 5, backend="hand")
    with pytest.raises(ValueError, match=r"backend='hand' is not possible, since a torch\.func transform is under way"):
        grad(lambda x: layer(x)[0].sum())(torch.randn(8, 2, 3))


@layers
def test_jacrev_matches_autograd(kind):
    layer, x = kind(3, 5, dtype=torch.float64), torch.randn(8, 2, 3, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x)
    assert_close(jacrev(lambda x: layer(x)[0])(x), expected, rtol=0, atol=1e-10)


@layers
def test_torch_func_transforms(kind):
    layer = kind(3, 5, num_layers=2, bidirectional=True, dtype=torch.float64)
    parameters = dict(layer.named_parameters())
    x = torch.randn(6, 4, 2, 3, dtype=torch.float64)

    def loss(parameters, x):
        return functional_call(layer, parameters, (x,))[0].square().sum()

    gradients = grad(loss)(parameters, x[0])
    expected = torch.autograd.grad(loss(parameters, x[0]), list(parameters.values()))
    assert_close(list(gradients.values()), list(expected))
    assert_close(vmap(lambda x: layer(x)[0])(x), torch.stack([layer(one)[0] for one in x]))
    per_sample = vmap(grad(loss), (None, 0))(parameters, x)
    assert_close({name: g[0] for name, g in per_sample.items()}, gradients)
    ensemble = {name: torch.stack([p, 2 * p]) for name, p in parameters.items()}
    assert_close(vmap(loss, (0, None))(ensemble, x[0])[0], loss(parameters, x[0]))


@layers
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's forward mode calls it
def test_forward_mode_and_hessian(kind):
    layer = kind(3, 5)
    x = torch.randn(4, 2, 3)
    _, tangent = jvp(lambda x: layer(x)[0], (x,), (torch.ones_like(x),))
    step = 1e-3
    central = (layer(x + step)[0] - layer(x - step)[0]) / (2 * step)
    assert_close(tangent, central, rtol=0, atol=1e-2)
    with forward_ad.dual_level():
        dual = layer(forward_ad.make_dual(x, torch.ones_like(x)))[0]
        assert_close(forward_ad.unpack_dual(dual).tangent, tangent)
    second = hessian(lambda x: layer(x)[0].square().sum())(x).reshape(24, 24)
    assert_close(second, second.mT, rtol=0, atol=1e-5)


@layers
@engines
@pytest.mark.parametrize("parametrize", [parametrizations.weight_norm, parametrizations.orthogonal])
def test_a_parametrized_weight_is_used_trained_and_copied(kind, backend, parametrize):
    layer, x = kind(5, 5, backend=backend), torch.randn(8, 2, 5)
    parametrize(layer, "weight_hh_l0")
    for _ in range(2):  # the weight is computed anew after each change
        plain = kind(5, 5)
        plain.load_state_dict({name: getattr(layer, name) for name in plain.state_dict()})
        assert_close(layer(x), plain(x))
        layer.zero_grad()
        layer(x)[0].square().sum().backward()
        assert all(p.grad is not None for p in layer.parameters())
        torch.optim.SGD(layer.parameters(), 0.1).step()
    assert_close(copy.deepcopy(layer)(x), layer(x))


@layers
@engines
@pytest.mark.parametrize(
    "made", [parametrizations.weight_norm, parametrizations.orthogonal, parametrizations.spectral_norm]
)
def test_a_computed_weight_is_cached_moved_and_copied(kind, backend, made):
    """parametrize.cached() gives one tensor for several calls; moving a layer keeps nothing that can't be copied."""
    layer, x = made(kind(3, 5, backend=backend), "weight_hh_l0").eval(), torch.randn(8, 2, 3)
    expected = layer(x)[0]
    with parametrize.cached():
        for _ in range(3):
            assert_close(layer(x)[0], expected)
    copied = copy.deepcopy(layer.double().float())
    assert_close(copied(x)[0], expected)
    assert_close(pickle.loads(pickle.dumps(layer.state_dict())), layer.state_dict())


@layers
@engines
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(kind, backend, use_reentrant):
    layer = kind(3, 5, num_layers=2, bidirectional=True, backend=backend, dtype=torch.float64)
    x = torch.randn(8, 2, 3, dtype=torch.float64, requires_grad=True)
    wanted = [x, *layer.parameters()]
    layer(x)[0].square().sum().backward()
    expected = [leaf.grad for leaf in wanted]
    for leaf in wanted:
        leaf.grad = None
    checkpoint(lambda x: layer(x)[0], x, use_reentrant=use_reentrant).square().sum().backward()
    assert_close([leaf.grad for leaf in wanted], expected, rtol=0, atol=1e-12)


@layers
@engines
def test_frozen_weights_get_no_gradient_and_the_others_the_same(kind, backend):
    layer, x = kind(3, 5, backend=backend), torch.randn(8, 2, 3)
    expected = dict(
        zip(layer.state_dict(), torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters())), strict=True)
    )
    for name in expected:
        layer.requires_grad_(True)
        layer.zero_grad()
        layer.get_parameter(name).requires_grad_(False)
        layer(x)[0].sum().backward()
        for other, parameter in layer.named_parameters():
            assert (parameter.grad is None) == (other == name)
            if other != name:
                assert_close(parameter.grad, expected[other])


@layers
@engines
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_output_is_the_same_and_has_no_graph(kind, backend, mode):
    layer, x = kind(3, 5, num_layers=2, bidirectional=True, backend=backend), torch.randn(8, 2, 3)
    packed = pack_padded_sequence(x, torch.tensor([5, 8]), enforce_sorted=False)
    for input in (x, packed):
        expected = layer(input)
        with mode():
            found = layer(input)
        assert_close(found[1], expected[1])
        output = found[0] if input is x else found[0].data
        assert_close(output, expected[0] if input is x else expected[0].data)
        assert not output.requires_grad


@layers
@pytest.mark.parametrize("backend", ["loop", "hand"])
def test_output_may_be_changed_in_place_and_the_graph_kept(kind, backend):
    layer, x = kind(3, 5, backend=backend), torch.randn(8, 2, 3)
    weights = list(layer.parameters())
    expected = torch.autograd.grad(layer(x)[0].mul(2).square().sum(), weights)
    loss = layer(x)[0].mul_(2).square().sum()
    for _ in range(2):
        assert_close(torch.autograd.grad(loss, weights, retain_graph=True), expected)


@layers
@compiles
@pytest.mark.parametrize("backend", ["loop", "auto"])
def test_a_compiled_model_that_contains_the_layer_is_right(kind, backend):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = kind(3, 5, bidirectional=True, backend=backend), nn.Linear(10, 2)

        def forward(self, x):
            return self.head(self.layer(x)[0]).tanh()

    torch.compiler.reset()
    model, x = Model(), torch.randn(6, 2, 3)
    expected = model(x)
    gradients = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
    output = torch.compile(model, backend="aot_eager")(x)
    assert_close(output, expected)
    assert_close(torch.autograd.grad(output.square().sum(), list(model.parameters())), gradients)


@layers
@compiles
def test_a_frame_that_is_compiled_inside_one_that_is_not_is_right(kind):
    """Where the rule itself was not compiled it may pick the hand-written pass, whose frames then are."""
    torch.compiler.reset()
    layer, x = kind(3, 5), torch.randn(3, 2, 3)
    packed = pack_padded_sequence(x, torch.tensor([2, 3]), enforce_sorted=False)
    for input in (x, packed):
        expected = layer(input)
        run = torch.compile(hand.run, backend="eager")
        output, final = run(layer._call(input, None))
        assert_close(tuple(output), tuple(expected[0])) if input is packed else assert_close(output, expected[0])
        assert_close(list(final), states_of(expected[1]))


@layers
@pytest.mark.parametrize("backend", ["loop", "auto"])
def test_autocast_converts_by_itself(kind, backend):
    layer = kind(3, 5, backend=backend)
    x = torch.randn(4, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = layer(x)
    assert_close(output.float(), layer(x)[0], rtol=0, atol=5e-2)


@layers
@pytest.mark.parametrize("backend", ["loop", "hand"])
def test_an_empty_batch_gives_an_empty_output(kind, backend):
    layer = kind(3, 5, backend=backend)
    assert layer(torch.zeros(4, 0, 3))[0].shape == (4, 0, 5)


@layers
@pytest.mark.parametrize("backend", ["loop", "hand", "torch"])
def test_nan_goes_through(kind, backend):
    x = torch.zeros(4, 2, 3)
    x[1, 0] = torch.nan
    output, _ = kind(3, 5, backend=backend)(x)
    assert output[:, 1].isfinite().all()
    assert output[0].isfinite().all()
    assert output[1:, 0].isnan().all()


@layers
def test_dropout_on_a_single_layer_warns_as_torch_does(kind):
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        kind(3, 5, dropout=0.5)


# What is refused, and what the message says.

REFUSED = [
    (
        lambda: seqlab.RNN(3, 5, backend="cuda"),
        ValueError,
        "RNN: expected backend to be one of auto, loop, hand, onednn, torch, watched, got 'cuda'",
    ),
    (
        lambda: seqlab.RNN(3, 5, nonlinearity="gelu"),
        ValueError,
        "RNN: expected nonlinearity 'tanh' or 'relu', got 'gelu'",
    ),
    (lambda: seqlab.GRU(3, 5, dropout=1.5), ValueError, "GRU: expected dropout as a probability from 0 to 1, got 1.5"),
    (lambda: seqlab.GRU(3, 5, dropout=True), ValueError, "GRU: expected dropout as a probability.*got True"),
    (lambda: seqlab.LSTM(3, 5, proj_size=5), ValueError, "LSTM: expected proj_size from 0.*hidden_size=5, got 5"),
    (lambda: seqlab.LSTM(3, 5, proj_size=-1), ValueError, "LSTM: expected proj_size from 0.*got -1"),
    (lambda: seqlab.LSTM(3, 0), ValueError, "LSTM: expected hidden_size of at least 1, got 0"),
    (lambda: seqlab.LSTM(3, 5, num_layers=0), ValueError, "LSTM: expected num_layers of at least 1, got 0"),
    (lambda: seqlab.LSTM("3", 5), TypeError, "LSTM: expected input_size as an int, got '3'"),
    (
        lambda: seqlab.GRU(3, 5, backend="torch", reset_after=False),
        ValueError,
        "GRU: backend='torch' is not possible, since torch has no kernel for reset_after=False; use backend='auto'",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_an_impossible_layer_is_refused_when_it_is_made(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_watcher_and_torchs_kernels_exclude_each_other():
    layer = seqlab.LSTM(3, 5, backend="torch")
    layer.watch(lambda *_: None)
    with pytest.raises(ValueError, match=r"LSTM: backend='torch' is not possible, since a watcher wants.*use backend"):
        layer(torch.zeros(4, 2, 3))


def test_what_the_hand_cannot_do_is_refused_with_the_reason():
    layer, x = seqlab.GRU(3, 5, backend="hand"), torch.zeros(8, 2, 3)
    with pytest.raises(ValueError, match=r"GRU: backend='hand' is not possible, since it computes in float32 .*'loop'"):
        layer.bfloat16()(x.bfloat16())
    layer.float().watch(lambda *_: None)
    with pytest.raises(ValueError, match="GRU: backend='hand' is not possible, since a watcher wants the state after"):
        layer(x)
    with pytest.raises(ValueError, match=r"GRU: expected input \(L, N, H_in\).*got \(8, 2, 4\)"):
        layer.path(torch.zeros(8, 2, 4))


def test_a_watcher_of_gradients_and_torchs_kernels_exclude_each_other():
    layer = seqlab.LSTM(3, 5, backend="torch")
    layer.watch_gradients(lambda *_: None)
    with pytest.raises(ValueError, match="backend='torch' is not possible, since a watcher wants the gradient of each"):
        layer(torch.zeros(4, 2, 3))
    with torch.no_grad():
        layer(torch.zeros(4, 2, 3))


packed = pack_padded_sequence(torch.zeros(4, 2, 4), torch.tensor([4, 2]))
INPUTS = [
    (
        torch.zeros(3),
        ValueError,
        r"expected input \(L, N, H_in\), or \(L, H_in\) without a batch, with H_in=3, got \(3,\)",
    ),
    (torch.zeros(1, 4, 2, 3), ValueError, r"got \(1, 4, 2, 3\); add or drop axes"),
    (torch.zeros(4, 2, 5), ValueError, r"got \(4, 2, 5\); make the layer with input_size=5, or project the input to 3"),
    (torch.zeros(2, 3, 4), ValueError, r"got \(2, 3, 4\); put the features last, input.movedim\(1, -1\)"),
    (packed, ValueError, r"expected a PackedSequence with data \(sum of lengths, H_in\) with H_in=3, got \(6, 4\)"),
    (torch.zeros(0, 2, 3), ValueError, r"expected at least one time step, got length 0 in \(0, 2, 3\); leave empty"),
    (
        torch.zeros(4, 2, 3).double(),
        ValueError,
        r"input of torch.float32, as the weights, got torch.float64; use input.to",
    ),
    (torch.zeros(4, 2, 3).long(), ValueError, r"got torch.int64; embed indices with nn.Embedding"),
    (
        torch.zeros(4, 2, 3, device="meta"),
        ValueError,
        r"input on cpu, where the weights are, got meta; use input.to\('cpu'\)",
    ),
    ([[1.0, 2.0, 3.0]], TypeError, r"expected input as a Tensor, got list"),
]


@layers
@pytest.mark.parametrize("backend", ["loop", "hand", "torch"])
@pytest.mark.parametrize(("input", "error", "message"), INPUTS)
def test_an_input_that_does_not_fit_is_refused(kind, backend, input, error, message):
    with pytest.raises(error, match=f"{kind.__name__}: .*{message}"):
        kind(3, 5, backend=backend)(input)


def test_an_empty_sequence_is_refused_with_the_batch_first_too():
    with pytest.raises(ValueError, match=r"GRU: expected at least one time step, got length 0 in \(2, 0, 3\)"):
        seqlab.GRU(3, 5, batch_first=True)(torch.zeros(2, 0, 3))


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_state_that_fits_the_other_layout_names_batch_first(batch_first):
    layer = seqlab.RNN(3, 5, batch_first=batch_first)
    x, h = torch.zeros((4, 2, 3) if batch_first else (2, 4, 3)), torch.zeros(1, 2, 5)
    with pytest.raises(
        ValueError,
        match=rf"RNN: expected h_0 \(D \* num_layers, N, H\) = \(1, 4, 5\), got \(1, 2, 5\); "
        rf"set batch_first={not batch_first} if the input's axis of size 2 is the batch",
    ):
        layer(x, h)


@pytest.mark.parametrize(
    ("layer", "hx", "error", "message"),
    [
        (seqlab.RNN(3, 5), torch.zeros(2, 2, 5), ValueError, r"= \(1, 2, 5\), got \(2, 2, 5\); leave hx out"),
        (seqlab.RNN(3, 5), (torch.zeros(1, 2, 5),), TypeError, "RNN: expected h_0 as a Tensor, got tuple"),
        (seqlab.LSTM(3, 5), torch.zeros(1, 2, 5), TypeError, "LSTM: expected hx as a pair.*got Tensor; pass"),
        (seqlab.LSTM(3, 5), (torch.zeros(1, 2, 5),) * 3, TypeError, "LSTM: expected hx as a pair.*got 3 items"),
        (
            seqlab.LSTM(3, 5),
            (torch.zeros(1, 2, 5), torch.zeros(1, 2, 4)),
            ValueError,
            r"LSTM: expected c_0 .* = \(1, 2, 5\), got \(1, 2, 4\)",
        ),
        (seqlab.GRU(3, 5), torch.zeros(1, 2, 5).double(), ValueError, "GRU: expected h_0 of torch.float32"),
        (seqlab.GRU(3, 5), torch.zeros(1, 2, 5, device="meta"), ValueError, "GRU: expected h_0 on cpu"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(layer, hx, error, message):
    with pytest.raises(error, match=message):
        layer(torch.zeros(4, 2, 3), hx)


def test_a_batched_state_for_an_unbatched_input_is_refused():
    with pytest.raises(
        ValueError, match=r"h_0 \(D \* num_layers, H\), unbatched as the input is, = \(1, 5\), got \(1, 1, 5\)"
    ):
        seqlab.GRU(3, 5)(torch.zeros(4, 3), torch.zeros(1, 1, 5))


def test_a_state_that_does_not_fit_a_packed_batch_is_refused():
    layer = seqlab.GRU(4, 5)
    with pytest.raises(ValueError, match=r"GRU: expected h_0 .* = \(1, 2, 5\), got \(1, 3, 5\)"):
        layer(packed, torch.zeros(1, 3, 5))
