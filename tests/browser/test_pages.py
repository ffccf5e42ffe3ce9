"""Every page of the built book in Chromium, loaded once: errors, contrast, width; every figure, quiz and card, as used.

Run `make book` first. ``opened`` fails a test on a console error or a request to another host.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from pages import chapters, pages, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

FIRST_VISIT = 1_200_000  # bytes, compressed
OWN_HTML = 500_000


@chapters
def test_first_visit_is_light(kept, opened):
    sizes = {urlsplit(answer.url).path: len(gzip.compress(answer.body())) for answer in kept.answers}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    assert sizes[urlsplit(kept.address).path] <= OWN_HTML
    assert sum(sizes.values()) <= FIRST_VISIT, largest


@pages
@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (1280, "dark"), (360, "light")])
def test_page_is_accessible_and_fits(width, colours, kept, opened, axe):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.emulate_media(color_scheme=colours)
    opened.wait_for_timeout(500)  # the theme makes what scrolls at this width focusable 300 ms after a change of it
    if opened.evaluate("document.documentElement.dataset.theme") != colours:
        visit(opened, kept.address)  # the theme asks for the scheme only when a page is loaded
    assert opened.evaluate("document.documentElement.dataset.theme") == colours
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert not opened.locator("mjx-merror").count()
    assert not axe(opened)


@chapters
def test_chapter_can_be_read_without_javascript(kept, browser: Browser):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1000, "height": 800})
    page = context.new_page()
    page.goto(kept.address)
    for part in [
        "article h1",
        "article h2",
        "article p",
        ".cell > .cell_input pre",
        ".seqlab-picture svg",
        ".claim",
        ".seqlab-quiz",
    ]:
        assert page.locator(part).first.is_visible(), part
    for picture in page.locator(".seqlab-picture svg").all():
        box = picture.bounding_box()
        assert box
        assert box["width"] > 300
        assert box["height"] > 100
    context.close()


@chapters
def test_line_lengths(opened):
    """88 characters of code need no scrolling, and no cell in view has more; prose keeps to its measure."""
    opened.set_viewport_size({"width": 1280, "height": 800})
    width, room = opened.locator(".cell > .cell_input pre").first.evaluate(
        """pre => {
            const line = document.createElement("span");
            line.textContent = "0".repeat(88);
            pre.append(line);
            const style = getComputedStyle(pre);
            const width = line.offsetWidth;
            line.remove();
            return [width, pre.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)];
        }"""
    )
    assert width <= room
    scrolling = opened.locator(".cell > .cell_input pre").evaluate_all(
        "cells => cells.filter(pre => pre.scrollWidth > pre.clientWidth).map(pre => pre.textContent.slice(0, 80))"
    )
    assert not scrolling, f"{len(scrolling)} code cells scroll sideways; break their lines at 88 characters"
    characters = opened.locator("article section > p").evaluate_all(
        """paragraphs => paragraphs.filter(p => p.offsetHeight > 150 && !p.querySelector("mjx-container")).map(p => {
            return p.textContent.length / Math.round(p.offsetHeight / parseFloat(getComputedStyle(p).lineHeight));
        })"""
    )
    assert all(50 <= count <= 85 for count in characters), characters


def picture(figure) -> str:
    return figure.locator(".seqlab-picture svg").get_attribute("aria-label")


@chapters
def test_every_control_changes_its_picture_by_key_and_by_mouse(opened):
    figures = opened.locator(".seqlab-explore").all()
    assert figures
    for figure in figures:
        label = figure.get_attribute("data-name")
        for slider in figure.locator("input[type=range]").all():
            slider.focus()
            for end, other in [("End", "Home"), ("Home", "End")]:
                opened.keyboard.press(other)
                before, drawn = picture(figure), figure.locator(".seqlab-picture").inner_html()
                opened.keyboard.press(end)
                assert picture(figure) != before, f"{label}: {slider.get_attribute('aria-label')} by key"
                assert figure.locator(".seqlab-picture").inner_html() != drawn
            box = slider.bounding_box()
            before = picture(figure)
            opened.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
            assert picture(figure) != before, f"{label}: {slider.get_attribute('aria-label')} by mouse"
        for group in figure.locator("fieldset").all():
            for option in group.locator("input[type=radio]").all():
                if not option.is_checked():
                    before = picture(figure)
                    option.locator("xpath=..").click()
                    assert picture(figure) != before, f"{label}: {option.locator('xpath=..').inner_text()}"


@chapters
def test_every_choice_of_every_quiz_answers(opened):
    for choice in opened.locator(".seqlab-quiz .choice").all():
        feedback = choice.locator(".feedback")
        assert not feedback.is_visible()
        choice.locator("label").click()
        assert feedback.is_visible()
        right = choice.locator("input").get_attribute("data-right") is not None
        assert feedback.inner_text().startswith("Right." if right else "Not right.")
        if choice.locator("input").get_attribute("type") == "checkbox":
            choice.locator("label").click()


@chapters
def test_cards_turn_by_key(opened):
    for card in opened.locator(".seqlab-cards details").all():
        card.locator("summary").focus()
        opened.keyboard.press("Enter")
        assert card.locator("p").is_visible()


def test_the_ledger_holds_every_claim_and_leads_to_its_cell(site, page):
    from seqbook import registry

    visit(page, f"{site}/book/claims.html")
    rows = page.locator("table tbody tr").all_inner_texts()
    for entry in registry().values():
        row = [text for text in rows if entry["statement"].rstrip(".")[:60] in text]
        assert len(row) == 1, entry["statement"]
        assert entry["verdict"] in row[0].lower()
    page.locator("table tbody tr a[href*='#claim-']").first.click()
    page.wait_for_url("**/notebooks/*#claim-*")
    assert page.locator(".claim").first.is_visible()
