"""Quizzes, cards and claims in a page without a kernel: mouse, keyboard, names, dark, narrow, no script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seqbook import ask, cards, predict, quiz, right, wrong
from seqbook.claims import Claim

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Check yourself</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>[hidden] {{ display: none !important; }} body {{ margin: 1rem; }}
@media (prefers-color-scheme: dark) {{ html {{ color-scheme: dark; }} body {{ background: #14181e; color: #ced6dd; }} }}
</style></head><body><main><h1>Check yourself</h1>{parts}</main></body></html>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A page with two quizzes, cards and a claim of each verdict."""
    parts: list = [
        predict(
            "Which factor vanishes?", wrong("1.1", "It grows."), right("0.9", "It shrinks."), measured="in section 1"
        ),
        quiz(
            [
                ask(
                    "Which bound?",
                    wrong("radius", "Not this."),
                    right("norm", "This one."),
                    reveal="Because ‖AB‖ ≤ ‖A‖‖B‖.",
                ),
                ask(
                    "Which two?",
                    right("`weights_" + "x" * 60 + "`", "Yes."),
                    right("inputs", "Yes."),
                    wrong("steps", "No."),
                ),
            ],
            name="check-yourself",
        ),
        cards([("gate", "a factor between 0 and 1"), ("h<sub>t</sub>", "the hidden state")]),
    ]
    for verdict in ["holds", "holds with a caveat", "fails"]:
        name = verdict.replace(" ", "-")
        parts.append(
            Claim(name, "It is said.", verdict, "ratio 1e-20", 5, "so far", "Somebody 1994", "https://example.org")
        )
    folder = tmp_path_factory.mktemp("quiz")
    (folder / "index.html").write_text(
        PAGE.format(parts="".join(part._repr_html_() for part in parts)), encoding="utf-8"
    )
    return folder


@pytest.fixture
def opened(page: Page, serve: Callable[[Path], str], folder: Path) -> Page:
    page.goto(f"{serve(folder)}/index.html")
    return page


def feedback(page: Page, label: str):
    return page.locator(".choice", has=page.get_by_label(label, exact=True)).locator(".feedback")


def test_a_choice_shows_its_own_feedback_in_words_and_announces_it(opened):
    assert not opened.locator(".feedback:visible").count()
    opened.get_by_label("1.1").check()
    assert feedback(opened, "1.1").inner_text() == "Not right. It grows. Measured in section 1."
    status = opened.locator("#quiz-predict").get_by_role("status")
    assert status.text_content() == "Not right. It grows. Measured in section 1."

    opened.get_by_label("0.9").check()
    assert opened.locator(".feedback:visible").all_inner_texts() == ["Right. It shrinks. Measured in section 1."]
    assert status.text_content() == "Right. It shrinks. Measured in section 1."


def test_the_score_counts_questions_that_are_wholly_right(opened):
    score = opened.locator("#quiz-check-yourself .score")
    assert not score.is_visible()
    opened.get_by_label("norm").check()
    assert score.inner_text() == "1 of 2 questions right."
    opened.get_by_label("weights").check()
    assert score.inner_text() == "1 of 2 questions right."
    opened.get_by_label("inputs").check()
    assert score.inner_text() == "2 of 2 questions right."
    opened.get_by_label("steps").check()
    assert score.inner_text() == "1 of 2 questions right."
    assert opened.locator("#quiz-check-yourself .feedback:visible").count() == 4
    assert not opened.locator("#quiz-predict .feedback:visible").count()


def test_every_choice_is_reached_and_chosen_by_key(opened):
    focused = "document.activeElement.id"
    opened.keyboard.press("Tab")
    assert opened.evaluate(focused) == "quiz-predict-1-1"
    assert not opened.locator(".feedback:visible").count()
    opened.keyboard.press("Space")
    assert feedback(opened, "1.1").is_visible()
    opened.keyboard.press("ArrowDown")
    assert feedback(opened, "0.9").is_visible()
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.tagName") == "SUMMARY"
    opened.keyboard.press("Enter")
    assert opened.get_by_text("Because ‖AB‖").is_visible()
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")
    opened.keyboard.press("Space")
    assert feedback(opened, "inputs").is_visible()


def test_names_and_groups_are_there_for_a_screen_reader(opened):
    assert opened.get_by_role("group", name="Predict", exact=True).count() == 1
    assert opened.get_by_role("group", name="Question 1. Which bound? Choose one.").get_by_role("radio").count() == 2
    assert opened.get_by_role("group", name="Question 2. Which two? Choose 2.").get_by_role("checkbox").count() == 3
    assert opened.get_by_role("list").get_by_role("listitem").count() == 2


def test_a_card_opens_by_key_and_all_are_open_on_paper(opened):
    cards = opened.locator(".seqlab-cards")
    cards.locator("summary").first.focus()
    opened.keyboard.press("Enter")
    assert cards.get_by_text("a factor between 0 and 1").is_visible()
    assert not cards.get_by_text("the hidden state").is_visible()
    opened.emulate_media(media="print")
    height = "document.querySelectorAll('.seqlab-cards details')[1].getBoundingClientRect().height"
    assert opened.evaluate(height) > 50


def test_feedback_needs_no_script(browser: Browser, serve: Callable[[Path], str], folder: Path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{serve(folder)}/index.html")
    page.get_by_label("0.9").check()
    assert page.locator(".feedback:visible").count() == 1
    assert feedback(page, "0.9").is_visible()
    context.close()


def test_an_answer_that_the_browser_restores_is_scored_and_a_second_script_changes_nothing(opened):
    opened.get_by_label("norm").check()
    opened.evaluate("delete document.getElementById('quiz-check-yourself').dataset.ready")
    script = opened.locator("#quiz-check-yourself script").text_content()
    opened.evaluate(script)
    opened.evaluate(script)
    assert opened.locator("#quiz-check-yourself .score").inner_text() == "1 of 2 questions right."


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 360])
def test_axe_finds_nothing_and_nothing_runs_over_the_edge(opened, axe, scheme, width):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.emulate_media(color_scheme=scheme)
    for label in ["1.1", "norm", "weights", "steps"]:
        opened.get_by_label(label).check()
    for summary in opened.locator("summary").all():
        summary.click()
    assert axe(opened) == []
    assert opened.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
