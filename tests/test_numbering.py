"""Figures and tables: counted in order, by chapter; captions, narration and the state that a figure opens on."""

from __future__ import annotations

import re

import pytest

from seqbook import chapter, choice, explore, figure, table
from seqbook.numbering import numbered
from seqbook.plotting import new_figure


@pytest.fixture
def fourth():
    chapter(4)
    yield
    chapter(None)


def line(u=1.0, kind="a"):
    drawn, ax = new_figure()
    ax.plot([0, u])
    return drawn


def html(shown):
    return shown._repr_mimebundle_()["text/html"]


def test_figures_and_tables_are_counted_in_order_and_apart(fourth):
    first = explore(line, name="first", alt="{u}", u=[1, 2])
    second = figure(line(), name="second", alt="A line.")
    scores = table([["a", 1]], head=["x", "y"], caption="Scores")
    assert [first.label, second.label, scores.label] == ["Figure 4.1", "Figure 4.2", "Table 4.1"]
    assert repr(second) == "Figure 4.2 'second': A line."
    assert repr(scores).startswith("Table 4.1. Scores\n")
    assert 'id="fig-second"' in html(second)
    assert '<a class="seqlab-link" href="#fig-second" aria-label="Link to Figure 4.2">' in html(second)
    assert 'id="table-4-1"' in scores._repr_html_()


def test_a_cell_run_again_keeps_its_number_and_the_setup_cell_counts_anew(fourth):
    explore(line, name="first", alt="x")
    assert explore(line, name="second", alt="x").label == "Figure 4.2"
    assert explore(line, name="first", alt="x").label == "Figure 4.1"
    chapter(5)
    assert explore(line, name="second", alt="x").label == "Figure 5.1"


def test_without_a_chapter_nothing_is_numbered():
    assert numbered("Figure", "x") == ""
    shown = explore(line, name="free", alt="x")
    assert repr(shown) == "figure 'free': x"
    assert "figcaption" not in html(shown)
    assert "<strong>" not in table([["a", 1]], head=["x", "y"], caption="Scores")._repr_html_()


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [("4", TypeError, "expected the chapter's number, got str"), (0, ValueError, "expected a number from 1, got 0")],
)
def test_a_chapter_is_a_number(number, error, message):
    with pytest.raises(error, match=message):
        chapter(number)


def test_a_figure_opens_on_the_state_that_shows_its_point():
    kinds = choice(["a", "b"], start="a")
    shown = explore(line, name="x", alt="{u} {kind}", start={"u": 3, "kind": "b"}, u=[1, 2, 3], kind=kinds)
    assert shown.frames[shown.start].alt == "3 b"
    assert 'aria-label="3 b"' in html(shown)
    assert kinds.start == 0  # a control may serve two figures


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"v": 1}, r"expected start to name controls \(u\), got v"),
        ({"u": 7}, r"slider 'u': expected start to be one of \['1', '2'\], got 7"),
    ],
)
def test_a_start_that_is_no_state_is_refused(start, message):
    with pytest.raises(ValueError, match=message):
        explore(line, name="x", alt="x", start=start, u=[1, 2])


def test_caption_and_narration_are_text_outside_the_picture():
    shown = explore(
        line,
        name="x",
        alt="{u}",
        caption="A `line` & *more*.",
        narration=lambda u: f"h<sub>t</sub> {'< ' * u}",
        u=[1, 2],
    )
    page = re.sub(r"<(style|script).*?</\1>|<svg.*?</svg>", "", html(shown), flags=re.DOTALL)
    assert "<code>line</code> &amp; <em>more</em>." in page
    assert "<p>h<sub>t</sub> &lt; </p>" in page
    assert '<p aria-hidden="true">h<sub>t</sub> &lt; &lt; </p>' in page  # the longest keeps its place
    assert repr(shown) == "figure 'x': 1\nA `line` & *more*."


def test_words_are_not_said_twice():
    assert "In words" not in html(explore(line, name="x", alt="{u}", narration="{u}", u=[1, 2]))
    assert "In words" in html(explore(line, name="x", alt="{u}", u=[1, 2]))


def test_a_caption_that_colab_would_not_typeset_is_refused():
    with pytest.raises(ValueError, match="the caption of 'x': expected text without dollar maths"):
        figure(line(), name="x", alt="x", caption="$h_t$")


def test_only_a_picture_with_small_text_scrolls_on_a_phone():
    def small():
        drawn, ax = new_figure()
        ax.text(0, 0, "tiny", fontsize=8)
        return drawn

    assert "--least" not in html(figure(line(), name="x", alt="x")).split("</style>")[1]
    assert f'style="--least: {11 / 8 * 432:.0f}px" tabindex="0"' in html(figure(small, name="x", alt="x"))


def test_the_live_figure_has_caption_and_narration_too(fourth):
    shown = explore(line, name="x", alt="{u}", caption="A line.", narration="told {u}", u=[1, 2])
    words = shown.widget().children[-1].value
    assert '<p aria-live="polite">told 1</p>' in words
    assert "<strong>Figure 4.1</strong> A line.</p>" in words


# --- tables


ROWS = [["RNN", 0.25, "3 of 5", "fails"], ["LSTM, b = 1", 0.98123, None, "holds"]]


def test_a_table_as_text_is_aligned():
    shown = table(ROWS, head=["network", "right", "solved", "verdict"], caption="Recall", note="Five h<sub>t</sub>.")
    assert repr(shown).split("\n") == [
        "Recall",
        "network       right  solved  verdict",
        "RNN            0.25  3 of 5  fails",
        "LSTM, b = 1  0.9812       –  holds",
        "Five h_t.",
    ]


def test_a_table_as_html_names_its_rows_and_columns():
    page = table(ROWS, head=["<network>", "right", "solved", "verdict"], caption="Recall *now*")._repr_html_()
    assert page.count('scope="col"') == 4
    assert page.count('scope="row"') == 2
    assert "<em>now</em></caption>" in page
    assert "&lt;network&gt;" in page
    assert page.count('<td data-head="right" class="seqlab-number">') == 2
    assert '<td data-head="verdict"><span>' in page


@pytest.mark.parametrize(
    ("cells", "align"),
    [
        (["57 %", None], "r"),
        (["1.2e-3", "−3"], "r"),
        (["0.91 ± 0.02", "0.5 (0.4 to 0.6)"], "r"),
        (["10⁻²³", "< 0.1 %"], "r"),
        (["LSTM", "3"], "l"),
        (["1986: backpropagation"], "l"),
        ([None], "l"),
    ],
)
def test_numbers_go_to_the_right(cells, align):
    assert table([[cell] for cell in cells], head=["x"], caption="c").align == align
    assert table([[cell] for cell in cells], head=["x"], caption="c", align="r").align == "r"


def test_only_a_wide_table_is_stacked_on_a_phone():
    short = table([["RNN", 1]], head=["network", "lag"], caption="c")
    wide = table([["RNN", *["0.25 to 0.31"] * 4]], head=["network", *"abcd"], caption="c")
    assert '"seqlab-table"' in short._repr_html_()
    assert '"seqlab-table seqlab-stack"' in wide._repr_html_()


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        ([], {}, ValueError, "table 'c': expected at least one row, got none"),
        ([["a"]], {}, ValueError, "expected 2 cells in each row as in head, got 1"),
        (["ab"], {}, TypeError, "expected each row to be a list of cells, got the text 'ab'"),
        ([["a", 1]], {"align": "lx"}, ValueError, "expected align to hold l or r for each of 2 columns, got 'lx'"),
        ([["a", 1]], {"note": "$x$"}, ValueError, "the note: expected text without dollar maths"),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(rows, options, error, message):
    with pytest.raises(error, match=message):
        table(rows, head=["x", "y"], caption="c", **options)
