"""Six guests, six drinks, one question: which reader learns to answer, after how much training, and what is in its way?

Every network is trained at four learning rates with ten seeds each, for several numbers of updates. The rate is chosen
on sentences that no network was trained on, by the mean of the seeds; the numbers are from other sentences again.

    python experiments/guests.py    # minutes on a GPU, an hour or two without; stop and go on as you like
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from record import record
from torch import nn

from seqbook.studies.guests import Attention, Recurrent, Shortcut, Task, accuracy, lone_drink, orders, train

RATES, SEEDS = (3e-3, 1e-2, 3e-2, 1e-1), 10
SHORT, LONG = (250, 500, 2000), (250, 500, 2000, 8000)
CHOICE, TEST = 1000, 2000  # seeds of the sentences
# On another device the sentences are others, and so is every network: means over ten seeds then agree to a few points,
# while a mistake in a reader or in a task moves one of them by more.
WITHIN = 0.06

by_place = functools.partial(orders, by="place")
same_order = functools.partial(orders, shuffled=False)
learned = functools.partial(lone_drink, places=range(5))
moved = functools.partial(lone_drink, places=range(5, 10))
crowd = functools.partial(orders, names=24)

Make = Callable[..., Task]
Build = Callable[[int], nn.Module]
ARMS: dict[str, tuple[Build, Make, tuple[int, ...]]] = {
    "bag": (lambda S: Shortcut(S, None, 44), orders, SHORT),
    "window of 4": (lambda S: Shortcut(S, 4, 15), orders, SHORT),
    "attention": (lambda S: Attention(S, 24), orders, SHORT),
    "attention without labels": (lambda S: Attention(S, 24, label=False), orders, SHORT),
    "attention, by place": (lambda S: Attention(S, 24), by_place, SHORT),
    "RNN": (lambda S: Recurrent(S, "RNN", 32), orders, LONG),
    "RNN, by place": (lambda S: Recurrent(S, "RNN", 32), by_place, LONG),
    "RNN, question first": (lambda S: Recurrent(S, "RNN", 32, first=True), orders, SHORT),
    "RNN, same order always": (lambda S: Recurrent(S, "RNN", 32), same_order, LONG),
    "RNN of 128": (lambda S: Recurrent(S, "RNN", 128), orders, LONG),
    "RNN with a layer of 256": (lambda S: Recurrent(S, "RNN", 32, hidden=256), orders, LONG),
    "GRU": (lambda S: Recurrent(S, "GRU", 32), orders, LONG),
    "GRU, by place": (lambda S: Recurrent(S, "GRU", 32), by_place, LONG),
    "GRU, question first": (lambda S: Recurrent(S, "GRU", 32, first=True), orders, SHORT),
    "GRU of 128": (lambda S: Recurrent(S, "GRU", 128), orders, LONG),
}
MOVED: dict[str, Build] = {
    "bag": lambda S: Shortcut(S, None, 16),
    "window of 10": lambda S: Shortcut(S, 10, 16),
    "RNN": lambda S: Recurrent(S, "RNN", 32),
    "GRU": lambda S: Recurrent(S, "GRU", 32),
    "attention": lambda S: Attention(S, 24),
}


def trained(build: Build, make: Make, updates: int, rates_of: tuple[float, ...] = RATES) -> nn.Module:
    """Networks with every rate and seed, in the order of the rates."""
    torch.manual_seed(0)  # of the weights
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rates = torch.tensor(rates_of, device=device).repeat_interleave(SEEDS)
    reader = build(len(rates)).to(device)
    train(reader, make, rates, updates, seed=0)
    return reader


def computer() -> str:
    """Where the networks were trained; `made with` names the CPU beside it."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def shares(reader: nn.Module, make: Make, seed: int) -> Any:
    """Share right after the whole sentence (rates, seeds, questions)."""
    found = accuracy(reader, make, len(RATES) * SEEDS, seed)
    return found[:, -1].unflatten(0, (len(RATES), SEEDS))


def arm(build: Build, make: Make, budgets: tuple[int, ...]) -> dict[str, Any]:
    """One reader, for every number of updates: the best rate, and its share right for each seed and place."""
    found = {}
    for updates in budgets:
        reader = trained(build, make, updates)
        means = shares(reader, make, CHOICE).mean((1, 2))
        best = int(means.argmax())
        every = accuracy(reader, make, len(RATES) * SEEDS, TEST)[best * SEEDS : (best + 1) * SEEDS]
        found[str(updates)] = {
            "rate": RATES[best],
            "means": [round(mean, 3) for mean in means.tolist()],
            "places": [[round(share, 3) for share in seed] for seed in every[:, -1].tolist()],
            "guests": [[round(share, 3) for share in seed] for seed in every.nanmean(2).tolist()],
        }
    return {"weights": sum(p[0].numel() for p in reader.parameters()), "updates": found}


def elsewhere(build: Build) -> dict[str, Any]:
    """One drink among names, learned at the first five places: share right there, and at the last five."""
    found = {}
    for updates in SHORT:
        reader = trained(build, learned, updates)
        best = int(shares(reader, learned, CHOICE).mean((1, 2)).argmax())
        tested = {name: shares(reader, make, TEST)[best, :, 0] for name, make in (("first", learned), ("last", moved))}
        found[str(updates)] = {"rate": RATES[best]} | {
            name: [round(share, 3) for share in found_.tolist()] for name, found_ in tested.items()
        }
    return found


def longer() -> dict[str, Any]:
    """Attention that was trained on up to 6 guests, of 24: share right for each place, for 6, 12 and 24 guests."""
    found = {}
    for updates in SHORT:
        reader = trained(lambda S: Attention(S, 24, names=24), crowd, updates)
        best = int(shares(reader, crowd, CHOICE).mean((1, 2)).argmax())
        found[str(updates)] = {"rate": RATES[best]} | {
            str(present): [
                [round(share, 3) for share in seed]
                for seed in shares(reader, functools.partial(crowd, present=present), TEST)[best].tolist()
            ]
            for present in (6, 12, 24)
        }
    return found


def compared(results: dict[str, Any], part: str) -> Iterator[tuple[float, float]]:
    """Means over ten seeds and all questions after 250 updates: as recorded, and as found now."""
    kind, _, name = part.rpartition(": ")
    if kind == "elsewhere":
        then, build, tests = results[part]["250"], MOVED[name], {"first": learned, "last": moved}
    elif kind == "longer":
        long = functools.partial(crowd, present=24)
        then, build, tests = results[part]["250"], lambda S: Attention(S, 24, names=24), {"6": crowd, "24": long}
    else:
        build, make, _ = ARMS[part]
        then, tests = results[part]["updates"]["250"], {"places": make}
    reader = trained(build, next(iter(tests.values())), 250, (then["rate"],))
    for key, make in tests.items():
        now = accuracy(reader, make, SEEDS, TEST)[:, -1].mean()
        yield float(torch.tensor(then[key]).mean()), float(now)


SAMPLE = (
    *("bag", "window of 4", "attention", "attention without labels", "RNN", "RNN, by place", "RNN, question first"),
    *("RNN with a layer of 256", "GRU", "elsewhere: window of 10", "elsewhere: GRU", "longer: attention"),
)


def main() -> None:
    """Record every reader."""
    parts = {name: functools.partial(arm, build=b, make=m, budgets=u) for name, (b, m, u) in ARMS.items()}
    parts |= {f"elsewhere: {name}": functools.partial(elsewhere, build=build) for name, build in MOVED.items()}
    record(
        "guests",
        {"trained on": computer} | parts | {"longer: attention": longer},
        about="Which drink did a guest order? Share right by reader, updates, place and kind of question",
        settings={
            "rates": RATES,
            "seeds": SEEDS,
            "updates": {"short": SHORT, "long": LONG},
            "sentences in an update": 64,
            "sentences of the choice and of the test": 2000,
        },
        sample={part: (WITHIN, functools.partial(compared, part=part)) for part in SAMPLE},
    )


if __name__ == "__main__":
    main()
