"""A matplotlib figure as SVG text: small, the same bytes in every run, and of the page's own colour."""

from __future__ import annotations

import functools
import io
import re
import warnings

from matplotlib.figure import Figure

from ..plotting import INK


def to_svg(figure: Figure, name: str) -> str:
    """Return the figure as SVG text whose ids begin with ``name``.

    >>> to_svg(Figure(figsize=(1, 1)), "empty").split(">")[0]
    '<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg"'
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", text, flags=re.S)
    return re.sub(r"<[^>]+>", functools.partial(_tag, name=name), text)


def _tag(match: re.Match[str], name: str) -> str:
    """Make one tag smaller; only tags are touched, never the text between them."""
    tag = match[0]
    if tag.startswith("<svg"):
        size = re.search(r'viewBox="[^"]*"', tag)
        return f'<svg {size[0] if size else ""} xmlns="http://www.w3.org/2000/svg">'
    tag = re.sub(r'<g id="[^"]*"', "<g", tag)
    tag = re.sub(r' id="', f' id="{name}-', tag)
    tag = re.sub(r'url\(#|(?:xlink:)?href="#', lambda m: m[0].replace("xlink:", "") + name + "-", tag)
    tag = re.sub(r' transform="rotate\(-?0[ )][^"]*"', "", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(rf"{INK}|(?<=stroke: )#000000", "currentColor", tag, flags=re.I)
    tag = re.sub(r' d="([^"]*)"', lambda m: f' d="{_path(m[1])}"', tag)
    return re.sub(r' (x|y|transform|width|height)="[^"]*"', lambda m: _rounded(m[0], 2), tag)


def _rounded(text: str, digits: int) -> str:
    return re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda m: f"{round(float(m[0]), digits) + 0.0:g}", text)


def _path(d: str) -> str:
    """Write a path shorter: straight lines as steps of a tenth of a point from one vertex to the next.

    The steps are taken between rounded vertices, so errors do not add up; equal steps compress to almost nothing.
    """
    if re.search(r"[^MLz\d\s.e+-]", d):
        return _rounded(" ".join(d.split()), 2)
    out, x, y = [], 0, 0
    for command, x_text, y_text in re.findall(r"([ML])\s*(\S+)\s+(\S+)|z", d):
        if not command:
            out.append("z")
            continue
        new_x, new_y = round(float(x_text) * 10), round(float(y_text) * 10)
        dx, dy = (new_x, new_y) if command == "M" else (new_x - x, new_y - y)
        out.append(f"{'M' if command == 'M' else 'l'}{dx / 10:g} {dy / 10:g}")
        x, y = new_x, new_y
    return "".join(out).replace(" -", "-")


def pieces(svg: str) -> list[str]:
    """Cut an SVG where a new artist begins; most pieces are the same in every frame."""
    return re.split(r"\n(?= {1,3}<(?!/))", svg)


def warn_of_cut_text(figure: Figure, name: str) -> None:
    """Warn where something is drawn beyond the picture's edge (in matplotlib's font, wider than most pages')."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    over = {"left": -box.x0, "bottom": -box.y0, "right": box.x1 - width, "top": box.y1 - height}
    for side, inches in over.items():
        if inches > 0.02:
            warnings.warn(
                f"explore: figure {name!r} draws {inches:.2f} in beyond its {side} edge; "
                f"give new_figure a larger {side}=",
                stacklevel=2,
            )
