"""Figures that a reader can change, with a kernel and without one.

:func:`explore` draws one frame for each setting of its controls and puts them, as SVG, into one piece of HTML with a
small script: it works in the published page, from a file and with the network cut. Where a kernel runs, the same object
shows ipywidgets controls that draw anew. Every figure of the book goes this way; without controls it stands still. The
bytes depend on nothing but the drawing, so an unchanged figure leaves the built page unchanged.

``controls``: what can be changed. ``svg``: matplotlib's SVG made small. ``page``: the HTML. ``explorable``: the whole.
"""

from __future__ import annotations

from .controls import Control, choice, slider, steps
from .explorable import LIMIT, Explorable, explore, figure
from .page import Frame

__all__ = ["LIMIT", "Control", "Explorable", "Frame", "choice", "explore", "figure", "slider", "steps"]
