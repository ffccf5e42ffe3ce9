"""torch's LSTM kernel on the CPU, oneDNN's, where torch itself leaves it or where it stalls.

In float32 on a CPU an ``nn.LSTM`` is oneDNN's, one operation for all steps of one direction of one layer, and no loop
of torch's operations comes near it. Two things stand in its way:

* **A packed batch.** oneDNN knows no lengths, so torch turns to a loop of its own. Here the rows are laid out in
  rectangles, padded on the right, and oneDNN runs on these. What it computes for padding must leave c as it is, since
  c_n is among the results: a further input is 1 on padding, and its weights close the input gate and open the forget
  gate, so far that the sigmoid is exactly 0 and 1. h_n is looked up in the output.
* **A loss that leaves out many steps**, such as one on the last step. On its way back the gradient shrinks and may end
  as subnormal numbers, with which some CPUs calculate a hundred times slower. Audio filters, which stall in the same
  way when the music stops, are fed an inaudible offset. So here: where no gradient comes in, 1e-31 does. In the
  gradients of the weights that lies far below the last digit. At the input and the initial state numbers below 1e-28,
  which may be the offset's, are set to zero.

N batch, L length, R = sum of the lengths, H_in input_size, H hidden_size.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.utils.rnn import PackedSequence

from ..backprop import hand_obstacle
from ..backprop.sequence import packed_order

CLOSED = 1e4  # added to a gate's input a: sigmoid(a - 1e4) is 0 and sigmoid(a + 1e4) is 1, to the last digit
SHORT = 16  # steps below which a rectangle of its own costs more than padding
LONG = 128  # steps of a dense batch from which this pays: a gradient that shrinks by 2 a step is then subnormal
OFFSET, INAUDIBLE = 1e-31, 1e-28


def vendor_obstacle(input: Tensor) -> str:
    """Why oneDNN's LSTM cannot be had for this input, in words; empty if it can.

    Args:
        input: what the layer computes with; of a PackedSequence its data.

    >>> vendor_obstacle(torch.zeros(4, 2, 3, dtype=torch.float64))
    'oneDNN has an LSTM in float32, not in torch.float64'
    """
    if input.device.type != "cpu":
        return f"oneDNN computes on the CPU, not on {input.device.type}"
    if input.dtype != torch.float32:
        return f"oneDNN has an LSTM in float32, not in {input.dtype}"
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return "oneDNN is missing or turned off"
    return hand_obstacle(input)


def by_direction(network: nn.RNNBase, input: Tensor | PackedSequence) -> bool:
    """Whether :func:`lstm_sequence` serves a call better than torch's own way to the same kernel.

    A short dense batch needs nothing of it, and torch runs all layers and directions of such in one operation.

    >>> layer = torch.nn.LSTM(3, 5)
    >>> by_direction(layer, torch.zeros(200, 2, 3)), by_direction(layer, torch.zeros(20, 2, 3))
    (True, False)
    """
    if not isinstance(network, nn.LSTM):
        return False
    if not isinstance(input, PackedSequence):
        L = input.shape[network.batch_first and input.dim() == 3]
        if L < LONG or not torch.is_grad_enabled():
            return False
    return not vendor_obstacle(input.data)


def lstm_sequence(
    input: Tensor,
    hx: tuple[Tensor, Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """As :func:`seqlab.backprop.lstm_sequence`, without its monitor, by torch's kernel.

    Second derivatives are torch's. Dtypes other than float32 are computed right, but not by oneDNN.

    >>> layer = torch.nn.LSTM(3, 5)
    >>> x, zeros = torch.randn(4, 2, 3), torch.zeros(2, 5)
    >>> output, (h_n, c_n) = lstm_sequence(x, (zeros, zeros), *layer.parameters())
    >>> torch.testing.assert_close(output, layer(x)[0])
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    if batch_sizes is None:
        output, h_n, c_n = _kernel(input.flip(0) if reverse else input, hx, weights)
        return output.flip(0) if reverse else output, (h_n, c_n)
    sizes, last, mirror = packed_order(batch_sizes, input.device)
    output, c_n = _in_rectangles(input, hx, weights, sizes, batch_sizes, mirror if reverse else None)
    last = last - sizes[0]
    return output, (output[mirror[last] if reverse else last], c_n)


def _kernel(input: Tensor, state: Any, weights: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Input (L, N, H_in), state (N, H): output (L, N, H), h_n and c_n (N, H)."""
    has_biases = weights[2] is not None
    states, present = [s.unsqueeze(0) for s in state], list(weights[: 4 if has_biases else 2])
    output, h_n, c_n = torch.lstm(input, states, present, has_biases, 1, 0.0, True, False, False)
    results = output, h_n[0], c_n[0]
    return _Audible.apply(*results) if output.requires_grad else results


def _in_rectangles(
    rows: Tensor, state: Any, weights: Any, sizes: list[int], batch_sizes: Tensor, order: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Packed rows (R, H_in), and the rows in whose stead they are read: output (R, H) and c_n (N, H)."""
    starts = [0]  # of the rectangles: a new one where a third of the sequences has ended
    for t, n in enumerate(sizes):
        if 3 * n <= 2 * sizes[starts[-1]] and min(t - starts[-1], len(sizes) - t) >= SHORT:
            starts.append(t)
    lengths = torch.tensor([*starts, len(sizes)]).diff()
    widths = batch_sizes[starts].repeat_interleave(lengths)  # sequences at each step, those that have ended too
    shift = (widths.cumsum(0) - widths) - (batch_sizes.cumsum(0) - batch_sizes)  # of the rows of each step
    place = (torch.arange(len(rows)) + shift.repeat_interleave(batch_sizes)).to(rows.device)
    place = place if order is None else place[order]

    W_ih, *others = weights
    flag = W_ih.new_tensor([-CLOSED, CLOSED, 0.0, 0.0]).repeat_interleave(len(W_ih) // 4)  # blocks i, f, g, o
    weights = (torch.cat((W_ih, flag.unsqueeze(1)), 1), *others)
    rows = F.pad(rows, (0, 1))  # the further input: 0 here, 1 on padding
    padded = rows.new_ones(int(widths.sum()), rows.shape[1]).index_copy_(0, place, rows)

    (h, c), outputs, finals = state, [], []
    rectangles = padded.split((lengths * batch_sizes[starts]).tolist())
    for x, start in zip(rectangles, starts, strict=True):
        n = sizes[start]
        finals.append(c[n:])
        output, h, c = _kernel(x.unflatten(0, (-1, n)), (h[:n], c[:n]), weights)
        outputs.append(output.flatten(0, 1))
    return _Rows.apply(torch.cat(outputs), place), torch.cat([c, *reversed(finals)])


class _Rows(Function):
    """Some rows of a matrix, none twice. Not knowing that, torch's own way back adds them up one by one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        """x (P, H), rows (R): (R, H)."""
        ctx.rows, ctx.length = rows, len(x)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None]:
        """What autograd can differentiate again."""
        return d.new_zeros(ctx.length, d.shape[1]).index_copy_(0, ctx.rows, d), None


class _Audible(Function):
    """oneDNN's results as they are; on the way back, the offset before its node, and its traces removed behind it."""

    @staticmethod
    def forward(ctx: Any, *results: Tensor) -> tuple[Tensor, ...]:
        """Output (L, N, H), h_n and c_n (N, H)."""
        ctx.shape = results[0].shape
        ctx.set_materialize_grads(False)
        return tuple(x.detach() for x in results)  # views could not be changed in place

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Every 16th step is looked at: where a loss reaches it, the first number is hardly ever zero."""
        d_output, *d_final = grads
        given = [d for d in grads if d is not None]
        if torch.is_grad_enabled() or not given or (d_output is not None and bool(d_output[::16, 0, 0].all())):
            return grads  # one that is to be differentiated again stays as it is, too
        node = ctx.next_functions[0][0]
        if not node.name().startswith("MkldnnRnnLayer"):
            return grads
        if not any(bool(d.any()) for d in (*d_final, None if d_output is None else d_output[-1]) if d is not None):
            return (
                grads  # steps after the loss: an expanding recurrence would amplify the offset, where there is nothing
            )
        if all(float(torch.linalg.vector_norm(d, torch.inf)) < INAUDIBLE for d in given):
            return tuple(d if d is None else torch.zeros_like(d) for d in grads)

        def silence(results: tuple[Any, ...], _: Any) -> tuple[Any, ...]:
            handle.remove()
            return tuple(d if d is None else F.hardshrink(d, INAUDIBLE) for d in results)

        handle = node.register_hook(silence)
        return OFFSET + (given[0].new_zeros(ctx.shape) if d_output is None else d_output), *d_final
