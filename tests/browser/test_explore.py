"""The explorable figure in a page without a kernel: mouse, keyboard, touch, dark, narrow, no motion, no script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from seqbook.interactive import choice, explore, slider, steps
from seqbook.plotting import gradient_profile, hover, log_scale, new_figure

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Figures</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>body {{ margin: 1rem; }} @media (prefers-color-scheme: dark) {{ html {{ color-scheme: dark; }}
body {{ background: #14181e; color: #ced6dd; }} }}</style></head>
<body><main><h1>Figures</h1>{figures}</main></body></html>"""


def product(weight, length):
    figure, ax = new_figure()
    log_scale(ax)
    t = np.arange(length + 1)
    ax.plot(t, weight**t)
    ax.set(xlim=(0, 100), ylim=(1e-6, 1e6), xlabel="number of steps T", ylabel="product")
    hover(ax, t[::10], weight ** t[::10], lambda x, y: f"after {x:.0f} steps: {y:.2g}")
    return figure


def profile(architecture, seed):
    rates = {"RNN": 0.5, "LSTM": 0.8, "GRU": 0.6}
    figure, ax = new_figure(right=1.1)
    gradient_profile(ax, {architecture: (rates[architecture] + seed / 100) ** np.arange(60)[::-1]}, ylim=(1e-32, 10))
    return figure


def still():
    figure, ax = new_figure(right=1.1)
    ax.plot([1, 2, 3])
    ax.set(xlabel="x", ylabel="y")
    return figure


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A page with three figures, one of them twice."""
    moving = explore(
        product,
        name="product",
        alt="{weight} to the power of {length}",
        weight=slider([0.9, 1.0, 1.1], label="|W|", format="{:.2f}", start=1.0),
        length=steps(range(10, 60, 10), label="T", seconds=lambda T: 0.7 if T < 40 else 2),
    )
    chosen = explore(
        profile, name="profile", alt="{architecture} {seed}", architecture=choice(["RNN", "LSTM", "GRU"]), seed=range(2)
    )
    fixed = explore(still, name="still", alt="A line that rises from 1 to 3.")
    folder = tmp_path_factory.mktemp("page")
    figures = "\n".join(figure._repr_mimebundle_()["text/html"] for figure in (moving, chosen, fixed, chosen))
    (folder / "index.html").write_text(PAGE.format(figures=figures), encoding="utf-8")
    return folder


@pytest.fixture(params=["http", "file"])
def opened(request, page: Page, folder: Path, serve: Callable[[Path], str]) -> Page:
    if request.param == "http":
        page.goto(serve(folder) + "/index.html")
    else:
        page.context.set_offline(True)
        page.goto((folder / "index.html").as_uri())
    return page


@pytest.fixture
def offline(page: Page, folder: Path) -> Page:
    page.context.set_offline(True)
    page.goto((folder / "index.html").as_uri())
    return page


def shown(page: Page, figure: int = 0) -> tuple[str, str]:
    """The picture's own markup and its text alternative."""
    svg = page.locator(".seqlab-picture > svg").nth(figure)
    return svg.inner_html(), svg.get_attribute("aria-label") or ""


def test_slider_moves_by_keyboard_and_by_mouse(opened):
    range_ = opened.get_by_role("slider", name="|W|")
    pictures = [shown(opened)]
    assert pictures[0][1] == "1.0 to the power of 10"
    range_.focus()
    opened.keyboard.press("ArrowRight")
    pictures.append(shown(opened))
    assert pictures[1][1] == "1.1 to the power of 10"
    assert range_.get_attribute("aria-valuetext") == "1.10"
    opened.keyboard.press("Home")
    pictures.append(shown(opened))
    assert pictures[2][1] == "0.9 to the power of 10"
    box = range_.bounding_box()
    opened.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    assert shown(opened) == pictures[1]
    assert len({svg for svg, _ in pictures}) == 3


def test_figures_on_one_page_do_not_disturb_each_other(offline):
    others = [shown(offline, k) for k in (1, 2, 3)]
    offline.get_by_role("slider", name="|W|").press("End")
    assert [shown(offline, k) for k in (1, 2, 3)] == others
    # The same figure twice: its radio buttons are two groups.
    offline.get_by_role("radio", name="GRU").nth(1).click()
    assert shown(offline, 3)[1] == "GRU 0"
    assert shown(offline, 1)[1] == "RNN 0"
    assert offline.get_by_role("radio", name="RNN").first.is_checked()


def test_choice_by_click_and_by_arrow_key(offline):
    first = shown(offline, 1)
    group = offline.get_by_role("group", name="architecture").first
    group.get_by_role("radio", name="LSTM").click()
    assert shown(offline, 1)[1] == "LSTM 0"
    offline.keyboard.press("ArrowRight")
    assert shown(offline, 1)[1] == "GRU 0"
    group.get_by_role("radio", name="RNN").click()
    assert shown(offline, 1) == first


def test_play_runs_to_the_end_and_pauses(offline):
    offline.clock.install()
    play = offline.get_by_role("button", name="Play")
    play.click()
    assert shown(offline)[1].endswith("of 20")
    assert offline.locator(".seqlab-said").first.text_content() == ""  # silent while it plays
    offline.clock.run_for(750)
    assert shown(offline)[1].endswith("of 30")
    offline.get_by_role("button", name="Pause").click()
    offline.clock.run_for(3000)
    assert shown(offline)[1].endswith("of 30")
    assert offline.locator(".seqlab-said").first.text_content() == "1.0 to the power of 30"
    play.click()
    offline.clock.run_for(5000)
    assert shown(offline)[1].endswith("of 50")
    assert play.is_visible()  # stopped by itself
    play.click()
    assert shown(offline)[1].endswith("of 10")  # from the start again


def test_a_moment_stays_as_long_as_it_was_given(offline):
    offline.clock.install()
    offline.get_by_role("button", name="Play").click()
    offline.clock.run_for(1500)
    assert shown(offline)[1].endswith("of 40")
    offline.clock.run_for(1500)
    assert shown(offline)[1].endswith("of 40")
    offline.clock.run_for(600)
    assert shown(offline)[1].endswith("of 50")


def test_step_buttons_stay_within_the_range(offline):
    back, following = offline.get_by_role("button", name="Back"), offline.get_by_role("button", name="Next")
    back.click()
    assert shown(offline)[1].endswith("of 10")
    following.click()
    assert shown(offline)[1].endswith("of 20")
    for _ in range(9):
        following.click()
    assert shown(offline)[1].endswith("of 50")
    back.press("Enter")
    assert shown(offline)[1].endswith("of 40")


def test_reduced_motion_makes_play_a_single_step(offline):
    offline.emulate_media(reduced_motion="reduce")
    offline.clock.install()
    play = offline.get_by_role("button", name="Play")
    play.click()
    offline.clock.run_for(5000)
    assert shown(offline)[1].endswith("of 20")
    assert play.is_visible()


def test_nothing_plays_by_itself(offline):
    offline.clock.install()
    before = shown(offline)
    offline.clock.run_for(5000)
    assert shown(offline) == before


def test_values_are_read_by_mouse_touch_and_keyboard(offline):
    picture, reading = offline.locator(".seqlab-picture").first, offline.locator(".seqlab-reading").first
    hint = reading.text_content()
    box = picture.bounding_box()
    # The point after 10 steps of weight 1, in a picture of 6 x 3.2 in whose axes are 4.95 x 2.4 in.
    x, y = box["x"] + box["width"] * (0.85 + 0.495) / 6, box["y"] + box["height"] * 1.4 / 3.2
    offline.mouse.move(x + 4, y + 4)
    assert reading.text_content() == "after 10 steps: 1"
    assert offline.locator(".seqlab-ring").count() == 1
    offline.mouse.move(x, y + 150)
    assert reading.text_content() == hint
    picture.focus()
    offline.keyboard.press("End")
    assert reading.text_content() == "after 10 steps: 1"
    offline.keyboard.press("ArrowLeft")
    assert reading.text_content() == "after 0 steps: 1"
    offline.keyboard.press("Escape")
    assert reading.text_content() == hint
    picture.dispatch_event("pointerdown", {"clientX": x, "clientY": y, "pointerType": "touch"})
    assert reading.text_content() == "after 10 steps: 1"
    offline.get_by_role("slider", name="|W|").press("End")
    assert offline.locator(".seqlab-ring").count() == 0  # a value of another frame is not left standing


def test_words_follow_the_frame_and_are_said_once_the_reader_rests(offline):
    offline.clock.install()
    range_, said = offline.get_by_role("slider", name="|W|"), offline.locator(".seqlab-said").first
    range_.press("ArrowLeft")
    range_.press("ArrowRight")
    range_.press("ArrowRight")
    assert said.text_content() == ""
    offline.clock.run_for(600)
    assert said.text_content() == "1.1 to the power of 10"
    assert said.get_attribute("aria-live") == "polite"
    offline.get_by_text("In words").first.click()
    assert offline.locator(".seqlab-words").first.inner_text() == "1.1 to the power of 10"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 360])
def test_axe_finds_nothing(offline, axe, scheme, width):
    offline.emulate_media(color_scheme=scheme)
    offline.set_viewport_size({"width": width, "height": 800})
    for summary in offline.get_by_text("In words").all():
        summary.click()
    assert axe(offline) == []


def test_text_and_axes_take_the_colour_of_the_page(offline):
    colour = "element => getComputedStyle(element).fill"
    texts = offline.locator(".seqlab-picture > svg text").all()
    assert len(texts) > 10
    for scheme, expected in (("light", "rgb(0, 0, 0)"), ("dark", "rgb(206, 214, 221)")):
        offline.emulate_media(color_scheme=scheme)
        assert {text.evaluate(colour) for text in texts} == {expected}


def test_phone_no_sideways_scroll_and_text_of_readable_size(offline):
    offline.set_viewport_size({"width": 352, "height": 700})  # 320 px of picture between the page's margins
    assert offline.evaluate("document.documentElement.scrollWidth <= innerWidth")
    heights = offline.evaluate(
        """() => [...document.querySelectorAll('.seqlab-picture > svg')].flatMap(svg => {
             const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
             return [...svg.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize) * scale);
           })"""
    )
    assert min(heights) >= 9.2  # test_form measures them where a reader's page puts them


def test_controls_are_large_enough_to_touch_and_show_their_focus(offline):
    offline.set_viewport_size({"width": 360, "height": 700})
    for control in offline.locator(".seqlab-controls :is(input, button), .seqlab-figure summary").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 24, control.evaluate("e => e.outerHTML")
    outlined = """() => {
        const e = document.activeElement, seen = e.type === 'radio' ? e.nextElementSibling : e;
        return getComputedStyle(seen).outlineStyle === 'solid';
    }"""
    offline.keyboard.press("Tab")
    focused = 0
    while offline.evaluate("document.activeElement !== document.body"):
        focused += 1
        assert offline.evaluate(outlined), offline.evaluate("document.activeElement.outerHTML")
        offline.keyboard.press("Tab")
    # picture, |W|, T, three buttons, words; picture, radios, seed, words; words; picture, radios, seed, words
    assert focused == 7 + 4 + 1 + 4


def test_without_script_the_first_frame_stands_and_says_so(browser: Browser, folder):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "index.html").as_uri())
    assert page.locator(".seqlab-picture > svg").first.get_attribute("aria-label") == "1.0 to the power of 10"
    assert page.locator(".seqlab-controls").first.is_hidden()
    note = page.locator("noscript").first
    assert note.is_visible()
    assert note.inner_text().strip() == "The controls of this figure need JavaScript. Shown here: |W|: 1.00, T: 10."
    context.close()


def test_script_works_where_a_notebook_inserts_it(page, folder):
    """JupyterLab and Colab insert the HTML and put each script in anew, so that it runs."""
    page.goto("about:blank")
    html = (folder / "index.html").read_text(encoding="utf-8")
    page.evaluate(
        """html => {
             const host = document.createElement('div');
             host.innerHTML = html;
             host.querySelectorAll('script').forEach(old => {
               const fresh = document.createElement('script');
               for (const a of old.attributes) fresh.setAttribute(a.name, a.value);
               fresh.textContent = old.textContent;
               old.replaceWith(fresh);
             });
             document.body.appendChild(host);
           }""",
        html,
    )
    page.get_by_role("slider", name="|W|").press("End")
    assert shown(page)[1] == "1.1 to the power of 10"
    page.get_by_role("radio", name="LSTM").first.click()
    assert shown(page, 1)[1] == "LSTM 0"


def test_outside_request_is_noticed(page, problems):
    page.goto("data:text/html,<img src='https://example.org/a.png' alt=''>")
    assert any(problem.startswith("outside request: https://example.org") for problem in problems)
    problems.clear()
