"""Values that a reader can read off a picture. Nothing is drawn: the points go to the page, whose script shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


def hover(ax: Axes, x: Any, y: Any, labels: Sequence[str] | Callable[[float, float], str]) -> None:
    """Let readers read values off the picture: near a point, by mouse, touch or arrow key, its label is shown.

    Nothing is drawn here; ``explore`` hands the points to the page. Points outside the axes are left out.

    Args:
        x, y: data coordinates, one-dimensional.
        labels: one line of text for each point, or a function of x and y that returns it.

    Raises:
        ValueError: if x, y and labels differ in length.

    >>> from seqbook.plotting import new_figure
    >>> figure, ax = new_figure()
    >>> hover(ax, [1, 2], [0.9, 0.81], lambda x, y: f"step {x:.0f}: {y:.2f}")
    >>> hover_points(figure)[1][2]
    'step 2: 0.81'
    """
    x, y = np.atleast_1d(as_array(x)), np.atleast_1d(as_array(y))
    if callable(labels):
        labels = [labels(float(a), float(b)) for a, b in zip(x, y, strict=False)]
    if not x.shape == y.shape == (len(labels),):
        raise ValueError(
            f"hover: expected x, y and labels of one length, got {x.shape}, {y.shape} and {len(labels)} labels; "
            "give one label for each point"
        )
    points = _HoverPoints(x, y)
    points.labels = [str(label) for label in labels]
    ax.add_line(points)
    ax.autoscale_view()


def hover_points(figure: Figure) -> list[tuple[float, float, str]]:
    """Return the points that ``hover`` marked, as (x, y, label) in SVG units: 72 to the inch, y downward.

    >>> from seqbook.plotting import new_figure
    >>> figure, ax = new_figure()
    >>> hover_points(figure)
    []
    """
    scale, height = 72 / figure.dpi, figure.bbox.height
    found = []
    for ax in figure.axes:
        for points in (line for line in ax.lines if isinstance(line, _HoverPoints)):
            pixels = points.get_transform().transform(np.ma.filled(points.get_xydata(), np.nan))
            for (x, y), label in zip(pixels, points.labels, strict=True):
                if np.isfinite([x, y]).all() and ax.bbox.padded(1).contains(x, y):
                    found.append((round(x * scale, 1), round((height - y) * scale, 1), label))
    return found


class _HoverPoints(Line2D):
    """Points that are read, not drawn."""

    labels: list[str]

    def draw(self, renderer: Any) -> None:
        """Draw nothing."""


def as_array(values: Any) -> np.ndarray:
    """Return a float array; takes a torch tensor without knowing torch."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double()  # numpy has no bfloat16
    return np.asarray(values, dtype=float)
