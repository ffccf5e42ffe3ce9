"""torch's own kernels, on all layers and directions in one operation: what ``torch.nn`` computes with.

They are cuDNN's on a GPU, oneDNN's for an LSTM in float32 on a CPU, and else a loop in C++.
"""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import PackedSequence

from ..._torch import has_half_lstm, kernel
from ..call import Call, Input, State


def obstacle(call: Call) -> str:
    """Why this engine can't run the call, in words; empty if it can."""
    if call.watchers:
        return "a watcher wants the state after each step"
    if not call.own_step:
        return "a subclass has its own step"
    if not call.options.get("reset_after", True):
        return "torch has no kernel for reset_after=False"
    if call.gradient_watchers and call.differentiated():
        return "a watcher wants the gradient of each step"
    if call.kind == "LSTM" and call.data.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        if not has_half_lstm(dtype):
            return f"oneDNN has no LSTM in {dtype} on this processor, to which autocast turns"
    return ""


def run(call: Call) -> tuple[Input, State]:
    """Output, in the layout of the input, and final states."""
    initial = call.sorted()
    first = call.weights[0]
    hx = list(initial) if call.kind == "LSTM" else initial[0]
    settings = ("bias_ih" in first[0], len(call.weights), call.dropout, call.training, len(first) == 2)
    name = {"LSTM": "lstm", "GRU": "gru", "RNN": f"rnn_{call.options.get('nonlinearity')}"}[call.kind]
    weights = list(call.each_weight())
    if isinstance(call.input, PackedSequence):
        output, *final = kernel(name)(call.input.data, call.input.batch_sizes, hx, weights, *settings)
    else:
        output, *final = kernel(name)(call.input, hx, weights, *settings, False)
    return call.unsorted(output, tuple(final))
