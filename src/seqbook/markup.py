"""The little markup that quizzes and cards allow in their texts, as HTML and as plain text.

`code`, *emphasis*, <sub>…</sub> and <sup>…</sup>; everything else is shown as it was typed. Dollar maths is refused:
Colab and JupyterLab show an HTML output without typesetting it, so Unicode and <sub> are what reads right everywhere.
"""

from __future__ import annotations

import functools
import re
from html import escape
from importlib import resources

CODE = re.compile(r"`([^`]+)`")
EMPHASIS = re.compile(r"(?<![\w*])\*(\S(?:[^*]*\S)?)\*(?![\w*])")
SCRIPT = re.compile(r"&lt;(/?su[bp])&gt;")
# A closing dollar follows a non-space and precedes no digit, so that "$20 against $2" is money and not maths.
MATHS = re.compile(r"\$\S(?:[^$]*\S)?\$(?!\d)")


def checked_text(who: str, text: object) -> str:
    """Return ``text`` if a quiz or a card can show it.

    Args:
        who: what the text belongs to, for the message.
        text: the text to look at.

    Returns:
        The same text, without space around it.

    Raises:
        TypeError: the text is not a string.
        ValueError: the text is empty, or holds dollar maths.

    >>> checked_text("cards", " a *gate* ")
    'a *gate*'
    """
    if not isinstance(text, str):
        raise TypeError(f"{who}: expected a string, got {type(text).__name__} {text!r}; put it in quotes")
    if not text.strip():
        raise ValueError(f"{who}: expected some text, got {text!r}; write what the reader should see")
    if maths := MATHS.search(text):
        raise ValueError(
            f"{who}: expected text without dollar maths, got {maths.group()!r}; an HTML output is not typeset in "
            "Colab: write Unicode (∂, ‖·‖, 10⁻²³), <sub>t</sub> and <sup>2</sup>"
        )
    return text.strip()


def to_html(text: str) -> str:
    """Return ``text`` as HTML that cannot break out of its place.

    >>> to_html("`W_hh` is *shared*: h<sub>t</sub> < 1")
    '<code>W_hh</code> is <em>shared</em>: h<sub>t</sub> &lt; 1'
    """
    parts = CODE.split(text)  # odd parts are code, and are shown as they are
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"<code>{escape(part)}</code>"
        else:
            parts[i] = EMPHASIS.sub(r"<em>\1</em>", SCRIPT.sub(r"<\1>", escape(part)))
    return "".join(parts)


def to_plain(text: str) -> str:
    """Return ``text`` for a terminal: the markup stays, subscripts become ``_`` and superscripts ``^``.

    >>> to_plain("h<sub>t</sub> and x<sup>2</sup>, by `W`")
    'h_t and x^2, by `W`'
    """
    text = re.sub(r"</su[bp]>", "", text)
    return text.replace("<sub>", "_").replace("<sup>", "^")


@functools.cache
def static(name: str) -> str:
    """Return the text of a style sheet or script of the package's ``static`` folder.

    >>> "seqlab-quiz" in static("quiz.css")
    True
    """
    return (resources.files(__package__) / "static" / name).read_text(encoding="utf-8").strip()
