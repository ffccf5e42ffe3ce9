"""An explorable figure as one piece of HTML that needs nothing else: style, picture, controls, frames, script."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..markup import static, to_html
from .controls import Control
from .svg import pieces

LEGIBLE = 11  # px of the smallest text, on a phone as well
PHONE = 382  # px that a picture has there: 390 without a narrow margin


class Frame(NamedTuple):
    """One picture: its SVG, its text alternative, the points that can be read off it, and what is told of it.

    >>> picture(Frame("<svg ></svg>", "Nothing yet.", []))
    '<svg role="img" aria-label="Nothing yet." ></svg>'
    """

    svg: str
    alt: str
    points: list[tuple[float, float, str]]
    narration: str = ""


def whole(
    name: str, controls: Mapping[str, Control], frames: Sequence[Frame], start: int, label: str = "", caption: str = ""
) -> str:
    """Return the figure as HTML. A still one without points to read needs no script."""
    first = frames[start]
    readable = any(frame.points for frame in frames)
    alive = bool(controls) or readable
    parts = [
        f'<figure class="seqlab-figure{" seqlab-explore" if alive else ""}" id="fig-{name}" data-name="{name}">',
        f"<style>{static('link.css')}\n{static('explore.css')}</style>",
        f'<div class="seqlab-picture"{_least_width(frames)}>{picture(first)}</div>',
    ]
    if readable:
        hint = "To read values, point, tap, or focus the picture and press ← →."
        parts.append(f'<p class="seqlab-reading" aria-live="polite" hidden>{hint}</p>')
    if controls:
        rows = "".join(_row(control, key, f"{name}-{key}") for key, control in controls.items())
        setting = html.escape(", ".join(f"{c.label}: {c.texts[c.start]}" for c in controls.values()))
        parts += [
            f'<div class="seqlab-controls" hidden>{rows}</div>',
            f"<noscript><p>The controls of this figure need JavaScript. Shown here: {setting}.</p></noscript>",
            '<p class="seqlab-said" aria-live="polite"></p>',
        ]
    if any(frame.narration for frame in frames):  # the longest one, unseen, keeps what follows from moving
        longest = max((frame.narration for frame in frames), key=len)
        parts.append(
            f'<div class="seqlab-narration"><p>{to_html(first.narration)}</p>'
            f'<p aria-hidden="true">{to_html(longest)}</p></div>'
        )
    parts.append(figcaption(name, label, caption))
    if any(frame.narration != frame.alt for frame in frames):
        parts.append(
            f'<details><summary>In words</summary><p class="seqlab-words">{html.escape(first.alt)}</p></details>'
        )
    if alive:
        parts += [
            f'<script type="application/json">{_data(controls, frames, start)}</script>',
            f"<script>{static('explore.js')}</script>",
        ]
    return "\n".join([*filter(None, parts), "</figure>"])


def figcaption(name: str, label: str, caption: str, tag: str = "figcaption") -> str:
    """Return number, caption and a link to the figure's own place; nothing where there is neither number nor caption.

    Without a name there is no link: a live figure has no place of its own.

    >>> figcaption("product", "Figure 4.1", "", tag="p")
    '<p class="seqlab-caption"><strong>Figure 4.1</strong> <a class="seqlab-link" href="#fig-product" \
aria-label="Link to Figure 4.1">#</a></p>'
    """
    if not label and not caption:
        return ""
    title = f"Link to {label or 'this figure'}"
    link = f'<a class="seqlab-link" href="#fig-{name}" aria-label="{title}">#</a>' if name else ""
    texts = [f"<strong>{label}</strong>" if label else "", to_html(caption), link]
    return f'<{tag} class="seqlab-caption">{" ".join(filter(None, texts))}</{tag}>'


def _least_width(frames: Sequence[Frame]) -> str:
    """Return attributes for a picture whose text would be too small on a phone: there it scrolls, by key as well."""
    needed = 0.0
    for frame in frames:
        sizes = re.findall(r"<text[^>]*font-size: ([\d.]+)px", frame.svg)
        width = re.search(r'viewBox="\S+ \S+ (\S+)', frame.svg)
        if sizes and width:
            needed = max(needed, LEGIBLE * float(width[1]) / min(map(float, sizes)))
    if needed <= PHONE:
        return ""
    return f' style="--least: {needed:.0f}px" tabindex="0" role="group" aria-label="Picture; scrolls sideways"'


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


def _row(control: Control, key: str, group: str) -> str:
    """Return one control. ``key`` is its name in an address that keeps the state."""
    label, kind = html.escape(control.label), f'data-control="{control.kind}" data-key="{key}"'
    if control.kind == "choice":
        radios = "".join(
            f'<label><input type="radio" name="{group}" value="{i}" autocomplete="off"'
            f"{' checked' if i == control.start else ''}><span>{html.escape(text)}</span></label>"
            for i, text in enumerate(control.texts)
        )
        return (
            f'<fieldset class="seqlab-row" {kind}><legend>{label}</legend>'
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
        return f'<div class="seqlab-row" {kind}>{slide}</div>'
    buttons = "".join(f'<button type="button">{word}</button>' for word in ("Back", "Play", "Next"))
    return (
        f'<div class="seqlab-row" role="group" aria-label="{label}" {kind}>'
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
        "narrations": [to_html(frame.narration) for frame in frames] if any(f.narration for f in frames) else [],
        "frames": used,
        "pieces": list(table),
        "points": [[[x, y, labels.setdefault(text, len(labels))] for x, y, text in frame.points] for frame in frames],
        "labels": list(labels),
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("</", "<\\/").replace("<!--", "<\\u0021--")
