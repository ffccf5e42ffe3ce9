"""Training, validation and test parts that are the same on every machine, and stay so when items are added."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Split(NamedTuple, Generic[Item]):
    """The three parts of :func:`split`, each in the order of the items.

    >>> parts = Split(train=["a"], validation=[], test=["b"])
    >>> train, validation, test = parts
    >>> test
    ['b']
    """

    train: list[Item]
    validation: list[Item]
    test: list[Item]


def split(
    items: Iterable[Item],
    *,
    test: float = 0.1,
    validation: float = 0.1,
    key: Callable[[Item], str | int] | None = None,
    seed: int = 0,
) -> Split[Item]:
    """Sort items into three parts by a hash of each.

    The hash, read as a number from 0 to 1, decides: below ``test`` the item is for testing, in the next stretch of
    ``validation`` for validation, else for training. It knows nothing of the other items. So an item keeps its part
    when others come or go, items with one key stay together, and no shuffling has to be repeated. The sizes of the
    parts are as close to the wanted shares as chance makes them.

    Args:
        items: anything; strings and ints are their own keys.
        test: share for testing.
        validation: share for validation. Changing it moves no item into or out of the test part.
        key: what to hash of an item. Items that would give each other away, such as the pronunciations of one word,
            need the same key.
        seed: another seed gives another split.

    Returns:
        The parts.

    Raises:
        ValueError: the shares are negative, or leave nothing for training.
        TypeError: the seed is not an int, or a key is neither a str nor an int.

    >>> split(["ant", "bee", "cat", "dog", "eel", "fox"], test=0.3, validation=0.2)
    Split(train=['ant', 'cat', 'fox'], validation=['bee'], test=['dog', 'eel'])
    >>> split([("dog", 1), ("ant", 2), ("dog", 3)], key=lambda pair: pair[0], test=0.3).test
    [('dog', 1), ('dog', 3)]
    """
    if not (test >= 0 and validation >= 0 and test + validation < 1):
        raise ValueError(
            "split: expected shares of at least 0 that sum to less than 1, "
            f"got test={test} and validation={validation}; the rest is for training"
        )
    if not isinstance(seed, int):
        raise TypeError(f"split: expected seed as an int, got {seed!r}")
    parts: Split[Item] = Split([], [], [])
    for item in items:
        place = _place(item if key is None else key(item), seed)
        part = parts.test if place < test else parts.validation if place < test + validation else parts.train
        part.append(item)
    return parts


def _place(key: Any, seed: int) -> float:
    """A number in [0, 1) that depends on key and seed alone; Python's own hash of a str changes with every run."""
    if not isinstance(key, (str, int)):
        raise TypeError(
            f"split: expected items, or their keys, as str or int, got {type(key).__name__}; "
            "pass key=, for example key=lambda item: item[0]"
        )
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48  # 48 bits, so that the quotient is exact and below 1
