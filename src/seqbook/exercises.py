"""Checks of exercises: they say *right*, or what is off, and let an unanswered chapter run to its end.

A check cell names its exercise and never holds the answer: that is a digest in ``answers.toml``, or a function in
`seqbook.oracles`. A cell may also give tests of its own, in the clear.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .answers import exercise, judge

Hint = str | Callable[[Any], str]
Test = tuple[Callable[[Any], Any], Hint]


def check(answer: Any, *tests: Any, name: str | None = None, note: str | None = None) -> bool | None:
    """Print whether an answer is right, or a hint. Call ``check("the-exercise", answer)``.

    With tests in place of an exercise's name, ``check(answer, (predicate, hint), ...)``, the cell itself says what is
    right: for tests that give nothing away.

    Args:
        answer: the exercise's id in ``answers.toml``; with tests, the reader's answer.
        tests: the reader's answer, None or ``...`` where there is none yet; or pairs (predicate, hint). A predicate
            takes the answer; the hint is a string, or a function from the answer to one, as `close_to` returns.
        name: printed first.
        note: what to add where the answer is right; by default what ``answers.toml`` says.

    Returns:
        True or False; None where there is no answer yet. Nothing is raised for a wrong answer.

    Raises:
        TypeError: a test is not a pair (predicate, hint).
        ValueError: there is no such exercise, or neither a test nor an answer.

    >>> check("half-of-eight", ...)
    No answer yet: put yours in and run the cell again.
    >>> check("half-of-eight", 5)
    Not yet: eight, cut into two equal parts.
    False
    >>> check("half-of-eight", 4.0)
    Right. And half of that is 2.
    True
    >>> check(-3, (lambda a: a > 0, "it is positive"), name="Exercise 1")
    Exercise 1: Not yet: it is positive
    False
    """
    said = "" if name is None else f"{name}: "
    id = answer if isinstance(answer, str) and len(tests) == 1 and not _is_test(tests[0]) else None
    if id is None:
        _check_tests(tests)
    else:
        exercise(id)  # a wrong id is told before anybody answers
        answer = tests[0]
    if answer is None or answer is ...:
        print(f"{said}No answer yet: put yours in and run the cell again.")
        return None
    passed, told = _judge_by(tests, answer) if id is None else judge(id, answer)
    told = note if passed and note is not None else told
    print(f"{said}{'Right.' if passed else 'Not yet:'}{' ' * bool(told)}{told}")
    return passed


def _is_test(given: Any) -> bool:
    return (
        isinstance(given, tuple)
        and len(given) == 2
        and callable(given[0])
        and (isinstance(given[1], str) or callable(given[1]))
    )


def _check_tests(tests: tuple[Any, ...]) -> None:
    if not tests:
        raise ValueError("check: expected at least one test, got none; add (predicate, hint), or name an exercise")
    for test in tests:
        if not _is_test(test):
            raise TypeError(f"check: expected tests (predicate, hint), got {test!r}; put each pair in brackets")


def _judge_by(tests: tuple[Test, ...], answer: Any) -> tuple[bool, str]:
    """Return whether every test passes, and the hint of the first one that does not."""
    for predicate, hint in tests:
        raised = ""
        try:
            passed = bool(predicate(answer))
        except Exception as error:  # whatever the reader's answer makes of the predicate is told, not raised
            passed, raised = False, f" (checking it raised {type(error).__name__}: {error})"
        if not passed:
            return False, f"{hint if isinstance(hint, str) else hint(answer)}{raised}"
    return True, ""


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
