"""How far back does TBPTT(k1, k2) learn? Accuracy by lag, for several windows, after equal time and equal updates.

The task is a stream of symbols without end: at every step name the symbol ``lag`` steps back. The state is carried
from window to window. Every window sees the same 20,000 steps of the stream, so that a short one makes more updates
of it than a long one; the accuracy after 500 updates, where all are equal in that, is recorded too. One arm trains
the read-out alone: what it reaches is the echo of a recurrence that has learned nothing.

    python experiments/truncation.py    # about eight minutes on one core; stop and go on as you like
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from record import record
from torch import Tensor, nn
from torch.func import stack_module_state, vmap

from seqlab import gru_step
from seqlab.tbptt import tbptt

SYMBOLS, HIDDEN, BATCH, RATE, CLIP = 4, 32, 16, 1e-2, 1.0
STEPS, UPDATES = 20_000, 500
LAGS, SEEDS = (2, 4, 5, 8, 9, 10, 15, 20), tuple(range(5))
WINDOWS = ((2, 2), (5, 5), (10, 10), (20, 20), (40, 40), (5, 10), (10, 20), (20, 40))  # (k1, k2)
NETWORKS = tuple(itertools.product(LAGS, SEEDS))

# What --confirm trains again, 500 updates long: windows side by side and overlapping ones. On a processor of another
# maker, the accuracies of 5,5 and 5,10 differed by up to 0.043; half more is let pass. 2,2 is left out: one of its
# networks, of which none keeps what it learns, differed by 0.17.
WITHIN = 0.07
SAMPLE = ("5,5", "5,10")


class Fleet(nn.Module):
    """Networks of the same shape side by side: a GRU and a read-out each, S of them in every tensor."""

    def __init__(self, networks: list[nn.ModuleDict]) -> None:
        super().__init__()
        stacked, _ = stack_module_state(networks)
        for name, value in stacked.items():
            self.register_parameter(name.replace(".", "_"), nn.Parameter(value.detach()))

    def forward(self, symbols: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits (L, S, N, V) and the state (S, N, H), from symbols (L, S, N)."""
        weights = [p for name, p in self.named_parameters() if name.startswith("gru")]
        if h is None:
            h = torch.zeros(*symbols.shape[1:], HIDDEN)
        step, states = vmap(gru_step), []
        for x in nn.functional.one_hot(symbols.long(), SYMBOLS).float():
            h = step(x, h, *weights)
            states.append(h)
        logits = torch.stack(states) @ self.readout_weight.mT + self.readout_bias.unsqueeze(1)
        return logits, h


def network(seed: int) -> nn.ModuleDict:
    """A GRU and a read-out as torch starts them."""
    torch.manual_seed(seed)
    return nn.ModuleDict({"gru": nn.GRU(SYMBOLS, HIDDEN), "readout": nn.Linear(HIDDEN, SYMBOLS)})


def streams() -> tuple[Tensor, Tensor]:
    """Input and target (STEPS, S, BATCH); the networks of one seed read the same symbols."""
    longest, inputs, targets = max(LAGS), [], []
    for lag, seed in NETWORKS:
        generator = torch.Generator().manual_seed(1000 + seed)
        x = torch.randint(SYMBOLS, (STEPS + longest, BATCH), generator=generator, dtype=torch.uint8)
        inputs.append(x[longest:])
        targets.append(x[longest - lag : longest - lag + STEPS])
    return torch.stack(inputs, dim=1), torch.stack(targets, dim=1)


def loss(logits: Tensor, target: Tensor) -> Tensor:
    """The sum over networks of the mean cross-entropy, so that each has a gradient of its own."""
    return len(NETWORKS) * nn.functional.cross_entropy(logits.flatten(0, -2), target.flatten().long())


def clip(parameters: list[Tensor]) -> None:
    """Scale each network's gradient to a norm of CLIP at most."""
    norm = sum(p.grad.flatten(1).square().sum(1) for p in parameters).sqrt()
    for p in parameters:
        p.grad *= (CLIP / (norm + 1e-6)).clamp(max=1.0).view(-1, *[1] * (p.dim() - 1))


def train(k1: int, k2: int, frozen: bool = False, whole: bool = True) -> dict[str, dict[str, list[float]]]:
    """Accuracy for each lag and seed, over the last tenth of the first 500 updates, and of the whole stream, if wanted.

    Each answer is given before the network has been trained on it, so that this is accuracy on new symbols.
    """
    fleet = Fleet([network(seed) for _, seed in NETWORKS])
    for name, p in fleet.named_parameters():
        p.requires_grad_(not (frozen and name.startswith("gru")))
    trained = [p for p in fleet.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=RATE)
    input, target = streams()
    right = []
    counts = {f"{UPDATES} updates": UPDATES, **({f"{STEPS} steps": STEPS // k1} if whole else {})}
    for window in itertools.islice(tbptt(fleet, input, target, loss, k1, k2), max(counts.values())):
        clip(trained)
        optimizer.step()
        optimizer.zero_grad()
        right.append(window.output.argmax(-1).eq(target[window.start : window.stop]).float().mean((0, 2)))
    found = {}
    for label, updates in counts.items():
        accuracy = torch.stack(right[updates * 9 // 10 : updates]).mean(0).view(len(LAGS), len(SEEDS))
        rows = [[round(a, 4) for a in row] for row in accuracy.tolist()]
        found[label] = dict(zip(map(str, LAGS), rows, strict=True))
    return found


def compared(results: dict[str, Any], part: str) -> Iterator[tuple[float, float]]:
    """Accuracy after 500 updates, for each lag and seed: as recorded, and as found now."""
    label = f"{UPDATES} updates"
    for lag, found in PARTS[part](whole=False)[label].items():
        yield from zip(results[part][label][lag], found, strict=True)


PARTS = {f"{k1},{k2}": functools.partial(train, k1, k2) for k1, k2 in WINDOWS}
PARTS["read-out alone"] = functools.partial(train, 20, 20, frozen=True)


def main() -> None:
    """Record all parts."""
    torch.set_num_threads(1)
    record(
        "truncation",
        PARTS,
        about="Accuracy at naming the symbol lag steps back in a stream, by lag and seed, chance 0.25",
        settings={
            "symbols": SYMBOLS,
            "hidden size": HIDDEN,
            "batch": BATCH,
            "optimizer": "Adam, torch's defaults, constant learning rate",
            "learning rate": RATE,
            "clipped to norm": CLIP,
            "steps": STEPS,
            "updates": UPDATES,
            "lags": LAGS,
            "seeds": SEEDS,
            "windows (k1, k2)": WINDOWS,
        },
        sample={part: (WITHIN, functools.partial(compared, part=part)) for part in SAMPLE},
    )


if __name__ == "__main__":
    main()
