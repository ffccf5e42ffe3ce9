"""The raw material of one profile, and the numbers made of it at the end of a training step.

L: length, N: batch, H: hidden_size, R: rows of a call, those of its first step, then those of the second, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .._torch import norms
from .report import SATURATED, Profile

Scratch = dict[Any, Tensor]


@dataclass(eq=False)
class Record:
    """States and gradients of one state, in one or more calls along one time axis. A row is one sample's step."""

    state: str
    reverse: bool
    relu: bool
    errors: list[Tensor]  # by call: (R), from the loss straight to the outputs
    scratch: Scratch
    sizes: list[list[int]] = field(default_factory=list)  # by call: rows of each step
    states: list[Tensor] = field(default_factory=list)  # by call: (R, H)
    gradients: list[Tensor | None] = field(default_factory=list)

    def open(self, values: Tensor | PackedSequence) -> int:
        """Take up the states of a call; returns its place."""
        if isinstance(values, PackedSequence):
            self.sizes.append(values.batch_sizes.tolist())
        else:
            self.sizes.append([values.shape[1]] * values.shape[0])
        self.states.append(as_rows(values))
        self.gradients.append(None)
        return len(self.states) - 1

    def add(self, place: int, values: Tensor | PackedSequence) -> None:
        """The gradients of a call. A second backward pass adds to the first, as it does in parameters."""
        before = self.gradients[place]
        self.gradients[place] = as_rows(values) if before is None else before + as_rows(values)

    @property
    def reached(self) -> bool:
        """Whether any backward pass came by."""
        return any(g is not None for g in self.gradients)

    def measure(self, dtype: torch.dtype) -> Tensor:
        """What the profile needs, in one vector (2 L + 4) that is still on the device."""
        gradients = [torch.zeros_like(s) if g is None else g for s, g in zip(self.states, self.gradients, strict=True)]
        s, g, e = (x[0] if len(x) == 1 else torch.cat(x) for x in (self.states, gradients, self.errors))
        sizes = [n for call in self.sizes for n in call]
        shares = torch.stack([self._saturated(s), *_dead_and_subnormal(s, g, self.scratch), _direct(e)]).to(dtype)
        return torch.cat([_step_norms(g, sizes, dtype), _step_norms(s, sizes, dtype), shares])

    def _saturated(self, s: Tensor) -> Tensor:
        if self.relu:
            return s.new_zeros(())
        limit = math.atanh(SATURATED) if self.state == "c" else SATURATED
        return _share(torch.abs(s, out=like(s, self.scratch)).gt_(limit))

    def profile(self, numbers: Tensor) -> Profile:
        """The profile from that vector."""
        L = (len(numbers) - 4) // 2
        gradient, size, shares = numbers.split([L, L, 4])
        return Profile(self.state, self.reverse, gradient, size, *shares.tolist())


def _dead_and_subnormal(s: Tensor, g: Tensor, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """Share of the units that are 0 in every row, and share of the gradient's elements that are subnormal."""
    dead = (torch.linalg.vector_norm(s, torch.inf, dim=0) == 0).to(s.dtype).mean()
    tiny, size = torch.finfo(g.dtype).tiny, torch.abs(g, out=like(g, scratch))
    if size.device.type == "cpu" and bool(size.amin() >= tiny):  # most often; on a GPU the look would wait
        return dead, torch.zeros_like(dead)
    normal = _share(size.ge_(tiny))  # in place, as booleans would be new memory, which takes most of the time
    return dead, _share(torch.sign(g, out=size).abs_()) - normal


def _direct(e: Tensor) -> Tensor:
    return (e > 0.1 * e.max()).to(torch.float32).mean()


def _share(size: Tensor) -> Tensor:
    return size.mean(dtype=torch.promote_types(size.dtype, torch.float32))


def _step_norms(rows: Tensor, sizes: list[int], dtype: torch.dtype) -> Tensor:
    """The norm of each step's rows together, (R, H) to (L)."""
    if len(set(sizes)) == 1:
        return _norms(rows.view(len(sizes), -1), dtype)
    steps = torch.tensor([t for t, n in enumerate(sizes) for _ in range(n)], device=rows.device)
    squares = _norms(rows, dtype).square()
    return squares.new_zeros(len(sizes)).index_add_(0, steps, squares).sqrt()


def _norms(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """The norm of each row, (R, H) to (R), in float64: in float32 the square of 1e-23 is 0.

    On a CPU the rows are not converted unless it makes a difference, which is five times faster.
    """
    if rows.dtype == torch.float32 and rows.device.type == "cpu":
        quick = torch.linalg.vector_norm(rows, dim=1)
        if _plain(quick):
            return quick.to(dtype)
    return torch.linalg.vector_norm(rows, dim=1, dtype=dtype)


def norms_of(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The norm of each tensor, as in the rows above."""
    if all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors):
        quick = norms(tensors)
        if _plain(torch.stack(quick)):
            return [norm.to(dtype) for norm in quick]
    return norms(tensors, 2, dtype)


def _plain(norms: Tensor) -> bool:
    """Whether squares in float32 neither vanished nor overflowed on the way to these norms."""
    low, high = norms.aminmax()
    return bool(low > 1e-15) and bool(high < 1e15)


def like(rows: Tensor, scratch: Scratch) -> Tensor:
    """Memory of the same shape, which may hold anything; kept from step to step."""
    key = rows.shape, rows.dtype, rows.device
    if key not in scratch:
        scratch[key] = torch.empty_like(rows)
    return scratch[key]


def as_rows(values: Tensor | PackedSequence) -> Tensor:
    """(L, N, H) or packed to (R, H), without a graph."""
    return (values.data if isinstance(values, PackedSequence) else values.flatten(0, 1)).detach()
