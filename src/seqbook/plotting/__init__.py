"""The book's pictures: arrays in, matplotlib axes out. Knows no model and no torch.

One colour, one line and one marker belong to each architecture, in every figure. ``looks`` holds them and the empty
figure, ``reading`` the values that a reader can read off, ``charts`` the kinds of picture. ``diagrams``, which is
imported by name, has boxes, arrows, words and a time line.
"""

from __future__ import annotations

from .charts import gradient_profile, heatmap, histogram, in_words, spread
from .looks import COLOURS, GREY, INK, LINES, MARKERS, STYLE, label_ends, log_scale, look, new_figure, style
from .reading import hover, hover_points

__all__ = [
    "COLOURS",
    "GREY",
    "INK",
    "LINES",
    "MARKERS",
    "STYLE",
    "gradient_profile",
    "heatmap",
    "histogram",
    "hover",
    "hover_points",
    "in_words",
    "label_ends",
    "log_scale",
    "look",
    "new_figure",
    "spread",
    "style",
]
