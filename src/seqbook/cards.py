"""Key-concept cards: a term in view, what it means behind it. Native <details>, so that no script is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .markup import checked_text, static, to_html, to_plain


@dataclass(frozen=True, repr=False)
class Cards:
    """A set of cards; made by `cards`.

    >>> Cards((("lag", "steps between cause and effect"),))
    lag: steps between cause and effect
    """

    pairs: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        """Return one line a card."""
        return "\n".join(f"{to_plain(term)}: {to_plain(text)}" for term, text in self.pairs)

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li><details><summary>{to_html(term)}</summary><p>{to_html(text)}</p></details></li>"
            for term, text in self.pairs
        )
        # the role: a list without bullets is not announced as a list by every browser
        return f'<div class="seqlab-cards"><style>{static("cards.css")}</style><ul role="list">{items}</ul></div>'


def cards(pairs: Sequence[tuple[str, str]]) -> Cards:
    """Return key-concept cards, to be the last expression of a cell.

    Args:
        pairs: (term, what it means), in the order to show; the markup of a quiz is allowed.

    Returns:
        The cards; printed on paper, all are open.

    Raises:
        TypeError: an entry is not a pair of strings.
        ValueError: no card, an empty text, dollar maths, or a term given twice.

    >>> cards([("saturation", "|h| near 1, where the derivative 1 − h<sup>2</sup> is near 0")])
    saturation: |h| near 1, where the derivative 1 − h^2 is near 0
    """
    checked = []
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"cards: expected pairs (term, text), got {pair!r}; put each card in brackets of its own")
        term = checked_text("cards", pair[0])
        checked.append((term, checked_text(f"the card {term!r}", pair[1])))
    if not checked:
        raise ValueError("cards: expected at least one card, got none; add (term, text)")
    terms = [term for term, _ in checked]
    if twice := sorted({term for term in terms if terms.count(term) > 1}):
        raise ValueError(f"cards: expected different terms, got {twice[0]!r} more than once; join the two cards")
    return Cards(tuple(checked))
