"""Clipping: a bound on the gradient before the optimizer's step, with a report of what it did.

Both functions act at the threshold itself and are continuous: a gradient just above it is changed by just a little.
The rule with two numbers that is sometimes seen, "if the norm exceeds 10, scale it to 5", is not: there a gradient of
norm 10.1 makes half the step that one of 9.9 makes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from .. import _torch

Sizes = list[tuple[float, float]]  # of each gradient g: a scale s and ‖g / s‖


@dataclass(frozen=True, eq=False, repr=False)
class ClipReport(float):
    """The norm before clipping, a float as other code expects it, and with it what clipping did in one step.

    Args:
        before: the norm over all parameters, which is also the value of the number.
        after: the norm after clipping.
        threshold: ``max_norm`` or ``clip_value``.
        changed: share of the entries that were changed; by norm it is 0 or 1.
        norms: of each parameter's gradient, before.

    >>> report = ClipReport(before=5.0, after=1.0, threshold=1.0, changed=1.0, norms={"weight": 3.0, "bias": 4.0})
    >>> report.clipped, report.factor
    (True, 0.2)
    >>> print(f"{report:.1f}", report > 4, report.text)
    5.0 True norm 5 clipped to 1 (×0.2)
    """

    before: float
    after: float
    threshold: float
    changed: float
    norms: dict[str, float]

    def __new__(cls, before: float, *_: Any, **__: Any) -> Self:
        """The number is the norm before."""
        return super().__new__(cls, before)

    @property
    def clipped(self) -> bool:
        """Whether any entry was changed."""
        return self.changed > 0

    @property
    def factor(self) -> float:
        """The norm after over the norm before; 1 for a gradient of zeros."""
        return self.after / self.before if self.before else 1.0

    @property
    def text(self) -> str:
        """What was done, in words."""
        if not self.clipped:
            return f"norm {self.before:.3g}, not clipped (threshold {self.threshold:g})"
        share = f", {100 * self.changed:.3g} % of the entries cut" if self.changed < 1 else ""
        return f"norm {self.before:.3g} clipped to {self.after:.3g} (×{self.factor:.3g}){share}"

    def item(self) -> float:
        """The norm before, as the Tensor that torch's function returns has it."""
        return float(self)


@torch.no_grad()
def clip_grad_norm_(
    parameters: nn.Module | Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = True,
    foreach: bool | None = None,
) -> ClipReport:
    """Scale all gradients in place by one factor, so that their norm together is at most the threshold::

        g <- g * min(1, max_norm / ‖g‖)        g: the gradients of all parameters, as one vector

    The direction stays. Call it between ``backward()`` and the optimizer's step.

    Args:
        parameters: a module, or tensors as in torch's function; those without a gradient are left out, and one that
            comes twice counts once. Of a module's parameters the report and the error know the names, of others their
            places.
        max_norm: the threshold. ``math.inf`` reads the norm and clips nothing.
        norm_type: p of the p-norm, above 0; ``math.inf``, or "inf" as in torch's, for the largest entry.
        error_if_nonfinite: raise if a gradient has NaN or Inf in it. With False they are all left as they are, for a
            GradScaler to skip the step.
        foreach: accepted as in torch's function; the result does not depend on it.

    Returns:
        The norm before clipping, a float that carries the report; 0 if no parameter has a gradient. With non-finite
        gradients ``before`` and ``after`` are NaN or Inf.

    Raises:
        TypeError: parameters are something else; a gradient is a DTensor, or sparse in another layout than COO.
        ValueError: max_norm or norm_type is not a positive number.
        RuntimeError: NaN or Inf, with the names of the parameters; nothing was changed.

    Source:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, section 3.2,
        algorithm 1.

    Differs: from ``torch.nn.utils.clip_grad_norm_``, which divides by ‖g‖ + 1e-6, so that the norm ends a little below
        the threshold; takes the norm in the dtype of the gradients, where a large one overflows to Inf and all
        gradients become 0; by default (``error_if_nonfinite=False``) lets one NaN spread to all gradients; takes no
        sparse gradients; knows norm types below 0; clips to 0 for max_norm=0; and returns the norm as a Tensor,
        without waiting for the device. This function waits once.

    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.grad, layer.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    >>> norm = clip_grad_norm_(layer, 1.0)
    >>> norm, norm.text
    (5.0, 'norm 5 clipped to 1 (×0.2)')
    >>> layer.weight.grad, norm.norms
    (tensor([[0.6000, 0.0000]]), {'weight': 3.0, 'bias': 4.0})
    """
    who = "clip_grad_norm_"
    max_norm = _positive(who, "max_norm", max_norm)
    p = _positive(who, "norm_type", math.inf if norm_type == "inf" else norm_type)
    grads = _gradients(who, parameters)
    sizes = _sizes(list(grads.values()), p)
    norms = {name: scale * size for name, (scale, size) in zip(grads, sizes, strict=True)}
    scale, size = _together(sizes, p)
    before = scale * size
    if not _finite(who, grads, sizes, error_if_nonfinite) or before <= max_norm:
        return ClipReport(before, before, max_norm, 0.0, norms)
    entries = list(grads.values())
    if (factor := max_norm / before) > 1e-4:
        _torch.mul_(entries, factor)
    else:  # in two steps: the factor itself may be 0 in the dtype of the gradients
        root = math.sqrt(max_norm) / math.sqrt(scale) / math.sqrt(size)
        _torch.mul_(entries, root)
        _torch.mul_(entries, root)
    return ClipReport(before, max_norm, max_norm, 1.0, norms)


@torch.no_grad()
def clip_grad_value_(
    parameters: nn.Module | Tensor | Iterable[Tensor],
    clip_value: float,
    foreach: bool | None = None,
    *,
    error_if_nonfinite: bool = True,
) -> ClipReport:
    """Cut each entry of the gradients, in place, to the interval [-clip_value, clip_value].

    The direction changes: large entries lose, small ones stay. It depends on the coordinates, where clipping by norm
    does not.

    Args:
        parameters, foreach, error_if_nonfinite: as in :func:`clip_grad_norm_`.
        clip_value: the threshold; ``math.inf`` reads the norm and cuts nothing.

    Returns:
        The norm before, a float that carries the report, with the norm after cutting and the share of the entries
        that were cut; 0 if no parameter has a gradient.

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`clip_grad_norm_`; TypeError for a complex gradient too, which
            has no order.

    Source:
        Mikolov (2012), Statistical language models based on neural networks, as reported by Pascanu, Mikolov and
        Bengio (2013), section 3.2.

    Differs: from ``torch.nn.utils.clip_grad_value_``, which returns nothing, lets NaN pass and cuts Inf to the
        threshold.

    >>> weight = torch.zeros(4, requires_grad=True)
    >>> weight.grad = torch.tensor([3.0, -4.0, 0.5, 0.0])
    >>> print(clip_grad_value_(weight, 1.0).text, weight.grad)
    norm 5.02 clipped to 1.5 (×0.299), 50 % of the entries cut tensor([ 1.0000, -1.0000,  0.5000,  0.0000])
    """
    who = "clip_grad_value_"
    clip_value = _positive(who, "clip_value", clip_value)
    grads = _gradients(who, parameters)
    for name, g in grads.items():
        if g.is_complex():
            raise TypeError(f"{who}: expected real gradients, got {g.dtype} for {name}; clip_grad_norm_ takes it")
    sizes = _sizes(list(grads.values()), 2)
    norms = {name: scale * size for name, (scale, size) in zip(grads, sizes, strict=True)}
    before = math.prod(_together(sizes, 2))
    if not _finite(who, grads, sizes, error_if_nonfinite):
        return ClipReport(before, before, clip_value, 0.0, norms)
    large = [
        g for g, peak in zip(grads.values(), _norms(list(grads.values()), math.inf), strict=True) if peak > clip_value
    ]
    if not large:
        return ClipReport(before, before, clip_value, 0.0, norms)
    cut = sum(int((g.abs() > clip_value).sum()) for g in large)
    for g in large:
        g.clamp_(-clip_value, clip_value)
    after = math.prod(_together(_sizes(list(grads.values()), 2), 2))
    return ClipReport(before, after, clip_value, cut / sum(g.numel() for g in grads.values()), norms)


def _positive(who: str, name: str, value: Any) -> float:
    """The number as a float, if it is one above 0."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not number > 0:
        raise ValueError(f"{who}: expected {name} as a positive number, got {value!r}")
    return number


def _gradients(who: str, parameters: Any) -> dict[str, Tensor]:
    """The entries of each gradient by the name of its parameter; of a sparse one those that it stores."""
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
        once = {id(p): (k, p) for k, p in reversed(list(enumerate(tensors)))}  # the first place of each
        named = {f"parameter {k} {tuple(p.shape)}": p for k, p in reversed(once.values())}
    found = {}
    for name, p in named.items():
        if p.grad is None:
            continue
        if hasattr(p.grad, "to_local"):
            raise TypeError(
                f"{who}: expected gradients that this process has whole, got a DTensor for {name}; use "
                f"torch.nn.utils.{who}"
            )
        if p.grad.layout == torch.sparse_coo:
            p.grad = p.grad.coalesce()  # rows that came twice are one entry of the gradient
            found[name] = p.grad.values()
        elif p.grad.layout == torch.strided:
            found[name] = p.grad
        else:
            raise TypeError(
                f"{who}: expected gradients that are dense or sparse in COO layout, got {p.grad.layout} for {name}; "
                "convert it with grad.to_sparse_coo() or grad.to_dense()"
            )
    return found


def _sizes(grads: list[Tensor], p: float) -> Sizes:
    """Scale and scaled norm of each gradient: ‖g‖ = s ‖g/s‖, with s = 1 unless a power of an entry leaves the range."""
    limits = torch.finfo(_wide(grads))
    low, high = 0.0 if math.isinf(p) else (1e10 * limits.tiny) ** (1 / p), math.sqrt(limits.max)
    sizes = [(1.0, norm) for norm in _norms(grads, p)]
    odd = [k for k, (_, norm) in enumerate(sizes) if not low < norm < high]
    for k, peak in zip(odd, _norms([grads[k] for k in odd], math.inf), strict=True):
        if 0 < peak < math.inf:
            sizes[k] = peak, _norms([grads[k].to(torch.promote_types(grads[k].dtype, _wide(grads))) / peak], p)[0]
        else:
            sizes[k] = 1.0, peak
    return sizes


def _norms(grads: list[Tensor], p: float) -> list[float]:
    """The p-norm of each, in one move from the device."""
    full = [g.abs() if g.is_complex() else g for g in grads if g.numel()]
    if not full:
        return [0.0] * len(grads)
    norms = _torch.norms(full, p, _wide(full))
    found = iter(torch.stack([n.to(full[0].device) for n in norms]).tolist())
    return [next(found) if g.numel() else 0.0 for g in grads]


def _wide(grads: list[Tensor]) -> torch.dtype:
    """What norms are taken in. In float32 they overflow from 2e19 on; MPS has no float64."""
    return torch.float32 if any(g.device.type == "mps" for g in grads) else torch.float64


def _together(sizes: Sizes, p: float) -> tuple[float, float]:
    """Scale and scaled norm of all gradients as one vector."""
    if bad := [size for _, size in sizes if not math.isfinite(size)]:
        return 1.0, sum(bad)
    scale = max((scale for scale, _ in sizes), default=1.0)
    parts = [s / scale * size for s, size in sizes]
    largest = max(parts, default=0.0)
    if largest == 0 or math.isinf(p):
        return scale, largest
    return scale, math.hypot(*parts) if p == 2 else largest * sum((x / largest) ** p for x in parts) ** (1 / p)


def _finite(who: str, grads: dict[str, Tensor], sizes: Sizes, error: bool) -> bool:
    """Whether all gradients are finite; raises if they are not and that is an error."""
    bad = [name for name, (_, size) in zip(grads, sizes, strict=True) if not math.isfinite(size)]
    if bad and error:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise RuntimeError(
            f"{who}: expected finite gradients, got NaN or Inf in {', '.join(bad[:5])}{more}; nothing was clipped. "
            "Look for the first step where they appear; under a GradScaler pass error_if_nonfinite=False"
        )
    return not bad
