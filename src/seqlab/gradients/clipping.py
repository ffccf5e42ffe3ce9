"""Clipping: a bound on the gradient before the optimizer's step, with a report of what it did.

Both functions act at the threshold itself and are continuous: a gradient just above it is changed by just a little.
The rule with two numbers that is sometimes seen, "if the norm exceeds 10, scale it to 5", is not: there a gradient of
norm 10.1 makes half the step that one of 9.9 makes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ClipReport:
    """What clipping did to the gradients of one step; ``print`` says it in words.

    >>> report = ClipReport(threshold=1.0, before=5.0, after=1.0, changed=1.0, norms={"weight": 3.0, "bias": 4.0})
    >>> report.clipped, report.factor
    (True, 0.2)
    """

    threshold: float
    before: float  # norm over all parameters
    after: float
    changed: float  # share of the entries that were changed; by norm all or none
    norms: dict[str, float]  # of each parameter's gradient, before

    @property
    def clipped(self) -> bool:
        """Whether any entry was changed."""
        return self.changed > 0

    @property
    def factor(self) -> float:
        """The norm after over the norm before; 1 for a gradient of zeros."""
        return self.after / self.before if self.before else 1.0

    def __str__(self) -> str:
        if not self.clipped:
            return f"norm {self.before:.3g}, not clipped (threshold {self.threshold:g})"
        share = f", {100 * self.changed:.3g} % of the entries cut" if self.changed < 1 else ""
        return f"norm {self.before:.3g} clipped to {self.after:.3g} (×{self.factor:.3g}){share}"


def clip_grad_norm_(
    parameters: nn.Module | Tensor | Iterable[Tensor], max_norm: float, *, error_if_nonfinite: bool = True
) -> ClipReport:
    """Scale all gradients in place by one factor, so that their norm together is at most the threshold::

        g <- g * min(1, max_norm / ‖g‖)        g: the gradients of all parameters, as one vector

    The direction stays. Call it between ``backward()`` and the optimizer's step.

    Args:
        parameters: a module, or tensors as in torch's function; those without a gradient are left out. Of a module's
            parameters the report and the error know the names, of others their places.
        max_norm: the threshold.
        error_if_nonfinite: raise if a gradient has NaN or Inf in it. With False they are all left as they are, for a
            GradScaler to skip the step.

    Returns:
        The report. With non-finite gradients ``before`` and ``after`` are NaN or Inf.

    Raises:
        TypeError: parameters are something else.
        ValueError: max_norm is not a positive finite number, or no parameter has a gradient.
        RuntimeError: NaN or Inf, with the names of the parameters; nothing was changed.

    Source:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, section 3.2,
        algorithm 1.

    Differs: from ``torch.nn.utils.clip_grad_norm_``, which divides by ‖g‖ + 1e-6, so that the norm ends a little below
        the threshold; takes the norm in the dtype of the gradients, where a large one overflows to Inf and all
        gradients become 0; by default lets one NaN spread to all gradients; knows other norms; and returns the norm
        without waiting for the device. This function waits once.

    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.grad, layer.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    >>> report = clip_grad_norm_(layer, 1.0)
    >>> print(report)
    norm 5 clipped to 1 (×0.2)
    >>> layer.weight.grad, report.norms
    (tensor([[0.6000, 0.0000]]), {'weight': 3.0, 'bias': 4.0})
    """
    who = "clip_grad_norm_"
    names, grads = _gradients(who, parameters, max_norm=max_norm)
    norms = dict(zip(names, _norms(grads).tolist(), strict=True))  # the one move
    before = math.hypot(*norms.values())
    if not _finite(who, norms, error_if_nonfinite) or before <= max_norm:
        return ClipReport(max_norm, before, before, 0.0, norms)
    torch._foreach_mul_(grads, max_norm / before)
    return ClipReport(max_norm, before, max_norm, 1.0, norms)


def clip_grad_value_(
    parameters: nn.Module | Tensor | Iterable[Tensor], clip_value: float, *, error_if_nonfinite: bool = True
) -> ClipReport:
    """Cut each entry of the gradients, in place, to the interval [-clip_value, clip_value].

    The direction changes: large entries lose, small ones stay. It depends on the coordinates, where clipping by norm
    does not.

    Args:
        parameters, error_if_nonfinite: as in :func:`clip_grad_norm_`.
        clip_value: the threshold.

    Returns:
        The report, with the norm after cutting and the share of the entries that were cut.

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`clip_grad_norm_`.

    Source:
        Mikolov (2012), Statistical language models based on neural networks, as reported by Pascanu, Mikolov and
        Bengio (2013), section 3.2.

    Differs: from ``torch.nn.utils.clip_grad_value_``, which returns nothing, lets NaN pass and cuts Inf to the
        threshold.

    >>> weight = torch.zeros(4, requires_grad=True)
    >>> weight.grad = torch.tensor([3.0, -4.0, 0.5, 0.0])
    >>> print(clip_grad_value_(weight, 1.0), weight.grad)
    norm 5.02 clipped to 1.5 (×0.299), 50 % of the entries cut tensor([ 1.0000, -1.0000,  0.5000,  0.0000])
    """
    who = "clip_grad_value_"
    names, grads = _gradients(who, parameters, clip_value=clip_value)
    norms = _norms(grads)
    after = _norms([g.clamp(-clip_value, clip_value) for g in grads])
    cut = torch.stack([(g.abs() > clip_value).sum().to(norms) for g in grads])
    each, rest, counts = torch.stack([norms, after, cut]).tolist()  # the one move
    before = math.hypot(*each)
    by_name = dict(zip(names, each, strict=True))
    if not _finite(who, by_name, error_if_nonfinite):
        return ClipReport(clip_value, before, before, 0.0, by_name)
    if any(counts):
        torch._foreach_clamp_min_(grads, -clip_value)
        torch._foreach_clamp_max_(grads, clip_value)
    return ClipReport(clip_value, before, math.hypot(*rest), sum(counts) / sum(g.numel() for g in grads), by_name)


def _gradients(who: str, parameters: Any, **threshold: Any) -> tuple[list[str], list[Tensor]]:
    """Names and gradients of the parameters that have one; checks the threshold too."""
    ((argument, value),) = threshold.items()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{who}: expected {argument} as a positive finite number, got {value!r}")
    if isinstance(parameters, nn.Module):
        named = dict(parameters.named_parameters())
    else:
        single = isinstance(parameters, Tensor) or not isinstance(parameters, Iterable)
        tensors = [parameters] if single else list(parameters)
        strange = [type(p).__name__ for p in tensors if not isinstance(p, Tensor)]
        if strange:
            raise TypeError(
                f"{who}: expected parameters as a module or Tensors, got {strange[0]}; pass model or model.parameters()"
            )
        named = {f"parameter {k} {tuple(p.shape)}": p for k, p in enumerate(tensors)}
    found = {name: p.grad for name, p in named.items() if p.grad is not None}
    if not found:
        raise ValueError(f"{who}: expected gradients, got {len(named)} parameters without any; call backward() first")
    return list(found), list(found.values())


def _norms(grads: list[Tensor]) -> Tensor:
    """The norm of each, (P,), on the device. In float32 norms overflow from 2e19 on; MPS has no float64."""
    device = grads[0].device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return torch.stack([n.to(device) for n in torch._foreach_norm(grads, 2, dtype=dtype)])


def _finite(who: str, norms: dict[str, float], error: bool) -> bool:
    """Whether all norms are finite; raises if they are not and that is an error."""
    bad = [name for name, norm in norms.items() if not math.isfinite(norm)]
    if bad and error:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise RuntimeError(
            f"{who}: expected finite gradients, got NaN or Inf in {', '.join(bad[:5])}{more}; nothing was clipped. "
            "Look for the first step where they appear; under a GradScaler pass error_if_nonfinite=False"
        )
    return not bad
