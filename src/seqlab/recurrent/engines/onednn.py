"""oneDNN's LSTM, one direction of one layer at a time, where torch itself leaves it or where it stalls.

In float32 on a CPU ``nn.LSTM`` is oneDNN's, one operation for all steps of one direction of one layer, and no loop
of torch's operations comes near it. Two things stand in its way:

* **A packed batch.** oneDNN knows no lengths, so torch turns to a loop of its own. Here the rows are padded:
  ``rectangles``.
* **A loss that leaves out many steps**, such as one on the last step. On its way back the gradient shrinks and becomes
  subnormal, and with such numbers some CPUs calculate a hundred times slower. oneDNN's backward pass can't leave out
  steps. So there the backward pass is the one derived by hand (``backprop``), which can: it gets the gates back from
  the h_t that oneDNN has computed. Under any other loss the gradient is oneDNN's, untouched.

N batch, L length, R = sum of the lengths, H_in input_size, H hidden_size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.utils.rnn import PackedSequence

from ..._torch import is_batched, kernel
from ...backprop.passes import LSTMPass
from ...backprop.sequence import Plan, gradients, many_wait, packed_order
from ..call import Call, Input, State, Weights
from . import hand
from .rectangles import Rows, in_rectangles

LONG = 128  # steps from which a gradient can become subnormal that halves at each step


def missing(call: Call) -> str:
    """Why oneDNN's LSTM can't be had for this layer, in words; empty if it can."""
    if call.kind != "LSTM":
        return f"oneDNN has no {call.kind}"
    if call.data.device.type != "cpu":
        return f"oneDNN computes on the CPU, not on {call.data.device.type}"
    if call.data.dtype != torch.float32:
        return f"oneDNN has an LSTM in float32, not in {call.data.dtype}"
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return "oneDNN is missing or turned off"
    return "autocast is on, which would change the dtype inside" if torch.is_autocast_enabled("cpu") else ""


def obstacle(call: Call) -> str:
    """Why this engine can't run the call, in words; empty if it can."""
    if words := missing(call):
        return words
    if call.gradient_watchers and call.differentiated():
        return "a watcher wants the gradient of each step"
    return hand.obstacle(call)


def run(call: Call) -> tuple[Input, State]:
    """Output, in the layout of the input, and final states."""
    sizes = call.input.batch_sizes if isinstance(call.input, PackedSequence) else None

    def one_direction(x: Tensor, state: State, weights: Weights, layer: int, direction: int) -> tuple[Tensor, State]:
        return lstm(x, state, weights, direction == 1, sizes)

    return call.unsorted(*call.by_layer(call.data, call.sorted(), one_direction))


def lstm(
    input: Tensor, state: State, weights: Weights, reverse: bool = False, batch_sizes: Tensor | None = None
) -> tuple[Tensor, State]:
    """One direction of one layer: input (L, N, H_in), or with batch_sizes (R, H_in); state (N, H), longest first."""
    h_0, c_0 = state
    last: Any  # index of the final states in a buffer of states
    tensors = (weights["weight_ih"], weights["weight_hh"], weights.get("bias_ih"), weights.get("bias_hh"))
    if batch_sizes is None:
        L, N = input.shape[:2]
        sizes, last = [N] * L, slice(L * N, None)
        x = input.flip(0) if reverse else input
        output, h_n, c_n = steps(x, h_0, c_0, tensors)
        output, rows = output.flatten(0, 1), x.flatten(0, 1)
    else:
        sizes, last, mirror = packed_order(batch_sizes, input.device)
        rows = Rows.apply(input, mirror) if reverse else input
        output, c_n = in_rectangles(rows, state, tensors, sizes, steps)
        h_n = output[last - sizes[0]]
    if output.requires_grad and len(sizes) >= LONG and sizes[0] > 0:
        plan = Plan(LSTMPass(), sizes, last, None)
        output, h_n, c_n = Late.apply(plan, output, h_n, c_n, rows, *tensors, h_0, c_0)
    if batch_sizes is None:
        output = output.unflatten(0, (L, N))
        return output.flip(0) if reverse else output, (h_n, c_n)
    return Rows.apply(output, mirror) if reverse else output, (h_n, c_n)


def steps(input: Tensor, h: Tensor, c: Tensor, tensors: Any) -> tuple[Tensor, Tensor, Tensor]:
    """oneDNN's operation: input (L, N, H_in), h and c (N, H); output (L, N, H), h_n and c_n (N, H)."""
    has_biases = tensors[2] is not None
    present = list(tensors[: 4 if has_biases else 2])
    output, h_n, c_n = kernel("lstm")(input, [h[None], c[None]], present, has_biases, 1, 0.0, True, False, False)
    return output, h_n[0], c_n[0]


class Late(Function):
    """oneDNN's results as they are; under a late loss, the gradients by hand in place of oneDNN's."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, output: Tensor, h_n: Tensor, c_n: Tensor, *tensors: Any) -> tuple[Tensor, ...]:
        """Output (R, H), h_n, c_n (N, H); ``tensors``: rows (R, H_in), four weights, h_0, c_0, on which they depend."""
        output, h_n, c_n = (x.detach() for x in (output, h_n, c_n))  # no views: these could not be changed in place
        ctx.plan = plan
        ctx.save_for_backward(output, *tensors)
        ctx.set_materialize_grads(False)
        return output, h_n, c_n

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """What oneDNN does not get, None, it does not compute."""
        plan, given = ctx.plan, [d for d in grads if d is not None]
        output, *tensors = ctx.saved_tensors
        by_onednn = torch.is_grad_enabled() or any(is_batched(d) for d in given) or not many_wait(plan, grads)
        if not given or by_onednn:
            return None, *grads, *(None for _ in tensors)
        with torch.autocast("cpu", enabled=False):
            rows, W_ih, W_hh, b_ih, b_hh, *state = tensors
            biases = (W_hh.new_zeros(len(W_hh)) if b is None else b for b in (b_ih, b_hh))
            buffers = plan.cell.rebuild(rows, tuple(state), plan.sizes, output, W_ih, W_hh, *biases)
            return None, None, None, None, *gradients(plan, ctx.needs_input_grad[4:], tensors, buffers, grads)
