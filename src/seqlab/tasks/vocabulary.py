"""The numbering of tokens: words, letters or phonemes in, integers for nn.Embedding out, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class Vocabulary:
    """A fixed numbering of tokens, the three special ones first.

    ``<pad>`` is 0 and fills up a batch, ``<bos>`` is 1 and begins a sequence, ``<eos>`` is 2 and ends it. The tokens
    follow in the order of their code points, so that the same tokens get the same numbers on every machine. There is
    no token for unknown ones: make the vocabulary from all parts of the data.

    Args:
        sequences: sequences of tokens. A string is a sequence of letters; of a text make a list of its words first.

    Raises:
        TypeError: a token is not a string.
        ValueError: there are no tokens, or one is named like a special token.

    >>> letters = Vocabulary(["cat", "act"])
    >>> letters.tokens
    ('<pad>', '<bos>', '<eos>', 'a', 'c', 't')
    >>> letters.encode("cat", eos=True)
    tensor([4, 3, 5, 2])
    >>> letters.decode([1, 4, 3, 5, 2, 0, 0])
    ('c', 'a', 't')
    """

    pad, bos, eos = 0, 1, 2
    special = ("<pad>", "<bos>", "<eos>")

    def __init__(self, sequences: Iterable[Iterable[str]]) -> None:
        found = {token for sequence in sequences for token in sequence}
        for token in found:
            if not isinstance(token, str):
                raise TypeError(f"Vocabulary: expected tokens as str, got {token!r}; convert with str(token)")
        if not found:
            raise ValueError("Vocabulary: expected at least one token, got none; was the iterator used up before?")
        if taken := found.intersection(self.special):
            raise ValueError(f"Vocabulary: expected no token named as a special one, got {sorted(taken)}; rename them")
        self.tokens = (*self.special, *sorted(found))
        self._number = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        """The tokens, special ones included: ``num_embeddings`` of an nn.Embedding."""
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._number

    def __repr__(self) -> str:
        return f"Vocabulary of {len(self)} tokens"

    def encode(self, tokens: Iterable[str], *, bos: bool = False, eos: bool = False) -> Tensor:
        """The numbers of a sequence's tokens.

        Args:
            tokens: the sequence.
            bos: begin with ``<bos>``.
            eos: end with ``<eos>``.

        Shape:
            (L), integers, special tokens included.

        Returns:
            The numbers.

        Raises:
            ValueError: a token is not in the vocabulary.

        >>> Vocabulary([["so", "it", "goes"]]).encode(["it", "goes"], bos=True, eos=True)
        tensor([1, 4, 3, 2])
        """
        try:
            numbers = [self._number[token] for token in tokens]
        except KeyError as error:
            raise ValueError(
                f"Vocabulary: expected one of its {len(self)} tokens, got {error.args[0]!r}; "
                "make the vocabulary from all parts of the data, those for testing too"
            ) from None
        return torch.tensor([self.bos] * bos + numbers + [self.eos] * eos, dtype=torch.int64, device="cpu")

    def decode(self, numbers: Tensor | Sequence[int]) -> tuple[str, ...]:
        """The tokens of one sequence, up to ``<eos>``; ``<bos>`` and ``<pad>`` are left out.

        Args:
            numbers: (L), as a tensor or a list.

        Returns:
            The tokens.

        Raises:
            ValueError: a number is outside the vocabulary, or there is more than one sequence.

        >>> Vocabulary([["so", "it", "goes"]]).decode(torch.tensor([5, 4, 3, 2, 3, 3]))
        ('so', 'it', 'goes')
        """
        if isinstance(numbers, Tensor):
            if numbers.dim() != 1:
                raise ValueError(
                    f"Vocabulary: expected the numbers of one sequence, (L), got {tuple(numbers.shape)}; "
                    "decode the rows or columns one by one"
                )
            numbers = numbers.tolist()
        found = []
        for number in numbers:
            if not 0 <= number < len(self):
                raise ValueError(f"Vocabulary: expected numbers from 0 to {len(self) - 1}, got {number}")
            if number == self.eos:
                break
            if number not in (self.pad, self.bos):
                found.append(self.tokens[number])
        return tuple(found)
