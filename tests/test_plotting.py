"""seqbook.plotting: colours that everyone can tell apart, pictures that show the numbers they were given."""

from __future__ import annotations

import itertools
import re

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from seqbook import plotting
from seqbook.plotting import (
    COLOURS,
    GREY,
    INK,
    LINES,
    MARKERS,
    gradient_profile,
    heatmap,
    histogram,
    hover,
    hover_points,
    in_words,
    log_scale,
    look,
    new_figure,
    spread,
)
from seqbook.plotting.alignment import alignment

# How dichromats see linear RGB. Source: Machado, Oliveira and Fernandes 2009, severity 1.0.
SIGHT = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """WCAG 2 contrast ratio."""
    light, dark = sorted((linear(c) @ XYZ[1] for c in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(linear_rgb):
    t = np.clip(linear_rgb, 0, 1) @ XYZ.T / XYZ.sum(axis=1)
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("page", ["#FFFFFF", "#14181E", "#121212"])
def test_colours_stand_out_from_light_and_dark_pages(page):
    for colour in [*COLOURS.values(), GREY]:
        assert contrast(colour, page) >= 3, (colour, page)


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_stay_apart_for_every_kind_of_colour_sight(sight):
    seen = {name: lab(np.array(SIGHT[sight]) @ linear(colour)) for name, colour in COLOURS.items()}
    apart = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(seen, 2)}
    assert min(apart.values()) >= 18, min(apart, key=apart.get)
    assert min(apart[p] for p in itertools.combinations(["RNN", "LSTM", "GRU"], 2)) >= 25


def test_colour_never_carries_the_meaning_alone():
    assert set(COLOURS) == set(LINES) == set(MARKERS)
    assert len({str(line) for line in LINES.values()}) == len(COLOURS)
    assert len(set(MARKERS.values())) == len(COLOURS)


def test_look_finds_the_architecture_in_a_label():
    assert look("GRU, reset before") == look("GRU")
    assert look("IRNN")["color"] == COLOURS["RNN"]
    assert look("mean")["color"] == INK


def test_labels_of_one_architecture_differ_in_dashes_and_marker():
    _, ax = new_figure(right=2)
    gradient_profile(ax, {f"LSTM, bias {b}": 0.9 ** np.arange(5) for b in range(5)})
    handles = [line for line in ax.lines if line.get_transform() == ax.transAxes]
    assert {line.get_color() for line in handles} == {COLOURS["LSTM"]}
    assert len({line.get_marker() for line in handles}) == 5


def test_style_is_left_again():
    before = mpl.rcParams["font.size"]
    with plotting.style():
        assert mpl.rcParams["svg.fonttype"] == "none"
    assert mpl.rcParams["font.size"] == before


def test_new_figure_has_the_margins_asked_for():
    _, axes = new_figure(2, 2, height=5, left=1, right=0.5, bottom=0.5, top=0.5, gap=0.5)
    assert axes.shape == (2, 2)
    box = axes[0, 0].get_position()
    np.testing.assert_allclose([box.x0 * 6, box.x1 * 6, (1 - box.y1) * 5], [1, 3, 0.5])
    np.testing.assert_allclose([axes[0, 1].get_position().x0 * 6, axes[1, 0].get_position().y0 * 5], [3.5, 0.5])


def test_new_figure_refuses_margins_that_leave_nothing():
    with pytest.raises(ValueError, match=r"leave room for 1 x 3 panels in 6 x 3\.2 in"):
        new_figure(1, 3, left=5)


def test_hover_points_are_in_svg_units_and_inside_the_axes():
    figure, ax = new_figure(left=1, right=1, bottom=1, top=0.2, height=3.2)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    hover(ax, [0, 1, 2, np.nan], [0, 1, 0, 0], ["low", "high", "outside", "unknown"])
    assert hover_points(figure) == [(72.0, 158.4, "low"), (360.0, 14.4, "high")]


def test_hover_on_a_logarithmic_axis():
    figure, ax = new_figure(left=1, right=1, bottom=1, top=0.2, height=3.2)
    log_scale(ax)
    ax.set(xlim=(0, 1), ylim=(1e-4, 1))
    hover(ax, [0.5], [1e-2], lambda x, y: f"{x:g}, {y:g}")
    assert hover_points(figure) == [(216.0, 86.4, "0.5, 0.01")]


def test_hover_refuses_labels_that_do_not_fit():
    _, ax = new_figure()
    with pytest.raises(ValueError, match=r"hover: expected x, y and labels of one length, got \(2,\), \(2,\) and 1"):
        hover(ax, [1, 2], [1, 2], ["one"])


def test_ticks_of_a_logarithmic_axis_are_plain_text():
    figure, ax = new_figure()
    log_scale(ax)
    ax.set_ylim(1e-23, 1e2)
    figure.draw_without_rendering()
    texts = [tick.get_text() for tick in ax.get_yticklabels()]
    assert len(texts) > 3
    assert all(re.fullmatch("10⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+", text) for text in texts)
    assert ax.yaxis.get_major_formatter()(0.5, 0) == "0.5"


def test_gradient_profile_draws_median_and_range_of_the_seeds():
    _, ax = new_figure(right=1.2)
    seeds = np.array([[1e-3, 1.0], [1e-5, 2.0], [1e-4, 4.0]])
    gradient_profile(ax, {"LSTM": seeds})
    line = ax.lines[0]
    np.testing.assert_allclose(line.get_xydata(), [[1, 1e-4], [2, 2.0]])
    assert line.get_color() == COLOURS["LSTM"]
    band = ax.collections[0].get_paths()[0].vertices
    assert {1e-5, 1e-3, 1.0, 4.0} <= set(band[:, 1])
    assert ax.get_xlim() == (2, 1)  # backward
    assert ax.texts[0].get_text() == "LSTM"


def test_gradient_profile_stops_where_the_gradient_is_zero_or_not_a_number():
    _, ax = new_figure(right=1.2)
    gradient_profile(ax, {"RNN": [np.nan, 0.0, 1e-30, 1.0]}, ylim=(1e-30, 1))
    drawn = np.ma.filled(np.ma.masked_invalid(ax.lines[0].get_ydata()), -1)
    np.testing.assert_array_equal(drawn, [-1, -1, 1e-30, 1.0])
    assert ax.texts[0].get_position()[1] == 0  # labelled at the end of what is seen


def test_labels_at_the_ends_do_not_touch():
    figure, ax = new_figure(right=1.6)
    gradient_profile(ax, {name: 0.99 ** np.arange(10) for name in COLOURS}, ylim=(1e-9, 1))
    heights = sorted(text.get_position()[1] for text in ax.texts)  # in heights of the axes
    assert min(np.diff(heights)) * ax.bbox.height * 72 / figure.dpi > 12  # points
    assert 0 <= heights[0] < heights[-1] <= 1


@pytest.mark.parametrize("values", [np.zeros((2, 2, 2)), np.zeros((0,)), 1.0])
def test_gradient_profile_refuses_other_shapes(values):
    _, ax = new_figure()
    with pytest.raises(ValueError, match=r"gradient_profile: expected 'RNN' of shape \(X,\) or \(S, X\)"):
        gradient_profile(ax, {"RNN": values})


def test_nothing_to_draw_is_an_error():
    _, ax = new_figure()
    with pytest.raises(ValueError, match="expected at least one label with its array, got none"):
        spread(ax, [1], {})


def test_spread_shows_each_seed():
    figure, ax = new_figure(right=1.2)
    runs = np.array([[1.0, 0.5], [0.9, 0.7], [0.8, 0.9]])
    spread(ax, [1, 16], {"GRU": runs})
    dots = [line for line in ax.lines if line.get_markersize() == 3.5]
    np.testing.assert_array_equal([line.get_ydata() for line in dots], runs)
    assert hover_points(figure)[1][2] == "GRU at 16: 0.7 (0.5 to 0.9, 3 seeds)"


def test_spread_refuses_an_array_that_does_not_fit():
    _, ax = new_figure()
    with pytest.raises(ValueError, match=r"spread: expected 'GRU' of shape \(S, X\) with X=3, got \(1, 2\)"):
        spread(ax, [1, 2, 3], {"GRU": [1, 2]})


def test_histogram_shows_shares():
    figure, ax = new_figure()
    histogram(ax, {"RNN": [[0.1, 0.1], [0.9, 2.0]]}, bins=2, limits=(0, 1))
    np.testing.assert_array_equal(ax.patches[0].get_data().values, [50, 25])  # 2.0 lies outside, but counts
    assert [label for *_, label in hover_points(figure)] == ["RNN, 0 to 0.5: 50 %", "RNN, 0.5 to 1: 25 %"]


def test_histogram_refuses_samples_without_a_number():
    _, ax = new_figure()
    with pytest.raises(ValueError, match="histogram: expected at least one finite value for each label"):
        histogram(ax, {"RNN": [np.nan]})


def test_heatmap_prints_few_cells_and_lets_many_be_read():
    figure, ax = new_figure()
    heatmap(ax, [[1, -2]], rows=["a"], columns=["b", "c"], quantity="w")
    assert [text.get_text() for text in ax.texts] == ["1", "-2"]
    assert ax.collections[0].get_clim() == (-2, 2)  # both signs: symmetric
    figure, ax = new_figure()
    heatmap(ax, np.eye(11), rows=[*"abcdefghijk"], columns=[*"ABCDEFGHIJK"], quantity="w")
    assert not ax.texts
    assert "b, B: 1" in [label for *_, label in hover_points(figure)]


def test_heatmap_refuses_names_that_do_not_fit():
    _, ax = new_figure()
    with pytest.raises(ValueError, match="expected a matrix of 1 rows x 1 columns as named, got shape"):
        heatmap(ax, [[1, 2]], rows=["a"], columns=["b"], quantity="w")


def test_torch_tensors_are_taken_without_knowing_torch():
    tensor = torch.tensor([[0.5, 1.0]], dtype=torch.bfloat16, requires_grad=True)
    assert in_words({"GRU": tensor}) == "GRU: 0.5 at step 1, 1 at step 2."


def test_in_words_says_what_is_missing():
    assert in_words({"GRU": [np.nan, 1.0]}, [4, 8], at="lag") == "GRU: no value at lag 4, 1 at lag 8."


# Alignment


def squares(ax):
    """Side and place of each filled square, but for the band behind the chosen row."""
    patches = [patch for patch in ax.patches if patch.get_fill() and patch.get_width() <= 1]
    return {(patch.get_y() + patch.get_height() / 2, patch.get_x() + patch.get_width() / 2): patch for patch in patches}


def test_area_of_an_alignment_is_the_weight_in_its_row_and_column():
    weights = np.array([[0.7, 0.3, 0.0], [0.04, 0.16, 0.8]])
    _, ax = new_figure()
    alignment(ax, weights, ["the", "black", "cat"], ["chat", "noir"])
    drawn = squares(ax)
    assert set(drawn) == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)}  # 0 has no square
    areas = {at: patch.get_width() * patch.get_height() for at, patch in drawn.items()}
    for (i, j), area in areas.items():
        assert area == pytest.approx(0.94**2 * weights[int(i), int(j)])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["the", "black", "cat"]
    assert not ax.texts


def test_the_chosen_row_of_an_alignment_shows_its_numbers_and_where_it_looks_most():
    figure, ax = new_figure()
    alignment(ax, [[0.7, 0.3], [0.04, 0.96]], ["black", "cat"], ["chat", "noir"], row=1, truth=[1, None])
    assert [text.get_text() for text in ax.texts] == ["96"]  # 4 % has no number
    assert [label.get_text() for label in ax.get_xticklabels() if label.get_fontweight() == "bold"] == ["cat"]
    frames = [patch for patch in ax.patches if not patch.get_fill()]
    assert [(frame.get_y() + 0.47, frame.get_x() + 0.47) for frame in frames] == [(0, 1)]
    labels = [label for _, _, label in hover_points(figure)]
    assert labels[3] == "noir looks at cat: 96 %"
    assert len(labels) == 4


@pytest.mark.parametrize(
    ("weights", "more", "message"),
    [
        (np.ones((3, 2)) / 2, {}, "2 words written x 2 words read.*got shape \\(3, 2\\)"),
        (np.ones((2, 2)) / 2, {"truth": [1]}, "a truth for each word written or none"),
        ([[0.5, 0.5], [-0.2, 1.2]], {}, "weights from 0 to 1, got -0.2 to 1.2"),
        ([[0.5, np.nan], [0.5, 0.5]], {}, "weights from 0 to 1"),
    ],
)
def test_alignment_refuses_what_does_not_fit(weights, more, message):
    _, ax = new_figure()
    with pytest.raises(ValueError, match=message):
        alignment(ax, weights, ["black", "cat"], ["chat", "noir"], **more)
