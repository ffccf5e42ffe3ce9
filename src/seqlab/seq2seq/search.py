"""Greedy and beam search, for anything that can take a step.

Both run all sources of a batch at once. A hypothesis that ends is set aside; a source whose search is over computes on
beside the others, and is not looked at any more.

Shapes: N sources, B beams of each, V tokens, L length of a hypothesis, S source length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .steps import BeamStep, Hypothesis, StepModel, begin, check_source, longer, pick_rows, take_step, write

NORMALISATIONS: dict[str, Callable[[int], float]] = {"wu": lambda length: (5 + length) / 6, "length": float}


@torch.no_grad()
def greedy_search(
    model: StepModel,
    source: Tensor,
    max_length: int,
    key_padding_mask: Tensor | None = None,
    *,
    bos: int | None = 1,
    eos: int = 2,
) -> list[Hypothesis]:
    """The most probable token at each step; of equal ones the first::

        y_t = argmax_v log p(v | y_1 ... y_{t-1}, x)

    Args:
        model: see :class:`StepModel`.
        source, key_padding_mask: what ``model.start`` takes, N sources along the first axis.
        max_length: of a hypothesis, eos included.
        bos, eos: the tokens that begin and end an answer; as in ``seqlab.tasks.Vocabulary``. With bos=None the answer
            continues the source, as a language model its prompt.

    Returns:
        One :class:`Hypothesis` for each source, its score the log-probability.

    Raises:
        TypeError, ValueError: a size is below 1, there is no source, or the model returns something else than
            log-probabilities (N, V).

    >>> class Model:  # writes 3, then ends
    ...     def start(self, source, key_padding_mask=None): return None
    ...     def step(self, tokens, state): return torch.eye(4)[torch.where(tokens == 1, 3, 2)].log(), state
    >>> greedy_search(Model(), torch.tensor([[7]]), max_length=5)
    [Hypothesis(tokens=tensor([3, 2]), score=0.0, log_prob=0.0, finished=True, weights=None)]
    """
    return write(
        "greedy_search",
        model,
        source,
        max_length,
        key_padding_mask,
        bos,
        eos,
        lambda log_probs: log_probs.argmax(dim=1),
    )


@torch.no_grad()
def beam_search(
    model: StepModel,
    source: Tensor,
    beam_size: int,
    max_length: int,
    key_padding_mask: Tensor | None = None,
    *,
    alpha: float = 0.0,
    normalisation: str = "wu",
    stop: str = "bound",
    bos: int | None = 1,
    eos: int = 2,
    on_step: Callable[[BeamStep], Any] | None = None,
) -> list[list[Hypothesis]]:
    """The B most probable beginnings at each step, and the best of what ends among them::

        score(y) = log p(y | x) / share(|y|)^α      share(n) = (5 + n) / 6      normalisation="wu"
                                                    share(n) = n                normalisation="length"

    Each step ranks all B · V continuations of the live beams by log p; they are of one length, so that α plays no part
    yet. Those among the best B that end with eos are finished and set aside. The best B that do not end live on. The
    search of a source is over at max_length, or before, as ``stop`` says:

    * "bound": once B hypotheses are finished and no live one can come before the last of them any more. Since log p
      only falls and the share only grows, no end of a live beam scores above log p(beam) / share(max_length)^α.
    * "count": once B hypotheses are finished, whatever is alive. It takes fewer steps, and may miss what "bound" finds.

    The finished are ranked by score; α = 0 is log p itself, which favours short answers, and α = 1 with "length" is the
    mean of a token. With one beam and α = 0 or "count" the answer is that of :func:`greedy_search`; with V^max_length
    beams, as many as there are sequences, and "bound" it is exact.

    Args:
        model, source, max_length, key_padding_mask, bos, eos: as in :func:`greedy_search`.
        beam_size: B.
        alpha: strength of the length normalisation.
        normalisation: "wu" or "length".
        stop: "bound" or "count".
        on_step: called with the :class:`BeamStep` of each step; ``steps.append`` keeps a trace to look at.

    Returns:
        A list for each source of up to B hypotheses, best first. The finished ones, and if these are fewer than B,
        those that max_length cut off. Their probability is that of all that could follow, so they rank behind.

    Raises:
        TypeError, ValueError: as :func:`greedy_search`; alpha is negative, normalisation or stop unknown.

    Source:
        Sutskever, Vinyals and Le (2014), section 3.2; "wu" is equation 14 of Wu et al. (2016), Google's neural machine
        translation system, without its coverage penalty.
    Differs:
        finished hypotheses leave their places to others, where in Sutskever et al. the beam shrinks. Equal candidates
        rank by beam, then by token.

    The likelier first token, 3, leads to the less likely pair:

    >>> class Model:
    ...     p = {1: [0, 0, 0, 0.6, 0.4], 3: [0, 0, 0.4, 0.3, 0.3], 4: [0, 0, 0.9, 0, 0.1]}
    ...     def start(self, source, key_padding_mask=None): return ()
    ...     def step(self, tokens, state): return torch.tensor([self.p[t] for t in tokens.tolist()]).log(), state
    >>> source = torch.tensor([[7]])
    >>> greedy_search(Model(), source, max_length=4)[0].tokens
    tensor([3, 2])
    >>> for hypothesis in beam_search(Model(), source, 2, max_length=4)[0]:
    ...     print(hypothesis.tokens.tolist(), round(math.exp(hypothesis.log_prob), 2))
    [4, 2] 0.36
    [3, 2] 0.24
    """
    N, B = check_source("beam_search", source, beam_size=beam_size, max_length=max_length), beam_size
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"beam_search: expected normalisation 'wu' or 'length', got {normalisation!r}")
    if stop not in ("bound", "count"):
        raise ValueError(f"beam_search: expected stop 'bound' or 'count', got {stop!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha < math.inf:
        raise ValueError(f"beam_search: expected alpha as a number from 0 on, got {alpha!r}")
    first_row = B * torch.arange(N, device=source.device).unsqueeze(1)  # (N, 1), among the N * B rows of the beams
    tokens, state = pick_rows(
        begin("beam_search", model, source, key_padding_mask, bos),
        torch.arange(N, device=source.device).repeat_interleave(B),
    )
    answers, weights = tokens.new_empty(len(tokens), 0), None  # (N * B, L) and (N * B, L, S)
    live = torch.full((N, B), -math.inf, device=source.device, dtype=torch.float32)
    live[:, 0] = 0.0  # the beams of a source are still one and the same
    finished: list[list[Hypothesis]] = [[] for _ in range(N)]
    over = [False] * N

    def score(log_prob: float, length: int) -> float:
        return log_prob / NORMALISATIONS[normalisation](length) ** alpha

    def hypothesis(answer: Tensor, row: Any, log_prob: Tensor) -> Hypothesis:
        p, its_weights = float(log_prob), None if weights is None else weights[row]
        return Hypothesis(answer, score(p, len(answer)), p, int(answer[-1]) == eos, its_weights)

    while answers.shape[1] < max_length and not all(over):
        log_probs, state = take_step("beam_search", model, tokens, state, eos)
        weights, V = longer(weights, state), log_probs.shape[1]
        candidates = (live.unsqueeze(2) + log_probs.unflatten(0, (N, B))).flatten(1)  # (N, B * V)
        live, order = _greatest(candidates, 2 * B)  # at most B of them end, one of each beam
        parents, following = order // V, order % V
        ends, rows = following == eos, first_row + parents
        ended: list[list[Hypothesis]] = [[] for _ in range(N)]
        for n, b in (ends & live.isfinite())[:, :B].nonzero().tolist():
            if not over[n]:
                row = rows[n, b]
                ended[n].append(hypothesis(torch.cat([answers[row], following[n, b, None]]), row, live[n, b]))
        best = ends.int().sort(dim=1, stable=True).indices[:, :B]  # what does not end comes first
        live, parents, following, rows = (each.gather(1, best) for each in (live, parents, following, rows))
        if on_step is not None:
            on_step(BeamStep(following, live, parents, ended))
        for n, best_live in enumerate(live.amax(dim=1).tolist()):
            finished[n] = sorted(finished[n] + ended[n], key=lambda each: -each.score)[:B]
            enough = len(finished[n]) == B and (
                stop == "count" or score(best_live, max_length) <= finished[n][-1].score
            )
            over[n] = over[n] or enough or best_live == -math.inf
        tokens = following.flatten()
        state, answers, weights = pick_rows((state, answers, weights), rows.flatten())
        answers = torch.cat([answers, tokens.unsqueeze(1)], dim=1)  # (N * B, L)

    for n, some in enumerate(finished):
        for b in range(B - len(some)):  # cut off by max_length
            if not over[n] and live[n, b].isfinite():
                some.append(hypothesis(answers[n * B + b], n * B + b, live[n, b]))
    return finished


def _greatest(candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k greatest of each row, the greatest first and of equal ones the first first: (values, indices)."""
    k = min(k, candidates.shape[1])
    values, order = candidates.topk(k, dim=1)
    last = values[:, -1:]
    if ((candidates >= last).sum(dim=1, keepdim=True) > k).logical_and(last.isfinite()).any():
        order = candidates.sort(dim=1, descending=True, stable=True).indices[:, :k]  # topk takes any of the equal ones
    order = order.sort(dim=1).values
    values, rank = candidates.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, order.gather(1, rank)
