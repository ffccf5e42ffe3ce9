"""The loop: one step of the cell after the other, in each direction of each layer.

Shapes: N batch, L length, H_in input_size, H hidden_size, D directions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from .watching import hand_out

if TYPE_CHECKING:
    from .base import Recurrent, State

# One direction of one layer: (input, initial state, layer, direction) to (h after each step, final state).
Scan = Callable[[Tensor, "State", int, int], tuple[Tensor, "State"]]


def by_loop(network: Recurrent, input: Tensor | PackedSequence, initial: State) -> tuple[Any, State]:
    """Run over (L, N, H_in) or a PackedSequence, initial (D * num_layers, N, H): output and final states."""
    if not isinstance(input, PackedSequence):
        return all_layers(network, input, initial, partial(scan, network))
    packed = input
    padded, lengths = pad_packed_sequence(packed)  # in the order of the caller's batch
    one_direction = partial(scan, network, lengths=lengths.to(padded.device), packed=packed)
    output, final = all_layers(network, padded, initial, one_direction)
    return pack(output, packed), final


def all_layers(network: Recurrent, input: Tensor, initial: State, scan: Scan) -> tuple[Tensor, State]:
    """Each layer reads the h of the one below, both directions side by side: the last layer's h, the final states."""
    directions = 2 if network.bidirectional else 1
    finals: list[State] = []
    for layer in range(network.num_layers):
        outputs = []
        for direction in range(directions):
            start = tuple(s[layer * directions + direction] for s in initial)
            output, final = scan(input, start, layer, direction)
            outputs.append(output)
            finals.append(final)
        input = torch.cat(outputs, dim=-1) if directions == 2 else outputs[0]  # (L, N, D * H)
        if layer < network.num_layers - 1:
            input = F.dropout(input, network.dropout, network.training)
    return input, tuple(torch.stack(s) for s in zip(*finals, strict=True))


def scan(
    network: Recurrent,
    input: Tensor,
    state: State,
    layer: int,
    direction: int,
    lengths: Tensor | None = None,
    packed: PackedSequence | None = None,
) -> tuple[Tensor, State]:
    """One direction of one layer, input (L, N, H_in), state (N, H): h after each step in time order, final state."""
    weights = network._weights(layer, direction)
    computed: list[State] = [state] * len(input)
    output: list[Tensor] = [state[0]] * len(input)
    for t in range(len(input)) if direction == 0 else reversed(range(len(input))):
        computed[t] = new = network.step(input[t], state, weights)
        for watcher in list(network._watchers.values()):
            watcher(layer, direction, t, dict(zip(network.state_names, new, strict=True)))
        if lengths is not None:  # the state of a sequence waits where it has no step t, before a reverse start too
            has_step = (t < lengths).unsqueeze(1)  # (N, 1)
            new = tuple(torch.where(has_step, n, old) for n, old in zip(new, state, strict=True))
        state = new
        output[t] = state[0]
    if network._gradient_watchers:
        hand_out(network, layer, direction, computed, lambda x: x if packed is None else pack(x, packed))
    return torch.stack(output), state  # (L, N, H)


def pack(padded: Tensor, like: PackedSequence) -> PackedSequence:
    """Padded (L, N, H), in the order of the caller's batch, in the layout of another packed batch."""
    if like.sorted_indices is not None:
        padded = padded.index_select(1, like.sorted_indices)
    data = torch.cat([rows[:n] for rows, n in zip(padded, like.batch_sizes.tolist(), strict=True)])
    return PackedSequence(data, like.batch_sizes, like.sorted_indices, like.unsorted_indices)
