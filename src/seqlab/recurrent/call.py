"""One call of a recurrent layer as data: what an engine needs, and no layer in it.

Shapes: N batch, L length, R rows = the sum of all lengths, H_in input_size, H hidden_size, D directions. An engine
reads (L, N, H_in) or a PackedSequence; ``arrange`` and ``Layout.restore`` are the way there and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .watch import GradientWatcher, Watcher

State = tuple[Tensor, ...]  # (h,) for RNN and GRU, (h, c) for LSTM
Weights = dict[str, Tensor]  # of one direction of one layer: weight_ih, weight_hh, and where there are, bias_ih ...
Input = Tensor | PackedSequence
# One direction of one layer: (input, initial state, weights, layer, direction) to (h after each step, final state).
Direction = Callable[[Tensor, State, Weights, int, int], tuple[Tensor, State]]


class Call(NamedTuple):
    """What a layer computes with in one call."""

    kind: str  # "RNN", "LSTM" or "GRU"
    step: Callable[[Tensor, State, Weights], State]  # the cell's equation
    own_step: bool  # whether that is the equation of ``kind``, or another that a subclass has put in its place
    options: Mapping[str, Any]  # of the equation: nonlinearity, reset_after
    names: tuple[str, ...]  # of the states
    input: Input  # (L, N, H_in), or packed
    initial: State  # (D * num_layers, N, H) each, in the order of the caller's batch
    weights: Sequence[Sequence[Weights]]  # by layer and direction
    dropout: float  # between layers, in training
    training: bool
    watchers: Sequence[Watcher]
    gradient_watchers: Sequence[GradientWatcher]

    @property
    def data(self) -> Tensor:
        """The input's numbers, of a PackedSequence those of all rows."""
        return self.input.data if isinstance(self.input, PackedSequence) else self.input

    @property
    def length(self) -> int:
        """L, of the longest sequence."""
        return len(self.input.batch_sizes) if isinstance(self.input, PackedSequence) else len(self.input)

    def each_weight(self) -> Iterator[Tensor]:
        """All weights, in the order in which torch keeps them."""
        return chain.from_iterable(weights.values() for directions in self.weights for weights in directions)

    def differentiated(self) -> bool:
        """Whether a backward pass can follow."""
        return torch.is_grad_enabled() and any(
            t.requires_grad for t in chain((self.data,), self.initial, self.each_weight())
        )

    def by_layer(self, input: Tensor, initial: State, run: Direction) -> tuple[Tensor, State]:
        """Each layer reads the h of the one below, of all its directions: the last layer's h, the final states."""
        finals: list[State] = []
        for layer, directions in enumerate(self.weights):
            if layer > 0:
                input = F.dropout(input, self.dropout, self.training)
            outputs = []
            for direction, weights in enumerate(directions):
                start = tuple(s[len(finals)] for s in initial)
                output, final = run(input, start, weights, layer, direction)
                outputs.append(output)
                finals.append(final)
            input = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]  # (L, N, D * H)
        return input, tuple(torch.stack(s) for s in zip(*finals, strict=True))

    def sorted(self) -> State:
        """The initial states in the order of the packed batch, longest sequence first."""
        order = self.input.sorted_indices if isinstance(self.input, PackedSequence) else None
        return self.initial if order is None else tuple(s.index_select(1, order) for s in self.initial)

    def unsorted(self, output: Tensor, final: State) -> tuple[Input, State]:
        """Output and final states in the layout of the input, from rows in the order of the packed batch."""
        if not isinstance(self.input, PackedSequence):
            return output, final
        back = self.input.unsorted_indices
        if back is not None:
            final = tuple(s.index_select(1, back) for s in final)
        return packed_like(output, self.input), final


class Layout(NamedTuple):
    """What ``arrange`` has changed about an input."""

    unbatched: bool
    batch_first: bool

    def restore(self, output: Input, final: State) -> tuple[Input, State]:
        """Output and final states as the caller's input was."""
        if isinstance(output, PackedSequence):
            return output, final
        if self.unbatched:
            return output.squeeze(1), tuple(s.squeeze(1) for s in final)
        return output.transpose(0, 1) if self.batch_first else output, final


def arrange(input: Input, state: State | None, batch_first: bool) -> tuple[Input, State | None, Layout]:
    """Input and state with the axes (L, N, ...), and how to restore them; a PackedSequence as it is."""
    if isinstance(input, PackedSequence):
        return input, state, Layout(False, False)
    if input.dim() == 2:
        return input.unsqueeze(1), state and tuple(s.unsqueeze(1) for s in state), Layout(True, False)
    return input.transpose(0, 1) if batch_first else input, state, Layout(False, batch_first)


def packed_like(rows: Tensor, packed: PackedSequence) -> PackedSequence:
    """Other rows in the layout of a packed batch."""
    return PackedSequence(rows, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
