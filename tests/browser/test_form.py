"""The form of a chapter, on a small book built with the settings, extensions and styles of the whole one.

Numbers, anchors and links that keep a state; the code switch; text, tables, code and outputs on a phone; boxes; all of
it in light, in dark, and without JavaScript.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from seqbook import chapter, explore, figure, slider, steps, table
from seqbook.plotting import new_figure

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
QUESTION = """# 1 · The sequence problem

**What must a network be able to do before it can read?** It must keep what came first until it is asked.

*You need* vectors and a little Python. *Reading:* 20 minutes; *with code:* 40.
"""
LONG = "a line of output that is longer than a phone is wide, so that it must scroll there: 0.123 0.234"
CODE = f"# {'a comment up to column 80, as wide as code may be'.ljust(78, '.')}\nprint(long)"


def power(u, T):
    drawn, ax = new_figure(height=3)
    ax.plot([u**t for t in range(T + 1)])
    ax.set(xlim=(0, 100), xlabel="number of steps T", ylabel="product")
    return drawn


def tiny():
    drawn, ax = new_figure()
    ax.text(0.2, 0.5, "text that was drawn too small for a phone", fontsize=8)
    return drawn


def cell(source, shown=None, *tags):
    outputs = []
    if isinstance(shown, str):
        outputs = [new_output("stream", name="stdout", text=shown)]
    elif shown is not None:
        page = shown._repr_html_() if hasattr(shown, "_repr_html_") else shown._repr_mimebundle_()["text/html"]
        outputs = [new_output("display_data", data={"text/html": page, "text/plain": repr(shown)})]
    return new_code_cell(source, outputs=outputs, execution_count=1, metadata={"tags": list(tags)})


def cells():
    chapter(1)
    moving = explore(
        power,
        name="power",
        alt="{u} to the power of {T}",
        caption="A factor a little below 1 *vanishes*.",
        narration=lambda u, T: f"After {T} steps {u} has become {u**T:.2g}." + " Nothing is left." * 9 * (u < 1),
        start={"u": 0.9, "T": 50},
        u=slider([0.5, 0.9, 1.0, 1.1], label="factor"),
        T=steps([25, 50, 100], format="{} steps"),
    )
    still = figure(tiny, name="still", alt="Small words.", caption="A still figure.")
    wide = table(
        [["RNN", 0.25, "0.20 to 0.31", 3, "3 of 5"], ["LSTM, forget bias 1", 0.98123, "0.97 to 0.99", 200, None]],
        head=["network", "right", "lowest to highest", "longest lag", "seeds that solved it"],
        caption="Recall after a delay",
        note="Medians of five seeds.",
    )
    short = table([["RNN", 0.25, 3], ["LSTM", 0.98, 200]], head=["network", "right", "lag"], caption="A short one")
    chapter(None)
    return [
        new_markdown_cell(QUESTION),
        cell("import seqbook", None, "hide-input"),
        cell("u = 0.9", None, "remove-input"),
        cell("def power(u, T): ...", None, "hide-input"),
        cell("explore(power, ...)", moving, "hide-input"),
        new_markdown_cell("> **Predict.** What is left?\n\nSee [Figure 1.1](#fig-power), [Table 1.1](#table-1-1)."),
        new_markdown_cell("## 1. Code"),
        cell(CODE, LONG + "\n"),
        cell("figure(tiny, ...)", still, "remove-input"),
        cell("table(...)", wide, "remove-input"),
        cell("table(...)", short, "remove-input"),
        new_markdown_cell("> **What to do.** Clip.\n>\n> - Watch the gradient.\n\n> A plain quote."),
    ]


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """The small book's folder of pages."""
    folder = tmp_path_factory.mktemp("book")
    for name in ("ext", "assets"):
        shutil.copytree(ROOT / name, folder / name)
    settings = (ROOT / "_config.yml").read_text().replace("execute_notebooks: cache", "execute_notebooks: 'off'")
    (folder / "_config.yml").write_text(settings)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/intro\nchapters:\n  - file: notebooks/01-tiny\n")
    for name in ("book", "notebooks"):
        (folder / name).mkdir()
    (folder / "book" / "references.bib").touch()
    (folder / "book" / "intro.md").write_text("# Begin\n\n[A figure](../notebooks/01-tiny.ipynb#fig-power).\n")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    language = {"name": "python", "pygments_lexer": "ipython3"}
    notebook = new_notebook(cells=cells(), metadata={"kernelspec": kernel, "language_info": language})
    nbformat.write(notebook, folder / "notebooks" / "01-tiny.ipynb")
    command = [Path(sys.executable).parent / "jupyter-book", "build", folder, "--all", "-W", "-n", "--keep-going"]
    built = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert built.returncode == 0, (built.stdout + built.stderr)[-3000:]
    return folder / "_build" / "html"


@pytest.fixture
def address(book) -> str:
    return (book / "notebooks" / "01-tiny.html").as_uri()


def visit(page: Page, address: str, width: int = 1400, height: int = 900) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(address)
    page.evaluate("window.MathJax && MathJax.startup.promise")


def alt(page: Page) -> str:
    return page.locator("#fig-power .seqlab-picture > svg").get_attribute("aria-label") or ""


# --- figures


def test_the_first_figure_begins_on_the_first_screen(page, address):
    visit(page, address)
    box = page.locator("#fig-power .seqlab-picture").bounding_box()
    assert box["y"] < 400
    assert box["y"] + box["height"] < 900


def test_a_figure_has_number_caption_and_a_link_that_shows_on_hover_and_focus(page, address):
    visit(page, address)
    caption = page.locator("#fig-power figcaption")
    assert caption.inner_text().rstrip(" #") == "Figure 1.1 A factor a little below 1 vanishes."
    assert page.locator("#fig-still figcaption").inner_text().startswith("Figure 1.2 A still figure.")
    link = page.get_by_role("link", name="Link to Figure 1.1")
    opacity = "link => getComputedStyle(link).opacity"
    assert link.evaluate(opacity) == "0"
    caption.hover()
    assert link.evaluate(opacity) == "1"
    page.mouse.move(0, 0)
    page.locator("#fig-power summary").focus()
    page.keyboard.press("Shift+Tab")
    assert link.evaluate("link => link === document.activeElement")
    assert link.evaluate(opacity) == "1"


def test_references_lead_to_figure_and_table(page, address):
    visit(page, address)
    for name, anchor in [("Figure 1.1", "fig-power"), ("Table 1.1", "table-1-1")]:
        page.get_by_role("link", name=name, exact=True).click()
        assert page.url.endswith("#" + anchor)
        assert 0 <= page.locator("#" + anchor).bounding_box()["y"] < 450


def test_a_link_keeps_the_state(page, address):
    visit(page, address)
    assert alt(page) == "0.9 to the power of 50"
    page.get_by_role("slider", name="factor").press("End")
    page.get_by_role("button", name="Next").click()
    page.get_by_role("link", name="Link to Figure 1.1").click()
    assert page.url.endswith("#fig-power&u=1.1&T=100%20steps")
    page.goto("about:blank")
    visit(page, f"{address}#fig-power&u=0.5&T=25%20steps", height=500)
    assert alt(page) == "0.5 to the power of 25"
    assert page.get_by_role("slider", name="factor").input_value() == "0"
    assert page.locator("#fig-power .seqlab-picture").bounding_box()["y"] < 500
    page.evaluate("location.hash = 'fig-power&u=1.0'")
    page.locator("svg[aria-label='1.0 to the power of 25']").wait_for()


@pytest.mark.parametrize("state", ["&u=7", "&u=%E0%A4%A", "&u", "&v=1", ""])
def test_a_link_to_a_state_that_is_none_opens_as_the_figure_opens(page, address, state):
    visit(page, f"{address}#fig-power{state}")
    assert alt(page) == "0.9 to the power of 50"


def test_narration_follows_the_frame_and_moves_nothing(page, address):
    visit(page, address)
    told = page.locator("#fig-power .seqlab-narration > p").first
    caption = page.locator("#fig-power figcaption")
    before = caption.bounding_box()["y"]
    assert told.inner_text().startswith("After 50 steps 0.9 has become 0.0052. Nothing")
    page.get_by_role("slider", name="factor").press("End")
    assert told.inner_text() == "After 50 steps 1.1 has become 1.2e+02."
    assert caption.bounding_box()["y"] == before
    said = page.locator("#fig-power [aria-live=polite]").filter(has_text="After 50 steps 1.1")
    said.wait_for(state="attached")


# --- a phone


def test_text_of_pictures_is_legible_at_390_pixels(page, address):
    visit(page, address, width=390)
    found = page.evaluate(
        """() => [...document.querySelectorAll('.seqlab-picture > svg text')].map(text => {
             const svg = text.closest('svg');
             const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
             return [text.textContent, parseFloat(getComputedStyle(text).fontSize) * scale];
           })"""
    )
    assert len(found) > 10
    assert [name for name, size in found if size < 11] == []


def test_pictures_are_whole_on_a_phone_and_small_text_scrolls_by_key(page, address):
    visit(page, address, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    beyond = page.evaluate(
        """() => [...document.querySelectorAll('#fig-power svg text')].filter(text => {
             const box = text.getBoundingClientRect();
             let left = 0, right = innerWidth; // what the boxes around it leave in view
             for (let up = text.parentElement; up !== document.body; up = up.parentElement) {
               if (up.tagName === 'g' || getComputedStyle(up).overflowX === 'visible') continue;
               left = Math.max(left, up.getBoundingClientRect().left);
               right = Math.min(right, up.getBoundingClientRect().right);
             }
             return box.left < left - 1 || box.right > right + 1;
           }).map(text => text.textContent)"""
    )
    assert beyond == []
    picture = page.locator("#fig-still .seqlab-picture")
    assert picture.evaluate("p => p.scrollWidth > p.clientWidth")
    picture.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#fig-still .seqlab-picture').scrollLeft > 0")


def test_numbers_of_a_table_are_in_sight_at_390_pixels(page, address):
    visit(page, address, width=390)
    for cell in page.locator(".seqlab-table :is(td > span, tbody th, caption)").all():
        box = cell.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390, cell.inner_text()
    stacked = page.locator("#table-1-1 tbody tr").nth(1)
    assert stacked.locator("td").first.evaluate("td => getComputedStyle(td, '::before').content") == '"right"'
    heights = [row.bounding_box()["y"] for row in page.locator("#table-1-2 tbody tr").first.locator("th, td").all()]
    assert max(heights) - min(heights) < 2  # a short table stays a table


def test_numbers_of_a_table_are_aligned(page, address):
    visit(page, address)
    rights = [
        page.locator(f"#table-1-1 tbody tr:nth-child({row}) td:nth-child(2) span").evaluate(
            "span => [span.getBoundingClientRect().right, getComputedStyle(span).fontVariantNumeric]"
        )
        for row in (1, 2)
    ]
    assert rights[0] == rights[1]
    assert rights[0][1] == "tabular-nums"


def test_what_scrolls_shows_a_shadow_and_80_columns_do_not_scroll(page, address):
    visit(page, address, width=1200)
    code = page.locator(".cell_input pre").filter(has_text="column 80")
    assert code.evaluate("pre => pre.scrollWidth <= pre.clientWidth")
    output = page.locator(".output.stream pre")
    for width in (1200, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for box in (code, output):
            attached = box.evaluate("e => getComputedStyle(e).backgroundAttachment")
            assert attached == "local, local, scroll, scroll, scroll"
    assert output.evaluate("pre => pre.scrollWidth > pre.clientWidth")


# --- the page


def folded(page: Page) -> list[bool]:
    return page.locator(".cell > details.above-input").evaluate_all("folds => folds.map(fold => !fold.open)")


def test_one_switch_shows_all_code_what_teaches_or_none_and_is_remembered(page, address):
    visit(page, address)
    switch = page.get_by_role("combobox", name="Code")
    code = page.locator(".cell_input pre").filter(has_text="column 80")
    assert switch.input_value() == "teaches"
    assert folded(page) == [True] * 3
    assert code.is_visible()
    switch.focus()
    page.keyboard.press("Home")  # all
    assert folded(page) == [False] * 3
    page.keyboard.press("End")  # none
    assert not page.locator(".cell_input").filter(visible=True).count()
    assert not page.locator("details.above-input > summary").filter(visible=True).count()
    assert page.locator("#fig-power").is_visible()
    assert page.locator(".output.stream").is_visible()
    page.reload()
    assert switch.input_value() == "none"
    assert not code.is_visible()
    switch.select_option("teaches")
    assert folded(page) == [True] * 3
    assert code.is_visible()


def test_folded_cells_in_a_row_are_one_line(page, address):
    visit(page, address)
    line = page.locator("details.above-input > summary").filter(visible=True)
    assert line.inner_text() == "Show the code (3 cells)"
    line.press("Enter")
    page.wait_for_function("[...document.querySelectorAll('details.above-input')].every(fold => fold.open)")
    assert page.get_by_text("def power").is_visible()
    assert page.get_by_text("explore(power").is_visible()
    line.press("Enter")
    page.get_by_text("explore(power").wait_for(state="hidden")
    assert folded(page) == [True] * 3


def test_a_page_without_code_has_no_switch(page, book):
    page.goto((book / "book" / "intro.html").as_uri())
    assert not page.locator(".code-switch").count()


def test_quotes_that_say_what_to_do_or_predict_are_boxes(page, address):
    visit(page, address)
    classes = page.locator("blockquote").evaluate_all("quotes => quotes.map(quote => quote.className)")
    assert classes == ["predict", "what-to-do", ""]
    border = "quote => getComputedStyle(quote).borderTopStyle"
    assert [quote.evaluate(border) for quote in page.locator("blockquote").all()] == ["solid", "solid", "none"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390, 360])
def test_axe_finds_nothing(page, address, axe, scheme, width):
    page.emulate_media(color_scheme=scheme)
    visit(page, address, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []


def test_without_javascript_all_can_be_read(browser: Browser, address):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1000, "height": 800})
    page = context.new_page()
    page.goto(address)
    for part in ["#fig-power svg", "#fig-power figcaption", ".cell > .cell_input pre", "#table-1-1", ".what-to-do"]:
        assert page.locator(part).first.is_visible(), part
    assert alt(page) == "0.9 to the power of 50"
    assert page.locator("#fig-power .seqlab-narration > p").first.inner_text().startswith("After 50 steps 0.9")
    page.locator("details.above-input > summary").first.click()
    assert page.get_by_text("import seqbook").is_visible()
    context.close()
