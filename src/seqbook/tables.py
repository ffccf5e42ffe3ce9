"""Tables of results, in place of printed columns: HTML that a phone can show, and aligned text anywhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .markup import checked_text, static, to_html, to_plain
from .numbering import numbered

PHONE = 32  # characters that fit beside each other on a phone; a wider table is stacked there, a block a row
NUMBER = re.compile(r"(?=.*\d)(?:[\d.,+\-−×eE⁻⁰¹²³⁴⁵⁶⁷⁸⁹<>≤≥≈~%±/()–\s]|\bto\b|\bof\b)+")
EMPTY = ("", "–", "-", "—")


@dataclass(frozen=True, repr=False)
class Table:
    """A table of results; made by :func:`table`.

    >>> Table(("cell", "lag"), (("LSTM", "200"),), "What was learned", "", "lr", "Table 7.1")
    Table 7.1. What was learned
    cell  lag
    LSTM  200
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    note: str
    align: str  # "l" or "r" for each column
    label: str

    def __repr__(self) -> str:
        """Return the table as aligned text."""
        plain = [[to_plain(cell) for cell in row] for row in (self.head, *self.rows)]
        widths = [max(len(row[j]) for row in plain) for j in range(len(self.head))]
        lines = []
        for row in plain:
            cells = zip(row, widths, self.align, strict=True)
            texts = [cell.rjust(width) if side == "r" else cell.ljust(width) for cell, width, side in cells]
            lines.append("  ".join(texts).rstrip())
        title = ". ".join(filter(None, [self.label, to_plain(self.caption)]))
        return "\n".join([*filter(None, [title]), *lines, *filter(None, [to_plain(self.note)])])

    def _repr_html_(self) -> str:
        anchor = self.label.lower().replace(" ", "-").replace(".", "-")
        link = f'<a class="seqlab-link" href="#{anchor}" aria-label="Link to {self.label}">#</a>' if self.label else ""
        title = " ".join(filter(None, [self.label and f"<strong>{self.label}</strong>", to_html(self.caption), link]))
        kind = "seqlab-table" + (" seqlab-stack" if self._width() > PHONE else "")
        sides = [' class="seqlab-number"' if side == "r" else "" for side in self.align]
        head = "".join(
            f'<th scope="col"{side}>{to_html(text)}</th>' for text, side in zip(self.head, sides, strict=True)
        )
        body = []
        for first, *others in self.rows:
            cells = zip(others, self.head[1:], sides[1:], strict=True)
            body.append(
                f'<tr><th scope="row"{sides[0]}>{to_html(first)}</th>'
                + "".join(
                    f'<td data-head="{escape(to_plain(name))}"{side}><span>{to_html(text)}</span></td>'
                    for text, name, side in cells
                )
                + "</tr>"
            )
        place = f' id="{anchor}"' if anchor else ""
        return (
            f'<div class="{kind}"{place}><style>{static("link.css")}\n{static("table.css")}</style>'
            f"<table><caption>{title}</caption>"
            f"<thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table>"
            f"{f'<p>{to_html(self.note)}</p>' if self.note else ''}</div>"
        )

    def _width(self) -> int:
        """Return the least width in characters: text breaks between words, numbers do not."""
        total = 0
        for j, side in enumerate(self.align):
            cells = [to_plain(row[j]) for row in self.rows]
            words = [
                word for text in ([self.head[j]] if side == "r" else [self.head[j], *cells]) for word in text.split()
            ]
            total += max(map(len, [*words, *(cells if side == "r" else []), ""])) + 1
        return total


def table(
    rows: Sequence[Sequence[Any]], *, head: Sequence[str], caption: str, note: str = "", align: str | None = None
) -> Table:
    """Return a table of results, to be the last expression of a cell.

    On a phone a table that is too wide for it becomes a block a row, each number beside the head of its column.

    Args:
        rows: of cells, the first naming the row. Text is shown as it is, with the markup of quizzes; a float to four
            digits, None as a dash. Format what should have its own digits or unit.
        head: the name of each column.
        caption: what is compared, in a sentence.
        note: what stands below, such as seeds and what a bracket means.
        align: "l" or "r" for each column; columns of numbers to the right if None.

    Raises:
        ValueError: no rows, a row of another length than ``head``, or an ``align`` that does not fit.
        TypeError: a row is text, not a sequence of cells.

    >>> table([["RNN", 0.25, 3], ["LSTM", 0.98123, 200]], head=["cell", "right", "lag"], caption="Recall")
    Recall
    cell   right  lag
    RNN     0.25    3
    LSTM  0.9812  200
    """
    columns = len(head)
    if not rows:
        raise ValueError(f"table {caption!r}: expected at least one row, got none")
    for row in rows:
        if isinstance(row, str):
            raise TypeError(f"table {caption!r}: expected each row to be a list of cells, got the text {row!r}")
        if len(row) != columns:
            raise ValueError(
                f"table {caption!r}: expected {columns} cells in each row as in head, got {len(row)} in {list(row)!r}; "
                "use None for an empty cell"
            )
    texts = tuple(tuple(_text(cell) for cell in row) for row in rows)
    if align is None:
        align = "".join("r" if _numbers([row[j] for row in texts]) else "l" for j in range(columns))
    if len(align) != columns or set(align) - {"l", "r"}:
        raise ValueError(
            f"table {caption!r}: expected align to hold l or r for each of {columns} columns, got {align!r}"
        )
    caption = checked_text("table: the caption", caption)
    note = checked_text(f"table {caption!r}: the note", note) if note else ""
    return Table(tuple(map(str, head)), texts, caption, note, align, numbered("Table", caption))


def _text(cell: Any) -> str:
    """Return what a cell shows."""
    if cell is None:
        return "–"
    if hasattr(cell, "item"):  # a number of torch or numpy
        cell = cell.item()
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _numbers(cells: Sequence[str]) -> bool:
    """Say whether a column holds numbers, apart from dashes."""
    told = [cell for cell in cells if cell not in EMPTY]
    return bool(told) and all(NUMBER.fullmatch(to_plain(cell)) for cell in told)
