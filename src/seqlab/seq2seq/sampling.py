"""Drawing tokens: answers drawn from a model's distribution, and scheduled sampling during training.

Shapes: N sources, V tokens, L length of an answer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..checks import check_sizes
from .steps import Hypothesis, StepModel, write


@torch.no_grad()
def sample(
    model: StepModel,
    source: Tensor,
    max_length: int,
    key_padding_mask: Tensor | None = None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generator,
    bos: int | None = 1,
    eos: int = 2,
) -> list[Hypothesis]:
    """Each token drawn at random, from the model's distribution or from the likelier part of it::

        y_t ~ q,    q(v) ∝ p(v | y_1 ... y_{t-1}, x)^(1 / temperature)    for v in K, else 0

    K holds all tokens; with ``top_k`` the k likeliest of these; with ``top_p`` the fewest of what is left, likeliest
    first, whose q sums to top_p at least. Of equally likely tokens the smaller number comes first.

    Args:
        model, source, max_length, key_padding_mask, bos, eos: as in :func:`greedy_search`. The N sources draw
            independently of each other; for several answers to one, repeat it.
        temperature: above 0; towards 0 it becomes :func:`greedy_search`, towards infinity all of K are equally likely.
        top_k: a number of tokens, at least 1.
        top_p: a probability, above 0 and up to 1.
        generator: draws. The same seed gives the same answers to the same batch.

    Returns:
        One :class:`Hypothesis` for each source, its score and log_prob the log-probability under the model itself, at
        temperature 1 and of all tokens.

    Raises:
        TypeError, ValueError: as :func:`greedy_search`; no generator; temperature, top_k or top_p out of range.

    Source:
        top_k: Fan, Lewis and Dauphin (2018), Hierarchical neural story generation; top_p: Holtzman, Buys, Du, Forbes
        and Choi (2020), The curious case of neural text degeneration.

    >>> class Model:  # writes 3 or 4 until it writes 2
    ...     def start(self, source, key_padding_mask=None): return None
    ...     def step(self, tokens, state): return torch.tensor([[0, 0, 0.2, 0.5, 0.3]] * len(tokens)).log(), state
    >>> source, generator = torch.zeros(3, 1), torch.Generator().manual_seed(0)
    >>> [len(answer.tokens) <= 4 for answer in sample(Model(), source, max_length=4, generator=generator)]
    [True, True, True]
    >>> sample(Model(), source, max_length=4, top_p=0.4, generator=generator)[0].tokens  # 3 alone has 0.5
    tensor([3, 3, 3, 3])
    """
    check_generator("sample", generator)
    if not _number(temperature) or not 0 < temperature < math.inf:
        raise ValueError(
            f"sample: expected temperature as a number above 0, got {temperature!r}; "
            "use greedy_search for the likeliest token"
        )
    if top_p is not None and (not _number(top_p) or not 0 < top_p <= 1):
        raise ValueError(
            f"sample: expected top_p as a number above 0 and up to 1, got {top_p!r}; leave it out for all tokens"
        )
    if top_k is not None:
        check_sizes("sample", top_k=top_k)

    def choose(log_probs: Tensor) -> Tensor:
        return draw(reweighted(log_probs, temperature, top_k, top_p), generator)

    return write("sample", model, source, max_length, key_padding_mask, bos, eos, choose)


def reweighted(log_probs: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """log q (N, V) of :func:`sample` from log p (N, V)."""
    x = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    x = (x - x.amax(dim=1, keepdim=True)) / temperature  # the greatest is 0, at any temperature
    if top_k is not None or top_p is not None:
        x, order = x.sort(dim=1, descending=True, stable=True)
        if top_k is not None:
            x[:, top_k:] = -math.inf
        if top_p is not None:
            before = F.pad(torch.softmax(x, dim=1).cumsum(dim=1)[:, :-1], (1, 0))  # the sum of all that are likelier
            x = x.masked_fill((before >= top_p) & (top_p < 1), -math.inf)
        x = torch.empty_like(x).scatter(1, order, x)
    return torch.log_softmax(x, dim=1)


def toss(probability: Any, generator: Any, target: Tensor) -> Tensor | None:
    """Which tokens of the target (N, L) to replace by the model's own, boolean (N, L); None for probability 0."""
    if not _number(probability) or not 0 <= probability <= 1:
        raise ValueError(f"Decoder: expected sampling_probability from 0 to 1, got {probability!r}")
    if probability == 0:
        return None
    check_generator("Decoder", generator)
    return (torch.rand(target.shape, generator=generator, device=generator.device) < probability).to(target.device)


def draw(logits: Tensor, generator: Any) -> Tensor:
    """One token (N) for each row from the distribution of one step, logits (N, V); no gradient."""
    p = torch.softmax(logits.detach(), dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))
    return torch.multinomial(p.to(generator.device), 1, generator=generator).squeeze(1).to(logits.device)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_generator(who: str, generator: Any) -> None:
    """The generator is torch's."""
    if not isinstance(generator, Generator):
        raise TypeError(
            f"{who}: expected a torch.Generator to draw with, got {type(generator).__name__}; "
            "pass generator=torch.Generator().manual_seed(0)"
        )
