"""A packed batch for a kernel that knows no lengths: its rows in rectangles, padded on the right.

What the kernel computes for padding must leave c as it is, since c_n is among the results: a further input is 1 on
padding, and its weights close the input gate and open the forget gate, so far that the sigmoid is exactly 0 and 1.

N batch, L length, R = sum of the lengths, H_in input_size, H hidden_size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

CLOSED = 1e4  # added to a gate's input a: sigmoid(a - 1e4) is 0 and sigmoid(a + 1e4) is 1, to the last digit
SHORT = 16  # steps below which a rectangle of its own costs more than padding


def in_rectangles(
    rows: Tensor, state: Any, weights: Any, sizes: list[int], steps: Callable[..., tuple[Tensor, Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """An LSTM on packed rows (R, H_in) by a kernel for dense batches, ``steps``: output (R, H) and c_n (N, H)."""
    starts = [0]  # of the rectangles: a new one where a third of the sequences has ended
    for t, n in enumerate(sizes):
        if 3 * n <= 2 * sizes[starts[-1]] and min(t - starts[-1], len(sizes) - t) >= SHORT:
            starts.append(t)
    at = torch.tensor(sizes, device="cpu")
    lengths = torch.tensor([*starts, len(sizes)], device="cpu").diff()
    widths = at[starts].repeat_interleave(lengths)  # sequences at each step, those that have ended too
    shift = (widths.cumsum(0) - widths) - (at.cumsum(0) - at)  # of the rows of each step
    place = (torch.arange(len(rows), device="cpu") + shift.repeat_interleave(at)).to(rows.device)

    W_ih, *others = weights
    flag = W_ih.new_tensor([-CLOSED, CLOSED, 0.0, 0.0]).repeat_interleave(len(W_ih) // 4)  # blocks i, f, g, o
    weights = (torch.cat((W_ih, flag.unsqueeze(1)), 1), *others)
    rows = F.pad(rows, (0, 1))  # the further input: 0 here, 1 on padding
    padded = rows.new_ones(int(widths.sum()), rows.shape[1]).index_copy_(0, place, rows)

    (h, c), outputs, finals = state, [], []
    rectangles = padded.split((lengths * at[starts]).tolist())
    for x, start in zip(rectangles, starts, strict=True):
        n = sizes[start]
        finals.append(c[n:])
        output, h, c = steps(x.unflatten(0, (-1, n)), h[:n], c[:n], weights)
        outputs.append(output.flatten(0, 1))
    return Rows.apply(torch.cat(outputs), place), torch.cat([c, *reversed(finals)])


class Rows(Function):
    """Some rows of a matrix, none twice. Not knowing that, torch's own way back adds them up one by one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        """x (P, H), rows (R): (R, H)."""
        ctx.rows, ctx.length = rows, len(x)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None]:
        """What autograd can differentiate again, and vmap batch."""
        return torch.zeros(ctx.length, d.shape[1], dtype=d.dtype, device=d.device).index_copy(0, ctx.rows, d), None
