"""The built book as a reader's browser meets it, served under the path at which it is published.

Links are read from the files; what only a browser can know (errors, requests, contrast, overflow, slides) is driven in
Chromium. Run `make book` first.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from pages import BOOK, CHAPTERS, NAMES, PAGES, ROOT, parsed, published, visit

from seqbook.plotting import COLOURS

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def broken(book: Path, names: list[str], base: str) -> list[str]:
    """Return every link to a page, file or anchor of the book that is not there."""
    found = []
    for name in names:
        page = parsed(book / name)
        for link in [*page.links, *page.loads]:
            inside = link.removeprefix(base) if link.startswith(base) else None
            parts = urlsplit(link if inside is None else "/" + inside)
            if parts.scheme or parts.netloc:
                continue
            path = unquote(parts.path)
            if path.startswith("/"):
                target = book / path.removeprefix(urlsplit(base).path if inside is None else "/")
            else:
                target = (book / name).parent / path if path else book / name
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file():
                found.append(f"{name}: {link} (no such file)")
            elif anchor and target.suffix == ".html" and anchor not in parsed(target).ids:
                found.append(f"{name}: {link} (no such anchor)")
    return found


# What can be read from the files.


def test_the_book_was_built():
    assert CHAPTERS, "no pages in _build/html: run `make book` first"
    assert {"404.html", "search.html", "genindex.html", "book/claims.html", "book/api.html"} <= set(PAGES)
    assert (BOOK / ".nojekyll").exists()


def test_internal_links_and_anchors_resolve():
    assert not broken(BOOK, NAMES, published())


def test_a_planted_broken_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html"></a><a href="#top"></a><a href="#no"></a><img src="/book/c.png">'
        '<a href="https://here.example/book/a.html#top"></a><a href="https://here.example/book/d.html"></a>'
    )
    found = broken(tmp_path, ["a.html"], "https://here.example/book/")
    assert [line.split()[1] for line in found] == ["b.html", "#no", "https://here.example/book/d.html", "/book/c.png"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_loaded_from_another_host(name):
    foreign = [link for link in parsed(BOOK / name).loads if urlsplit(link).netloc]
    assert not foreign


@pytest.mark.parametrize("name", [name for name in PAGES if "/" in name])
def test_head(name):
    head = parsed(BOOK / name)
    assert head.canonical == published() + name
    assert head.meta["og:url"] == published() + name
    assert head.meta["og:title"]
    card = head.meta["og:image"]
    assert card.startswith(published())
    size = struct.unpack(">II", (BOOK / card.removeprefix(published())).read_bytes()[16:24])
    assert size == (1200, 630)


def test_sitemap_lists_the_pages():
    listed = set(re.findall(r"<loc>([^<]+)</loc>", (BOOK / "sitemap.xml").read_text()))
    written = {published() + name for name in PAGES if name.startswith(("book/", "notebooks/"))}
    assert written <= listed
    assert all((BOOK / address.removeprefix(published())).is_file() for address in listed)


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_has_its_colab_button(name):
    notebook = name.replace(".html", ".ipynb")
    colab = [link for link in parsed(BOOK / name).links if "colab.research.google.com" in link]
    assert any(re.search(rf"/github/[\w.-]+/[\w.-]+/blob/[\w./-]+/{re.escape(notebook)}$", link) for link in colab)


def test_colours_of_the_style_sheet_are_those_of_the_figures():
    sheet = (ROOT / "assets" / "book.css").read_text()
    given = dict(re.findall(r"--colour-(\w+): (#\w{6});", sheet))
    assert {name.lower(): colour.lower() for name, colour in COLOURS.items()} == {
        k: v.lower() for k, v in given.items()
    }


# What only a browser can tell. `page` fails a test on a console error or a request to another host.


def test_the_front_door_leads_to_the_first_page(site, page):
    page.goto(f"{site}/index.html")
    page.wait_for_url("**/book/intro.html")


def test_sidebars_open_on_a_phone(site, page):
    page.set_viewport_size({"width": 360, "height": 740})
    visit(page, f"{site}/{CHAPTERS[0]}")
    for toggle, link in [
        (".primary-toggle", "#pst-primary-sidebar-modal a"),
        (".secondary-toggle", "dialog a[href^='#']"),
    ]:
        page.locator(toggle).filter(visible=True).click()
        page.locator(link).filter(visible=True).first.wait_for()
        page.keyboard.press("Escape")
        page.locator("dialog[open]").wait_for(state="detached")


def test_search_works_without_another_host(site, page):
    page.goto(f"{site}/search.html?q=gradient")
    page.locator("#search-results li a").first.wait_for()


# Slides


@pytest.fixture
def slides(site, page) -> Iterator[Page]:
    """The first chapter, shown as slides."""
    page.set_viewport_size({"width": 1280, "height": 720})
    visit(page, f"{site}/{CHAPTERS[0]}")
    page.get_by_role("button", name="Slides").click()
    return page


def place(page: Page) -> tuple[int, float]:
    """The number of the slide, and how far it is scrolled."""
    return int(page.locator(".slides-count").inner_text().split(" / ")[0]), page.evaluate("scrollY")


def walk(page: Page, *keys: str) -> Iterator[tuple[int, float]]:
    """Press the keys in turn until nothing moves any more; yield each place on the way."""
    here = place(page)
    yield here
    for press in itertools.count():
        page.keyboard.press(keys[press % len(keys)])
        before, here = here, place(page)
        if here == before:
            return
        yield here


def test_only_chapters_have_slides(site, page):
    page.goto(f"{site}/book/notation.html")
    assert not page.locator(".slides-open").count()


def test_slides_move_by_key_and_say_where_they_are(slides):
    total = int(slides.locator(".slides-count").inner_text().split(" / ")[1])
    heading = slides.locator(".slides-now > :is(h1, h2, h3)")
    assert heading.evaluate("heading => heading === document.activeElement")
    forward = list(walk(slides, "ArrowRight", "PageDown", "Space"))
    assert forward == sorted(forward)
    assert sorted({slide for slide, _ in forward}) == list(range(1, total + 1))
    said = slides.locator(".slides-bar [aria-live]").inner_text()
    assert said == f"Slide {total} of {total}: {heading.inner_text().rstrip('#')}"
    back = [slide for slide, _ in walk(slides, "ArrowLeft", "PageUp", "Shift+Space")]
    assert back == list(range(total, 0, -1))
    slides.keyboard.press("End")
    assert place(slides)[0] == total
    slides.keyboard.press("Home")
    assert place(slides) == (1, 0)
    slides.keyboard.press("Escape")
    slides.locator(".slides-bar").wait_for(state="hidden")
    assert slides.locator("article p:not(.slides-key)").first.is_visible()
    assert slides.locator(".slides-open").evaluate("button => button === document.activeElement")


@pytest.mark.parametrize("width", [1280, 360])
def test_every_slide_shows_something_and_fits_across(width, slides, axe):
    slides.set_viewport_size({"width": width, "height": 720})
    slides.keyboard.press("Home")
    for number, scrolled in walk(slides, "ArrowRight"):
        assert slides.evaluate("document.documentElement.scrollWidth") <= width, f"slide {number}"
        shown = slides.locator(".slides-now > :not(h1, h2, h3, h4, section)").evaluate_all(
            "parts => parts.filter(part => part.offsetHeight).length"
        )
        assert shown or slides.locator(".slides-now > section").count(), f"nothing on slide {number}"
        if number == 2 and not scrolled:
            assert not axe(slides)


def test_text_and_code_come_at_a_key(slides):
    text = slides.locator(".slides-now > p:not(.slides-key)").last
    code = slides.locator(".slides-now > .cell:not(.tag_hide-input, .tag_remove-input) > .cell_input").first
    for key, part in [("t", text), ("c", code)]:
        if not part.count():  # plumbing stays folded: on to the first slide with code that teaches
            assert any(part.count() for _ in walk(slides, "ArrowRight"))
        assert not part.is_visible()
        slides.keyboard.press(key)
        assert part.is_visible()
        slides.keyboard.press(key)
        assert not part.is_visible()


def test_figures_live_on_slides_and_keep_their_keys(slides):
    slider = slides.locator(".slides-now > .cell input[type=range]").first
    assert any(slider.count() for _ in walk(slides, "ArrowRight")), "no figure with a slider in the chapter"
    at = place(slides)[0]
    picture = slider.locator("xpath=ancestor::*[contains(@class, 'seqlab-explore')]//*[@role='img']")
    before = picture.get_attribute("aria-label")
    slider.focus()
    slides.keyboard.press("Home" if slider.input_value() == slider.get_attribute("max") else "End")
    assert place(slides)[0] == at
    assert picture.get_attribute("aria-label") != before
    slides.keyboard.press("Escape")
    slides.locator(".slides-bar").wait_for(state="hidden")


def test_slides_work_with_a_finger(slides):
    before = place(slides)
    slides.locator(".slides-bar").get_by_role("button", name="Next").click()
    assert place(slides) > before
    before = place(slides)
    slides.keyboard.press("ArrowRight")  # a button that has the focus does not swallow the keys
    assert place(slides) > before
    slides.locator(".slides-bar").get_by_role("button", name="Back").click()
    text = slides.locator(".slides-bar").get_by_role("button", name="Text")
    text.click()
    assert text.get_attribute("aria-pressed") == "true"
    slides.locator(".slides-bar").get_by_role("button", name="Leave").click()
    slides.locator(".slides-bar").wait_for(state="hidden")
