"""Numbers said in words, in two languages: translation of real words with a right answer and any length.

The words are those of the package ``num2words``. 18 digits make some 32 words of English.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Generator

from ..checks import check_generator, check_sizes

DIGITS = 18
_REFUSED = {"am"}  # num2words 0.5.14 never returns from many Amharic numbers, 9142857 for one


class NumberPair(NamedTuple):
    """One number and its words in two languages.

    >>> pair = NumberPair(21, ("twenty", "one"), ("vingt", "et", "un"))
    >>> pair.target
    ('vingt', 'et', 'un')
    """

    number: int
    source: tuple[str, ...]
    target: tuple[str, ...]


def number_words(number: int, language: str = "en") -> tuple[str, ...]:
    """The words of a number; hyphens part words, commas are left out.

    Some languages (German, Finnish, Italian, Japanese, ...) write whole groups of digits as one word: there take the
    letters as tokens, ``list(" ".join(words))``.

    Args:
        number: from 0 to 10**18 - 1.
        language: a code of num2words, as "fr" or "pt_BR".

    Returns:
        The words.

    Raises:
        ModuleNotFoundError: the package num2words is not installed.
        ValueError: num2words doesn't have the language, or not this number in it, or the number is out of range.
        TypeError: the number is not an int.

    >>> number_words(1984)
    ('one', 'thousand', 'nine', 'hundred', 'and', 'eighty', 'four')
    >>> number_words(84, "fr")
    ('quatre', 'vingt', 'quatre')
    """
    check_sizes("number_words", 0, number=number)
    if number >= 10**DIGITS:
        raise ValueError(f"number_words: expected a number of at most {DIGITS} digits, got {number}")
    return _words(number, language)


def number_pairs(
    n: int,
    *,
    digits: int | tuple[int, int] = (1, DIGITS),
    source: str = "en",
    target: str = "fr",
    generator: Generator,
) -> list[NumberPair]:
    """Numbers drawn at random, in words of two languages.

    First the number of digits is drawn, each as often, then the digits. Short numbers repeat: there are ten of one
    digit. To test on unseen numbers, ``split(pairs, key=lambda pair: pair.number)``. A pair takes about half a
    millisecond the first time, and is remembered.

    Args:
        n: pairs.
        digits: how many digits the numbers have, or (least, most), from 1 to 18.
        source: language of the source; see :func:`number_words`.
        target: language of the target.
        generator: draws the numbers.

    Returns:
        The pairs, in the order of drawing.

    Raises:
        ModuleNotFoundError: the package num2words is not installed.
        ValueError: n is below 1, digits is out of range, or num2words doesn't have a language.
        TypeError: n or digits is not made of ints, or the generator is missing.

    >>> for pair in number_pairs(2, digits=2, generator=torch.Generator().manual_seed(0)):
    ...     print(*pair)
    80 ('eighty',) ('quatre', 'vingts')
    29 ('twenty', 'nine') ('vingt', 'neuf')
    """
    check_sizes("number_pairs", n=n)
    check_generator("number_pairs", generator)
    least, most = digits if isinstance(digits, tuple) else (digits, digits)
    check_sizes("number_pairs", digits=least)
    check_sizes("number_pairs", digits=most)
    if not least <= most <= DIGITS:
        raise ValueError(f"number_pairs: expected digits from 1 to {DIGITS}, the least first, got {digits}")
    counts = torch.randint(least, most + 1, (n,), generator=generator, device="cpu").tolist()
    drawn = torch.randint(10, (n, most), generator=generator, device="cpu")
    # Digit by digit, since the way that torch draws large integers varies by version. A longer number begins above 0.
    first = torch.randint(1, 10, (n,), generator=generator, device="cpu")
    pairs = []
    for count, row, leading in zip(counts, drawn.tolist(), first.tolist(), strict=True):
        said = row[:1] if count == 1 else [leading, *row[1:count]]
        number = int("".join(map(str, said)))
        pairs.append(NumberPair(number, _words(number, source), _words(number, target)))
    return pairs


@lru_cache(maxsize=2**17)
def _words(number: int, language: str) -> tuple[str, ...]:
    try:
        import num2words
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'number_words: expected the package num2words, and found none; pip install "seqlab[data]"', name="num2words"
        ) from error
    languages = num2words.CONVERTER_CLASSES.keys() - _REFUSED
    if language not in languages:
        raise ValueError(
            f"number_words: expected a language of num2words that works, got {language!r}; "
            f"there are {', '.join(sorted(languages))}"
        )
    try:
        text = num2words.num2words(number, lang=language)
    except Exception as error:  # what a converter raises for a number it cannot say differs by language
        raise ValueError(
            f"number_words: num2words cannot say {number} in {language!r} ({error}); take fewer digits"
        ) from error
    return tuple(text.replace("-", " ").replace(",", " ").split())
