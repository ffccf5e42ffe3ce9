"""A pass on a GPU: its many small kernels, recorded once as a CUDA graph and started together from then on.

Most of a pass's time on a GPU is spent on starting kernels from Python, some ten a step. So a call that comes a second
time, with the same shapes and options, is recorded; later ones copy their tensors to where the graph reads them, replay
it, and copy the results out, so that those of many calls can be alive at once. Calls take turns, from whatever thread
or stream, since they share that memory. ``Graphs.limit = 0`` turns this off, and saves as much again as a call needs.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Tensors = Sequence[Tensor | None]
Function = Callable[..., Tensors]


class Cuda:
    """What recording asks of a CUDA device. (The tests have the same for a CPU.)"""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream, self.done = device, torch.cuda.Stream(device), torch.cuda.Event()
        self.pool = torch.cuda.graph_pool_handle()

    def busy(self) -> bool:
        """Whether the caller is recording a graph of his own, into which ours can't go."""
        with torch.cuda.device(self.device):
            return torch.cuda.is_current_stream_capturing()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """What the device does inside comes after what it did in earlier turns, on whatever stream."""
        with torch.cuda.device(self.device):
            stream = torch.cuda.current_stream()
            stream.wait_event(self.done)
            try:
                yield
            finally:
                self.done.record(stream)

    def capture(self, function: Callable[[], Tensors]) -> tuple[Tensors, Callable[[], None]]:
        """The function's results, and what computes them anew in the same memory."""
        # While recording, kernels can't be loaded nor cuBLAS started. Not on the stream that records: cuBLAS keeps
        # working memory for each stream, and must get it in the graphs' pool, where it can't go to anybody else.
        function()
        graph, caller = torch.cuda.CUDAGraph(), torch.cuda.stream(torch.cuda.current_stream())
        recording = torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local")
        with caller, recording:  # one that fails leaves its stream current, which ``caller`` undoes
            results = function()
        return results, graph.replay

    def wait(self) -> None:
        torch.cuda.synchronize(self.device)


class Recorded:
    """A function of tensors, recorded for their shapes. An argument or a result may be None."""

    def __init__(self, device: Cuda, function: Function, tensors: Tensors) -> None:
        self.function = function  # kept for the tensors that it holds, such as an index, which the graph reads
        with torch.inference_mode(False), torch.no_grad():
            self.inputs = [x if x is None else torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in tensors]
            self.results, self.replay = device.capture(lambda: function(*self.inputs))

    def __call__(self, tensors: Tensors) -> Tensors:
        for here, x in zip(self.inputs, tensors, strict=True):
            if here is not None and x is not None:
                here.copy_(x)
        self.replay()
        return [y if y is None else y.clone() for y in self.results]


class Graphs:
    """The functions recorded on a device, no more than ``limit``: the one used longest ago goes first."""

    limit = 16  # forward and backward pass of eight shapes

    def __init__(self, device: Cuda) -> None:
        self.device, self.lock = device, threading.Lock()
        self.recorded: OrderedDict[Hashable, Recorded] = OrderedDict()
        self.missed: deque[Hashable] = deque(maxlen=16)  # the latest calls that were not recorded

    def __call__(self, key: Hashable, function: Function, tensors: Tensors) -> Tensors:
        with self.lock:
            if key not in self.recorded and key not in self.missed:
                self.missed.append(key)
            else:
                with self.device.turn():
                    if key not in self.recorded:
                        self.record(key, function, tensors)
                    if key in self.recorded:
                        self.recorded.move_to_end(key)
                        return self.recorded[key](tensors)
        return function(*tensors)

    def record(self, key: Hashable, function: Function, tensors: Tensors) -> None:
        """Where recording fails, for want of memory perhaps, it ends for good, and its memory is given back."""
        self.missed.remove(key)
        try:
            self.recorded[key] = Recorded(self.device, function, tensors)
        except RuntimeError as error:
            self.limit = 0
            warnings.warn(f"seqlab: CUDA graphs are off, since recording one failed: {error}", RuntimeWarning, 2)
        while len(self.recorded) > self.limit:
            self.device.wait()  # memory that a replay still reads must not go to others
            self.recorded.popitem(last=False)


CACHES: dict[torch.device, Graphs] = {}


def graphed(key: tuple[Hashable, ...], function: Function, first: Tensor, *others: Tensor | None) -> Tensors:
    """function(first, *others), on a GPU by a graph; key: all that it depends on beside shapes and numbers."""
    if first.is_cuda and first.device not in CACHES:
        CACHES.setdefault(first.device, Graphs(Cuda(first.device)))
    graphs, tensors = CACHES.get(first.device), (first, *others)
    if graphs is None or graphs.limit == 0 or first.numel() == 0 or graphs.device.busy():
        return function(*tensors)
    matmul, backends = torch.backends.cuda.matmul, torch.backends
    precision = getattr(matmul, "fp32_precision", None) or torch.get_float32_matmul_precision()  # new in torch 2.9
    precisions = precision, getattr(backends, "fp32_precision", None), torch.are_deterministic_algorithms_enabled()
    shapes = (x if x is None else (x.shape, x.dtype) for x in tensors)
    return graphs((*key, *precisions, *shapes), function, tensors)
