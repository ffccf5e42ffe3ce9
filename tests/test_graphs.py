"""Passes that are recorded and replayed: all that surrounds CUDA's own recording, on a CPU; and on CUDA the whole."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref

import pytest
import torch
from test_backprop import KINDS, LENGTHS, assert_same, batch_sizes_of, by_hand, by_loop, gradients, problem
from torch.testing import assert_close

import seqlab
from seqlab.backprop.graphs import CACHES, Graphs, graphed

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


class Processor:
    """A device that "replays" by computing again into the memory of the recorded results."""

    def __init__(self):
        self.recordings = self.replays = self.turns = self.waits = 0
        self.inside = self.caller_records = False
        self.failure = None

    def busy(self):
        return self.caller_records

    @contextlib.contextmanager
    def turn(self):
        assert not self.inside
        self.inside, self.turns = True, self.turns + 1
        yield
        self.inside = False

    def capture(self, function):
        assert self.inside
        function()
        if self.failure is not None:
            raise self.failure
        self.recordings += 1
        results = function()

        def replay():
            assert self.inside
            self.replays += 1
            for here, y in zip(results, function(), strict=True):
                if here is not None:
                    here.copy_(y)

        return results, replay

    def wait(self):
        self.waits += 1


@pytest.fixture
def cache(monkeypatch):
    """Recording, on the CPU."""
    monkeypatch.setitem(CACHES, CPU, Graphs(Processor()))
    return CACHES[CPU]


@pytest.fixture
def device(cache):
    return cache.device


def others(tensors, seed):
    """Other numbers in the same shapes."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(x.shape, dtype=x.dtype, generator=generator).to(x.device).div_(2).requires_grad_() for x in tensors
    ]


@pytest.mark.parametrize("reverse", [False, True], ids=["ahead", "reverse"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["dense", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_call_before_recording_the_one_recorded_and_later_ones_match_the_loop(kind, lengths, reverse, device):
    options = {"reverse": reverse, "batch_sizes": lengths and batch_sizes_of(lengths)}
    for seed in range(4):
        tensors = others(problem(kind, lengths), seed)
        assert_same(by_hand(kind, tensors, **options), by_loop(kind, tensors, **options), tensors)
    assert (device.recordings, device.replays) == (2, 6)  # forward and backward, in the second to the fourth call


@pytest.mark.parametrize("kind", KINDS)
def test_many_calls_can_be_alive_and_go_back_in_any_order_and_twice(kind, device):
    problems = [others(problem(kind), seed) for seed in range(4)]
    outputs = [by_hand(kind, tensors) for tensors in problems]
    for k in (2, 0, 3, 1, 0, 2):
        expected = gradients(by_loop(kind, problems[k]), problems[k])
        for d, e in zip(gradients(outputs[k], problems[k], retain_graph=True), expected, strict=True):
            assert_close(d, e, rtol=0, atol=1e-10)
    assert device.recordings == 2


def test_results_may_be_kept_and_changed(device):
    tensors = problem("LSTM")
    for _ in range(2):
        gradients(by_hand("LSTM", tensors), tensors)
    first = by_hand("LSTM", tensors)
    found = gradients(first, tensors, retain_graph=True)
    copies = [x.clone() for x in (*first, *found)]
    rest = others(tensors, 1)
    gradients(by_hand("LSTM", rest), rest)
    with torch.no_grad():
        for x, copy in zip((*first, *found), copies, strict=True):
            assert torch.equal(x, copy)
            x.fill_(torch.nan)
    assert_same(by_hand("LSTM", tensors), by_loop("LSTM", tensors), tensors)


def test_each_cell_and_each_choice_of_gradients_is_recorded_apart(device):
    choices = {"input": [0], "input and state": [0, 1], "weights": [2, 3]}
    for kind in KINDS:
        for wanted in list(choices.values()) * 3:
            tensors = [x if k in wanted else x.detach() for k, x in enumerate(problem(kind))]
            assert_same(by_hand(kind, tensors), by_loop(kind, tensors), [tensors[k] for k in wanted])
    assert device.recordings == len(KINDS) * (1 + len(choices))


def test_another_dtype_shape_or_setting_is_recorded_apart(device, monkeypatch):
    def double(x):
        return [2 * x]

    x = torch.ones(3)

    def calls():
        before = device.recordings
        for _ in range(3):
            for y in (x, x.double(), torch.ones(3, 1)):
                assert torch.equal(graphed(("double",), double, y)[0], 2 * y)
        return device.recordings - before

    assert (calls(), calls()) == (3, 0)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert (calls(), calls()) == (3, 0)
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert (calls(), calls()) == (3, 0)
    finally:
        torch.set_float32_matmul_precision(precision)


def test_the_one_used_longest_ago_goes_and_comes_back(cache, device, monkeypatch):
    monkeypatch.setattr(Graphs, "limit", 2)

    def call(rows):
        x = torch.randn(rows)
        assert torch.equal(graphed((), lambda y: (y + 1, None), x)[0], x + 1)

    def kept():
        return [key[-1][0][0] for key in cache.recorded]

    for rows in (1, 1, 2, 2, 1):
        call(rows)
    assert (kept(), device.waits) == ([2, 1], 0)
    for rows in (3, 3):
        call(rows)
    assert (kept(), device.waits) == ([1, 3], 1)  # after the device was done with it
    for rows in (2, 2):
        call(rows)
    assert kept() == [3, 2]


def test_a_call_that_does_not_come_back_soon_is_not_recorded(cache, device):
    for _ in range(3):
        for rows in range(1, cache.missed.maxlen + 2):
            graphed((), lambda y: [y + 1], torch.ones(rows))
    assert device.recordings == 0
    assert len(cache.missed) == cache.missed.maxlen


def test_nothing_is_recorded_inside_a_recording_of_the_caller_off_or_empty(device, monkeypatch):
    tensors = problem("RNN")
    device.caller_records = True
    for _ in range(3):
        assert_same(by_hand("RNN", tensors), by_loop("RNN", tensors), tensors)
    device.caller_records = False
    for _ in range(3):
        by_hand("RNN", problem("RNN", batch=0))
    monkeypatch.setattr(Graphs, "limit", 0)
    for _ in range(3):
        assert_same(by_hand("RNN", tensors), by_loop("RNN", tensors), tensors)
    assert (device.turns, device.recordings) == (0, 0)


def test_a_recording_that_fails_is_told_once_and_ends_recording(cache, device):
    tensors = problem("GRU-before")
    for _ in range(3):
        by_hand("GRU-before", tensors)
    assert len(cache.recorded) == 1
    device.failure = RuntimeError("out of memory")
    gradients(by_hand("GRU-before", tensors), tensors)
    with pytest.warns(RuntimeWarning, match="seqlab: CUDA graphs are off, since recording one failed: out of memory"):
        found = gradients(by_hand("GRU-before", tensors), tensors)
    for d, e in zip(found, gradients(by_loop("GRU-before", tensors), tensors), strict=True):
        assert_close(d, e, rtol=0, atol=1e-10)
    assert (len(cache.recorded), device.waits) == (0, 1)
    for _ in range(3):
        assert_same(by_hand("GRU-before", tensors), by_loop("GRU-before", tensors), tensors)


@pytest.mark.parametrize("first", [torch.no_grad, torch.inference_mode])
def test_recorded_without_gradients_it_trains_as_well(first, device):
    tensors = problem("GRU-before")
    for _ in range(2):
        with first():
            output, final = by_hand("GRU-before", tensors)
    assert_close(output, by_loop("GRU-before", tensors)[0], rtol=0, atol=1e-12)
    assert not final.requires_grad
    for _ in range(3):
        assert_same(by_hand("GRU-before", tensors), by_loop("GRU-before", tensors), tensors)
    with first():
        assert_close(by_hand("GRU-before", tensors)[0], output, rtol=0, atol=1e-12)
    assert device.recordings == 2


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_monitor_sees_the_same_and_is_not_kept(kind, create_graph, cache, device, monkeypatch):
    seen = []

    def monitor(states):
        seen.append(states)
        return seen.append

    def run():
        seen.clear()
        gradients(by_hand(kind, tensors, monitor=monitor), tensors, create_graph=create_graph)
        return list(seen)

    tensors = problem(kind)
    runs = [run() for _ in range(4)]
    assert device.recordings == 2
    monkeypatch.delitem(CACHES, CPU)
    states, totals = run()
    for ours in runs:
        assert_close(ours[0], states, rtol=0, atol=1e-12)
        assert_close(ours[1], totals, rtol=0, atol=1e-10)
    gone, monitor = weakref.ref(monitor), None
    gc.collect()
    assert gone() is None


def test_two_threads_share_what_is_recorded(device):
    problems, failures = [others(problem("GRU"), seed) for seed in range(2)], []

    def work(tensors):
        try:
            expected = by_loop("GRU", tensors)
            for _ in range(20):
                assert_close(by_hand("GRU", tensors), expected, rtol=0, atol=1e-12)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(tensors,)) for tensors in problems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert device.recordings == 1


def test_a_layer_of_two_directions_records_the_passes_of_each_shape(device):
    layer = seqlab.GRU(3, 4, num_layers=3, bidirectional=True, reset_after=False, backend="hand", dtype=torch.float64)
    plain = seqlab.GRU(3, 4, num_layers=3, bidirectional=True, reset_after=False, backend="loop", dtype=torch.float64)
    plain.load_state_dict(layer.state_dict())
    for _ in range(3):
        x = torch.randn(5, 2, 3, dtype=torch.float64)
        for module in (layer, plain):
            module.zero_grad()
            module(x)[0].square().sum().backward()
        for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
            assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10)
    assert device.recordings == 4  # forward and backward: of layer 1, and of the others, whose input is wider


@pytest.fixture
def on_cuda(monkeypatch):
    """Nothing recorded yet."""
    caches = {}
    monkeypatch.setattr("seqlab.backprop.graphs.CACHES", caches)
    return caches


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["dense", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_replayed_passes_match_the_loop_on_cuda(kind, lengths, on_cuda):
    options = {"batch_sizes": lengths and batch_sizes_of(lengths)}
    alive = []
    for seed in range(4):
        tensors = others(problem(kind, lengths, device="cuda"), seed)
        alive.append((tensors, by_hand(kind, tensors, **options)))
    for tensors, outputs in alive * 2:
        expected = by_loop(kind, tensors, **options)
        for d, e in zip(gradients(outputs, tensors, retain_graph=True), gradients(expected, tensors), strict=True):
            assert_close(d, e, rtol=0, atol=1e-10)
        assert_close(outputs, expected, rtol=0, atol=1e-12)
    (cache,) = on_cuda.values()
    assert len(cache.recorded) == 2


@pytest.mark.gpu
@needs_cuda
def test_streams_take_turns_on_cuda(on_cuda):
    streams = [torch.cuda.Stream() for _ in range(3)]
    problems = [others(problem("GRU-before", device="cuda"), seed) for seed in range(3)]
    expected = [by_loop("GRU-before", tensors) for tensors in problems]
    torch.cuda.synchronize()
    for _ in range(20):
        outputs = []
        for stream, tensors in zip(streams, problems, strict=True):
            with torch.cuda.stream(stream):
                outputs.append(by_hand("GRU-before", tensors))
        torch.cuda.synchronize()
        for ours, theirs in zip(outputs, expected, strict=True):
            assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.gpu
@needs_cuda
def test_the_pass_can_go_into_a_recording_of_the_caller(on_cuda):
    tensors = [x.detach() for x in problem("GRU-before", device="cuda")]
    expected = by_hand("GRU-before", tensors)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = by_hand("GRU-before", tensors)
    graph.replay()
    assert_close(outputs, expected, rtol=0, atol=1e-12)
