"""Checks of exercises: they say *right*, or what is off, and let an unanswered chapter run to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Hint = str | Callable[[Any], str]
Test = tuple[Callable[[Any], Any], Hint]


def check(answer: Any, *tests: Test, name: str | None = None, note: str | None = None) -> bool | None:
    """Print whether an answer passes every test, or the hint of the first one that it does not pass.

    Args:
        answer: the reader's answer; None or ``...`` where there is none yet.
        tests: pairs (predicate, hint). The predicate takes the answer; the hint is a string, or a function from the
            answer to one, as `close_to` returns.
        name: the exercise's name, printed first.
        note: what to add where the answer is right.

    Returns:
        True or False; None where there is no answer yet. Nothing is raised for a wrong answer.

    Raises:
        TypeError: a test is not a pair (predicate, hint).
        ValueError: there is no test.

    >>> check(None, (lambda a: a > 0, "it is positive"), name="Exercise 1")
    Exercise 1: No answer yet: put yours in and run the cell again.
    >>> check(-3, (lambda a: a > 0, "it is positive"), name="Exercise 1")
    Exercise 1: Not yet: it is positive
    False
    >>> check(3, (lambda a: a > 0, "it is positive"), note="So the product grows.")
    Right. So the product grows.
    True
    """
    if not tests:
        raise ValueError("check: expected at least one test, got none; add (predicate, hint)")
    for test in tests:
        if not (
            isinstance(test, tuple)
            and len(test) == 2
            and callable(test[0])
            and (isinstance(test[1], str) or callable(test[1]))
        ):
            raise TypeError(f"check: expected tests (predicate, hint), got {test!r}; put each pair in brackets")
    said = "" if name is None else f"{name}: "
    if answer is None or answer is ...:
        print(f"{said}No answer yet: put yours in and run the cell again.")
        return None
    for predicate, hint in tests:
        raised = ""
        try:
            passed = bool(predicate(answer))
        except Exception as error:  # whatever the reader's answer makes of the predicate is told, not raised
            passed, raised = False, f" (checking it raised {type(error).__name__}: {error})"
        if not passed:
            print(f"{said}Not yet: {hint if isinstance(hint, str) else hint(answer)}{raised}")
            return False
    print(f"{said}Right.{'' if note is None else f' {note}'}")
    return True


def close_to(expected: Any, atol: float = 1e-6) -> Test:
    """Return a test for `check`: every element of the answer lies within ``atol`` of ``expected``.

    The hint says what is off: that the answer is no tensor, its shape (and whether it is the transpose), NaN, its
    sign, or the largest difference and where it is. The dtype may differ; it is named where it may be the reason.

    Args:
        expected: a tensor, array, list or number.
        atol: the largest absolute difference that is right.

    Returns:
        A pair (predicate, hint).

    Raises:
        TypeError: ``expected`` is not a tensor, array, list or number.
        ValueError: ``expected`` is not finite, or ``atol`` is negative or NaN.

    >>> check([0.81, 0.5], close_to([0.81, 0.19]))
    Not yet: the largest difference is 0.31, at [1]: expected about 0.19, got 0.5
    False
    >>> check(torch.ones(3, 2), close_to(torch.ones(2, 3)))
    Not yet: expected shape (2, 3), got (3, 2), the shape of its transpose
    False
    """
    target = as_tensor(expected)
    if target is None:
        raise TypeError(f"close_to: expected a tensor, array, list or number, got {type(expected).__name__}")
    if not target.isfinite().all():
        raise ValueError(f"close_to: expected finite numbers, got {expected!r}; nothing is within atol of NaN or inf")
    if not atol >= 0:
        raise ValueError(f"close_to: expected atol >= 0, got {atol}; 0 asks for equality")

    def is_close(answer: Any) -> bool:
        return difference(answer, target, atol) is None

    def hint(answer: Any) -> str:
        return difference(answer, target, atol) or ""

    return is_close, hint


def as_tensor(value: Any) -> Tensor | None:
    """Return numbers as a tensor in double precision on the CPU, or None if they are not numbers.

    >>> as_tensor([1, 2]), as_tensor("two")
    (tensor([1., 2.], dtype=torch.float64), None)
    """
    try:
        return torch.as_tensor(value).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return None


def difference(answer: Any, target: Tensor, atol: float) -> str | None:
    """Return in words what sets ``answer`` apart from ``target``, or None if nothing does."""
    got = as_tensor(answer)
    if got is None:
        return f"expected a tensor, array, list or number, got {type(answer).__name__}"
    if got.shape != target.shape:
        transposed = target.dim() == 2 and got.shape == target.T.shape
        return (
            f"expected shape {tuple(target.shape)}, got {tuple(got.shape)}"
            f"{', the shape of its transpose' if transposed else ''}"
        )
    gap = (got - target).abs()
    if bool((gap <= atol).all()):
        return None
    if bool(got.isnan().any()):
        return f"it is NaN at {place(got.isnan().double())}"
    if bool(((got + target).abs() <= atol).all()):
        return "the sign is reversed"
    if got.dim() == 2 and got.shape == got.T.shape and bool(((got.T - target).abs() <= atol).all()):
        return "it is the transpose of what is expected"
    where = gap.argmax()
    at = f", at {place(gap)}" if target.dim() else ""
    dtype = getattr(answer, "dtype", None)
    integers = isinstance(dtype, torch.dtype) and not dtype.is_floating_point and bool((target != target.round()).any())
    return (
        f"the largest difference is {gap.max():.3g}{at}: expected about {target.flatten()[where]:.4g}, "
        f"got {got.flatten()[where]:.4g}{f'; its dtype is {dtype}, which holds no fractions' if integers else ''}"
    )


def place(gap: Tensor) -> str:
    """Return the index of the largest element, as it is written in code.

    >>> place(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    '[0, 1]'
    """
    return str([int(i) for i in torch.unravel_index(gap.argmax(), gap.shape)])
