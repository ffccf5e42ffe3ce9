"""The loop: one step of the cell after the other, in each direction of each layer. It says what is right.

Shapes: N batch, L length, H_in input_size, H hidden_size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ..call import Call, Input, State, Weights, packed_like
from ..watch import tell_by_hooks


def obstacle(call: Call) -> str:
    """Nothing stands in its way."""
    return ""


def run(call: Call) -> tuple[Input, State]:
    """Output, in the layout of the input, and final states."""
    if isinstance(call.input, PackedSequence):
        input, lengths = pad_packed_sequence(call.input)  # in the order of the caller's batch
        lengths = lengths.to(input.device)
    else:
        input, lengths = call.input, None

    def unroll(x: Tensor, state: State, weights: Weights, layer: int, direction: int) -> tuple[Tensor, State]:
        steps = reversed(range(len(x))) if direction else range(len(x))
        states, outputs = [state] * len(x), [state[0]] * len(x)
        for t in steps:
            states[t] = call.step(x[t], state, weights)
            for watcher in call.watchers:
                watcher(layer, direction, t, dict(zip(call.names, states[t], strict=True)))
            state = states[t] if lengths is None else waiting(state, states[t], t < lengths)
            outputs[t] = state[0]
        if call.gradient_watchers:
            tell_by_hooks(call.gradient_watchers, layer, direction, call.names, states, lambda s: as_input(s, call))
        return torch.stack(outputs), state  # (L, N, H)

    output, final = call.by_layer(input, call.initial, unroll)
    return as_input(output, call), final


def waiting(old: State, new: State, has_step: Tensor) -> State:
    """A sequence that has no step t keeps its state: after its end, or before it when it is read in reverse."""
    return tuple(torch.where(has_step.unsqueeze(1), n, o) for n, o in zip(new, old, strict=True))


def as_input(padded: Tensor, call: Call) -> Input:
    """(L, N, H), in the order of the caller's batch, in the layout of the call's input."""
    if not isinstance(call.input, PackedSequence):
        return padded
    order, sizes = call.input.sorted_indices, call.input.batch_sizes
    if order is not None:
        padded = padded.index_select(1, order)
    return packed_like(torch.cat([rows[:n] for rows, n in zip(padded, sizes.tolist(), strict=True)]), call.input)
