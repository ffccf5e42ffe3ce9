"""Two whole models of tokens: encoder and decoder, and a decoder alone, each with the interface of the searches.

Tokens are numbered as by ``seqlab.tasks.Vocabulary``. Training takes the target without its last token as input, and
without its first as labels; padded targets need no mask, since no position sees a later one.

Shapes: N batch, S source length, L target length, E = d_model, V tokens of the target.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._tokens import check_tokens, embed
from ..attention.common import check_key_padding_mask, check_padding_at_end
from ..checks import Device, check_dropout, check_sizes
from .positions import LearnedPositions, SinusoidalPositions
from .stacks import Cache, TransformerDecoder, TransformerEncoder


class TransformerState(NamedTuple):
    """All that the next step needs. Every tensor has the batch first, so that a search can pick and repeat rows.

    Args:
        cache: for each layer the keys and values of the tokens so far; None before the first.
        memory: for each layer the keys and values of the source; empty without one.
        lengths: how many tokens of each sequence the cache holds, (N), if they differ; its mask says where.

    >>> model = LanguageModel(5, d_model=8, nhead=2, num_layers=1, dim_feedforward=16)
    >>> _, state = model.step(torch.tensor([1, 1, 1]), model.start())
    >>> state.cache[0].key.shape  # (N, nhead, length, E / nhead)
    torch.Size([3, 2, 1, 4])
    """

    cache: Cache | None = None
    memory: Cache = ()
    lengths: Tensor | None = None


class TokenEmbedding(nn.Module):
    """What goes into the first block: dropout(sqrt(E) weight[token] + position), weight drawn with variance 1 / E.

    Args:
        num_tokens: of the vocabulary, special ones included.
        d_model: E.
        max_length: None for sinusoidal positions, else the number of learned ones.
        dropout: probability, during training.
        device, dtype: of the weights.

    Shape:
        tokens (N, L), integers; ``start`` is the position of the first, an int or (N).

    Returns:
        (N, L, E).

    Raises:
        TypeError, ValueError: a size, shape or dtype does not fit; a position beyond max_length; on the CPU, a token
            outside the vocabulary.

    Source:
        Vaswani et al. (2017), sections 3.4, 3.5 and 5.4; the paper does not say how weights are drawn.

    >>> TokenEmbedding(5, d_model=8)(torch.tensor([[1, 4, 2]])).shape
    torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        num_tokens: int,
        d_model: int,
        max_length: int | None = None,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_sizes("TokenEmbedding", num_tokens=num_tokens, d_model=d_model)
        check_dropout("TokenEmbedding", dropout)
        super().__init__()
        std = 1 / math.sqrt(d_model)
        self.weight = nn.Parameter(torch.empty(num_tokens, d_model, device=device, dtype=dtype).normal_(std=std))
        self.positions = (
            SinusoidalPositions(d_model) if max_length is None else LearnedPositions(max_length, d_model, device, dtype)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, start: int | Tensor = 0) -> Tensor:
        """The embedded tokens; shapes as in the class."""
        V, E = self.weight.shape
        x = embed("TokenEmbedding", "tokens (N, L)", tokens, lambda tokens: F.embedding(tokens, self.weight), V)
        return self.dropout(self.positions(math.sqrt(E) * x, start))


class Transformer(nn.Module):
    """The encoder-decoder model: the probability of a target given its source, token by token::

        memory = encoder(embed(source))
        logits = decoder(embed(target), memory) W_oᵀ

    Args:
        num_source_tokens, num_target_tokens: of the two vocabularies, special ones included.
        d_model, nhead: E and the attention heads, as in :class:`EncoderBlock`.
        num_layers: of the encoder, and of the decoder.
        max_length: None for sinusoidal positions, else the number of learned ones, of source and target each.
        tied: whether W_o is the embedding of the target.
        dropout, dim_feedforward, activation, norm_first, device, dtype: as in :class:`EncoderBlock`.

    Shape:
        source (N, S), target (N, L), integers; key_padding_mask (N, S), True = ignore.

    Returns:
        logits (N, L, V) of the token after each token of the target.

    Raises:
        TypeError, ValueError: a size, shape or mask does not fit; a sequence beyond max_length.

    Source:
        Vaswani et al. (2017), Attention is all you need.
    Differs:
        torch.nn.Transformer, which holds neither embeddings nor output, is :class:`TransformerEncoder` and
        :class:`TransformerDecoder` here. The paper shares one vocabulary, and one embedding, between source and target;
        here each has its own. W_o that is not tied is drawn as torch.nn.Linear's, and has no bias.

    >>> model = Transformer(10, 12, d_model=8, nhead=2, num_layers=1, dim_feedforward=16)
    >>> source, target = torch.tensor([[5, 6, 7]]), torch.tensor([[1, 9, 8, 2]])  # <bos> 9 8 <eos>
    >>> model(source, target[:, :-1]).shape
    torch.Size([1, 3, 12])
    >>> log_probs, state = model.step(target[:, 0], model.start(source))  # the first of these three
    >>> log_probs.shape
    torch.Size([1, 12])
    """

    def __init__(
        self,
        num_source_tokens: int,
        num_target_tokens: int,
        d_model: int,
        nhead: int,
        num_layers: int,
        max_length: int | None = None,
        tied: bool = True,
        dropout: float = 0.1,
        dim_feedforward: int = 2048,
        activation: str = "relu",
        *,
        norm_first: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        sizes = (num_layers, d_model, nhead, dim_feedforward, dropout, activation)
        self.source_embedding = TokenEmbedding(num_source_tokens, d_model, max_length, dropout, **place)
        self.target_embedding = TokenEmbedding(num_target_tokens, d_model, max_length, dropout, **place)
        self.encoder = TransformerEncoder(*sizes, norm_first=norm_first, **place)
        self.decoder = TransformerDecoder(*sizes, norm_first=norm_first, **place)
        self.output = nn.Linear(d_model, num_target_tokens, bias=False, **place)
        if tied:
            self.output.weight = self.target_embedding.weight

    def forward(self, source: Tensor, target: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """The logits; shapes as in the class."""
        memory = self.encoder(self.source_embedding(source), src_key_padding_mask=key_padding_mask)  # (N, S, E)
        x = self.decoder(self.target_embedding(target), memory, memory_key_padding_mask=key_padding_mask)
        return self.output(x)

    def start(self, source: Tensor, key_padding_mask: Tensor | None = None) -> TransformerState:
        """Read the source: the state before the first step."""
        memory = self.encoder(self.source_embedding(source), src_key_padding_mask=key_padding_mask)
        return TransformerState(None, self.decoder.project_memory(memory, key_padding_mask))

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Log-probabilities (N, V) of the token after ``tokens`` (N), and the state after it."""
        x = self.target_embedding(_one_each("Transformer", tokens), _length(state))
        x, cache = self.decoder.step(x, state.memory, state.cache)
        return torch.log_softmax(self.output(x[:, 0]), dim=-1), state._replace(cache=cache)


class LanguageModel(nn.Module):
    """The decoder alone, without a source: the probability of a sequence, token by token::

        logits = blocks(embed(tokens)) W_oᵀ            blocks attend causally

    Args:
        num_tokens: V, special ones included.
        others: as in :class:`Transformer`.

    Shape:
        tokens (N, L), integers.

    Returns:
        logits (N, L, V) of the token after each one.

    Raises:
        TypeError, ValueError: as :class:`Transformer`.

    Source:
        Radford, Narasimhan, Salimans and Sutskever (2018), Improving language understanding by generative pre-training,
        section 3.1, after Liu et al. (2018), Generating Wikipedia by summarizing long sequences.

    >>> model = LanguageModel(12, d_model=8, nhead=2, num_layers=1, dim_feedforward=16)
    >>> prompt = torch.tensor([[1, 9, 8]])
    >>> model(prompt).shape
    torch.Size([1, 3, 12])
    >>> log_probs, state = model.step(*model.begin(prompt))  # what follows the prompt
    >>> log_probs.shape
    torch.Size([1, 12])

    The searches continue prompts of any length, several in one batch too:

    >>> from seqlab.seq2seq import sample
    >>> prompts, padding = torch.tensor([[1, 9, 8], [1, 0, 0]]), torch.tensor([[0, 0, 0], [0, 1, 1]]).bool()
    >>> answers = sample(model, prompts, 5, padding, bos=None, top_p=0.9, generator=torch.Generator().manual_seed(0))
    >>> len(answers)
    2
    """

    def __init__(
        self,
        num_tokens: int,
        d_model: int,
        nhead: int,
        num_layers: int,
        max_length: int | None = None,
        tied: bool = True,
        dropout: float = 0.1,
        dim_feedforward: int = 2048,
        activation: str = "relu",
        *,
        norm_first: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        sizes = (num_layers, d_model, nhead, dim_feedforward, dropout, activation)
        self.embedding = TokenEmbedding(num_tokens, d_model, max_length, dropout, **place)
        self.blocks = TransformerEncoder(*sizes, norm_first=norm_first, **place)
        self.output = nn.Linear(d_model, num_tokens, bias=False, **place)
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits; shapes as in the class."""
        return self.output(self.blocks(self.embedding(tokens), is_causal=True))

    def start(self, prompt: Tensor | None = None, key_padding_mask: Tensor | None = None) -> TransformerState:
        """The state after a prompt (N, L), whose padding, True in key_padding_mask (N, L), is at the end.

        A search that begins with <bos> continues "prompt <bos>"; with bos=None it calls ``begin``.
        """
        if key_padding_mask is not None:
            check_tokens("LanguageModel", "prompt (N, L)", prompt)
            _check_padding(prompt, key_padding_mask)
        return self._read(prompt, key_padding_mask)

    def begin(self, prompt: Tensor, key_padding_mask: Tensor | None = None) -> tuple[Tensor, TransformerState]:
        """The last token of each prompt, (N), and the state after those before it: what a search with bos=None needs.

        Args:
            prompt: (N, L), integers, at least one token each.
            key_padding_mask: (N, L), True = ignore, with the padding at the end.
        """
        check_tokens("LanguageModel", "prompt (N, L)", prompt)
        if key_padding_mask is None:
            return prompt[:, -1], self._read(prompt[:, :-1], None)
        _check_padding(prompt, key_padding_mask)
        last = (~key_padding_mask).sum(1, keepdim=True) - 1  # (N, 1)
        padding = key_padding_mask[:, 1:]  # of all but the last of each
        return prompt.gather(1, last)[:, 0], self._read(prompt[:, :-1], padding)

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Log-probabilities (N, V) of the token after ``tokens`` (N), and the state after it."""
        x = self.embedding(_one_each("LanguageModel", tokens), _length(state))
        x, cache = self.blocks.step(x, state.cache)
        lengths = None if state.lengths is None else state.lengths + 1
        return torch.log_softmax(self.output(x[:, 0]), dim=-1), state._replace(cache=cache, lengths=lengths)

    def _read(self, prompt: Tensor | None, padding: Tensor | None) -> TransformerState:
        """The state after a prompt, which may be empty, of some rows or of all."""
        if prompt is None or (prompt.dim() == 2 and prompt.shape[1] == 0):
            return TransformerState()
        _, cache = self.blocks.step(self.embedding(prompt))  # causal: no token sees the padding behind it
        if padding is None:
            return TransformerState(cache)
        cache = tuple(keys._replace(key_padding_mask=padding) for keys in cache)
        return TransformerState(cache, lengths=(~padding).sum(1))


def _check_padding(prompt: Any, mask: Any) -> None:
    check_key_padding_mask("LanguageModel", mask, *prompt.shape)
    check_padding_at_end("LanguageModel", mask, "move it, as seqlab.tasks.pad does")


def _one_each(who: str, tokens: Any) -> Tensor:
    """The tokens (N) of one step as sequences of one, (N, 1)."""
    if isinstance(tokens, Tensor) and tokens.dim() != 1:
        raise ValueError(f"{who}: expected tokens (N) of one step, got {tuple(tokens.shape)}; forward takes more")
    return tokens.unsqueeze(1) if isinstance(tokens, Tensor) else tokens


def _length(state: TransformerState) -> int | Tensor:
    """How many tokens the cache holds: the position of the next."""
    if state.lengths is not None:
        return state.lengths
    return 0 if state.cache is None else state.cache[0].key.shape[2]
