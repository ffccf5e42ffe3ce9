"""Where a vector stands in its sequence, added to it: attention alone sees a set, not a sequence.

Shapes: N batch, L length, E = d_model. ``start`` is the position of the first vector, for generation step by step: an
int, or a tensor (N) where the sequences are at different positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..attention.common import check_sequence
from ..checks import check_like, check_sizes


class SinusoidalPositions(nn.Module):
    """Positions as phases of waves, from 2π to nearly 10000 · 2π positions long::

        PE[p, 2i]     = sin(p / 10000^(2i / E))
        PE[p, 2i + 1] = cos(p / 10000^(2i / E))
        output[p]     = x[p] + PE[p]

    PE[p + k] is PE[p] with each pair (sin, cos) rotated by the angle k / 10000^(2i / E), a linear map that depends on k
    alone.

    Args:
        d_model: E, an even number.

    Shape:
        x (N, L, E), of any length.

    Returns:
        x with the positions start, start + 1, ... added, (N, L, E).

    Raises:
        TypeError, ValueError: E is odd, or a shape does not fit.

    Source:
        Vaswani et al. (2017), Attention is all you need, section 3.5.

    >>> SinusoidalPositions(4)(torch.zeros(1, 3, 4))
    tensor([[[ 0.0000,  1.0000,  0.0000,  1.0000],
             [ 0.8415,  0.5403,  0.0100,  0.9999],
             [ 0.9093, -0.4161,  0.0200,  0.9998]]])
    """

    def __init__(self, d_model: int) -> None:
        check_sizes("SinusoidalPositions", d_model=d_model)
        if d_model % 2:
            raise ValueError(
                f"SinusoidalPositions: expected an even d_model, a sine and a cosine for each wave, got {d_model}"
            )
        super().__init__()
        self.d_model = d_model

    def forward(self, x: Tensor, start: int | Tensor = 0) -> Tensor:
        """The positions added; shapes as in the class."""
        check_sequence("SinusoidalPositions", "x", x, self.d_model, "(N, L, E)")
        exact = torch.float32 if x.device.type == "mps" else torch.float64  # there is no float64 on MPS
        p = _positions(x, start).to(exact)
        wave = torch.arange(0, self.d_model, 2, device=x.device, dtype=exact)  # 2i
        angle = p.unsqueeze(-1) / 10000 ** (wave / self.d_model)  # (L, E / 2), or (N, L, E / 2)
        return x + torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2).to(x.dtype)  # (·, L, E), in turn

    def extra_repr(self) -> str:
        """The size."""
        return str(self.d_model)


class LearnedPositions(nn.Module):
    """A vector for each position, learned as any other weight: output[p] = x[p] + weight[p].

    Args:
        max_length: how many positions there are; the model can't go beyond.
        d_model: E.
        device, dtype: of the weights.

    Shape:
        x (N, L, E) with start + L up to max_length; weight (max_length, E), drawn from a normal distribution of
        standard deviation 0.02.

    Returns:
        x with the positions start, start + 1, ... added, (N, L, E).

    Raises:
        TypeError, ValueError: a shape does not fit, or a position is beyond max_length.

    Source:
        Gehring et al. (2017), Convolutional sequence to sequence learning, section 3.1; compared with the sinusoids by
        Vaswani et al. (2017), table 3, row E.

    >>> LearnedPositions(max_length=10, d_model=4)(torch.zeros(2, 3, 4), start=7).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, max_length: int, d_model: int, device: Any = None, dtype: Any = None) -> None:
        check_sizes("LearnedPositions", max_length=max_length, d_model=d_model)
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, d_model, device=device, dtype=dtype).normal_(std=0.02))

    def forward(self, x: Tensor, start: int | Tensor = 0) -> Tensor:
        """The positions added; shapes as in the class."""
        max_length, E = self.weight.shape
        check_sequence("LearnedPositions", "x", x, E, "(N, L, E)")
        check_like("LearnedPositions", "x", x, self.weight)
        first = int(start.max()) if isinstance(start, Tensor) else start
        stop = first + x.shape[1]
        if stop > max_length:
            raise ValueError(
                f"LearnedPositions: expected positions below max_length={max_length}, got {first} to {stop - 1}; "
                "make it with a greater max_length, cut the sequence, or use SinusoidalPositions"
            )
        return x + (self.weight[_positions(x, start)] if isinstance(start, Tensor) else self.weight[first:stop])

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


def _positions(x: Tensor, start: int | Tensor) -> Tensor:
    """start, start + 1, ... for the vectors of x, (L), or (N, L)."""
    steps = torch.arange(x.shape[1], device=x.device)
    return start.unsqueeze(1) + steps if isinstance(start, Tensor) else start + steps
