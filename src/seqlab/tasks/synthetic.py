"""Synthetic tasks: random sequences whose right answer follows from a rule, so that length and lag can be set at will.

Each function takes n, the number of sequences, the task's sizes, and a generator, and returns (input, target). The
first axis is time, as in torch.nn: L length, N = n sequences. Symbols are numbered from 0, for nn.Embedding.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..checks import check_generator, check_sizes


def copying(n: int, *, delay: int, length: int = 10, symbols: int = 8, generator: Generator) -> tuple[Tensor, Tensor]:
    """Read symbols, wait, and write them down again when a marker asks for them.

    The input is: ``length`` symbols, delay - 1 blanks, the marker, ``length`` blanks. The target is blank up to the
    marker and repeats the symbols after it. The blank is number ``symbols``, the marker ``symbols + 1``. Without any
    memory the best mean cross-entropy is length * log(symbols) / (delay + 2 * length).

    Args:
        n: sequences.
        delay: steps from the last symbol to the marker.
        length: symbols to remember.
        symbols: how many different ones there are.
        generator: draws the symbols.

    Shape:
        input and target (delay + 2 * length, n), integers.

    Returns:
        (input, target).

    Raises:
        ValueError: a size is below 1.
        TypeError: a size is not an int, or the generator is missing.

    Source:
        Hochreiter and Schmidhuber (1997), Long short-term memory; in this form Arjovsky, Shah and Bengio (2016),
        Unitary evolution recurrent neural networks, section 4.1, where length is 10, symbols 8, and delay is T.

    >>> input, target = copying(1, delay=3, length=2, generator=torch.Generator().manual_seed(0))
    >>> input[:, 0], target[:, 0]
    (tensor([4, 7, 8, 8, 9, 8, 8]), tensor([8, 8, 8, 8, 8, 4, 7]))
    """
    check_sizes("copying", n=n, delay=delay, length=length, symbols=symbols)
    check_generator("copying", generator)
    blank, marker = symbols, symbols + 1
    remembered = torch.randint(symbols, (length, n), generator=generator, device="cpu")
    input = torch.full((delay + 2 * length, n), blank, device="cpu")
    input[:length] = remembered
    input[length + delay - 1] = marker
    target = torch.full_like(input, blank)
    target[-length:] = remembered
    return input, target


def delayed_recall(
    n: int, *, lag: int, symbols: int = 8, distractors: int = 8, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Name the first symbol after ``lag`` steps of others: the least that a memory has to do.

    Symbols are numbered 0 to symbols - 1, distractors follow. Chance is 1 / symbols.

    Args:
        n: sequences.
        lag: distractors between the symbol and the end; 0 for none.
        symbols: different symbols to recall.
        distractors: different distractors.
        generator: draws both.

    Shape:
        input (lag + 1, n), target (n), integers.

    Returns:
        (input, target).

    Raises:
        ValueError: lag is negative, or another size below 1.
        TypeError: a size is not an int, or the generator is missing.

    Source:
        in the manner of the latching tasks of Bengio, Simard and Frasconi (1994) and Hochreiter and Schmidhuber (1997).

    >>> input, target = delayed_recall(1, lag=4, generator=torch.Generator().manual_seed(0))
    >>> input[:, 0], target
    (tensor([ 4, 15, 13,  8, 11]), tensor([4]))
    """
    check_sizes("delayed_recall", n=n, symbols=symbols, distractors=distractors)
    check_sizes("delayed_recall", 0, lag=lag)
    check_generator("delayed_recall", generator)
    target = torch.randint(symbols, (n,), generator=generator, device="cpu")
    between = torch.randint(symbols, symbols + distractors, (lag, n), generator=generator, device="cpu")
    return torch.cat([target[None], between]), target


def adding(n: int, *, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Add two marked numbers of a long sequence; one is marked in the first half, one in the second.

    Always answering 1, the mean, has a mean squared error of 1/6.

    Args:
        n: sequences.
        length: steps, at least 2.
        generator: draws values and marks.

    Shape:
        input (length, n, 2): values in [0, 1), and marks 0 or 1. target (n): the sum of the two marked values.

    Returns:
        (input, target), floating point of torch's default dtype.

    Raises:
        ValueError: n is below 1, or length below 2.
        TypeError: a size is not an int, or the generator is missing.

    Source:
        Hochreiter and Schmidhuber (1997), section 5.4.
    Differs:
        fixed length, values from [0, 1), one mark in each half and the plain sum, as Arjovsky, Shah and Bengio (2016),
        section 4.2; the original has values from [-1, 1], varying lengths, both marks in the first half, and a sum
        that is scaled.

    >>> input, target = adding(1, length=4, generator=torch.Generator().manual_seed(0))
    >>> input[:, 0]
    tensor([[0.4963, 0.0000],
            [0.7682, 1.0000],
            [0.0885, 0.0000],
            [0.1320, 1.0000]])
    >>> target
    tensor([0.9003])
    """
    check_sizes("adding", n=n)
    check_sizes("adding", 2, length=length)
    check_generator("adding", generator)
    values = torch.rand(length, n, generator=generator, device="cpu")
    half = length // 2
    first = torch.randint(half, (n,), generator=generator, device="cpu")
    second = torch.randint(half, length, (n,), generator=generator, device="cpu")
    marked = torch.stack([first, second])  # (2, N)
    marks = torch.zeros_like(values).scatter_(0, marked, 1.0)
    return torch.stack([values, marks], dim=-1), values.gather(0, marked).sum(0)


def reversing(n: int, *, length: int, symbols: int = 8, generator: Generator) -> tuple[Tensor, Tensor]:
    """Write a sequence backwards, the last symbol first.

    Args:
        n: sequences.
        length: symbols a sequence.
        symbols: how many different ones there are.
        generator: draws the symbols.

    Shape:
        input and target (length, n), integers.

    Returns:
        (input, target).

    Raises:
        ValueError: a size is below 1.
        TypeError: a size is not an int, or the generator is missing.

    >>> input, target = reversing(1, length=4, generator=torch.Generator().manual_seed(0))
    >>> input[:, 0], target[:, 0]
    (tensor([4, 7, 5, 0]), tensor([0, 5, 7, 4]))
    """
    check_sizes("reversing", n=n, length=length, symbols=symbols)
    check_generator("reversing", generator)
    input = torch.randint(symbols, (length, n), generator=generator, device="cpu")
    return input, input.flip(0)


def associative_recall(
    n: int, *, pairs: int, keys: int = 26, values: int = 10, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Pairs of key and value, then one of the keys again: answer with its value.

    The input is k1 v1 k2 v2 ... kP vP k. The keys of a sequence are distinct. Keys are numbered 0 to keys - 1, values
    follow; the target counts values from 0. Chance is 1 / values.

    Args:
        n: sequences.
        pairs: pairs a sequence.
        keys: different keys, at least ``pairs``.
        values: different values.
        generator: draws all.

    Shape:
        input (2 * pairs + 1, n), target (n), integers.

    Returns:
        (input, target).

    Raises:
        ValueError: a size is below 1, or there are fewer keys than pairs.
        TypeError: a size is not an int, or the generator is missing.

    Source:
        Ba, Hinton, Mnih, Leibo and Ionescu (2016), Using fast weights to attend to the recent past, section 4.1.
    Differs:
        no separator ("??") before the last key. Graves, Wayne and Danihelka (2014), whose task has the same name,
        answer with the item that followed the queried one.

    >>> input, target = associative_recall(1, pairs=2, keys=4, values=3, generator=torch.Generator().manual_seed(0))
    >>> input[:, 0], target
    (tensor([2, 5, 3, 4, 3]), tensor([0]))
    """
    check_sizes("associative_recall", n=n, pairs=pairs, keys=keys, values=values)
    check_generator("associative_recall", generator)
    if pairs > keys:
        raise ValueError(
            f"associative_recall: expected at least as many keys as pairs, got keys={keys} and pairs={pairs}; "
            f"use keys={pairs} or more"
        )
    key = torch.rand(keys, n, generator=generator, device="cpu").argsort(dim=0, stable=True)[:pairs]  # (P, N), distinct
    value = torch.randint(values, (pairs, n), generator=generator, device="cpu")
    asked = torch.randint(pairs, (1, n), generator=generator, device="cpu")
    listed = torch.stack([key, keys + value], dim=1).flatten(0, 1)  # (2 * P, N)
    return torch.cat([listed, key.gather(0, asked)]), value.gather(0, asked)[0]


_OTHER = ("the", "that", "was", "were", "sat", "on", "stood", "near", "red", "old", "wet", "calm")
_SINGULAR = ("cat", "dog", "bird", "mat", "hat", "box")
_PLURAL = ("cats", "dogs", "birds", "mats", "hats", "boxes")

AGREEMENT_WORDS = (*_OTHER, *_SINGULAR, *_PLURAL)
"""The words of :func:`agreement`, by number."""


def agreement(n: int, *, clauses: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Sentences cut before their main verb; the answer is the subject's number, 0 for *was* and 1 for *were*.

    *The cat that sat on the mats that were red ...*: the subject comes first, and every clause brings a noun of its
    own number in between. A clause is five words; with probability 0.4, the same for all sentences of a batch so that
    they have one length, three more words follow: *that were red*. Chance is 0.5.

    Args:
        n: sentences.
        clauses: how many stand between subject and verb; 0 for none.
        generator: draws all.

    Shape:
        input (L, n) with L = 2 + 5 * clauses + 3 * (0 to clauses), target (n), integers.

    Returns:
        (input, target); ``AGREEMENT_WORDS[i]`` is the word of number i.

    Raises:
        ValueError: n is below 1 or clauses is negative.
        TypeError: a size is not an int, or the generator is missing.

    Source:
        after Linzen, Dupoux and Goldberg (2016), Assessing the ability of LSTMs to learn syntax-sensitive dependencies.
    Differs:
        a grammar of 24 words instead of text from Wikipedia.

    >>> input, target = agreement(1, clauses=1, generator=torch.Generator().manual_seed(0))
    >>> " ".join(AGREEMENT_WORDS[i] for i in input[:, 0]), target
    ('the mat that sat near the mats', tensor([0]))
    """
    check_sizes("agreement", n=n)
    check_sizes("agreement", 0, clauses=clauses)
    check_generator("agreement", generator)

    def draw(words: Tensor) -> Tensor:
        return words[torch.randint(len(words), (n,), generator=generator, device="cpu")]

    nouns = torch.stack([_numbers(_SINGULAR), _numbers(_PLURAL)])  # (2, 6)
    singular_plural, which = torch.tensor([0, 1], device="cpu"), torch.arange(nouns.shape[1], device="cpu")
    the, that, was_were = _numbers(("the",)), _numbers(("that",)), _numbers(("was", "were"))

    subject = draw(singular_plural)
    words = [the.expand(n), nouns[subject, draw(which)]]
    for _ in range(clauses):
        nearest = draw(singular_plural)
        words += [that.expand(n), draw(_numbers(("sat", "stood"))), draw(_numbers(("on", "near")))]
        words += [the.expand(n), nouns[nearest, draw(which)]]
        if torch.rand((), generator=generator, device="cpu") < 0.4:
            words += [that.expand(n), was_were[nearest], draw(_numbers(("red", "old", "wet", "calm")))]
    return torch.stack(words), subject


def _numbers(words: tuple[str, ...]) -> Tensor:
    return torch.tensor([AGREEMENT_WORDS.index(word) for word in words], device="cpu")
