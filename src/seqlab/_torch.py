"""Every reach into the parts of torch that it doesn't document, each with a fallback for a torch that lacks it.

A fallback gives the same numbers, or the answer that is safe: "yes, a transform is under way" costs speed, a wrong
"no" would cost a gradient. Tested with torch 2.6, the pinned version and the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = [
    "clamp_",
    "forward_mode",
    "has_half_lstm",
    "is_batched",
    "kernel",
    "mul_",
    "norms",
    "tanh_backward_",
    "transforming",
]


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
    """Whether vmap hides an axis of the tensor, whose values Python can't read then; without torch's answer, yes.

    There are two: ``torch.func.vmap``, and an older one behind ``autograd.grad(is_grads_batched=True)``.
    """
    functorch = getattr(torch._C, "_functorch", None)
    answers = [getattr(functorch, name, None) for name in ("is_batchedtensor", "is_legacy_batchedtensor")]
    return any(answer is None or answer(tensor) for answer in answers)


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


def kernel(name: str) -> Callable[..., Any]:
    """The operation behind a recurrent layer of ``torch.nn``: "lstm", "gru", "rnn_tanh" or "rnn_relu".

    torch.compile leaves torch.nn's layers alone, since it can't trace these operations; so it is told here.
    """
    found = getattr(torch, name, None) or getattr(torch._VF, name)
    return torch.compiler.disable(found) if torch.compiler.is_compiling() else found


def has_half_lstm(dtype: torch.dtype) -> bool:
    """Whether oneDNN's LSTM runs in this half precision on this processor; without torch's answer, no."""
    name = {torch.float16: "_is_mkldnn_fp16_supported", torch.bfloat16: "_is_mkldnn_bf16_supported"}.get(dtype)
    supported = name and getattr(getattr(torch.ops, "mkldnn", None), name, None)
    return bool(supported and supported())
