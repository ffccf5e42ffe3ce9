"""The backward pass derived by hand, over all layers and directions: ``backprop`` has one direction of one layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ...backprop import gru_sequence, hand_obstacle, lstm_sequence, rnn_sequence
from ...backprop.sequence import Monitor, Receiver
from ..call import Call, Input, State, Weights, packed_like
from ..watch import Values, tell


def obstacle(call: Call) -> str:
    """Why this engine can't run the call, in words; empty if it can."""
    if call.watchers:
        return "a watcher wants the state after each step"
    if not call.own_step:
        return "a subclass has its own step"
    if "weight_hr" in call.weights[0][0]:
        return "its derivation has no projection of the hidden state"
    return hand_obstacle(call.data)


def run(call: Call) -> tuple[Input, State]:
    """Output, in the layout of the input, and final states. A packed batch stays packed."""
    packed = call.input if isinstance(call.input, PackedSequence) else None

    def laid_out(values: dict[str, Tensor]) -> Values:
        return {name: x if packed is None else packed_like(x, packed) for name, x in values.items()}

    def one_direction(x: Tensor, state: State, weights: Weights, layer: int, direction: int) -> tuple[Tensor, State]:
        monitor: Monitor | None = None
        if call.gradient_watchers:

            def monitor(states: dict[str, Tensor]) -> Receiver | None:
                receive = tell(call.gradient_watchers, layer, direction, laid_out(states))
                return receive and (lambda gradients: receive(laid_out(gradients)))

        options: dict[str, Any] = {**weights, **call.options, "reverse": direction == 1, "monitor": monitor}
        options["batch_sizes"] = packed and packed.batch_sizes
        if call.kind == "LSTM":
            return lstm_sequence(x, (state[0], state[1]), **options)
        output, h = (gru_sequence if call.kind == "GRU" else rnn_sequence)(x, state[0], **options)
        return output, (h,)

    return call.unsorted(*call.by_layer(call.data, call.sorted(), one_direction))
