"""Oracles of no chapter: the example of the documentation."""

from __future__ import annotations

from collections.abc import Callable


def any_square_root(answer: Callable[[float], float]) -> str | None:
    """Say whether a function returns square roots.

    >>> any_square_root(lambda x: x / 2)
    'for 9 it returns 4.5, whose square is 20.25'
    """
    for x in (4.0, 9.0, 2.25):
        root = answer(x)
        if abs(root**2 - x) > 1e-9:
            return f"for {x:g} it returns {root:g}, whose square is {root**2:g}"
    return None
