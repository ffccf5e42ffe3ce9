"""How long a lag do RNN, GRU and LSTM learn, each with its best settings, found with equal budgets?

The task is ``delayed_recall``: name the first symbol, one of 8, after ``lag`` distractors. Every architecture gets the
same number of starts, learning rates, seeds and updates. For each lag the best setting of the search is then run once
more on seeds that the search has not seen: the search's own best would flatter.

    python experiments/longest_lag.py    # about a quarter of an hour of one core; stop and go on as you like
"""

from __future__ import annotations

import functools
import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from record import record, so_far
from torch import Tensor, nn
from torch.func import stack_module_state, vmap

from seqlab import GRU, LSTM, RNN, forget_bias_, gru_step, identity_, lstm_step, orthogonal_, rnn_step
from seqlab.tasks import delayed_recall

HIDDEN, SYMBOLS, DISTRACTORS, BATCH, TEST = 32, 8, 8, 32, 256
UPDATES, CHECK, SOLVED, CLIP = 500, 25, 0.95, 1.0
LAGS, RATES = (10, 20, 50, 100), (1e-3, 3e-3, 1e-2, 3e-2)
SEARCH, FRESH = tuple(range(5)), tuple(range(100, 110))  # seeds

# What --confirm trains again: kind, lag, start, learning rate.
# Only every 25th update is checked, so that rounding can move an answer by one check. On a processor of another maker
# none of the 30 moved.
WITHIN = CHECK
SAMPLE = (
    ("RNN", 10, "orthogonal", 1e-3),
    ("RNN", 10, "ReLU, identity", 1e-3),
    ("GRU", 10, "torch's own", 1e-3),
    ("GRU", 10, "update bias 2", 1e-3),
    ("LSTM", 10, "forget bias 2", 1e-3),
    ("LSTM", 10, "no forget gate", 1e-3),
)

Start = Callable[[], nn.Module]


def irnn() -> nn.Module:
    """The IRNN of Le et al. (2015): ReLU, recurrent weights I, biases 0, inputs of standard deviation 0.001."""
    layer = identity_(RNN(SYMBOLS + DISTRACTORS, HIDDEN, nonlinearity="relu"))
    nn.init.normal_(layer.weight_ih_l0, std=1e-3)
    nn.init.zeros_(layer.bias_ih_l0)
    nn.init.zeros_(layer.bias_hh_l0)
    return layer


def gru(update_bias: float) -> nn.Module:
    """A GRU that keeps its state at the start: the bias of the update gate z, as torch has it, is raised."""
    layer = GRU(SYMBOLS + DISTRACTORS, HIDDEN)
    with torch.no_grad():
        layer.bias_ih_l0[HIDDEN : 2 * HIDDEN], layer.bias_hh_l0[HIDDEN : 2 * HIDDEN] = update_bias, 0.0
    return layer


def lstm_1997() -> nn.Module:
    """An LSTM whose forget gate is 1 and stays: weights 0 and bias 1000, where the sigmoid's slope is exactly 0."""
    layer = forget_bias_(LSTM(SYMBOLS + DISTRACTORS, HIDDEN), 1000.0)
    with torch.no_grad():
        layer.weight_ih_l0[HIDDEN : 2 * HIDDEN], layer.weight_hh_l0[HIDDEN : 2 * HIDDEN] = 0.0, 0.0
    return layer


def plain(kind: type[nn.Module]) -> nn.Module:
    """The layer as torch starts it."""
    return kind(SYMBOLS + DISTRACTORS, HIDDEN)


STARTS: dict[str, dict[str, Start]] = {
    "RNN": {
        "torch's own": lambda: plain(RNN),
        "orthogonal": lambda: orthogonal_(plain(RNN)),
        "orthogonal × 1.2": lambda: orthogonal_(plain(RNN), gain=1.2),
        "orthogonal × 1.5": lambda: orthogonal_(plain(RNN), gain=1.5),
        "identity": lambda: identity_(plain(RNN)),
        "ReLU, identity": irnn,
    },
    "GRU": {
        "torch's own": lambda: plain(GRU),
        "update bias 1": lambda: gru(1.0),
        "update bias 2": lambda: gru(2.0),
        "update bias 3": lambda: gru(3.0),
        "update bias 5": lambda: gru(5.0),
        "orthogonal": lambda: orthogonal_(plain(GRU)),
    },
    "LSTM": {
        "torch's own": lambda: plain(LSTM),
        "forget bias 1": lambda: forget_bias_(plain(LSTM), 1.0),
        "forget bias 2": lambda: forget_bias_(plain(LSTM), 2.0),
        "forget bias 3": lambda: forget_bias_(plain(LSTM), 3.0),
        "forget bias 5": lambda: forget_bias_(plain(LSTM), 5.0),
        "no forget gate": lstm_1997,
    },
}
assert len({len(starts) for starts in STARTS.values()}) == 1  # equal budgets

Setting = tuple[str, float, int]  # start, learning rate, seed


def network(start: Start, seed: int) -> nn.ModuleDict:
    """A layer and a read-out, drawn from the seed."""
    torch.manual_seed(seed)
    return nn.ModuleDict({"layer": start(), "answer": nn.Linear(HIDDEN, SYMBOLS)})


def forward(kind: str, relu: bool, p: dict[str, Tensor], symbols: Tensor) -> Tensor:
    """Logits (S, N, 8) of S networks at once, each on its own sequences (L, S, N), by the library's own step."""
    x = nn.functional.one_hot(symbols, SYMBOLS + DISTRACTORS).float()
    weights = [p[f"layer.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    h = c = torch.zeros(*symbols.shape[1:], HIDDEN)
    steps = {"RNN": functools.partial(rnn_step, nonlinearity="relu" if relu else "tanh"), "GRU": gru_step}
    step = vmap(steps.get(kind, lstm_step))
    for x_t in x:
        if kind == "LSTM":
            h, c = step(x_t, (h, c), *weights)
        else:
            h = step(x_t, h, *weights)
    return h @ p["answer.weight"].mT + p["answer.bias"].unsqueeze(1)


def batch(n: int, lag: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
    """Sequences (L, S, n) and targets (S, n), drawn for each network from its own generator."""
    drawn = [delayed_recall(n, lag=lag, symbols=SYMBOLS, distractors=DISTRACTORS, generator=g) for g in generators]
    return torch.stack([x for x, _ in drawn], dim=1), torch.stack([y for _, y in drawn])


def train(kind: str, lag: int, settings: Sequence[Setting], relu: bool = False) -> list[int | None]:
    """For each setting the number of updates after which 95 % of 256 new sequences are right, or None.

    All settings are trained at once: the networks are one axis of every tensor. Adam and the clipping of the norm are
    written out, so that each network has its own learning rate and norm, and leaves the batch when it is done.
    """
    networks = [network(STARTS[kind][start], seed) for start, _, seed in settings]
    p, _ = stack_module_state(networks)
    rates = torch.tensor([rate for _, rate, _ in settings])
    training = [torch.Generator().manual_seed(1000 + seed) for _, _, seed in settings]
    testing = [torch.Generator().manual_seed(2000 + seed) for _, _, seed in settings]
    first, second = ({name: torch.zeros_like(v) for name, v in p.items()} for _ in range(2))
    done: list[int | None] = [None] * len(settings)
    left = list(range(len(settings)))
    for update in range(1, UPDATES + 1):
        symbols, target = batch(BATCH, lag, training)
        logits = forward(kind, relu, p, symbols)
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        gradients = torch.autograd.grad(losses.view(target.shape).mean(1).sum(), list(p.values()))
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        scale = (CLIP / (norms + 1e-6)).clamp(max=1.0)
        with torch.no_grad():
            for name, g in zip(p, gradients, strict=True):
                shape = [-1] + [1] * (g.dim() - 1)
                g = g * scale.view(shape)
                first[name].lerp_(g, 0.1)
                second[name].lerp_(g * g, 0.001)
                mean, square = first[name] / (1 - 0.9**update), second[name] / (1 - 0.999**update)
                p[name] -= rates.view(shape) * mean / (square.sqrt() + 1e-8)
            if update % CHECK:
                continue
            symbols, target = batch(TEST, lag, testing)
            right = forward(kind, relu, p, symbols).argmax(-1).eq(target).double().mean(1)
        for network_, share in zip(left, right.tolist(), strict=True):
            done[network_] = update if share >= SOLVED else None
        keep = (right < SOLVED).nonzero().flatten()
        if not len(keep):
            break
        left, training, testing = ([row[k] for k in keep.tolist()] for row in (left, training, testing))
        rates = rates[keep]
        p = {name: v.detach()[keep].requires_grad_() for name, v in p.items()}
        first, second = ({name: v[keep] for name, v in moments.items()} for moments in (first, second))
    return done


def name_of(start: str, rate: float) -> str:
    """A setting's name in the record."""
    return f"{start}, rate {rate:g}"


def runs(
    kind: str, lag: int, choices: Sequence[tuple[str, float]], seeds: Sequence[int]
) -> dict[str, list[int | None]]:
    """``train`` for all these settings and seeds; ReLU networks in a batch of their own."""
    found = {}
    for relu in (False, True):
        chosen = [(start, rate) for start, rate in choices if start.startswith("ReLU") == relu]
        settings = [(start, rate, seed) for (start, rate), seed in itertools.product(chosen, seeds)]
        done = iter(train(kind, lag, settings, relu)) if settings else iter(())
        found |= {name_of(start, rate): [next(done) for _ in seeds] for start, rate in chosen}
    return found


def best(search: dict[str, list[int | None]]) -> str:
    """The setting that solves most seeds; among equals the one that needs the fewest updates in the median."""

    def merit(setting: str) -> tuple[int, float]:
        solved = [updates for updates in search[setting] if updates is not None]
        return len(solved), -statistics.median(solved) if solved else 0.0

    return max(search, key=merit)


def part(kind: str, lag: int) -> dict[str, object]:
    """The search over all settings, and the best of them on fresh seeds.

    A ladder saves most of the time: a setting with which no seed solved one lag is not tried on the next longer.
    """
    choices = {name_of(*choice): choice for choice in itertools.product(STARTS[kind], RATES)}
    tried = list(choices.values())
    if lag > LAGS[0]:
        shorter = so_far("longest_lag")[f"{kind}, lag {LAGS[LAGS.index(lag) - 1]}"]["search"]
        tried = [choices[name] for name, solved in shorter.items() if any(solved)]
    if not tried:
        return {"search": {}, "best": None, "fresh": [None for _ in FRESH]}
    search = runs(kind, lag, tried, SEARCH)
    chosen = best(search)
    return {"search": search, "best": chosen, "fresh": runs(kind, lag, [choices[chosen]], FRESH)[chosen]}


def compared(results: dict[str, Any], kind: str, lag: int, start: str, rate: float) -> Iterator[tuple[float, float]]:
    """Updates with each seed of the search, one check more than there are if never: as recorded, and as found now."""
    name, never = name_of(start, rate), UPDATES + CHECK
    found = runs(kind, lag, [(start, rate)], SEARCH)[name]
    for then, now in zip(results[f"{kind}, lag {lag}"]["search"][name], found, strict=True):
        yield never if then is None else then, never if now is None else now


def main() -> None:
    """Record all parts."""
    torch.set_num_threads(1)
    record(
        "longest_lag",
        {f"{kind}, lag {lag}": functools.partial(part, kind, lag) for lag in LAGS for kind in STARTS},
        about="Updates until 95 % of 256 new sequences of delayed recall are answered rightly, null if never",
        settings={
            "hidden size": HIDDEN,
            "symbols": SYMBOLS,
            "distractors": DISTRACTORS,
            "batch": BATCH,
            "updates": UPDATES,
            "checked every": CHECK,
            "solved": SOLVED,
            "clipped to norm": CLIP,
            "optimizer": "Adam, torch's defaults, constant learning rate",
            "lags": LAGS,
            "learning rates": RATES,
            "starts": {kind: list(starts) for kind, starts in STARTS.items()},
            "seeds of the search": SEARCH,
            "fresh seeds": FRESH,
        },
        sample={
            f"{kind}, lag {lag}, {name_of(start, rate)}": (
                WITHIN,
                functools.partial(compared, kind=kind, lag=lag, start=start, rate=rate),
            )
            for kind, lag, start, rate in SAMPLE
        },
    )


if __name__ == "__main__":
    main()
