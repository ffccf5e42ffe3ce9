"""The hand-derived pass over all layers and directions: ``backprop`` has one direction of one layer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..backprop import gru_sequence, lstm_sequence, rnn_sequence
from ..backprop.sequence import Monitor, Receiver
from .loop import all_layers
from .vendor import lstm_sequence as vendor_sequence
from .watching import tell

if TYPE_CHECKING:
    from .base import Recurrent, State


def by_hand(
    network: Recurrent, input: Tensor | PackedSequence, initial: State, vendor: bool = False
) -> tuple[Any, State]:
    """As ``by_loop``; a packed batch stays packed all the way. ``vendor`` takes the passes from there."""
    if not isinstance(input, PackedSequence):
        return all_layers(network, input, initial, partial(one_direction, network, vendor=vendor))
    data, sizes, order, back = input
    if order is not None:
        initial = tuple(s.index_select(1, order) for s in initial)
    output, final = all_layers(network, data, initial, partial(one_direction, network, packed=input, vendor=vendor))
    if back is not None:
        final = tuple(s.index_select(1, back) for s in final)
    return PackedSequence(output, sizes, order, back), final


def one_direction(
    network: Recurrent,
    input: Tensor,
    state: State,
    layer: int,
    direction: int,
    packed: PackedSequence | None = None,
    vendor: bool = False,
) -> tuple[Tensor, State]:
    """One direction of one layer, input (L, N, H_in) or the packed rows: h after each step, final state (N, H)."""
    monitor: Monitor | None = None
    if network._gradient_watchers:

        def monitor(states: dict[str, Tensor]) -> Receiver | None:
            receive = tell(network, layer, direction, laid_out(states, packed))
            return receive and (lambda gradients: receive(laid_out(gradients, packed)))

    options: dict[str, Any] = {
        **network._weights(layer, direction),
        "reverse": direction == 1,
        "batch_sizes": None if packed is None else packed.batch_sizes,
    }
    if vendor:  # not taken while gradients are watched
        return vendor_sequence(input, (state[0], state[1]), **options)
    options["monitor"] = monitor
    if isinstance(network, nn.LSTM):
        return lstm_sequence(input, (state[0], state[1]), **options)
    if isinstance(network, nn.GRU):
        output, h = gru_sequence(input, state[0], reset_after=network.reset_after, **options)
    else:
        output, h = rnn_sequence(input, state[0], nonlinearity=network.nonlinearity, **options)
    return output, (h,)


def laid_out(values: dict[str, Tensor], packed: PackedSequence | None) -> dict[str, Any]:
    """The same; the rows of a packed batch as PackedSequences."""
    if packed is None:
        return values
    return {name: PackedSequence(rows, *packed[1:]) for name, rows in values.items()}
