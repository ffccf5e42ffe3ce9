"""Let a link name a citation, a term, a figure or a table: `[Cho et al. (2014)](../book/references.md#cho2014)`.

Such a link is good everywhere that a notebook is read: the book resolves it, GitHub and JupyterLab open the page. MyST
knows only headings as the anchors of a page; here the others join them, so that a link to one that does not exist is a
warning, which a strict build makes an error. So is a link `[Figure 1.3](#fig-name)` to what is Figure 1.4.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def add_anchors(app: Sphinx, doctree: nodes.document) -> None:
    """Add the ids of the page's terms, citations, figures and tables to its anchors."""
    page = app.env.docname
    ids = {id: term.astext() for term in doctree.findall(nodes.term) for id in term["ids"]}
    citations: Any = app.env.get_domain("cite")  # sphinxcontrib-bibtex's
    for key, bibliography in citations.bibliographies.items():
        if key.docname == page:
            ids |= {id: name for name, node in bibliography.citation_nodes.items() for id in node["ids"]}
    ids |= (labels := numbers(doctree))
    for link in [link for link in doctree.findall(pending_xref) if link["reftarget"] in labels]:
        link_within(link, labels[link["reftarget"]])
    if ids:
        slugs = app.env.metadata[page].setdefault("myst_slugs", {})
        slugs.update({id: (0, id, text) for id, text in ids.items()})


def numbers(doctree: nodes.document) -> dict[str, str]:
    """Return the anchors of the figures and tables that cells of the page show, with their numbers."""
    found = {}
    for output in doctree.findall(nodes.raw):
        anchors = re.findall(r'<(?:figure|div) class="seqlab-(?:figure|table)[^"]*" id="([^"]+)"', output.astext())
        label = re.search(r"<strong>((?:Figure|Table) \d+\.\d+)</strong>", output.astext())
        found |= {anchor: label[1] if label else "" for anchor in anchors}
    return found


def link_within(link: pending_xref, label: str) -> None:
    """Make a link to a figure or table of its own page; warn if it calls it by another number."""
    said = link.astext()
    if re.fullmatch(r"(Figure|Table) [\d.]+", said) and said != label:
        logger.warning("expected a link to #%s to say %r, got %r", link["reftarget"], label, said, location=link)
    link.replace_self(nodes.reference("", "", *link.children, refid=link["reftarget"], internal=True))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("doctree-read", add_anchors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
