"""Where the writer looked: the weights of attention between the words read and the words written.

Arrays and words in, drawn on the given Axes. A weight fills a share of its cell, so that area, not colour,
carries the meaning (cells need not be square).

Shapes: L words written, S words read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .looks import COLOURS, GREY, INK
from .reading import as_array, hover

SHOWN = 0.005  # a smaller share has no square
WRITTEN = 0.05  # a smaller share of the chosen row has no number


def alignment(
    ax: Axes,
    weights: Any,
    source: Sequence[str],
    target: Sequence[str],
    *,
    row: int | None = None,
    truth: Sequence[int | None] = (),
    colour: str = COLOURS["attention"],
    turn: int = 40,
) -> None:
    """Draw weights as boxes: one row for each word written, one column for each word read, which stands on top.

    Args:
        weights: shape (L, S), shares from 0 to 1; area is share.
        source, target: the words read and the words written.
        row: index of the word written that stands out; its weights from 5 % on are written in, in per cent.
        truth: for each word written the index of the word read that it belongs to, or None; marked by a dashed frame.
        colour: of the boxes.
        turn: degrees by which the words on top are turned.

    Raises:
        ValueError: if the words do not fit the weights, or a weight is not between 0 and 1.

    >>> from seqbook.plotting import hover_points, new_figure
    >>> figure, ax = new_figure(top=0.8, bottom=0.1)
    >>> alignment(ax, [[0.9, 0.1], [0.25, 0.75]], ["black", "cat"], ["chat", "noir"], row=1, truth=[1, 0])
    >>> [text.get_text() for text in ax.texts]
    ['25', '75']
    >>> hover_points(figure)[0][2]
    'chat looks at black: 90 %'
    """
    values = as_array(weights)
    L, S = len(target), len(source)
    if values.shape != (L, S) or len(truth) not in (0, L):
        raise ValueError(
            f"alignment: expected weights of {L} words written x {S} words read, and a truth for each word written or "
            f"none, got shape {values.shape} and {len(truth)}; cut off the padding, and mind which axis is which"
        )
    if not ((values >= 0) & (values <= 1 + 1e-6)).all():
        raise ValueError(f"alignment: expected weights from 0 to 1, got {values.min():g} to {values.max():g}")
    if row is not None:
        ax.add_patch(Rectangle((-0.5, row - 0.5), S, 1, facecolor=(GREY, 0.18), linewidth=0))
    for (i, j), share in np.ndenumerate(values):
        if share >= SHOWN:
            side = 0.94 * min(share, 1.0) ** 0.5
            fill = (colour, 0.45 if i == row else 0.85)  # a number has to be read on it, on a light page and a dark one
            ax.add_patch(Rectangle((j - side / 2, i - side / 2), side, side, facecolor=fill, linewidth=0))
        if i == row and share >= WRITTEN:
            ax.text(j, i, f"{100 * share:.0f}", ha="center", va="center")
    for i, j in enumerate(truth):
        if j is not None:
            ax.add_patch(
                Rectangle(
                    (j - 0.47, i - 0.47), 0.94, 0.94, fill=False, edgecolor=INK, linewidth=1.2, linestyle=(0, (3, 2))
                )
            )
    ax.set(xlim=(-0.5, S - 0.5), ylim=(L - 0.5, -0.5))
    ax.set_xticks(range(S), source, rotation=turn, ha="left" if turn else "center", rotation_mode="anchor")
    ax.set_yticks(range(L), target)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(False)
    for side in ("top", "right", "bottom", "left"):
        ax.spines[side].set_visible(False)
    if row is not None:
        ax.get_yticklabels()[row].set_fontweight("bold")
        ax.get_xticklabels()[int(values[row].argmax())].set_fontweight("bold")
    j, i = np.meshgrid(np.arange(S), np.arange(L))
    texts = [
        f"{target[a]} looks at {source[b]}: {100 * values[a, b]:.0f} %" for a, b in zip(i.flat, j.flat, strict=True)
    ]
    hover(ax, j.ravel(), i.ravel(), texts)
