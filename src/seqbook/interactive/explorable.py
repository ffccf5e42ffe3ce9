"""The explorable figure: every frame drawn once for the page, and drawn anew by widgets where a kernel runs."""

from __future__ import annotations

import gzip
import html
import importlib
import importlib.util
import itertools
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from ..markup import checked_text, static, to_html, to_plain
from ..numbering import numbered
from ..plotting import hover_points, style
from .controls import Control, slider, starting
from .page import Frame, figcaption, tooltips, whole
from .svg import to_svg, warn_of_cut_text

LIMIT = 150_000  # bytes of one figure, compressed
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def explore(
    draw: Callable[..., Any],
    *,
    name: str,
    alt: str | Callable[..., str],
    caption: str = "",
    narration: str | Callable[..., str] = "",
    start: Mapping[str, Any] | None = None,
    **controls: Control | Sequence[Any],
) -> Explorable:
    """Return a figure with controls, or a still one where there are none. All frames are drawn here, once.

    Args:
        draw: function of the controls' values that returns a matplotlib Figure or Axes; called in the book's style.
        name: identifies the figure on its page, where its anchor is ``fig-`` and the name; lower-case letters, digits
            and hyphens.
        alt: the text alternative of a frame, a format string over the controls or a function of them.
        caption: one or two sentences that hold for every frame; they follow the figure's number.
        narration: what is told of a frame, in view under the controls; given as alt is. Words that change from frame
            to frame belong here and not into the picture, where a phone shows them small.
        start: keyword → the value on which the figure opens: the setting that shows its point.
        **controls: a sequence of values (a slider), or what slider, choice or steps return.

    Returns:
        An object that a notebook displays by itself.

    Raises:
        ValueError: if a name, text or control is not usable, or the figure weighs more than 150 KB compressed.
        TypeError: if ``draw`` returns something else.

    >>> from seqbook.plotting import new_figure
    >>> def product(W):
    ...     figure, ax = new_figure()
    ...     ax.plot([W**t for t in range(50)])
    ...     return figure
    >>> explore(product, name="product", alt="{W} to the power of t, for t from 0 to 49", W=[0.9, 1.1])
    figure 'product': 0.9 to the power of t, for t from 0 to 49
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(
            f"explore: expected a name of lower-case letters, digits and hyphens, got {name!r}; "
            "it becomes part of ids in the page"
        )
    if caption:
        caption = checked_text(f"explore: the caption of {name!r}", caption)
    named = {}
    for key, given in controls.items():
        control = given if isinstance(given, Control) else slider(given)
        named[key] = control if control.label else replace(control, label=key.replace("_", " "))
    return Explorable(draw, name, alt, starting(named, start or {}), caption, narration)


def figure(drawn: Any, *, name: str, alt: str, caption: str = "") -> Explorable:
    """Return a still figure with its number, caption and anchor.

    Args:
        drawn: a function without arguments that returns a matplotlib Figure or Axes, called in the book's style; or
            one that is drawn already, within `seqbook.plotting.style`.
        name, alt, caption: as of `explore`.

    Raises:
        ValueError, TypeError: as explore does.

    >>> from seqbook.plotting import new_figure
    >>> empty, ax = new_figure()
    >>> figure(empty, name="empty", alt="A pair of axes.", caption="Nothing was measured yet.")
    figure 'empty': A pair of axes.
    Nothing was measured yet.
    """
    draw = drawn if callable(drawn) else lambda: drawn
    return explore(draw, name=name, alt=lambda: alt, caption=caption)


class Explorable:
    """A figure of the book; made by :func:`explore`.

    Attributes:
        name: its name on the page.
        label: its number, such as "Figure 4.2"; empty outside of a chapter.
        caption: what stands after the number.
        controls: keyword → Control.
        frames: one for each setting, the last control changing fastest.
        weight: bytes of its HTML, compressed.

    >>> from seqbook.plotting import new_figure
    >>> still = explore(lambda: new_figure()[0], name="still", alt="An empty pair of axes.")
    >>> len(still.frames)
    1
    """

    def __init__(
        self,
        draw: Callable[..., Any],
        name: str,
        alt: str | Callable[..., str],
        controls: dict[str, Control],
        caption: str = "",
        narration: str | Callable[..., str] = "",
    ) -> None:
        """Draw all frames; see :func:`explore`."""
        self.draw, self.name, self.alt, self.controls = draw, name, alt, controls
        self.caption, self.narration = caption, narration
        self.label = numbered("Figure", name)
        self.start = 0
        for control in controls.values():
            self.start = self.start * len(control.values) + control.start
        settings = itertools.product(*(control.values for control in controls.values()))
        self.frames = [
            self.frame(check_edges=k == self.start, **dict(zip(controls, setting, strict=True)))
            for k, setting in enumerate(settings)
        ]
        self._html = whole(name, controls, self.frames, self.start, self.label, caption)
        self.weight = len(gzip.compress(self._html.encode(), 6, mtime=0))
        if self.weight > LIMIT:
            raise ValueError(
                f"explore: expected figure {name!r} to weigh at most {LIMIT // 1000} KB compressed, got "
                f"{self.weight // 1000} KB in {len(self.frames)} frames; give it fewer values, points or hover labels"
            )

    def frame(self, *, check_edges: bool = False, **values: Any) -> Frame:
        """Draw one frame at these values of the controls.

        >>> from seqbook.plotting import new_figure
        >>> explore(lambda: new_figure()[0], name="still", alt="Nothing yet.").frame().alt
        'Nothing yet.'
        """
        try:
            alt, told = _text(self.alt, values), _text(self.narration, values)
            with style():
                drawn = self.draw(**values)
                figure = getattr(drawn, "figure", None)  # a Figure is its own figure
                if not isinstance(figure, Figure):
                    raise TypeError(
                        f"explore: expected draw to return a matplotlib Figure or Axes, got {type(drawn).__name__}; "
                        "end it with `return figure`"
                    )
                if "matplotlib.pyplot" in sys.modules:  # or the notebook would show a figure made by pyplot once more
                    sys.modules["matplotlib.pyplot"].close(figure)
                if check_edges:
                    warn_of_cut_text(figure, self.name)
                svg = to_svg(figure, self.name)
        except Exception as error:
            error.add_note(f"explore: this happened in figure {self.name!r} at {values}")
            raise
        if not alt.strip():
            raise ValueError(
                f"explore: expected a text alternative for figure {self.name!r} at {values}, got none; "
                "say in a sentence what the picture shows"
            )
        return Frame(svg, alt, hover_points(figure), told)

    def widget(self) -> Any:
        """Return the live version, an ipywidgets box; each change of a control draws a new frame."""
        widgets = importlib.import_module("ipywidgets")
        inputs, rows = {}, []
        for key, control in self.controls.items():
            options = [(text, i) for i, text in enumerate(control.texts)]
            kind = widgets.ToggleButtons if control.kind == "choice" else widgets.SelectionSlider
            inputs[key] = kind(
                options=options, value=control.start, description=control.label, style={"description_width": "initial"}
            )
            row = [inputs[key]]
            if control.kind == "steps":
                milliseconds = [round(1000 * stay) for stay in control.seconds]
                play = widgets.Play(
                    min=0, max=len(options) - 1, value=control.start, interval=milliseconds[control.start]
                )
                play.observe(_pace(play, milliseconds), "value")
                widgets.link((play, "value"), (inputs[key], "value"))
                row.append(play)
            rows.append(widgets.HBox(row))
        drawn, words = widgets.HTML(), widgets.HTML()
        under = figcaption("", self.label, self.caption, tag="p")

        def show(frame: Frame) -> None:
            drawn.value = f'<div class="seqlab-figure"><div class="seqlab-picture">{tooltips(frame)}</div></div>'
            text = to_html(frame.narration) or html.escape(frame.alt)
            words.value = f'<div class="seqlab-figure"><p aria-live="polite">{text}</p>{under}</div>'

        def change(_: Any) -> None:
            show(self.frame(**{key: self.controls[key].values[w.value] for key, w in inputs.items()}))

        for w in inputs.values():
            w.observe(change, "value")
        show(self.frames[self.start])
        return widgets.VBox([widgets.HTML(f"<style>{static('explore.css')}</style>"), drawn, *rows, words])

    def __repr__(self) -> str:
        """Name the figure and say what its first frame shows."""
        lines = [f"{self.label or 'figure'} {self.name!r}: {self.frames[self.start].alt}"]
        return "\n".join([*lines, *([to_plain(self.caption)] if self.caption else [])])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        data: dict[str, Any] = {"text/plain": repr(self), "text/html": self._html}
        if self.controls and _live():
            view = {"version_major": 2, "version_minor": 0, "model_id": self.widget().model_id}
            data[WIDGET_VIEW] = view  # by hand: ipywidgets 7 has no _repr_mimebundle_
        return data


def _text(given: str | Callable[..., str], values: Mapping[str, Any]) -> str:
    return given(**values) if callable(given) else given.format(**values)


def _pace(play: Any, milliseconds: Sequence[int]) -> Callable[[Any], None]:
    """Return an observer that lets each moment stay for its own time."""

    def change(event: Any) -> None:
        play.interval = milliseconds[event["new"]]

    return change


def _live() -> bool:
    """Is there a kernel with a reader, and are widgets installed? What builds a page sets SEQLAB_NO_WIDGETS."""
    if os.environ.get("SEQLAB_NO_WIDGETS"):
        return False
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None and importlib.util.find_spec("ipywidgets") is not None
