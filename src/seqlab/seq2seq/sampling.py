"""Scheduled sampling: during training some of the decoder's input tokens come from itself, as all do afterwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor


def toss(probability: Any, generator: Any, target: Tensor) -> Tensor | None:
    """Which tokens of the target (N, L) to replace by the model's own, boolean (N, L); None for probability 0."""
    if isinstance(probability, bool) or not isinstance(probability, (int, float)) or not 0 <= probability <= 1:
        raise ValueError(f"Decoder: expected sampling_probability from 0 to 1, got {probability!r}")
    if probability == 0:
        return None
    if not isinstance(generator, Generator):
        raise TypeError(
            f"Decoder: expected a torch.Generator to draw with, got {type(generator).__name__}; "
            "pass generator=torch.Generator().manual_seed(0)"
        )
    return (torch.rand(target.shape, generator=generator, device=generator.device) < probability).to(target.device)


def draw(logits: Tensor, generator: Any) -> Tensor:
    """One token for each sequence from the distribution of one step, logits (N, 1, V) to (N, 1); no gradient."""
    p = torch.softmax(logits[:, 0].detach(), dim=-1).to(generator.device)
    return torch.multinomial(p, 1, generator=generator).to(logits.device)
