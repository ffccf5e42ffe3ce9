"""The numbers of a chapter's figures and tables: "Figure 1.3" is the third figure of chapter 1."""

from __future__ import annotations

_chapter: int | None = None
_names: dict[str, list[str]] = {}  # kind → names, in the order in which they were counted


def chapter(number: int | None) -> None:
    """Say which chapter this notebook is, and count its figures and tables from 1. Called once, in the setup cell.

    Args:
        number: of the chapter; None where figures and tables carry no number.

    Raises:
        TypeError: ``number`` is not an int.
        ValueError: ``number`` is below 1.

    >>> chapter(4)
    >>> numbered("Figure", "product"), numbered("Figure", "profile"), numbered("Figure", "product")
    ('Figure 4.1', 'Figure 4.2', 'Figure 4.1')
    >>> chapter(None)
    """
    global _chapter
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise TypeError(f"chapter: expected the chapter's number, got {type(number).__name__}; write chapter(4)")
    if number is not None and number < 1:
        raise ValueError(f"chapter: expected a number from 1, got {number}; None leaves figures without a number")
    _chapter = number
    _names.clear()


def numbered(kind: str, name: str) -> str:
    """Return what a figure or table is called, such as "Table 4.2"; empty where no chapter was named.

    A name keeps its number, so that a cell can be run again.

    >>> numbered("Table", "scores")
    ''
    """
    if _chapter is None:
        return ""
    names = _names.setdefault(kind, [])
    if name not in names:
        names.append(name)
    return f"{kind} {_chapter}.{names.index(name) + 1}"
