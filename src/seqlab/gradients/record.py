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
        # Sizes are in one buffer, kept from step to step, and compared in place: new memory, booleans and a second look
        # at memory that has left the cache take most of the time.
        size = torch.abs(s, out=like(s, self.scratch))
        of_states = _step_norms(size, sizes, dtype)
        saturated, dead = self._saturated_and_dead(size)
        size = torch.abs(g, out=like(g, self.scratch))
        of_gradients = _step_norms(size, sizes, dtype)
        shares = torch.stack([saturated, dead, _subnormal(size), _direct(e)]).to(dtype)
        return torch.cat([of_gradients, of_states, shares])

    def _saturated_and_dead(self, size: Tensor) -> tuple[Tensor, Tensor]:
        largest = size.amax(0)  # (H)
        dead = _share(largest == 0)
        limit = math.atanh(SATURATED) if self.state == "c" else SATURATED
        if self.relu or _look(largest.amax()) <= limit:
            return torch.zeros_like(dead), dead
        return _share(size.gt_(limit)), dead

    def profile(self, numbers: Tensor) -> Profile:
        """The profile from that vector."""
        L = (len(numbers) - 4) // 2
        gradient, size, shares = numbers.split([L, L, 4])
        return Profile(self.state, self.reverse, gradient, size, *shares.tolist())


def _subnormal(size: Tensor) -> Tensor:
    tiny = torch.finfo(size.dtype).tiny
    if _look(size.amin()) >= tiny:  # most often
        return torch.zeros((), dtype=torch.float32, device=size.device)
    above_0 = _share(size > 0)
    return above_0 - _share(size.ge_(tiny))


def _direct(e: Tensor) -> Tensor:
    return _share(e > 0.1 * e.amax())


def _share(holds: Tensor) -> Tensor:
    return holds.mean(dtype=torch.float32)


def _look(value: Tensor) -> float:
    """The value on a CPU; NaN elsewhere, where to ask is to wait for the device."""
    return value.item() if value.device.type == "cpu" else math.nan


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


def norms_of(tensors: Sequence[Tensor], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The norm of each tensor, as of the rows above, in one tensor on the device."""
    if all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors):
        quick = torch.stack(norms(tensors))
        if _plain(quick):
            return quick.to(device, dtype)
    return torch.stack([norm.to(device) for norm in norms(tensors, 2, dtype)])


def _plain(norms: Tensor) -> bool:
    """Whether squares in float32 neither vanished nor overflowed on the way to these norms."""
    low, high = norms.aminmax()
    return low.item() > 1e-15 and high.item() < 1e15


def like(rows: Tensor, scratch: Scratch) -> Tensor:
    """Memory of the same shape, which may hold anything; kept from step to step."""
    key = rows.shape, rows.dtype, rows.device
    if key not in scratch:
        scratch[key] = torch.empty_like(rows)
    return scratch[key]


def as_rows(values: Tensor | PackedSequence) -> Tensor:
    """(L, N, H) or packed to (R, H), without a graph."""
    return (values.data if isinstance(values, PackedSequence) else values.flatten(0, 1)).detach()
