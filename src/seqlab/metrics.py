"""How good an answer is: edits, phoneme and word error rates, BLEU, and scores by length.

Sequences are lists or tuples of tokens; a string is refused, since it could mean its words or its letters. Rates and
accuracies are shares, 0.1 for ten per cent; BLEU goes from 0 to 100, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NoReturn

__all__ = [
    "accuracy_by_length",
    "bleu",
    "edit_distance",
    "length_bins",
    "phoneme_error_rate",
    "word_error_rate",
]

Tokens = Sequence[Any]


def edit_distance(first: Tokens, second: Tokens) -> int:
    """The fewest insertions, deletions and substitutions of tokens that make one sequence the other.

    Args:
        first: tokens, of any hashable kind, or tensors and arrays of one number each, which count as that number.
        second: tokens.

    Returns:
        The number of edits.

    Raises:
        ModuleNotFoundError: the package rapidfuzz, which computes it, is not installed.
        TypeError: a sequence is neither a list nor a tuple.

    Source:
        Levenshtein (1966), Binary codes capable of correcting deletions, insertions and reversals.

    >>> edit_distance(list("kitten"), list("sitting"))
    3
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ModuleNotFoundError as error:
        _missing("edit_distance", "rapidfuzz", error)
    first, second = (_plain("edit_distance", tokens) for tokens in (first, second))
    # Numbered first: rapidfuzz compares hashes, and unequal tokens may share one, as -1 and -2 do.
    number: dict[Any, int] = {}
    return Levenshtein.distance(
        [number.setdefault(token, len(number)) for token in first],
        [number.setdefault(token, len(number)) for token in second],
    )


def phoneme_error_rate(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    """PER: edits that the hypotheses need, over all phonemes of the references.

    sum of edit_distance(hypothesis, reference) / sum of len(reference). Of several references the one that needs the
    fewest edits counts, and of those the shortest. It may exceed 1.

    Args:
        hypotheses: one sequence for each item.
        references: for each item a list of right sequences.

    Returns:
        The rate, a share. With letters as tokens it is the character error rate; with words, the word error rate of
        speech recognition.

    Raises:
        ModuleNotFoundError: the package rapidfuzz is not installed.
        ValueError: nothing to compare, another number of references than hypotheses, an item without reference, or
            references without any token.
        TypeError: a sequence is neither a list nor a tuple.

    >>> phoneme_error_rate(["K AE T".split()], [["K AE T S".split(), "K AE P S".split()]])
    0.25
    """
    _check_pairs("phoneme_error_rate", hypotheses, references)
    edits = length = 0
    for hypothesis, several in zip(hypotheses, references, strict=True):
        fewest, its_length = min((edit_distance(hypothesis, reference), len(reference)) for reference in several)
        edits, length = edits + fewest, length + its_length
    if length == 0:
        raise ValueError(
            "phoneme_error_rate: expected references with tokens, got empty ones only; nothing to divide by"
        )
    return edits / length


def word_error_rate(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    """WER of letter-to-sound conversion: the share of words that equal none of their references.

    Args:
        hypotheses: one sequence for each word.
        references: for each word a list of right sequences.

    Returns:
        The rate, a share.

    Raises:
        ValueError: nothing to compare, another number of references than hypotheses, or a word without reference.
        TypeError: a sequence is neither a list nor a tuple.

    Differs:
        in speech recognition, WER is edits over words: :func:`phoneme_error_rate` with words as tokens.

    >>> word_error_rate([["K", "AE", "T"], ["D", "AO"]], [[["K", "AE", "T"]], [["D", "AO", "G"], ["D", "AA", "G"]]])
    0.5
    """
    _check_pairs("word_error_rate", hypotheses, references)
    who = "word_error_rate"
    wrong = (
        all(_plain(who, hypothesis) != _plain(who, reference) for reference in several)
        for hypothesis, several in zip(hypotheses, references, strict=True)
    )
    return sum(wrong) / len(hypotheses)


def bleu(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """BLEU of a whole corpus, by sacrebleu, on the tokens as they are.

    min(1, exp(1 - r/c)) times the geometric mean of the shares of right 1- to 4-grams; c is the length of all
    hypotheses, r that of the references closest in length. Scores of other tokens (subwords, letters) are not
    comparable.

    Args:
        hypotheses: one sequence of words for each sentence.
        references: for each sentence a list of right sequences.

    Returns:
        BLEU, from 0 to 100.

    Raises:
        ModuleNotFoundError: the package sacrebleu is not installed.
        ValueError: nothing to compare, another number of references than hypotheses, a sentence without reference, or
            a token with white space.
        TypeError: a sequence is neither a list nor a tuple, or a token not a str.

    Source:
        Papineni, Roukos, Ward and Zhu (2002), BLEU; Post (2018), A call for clarity in reporting BLEU scores.
    Differs:
        where no n-gram of an order is right, sacrebleu puts a small count in place of 0 ("exp" smoothing).

    >>> round(bleu(["twenty one thousand and two".split()], [["twenty one thousand and three".split()]]), 1)
    66.9
    """
    try:
        import sacrebleu
    except ModuleNotFoundError as error:
        _missing("bleu", "sacrebleu", error)
    _check_pairs("bleu", hypotheses, references)
    # sacrebleu wants the first references of all sentences, then the second ones, with None where there are no more.
    most = max(len(several) for several in references)
    streams: list[list[Any]] = [
        [_joined(several[i]) if i < len(several) else None for several in references] for i in range(most)
    ]
    texts = [_joined(hypothesis) for hypothesis in hypotheses]
    return sacrebleu.corpus_bleu(texts, streams, tokenize="none", force=True).score


def length_bins(lengths: Iterable[int], edges: Sequence[int]) -> dict[str, list[int]]:
    """Sort items by length into bins, to score each bin by itself.

    Args:
        lengths: of every item.
        edges: the least length of each bin, ascending; the last bin is open upwards.

    Returns:
        For each bin, by its name, the indices of its items; a bin may be empty.

    Raises:
        ValueError: the edges don't ascend, or an item is shorter than the first.

    >>> length_bins([3, 7, 5, 20], edges=(3, 6, 9))
    {'3-5': [0, 2], '6-8': [1], '9+': [3]}
    """
    if len(edges) == 0 or any(high <= low for low, high in pairwise(edges)):
        raise ValueError(f"length_bins: expected edges that ascend, at least one, got {tuple(edges)}")
    tops = [high - 1 for high in edges[1:]]
    names = [f"{low}-{top}" if low < top else f"{low}" for low, top in zip(edges[:-1], tops, strict=True)]
    bins: list[list[int]] = [[] for _ in edges]
    for i, length in enumerate(lengths):
        if length < edges[0]:
            raise ValueError(
                f"length_bins: expected lengths of at least {edges[0]}, the first edge, got {length}; lower the edge"
            )
        bins[sum(length >= edge for edge in edges) - 1].append(i)
    return dict(zip([*names, f"{edges[-1]}+"], bins, strict=True))


def accuracy_by_length(correct: Sequence[bool], lengths: Sequence[int], edges: Sequence[int]) -> dict[str, float]:
    """The share of right answers in each bin of lengths.

    Args:
        correct: for each item, whether the answer is right.
        lengths: of every item.
        edges: the least length of each bin; see :func:`length_bins`.

    Returns:
        Accuracy by the bin's name; nan for an empty bin, which a plot leaves out.

    Raises:
        ValueError: another number of lengths than answers, or as :func:`length_bins`.

    >>> accuracy_by_length([True, False, False], [3, 7, 5], edges=(3, 6, 9))
    {'3-5': 0.5, '6-8': 0.0, '9+': nan}
    """
    if len(correct) != len(lengths):
        raise ValueError(
            f"accuracy_by_length: expected a length for every answer, got {len(lengths)} lengths for {len(correct)}"
        )
    return {
        name: sum(bool(correct[i]) for i in items) / len(items) if items else float("nan")
        for name, items in length_bins(lengths, edges).items()
    }


def _joined(tokens: Sequence[str]) -> str:
    for token in tokens:
        if not isinstance(token, str):
            raise TypeError(f"bleu: expected tokens as str, got {token!r}; use Vocabulary.decode")
        if token.split() != [token]:
            raise ValueError(f"bleu: expected tokens without white space, and not empty, got {token!r}; split it")
    return " ".join(tokens)


def _check_pairs(who: str, hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{who}: expected a list of references for every hypothesis, got {len(references)} for {len(hypotheses)}"
        )
    if len(hypotheses) == 0:
        raise ValueError(f"{who}: expected at least one hypothesis, got none")
    for hypothesis, several in zip(hypotheses, references, strict=True):
        _check_tokens(who, hypothesis)
        if not isinstance(several, (list, tuple)) or any(not isinstance(one, (list, tuple)) for one in several):
            raise TypeError(
                f"{who}: expected for each item a list of references, each a list of tokens, got {several!r}; "
                "wrap a single reference: [reference]"
            )
        if len(several) == 0:
            raise ValueError(
                f"{who}: expected at least one reference for every hypothesis, got none; leave the item out"
            )


def _check_tokens(who: str, tokens: Any) -> None:
    if not isinstance(tokens, (list, tuple)):
        raise TypeError(
            f"{who}: expected a list or tuple of tokens, got {type(tokens).__name__}; "
            "use text.split() for words, list(text) for letters, tensor.tolist() for numbers"
        )


def _plain(who: str, tokens: Any) -> list[Any]:
    """The tokens as values that are equal where they mean the same: a tensor's hash is that of the object."""
    _check_tokens(who, tokens)
    try:
        return [token.item() if hasattr(token, "item") else token for token in tokens]
    except (RuntimeError, ValueError) as error:
        raise TypeError(
            f"{who}: expected tokens of one value each, got a tensor or array of several; use tensor.tolist()"
        ) from error


def _missing(who: str, package: str, error: ModuleNotFoundError) -> NoReturn:
    raise ModuleNotFoundError(
        f'{who}: expected the package {package}, and found none; pip install "seqlab[data]"', name=package
    ) from error
