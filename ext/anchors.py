"""Let a link name a citation or a glossary term: `[Pascanu et al. (2013)](../book/references.md#pascanu2013)`.

Such a link is good everywhere that a notebook is read: the book resolves it, GitHub and JupyterLab open the page. MyST
knows only headings as the anchors of a page; here citations and terms join them, so that a link to one that does not
exist is a warning, which a strict build makes an error.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def add_anchors(app: Sphinx, doctree: nodes.document) -> None:
    """Add the ids of the page's terms and citations to its anchors."""
    page = app.env.docname
    ids = {id: term.astext() for term in doctree.findall(nodes.term) for id in term["ids"]}
    citations: Any = app.env.get_domain("cite")  # sphinxcontrib-bibtex's
    for key, bibliography in citations.bibliographies.items():
        if key.docname == page:
            ids |= {id: name for name, node in bibliography.citation_nodes.items() for id in node["ids"]}
    if ids:
        slugs = app.env.metadata[page].setdefault("myst_slugs", {})
        slugs.update({id: (0, id, text) for id, text in ids.items()})


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("doctree-read", add_anchors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
