"""The claims ledger: one page that lists every measured claim of the book, made from the executed notebooks.

`seqbook.claim` shows each verdict as an HTML box that carries its data in `data-claim`. While a notebook is read
those boxes are collected; when the page with the `{claims-ledger}` directive is written, they become its tables. That
page is written anew by every build, so it cannot lag behind a notebook. A warning, which a strict build makes an
error, says where registry and notebooks disagree: a claim that no notebook printed, that two cells printed, that is
measured outside its chapter, that is not registered, or whose verdict or statement is not the registered one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from seqbook.claims import VERDICTS, registry

logger = logging.getLogger(__name__)

FOLDER = "notebooks"
COLUMNS = ["Claim, as it is told", "Told in", "Measured", "Seeds", "Verdict"]
STYLE = """
.ledger table { width: 100%; border-collapse: collapse; margin: 0 0 2rem; font-size: .9em; }
.ledger th, .ledger td { padding: .5rem .6rem .5rem 0; border-bottom: 1px solid rgba(128, 128, 128, .5);
  text-align: start; vertical-align: top; overflow-wrap: break-word; font-weight: 400; }
.ledger thead th, .ledger .verdict { font-weight: 600; }
.ledger thead th:first-child { width: 32%; }
.ledger .seeds { text-align: end; }
@media (max-width: 720px) {
  .ledger table, .ledger tbody, .ledger tr, .ledger th, .ledger td { display: block; }
  .ledger thead { display: none; }
  .ledger tr { padding: .6rem 0; border-bottom: 1px solid rgba(128, 128, 128, .5); }
  .ledger th, .ledger td, .ledger .seeds { padding: .1rem 0; border: 0; text-align: start; }
  .ledger [data-label]::before { content: attr(data-label) ": "; font-weight: 600; }
}
"""


class LedgerNode(nodes.General, nodes.Element):
    """Stands where the tables will be, until every notebook was read."""


class Ledger(SphinxDirective):
    """The `{claims-ledger}` directive."""

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder, which holds the addresses for Sphinx's linkcheck, and remember the page."""
        path = registry_path(self.env)
        pages(self.env).add(self.env.docname)
        self.env.note_dependency(str(path))
        return [LedgerNode("", *(nodes.reference(refuri=entry["url"]) for entry in registry(path).values()))]


class ClaimBoxes(HTMLParser):
    """Collects the data of the claim boxes in a piece of HTML."""

    def __init__(self) -> None:
        """Start with none."""
        super().__init__()
        self.found: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what a claim box carries."""
        if data := dict(attrs).get("data-claim"):
            self.found.append(json.loads(data))


def pages(env: BuildEnvironment) -> set[str]:
    """Return the names of the pages that hold a ledger; kept on the environment."""
    if not hasattr(env, "ledger_pages"):
        env.ledger_pages = set()  # type: ignore[attr-defined]
    return env.ledger_pages  # type: ignore[attr-defined]


def printed(env: BuildEnvironment) -> dict[str, list[dict[str, Any]]]:
    """Return, for each notebook, the claims that it printed; kept on the environment."""
    if not hasattr(env, "ledger_claims"):
        env.ledger_claims = {}  # type: ignore[attr-defined]
    return env.ledger_claims  # type: ignore[attr-defined]


def registry_path(env: BuildEnvironment) -> Path:
    """Return where the registry lies."""
    return Path(env.srcdir) / env.config.ledger_registry


def chapters(env: BuildEnvironment) -> dict[str, str]:
    """Return the document of each chapter that has claims and is in the book, in the book's order."""
    names = sorted({entry["chapter"] for entry in registry(registry_path(env)).values()})
    return {name: f"{FOLDER}/{name}" for name in names if f"{FOLDER}/{name}" in env.found_docs}


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Remember the claims that a notebook printed (in the doctree its outputs are still whole)."""
    boxes = ClaimBoxes()
    for raw in doctree.findall(nodes.raw):
        if "data-claim" in raw.astext():
            boxes.feed(raw.astext())
    if boxes.found:
        printed(app.env)[app.env.docname] = boxes.found
        app.env.note_dependency(str(registry_path(app.env)))


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget what a page said before it is read again."""
    pages(env).discard(docname)
    printed(env).pop(docname, None)


def merge(app: Sphinx, env: BuildEnvironment, docnames: list[str], other: BuildEnvironment) -> None:
    """Take over what another process has read."""
    pages(env).update(pages(other).intersection(docnames))
    printed(env).update((docname, claims) for docname, claims in printed(other).items() if docname in docnames)


def rewrite(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Have the ledger written by every build."""
    return sorted(pages(env))


def disagreements(env: BuildEnvironment) -> Iterator[tuple[str, str]]:
    """Yield what registry and notebooks disagree on, each with the page it concerns."""
    entries, docnames = registry(registry_path(env)), chapters(env)
    seen: set[str] = set()
    for docname, claims in sorted(printed(env).items()):
        for claim in claims:
            name = claim["id"]
            said = f"claim {name!r} was printed here"
            if name in seen:
                yield f"{said}, and by another cell too; keep one", docname
            seen.add(name)
            if name not in entries:
                yield f"{said}, but is not registered; register it, or run the notebook again", docname
                continue
            if docnames.get(entries[name]["chapter"]) != docname:
                yield f"{said}, but is registered for chapter {entries[name]['chapter']!r}; correct one", docname
            for field in ["verdict", "statement"]:
                old, new = claim[field], entries[name][field]
                if old != new:
                    yield f"{said} with {field} {old!r}, registered is {new!r}; run the notebook again", docname
    for name, entry in entries.items():
        if entry["chapter"] in docnames and name not in seen:
            yield f"claim {name!r} is registered, but no executed cell printed it", docnames[entry["chapter"]]


def warn(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of every disagreement."""
    if pages(env):
        for message, docname in disagreements(env):
            logger.warning(message, location=docname, type="ledger")


def rows(app: Sphinx, page: str, chapter: str) -> Iterator[tuple[str, str]]:
    """Yield the verdict and the table row of each claim of a chapter, in the order of the registry."""
    docname = chapters(app.env)[chapter]
    found = {claim["id"]: claim for claim in printed(app.env).get(docname, [])}
    address = app.builder.get_relative_uri(page, docname)
    for name, entry in registry(registry_path(app.env)).items():
        if entry["chapter"] != chapter:
            continue
        claim = found.get(name)
        verdict = claim["verdict"] if claim else "not measured"
        symbol, _ = VERDICTS.get(verdict, ("", ""))
        told = f'<a href="{escape(entry["url"])}">{escape(entry["told"])}</a>'
        measured, seeds = "–", "–"
        if claim:
            caveat = f" {escape(claim['caveat'])}." if claim["caveat"] else ""
            measured = f'<a href="{address}#claim-{name}">{escape(claim["measured"])}</a>.{caveat}'
            seeds = str(claim["seeds"] or "–")
        row = (
            f'<tr role="row"><th role="rowheader" scope="row">{escape(entry["statement"])}</th>'
            f'<td role="cell" data-label="Told in">{told}</td>'
            f'<td role="cell" data-label="Measured">{measured}</td>'
            f'<td role="cell" class="seeds" data-label="Seeds">{seeds}</td>'
            f'<td role="cell" class="verdict" data-label="Verdict">'
            f'<span aria-hidden="true">{symbol} </span>{verdict}</td></tr>'
        )
        yield verdict, row


def totals(verdicts: list[str]) -> str:
    """Return how many claims there are, and how many of each verdict."""
    counts = Counter(verdicts)
    names = [*VERDICTS, *sorted(set(counts).difference(VERDICTS))]
    claims = "1 claim" if len(verdicts) == 1 else f"{len(verdicts)} claims"
    return f"{claims} ({', '.join(f'{name}: {counts[name]}' for name in names)})"


def tables(app: Sphinx, page: str) -> str:
    """Return the ledger: totals, then one table a chapter in the order of the book."""
    # Roles are written out: a table shown as blocks on a narrow screen is no table to a screen reader.
    head = "".join(f'<th role="columnheader" scope="col">{column}</th>' for column in COLUMNS)
    every: list[str] = []
    parts = []
    for chapter, docname in chapters(app.env).items():
        verdicts, lines = zip(*rows(app, page, chapter), strict=True)
        every += verdicts
        link = f'<a href="{app.builder.get_relative_uri(page, docname)}">{escape(app.env.titles[docname].astext())}</a>'
        parts.append(
            f'<h2 id="ledger-{chapter}">{link}</h2><p>{totals(list(verdicts))}.</p>'
            f'<table role="table" aria-labelledby="ledger-{chapter}">'
            f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
            f'<tbody role="rowgroup">{"".join(lines)}</tbody></table>'
        )
    return f'<div class="ledger"><style>{STYLE}</style><p><strong>{totals(every)}.</strong></p>{"".join(parts)}</div>'


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put the tables in the place of the directive."""
    for node in list(doctree.findall(LedgerNode)):
        node.replace_self(nodes.raw(text=tables(app, docname), format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_config_value("ledger_registry", "src/seqbook/claims.toml", "env", str)
    app.add_node(LedgerNode)
    app.add_directive("claims-ledger", Ledger)
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", rewrite)
    app.connect("env-check-consistency", warn)
    app.connect("doctree-resolved", fill)
    return {"env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
