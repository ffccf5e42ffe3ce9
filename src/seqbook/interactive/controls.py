"""What a reader can change in a figure: a slider, a choice of one among a few, moments that play and step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Control:
    """One control of an explorable figure; made by :func:`slider`, :func:`choice` and :func:`steps`.

    >>> Control("slider", (1, 2), ("one", "two")).start
    0
    """

    kind: str  # "slider", "choice" or "steps"
    values: tuple[Any, ...]
    texts: tuple[str, ...]  # what the reader sees of each value
    label: str = ""
    start: int = 0  # index of the value shown first
    seconds: tuple[float, ...] = ()  # how long each value stays when playing; empty where nothing plays


def slider(
    values: Sequence[Any], *, label: str = "", format: str | Callable[[Any], str] = "{}", start: Any = None
) -> Control:
    """Return a slider over ``values``. A plain sequence given to ``explore`` is the same with nothing else said.

    Args:
        values: one or more, in order.
        label: name of the control; that of the keyword, underscores as spaces, if empty.
        format: of each value, a format string or a function; it may add a unit.
        start: the value shown first; the first one if None.

    Raises:
        ValueError: if there are no values, two of them look the same, or ``start`` is none of them.

    >>> slider([0.9, 1.1], label="|W|", format="{:.2f}").texts
    ('0.90', '1.10')
    """
    return _control("slider", values, label, format, start)


def choice(
    values: Sequence[Any], *, label: str = "", format: str | Callable[[Any], str] = "{}", start: Any = None
) -> Control:
    """Return a choice of one among a few ``values``, all in view. The arguments are those of :func:`slider`.

    >>> choice(["RNN", "LSTM"], start="LSTM").start
    1
    """
    return _control("choice", values, label, format, start)


def steps(
    values: Sequence[Any],
    *,
    label: str = "",
    format: str | Callable[[Any], str] = "{}",
    start: Any = None,
    seconds: float | Callable[[Any], float] = 0.7,
) -> Control:
    """Return a slider over moments, with buttons that play it and step it. The arguments are those of :func:`slider`.

    Nothing plays before a press of Play; where the reader asks for reduced motion, one press is one step.

    Args:
        values, label, format, start: as of a slider.
        seconds: how long a moment stays when playing, or a function of the value; give captions time to be read.

    Raises:
        ValueError: as slider does, or if a moment does not stay at all.

    >>> steps(range(1, 4), format="t = {}").texts
    ('t = 1', 't = 2', 't = 3')
    >>> steps(["short", "a long caption"], seconds=lambda text: 1 + len(text) / 15).seconds
    (1.3333333333333333, 1.9333333333333333)
    """
    control = _control("steps", values, label, format, start)
    stays = tuple(float(seconds(value) if callable(seconds) else seconds) for value in control.values)
    if not all(stay > 0 for stay in stays):
        raise ValueError(f"steps {label!r}: expected each moment to stay for more than 0 seconds, got {stays}")
    return replace(control, seconds=stays)


def _control(kind: str, values: Sequence[Any], label: str, format: str | Callable[[Any], str], start: Any) -> Control:
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    texts = [format(value) if callable(format) else format.format(value) for value in values]
    if not values or len(set(texts)) < len(texts):
        raise ValueError(
            f"{kind} {label!r}: expected one or more values that a reader can tell apart, got {texts}; "
            "drop the doubles or give a finer format"
        )
    control = Control(kind, tuple(values), tuple(texts), label)
    return control if start is None else _started(control, start)


def starting(controls: Mapping[str, Control], start: Mapping[str, Any]) -> dict[str, Control]:
    """Return the controls with the values on which they open, those of ``start`` by keyword.

    Raises:
        ValueError: a keyword or a value is none of the controls'.

    >>> starting({"W": slider([0.9, 1.1])}, {"W": 1.1})["W"].start
    1
    """
    if unknown := sorted(set(start) - set(controls)):
        raise ValueError(
            f"explore: expected start to name controls ({', '.join(controls) or 'there are none'}), got "
            f"{', '.join(unknown)}; use the keyword of the control"
        )
    return {key: _started(c, start[key]) if key in start else c for key, c in controls.items()}


def _started(control: Control, start: Any) -> Control:
    if start not in control.values:
        raise ValueError(
            f"{control.kind} {control.label!r}: expected start to be one of {list(control.texts)}, got {start!r}; "
            "name a value, not an index"
        )
    return replace(control, start=control.values.index(start))
