"""An explorable figure as one piece of HTML that needs nothing else: style, picture, controls, frames, script."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..markup import static
from .controls import Control
from .svg import pieces


class Frame(NamedTuple):
    """One picture: its SVG, its text alternative, and the points that can be read off it.

    >>> picture(Frame("<svg ></svg>", "Nothing yet.", []))
    '<svg role="img" aria-label="Nothing yet." ></svg>'
    """

    svg: str
    alt: str
    points: list[tuple[float, float, str]]


def whole(name: str, controls: Mapping[str, Control], frames: Sequence[Frame], start: int) -> str:
    """Return the figure as HTML. A still one without points to read needs no script."""
    first = frames[start]
    readable = any(frame.points for frame in frames)
    alive = bool(controls) or readable
    parts = [
        f'<div class="seqlab-figure{" seqlab-explore" if alive else ""}" data-name="{name}">',
        f"<style>{static('explore.css')}</style>",
        f'<div class="seqlab-picture">{picture(first)}</div>',
    ]
    if readable:
        hint = "To read values, point, tap, or focus the picture and press ← →."
        parts.append(f'<p class="seqlab-reading" aria-live="polite" hidden>{hint}</p>')
    if controls:
        rows = "".join(_row(control, f"{name}-{key}") for key, control in controls.items())
        setting = html.escape(", ".join(f"{c.label}: {c.texts[c.start]}" for c in controls.values()))
        parts += [
            f'<div class="seqlab-controls" hidden>{rows}</div>',
            f"<noscript><p>The controls of this figure need JavaScript. Shown here: {setting}.</p></noscript>",
            '<p class="seqlab-said" aria-live="polite"></p>',
        ]
    parts.append(f'<details><summary>In words</summary><p class="seqlab-words">{html.escape(first.alt)}</p></details>')
    if alive:
        parts += [
            f'<script type="application/json">{_data(controls, frames, start)}</script>',
            f"<script>{static('explore.js')}</script>",
        ]
    return "\n".join([*parts, "</div>"])


def picture(frame: Frame) -> str:
    """Return the SVG with its text alternative."""
    return frame.svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(frame.alt)}" ', 1)


def tooltips(frame: Frame) -> str:
    """Return the picture for a live widget, where no script of ours runs: the browser's tooltips show values."""
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="7" fill-opacity="0"><title>{html.escape(label)}</title></circle>'
        for x, y, label in frame.points
    )
    return picture(frame).replace("</svg>", f"{dots}</svg>")


def _row(control: Control, group: str) -> str:
    """Return one control. No ids: the same figure may stand twice on a page."""
    label = html.escape(control.label)
    if control.kind == "choice":
        radios = "".join(
            f'<label><input type="radio" name="{group}" value="{i}" autocomplete="off"'
            f"{' checked' if i == control.start else ''}><span>{html.escape(text)}</span></label>"
            for i, text in enumerate(control.texts)
        )
        return (
            f'<fieldset class="seqlab-row" data-control="choice"><legend>{label}</legend>'
            f'<span class="seqlab-choices">{radios}</span></fieldset>'
        )
    text = html.escape(control.texts[control.start])
    slide = (
        f'<label class="seqlab-slide"><span class="seqlab-name">{label}</span>'
        f'<input type="range" min="0" max="{len(control.texts) - 1}" value="{control.start}" step="1" '
        f'autocomplete="off" aria-valuetext="{text}">'
        f'<span class="seqlab-value" aria-hidden="true">{text}</span></label>'
    )
    if control.kind == "slider":
        return f'<div class="seqlab-row" data-control="slider">{slide}</div>'
    buttons = "".join(f'<button type="button">{word}</button>' for word in ("Back", "Play", "Next"))
    return (
        f'<div class="seqlab-row" role="group" aria-label="{label}" data-control="steps">'
        f'{slide}<span class="seqlab-buttons">{buttons}</span></div>'
    )


def _data(controls: Mapping[str, Control], frames: Sequence[Frame], start: int) -> str:
    """Return what the script needs, as JSON: pieces of SVG, each once, and for each frame the list of its pieces."""
    table: dict[str, int] = {}
    labels: dict[str, int] = {}
    used = [[table.setdefault(piece, len(table)) for piece in pieces(frame.svg)] for frame in frames if controls]
    data = {
        "start": start,
        "texts": [control.texts for control in controls.values()],
        "seconds": [control.seconds for control in controls.values()],
        "alts": [frame.alt for frame in frames],
        "frames": used,
        "pieces": list(table),
        "points": [[[x, y, labels.setdefault(text, len(labels))] for x, y, text in frame.points] for frame in frames],
        "labels": list(labels),
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("</", "<\\/").replace("<!--", "<\\u0021--")
