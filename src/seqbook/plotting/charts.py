"""The book's kinds of picture: arrays in, on the given Axes.

S: seeds (runs), L: time steps, X: points on the horizontal axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .looks import SEED_BAND, label_ends, log_scale, looks
from .reading import as_array, hover


def gradient_profile(
    ax: Axes, profiles: Mapping[str, Any], *, ylim: tuple[float, float] | None = None, quantity: str = "‖∂L/∂hₜ‖"
) -> None:
    """Draw the size of the gradient at each time step: the median of the seeds, a band from the lowest to the highest.

    Time runs backward, from the last step on the left to step 1 on the right, as the gradient travels; so lines part
    toward their labels. Zeros have no place on a logarithmic axis: there the line stops.

    Args:
        profiles: label → array of shape (L,) or (S, L). A label that names an architecture gets its colour.
        ylim: limits of the vertical axis; give them where frames are to be compared.
        quantity: label of the vertical axis.

    Raises:
        ValueError: if there is no profile, or an array has another number of dimensions.

    >>> from seqbook.plotting import hover_points, new_figure
    >>> figure, ax = new_figure(right=1.2)
    >>> gradient_profile(ax, {"RNN": 0.5 ** np.arange(100)[::-1]}, ylim=(1e-32, 10))
    >>> bool(ax.xaxis_inverted())
    True
    """
    series = _series("gradient_profile", profiles)
    log_scale(ax)
    ends = []
    for (label, values), kind in zip(series.items(), looks(list(series)), strict=True):
        positive = np.where(values > 0, values, np.nan)
        steps = np.arange(1, values.shape[1] + 1)
        middle = _draw_band(ax, steps, positive, kind)
        some = np.unique(np.linspace(0, len(steps) - 1, 21).astype(int))
        hover(ax, steps[some], middle[some], lambda t, y, label=label: f"{label}, step {t:.0f}: {y:.2g}")  # type: ignore[misc]
        ends.append((middle, label, kind))
    if ylim is not None:
        ax.set_ylim(*ylim)
    length = max(values.shape[1] for values in series.values())
    ax.set(xlim=(length, 1), xlabel="time step t, from the last back to the first", ylabel=quantity)
    ax.set_xticks(sorted({1, *np.linspace(0, length, 6)[1:].astype(int)} - {0}))
    label_ends(ax, [(_first_finite(middle), label, kind) for middle, label, kind in ends])


def spread(ax: Axes, x: Any, series: Mapping[str, Any]) -> None:
    """Draw a measure against x: a dot for each seed, a line through the medians, a band from lowest to highest.

    Args:
        x: shape (X,).
        series: label → array of shape (X,) or (S, X).

    Raises:
        ValueError: if an array does not fit x.

    >>> from seqbook.plotting import hover_points, new_figure
    >>> figure, ax = new_figure(right=1.2)
    >>> spread(ax, [0, 4, 16], {"GRU": [[1.0, 0.98, 0.9], [1.0, 0.99, 0.97]]})
    >>> hover_points(figure)[2][2]
    'GRU at 16: 0.935 (0.9 to 0.97, 2 seeds)'
    """
    x = as_array(x)
    arrays = _series("spread", series)
    ends = []
    for (label, values), kind in zip(arrays.items(), looks(list(arrays)), strict=True):
        if x.shape != values.shape[1:]:
            raise ValueError(
                f"spread: expected {label!r} of shape (S, X) with X={x.size}, got {values.shape}; "
                "put seeds first, then the points of x"
            )
        middle = _draw_band(ax, x, values, kind)
        marker, colour = kind["marker"], kind["color"]
        ax.plot(x, middle, marker=marker, color=colour, linestyle="none")
        for run in values if len(values) > 1 else []:
            ax.plot(x, run, marker=marker, color=colour, linestyle="none", markersize=3.5, alpha=0.6, mew=0)
        hover(ax, x, middle, [f"{label} at {a:g}: {text}" for a, text in zip(x, _summaries(values), strict=True)])
        ends.append((middle[int(np.argmax(x))], label, kind))
    if x.size <= 8:
        ax.set_xticks(x, [f"{a:g}" for a in x])
    label_ends(ax, ends)


def histogram(
    ax: Axes, samples: Mapping[str, Any], *, bins: int = 30, limits: tuple[float, float] | None = None
) -> None:
    """Draw the share of values in each bin, one outline for each label.

    Args:
        samples: label → array of any shape.
        bins: number of bins.
        limits: range of the bins; that of the data if None. Values outside are not drawn, but count in the share.

    Raises:
        ValueError: if there is nothing to draw.

    >>> from seqbook.plotting import hover_points, new_figure
    >>> figure, ax = new_figure()
    >>> histogram(ax, {"RNN": [0.1, 0.1, 0.9, 0.8]}, bins=2, limits=(0, 1))
    >>> hover_points(figure)[0][2]
    'RNN, 0 to 0.5: 50 %'
    """
    arrays = {label: _finite(as_array(values).ravel()) for label, values in samples.items()}
    if not arrays or not all(values.size for values in arrays.values()):
        raise ValueError("histogram: expected at least one finite value for each label, got none; check for NaN")
    if limits is None:
        limits = (min(v.min() for v in arrays.values()), max(v.max() for v in arrays.values()))
    for (label, values), kind in zip(arrays.items(), looks(list(arrays)), strict=True):
        counts, edges = np.histogram(values, bins=bins, range=limits)
        share = 100 * counts / values.size
        ax.stairs(share, edges, fill=True, color=kind["color"], alpha=SEED_BAND)
        ax.stairs(share, edges, color=kind["color"], linestyle=kind["linestyle"], linewidth=2, label=label)
        ranges = [f"{a:.3g} to {b:.3g}" for a, b in itertools.pairwise(edges)]
        hover(
            ax,
            (edges[:-1] + edges[1:]) / 2,
            share,
            [f"{label}, {span}: {value:.2g} %" for span, value in zip(ranges, share, strict=True)],
        )
    ax.set(xlim=limits, ylabel="share of values (%)")
    ax.set_ylim(bottom=0)
    if len(arrays) > 1:
        ax.legend()


def heatmap(
    ax: Axes,
    matrix: Any,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    quantity: str,
    limits: tuple[float, float] | None = None,
) -> None:
    """Draw a matrix as coloured cells; up to 100 cells carry their number, more get a colour bar.

    Args:
        matrix: shape (len(rows), len(columns)).
        rows, columns: their names.
        quantity: what a cell holds, with its unit; the label of the colour bar, or the title.
        limits: values of the two ends of the colour scale. If None: those of the data, made symmetric about 0 where
            both signs occur.

    Raises:
        ValueError: if the names do not fit the matrix, or no value is finite.

    >>> from seqbook.plotting import hover_points, new_figure
    >>> figure, ax = new_figure()
    >>> heatmap(ax, [[0.9, 0.1]], rows=["cat"], columns=["chat", "mat"], quantity="weight")
    >>> [text.get_text() for text in ax.texts]
    ['0.9', '0.1']
    """
    values = as_array(matrix)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"heatmap: expected a matrix of {len(rows)} rows x {len(columns)} columns as named, "
            f"got shape {values.shape}; transpose it or give a name to each row and column"
        )
    finite = _finite(values.ravel())
    if not finite.size:
        raise ValueError("heatmap: expected at least one finite value, got none; check for NaN")
    low, high = float(finite.min()), float(finite.max())
    signed = low < 0 < high
    if limits is None:
        limits = (-max(-low, high), max(-low, high)) if signed else (low, high)
    drawn = ax.pcolormesh(
        values, cmap="RdBu_r" if signed else "cividis", vmin=limits[0], vmax=limits[1], rasterized=values.size > 2500
    )
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.invert_yaxis()
    ax.grid(False)
    ax.tick_params(length=0)
    places = [(i, j) for i in range(len(rows)) for j in range(len(columns))]
    if values.size <= 100:
        ax.set_title(quantity)
        for (i, j), colour in zip(places, drawn.to_rgba(values.ravel()), strict=True):
            # Fixed colours: the cell behind the number does not change with the page's theme.
            ink = "#111111" if np.dot(colour[:3], [0.299, 0.587, 0.114]) > 0.5 else "#FFFFFF"
            ax.text(j + 0.5, i + 0.5, f"{values[i, j]:.2g}", ha="center", va="center", color=ink)
    else:
        ax.get_figure().colorbar(drawn, ax=ax, label=quantity)  # type: ignore[union-attr]
        at = np.array(places)
        texts = [f"{rows[i]}, {columns[j]}: {values[i, j]:.2g}" for i, j in places]
        hover(ax, at[:, 1] + 0.5, at[:, 0] + 0.5, texts)


def in_words(series: Mapping[str, Any], x: Any = None, *, at: str = "step") -> str:
    """Say what a figure of several lines shows, as the start of a text alternative: each line's two ends.

    Args:
        series: label → array of shape (X,) or (S, X).
        x: shape (X,); 1, 2, ... if None.
        at: what x counts.

    >>> in_words({"RNN": [1e-23, 1.0], "LSTM": [[0.5, 1.0], [0.7, 1.0]]})
    'RNN: 1e-23 at step 1, 1 at step 2. LSTM: 0.6 (0.5 to 0.7, 2 seeds) at step 1, 1 (1 to 1, 2 seeds) at step 2.'
    """
    sentences = []
    for label, values in _series("in_words", series).items():
        places = np.arange(1, values.shape[1] + 1) if x is None else as_array(x)
        texts = _summaries(values[:, [0, -1]])
        sentences.append(f"{label}: {texts[0]} at {at} {places[0]:g}, {texts[1]} at {at} {places[-1]:g}.")
    return " ".join(sentences)


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _series(who: str, series: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays as (S, X), with NaN for what is not finite."""
    arrays = {label: as_array(values) for label, values in series.items()}
    if not arrays:
        raise ValueError(f"{who}: expected at least one label with its array, got none")
    for label, values in arrays.items():
        if values.ndim not in (1, 2) or not values.size:
            raise ValueError(
                f"{who}: expected {label!r} of shape (X,) or (S, X), not empty, got {values.shape}; put seeds first"
            )
    return {label: np.where(np.isfinite(v), v, np.nan).reshape(-1, v.shape[-1]) for label, v in arrays.items()}


def _draw_band(ax: Axes, x: np.ndarray, values: np.ndarray, kind: Mapping[str, Any]) -> np.ndarray:
    """Draw median and min-max band of values (S, X); return the median (X,). A point that no seed has is a gap."""
    values = np.ma.masked_invalid(values)
    middle = np.ma.median(values, axis=0)
    if len(values) > 1:
        ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=kind["color"], alpha=SEED_BAND, linewidth=0)
    ax.plot(x, middle, color=kind["color"], linestyle=kind["linestyle"])
    return np.ma.filled(np.ma.asarray(middle, dtype=float), np.nan)


def _first_finite(values: np.ndarray) -> float:
    finite = _finite(values)
    return float(finite[0]) if finite.size else float("nan")


def _summaries(values: np.ndarray) -> list[str]:
    """Median (lowest to highest, seeds) of each column of (S, X), as text."""
    texts = []
    for column in values.T:
        known = _finite(column)
        text = f"{np.median(known):.3g}" if known.size else "no value"
        if len(column) > 1 and known.size:
            text += f" ({known.min():.3g} to {known.max():.3g}, {known.size} seeds)"
        texts.append(text)
    return texts
