"""seqbook.interactive: one object, alive in a page and under a kernel, the same bytes every time. See also browser/."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

import seqbook.interactive.explorable
from seqbook.interactive import choice, explore, slider, steps
from seqbook.interactive.svg import _path, pieces, to_svg
from seqbook.plotting import INK, gradient_profile, hover, new_figure

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def line(slope=1.0, kind="a"):
    figure, ax = new_figure()
    ax.plot([0, slope], marker="o")
    ax.set(xlim=(0, 1), ylim=(0, 9), xlabel=f"of {kind}")
    hover(ax, [1], [slope], [f"at 1: {slope}"])
    return figure


def bundle(figure):
    return figure._repr_mimebundle_(include=None, exclude=None)


def embedded(figure):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', bundle(figure)["text/html"])[1])


# --- controls and frames ---


def test_controls_take_label_format_and_start():
    figure = explore(
        line,
        name="line",
        alt="{slope} {kind}",
        slope=slider([1, 2], label="k", format="{:.1f}", start=2),
        kind=["b", "c"],
    )
    assert figure.controls["slope"].texts == ("1.0", "2.0")
    assert [control.label for control in figure.controls.values()] == ["k", "kind"]
    assert [frame.alt for frame in figure.frames] == ["1 b", "1 c", "2 b", "2 c"]
    assert repr(figure) == "figure 'line': 2 b"


def test_underscores_of_a_keyword_become_spaces():
    figure = explore(lambda forget_bias: line(forget_bias), name="line", alt="x", forget_bias=[1, 2])
    assert figure.controls["forget_bias"].label == "forget bias"


@pytest.mark.parametrize("values", [range(1, 4), np.array([1, 2, 3]), (1, 2, 3)])
def test_any_sequence_is_a_slider(values):
    assert slider(values).values == (1, 2, 3)
    assert slider(values, format=lambda v: f"t = {v}").texts[2] == "t = 3"


def test_alt_may_be_a_function():
    assert explore(line, name="line", alt=lambda slope: f"k={slope}", slope=[3]).frames[0].alt == "k=3"


def test_page_holds_every_frame_once_and_the_start_is_shown():
    figure = explore(line, name="line", alt="{slope}", slope=slider([1, 2, 3], start=2))
    data = embedded(figure)
    joined = ["\n".join(data["pieces"][i] for i in frame) for frame in data["frames"]]
    assert joined == [frame.svg for frame in figure.frames]
    assert data["alts"] == ["1", "2", "3"]
    assert data["start"] == 1
    assert data["labels"][data["points"][2][0][2]] == "at 1: 3"
    assert '<svg role="img" aria-label="2"' in bundle(figure)["text/html"]


def test_frames_share_what_does_not_change():
    figure = explore(line, name="line", alt="{slope}", slope=np.linspace(1, 8, 50).tolist())
    frames = sum(len(frame.svg) for frame in figure.frames)
    assert len(bundle(figure)["text/html"]) < frames / 5


def test_html_is_balanced_and_names_no_other_host():
    class Tags(HTMLParser):
        open: list[str]
        void = ("input",)

        def handle_starttag(self, tag, attrs):
            assert not {"src", "srcset"} & dict(attrs).keys()
            assert dict(attrs).get("href", "#").startswith("#")
            if tag not in self.void:
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    figure = explore(
        line,
        name="line",
        alt='<b>"{slope}" </script>',
        slope=steps([1, 2], label="<k>"),
        kind=choice(["<", "</script>"]),
    )
    parser = Tags()
    parser.open = []
    text = bundle(figure)["text/html"]
    parser.feed(text)
    assert parser.open == []
    assert "@import" not in text
    assert set(re.findall(r"https?://[\w./]*", text)) <= {"http://www.w3.org/2000/svg"}
    assert embedded(figure)["texts"][1] == ["<", "</script>"]


def test_a_still_figure_needs_no_script():
    figure = explore(lambda: Figure(), name="still", alt="Nothing.")
    text = bundle(figure)["text/html"]
    assert "<script" not in text
    assert "<noscript" not in text
    assert '<svg role="img" aria-label="Nothing."' in text
    assert "<script" in bundle(explore(line, name="read", alt="A line with a value to read."))["text/html"]


def test_a_pyplot_figure_is_not_shown_twice():
    def draw():
        _, ax = plt.subplots()
        return ax  # an Axes does as well

    explore(draw, name="old", alt="An empty pair of axes.")
    assert plt.get_fignums() == []


# --- the picture ---


DRAWING = """
import hashlib
from seqbook.interactive import choice, explore
from seqbook.plotting import gradient_profile, new_figure

def draw(rate, kind):
    figure, ax = new_figure(right=1.2)
    gradient_profile(ax, {kind: [[rate**3, rate**2, rate, 1], [rate**4, rate**3, rate**2, 1]]})
    return figure

figure = explore(draw, name="line", alt="{rate} {kind}", rate=[0.1, 0.2], kind=choice(["RNN", "GRU"]))
digest = hashlib.sha256(figure._repr_mimebundle_()["text/html"].encode()).hexdigest()
"""


def test_same_inputs_same_bytes_also_in_another_process():
    here: dict[str, str] = {}
    exec(DRAWING, here)
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DRAWING + "print(digest)"]
    assert subprocess.check_output(command, text=True, env=environment).strip() == here["digest"]


def test_svg_takes_the_pages_colour_font_and_ids():
    figure, ax = new_figure()
    ax.plot([0, 1], marker="o", color="k")
    ax.text(0.5, 0.5, "0.123456789 <tag>")
    svg = explore(lambda: figure, name="mine", alt="x").frames[0].svg
    assert "0.123456789 &lt;tag&gt;" in svg  # text is not rounded
    assert INK.lower() not in svg.lower()
    assert "currentColor" in svg
    assert not re.search(r"font-family|<style|<!--|metadata|#000000|#ffffff", svg)
    ids = re.findall(r' id="([^"]*)"', svg)
    assert ids
    assert all(i.startswith("mine-") for i in ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', svg)) == set(ids)


def test_path_is_written_in_steps():
    assert _path("M 10 20.04 \nL 11.31 19.96 \nL 12.6 -3 \nz\n") == "M10 20l1.3 0l1.3-23z"
    assert _path("M 0 -3.123456 C 1 2 3.5 4 5 6.25 z") == "M 0 -3.12 C 1 2 3.5 4 5 6.25 z"


@given(st.lists(st.tuples(*[st.floats(-999, 999)] * 2), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_path_errors_do_not_add_up(vertices):
    text = "\n".join(f"{'L' if i else 'M'} {x:.6f} {y:.6f}" for i, (x, y) in enumerate(vertices))
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", _path(text))]
    found = np.cumsum(np.reshape(numbers, (-1, 2)), axis=0)
    np.testing.assert_allclose(found, vertices, atol=0.0501)


def test_weight_and_time_of_a_frame():
    def profile(rate):
        figure, ax = new_figure(right=1.1)
        noise = np.random.default_rng(0).normal(size=(5, 100)).cumsum(axis=1) / 5
        gradient_profile(ax, {name: (rate + k / 10) ** np.arange(100)[::-1] * np.exp(noise) for k, name in
                              enumerate(["RNN", "LSTM", "GRU"])}, ylim=(1e-40, 10))  # fmt: skip
        return figure

    start = time.process_time()
    figure = explore(profile, name="profile", alt="{rate}", rate=np.linspace(0.4, 0.7, 20).tolist())
    seconds = (time.process_time() - start) / 20
    assert figure.weight < 60_000
    assert seconds < 0.25  # about 0.04 alone on a machine


# --- what is refused ---


@pytest.mark.parametrize("name", ["", "Upper", "two words", "9lives"])
def test_names_that_cannot_be_ids_are_refused(name):
    with pytest.raises(ValueError, match="expected a name of lower-case letters, digits and hyphens"):
        explore(line, name=name, alt="x")


@pytest.mark.parametrize("values", [[], [1, 1], [0.123, 0.124]])
def test_values_that_look_the_same_are_refused(values):
    with pytest.raises(ValueError, match="expected one or more values that a reader can tell apart"):
        slider(values, format="{:.2f}")


def test_start_is_a_value():
    with pytest.raises(ValueError, match=r"choice 'cell': expected start to be one of \['RNN'\], got 'GRU'"):
        choice(["RNN"], label="cell", start="GRU")


def test_missing_alternative_text_is_refused():
    with pytest.raises(ValueError, match="expected a text alternative for figure 'line'"):
        explore(line, name="line", alt=" ")


def test_draw_must_return_a_figure():
    with pytest.raises(TypeError, match="expected draw to return a matplotlib Figure or Axes, got NoneType"):
        explore(lambda: None, name="none", alt="x")


def test_an_error_names_figure_and_setting():
    with pytest.raises(ZeroDivisionError) as caught:
        explore(lambda n: line(1 / n), name="broken", alt="x", n=[1, 0])
    assert caught.value.__notes__ == ["explore: this happened in figure 'broken' at {'n': 0}"]


def test_a_figure_that_is_too_heavy_is_refused(monkeypatch):
    monkeypatch.setattr(seqbook.interactive.explorable, "LIMIT", 5000)
    with pytest.raises(
        ValueError, match=r"expected figure 'line' to weigh at most 5 KB compressed, got \d+ KB in 9 fr"
    ):
        explore(line, name="line", alt="x", slope=range(9))


def test_text_beyond_the_edge_is_warned_of():
    def draw():
        figure, ax = new_figure()
        gradient_profile(ax, {"LSTM, forget bias 2": [0.1, 1.0]})
        return figure

    with pytest.warns(
        UserWarning, match=r"figure 'cut' draws \d\.\d\d in beyond its right edge; give new_figure a larger"
    ):
        explore(draw, name="cut", alt="x")


# --- with a kernel ---


@pytest.fixture
def live(monkeypatch):
    """As if a kernel ran."""
    monkeypatch.setattr(seqbook.interactive.explorable, "_live", lambda: True)


def find(widget, name):
    found = [widget] if type(widget).__name__ == name else []
    return found + [w for child in getattr(widget, "children", ()) for w in find(child, name)]


def test_without_a_kernel_there_is_no_widget():
    assert set(bundle(explore(line, name="line", alt="x", slope=[1, 2]))) == {"text/plain", "text/html"}


def test_widget_view_is_made_by_hand(live, monkeypatch):
    figure = explore(line, name="line", alt="x", slope=[1, 2])

    class Box:
        model_id = "42"

    monkeypatch.setattr(figure, "widget", Box)
    assert bundle(figure)[WIDGET_VIEW] == {"version_major": 2, "version_minor": 0, "model_id": "42"}
    assert set(bundle(explore(line, name="still", alt="x"))) == {"text/plain", "text/html"}


def test_each_moment_stays_for_its_own_time_when_playing():
    figure = explore(line, name="line", alt="x", slope=steps([1, 2, 3], seconds=lambda v: v / 2), kind=choice(["a"]))
    assert embedded(figure)["seconds"] == [[0.5, 1.0, 1.5], []]
    play = find(figure.widget(), "Play")[0]
    assert play.interval == 500
    play.value = 2
    assert play.interval == 1500
    assert steps([1, 2]).seconds == (0.7, 0.7)


def test_a_moment_must_stay():
    with pytest.raises(ValueError, match=r"steps 't': expected each moment to stay .* got \(1\.0, 0\.0\)"):
        steps([1, 0], label="t", seconds=float)


def test_live_controls_draw_anew():
    drawn = []

    def draw(slope, kind, moment):
        drawn.append((slope, kind, moment))
        return line(slope, kind)

    figure = explore(
        draw, name="line", alt="{slope} {kind}", slope=[1, 2], kind=choice(["a", "b"]), moment=steps([0, 1, 2], start=1)
    )
    box = figure.widget()
    picture, words = find(box, "HTML")[-2:]
    assert 'aria-label="1 a"' in picture.value
    before, count = picture.value, len(drawn)
    find(box, "SelectionSlider")[0].value = 1
    assert drawn[count:] == [(2, "a", 1)]
    assert picture.value != before
    assert 'aria-label="2 a"' in picture.value
    assert "<title>at 1: 2</title>" in picture.value
    assert "2 a" in words.value
    find(box, "ToggleButtons")[0].value = 1
    assert drawn[-1] == (2, "b", 1)
    find(box, "Play")[0].value = 2
    assert drawn[-1] == (2, "b", 2)
    assert find(box, "SelectionSlider")[1].label == "2"


@pytest.mark.parametrize("built", [False, True], ids=["read", "built"])
def test_in_a_real_kernel(monkeypatch, built):
    """Live wherever a kernel runs, but where a page is built: there nothing is left of a widget."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("SEQLAB_NO_WIDGETS", "1" if built else "")
    cell = (
        "from seqbook.interactive import explore\nfrom seqbook.plotting import new_figure\n"
        "explore(lambda k: new_figure()[0], name='empty', alt='{k}', k=[1, 2])"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    live = notebook.cells[0].outputs[0].data
    assert live["text/plain"] == "figure 'empty': 1"
    assert "<svg" in live["text/html"]
    if built:
        assert set(live) == {"text/plain", "text/html"}
        assert "widgets" not in notebook.metadata
        return
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert states[live[WIDGET_VIEW]["model_id"]]["model_name"] == "VBoxModel"


def test_to_svg_can_be_cut_where_artists_begin():
    assert len(pieces(to_svg(line(), "line"))) > 5
