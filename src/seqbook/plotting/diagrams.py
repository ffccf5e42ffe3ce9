"""Diagrams: boxes, arrows, words, vectors as cells, a time line. Words and arrays in, drawn on the given Axes.

A diagram is drawn on a :func:`canvas`, whose coordinates are inches from the lower left corner, 6 to the right. Fills
are translucent and text is INK, so that a diagram reads on a light page and on a dark one; sign and size are drawn as
position and length too, so that colour never carries the meaning alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from .looks import COLOURS, GREY, INK, apart, new_figure
from .reading import as_array, hover

PLUS, MINUS = COLOURS["RNN"], COLOURS["LSTM"]
WIDTH = 6.0
LINE = 0.2  # inches from one line of text to the next


def canvas(height: float = 3.2) -> tuple[Figure, Axes]:
    """Return an empty figure without axes, measured in inches: x from 0 to 6, y from 0 to ``height``.

    >>> figure, ax = canvas(2)
    >>> [float(end) for end in (*ax.get_xlim(), *ax.get_ylim())]
    [0.0, 6.0, 0.0, 2.0]
    """
    figure, ax = new_figure(height=height, left=0, right=0, bottom=0, top=0)
    ax.set(xlim=(0, WIDTH), ylim=(0, height))
    ax.set_axis_off()
    return figure, ax


def box(
    ax: Axes,
    x: float,
    y: float,
    text: str = "",
    *,
    width: float = 1.0,
    height: float = 0.34,
    colour: str = GREY,
    fill: float = 0.12,
    faded: bool = False,
) -> None:
    """Draw a box about (x, y) with a text in its middle.

    Args:
        x, y: its centre.
        text: may have several lines.
        width, height: in inches.
        colour: of edge and fill.
        fill: opacity of the fill, 0 to 1; a high one makes the box stand out.
        faded: pale, its edge dashed: no longer or not yet there.

    >>> figure, ax = canvas(1)
    >>> box(ax, 3, 0.5, "state")
    >>> [text.get_text() for text in ax.texts]
    ['state']
    """
    pale = 0.45 if faded else 1.0
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle=f"round,pad=0,rounding_size={min(width, height, 0.3) / 4}",
            facecolor=(colour, fill * pale),
            edgecolor=(colour, pale),
            linewidth=1.5,
            linestyle="--" if faded else "-",
        )
    )
    if text:
        ax.text(x, y, text, ha="center", va="center", alpha=0.65 if faded else 1.0)


def arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    weight: float = 0.4,
    curve: float = 0.0,
    colour: str = INK,
) -> None:
    """Draw an arrow; the larger its weight, the thicker and darker.

    Args:
        start, end: points (x, y).
        weight: 0 to 1, such as an attention weight.
        curve: how far it bends to the left, as a part of its length; negative to the right.
        colour: of the line.

    Raises:
        ValueError: if the weight is not between 0 and 1.

    >>> figure, ax = canvas(1)
    >>> arrow(ax, (1, 0.5), (5, 0.5), weight=1)
    >>> ax.patches[0].get_linewidth()
    4.5
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"arrow: expected a weight from 0 to 1, got {weight:g}; divide by the largest one")
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=9 + 5 * weight,
            connectionstyle=f"arc3,rad={-curve}",
            color=colour,
            alpha=0.25 + 0.75 * weight,
            linewidth=0.7 + 3.8 * weight,
            shrinkA=0,
            shrinkB=0,
        )
    )


def tokens(
    ax: Axes,
    words: Sequence[str],
    y: float,
    *,
    left: float = 0.1,
    right: float = 5.9,
    now: Sequence[int] = (),
    faded: Sequence[int] = (),
    colour: str = COLOURS["Transformer"],
) -> np.ndarray:
    """Draw words in a row of boxes, each as wide as its word asks.

    Args:
        words: in the order of the sentence.
        y: height of the row's middle.
        left, right: ends of the row.
        now: indices of the words that stand out, in ``colour``.
        faded: indices of the words that are drawn pale.
        colour: of the words that stand out.

    Returns:
        The horizontal centres of the boxes, shape (words).

    Raises:
        ValueError: if there are no words.

    >>> figure, ax = canvas(1)
    >>> tokens(ax, ["a", "cat"], 0.5).round(2).tolist()
    [1.14, 4.06]
    """
    if not len(words):
        raise ValueError("tokens: expected at least one word, got none")
    gap = 0.05
    asked = np.array([len(word) + 1.6 for word in words])
    widths = asked / asked.sum() * (right - left - gap * (len(words) - 1))
    centres = left + np.cumsum(widths + gap) - gap - widths / 2
    for i, (word, x, width) in enumerate(zip(words, centres, widths, strict=True)):
        stands_out = i in now
        box(
            ax,
            x,
            y,
            word,
            width=width,
            colour=colour if stands_out else GREY,
            fill=0.3 if stands_out else 0.08,
            faded=i in faded and not stands_out,
        )
    return centres


def cells(
    ax: Axes, values: Any, y: float, *, left: float = 0.1, right: float = 5.9, height: float = 0.5, limit: float = 1.0
) -> None:
    """Draw a vector as a row of cells, filled from the middle up where a number is positive, down where negative.

    Args:
        values: shape (H).
        y: height of the row's middle.
        left, right: ends of the row.
        height: of a cell.
        limit: the number, and its negative, that fills half a cell; beyond it nothing more is seen.

    Raises:
        ValueError: if the vector is empty, has more than one axis, or holds NaN.

    >>> figure, ax = canvas(1)
    >>> cells(ax, [0.5, -1.0], 0.5)
    >>> [round(float(patch.get_height()), 3) for patch in ax.patches if patch.get_fill()]
    [0.125, -0.25]
    """
    values = as_array(values)
    if values.ndim != 1 or not values.size or np.isnan(values).any():
        raise ValueError(
            f"cells: expected a vector of at least one number and no NaN, got shape {values.shape}; draw one row a call"
        )
    width = (right - left) / values.size
    for i, value in enumerate(np.clip(values / limit, -1, 1)):
        x, inner = left + i * width, 0.86 * width
        fill = PLUS if value > 0 else MINUS
        ax.add_patch(Rectangle((x, y), inner, value * height / 2, facecolor=fill, linewidth=0))
        ax.add_patch(
            Rectangle((x, y - height / 2), inner, height, fill=False, edgecolor=GREY, linewidth=0.8, alpha=0.8)
        )


def gauges(
    ax: Axes,
    x: Any,
    shares: Any,
    y: float,
    *,
    labels: Sequence[str] = (),
    height: float = 0.7,
    width: float = 0.5,
    colour: str = PLUS,
    chance: float | None = None,
) -> None:
    """Draw shares as upright bars, each in a frame that is full at 1, its per cent above it.

    Args:
        x: centres of the bars, shape (X).
        shares: 0 to 1, shape (X); NaN draws an empty, dashed frame.
        y: where the bars stand.
        labels: one under each bar; none if empty.
        height, width: of a frame.
        colour: of the bars.
        chance: draws a line across every frame there.

    Raises:
        ValueError: if the lengths differ, or a share is not between 0 and 1.

    >>> figure, ax = canvas(2)
    >>> gauges(ax, [1, 2], [0.25, 1.0], 0.5, labels=["Ann", "Bob"])
    >>> [text.get_text() for text in ax.texts]
    ['25 %', 'Ann', '100 %', 'Bob']
    """
    x, shares = as_array(x), as_array(shares)
    if x.shape != shares.shape or (len(labels) and x.shape != (len(labels),)):
        raise ValueError(
            "gauges: expected x, shares and labels of one length, "
            f"got {x.shape}, {shares.shape} and {len(labels)} labels; leave labels out, or give each bar one"
        )
    if ((shares < 0) | (shares > 1)).any():
        raise ValueError(f"gauges: expected shares from 0 to 1, got {shares.min():g} to {shares.max():g}")
    for i, (centre, share) in enumerate(zip(x, shares, strict=True)):
        known = bool(np.isfinite(share))
        corner = (centre - width / 2, y)
        ax.add_patch(
            Rectangle(corner, width, height, fill=False, edgecolor=GREY, linewidth=1, linestyle="-" if known else ":")
        )
        if known:
            ax.add_patch(Rectangle(corner, width, share * height, facecolor=(colour, 0.75), linewidth=0))
            ax.text(centre, y + height + 0.04, f"{100 * share:.0f} %", ha="center", va="bottom")
        if chance is not None:
            ax.plot([corner[0], corner[0] + width], [y + chance * height] * 2, color=INK, linewidth=1, linestyle=":")
        if len(labels):
            ax.text(centre, y - 0.05, labels[i], ha="center", va="top")


def caption(ax: Axes, text: str, y: float, *, columns: int = 64, left: float = 0.1) -> None:
    """Write a text in lines of at most ``columns`` letters, the first of them at height y.

    >>> figure, ax = canvas(1)
    >>> caption(ax, "One word after the other.", 0.9, columns=16)
    >>> [text.get_text() for text in ax.texts]
    ['One word after', 'the other.']
    """
    for i, line in enumerate(textwrap.wrap(text, columns)):
        ax.text(left, y - i * LINE, line, va="top")


def timeline(
    ax: Axes,
    years: Sequence[float],
    names: Sequence[str],
    y: float,
    *,
    now: int | None = None,
    texts: Sequence[str] = (),
) -> None:
    """Draw events along a line, each at its date; the events up to ``now`` are filled, ``now`` is ringed.

    The scale is true. Names that would overlap are moved apart, and a thin line leads from each to its event. ``texts``
    can be read off the points.

    Args:
        years: rising, one for each event; a fraction is a part of the year.
        names: one for each event.
        y: height of the line.
        now: index of the event that stands out; none if None.
        texts: what a reader reads off each event by pointer or arrow key; year and name if empty.

    Raises:
        ValueError: if the lengths differ or the years don't rise.

    >>> from seqbook.plotting import hover_points
    >>> figure, ax = canvas(2)
    >>> timeline(ax, [1997, 2017.4], ["LSTM", "Transformer"], 0.5, now=1)
    >>> [label for _, _, label in hover_points(figure)]
    ['1997: LSTM', '2017: Transformer']
    """
    texts = texts or [f"{int(year)}: {name}" for year, name in zip(years, names, strict=False)]
    if not len(years) == len(names) == len(texts) or any(np.diff(years) < 0):
        raise ValueError(
            f"timeline: expected rising years with a name and a text each, got {len(years)} years, {len(names)} names "
            f"and {len(texts)} texts; sort the events"
        )
    left, right, gap = 0.3, WIDTH - 1.0, 0.36
    first, last = int(years[0]), int(years[-1]) + 1
    x = left + (np.asarray(years) - first) / (last - first) * (right - left)
    places = np.array(apart(((x - left) / (right - left)).tolist(), gap / (right - left)))
    ax.plot([0.1, WIDTH - 0.1], [y, y], color=GREY, linewidth=1.5, linestyle="-", zorder=0)
    for year in range(first + (-first) % 5, last + 1, 5):
        tick = left + (year - first) / (last - first) * (right - left)
        ax.plot([tick, tick], [y - 0.06, y], color=GREY, linewidth=1)
        ax.text(tick, y - 0.12, f"{year}", ha="center", va="top")
    for i, (at, place, name) in enumerate(zip(x, left + places * (right - left), names, strict=True)):
        current, past = i == now, now is None or i <= now
        ax.plot([at, place], [y, y + 0.3], color=GREY, linewidth=0.8, linestyle="-", zorder=0)
        ax.plot(
            at, y, marker="o", markersize=9 if current else 6, color=PLUS if current else INK, alpha=1 if past else 0.4
        )
        if current:
            ax.plot(at, y, marker="o", markersize=17, markerfacecolor="none", color=PLUS)
        weight = "bold" if current else "normal"
        ax.text(place, y + 0.34, name, ha="left", va="bottom", rotation=60, rotation_mode="anchor", fontweight=weight)
    hover(ax, x, np.full(len(x), y), list(texts))
