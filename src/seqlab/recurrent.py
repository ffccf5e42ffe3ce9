"""Recurrent layers: the readable loop over the steps of ``cells``, and torch's own kernels on the same parameters.

Each layer is a ``torch.nn`` layer: it inherits constructor, parameters, initialisation, state_dict and copying, and so
stands wherever its parent does. What is added is the loop, which can be read and watched, and the rule that picks one
of the two. The kernels are reached through the parent's own ``forward``, which keeps pace with torch by itself.

Shapes: N batch, L length, H_in input_size, H hidden_size, D directions. Inside the loop, time is the first axis.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils.hooks import RemovableHandle

from .cells import gru_step, lstm_step, rnn_step
from .checks import check_dropout, check_layer_input, check_layer_state, check_nonlinearity, check_sizes

__all__ = ["GRU", "LSTM", "RNN"]

BACKENDS = ("auto", "loop", "torch")
PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of one direction of one layer
State = tuple[Tensor, ...]  # (h,) for RNN and GRU, (h, c) for LSTM
Watcher = Callable[[int, int, int, dict[str, Tensor]], object]


class _Recurrent(nn.RNNBase):
    """What the three layers share: the loop, the rule that picks the path, the checks. A layer adds its step."""

    state_names: tuple[str, ...] = ("h",)
    reset_after: bool = True  # in a GRU alone a matter of choice
    backend: str

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, **options: Any) -> None:
        who = type(self).__name__
        check_sizes(who, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_dropout(who, options["dropout"])
        super().__init__(input_size, hidden_size, num_layers, **options)  # type: ignore[arg-type]
        self._watchers: OrderedDict[int, Watcher] = OrderedDict()
        self.path()  # an impossible backend is refused here, not at the first batch

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run the layer over a sequence: ``(output, final state)``, as in ``torch.nn``; shapes as in the class."""
        check_layer_input(self, input)
        initial = None if hx is None else check_layer_state(self, input, hx, self.state_names)
        name, _ = self.path(input)
        if name == "torch":
            return super().forward(input, hx)
        output, final = self._loop(input, initial)
        return output, final if len(final) == 2 else final[0]

    def step(self, input: Tensor, state: State, weights: dict[str, Tensor]) -> State:
        """One step of the cell: the equation of this layer."""
        raise NotImplementedError

    def _scan(self, input: Tensor, state: State, layer: int, direction: int, lengths: Tensor | None) -> list[State]:
        """One direction of one layer, input (L, N, H_in), state (N, H): the states after each step, in time order."""
        suffix = f"l{layer}_reverse" if direction else f"l{layer}"
        weights = {name: getattr(self, f"{name}_{suffix}") for name in PARAMETERS[: 4 if self.bias else 2]}
        states: list[State] = [state] * len(input)
        for t in range(len(input)) if direction == 0 else reversed(range(len(input))):
            new = self.step(input[t], state, weights)
            for watcher in list(self._watchers.values()):
                watcher(layer, direction, t, dict(zip(self.state_names, new, strict=True)))
            if lengths is not None:  # the state of a sequence waits where it has no step t, before a reverse start too
                has_step = (t < lengths).unsqueeze(1)  # (N, 1)
                new = tuple(torch.where(has_step, n, old) for n, old in zip(new, state, strict=True))
            states[t] = state = new
        return states

    def _unroll(self, input: Tensor, initial: State | None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """All layers, input (L, N, H_in), initial (D * num_layers, N, H): the last layer's h, and the final states."""
        directions = 2 if self.bidirectional else 1
        if initial is None:
            zeros = input.new_zeros(directions * self.num_layers, input.shape[1], self.hidden_size)
            initial = tuple(zeros for _ in self.state_names)
        finals: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                start = tuple(s[layer * directions + direction] for s in initial)
                states = self._scan(input, start, layer, direction, lengths)
                outputs.append(torch.stack([state[0] for state in states]))  # (L, N, H)
                finals.append(states[-1] if direction == 0 else states[0])
            input = torch.cat(outputs, dim=-1)  # (L, N, D * H)
            if layer < self.num_layers - 1:
                input = F.dropout(input, self.dropout, self.training)
        return input, tuple(torch.stack(s) for s in zip(*finals, strict=True))

    def _loop(self, input: Tensor | PackedSequence, initial: State | None) -> tuple[Tensor | PackedSequence, State]:
        """Bring each kind of input to (L, N, H_in) for the loop, and its output back."""
        if isinstance(input, PackedSequence):
            padded, lengths = pad_packed_sequence(input)  # in the order of the caller's batch
            output, final = self._unroll(padded, initial, lengths.to(padded.device))
            if input.sorted_indices is not None:
                output = output.index_select(1, input.sorted_indices)
            data = torch.cat([h[:n] for h, n in zip(output, input.batch_sizes.tolist(), strict=True)])
            return PackedSequence(data, input.batch_sizes, input.sorted_indices, input.unsorted_indices), final
        if input.dim() == 2:
            initial = initial and tuple(s.unsqueeze(1) for s in initial)
            output, final = self._unroll(input.unsqueeze(1), initial)
            return output.squeeze(1), tuple(s.squeeze(1) for s in final)
        if self.batch_first:
            output, final = self._unroll(input.transpose(0, 1), initial)
            return output.transpose(0, 1), final
        return self._unroll(input, initial)

    def path(self, input: Tensor | PackedSequence | None = None) -> tuple[str, str]:
        """Which path a call would take now, "loop" or "torch", and the reason in words.

        Args:
            input: what the layer would be called with; neither of these two paths depends on it.

        Raises:
            ValueError: the backend is unknown, or "torch" was asked for together with what only the loop can do.

        A second derivative is asked for after the call, too late for this rule. Both paths have it, save cuDNN's
        kernels, which refuse: for second derivatives on CUDA name backend="loop".

        >>> LSTM(3, 5).path()[0], LSTM(3, 5, backend="loop").path()
        ('torch', ('loop', "backend='loop' was asked for"))
        """
        who, backend = type(self).__name__, self.backend
        if backend not in BACKENDS:
            raise ValueError(f"{who}: expected backend to be one of {', '.join(BACKENDS)}, got {backend!r}")
        need = self._need_of_loop()
        if backend == "torch" and need:
            raise ValueError(f"{who}: backend='torch' is not possible, since {need}; use backend='auto' or 'loop'")
        if backend != "auto":
            return backend, f"backend={backend!r} was asked for"
        need = need or _transform()
        return ("loop", need) if need else ("torch", "torch's kernels are faster, and can do all that is asked")

    def _need_of_loop(self) -> str:
        """What is asked for that only the loop can do, in words; empty if nothing is."""
        if self._watchers:
            return "a watcher wants the state after each step"
        return "" if self.reset_after else "torch has no kernel for reset_after=False"

    def watch(self, fn: Watcher) -> RemovableHandle:
        """Call ``fn(layer, direction, t, state)`` after each step of the loop, until the returned handle is removed.

        While a watcher is registered, backend="auto" takes the loop. The tensors of the state are the nodes that the
        next step computes with, so that a hook on them sees the total gradient dL/dh_t (and dL/dc_t, which counts
        the way through h_t too). Where a sequence of a packed batch has no step t, its row holds a value that is not
        used, and its gradient is zero. Copies and pickles leave watchers out.

        Args:
            fn: gets the layer, the direction (1 is reverse), the index t on the input's time axis, and the state
                after the step: {"h": h}, or {"h": h, "c": c} in an LSTM. What it returns is not used.

        Shape:
            h and c (N, H), in the order of the caller's batch; (1, H) for unbatched input.

        >>> layer = RNN(3, 5)
        >>> with layer.watch(lambda layer, direction, t, state: print(t, state["h"].shape)):
        ...     output, h_n = layer(torch.zeros(2, 4, 3))
        0 torch.Size([4, 5])
        1 torch.Size([4, 5])
        """
        handle = RemovableHandle(self._watchers)
        self._watchers[handle.id] = fn
        return handle

    def extra_repr(self) -> str:
        """As torch's, and the backend where one was named."""
        return super().extra_repr() + ("" if self.backend == "auto" else f", backend={self.backend}")

    def __getstate__(self) -> dict[str, Any]:
        """Leave watchers out of copies and pickles."""
        return {**super().__getstate__(), "_watchers": OrderedDict()}


def _transform() -> str:
    """What is done to the call that torch's kernels support only in part, in words; empty if nothing is."""
    if torch._C._are_functorch_transforms_active():
        return "a torch.func transform is under way"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation is under way"
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # torch 2.6 has the latter alone
    return "torch.export records the operations" if exporting() else ""


class RNN(_Recurrent, nn.RNN):
    """Elman network over a whole sequence, :func:`seqlab.cells.rnn_step` in each layer; a drop-in for ``torch.nn.RNN``.

    Args:
        input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional, device, dtype:
            as in ``torch.nn.RNN``.
        backend: "auto" takes torch's kernels unless something needs the loop; "loop" or "torch" names one.

    Shape:
        input (L, N, H_in), (N, L, H_in) with batch_first, (L, H_in) without a batch, or a PackedSequence;
        hx (D * num_layers, N, H); the layer returns (output, h_n), output (L, N, D * H) in the layout of the input.

    Raises:
        TypeError, ValueError: an argument, shape, dtype or device does not fit. A NaN goes through, as in torch.

    Source:
        Elman (1990), Finding structure in time.

    >>> output, h_n = RNN(3, 5, bidirectional=True)(torch.zeros(4, 2, 3))
    >>> output.shape, h_n.shape
    (torch.Size([4, 2, 10]), torch.Size([2, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
    ) -> None:
        self.backend = backend
        check_nonlinearity("RNN", nonlinearity)
        options = {"bias": bias, "batch_first": batch_first, "dropout": dropout, "bidirectional": bidirectional}
        super().__init__(
            input_size, hidden_size, num_layers, nonlinearity=nonlinearity, **options, device=device, dtype=dtype
        )

    def step(self, input: Tensor, state: State, weights: dict[str, Tensor]) -> State:
        """See :func:`seqlab.cells.rnn_step`."""
        (h,) = state
        return (rnn_step(input, h, **weights, nonlinearity=self.nonlinearity),)


class LSTM(_Recurrent, nn.LSTM):
    """LSTM over a whole sequence, :func:`seqlab.cells.lstm_step` in each layer; a drop-in for ``torch.nn.LSTM``.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as in
            ``torch.nn.LSTM``.
        proj_size: 0; projections of the hidden state are not implemented.
        backend: as in :class:`RNN`.

    Shape:
        as :class:`RNN`; hx is a pair (h_0, c_0), and the layer returns (output, (h_n, c_n)).

    Raises:
        TypeError, ValueError: as :class:`RNN`, and for a proj_size other than 0.

    Source:
        Hochreiter and Schmidhuber (1997); the forget gate is from Gers, Schmidhuber and Cummins (2000).

    >>> output, (h_n, c_n) = LSTM(3, 5, num_layers=2)(torch.zeros(4, 2, 3))
    >>> output.shape, c_n.shape
    (torch.Size([4, 2, 5]), torch.Size([2, 2, 5]))
    """

    state_names = ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
    ) -> None:
        self.backend = backend
        if proj_size != 0:
            raise ValueError(
                f"LSTM: expected proj_size=0, got {proj_size}; torch.nn.LSTM has projections, this layer not"
            )
        options = {"bias": bias, "batch_first": batch_first, "dropout": dropout, "bidirectional": bidirectional}
        super().__init__(input_size, hidden_size, num_layers, **options, device=device, dtype=dtype)

    def step(self, input: Tensor, state: State, weights: dict[str, Tensor]) -> State:
        """See :func:`seqlab.cells.lstm_step`."""
        h, c = state
        return lstm_step(input, (h, c), **weights)


class GRU(_Recurrent, nn.GRU):
    """GRU over a whole sequence, :func:`seqlab.cells.gru_step` in each layer; a drop-in for ``torch.nn.GRU``.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as in
            ``torch.nn.GRU``.
        backend: as in :class:`RNN`.
        reset_after: as in :func:`seqlab.cells.gru_step`; torch has no kernel for False, so that it takes the loop.

    Shape:
        as :class:`RNN`; the layer returns (output, h_n).

    Raises:
        TypeError, ValueError: as :class:`RNN`, and for backend="torch" with reset_after=False.

    Source:
        Cho et al. (2014); with reset_after=True, the default, the variant of cuDNN and torch.

    >>> output, h_n = GRU(3, 5, batch_first=True)(torch.zeros(2, 4, 3))
    >>> output.shape, h_n.shape
    (torch.Size([2, 4, 5]), torch.Size([1, 2, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
        reset_after: bool = True,
    ) -> None:
        self.backend = backend
        self.reset_after = reset_after
        options = {"bias": bias, "batch_first": batch_first, "dropout": dropout, "bidirectional": bidirectional}
        super().__init__(input_size, hidden_size, num_layers, **options, device=device, dtype=dtype)

    def step(self, input: Tensor, state: State, weights: dict[str, Tensor]) -> State:
        """See :func:`seqlab.cells.gru_step`."""
        (h,) = state
        return (gru_step(input, h, **weights, reset_after=self.reset_after),)

    def extra_repr(self) -> str:
        """As torch's, and reset_after where it differs from torch."""
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
