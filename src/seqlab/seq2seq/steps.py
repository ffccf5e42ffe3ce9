"""What a search needs of a model, what it returns, and what it does with a state.

Shapes: N sources, B beams of each, V tokens, L length of a hypothesis, S source length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .._tree import map_tensors
from ..checks import check_sizes


class StepModel(Protocol):
    """What a search needs of a model.

    A state is made of tensors whose first axis is the batch, in tuples (named ones too), lists or dicts of any depth;
    what is not a tensor belongs to all rows alike and is passed on. A search picks, repeats and reorders rows. If the
    state that ``step`` returns has an attribute ``weights``, (N, S) or None, these are the attention of that step, and
    the hypotheses keep them. Searches leave the model's mode as it is: call ``model.eval()`` first if it has dropout.

    A model that continues its source, as a language model does its prompt, has a method ``begin`` besides, which takes
    what ``start`` takes and returns the pair (tokens, state): the source's last tokens (N), and the state before them.
    Searches call it in place of ``start`` if bos is None.

    A model of two tokens beside the special ones, that follows each with the other:

    >>> class InTurn:
    ...     def start(self, source, key_padding_mask=None):
    ...         return ()
    ...     def step(self, tokens, state):
    ...         return torch.eye(5)[7 - tokens].log(), state
    >>> InTurn().step(torch.tensor([3, 4]), ())[0].argmax(dim=1)
    tensor([4, 3])
    """

    def start(self, source: Tensor, key_padding_mask: Tensor | None = None) -> Any:
        """The state of N sources before the first step."""
        ...

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Log-probabilities (N, V) of the token after ``tokens`` (N), and the state after it."""
        ...


class Hypothesis(NamedTuple):
    """One answer.

    Args:
        tokens: (L), with eos where it is finished, without bos.
        score: what it is ranked by; log_prob, or that divided by the length's share.
        log_prob: the sum of its tokens' log-probabilities.
        finished: whether it ends with eos; if not, max_length cut it off.
        weights: the attention at each of its tokens, (L, S), or None.

    >>> Hypothesis(torch.tensor([5, 2]), -0.5, -0.5, True).tokens
    tensor([5, 2])
    """

    tokens: Tensor
    score: float
    log_prob: float
    finished: bool
    weights: Tensor | None = None


class BeamStep(NamedTuple):
    """A step of a beam search, as it is after it.

    Args:
        tokens: the last token of each live beam, (N, B), the best first.
        log_probs: of the whole beam, (N, B); -inf where fewer than B are left.
        parents: which beam of the step before it continues, (N, B).
        finished: for each source the hypotheses that this step has ended; of a source whose search is over none, and
            its beams mean nothing any more.

    >>> BeamStep(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2), [[]]).parents.shape
    torch.Size([1, 2])
    """

    tokens: Tensor
    log_probs: Tensor
    parents: Tensor
    finished: list[list[Hypothesis]]


def pick_rows(state: Any, rows: Tensor) -> Any:
    """The state of the rows named, in this order; a row may come several times."""
    return map_tensors(lambda part: part.index_select(0, rows), state)


def begin(
    who: str, model: StepModel, source: Tensor, key_padding_mask: Tensor | None, bos: int | None
) -> tuple[Tensor, Any]:
    """The tokens (N) of the first step, and the state before it."""
    if bos is None:
        if not hasattr(model, "begin"):
            raise TypeError(
                f"{who}: expected a model with a method begin(prompt, key_padding_mask) for bos=None, got "
                f"{type(model).__name__}; pass the token that begins an answer, Vocabulary.bos"
            )
        return model.begin(source, key_padding_mask)
    if not isinstance(bos, int) or isinstance(bos, bool):
        raise TypeError(f"{who}: expected bos as an int, or None to continue the source, got {type(bos).__name__}")
    return torch.full((source.shape[0],), bos, device=source.device), model.start(source, key_padding_mask)


def take_step(who: str, model: StepModel, tokens: Tensor, state: Any, eos: int) -> tuple[Tensor, Any]:
    """A step of the model, looked at."""
    log_probs, state = model.step(tokens, state)
    if log_probs.dim() != 2 or len(log_probs) != len(tokens) or log_probs.shape[1] <= eos:
        raise ValueError(
            f"{who}: expected log-probabilities (N, V) = ({len(tokens)}, more than eos={eos}) of a step, got "
            f"{tuple(log_probs.shape)}"
        )
    if log_probs.isnan().any():
        raise ValueError(f"{who}: expected log-probabilities, got NaN; look for it in the weights and in the source")
    return log_probs, state


def write(
    who: str,
    model: StepModel,
    source: Tensor,
    max_length: int,
    key_padding_mask: Tensor | None,
    bos: int | None,
    eos: int,
    choose: Callable[[Tensor], Tensor],
) -> list[Hypothesis]:
    """One answer for each source, whose tokens (N) are chosen step by step from the log-probabilities (N, V)."""
    N = check_source(who, source, max_length=max_length)
    tokens, state = begin(who, model, source, key_padding_mask, bos)
    answers, weights = tokens.new_empty(N, 0), None  # (N, L), and of each token its attention (N, L, S)
    log_prob = torch.zeros(N, device=source.device, dtype=torch.float32)
    length, done = torch.zeros_like(tokens), torch.zeros_like(tokens, dtype=torch.bool)
    while answers.shape[1] < max_length and not done.all():
        log_probs, state = take_step(who, model, tokens, state, eos)
        tokens = choose(log_probs)
        answers, weights = torch.cat([answers, tokens.unsqueeze(1)], dim=1), longer(weights, state)
        log_prob = log_prob + log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1).masked_fill(done, 0.0)
        length = length + ~done
        done = done | (tokens == eos)
    rows = zip(answers, length.tolist(), log_prob.tolist(), done.tolist(), strict=True)
    return [
        Hypothesis(answer[:L], p, p, finished, None if weights is None else weights[n, :L])
        for n, (answer, L, p, finished) in enumerate(rows)
    ]


def longer(weights: Tensor | None, state: Any) -> Tensor | None:
    """The attention so far, (N, L, S), and that of the step which gave the state, where there is any."""
    new = getattr(state, "weights", None)
    if new is None:
        return None
    new = new.unsqueeze(1)
    return new if weights is None else torch.cat([weights, new], dim=1)


def check_source(who: str, source: Any, **sizes: Any) -> int:
    """The sizes are sizes and there is a source; returns N."""
    check_sizes(who, **sizes)
    if not isinstance(source, Tensor):
        raise TypeError(f"{who}: expected source as a Tensor, got {type(source).__name__}")
    if source.dim() == 0 or len(source) == 0:
        raise ValueError(f"{who}: expected at least one source along the first axis, got {tuple(source.shape)}")
    return len(source)
