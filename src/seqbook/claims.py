"""A claim is folklore that a chapter measures where it is told.

The registry ``seqbook/claims.toml`` says, for each claim, how it is usually told, where, in which chapter it is
measured, and which verdict that measurement is expected to give. `claim` shows the verdict found, and raises if it is
not the registered one. The book's ledger page is made from what `claim` showed in the executed notebooks.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

VERDICTS = {
    "holds": ("✓", "#2e8b57"),
    "holds with a caveat": ("◐", "#b7791f"),
    "fails": ("✗", "#d1495b"),
    "not shown here": ("○", "#6b7280"),
}
REGISTRY = Path(__file__).parent / "claims.toml"
FIELDS = {"statement", "told", "url", "chapter", "verdict"}
NOT_A_NUMBER = re.compile(r"\bnan\b", re.IGNORECASE)

# Inline styles: a box is small, and Colab shows each output in a frame of its own.
BOX = (
    "max-width:42rem;margin:.8rem 0;padding:.6rem .9rem;border:1px solid rgba(128,128,128,.6);border-radius:.4rem;"
    "border-left:.4rem solid"
)
LINE = "margin:0 0 .3rem"


class ClaimChanged(AssertionError):
    """The verdict that was measured is not the registered one.

    >>> issubclass(ClaimChanged, AssertionError)
    True
    """


@dataclass(frozen=True)
class Claim:
    """One measured claim, as it is shown and as the ledger reads it."""

    id: str
    statement: str
    verdict: str
    measured: str
    seeds: int | None
    caveat: str | None
    told: str
    url: str

    def __repr__(self) -> str:
        """Return the claim, its verdict and its measurement in one line."""
        caveat = f" Caveat: {self.caveat}." if self.caveat else ""
        return f"Claim “{self.statement}”: {self.verdict}. Measured: {with_seeds(self.measured, self.seeds)}.{caveat}"

    def _repr_html_(self) -> str:
        data = escape(json.dumps(asdict(self), ensure_ascii=False), quote=True)
        caveat = f" {escape(self.caveat)}." if self.caveat else ""
        symbol, colour = VERDICTS[self.verdict]
        return (
            f'<div class="claim" id="claim-{self.id}" data-claim="{data}" style="{BOX} {colour}">'
            f'<p style="{LINE}"><strong>Claim.</strong> “{escape(self.statement)}” '
            f'(<a href="{escape(self.url, quote=True)}" style="color:inherit;text-decoration:underline">'
            f"{escape(self.told)}</a>)</p>"
            f'<p style="{LINE}"><strong>Measured.</strong> {escape(with_seeds(self.measured, self.seeds))}.</p>'
            f'<p style="margin:0"><strong><span aria-hidden="true">{symbol} </span>'
            f"Verdict: {self.verdict}.</strong>{caveat}</p></div>"
        )


def with_seeds(measured: str, seeds: int | None) -> str:
    """Return a measurement and the number of seeds it was made over.

    >>> with_seeds("ratio 1e-20", 5), with_seeds("0.9", None)
    ('ratio 1e-20 (5 seeds)', '0.9')
    """
    return measured if seeds is None else f"{measured} ({seeds} seed{'s' if seeds > 1 else ''})"


def registry(path: Path | None = None) -> dict[str, dict[str, str]]:
    """Read the registered claims.

    Args:
        path: of the file; the book's own if left out.

    Returns:
        For each claim id its statement, told, url, chapter and verdict.

    Raises:
        ValueError: an entry misses a field, has an unknown one, or names an unknown verdict.

    >>> sorted(registry()["lstm-keeps-gradient"])
    ['chapter', 'statement', 'told', 'url', 'verdict']
    """
    entries = tomllib.loads((path or REGISTRY).read_text(encoding="utf-8"))
    for name, entry in entries.items():
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ValueError(f"claims.toml: expected an id of a-z, 0-9 and hyphens, got {name!r}; rename the claim")
        if set(entry) != FIELDS:
            raise ValueError(
                f"claims.toml: expected [{name}] to have {', '.join(sorted(FIELDS))}, got {', '.join(sorted(entry))}; "
                "add what is missing and remove the rest"
            )
        if entry["verdict"] not in VERDICTS:
            raise ValueError(
                f"claims.toml: expected the verdict of [{name}] to be one of {', '.join(VERDICTS)}, "
                f"got {entry['verdict']!r}; choose one of them"
            )
    return entries


def claim(id: str, *, holds: bool | None, measured: str, seeds: int | None = None, caveat: str | None = None) -> None:
    """Show the verdict on a registered claim, and raise if it is not the one registered.

    The verdict is *fails* where ``holds`` is false, *not shown here* where it is None, *holds with a caveat* where it is
    true and there is a caveat, *holds* otherwise. It is displayed, as one line of text and as a box, wherever in its cell the call stands.

    Args:
        id: the claim's name in ``claims.toml``.
        holds: what the measurement decided, computed and never typed in; None where the measurement lacks the power, or
            the setting of the source, to decide.
        measured: the number that decided, with its unit, as the ledger prints it.
        seeds: how many seeds it was measured over; none where there is nothing random.
        caveat: what has to be added for the claim to be true, without a full stop.

    Raises:
        ClaimChanged: the verdict found is not the registered one.
        TypeError: ``holds`` is not a bool or None, ``measured`` not a string, or ``seeds`` not an int.
        ValueError: no such claim, or nothing was measured.

    >>> claim("product-below-one-vanishes", holds=0.9**100 < 1e-3, measured=f"0.9 to the 100th is {0.9**100:.1e}")
    Claim “A factor a little below 1, multiplied over many steps, makes the gradient vanish.”: holds. Measured: 0.9 to the 100th is 2.7e-05.
    """  # noqa: E501
    entries = registry()
    if id not in entries:
        near = difflib.get_close_matches(id, entries, n=3, cutoff=0.4) or sorted(entries)
        raise ValueError(
            f"claim: expected a registered id, got {id!r}; did you mean {', '.join(near)}? "
            "A new claim is added to claims.toml first"
        )
    entry = entries[id]
    held = None if holds is None else as_bool(id, holds)
    checked_measurement(id, measured, seeds)
    when_true = "holds with a caveat" if caveat else "holds"
    found = {None: "not shown here", False: "fails", True: when_true}[held]
    if found != entry["verdict"]:
        raise ClaimChanged(
            f"claim {id!r}: expected the registered verdict {entry['verdict']!r}, got {found!r}; "
            f"measured: {with_seeds(measured, seeds)}. Look at the measurement first; if the world changed, change "
            f"the verdict in claims.toml and the prose of chapter {entry['chapter']}"
        )
    show(Claim(id, entry["statement"], found, measured, seeds, caveat or None, entry["told"], entry["url"]))


def show(shown: Claim) -> None:
    """Display a claim, wherever in its cell it stands; without IPython, print it."""
    try:
        from IPython.display import display
    except ImportError:
        print(shown)
    else:
        display(shown)


def as_bool(id: str, holds: Any) -> bool:
    """Return a Python bool for a bool, a NumPy bool or a boolean tensor of one element.

    >>> as_bool("x", True)
    True
    """
    one = not hasattr(holds, "shape") or all(size == 1 for size in holds.shape)
    value = holds.item() if one and hasattr(holds, "item") else holds
    if not isinstance(value, bool):
        raise TypeError(
            f"claim {id!r}: expected holds to be a bool, got {type(holds).__name__} {holds!r}; "
            "compare the measurement with its threshold"
        )
    return value


def checked_measurement(id: str, measured: Any, seeds: Any) -> None:
    """Raise if ``measured`` or ``seeds`` cannot stand in the ledger.

    >>> checked_measurement("x", "0 of 3 seeds", 3)
    """
    if not isinstance(measured, str):
        raise TypeError(
            f"claim {id!r}: expected measured to be a string, got {type(measured).__name__} {measured!r}; "
            'format the number and its unit, as in f"ratio {ratio:.1e}"'
        )
    if not measured.strip():
        raise ValueError(f"claim {id!r}: expected a measurement, got {measured!r}; say which number decided")
    if NOT_A_NUMBER.search(measured):
        raise ValueError(
            f"claim {id!r}: expected a number, got {measured!r}; a comparison with NaN is always false and decides "
            "nothing. If not being a number is the finding, say it in words"
        )
    if seeds is not None and (not isinstance(seeds, int) or isinstance(seeds, bool)):
        raise TypeError(f"claim {id!r}: expected seeds to be an int, got {type(seeds).__name__}; use len(seeds)")
    if seeds is not None and seeds < 1:
        raise ValueError(f"claim {id!r}: expected seeds >= 1, got {seeds}; leave it out where nothing is random")
