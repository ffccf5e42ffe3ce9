"""What one training step showed, as data and in words, and the rules that call a fault by its name.

L: length, N: batch, H: hidden_size.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

LINES, COLUMNS = 24, 100  # of a screen
SATURATED = 0.97  # a state beyond this has tanh' = 1 - h² below 0.06


class Finding(NamedTuple):
    """One fault: its kind (non-finite, exploding, vanishing, saturated, dead, subnormal), where, and what was seen.

    >>> Finding("dead", "h_l0", "60% of the units are 0 at every step").kind
    'dead'
    """

    kind: str
    where: str
    text: str


@dataclass(frozen=True, eq=False)
class Profile:
    """One state of one direction of one layer over the input's time axis. Norms are over batch and units together.

    ∂L/∂c_t counts all paths, by way of h_t too. In a batch of unequal lengths a short sequence's state waits where it
    has no step, and so does its gradient.

    >>> gradient = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64)
    >>> profile = Profile("h", False, gradient, torch.ones(3), saturated=0, dead=0, subnormal=0, direct=1 / 3)
    >>> profile.ratio, round(profile.rate, 3)
    (0.25, 0.5)
    """

    state: str  # "h" or "c"
    reverse: bool
    gradient: Tensor  # (L,) ‖∂L/∂h_t‖ or ‖∂L/∂c_t‖, float64
    size: Tensor  # (L,) ‖h_t‖ or ‖c_t‖
    saturated: float  # share of |h| or |tanh c| above 0.97; 0 for ReLU
    dead: float  # share of units that are 0 at every step of every sequence
    subnormal: float  # share of the gradient's elements that are not 0, yet too small for full precision
    direct: float  # share of outputs that get an error straight from the loss, above a tenth of the largest such

    @property
    def ratio(self) -> float:
        """The gradient at the step computed first over that at the last one that has any."""
        gradient = self.ordered(self.gradient)
        return float(gradient[0] / gradient[gradient != 0][-1]) if gradient.any() else math.nan

    @property
    def rate(self) -> float:
        """Factor by which the gradient changes with each step back in time, fitted over all steps."""
        return float(_log_rate(self.ordered(self.gradient)).exp())

    def ordered(self, values: Tensor) -> Tensor:
        """Values over the time axis in the order of computation: the reverse direction begins at the end."""
        return values.flip(0) if self.reverse else values


def _log_rate(gradient: Tensor) -> Tensor:
    """Slope of log gradient for each step back, by least squares; NaN with fewer than two values."""
    t = torch.nonzero((gradient > 1e-37) & gradient.isfinite()).squeeze(1)  # in float32, smaller ones are coarse
    x, y = t - t.double().mean(), gradient[t].log()
    return -(x * y).sum() / (x * x).sum()


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What one training step showed, as data; ``verdict`` says it in words, ``table()`` in columns.

    ``print`` fits a screen: the verdict, what was not watched and why, and the most telling rows of the table.

    A figure: ``seqbook.plotting.gradient_profile(ax, {name: p.gradient for name, p in report.profiles.items()})``.

    >>> from seqlab import RNN, GradientMonitor
    >>> layer = RNN(3, 5)
    >>> with GradientMonitor(layer) as monitor:
    ...     layer(torch.zeros(4, 1, 3))[0][-1].sum().backward()
    >>> monitor.report.step, list(monitor.report.profiles)
    (0, ['h_l0'])
    """

    step: int
    loss: float | None
    norm: float  # of all parameters' gradients together
    parameters: dict[str, tuple[float, float]]  # name: norm of the gradient (0 if it has none), norm of the weight
    profiles: dict[str, Profile]  # "h_l0", "encoder.c_l1_reverse", ...: torch's suffixes
    judge: Callable[[Report], Iterable[Finding]] = field(repr=False)  # the rules, ``find`` with its thresholds
    usual: float = math.inf  # median of the norms in the reports before, once there are three
    unwatched: dict[str, str] = field(default_factory=dict)  # name: why it has no profile

    @cached_property
    def findings(self) -> list[Finding]:
        """All faults, found when first asked for."""
        return list(self.judge(self))

    @property
    def verdict(self) -> str:
        """The findings in words; without any, healthy, or undecided if errors at every step hide the answer."""
        kinds: dict[str, list[Finding]] = {}
        for finding in self.findings:
            kinds.setdefault(finding.kind, []).append(finding)
        if kinds:
            more = {kind: f" and {len(found) - 1} more" if found[1:] else "" for kind, found in kinds.items()}
            return "; ".join(f"{kind} in {f.where}{more[kind]}: {f.text}" for kind, (f, *_) in kinds.items())
        name, p = min(self.profiles.items(), key=lambda item: item[1].ratio)
        seen = f"‖∂L/∂{p.state}_t‖ of {name} changes by ×{p.rate:.3g} a step back in time, ×{p.ratio:.2g} in all"
        if p.direct > 0.5:
            return f"undecided: {seen}, but each step gets an error of its own; monitor a loss on the last step alone"
        return f"healthy: {seen}"

    def __str__(self) -> str:
        """Title, verdict, what is not watched and the most telling rows, in 24 lines of 100 columns at most."""
        verdict = textwrap.wrap(self.verdict, COLUMNS)
        lines = [self._title(), *verdict[:4], *(["..."] if verdict[4:] else [])]
        reasons = [_short(line, COLUMNS) for line in self._reasons()]
        lines += reasons if len(reasons) < 4 else [*reasons[:3], f"not watched: {len(reasons) - 3} more; see unwatched"]
        faulty = [finding.where for finding in self.findings]
        states = sorted(self.profiles, key=lambda name: faulty.index(name) if name in faulty else len(faulty))
        parameters = sorted(self.parameters, key=lambda name: -_surprise(self.parameters[name][0]))
        room = LINES - len(lines) - 5  # two blank lines, two headings, the last line
        n = min(len(states), max(room // 2, room - len(parameters)))
        m = min(len(parameters), room - n)
        lines += ["", *self._rows(set(states[:n]), set(parameters[:m]), 10, COLUMNS - 70)]
        if n < len(states) or m < len(parameters):
            left = f"{len(states) - n} of {len(states)} states, {len(parameters) - m} of {len(parameters)} parameters"
            lines.append(f"left out: {left}; table() has all")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Report of step {self.step}: {len(self.profiles)} states, {len(self.parameters)} parameters>"

    def table(self) -> str:
        """The numbers as text, a line for each state and each parameter; first and last in order of computation."""
        rows = self._rows(self.profiles.keys(), self.parameters.keys(), 11)
        return "\n".join([self._title(), *self._reasons(), "", *rows])

    def _title(self) -> str:
        loss = "" if self.loss is None else f"   loss {self.loss:.4g}"
        return f"step {self.step}{loss}   gradient {self.norm:.2e}"

    def _reasons(self) -> list[str]:
        return [f"not watched: {name or 'the model'}: {reason}" for name, reason in self.unwatched.items()]

    def _rows(self, states: Set[str], parameters: Set[str], column: int, width: int | None = None) -> list[str]:
        """Lines of these states and parameters, in the model's order; longer names are cut to the width."""
        rows = [["state", "steps", "first", "last", "a step", "saturated", "dead", "subnormal"]]
        for name, p in self.profiles.items():
            if name in states:
                ends = [f"{float(g):.1e}" for g in p.ordered(p.gradient)[[0, -1]]]
                shares = [f"{share:.0%}" for share in (p.saturated, p.dead, p.subnormal)]
                rows.append([name, str(len(p.gradient)), *ends, f"×{p.rate:.3g}", *shares])
        rows += [[""], ["parameter", "gradient", "weight"]]
        for name, norms in self.parameters.items():
            if name in parameters:
                rows.append([name, *(f"{norm:.1e}" for norm in norms)])
        names = [_short(name, width or len(name)) for name, *_ in rows]
        longest = max(map(len, names))
        lines = [
            name.ljust(longest) + "".join(cell.rjust(column) for cell in cells)
            for name, (_, *cells) in zip(names, rows, strict=True)
        ]
        return [line.rstrip() for line in lines]

    def log(self, writer: Any, step: int | None = None) -> None:
        """Write scalars, the verdict, and each profile as a histogram over t to a TensorBoard SummaryWriter.

        The bar of the histogram at t is as high as ‖∂L/∂h_t‖: over training its ridges show how far gradients reach.
        """
        step = self.step if step is None else step
        writer.add_text("gradient/verdict", self.verdict, step)
        writer.add_scalar("gradient/norm", self.norm, step)
        for name, (gradient, _) in self.parameters.items():
            writer.add_scalar(f"gradient of parameter/{name}", gradient, step)
        for name, p in self.profiles.items():
            writer.add_scalar(f"gradient first over last/{name}", p.ratio, step)
            writer.add_scalar(f"gradient a step back/{name}", p.rate, step)
            g, t = p.gradient, torch.arange(len(p.gradient), dtype=torch.float64, device=p.gradient.device)
            if g.isfinite().all():
                sums = [float(values.sum()) for values in (g, g * t, g * t * t)]
                edges = (t + 0.5).tolist()  # the bar of t lies between t - 0.5 and t + 0.5
                writer.add_histogram_raw(f"gradient over t/{name}", -0.5, edges[-1], *sums, edges, g.tolist(), step)


def _short(text: str, width: int) -> str:
    """The text, or its two ends where it is longer than the width."""
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - half]}…{text[-half:]}"


def _surprise(gradient: float) -> float:
    """Rank of a parameter's gradient: not finite before 0, which is none, before the largest."""
    return math.inf if not math.isfinite(gradient) else 1e308 if gradient == 0 else gradient


def find(report: Report, vanishing: float, exploding: float) -> Iterator[Finding]:
    """All faults of a report. After a NaN or Inf no other rule is tried."""
    for where, value, text in _in_order_of_meeting(report):
        if not math.isfinite(value):
            yield Finding("non-finite", where, f"{'NaN' if math.isnan(value) else 'Inf'} {text}")
            return
    if report.norm > exploding * report.usual:
        times = report.norm / report.usual if report.usual else math.inf
        text = f"gradient norm {report.norm:.1e}, {times:.0f} times its median in the reports before"
        yield Finding("exploding", "the parameters", text)
    for name, p in report.profiles.items():
        gradient, L, symbol = p.ordered(p.gradient), len(p.gradient), f"∂L/∂{p.state}_t"
        changes = f"‖{symbol}‖ changes by ×{{:.3g}} a step back in time"
        if (L - 1) * _log_rate(gradient) > math.log(exploding):
            yield Finding("exploding", name, f"{changes.format(p.rate)}, over {L} steps")
        largest = int(gradient.argmax())
        counts = int((gradient >= vanishing * gradient[largest]).nonzero()[0])  # the first step that counts
        if gradient[largest] == 0:
            yield Finding("vanishing", name, f"‖{symbol}‖ is 0 at every step: cut off from the loss, or all dead")
        elif counts > 0:
            rate = float(_log_rate(gradient[: largest + 1]).exp())
            side = f"after step {L - 1 - counts}" if p.reverse else f"before step {counts}"
            text = f"{changes.format(rate)}, below {vanishing:g} of its largest {side} of {L}"
            yield Finding("vanishing", name, text)
        if p.state == "h" and p.saturated > 0.5:
            yield Finding("saturated", name, f"{p.saturated:.0%} of |h| is above {SATURATED}, where tanh' < 0.06")
        if p.state == "h" and p.dead > 0.5:
            yield Finding("dead", name, f"{p.dead:.0%} of the units are 0 at every step")
        if p.subnormal > 0.01:
            yield Finding("subnormal", name, f"{p.subnormal:.0%} of {symbol} is subnormal, which slows a CPU down")


def _in_order_of_meeting(report: Report) -> Iterator[tuple[str, float, str]]:
    """All numbers in the order in which a training step computes them: (where, value, words for a value not finite)."""
    for name, (_, weight) in report.parameters.items():
        yield name, weight, "in the weight, from before this step"
    for name, p in report.profiles.items():
        steps = list(enumerate(p.size.tolist()))
        for t, size in reversed(steps) if p.reverse else steps:
            yield name, size, f"at step {t}, first met in the forward pass"
    if report.loss is not None:
        yield "the loss", report.loss, "though every recurrent state is finite"
    for name, p in reversed(report.profiles.items()):
        steps = list(enumerate(p.gradient.tolist()))
        for t, gradient in steps if p.reverse else reversed(steps):
            yield name, gradient, f"in ∂L/∂{p.state}_t at step {t}, first met in the backward pass"
    for name, (gradient, _) in report.parameters.items():
        yield name, gradient, "in the gradient, first met in the backward pass"
