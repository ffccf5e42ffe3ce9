"""The monitor: hooks on layers and states while a training step runs, and one report at its end.

L: length, N: batch, H: hidden_size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..recurrent import GRU, LSTM, RNN
from ..recurrent.watch import Receiver, Values
from .jacobians import DROP_IN
from .report import SATURATED, Profile, Report, find


@dataclass(eq=False)
class _Record:
    """Raw material of one profile: of one state, in one or more calls along one time axis. A row is one sample's step.

    R: rows of a call, the samples of its first step, then those of the second, and so on.
    """

    state: str
    reverse: bool
    relu: bool
    errors: list[Tensor]  # by call: (R), from the loss straight to the outputs
    scratch: dict[Any, Tensor]
    sizes: list[Tensor] = field(default_factory=list)  # by call: (L), rows of each step
    states: list[Tensor] = field(default_factory=list)  # by call: (R, H)
    gradients: list[Tensor | None] = field(default_factory=list)

    def open(self, values: Tensor | PackedSequence) -> int:
        """Take up the states of a call; returns its place."""
        if isinstance(values, PackedSequence):
            self.sizes.append(values.batch_sizes)
        else:
            self.sizes.append(torch.full(values.shape[:1], values.shape[1]))
        self.states.append(_rows(values))
        self.gradients.append(None)
        return len(self.states) - 1

    def add(self, place: int, values: Tensor | PackedSequence) -> None:
        """The gradients of a call. A second backward pass adds to the first, as it does in parameters."""
        before = self.gradients[place]
        self.gradients[place] = _rows(values) if before is None else before + _rows(values)

    def measure(self, dtype: torch.dtype) -> Tensor:
        """What the profile needs, in one vector (2 L + 4) that is still on the device."""
        gradients = [torch.zeros_like(s) if g is None else g for s, g in zip(self.states, self.gradients, strict=True)]
        s, g, e, sizes = (
            x[0] if len(x) == 1 else torch.cat(x) for x in (self.states, gradients, self.errors, self.sizes)
        )
        step = torch.repeat_interleave(sizes).to(s.device)  # of each row

        def norms(rows: Tensor) -> Tensor:
            squares = _norms(rows, dtype).square()
            return squares.new_zeros(len(sizes)).index_add_(0, step, squares).sqrt()

        def share(size: Tensor) -> Tensor:
            return size.mean(dtype=torch.promote_types(size.dtype, torch.float32)).to(dtype)

        # All in one buffer, kept from step to step, and comparisons in place: new memory and booleans take most time.
        size = torch.abs(s, out=_like(s, self.scratch))
        dead = (size.amax(0) == 0).to(dtype).mean()
        saturated = share((size.tanh_() if self.state == "c" else size).gt_(SATURATED)) * (not self.relu)
        tiny, size = torch.finfo(g.dtype).tiny, torch.abs(g, out=_like(g, self.scratch))
        if size.device.type == "cpu" and bool(size.amin() >= tiny):  # most often; on a GPU the look would wait
            subnormal = torch.zeros_like(saturated)
        else:
            normal = share(size.ge_(tiny))
            subnormal = share(torch.sign(g, out=size).abs_()) - normal
        direct = (e > 0.1 * e.max()).to(dtype).mean()
        return torch.cat([norms(g), norms(s), torch.stack([saturated, dead, subnormal, direct])])

    def profile(self, numbers: Tensor) -> Profile:
        """The profile from that vector."""
        L = (len(numbers) - 4) // 2
        gradient, size, shares = numbers.split([L, L, 4])
        return Profile(self.state, self.reverse, gradient, size, *shares.tolist())


def _norms(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """The norm of each row, (R, H) to (R), in float64: in float32 the square of 1e-23 is 0.

    On a CPU the rows are not converted unless it makes a difference, which is five times faster.
    """
    if rows.dtype == torch.float32 and rows.device.type == "cpu":
        quick = torch.linalg.vector_norm(rows, dim=1)
        if bool(((quick > 1e-15) & (quick < 1e15)).all()):
            return quick.to(dtype)
    return torch.linalg.vector_norm(rows, dim=1, dtype=dtype)


def _like(rows: Tensor, scratch: dict[Any, Tensor]) -> Tensor:
    """Memory of the same shape, which may hold anything."""
    key = rows.shape, rows.dtype, rows.device
    if key not in scratch:
        scratch[key] = torch.empty_like(rows)
    return scratch[key]


def _rows(values: Tensor | PackedSequence) -> Tensor:
    return values.data if isinstance(values, PackedSequence) else values.flatten(0, 1)


class GradientMonitor:
    """Watches a model's gradients, per parameter and per time step, and says in words what is wrong.

    A context manager around the training loop, with ``step`` as the callback: between ``backward()`` and the
    optimizer's step, and before clipping, which would hide an explosion. A block that never calls it gets one report,
    at its end. In training steps that are sampled the layers take their hand-written pass, which has these gradients
    at hand, or where it can't run, the loop; in the others nothing is watched.

    ‖∂L/∂h_t‖ shows vanishing where the loss reads the last steps. With an error at every step it stays level whatever
    the recurrence does; the verdict then is "undecided".

    A layer called again with a state that has a graph, such as a decoder called step by step, goes on with its time
    axis. Any other further call in one training step has a profile of its own, "h_l0 (call 2)".

    Args:
        model: a module with a layer of seqlab (RNN, LSTM, GRU) in it.
        every: report on every so-many-th training step, from the first.
        vanishing: a gradient vanishes if at the first step it is below this share of its largest.
        exploding: it explodes if the fitted rate comes to more than this factor over all steps (fitted, since a sum
            of equal errors grows in proportion to the number of steps), or if the norm over all parameters is more
            than this many times its median in the reports before, once there are three.

    Raises:
        TypeError: model is not a module.
        ValueError: there is no layer to watch in it, or a number is out of range.
        RuntimeError: entered twice, or a report is due and no gradient has come.

    >>> layer = RNN(3, 5, nonlinearity="relu")
    >>> with torch.no_grad():
    ...     for parameter, value in zip(layer.parameters(), [0, 0.5 * torch.eye(5), 1, 0]):
    ...         _ = parameter.copy_(torch.as_tensor(value))
    >>> with GradientMonitor(layer) as monitor:
    ...     output, h_n = layer(torch.zeros(20, 1, 3))
    ...     output[-1].sum().backward()
    >>> monitor.report.profiles["h_l0"].gradient[-3:]
    tensor([0.5590, 1.1180, 2.2361], dtype=torch.float64)
    >>> monitor.report.verdict
    'vanishing in h_l0: ‖∂L/∂h_t‖ changes by ×0.5 a step back in time, below 0.001 of its largest before step 10 of 20'
    """

    def __init__(self, model: nn.Module, every: int = 1, *, vanishing: float = 1e-3, exploding: float = 100.0) -> None:
        who = "GradientMonitor"
        if not isinstance(model, nn.Module):
            raise TypeError(f"{who}: expected a torch.nn.Module, got {type(model).__name__}; pass the model itself")
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"{who}: expected every as an integer of at least 1, got {every!r}")
        if not 0 < vanishing < 1 < exploding:
            raise ValueError(f"{who}: expected 0 < vanishing < 1 < exploding, got {vanishing} and {exploding}")
        self.layers = {name: m for name, m in model.named_modules() if isinstance(m, (RNN, LSTM, GRU))}
        if not self.layers:
            others = [f"torch.nn.{m._get_name()}" for m in model.modules() if isinstance(m, nn.RNNBase)]
            raise ValueError(
                f"{who}: expected a model with a layer of seqlab (RNN, LSTM, GRU), whose steps can be watched, got "
                f"{', '.join(others) or f'{type(model).__name__} without any'}; {DROP_IN}"
            )
        self.model, self.every, self.vanishing, self.exploding = model, every, vanishing, exploding
        self.reports: list[Report] = []
        self._count = 0  # training steps so far
        self._due: int | None = None  # number of reports on entering the block; None outside
        self._handles: list[Any] = []
        self._scratch: dict[Any, Tensor] = {}

    def __enter__(self) -> GradientMonitor:
        if self._due is not None:
            raise RuntimeError("GradientMonitor: already watching; leave the first `with` block before the second")
        self._due = len(self.reports)
        self._attach()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and len(self.reports) == self._due:
                self.step()
        finally:
            self._detach()
            self._due = None
            self._scratch.clear()

    @property
    def report(self) -> Report:
        """The newest report."""
        if not self.reports:
            raise RuntimeError("GradientMonitor: no report yet; step() or the end of the `with` block makes one")
        return self.reports[-1]

    def step(self, loss: Tensor | float | None = None) -> Report | None:
        """Close a training step after its backward pass: returns the report, or None if the step was not sampled."""
        if self._due is None:
            raise RuntimeError("GradientMonitor: step() outside a block; write `with GradientMonitor(model) as m:`")
        if sampled := bool(self._handles):
            self.reports.append(self._measure(loss))
        self._detach()
        self._count += 1
        if self._count % self.every == 0:
            self._attach()
        return self.report if sampled else None

    # Collecting: watchers and hooks, in place only while a sampled step runs.

    def _attach(self) -> None:
        self._records: dict[tuple[str, int, int, int, str], _Record] = {}  # name, call, layer, direction, state
        self._errors: dict[tuple[str, int], list[Tensor]] = {}  # by layer and call: gradients at the outputs
        self._calls: dict[str, int] = {}  # by layer: number of the running call
        for name, layer in self.layers.items():
            self._handles += [
                layer.register_forward_pre_hook(partial(self._see_call, name), with_kwargs=True),
                layer.watch_gradients(partial(self._see_states, name)),
                layer.register_forward_hook(partial(self._see_output, name)),
            ]

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._records, self._errors, self._calls = [], {}, {}, {}

    def _see_call(self, name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hx = args[1] if len(args) > 1 else kwargs.get("hx")
        h = hx[0] if isinstance(hx, (tuple, list)) else hx
        goes_on = h is not None and h.grad_fn is not None
        call = self._calls.get(name, 1)
        taken = any(key[:2] == (name, call) for key in self._records)
        self._calls[name] = call + 1 if taken and not goes_on else call

    def _see_states(self, name: str, layer: int, direction: int, states: Values) -> Receiver:
        call, places = self._calls[name], {}
        for symbol, value in states.items():
            key = name, call, layer, direction, symbol
            if key not in self._records:
                errors, relu = self._errors.setdefault((name, call), []), self.layers[name].mode == "RNN_RELU"
                self._records[key] = _Record(symbol, direction == 1, relu, errors, self._scratch)
            places[symbol] = self._records[key], self._records[key].open(value)

        def receive(gradients: Values) -> None:
            for symbol, (record, place) in places.items():
                record.add(place, gradients[symbol])

        return receive

    def _see_output(self, name: str, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        out = output[0].data if isinstance(output[0], PackedSequence) else output[0]
        if out.requires_grad:
            errors = self._errors[name, self._calls[name]]
            place = len(errors)
            errors.append(out.new_zeros(out.shape[:-1].numel()))  # stays so if no gradient comes

            def see_error(gradient: Tensor) -> None:
                rows = gradient.detach().flatten(0, -2)
                errors[place] = torch.abs(rows, out=_like(rows, self._scratch)).amax(-1)

            out.register_hook(see_error)

    # Measuring: all numbers stay on the device until one move, since every move waits for the device.

    def _measure(self, loss: Tensor | float | None) -> Report:
        records = {
            _label(*key): record
            for key, record in self._records.items()
            if any(g is not None for g in record.gradients)
        }
        if not records:
            raise RuntimeError(
                "GradientMonitor: expected a backward pass since the last report, got "
                f"{'a forward pass alone' if self._records else 'no forward pass with a graph'}; call the model and "
                "loss.backward() inside the block, before step(), and not under torch.no_grad()"
            )
        # Norms are taken in float64. MPS has none, so there tiny norms read 0.
        device = next(iter(records.values())).states[0].device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        names, weights = zip(*self.model.named_parameters(), strict=True)
        gradients = [w.new_zeros(1) if w.grad is None else w.grad.detach() for w in weights]
        gradients = [g.coalesce().values() if g.is_sparse else g for g in gradients]
        values = [*torch._foreach_norm([*gradients, *(w.detach() for w in weights)], 2, dtype=dtype)]
        values.append(torch.as_tensor(math.nan if loss is None else loss).detach().to(dtype))
        parts = [*(r.measure(dtype) for r in records.values()), torch.stack([v.to(device) for v in values])]
        numbers = torch.cat([part.to(device) for part in parts]).cpu().double()  # the one move
        *rows, last = numbers.split([len(part) for part in parts])

        profiles = {label: r.profile(row) for (label, r), row in zip(records.items(), rows, strict=True)}
        sizes = last[:-1].view(2, -1)  # gradients, weights
        parameters = {name: (g, w) for name, g, w in zip(names, *sizes.tolist(), strict=True)}
        final = None if loss is None else float(last[-1])
        judge = partial(find, before=[r.norm for r in self.reports], vanishing=self.vanishing, exploding=self.exploding)
        return Report(self._count, final, float(sizes[0].norm()), parameters, profiles, judge)


def _label(name: str, call: int, layer: int, direction: int, state: str) -> str:
    """Name of a profile, with the suffixes of torch's weights."""
    label = f"{name}.{state}_l{layer}" if name else f"{state}_l{layer}"
    return label + "_reverse" * direction + f" (call {call})" * (call > 1)
