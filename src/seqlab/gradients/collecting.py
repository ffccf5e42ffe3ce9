"""What a sampled training step shows of the watched layers and cells, collected until it is measured.

L: length, N: batch, H: hidden_size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .record import Record, Scratch, like
from .watching import Eye, unwatch, watch

Values = dict[str, Any]  # by state: (L, N, H) or a PackedSequence


class Collector:
    """Watches the modules from its making to ``close``."""

    def __init__(self, modules: dict[str, nn.Module], scratch: Scratch) -> None:
        self.records: dict[tuple[str, int, int | None, int, str], Record] = {}  # module, call, layer, direction, state
        self.calls: dict[str, int] = {}  # by module: number of the running call
        self.errors: dict[tuple[str, int], list[Tensor]] = {}  # by module and call: gradients at the outputs
        self.failed: dict[str, str] = {}  # by module: why it could not be watched after all
        self.scratch = scratch
        self._eyes: list[tuple[nn.Module, Eye]] = []
        self._handles: list[Any] = []
        for name, module in modules.items():
            eye = _CellEye(self, name, module) if isinstance(module, nn.RNNCellBase) else _LayerEye(self, name, module)
            watch(module, eye)
            self._eyes.append((module, eye))
            if isinstance(eye, _LayerEye):
                self._handles.append(module.watch_gradients(eye.states))  # type: ignore[operator]

    def close(self) -> None:
        """Leave the modules as they were before."""
        for handle in self._handles:
            handle.remove()
        for module, eye in self._eyes:
            unwatch(module, eye)
        self._eyes, self._handles = [], []

    def begin(self, name: str, h: Any) -> None:
        """A call goes on with its time axis if it starts from a state with a graph, or else opens another."""
        call = self.calls.get(name, 1)
        taken = any(key[:2] == (name, call) for key in self.records)
        goes_on = isinstance(h, Tensor) and h.grad_fn is not None
        self.calls[name] = call + 1 if taken and not goes_on else call

    def record(self, name: str, module: nn.Module, layer: int | None, direction: int, state: str) -> Record:
        """The record of a state on the running time axis."""
        call = self.calls[name]
        key = name, call, layer, direction, state
        if key not in self.records:
            errors, relu = self.errors.setdefault((name, call), []), getattr(module, "nonlinearity", "") == "relu"
            self.records[key] = Record(state, direction == 1, relu, errors, self.scratch)
        return self.records[key]

    def see_error(self, name: str, output: Tensor) -> None:
        """Keep the largest element of what the loss sends straight to each row of an output (..., H)."""
        errors = self.errors.setdefault((name, self.calls[name]), [])
        place = len(errors)
        errors.append(output.new_zeros(output.shape[:-1].numel()))  # stays so if no gradient comes

        def keep(gradient: Tensor) -> None:
            rows = gradient.detach().reshape(-1, gradient.shape[-1])
            errors[place] = torch.abs(rows, out=like(rows, self.scratch)).amax(-1)

        output.register_hook(keep)


def _state_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """(h,) or (h, c) among the arguments of a call."""
    hx = args[1] if len(args) > 1 else kwargs.get("hx")
    return tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)


class _LayerEye:
    """Sees a layer, whose forward pass says itself what its states and their gradients are."""

    def __init__(self, collector: Collector, name: str, module: nn.Module) -> None:
        self.collector, self.name, self.module = collector, name, module

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.collector.begin(self.name, _state_of(args, kwargs)[0])
        return args, kwargs

    def after(self, output: Any) -> Any:
        out = output[0].data if isinstance(output[0], PackedSequence) else output[0]
        if out.requires_grad:
            self.collector.see_error(self.name, out)
        return output

    def states(self, layer: int, direction: int, states: Values) -> Any:
        """For ``watch_gradients``."""
        records = {s: self.collector.record(self.name, self.module, layer, direction, s) for s in states}
        places = {s: records[s].open(value) for s, value in states.items()}

        def receive(gradients: Values) -> None:
            for s, place in places.items():
                records[s].add(place, gradients[s])

        return receive


class _CellEye:
    """Sees a cell by hooks on the states that it returns, one step a call.

    The caller gets a copy of h, by which the loss's own error is told from what comes back through the next step: where
    that copy is the next call's state, the original takes its place.
    """

    def __init__(self, collector: Collector, name: str, module: nn.Module) -> None:
        self.collector, self.name, self.module = collector, name, module
        self.originals: dict[int, tuple[Tensor, Tensor]] = {}  # by id of the copy: it and the original

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        h, *c = _state_of(args, kwargs)
        self.collector.begin(self.name, h)
        given, original = self.originals.get(id(h), (None, h))
        if given is None or given._version > 0:  # changed in place since
            return args, kwargs
        hx = (original, *c) if c else original
        return ((args[0], hx, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "hx": hx})

    def after(self, output: Any) -> Any:
        state = output if isinstance(output, tuple) else (output,)
        if len(state) > 2 or not all(isinstance(s, Tensor) for s in state):
            kinds = ", ".join(type(s).__name__ for s in state)
            self.collector.failed[self.name] = f"its forward returned ({kinds}) where a cell returns h or (h, c)"
            return output
        h, *c = state
        if not h.requires_grad:
            return output
        for symbol, value in zip("hc", state, strict=False):
            record = self.collector.record(self.name, self.module, None, 0, symbol)
            place = record.open(_one_step(value))
            value.register_hook(partial(_add, record, place))
        given = h.clone()
        self.originals[id(given)] = given, h
        self.collector.see_error(self.name, given)
        return (given, *c) if c else given


def _add(record: Record, place: int, gradient: Tensor) -> None:
    record.add(place, _one_step(gradient))


def _one_step(value: Tensor) -> Tensor:
    """(N, H), or (H) of one example, to (1, N, H)."""
    return value.reshape(1, -1, value.shape[-1])
