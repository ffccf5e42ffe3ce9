"""Every figure, quiz and card of every chapter, used as a reader uses it in the built book."""

from __future__ import annotations

import pytest
from test_site import chapters, site, visit  # noqa: F401  # site is a fixture

pytestmark = pytest.mark.browser


def picture(figure) -> str:
    return figure.locator(".seqlab-picture svg").get_attribute("aria-label")


@chapters
def test_every_control_changes_its_picture_by_key_and_by_mouse(name, site, page):  # noqa: F811
    visit(page, f"{site}/{name}")
    figures = page.locator(".seqlab-explore").all()
    assert figures
    for figure in figures:
        label = figure.get_attribute("data-name")
        for slider in figure.locator("input[type=range]").all():
            slider.focus()
            for end, other in [("End", "Home"), ("Home", "End")]:
                page.keyboard.press(other)
                before, drawn = picture(figure), figure.locator(".seqlab-picture").inner_html()
                page.keyboard.press(end)
                assert picture(figure) != before, f"{label}: {slider.get_attribute('aria-label')} by key"
                assert figure.locator(".seqlab-picture").inner_html() != drawn
            box = slider.bounding_box()
            before = picture(figure)
            page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
            assert picture(figure) != before, f"{label}: {slider.get_attribute('aria-label')} by mouse"
        for group in figure.locator("fieldset").all():
            for option in group.locator("input[type=radio]").all():
                if not option.is_checked():
                    before = picture(figure)
                    option.locator("xpath=..").click()
                    assert picture(figure) != before, f"{label}: {option.locator('xpath=..').inner_text()}"


@chapters
def test_every_choice_of_every_quiz_answers(name, site, page):  # noqa: F811
    visit(page, f"{site}/{name}")
    for choice in page.locator(".seqlab-quiz .choice").all():
        feedback = choice.locator(".feedback")
        assert not feedback.is_visible()
        choice.locator("label").click()
        assert feedback.is_visible()
        right = choice.locator("input").get_attribute("data-right") is not None
        assert feedback.inner_text().startswith("Right." if right else "Not right.")
        if choice.locator("input").get_attribute("type") == "checkbox":
            choice.locator("label").click()


@chapters
def test_cards_turn_by_key(name, site, page):  # noqa: F811
    visit(page, f"{site}/{name}")
    for card in page.locator(".seqlab-cards details").all():
        card.locator("summary").focus()
        page.keyboard.press("Enter")
        assert card.locator("p").is_visible()


def test_the_ledger_holds_every_claim_and_leads_to_its_cell(site, page):  # noqa: F811
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
