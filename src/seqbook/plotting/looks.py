"""The look of the book's pictures: colours, lines, markers, text, and an empty figure that has them.

The colours keep a contrast of at least 3 to 1 against a white page and against a dark one, and stay apart for
colour-blind readers; since the dash pattern and the marker differ too, colour never carries the meaning alone. Text is
drawn in INK, which :mod:`seqbook.interactive` turns into the page's own text colour: one picture for light and dark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, NullLocator

COLOURS = {
    "RNN": "#DC7616",
    "LSTM": "#4464A8",
    "GRU": "#1FA66A",
    "attention": "#C07B9F",
    "Transformer": "#8B56D8",
    "convolution": "#766826",
}
LINES: dict[str, Any] = {
    "RNN": "-",
    "LSTM": (0, (6, 1.5)),
    "GRU": (0, (4, 1.5, 1, 1.5)),
    "attention": (0, (1, 1)),
    "Transformer": (0, (9, 1.5, 1, 1.5, 1, 1.5)),
    "convolution": (0, (2.5, 1)),
}
MARKERS = {"RNN": "o", "LSTM": "s", "GRU": "^", "attention": "D", "Transformer": "v", "convolution": "P"}

INK = "#1B1F24"  # text; becomes the page's text colour
GREY = "#7C8590"  # axes; at least 3 to 1 against white and against a dark page
SEED_BAND = 0.2  # opacity of the band from the lowest to the highest seed

STYLE: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 12.5,  # 6 in of picture shown on the 382 px of a phone: 11 px
    "axes.titlesize": 12.5,
    "axes.titlelocation": "left",
    "xtick.labelsize": 12.5,
    "ytick.labelsize": 12.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "lines.linewidth": 2,
    "lines.markersize": 6,
    # What is no architecture is drawn in ink and told apart by its dashes.
    "axes.prop_cycle": cycler(color=[INK] * 4, linestyle=["-", "--", ":", "-."]),
    "svg.fonttype": "none",  # real text
    "svg.hashsalt": "seqlab",  # the same ids in every run
}


def style() -> AbstractContextManager[None]:
    """Return the context in which a figure of the book is drawn; ``explore`` enters it by itself.

    >>> with style():
    ...     mpl.rcParams["font.size"]
    12.5
    """
    return mpl.rc_context(STYLE)  # type: ignore[arg-type]


def new_figure(
    rows: int = 1,
    columns: int = 1,
    *,
    height: float = 3.2,
    left: float = 0.85,
    right: float = 0.2,
    bottom: float = 0.6,
    top: float = 0.2,
    gap: float = 0.9,
) -> tuple[Figure, Any]:
    """Return an empty figure, 6 inches wide, and its axes, in the book's style.

    The margins are fixed, so that the axes stand still from one frame of an explorable figure to the next.

    Args:
        rows, columns: panels.
        height: of the whole figure, in inches.
        left, right, bottom, top: margins in inches. Labels at the ends of lines need ``right`` of 1.1 or
            more, a title needs ``top`` of 0.35.
        gap: space between panels, in inches.

    Returns:
        The figure, and one Axes, or an array of them where there are several panels.

    Raises:
        ValueError: if the margins leave no room for a panel.

    >>> figure, ax = new_figure(height=2.5)
    >>> figure.get_size_inches().tolist()
    [6.0, 2.5]
    """
    width = 6.0
    panel_width = (width - left - right - gap * (columns - 1)) / columns
    panel_height = (height - bottom - top - gap * (rows - 1)) / rows
    if min(panel_width, panel_height) <= 0:
        raise ValueError(
            f"new_figure: expected margins that leave room for {rows} x {columns} panels in {width:g} x {height:g} in, "
            f"got panels of {panel_width:.2f} x {panel_height:.2f} in; make the figure higher or the margins smaller"
        )
    with style():
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, columns)
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=gap / panel_width,
        hspace=gap / panel_height,
    )
    return figure, axes


def look(label: str) -> dict[str, Any]:
    """Return colour, line and marker of the architecture that ``label`` names; ink where it names none.

    >>> look("LSTM, forget bias 2")["color"] == COLOURS["LSTM"]
    True
    >>> look("chance level")["color"] == INK
    True
    """
    return looks([label])[0]


def log_scale(ax: Axes, axis: str = "y") -> None:
    """Make one axis logarithmic, its ticks plain text such as 10⁻²⁰.

    >>> figure, ax = new_figure()
    >>> log_scale(ax)
    >>> ax.yaxis.get_major_formatter()(1e-20, 0)
    '10⁻²⁰'
    """
    ax.set(**{f"{axis}scale": "log"})
    scaled = {"x": ax.xaxis, "y": ax.yaxis}[axis]
    scaled.set_major_formatter(FuncFormatter(_power_of_ten))
    scaled.set_minor_locator(NullLocator())


def looks(labels: Sequence[str]) -> list[dict[str, Any]]:
    """One look for each label; several labels of one architecture share its colour and differ in dashes and marker."""
    lines, markers = list(LINES.values()), list(MARKERS.values())
    seen: dict[str, int] = {}
    looks = []
    for label in labels:
        match = re.search("|".join(COLOURS), label)
        name = match[0] if match else ""
        k = (list(COLOURS).index(name) if name else 0) + seen.setdefault(name, 0)
        seen[name] += 1
        looks.append(
            {
                "color": COLOURS.get(name, INK),
                "linestyle": lines[k % len(lines)],
                "marker": markers[k % len(markers)],
            }
        )
    return looks


def label_ends(ax: Axes, ends: Sequence[tuple[float, str, Mapping[str, Any]]]) -> None:
    """Write each label to the right of the axes, as high as its line ends; labels that would touch are moved apart.

    Call it last, when the limits of the vertical axis are set.

    Args:
        ends: for each line the value at its right end, its label, and its look.

    >>> figure, ax = new_figure(right=1.1)
    >>> label_ends(ax, [(0.5, "GRU", look("GRU")), (0.5, "LSTM", look("LSTM"))])
    >>> [text.get_text() for text in ax.texts]
    ['GRU', 'LSTM']
    """
    points_high = ax.bbox.height * 72 / ax.get_figure().dpi  # type: ignore[union-attr]
    to_axes = ax.transData + ax.transAxes.inverted()
    low = ax.get_ylim()[0]
    wanted = [to_axes.transform((1, value if np.isfinite(value) else low))[1] for value, _, _ in ends]
    order = np.argsort(wanted, kind="stable")
    heights = apart([min(max(wanted[i], 0), 1) for i in order], 15 / points_high)
    for i, height in zip(order, heights, strict=True):
        _, label, kind = ends[i]
        sample = ax.plot(
            [1.025, 1.06, 1.095], [height] * 3, transform=ax.transAxes, clip_on=False, markevery=[1], **kind
        )
        sample[0].set_markersize(5)
        ax.text(1.115, height, label, transform=ax.transAxes, va="center")


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Move rising places as little as needed, upward and then back below 1, until neighbours are ``gap`` apart."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    top = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], top)
        top = moved[i] - gap
    return moved


def _power_of_ten(value: float, _: Any) -> str:
    exponent = np.log10(value) if value > 0 else np.nan
    if np.isfinite(exponent) and abs(exponent - round(exponent)) < 1e-9:
        return "10" + str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:g}"
