"""Turn quotes that begin in bold with *What to do* or *Predict* into boxes.

In Colab, JupyterLab and on GitHub such a quote is a quote; here it gets a class, which the style sheet draws as a box.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

BOXES = {"what to do": "what-to-do", "predict": "predict"}


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """Give each such quote its class."""
    for quote in doctree.findall(nodes.block_quote):
        first = next(quote.findall(nodes.paragraph), None)
        begin = next((part for part in first.children if part.astext()), None) if first else None  # some are empty
        if isinstance(begin, nodes.strong):
            said = re.sub(r"[\W_]+$", "", begin.astext()).lower()
            quote["classes"] += [BOXES[said]] if said in BOXES else []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
