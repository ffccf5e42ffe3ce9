"""Chapter 1: what no digest can decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any


def bag_of_pairs(answer: tuple[Callable[[Sequence[str]], Any], Sequence[str], Sequence[str]]) -> str | None:
    """A bag of neighbours, and two different sentences that it confuses.

    >>> def pairs(words):
    ...     return Counter(pairwise(words))
    >>> bag_of_pairs((pairs, list("ab"), list("ba")))
    'pairs tells these two apart.'
    """
    pairs, one, other = answer
    dog, man = ["the", "dog", "bit", "the", "man"], ["the", "man", "bit", "the", "dog"]
    if pairs(dog) != Counter(pairwise(dog)):
        return "count neighbours, the left one first, in a Counter."
    if pairs(dog) == pairs(man):
        return "the dog and the man should differ."
    if list(one) == list(other):
        return "two different sentences, please."
    if pairs(one) != pairs(other):
        return "pairs tells these two apart."
    return None
