"""Every reach into the parts of torch that it doesn't document, each with a fallback for a torch that lacks it.

A fallback gives the same numbers, or the answer that is safe: "yes, a transform is under way" costs speed, a wrong
"no" would cost a gradient. Tested with torch 2.6, the pinned version and the newest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["clamp_", "forward_mode", "is_batched", "mul_", "norms", "tanh_backward_", "transforming"]


def transforming() -> bool:
    """Whether a transform of ``torch.func`` (grad, vmap, jvp, ...) is under way; without torch's answer, yes."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return active is None or active()


def forward_mode() -> bool:
    """Whether forward-mode differentiation is under way: inside ``forward_ad.dual_level()``."""
    level = getattr(forward_ad, "_current_level", None)
    if level is not None:
        return level >= 0
    try:
        with forward_ad.dual_level():
            return False
    except RuntimeError:  # levels don't nest
        return True


def is_batched(tensor: Tensor) -> bool:
    """Whether vmap hides an axis of the tensor, whose values Python can't read then; without torch's answer, yes."""
    batched = getattr(getattr(torch._C, "_functorch", None), "is_batchedtensor", None)
    return batched is None or batched(tensor)


def norms(tensors: Sequence[Tensor], ord: float = 2, dtype: torch.dtype | None = None) -> list[Tensor]:
    """The norm of each tensor, in one kernel where torch has it."""
    together = getattr(torch, "_foreach_norm", None)
    if together is None:
        return [torch.linalg.vector_norm(x, ord, dtype=dtype) for x in tensors]
    return list(together(list(tensors), ord, dtype=dtype))


def mul_(tensors: Sequence[Tensor], factor: Tensor | float) -> None:
    """Multiply each tensor in place."""
    together = getattr(torch, "_foreach_mul_", None)
    if together is not None:
        together(list(tensors), factor)
        return
    for x in tensors:
        x.mul_(factor)


def clamp_(tensors: Sequence[Tensor], low: float, high: float) -> None:
    """Clamp each tensor in place to [low, high]."""
    at_least, at_most = (getattr(torch, f"_foreach_clamp_{name}_", None) for name in ("min", "max"))
    if at_least is not None and at_most is not None:
        at_least(list(tensors), low)
        at_most(list(tensors), high)
        return
    for x in tensors:
        x.clamp_(low, high)


def tanh_backward_(d: Tensor, t: Tensor) -> Tensor:
    """d (1 - t²), written over t; d broadcasts against t."""
    kernel = getattr(getattr(torch.ops.aten, "tanh_backward", None), "grad_input", None)
    if kernel is not None:
        return kernel(d, t, grad_input=t)
    return t.mul_(t).neg_().add_(1).mul_(d)
