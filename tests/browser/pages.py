"""The pages of the built book: their names, what their files say, and the mark that lets tests share a loaded one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "_build" / "html"
NAMES = sorted(str(path.relative_to(BOOK)) for path in BOOK.glob("**/*.html") if "_static" not in path.parts)
PAGES = [name for name in NAMES if name != "index.html"]  # which only leads to the first page
CHAPTERS = [name for name in PAGES if re.fullmatch(r"notebooks/[^/]+", name)]
LOADING = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}


@dataclass
class Loaded:
    """A page that was loaded once, for all tests of it: they leave no other page in its place."""

    name: str
    address: str
    page: Page
    problems: list[str]
    answers: list[Response]  # to its first visit


def shared(names: Sequence[str]) -> pytest.MarkDecorator:
    """Run a test on each of these pages; one process runs all tests of a page (`--dist loadgroup`)."""
    each = [pytest.param(name, marks=pytest.mark.xdist_group(name), id=name) for name in names]
    return pytest.mark.parametrize("kept", each, indirect=True)


pages = shared(PAGES)
chapters = shared(CHAPTERS)


class Parsed(HTMLParser):
    """What a page says of itself: its ids, its links, what it loads, and its head."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.meta: dict[str, str] = {}
        self.canonical = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.update(filter(None, [given.get("id"), given.get("name") if tag == "a" else None]))
        if tag == "meta":
            self.meta[given.get("property") or given.get("name") or given.get("http-equiv", "")] = given.get(
                "content", ""
            )
        elif tag == "link" and given.get("rel") == "canonical":
            self.canonical = given["href"]
        elif tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon"):
            self.loads.append(given["href"])
        elif tag in ("a", "link") and "href" in given:
            self.links.append(given["href"])
        self.loads += [value for name, value in given.items() if (tag, name) in LOADING]


@cache
def parsed(path: Path) -> Parsed:
    return Parsed(path.read_text(encoding="utf-8"))


def published() -> str:
    """The address that the pages name as theirs, which ends in a slash."""
    return parsed(BOOK / "book" / "intro.html").canonical.removesuffix("book/intro.html")


def visit(page: Page, address: str) -> None:
    """Go to a page and wait until its mathematics is typeset."""
    page.goto(address)
    page.evaluate("window.MathJax && MathJax.startup.promise")
