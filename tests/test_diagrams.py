"""seqbook.plotting.diagrams: words and arrays become boxes, arrows, cells and bars where they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from seqbook.plotting import hover_points
from seqbook.plotting.diagrams import MINUS, PLUS, arrow, box, canvas, caption, cells, gauges, timeline, tokens


@pytest.fixture
def ax():
    return canvas(3)[1]


def of_kind(ax, kind):
    return [patch for patch in ax.patches if type(patch) is kind]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def filled(ax):
    return [patch for patch in of_kind(ax, Rectangle) if patch.get_fill()]


def test_a_canvas_is_measured_in_inches():
    figure, ax = canvas(2.5)
    assert figure.get_size_inches().tolist() == [6, 2.5]
    corners = ax.transData.transform([(0, 0), (6, 2.5)]) / figure.dpi
    np.testing.assert_allclose(corners, [(0, 0), (6, 2.5)], atol=1e-9)
    assert not ax.axison


def test_a_box_stands_about_its_centre_and_carries_its_text(ax):
    box(ax, 2, 1, "two\nlines", width=1, height=0.5)
    x, y, width, height = of_kind(ax, FancyBboxPatch)[0].get_bbox().bounds
    np.testing.assert_allclose([x, y, width, height], [1.5, 0.75, 1, 0.5])
    assert texts(ax) == ["two\nlines"]
    assert ax.texts[0].get_position() == (2, 1)


def test_a_faded_box_is_paler_and_dashed(ax):
    box(ax, 1, 1, "here")
    box(ax, 3, 1, "gone", faded=True)
    here, gone = of_kind(ax, FancyBboxPatch)
    assert gone.get_edgecolor()[3] < here.get_edgecolor()[3]
    assert gone.get_linestyle() != here.get_linestyle()
    assert ax.texts[1].get_alpha() < 1


def test_a_heavier_arrow_is_thicker_and_darker(ax):
    for weight in (0.0, 0.5, 1.0):
        arrow(ax, (1, 1), (5, 2), weight=weight)
    drawn = of_kind(ax, FancyArrowPatch)
    widths = [patch.get_linewidth() for patch in drawn]
    assert widths == sorted(set(widths))
    alphas = [patch.get_alpha() for patch in drawn]
    assert alphas == sorted(set(alphas))
    assert alphas[-1] == 1


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_an_arrow_refuses_a_weight_outside_its_range(ax, weight):
    with pytest.raises(ValueError, match=r"arrow: expected a weight from 0 to 1, got .*; divide by the largest one"):
        arrow(ax, (0, 0), (1, 1), weight=weight)


def test_an_arrow_bends_to_the_left_where_curve_is_positive(ax):
    arrow(ax, (1, 1), (5, 1), curve=0.5)
    arrow(ax, (1, 1), (5, 1), curve=-0.5)
    heights = [patch.get_path().vertices[:, 1].mean() for patch in of_kind(ax, FancyArrowPatch)]
    assert heights[0] > 1 > heights[1]


def test_words_stand_in_a_row_in_their_order_without_touching(ax):
    words = ["I", "sat", "on", "the", "embankment"]
    centres = tokens(ax, words, 2, left=0.5, right=5.5)
    assert texts(ax) == words
    bounds = [patch.get_bbox().bounds for patch in of_kind(ax, FancyBboxPatch)]
    lefts, widths = np.array([b[0] for b in bounds]), np.array([b[2] for b in bounds])
    np.testing.assert_allclose(lefts + widths / 2, centres)
    np.testing.assert_allclose([lefts[0], lefts[-1] + widths[-1]], [0.5, 5.5])
    assert (lefts[1:] > (lefts + widths)[:-1]).all()
    assert widths.argmax() == 4
    assert widths.argmin() == 0


def test_the_word_of_now_stands_out_and_a_gone_one_is_pale(ax):
    tokens(ax, ["a", "b", "c"], 1, now=[1], faded=[0, 1], colour="#8B56D8")
    gone, now, other = of_kind(ax, FancyBboxPatch)
    assert now.get_edgecolor() == to_rgba("#8B56D8")
    assert gone.get_linestyle() == "--"
    assert other.get_linestyle() == now.get_linestyle() == "-"


def test_tokens_need_a_word(ax):
    with pytest.raises(ValueError, match="tokens: expected at least one word, got none"):
        tokens(ax, [], 1)


@pytest.mark.parametrize("as_given", [list, np.array, torch.tensor])
def test_cells_are_filled_up_and_down_in_proportion(ax, as_given):
    cells(ax, as_given([0.5, -1.0, 0.0, 3.0]), 1.0, left=1, right=5, height=0.4, limit=2.0)
    heights = [patch.get_height() for patch in filled(ax)]
    np.testing.assert_allclose(heights, [0.05, -0.1, 0, 0.2])  # the last one is cut at the limit
    assert {patch.get_y() for patch in filled(ax)} == {1.0}
    np.testing.assert_allclose([patch.get_x() for patch in filled(ax)], [1, 2, 3, 4])
    assert filled(ax)[0].get_facecolor() == to_rgba(PLUS)
    assert filled(ax)[1].get_facecolor() == to_rgba(MINUS)


@pytest.mark.parametrize("values", [[], [[1.0]], [float("nan")]])
def test_cells_refuse_what_is_no_vector(ax, values):
    with pytest.raises(
        ValueError, match=r"cells: expected a vector of at least one number and no NaN, got shape .*call"
    ):
        cells(ax, values, 1)


def test_gauges_are_full_at_one_and_say_their_per_cent(ax):
    gauges(ax, [1, 2, 3], [0.0, 0.25, 1.0], 0.5, labels=["a", "b", "c"], height=0.8)
    np.testing.assert_allclose([patch.get_height() for patch in filled(ax)], [0, 0.2, 0.8])
    assert texts(ax) == ["0 %", "a", "25 %", "b", "100 %", "c"]


def test_an_unknown_gauge_is_empty_and_dotted(ax):
    gauges(ax, [1, 2], [float("nan"), 0.5], 0.5)
    assert len(filled(ax)) == 1
    assert texts(ax) == ["50 %"]
    assert of_kind(ax, Rectangle)[0].get_linestyle() == ":"


def test_chance_crosses_every_gauge(ax):
    gauges(ax, [1, 2], [0.5, 0.6], 1.0, height=0.8, width=0.4, chance=0.125)
    assert [line.get_ydata()[0] for line in ax.lines] == [1.1, 1.1]
    assert ax.lines[1].get_xdata().tolist() == [1.8, 2.2]


def test_gauges_refuse_what_does_not_fit(ax):
    with pytest.raises(ValueError, match=r"gauges: expected .* of one length, got \(2,\), \(1,\) and 0 labels"):
        gauges(ax, [1, 2], [0.5], 1)
    with pytest.raises(ValueError, match=r"one length, got \(1,\), \(1,\) and 2 labels; leave labels out"):
        gauges(ax, [1], [0.5], 1, labels=["a", "b"])
    with pytest.raises(ValueError, match=r"gauges: expected shares from 0 to 1, got 0\.5 to 50"):
        gauges(ax, [1, 2], [0.5, 50], 1)


def test_a_caption_is_wrapped_downward_and_keeps_what_belongs_together(ax):
    caption(ax, "Ann's order is down to 27\N{NO-BREAK SPACE}% now.", 1, columns=25)
    assert texts(ax) == ["Ann's order is down to", "27\N{NO-BREAK SPACE}% now."]
    assert ax.texts[1].get_position()[1] < ax.texts[0].get_position()[1] == 1


def test_events_of_a_timeline_can_be_read(ax):
    timeline(ax, [1997, 2014, 2014], ["LSTM", "GRU", "seq2seq"], 1, now=1, texts=["a", "b", "c"])
    assert [label for _, _, label in hover_points(ax.get_figure())] == ["a", "b", "c"]
    assert [text for text in texts(ax) if text.isdigit()] == ["2000", "2005", "2010", "2015"]
    assert [text.get_text() for text in ax.texts if text.get_fontweight() == "bold"] == ["GRU"]


def test_a_timeline_is_to_scale_and_its_names_do_not_overlap(ax):
    years = [1986, 1996, 2014.4, 2014.7, 2015]
    timeline(ax, years, ["a", "b", "c", "d", "e"], 1)
    at = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    scale = np.diff(at) / np.diff(years)
    np.testing.assert_allclose(scale, scale[0])
    ticks = {text.get_text(): text.get_position()[0] for text in ax.texts if text.get_text().isdigit()}
    np.testing.assert_allclose(ticks["2015"], at[-1])
    names = [text.get_position()[0] for text in ax.texts if text.get_text() in "abcde"]
    assert np.diff(names).min() > 0.35


def test_what_is_to_come_is_pale(ax):
    timeline(ax, [1, 2, 3], ["a", "b", "c"], 1, now=1)
    alphas = [line.get_alpha() for line in ax.lines if line.get_marker() == "o" and line.get_alpha()]
    assert alphas == [1, 1, 0.4]


@pytest.mark.parametrize(
    ("years", "names", "labels"),
    [([2000, 1990], ["a", "b"], []), ([1990], ["a", "b"], []), ([1990], ["a"], ["x", "y"])],
)
def test_a_timeline_refuses_what_does_not_fit(ax, years, names, labels):
    with pytest.raises(ValueError, match=r"timeline: expected rising years .*; sort the events"):
        timeline(ax, years, names, 1, texts=labels)
