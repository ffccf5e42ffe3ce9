"""Measuring: two functions in turn, so that whatever else the machine does falls on both; and peak memory."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

Work = Callable[[], Any]
Pair = Callable[[], tuple[Work, Work]]  # makes seqlab's side and the baseline


class Measured(NamedTuple):
    """What a row of the table shows: medians in ms or MiB, their ratio, and the quartiles of the ratio."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    pairs: int


def interleaved(ours: Work, baseline: Work, pairs: int = 15, seconds: float = 1.5, most: int = 101) -> Measured:
    """Run both in turn, at least ``pairs`` times, and on for ``seconds`` where that allows more."""
    for work in (ours, baseline, ours, baseline):
        started = time.perf_counter()
        work()
        last = time.perf_counter() - started
    pairs = max(pairs, min(most, int(seconds / (2 * last))))
    times: dict[Work, list[float]] = {ours: [], baseline: []}
    gc.collect()
    gc.disable()
    try:
        for turn in range(pairs):
            for work in (ours, baseline) if turn % 2 else (baseline, ours):
                started = time.perf_counter()
                work()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                times[work].append(1000 * (time.perf_counter() - started))
    finally:
        gc.enable()
    first, second = statistics.median(times[ours]), statistics.median(times[baseline])
    low, _, high = statistics.quantiles([a / b for a, b in zip(times[ours], times[baseline], strict=True)], n=4)
    return Measured(first, second, first / second, low, high, pairs)


def peaks(pair: Callable[..., tuple[Work, Work]]) -> Measured | None:
    """How much each side's resident memory grows at most, in MiB, in fresh processes; None where not Linux.

    ``pair(N=...)`` makes both for a batch of that size. A small one is run first, since libraries then set themselves
    up, which takes memory too.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found = [pool.map(_peak, [(pair, side)] * 3, chunksize=1) for side in (0, 1)]
    first, second = (statistics.median(values) for values in found)
    low, _, high = statistics.quantiles([a / b for a, b in zip(*found, strict=True)], n=4)
    return Measured(first, second, first / second, low, high, len(found[0]))


def _peak(task: tuple[Callable[..., tuple[Work, Work]], int]) -> float:
    pair, side = task
    torch.set_num_threads(1)
    pair(N=1)[side]()
    work = pair()[side]
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def difference(a: Any, b: Any) -> float:
    """The largest difference of two results, tensors or tuples of tensors, relative to the largest number of each."""
    pairs = [(a, b)] if isinstance(a, torch.Tensor) else zip(a, b, strict=True)
    apart = [((x - y).abs().max() / y.abs().max().clamp(min=1e-30)).double() for x, y in pairs]
    return torch.stack(apart).max().item()  # NaN if any is
