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
        first = quote.children[0] if isinstance(quote.children[0], nodes.paragraph) else nodes.paragraph()
        begin = next((part for part in first.children if part.astext()), None)  # some are empty
        if isinstance(begin, nodes.strong):
            said = re.sub(r"[\W_]+$", "", begin.astext()).lower()
            quote["classes"] += [BOXES[said]] if said in BOXES else []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
