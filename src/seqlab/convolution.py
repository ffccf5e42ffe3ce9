"""Causal dilated convolution: every step sees a window of the past, and dilation makes it grow exponentially in depth.

No step waits for the one before it, as in a recurrent network; but what lies before the window is out of reach, where
attention would still reach it. The batch comes first, (N, L, ·), as in attention and in the Transformer; a causal
convolution has no use for torch.nn.Conv1d's (N, C, L), whose weights it has all the same. Each layer takes and returns
a state, as a recurrent layer does: the last inputs that the next step still needs. So the same call runs a whole
sequence or goes on from where another stopped.

Shapes: N batch, L length, H_in input_size, H hidden_size, K kernel_size, d dilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .checks import check_like, check_sizes

__all__ = ["DilatedBlock", "DilatedStack", "receptive_field"]


def receptive_field(dilations: Sequence[int], kernel_size: int = 2) -> int:
    """How many steps of the input one output depends on, its own included: 1 + (K - 1) Σ d.

    Args:
        dilations: d of each layer.
        kernel_size: K.

    Returns:
        The number of steps.

    Raises:
        TypeError, ValueError: a size is not a positive int.

    >>> receptive_field([1, 2, 4, 8, 16, 32, 64, 128, 256])  # nine layers
    512
    >>> receptive_field([1] * 511)  # without dilation that takes 511
    512
    """
    check_sizes("receptive_field", kernel_size=kernel_size)
    for d in dilations:
        check_sizes("receptive_field", dilation=d)
    return 1 + (kernel_size - 1) * sum(dilations)


class DilatedBlock(nn.Module):
    """A gated causal convolution with a residual path and a skip to the output::

        a[t] = Σ_k W[k] x[t - (K - 1 - k) d] + b         k = 0 ... K - 1; x is 0 before the first step
        z    = tanh(a_filter) * sigmoid(a_gate)          a cut into two
        x'   = x + W_r z + b_r                           to the next block
        skip = W_s z + b_s                               to the output

    Args:
        hidden_size: H.
        kernel_size: K.
        dilation: d, the distance between the steps that it looks at.
        residual: whether there is a next block; if not, W_r is left out and x' = x.
        device, dtype: of the weights.

    Shape:
        x (N, L, H), past (N, (K - 1) d, H).

    Returns:
        The triple (x', skip, past), x' and skip (N, L, H), and the last (K - 1) d inputs, the past of what follows.

    Raises:
        TypeError, ValueError: a size, shape, dtype or device does not fit.

    Source:
        van den Oord et al. (2016), WaveNet: a generative model for raw audio, sections 2.1, 2.3 and 2.4, equation 2.
    Differs:
        biases; W_r and W_s have as many outputs as inputs. Weights are drawn as torch.nn.Conv1d's and Linear's.

    >>> x, skip, past = DilatedBlock(4, dilation=8)(torch.zeros(2, 5, 4))
    >>> x.shape, skip.shape, past.shape
    (torch.Size([2, 5, 4]), torch.Size([2, 5, 4]), torch.Size([2, 8, 4]))
    """

    def __init__(
        self,
        hidden_size: int,
        kernel_size: int = 2,
        dilation: int = 1,
        residual: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_sizes("DilatedBlock", hidden_size=hidden_size, kernel_size=kernel_size, dilation=dilation)
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.reach = (kernel_size - 1) * dilation
        self.conv = nn.Conv1d(hidden_size, 2 * hidden_size, kernel_size, dilation=dilation, **place)
        self.residual = nn.Linear(hidden_size, hidden_size, **place) if residual else None
        self.skip = nn.Linear(hidden_size, hidden_size, **place)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """All steps of x, after those of past, or after zeros; shapes as in the class."""
        H = self.conv.in_channels
        _check("DilatedBlock", "x", x, self.conv.weight, "(N, L, H)", H)
        if past is None:
            past = x.new_zeros(x.shape[0], self.reach, H)
        elif past.shape != (wanted := (x.shape[0], self.reach, H)):
            raise ValueError(
                f"DilatedBlock: expected past (N, (K - 1) d, H) = {wanted}, got {tuple(past.shape)}; "
                "leave it out to start from zeros"
            )
        seen = torch.cat([past, x], dim=1)  # (N, (K - 1) d + L, H)
        a = self.conv(seen.mT).mT  # (N, L, 2H)
        a_filter, a_gate = a.chunk(2, dim=-1)
        z = torch.tanh(a_filter) * torch.sigmoid(a_gate)
        out = x if self.residual is None else x + self.residual(z)
        return out, self.skip(z), seen[:, seen.shape[1] - self.reach :]


class DilatedStack(nn.Module):
    """Blocks of growing dilation, as WaveNet stacks them::

        x_0         = W x + b
        x_i, skip_i = block_i(x_{i-1})
        output      = Σ_i skip_i

    A readout follows, in WaveNet relu, a layer of every step, relu, and another layer:
    ``nn.Sequential(nn.ReLU(), nn.Linear(H, H), nn.ReLU(), nn.Linear(H, V))``.

    Args:
        input_size: H_in.
        hidden_size: H.
        dilations: d of each block; WaveNet's are 1, 2, 4, ..., 512, several times over.
        kernel_size: K.
        device, dtype: of the weights.

    Shape:
        input (N, L, H_in), state as the layer returned it.

    Returns:
        The pair (output, state), output (N, L, H), and for each block the inputs that the next step still needs. Given
        back with the next part of the sequence, or with its next step, it goes on as if nothing had been cut.

    Raises:
        TypeError, ValueError: a size, shape, dtype or device does not fit.

    Source:
        van den Oord et al. (2016), WaveNet, sections 2.1 and 2.4.
    Differs:
        the first layer has kernel size 1, so that the field is that of the blocks alone,
        ``receptive_field(dilations, kernel_size)``; the last block, whose x goes nowhere, has no W_r.

    >>> stack = DilatedStack(3, 8, dilations=[1, 2, 4])
    >>> output, state = stack(torch.zeros(2, 20, 3))
    >>> output.shape, stack.receptive_field
    (torch.Size([2, 20, 8]), 8)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        dilations: Sequence[int],
        kernel_size: int = 2,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_sizes("DilatedStack", input_size=input_size, hidden_size=hidden_size)
        if len(dilations) == 0:
            raise ValueError("DilatedStack: expected at least one dilation, got none")
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.receptive_field = receptive_field(dilations, kernel_size)
        self.input = nn.Linear(input_size, hidden_size, **place)
        self.blocks = nn.ModuleList(
            DilatedBlock(hidden_size, kernel_size, d, residual=i < len(dilations), **place)
            for i, d in enumerate(dilations, start=1)
        )

    def forward(self, input: Tensor, state: Sequence[Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All steps of the input, after those that gave the state; shapes as in the class."""
        _check("DilatedStack", "input", input, self.input.weight, "(N, L, H_in)", self.input.in_features)
        if state is not None and len(state) != len(self.blocks):
            raise ValueError(
                f"DilatedStack: expected a state of {len(self.blocks)} tensors, one for each block, got {len(state)}"
            )
        x, skips, after = self.input(input), [], []
        for i, block in enumerate(self.blocks):
            x, skip, past = block(x, None if state is None else state[i])
            skips.append(skip)
            after.append(past)
        return torch.stack(skips).sum(0), tuple(after)


def _check(who: str, name: str, x: Any, weight: Tensor, axes: str, size: int) -> None:
    check_like(who, name, x, weight)
    if x.dim() != 3 or x.shape[2] != size or x.shape[1] == 0:
        letter = axes[1:-1].split(", ")[2]
        raise ValueError(
            f"{who}: expected {name} {axes} with {letter}={size} and at least one step, got {tuple(x.shape)}; "
            "the batch comes first and the features last"
        )
