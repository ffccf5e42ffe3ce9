"""The decoder: five ways to wire a recurrent layer to what the encoder has read.

One function, ``_advance``, holds them all. It takes a single step, or all steps at once in the wirings in which no
step's input depends on the result of the step before it.

Shapes: N batch, S source length, L target length, E embedding_dim, H hidden_size, M memory_size, C size of the context.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from .._tokens import embed
from ..attention import ProjectedKeys
from ..checks import check_dropout, check_sizes
from .encoder import Encoded
from .parts import context_size, make_layer
from .sampling import draw, toss

WIRINGS = ("sutskever", "cho", "bahdanau", "luong", "input-feeding")


class DecoderState(NamedTuple):
    """All that the next step needs. Every tensor has the batch first, so that a search can pick and repeat rows.

    Args:
        hidden: the layer's state, (h,) or in an LSTM (h, c), each (N, num_layers, H).
        source: keys and values, projected once; None without attention.
        fed: what joins the input of the next step: the context vector (N, 1, M) of "cho", the attentional state
            (N, 1, H) of "input-feeding", or None.
        weights: of the last step's attention, (N, S), or None.
        position: steps taken.

    >>> DecoderState((torch.zeros(2, 1, 4),)).position
    0
    """

    hidden: tuple[Tensor, ...]
    source: ProjectedKeys | None = None
    fed: Tensor | None = None
    weights: Tensor | None = None
    position: int = 0


class Decoder(nn.Module):
    """A recurrent layer that writes the target; y is the embedding of the token before, attention's keys are memory::

        s_i = f(y, s_{i-1})                 o_i = s_i                          wiring="sutskever"
        s_i = f([y; c], s_{i-1})            o_i = max(W [s_i; y; c])           wiring="cho", c the encoder's last state

        c_i = attention(s_{i-1}, memory)                                       wiring="bahdanau": attend, then step
        s_i = f([y; c_i], s_{i-1})          o_i = max(W [s_i; y; c_i])

        s_i = f(y, s_{i-1})                                                    wiring="luong": step, then attend
        c_i = attention(s_i, memory)        o_i = tanh(W [c_i; s_i])

        s_i = f([y; o_{i-1}], s_{i-1})      then as "luong", o_0 = 0           wiring="input-feeding"

        logits_i = W_o o_i + b              s_0 = tanh(W_s state + b), or the state itself where M = H

    max is over pairs of units (maxout). Of several layers the top one is queried and read out. In "sutskever", "cho"
    and "luong" no step waits for the one before it but inside the layer: a whole target is one call of the layer and
    one of the attention. The other two go step by step.

    Args:
        num_tokens: V, of the target vocabulary, special ones included.
        embedding_dim: E.
        hidden_size: H.
        memory_size: M of the encoder, ``encoder.memory_size``.
        wiring: "sutskever" or "cho" without attention, "bahdanau", "luong" or "input-feeding" with it.
        attention: any module of ``seqlab.attention``, with queries of H and keys of M numbers, batch first, or one that
            keeps what that package says of all: it is asked for context_size(H, M), projects the memory once, and is
            called as ``attention(query, projected, start=position, need_weights=...)``.
        cell: as in :class:`Encoder`; the encoder needs the same kind of state, (h) or (h, c).
        num_layers: of the recurrent layer, as many as the encoder's.
        dropout: probability, during training, for the embedding, between layers, and for o.
        device, dtype: of the weights; the attention has its own.

    Shape:
        target (N, L), integers, from <bos> on; encoded as :class:`Encoder` returns it.

    Returns:
        The pair (logits, weights), (N, L, V) of the token after each one of the target, and (N, L, S) if
        need_weights is set, else or without attention None.

    Raises:
        TypeError, ValueError: an argument, shape or dtype does not fit; the wiring is unknown, or has attention where
            it has no place for it; the attention's sizes don't fit; on the CPU, a token outside the vocabulary.

    Source:
        Sutskever, Vinyals and Le (2014), section 2; Cho et al. (2014), section 2.2; Bahdanau, Cho and Bengio (2015),
        section 3.1 and appendix A.2.2; Luong, Pham and Manning (2015), equations 5 and 6, and section 3.3.
    Differs:
        any cell in any wiring, where Cho and Bahdanau have a GRU of their own and Luong stacked LSTMs. Maxout reads
        s_i, as equation 4 of Bahdanau et al. has it; H pairs. The bridge is one matrix for all layers, from both
        directions' final states; an LSTM's cell state gets its own, without tanh, since it is not bounded.
        Bahdanau's s_0 sees only the second direction.

    >>> from seqlab.attention import AdditiveAttention
    >>> from seqlab.seq2seq import Encoder
    >>> encoder = Encoder(10, embedding_dim=3, hidden_size=4, bidirectional=True)
    >>> decoder = Decoder(12, 3, 4, encoder.memory_size, "bahdanau", AdditiveAttention(4, encoder.memory_size, 4))
    >>> encoded = encoder(torch.tensor([[5, 6, 7]]))
    >>> logits, weights = decoder(torch.tensor([[1, 9, 8]]), encoded, need_weights=True)
    >>> logits.shape, weights.shape
    (torch.Size([1, 3, 12]), torch.Size([1, 3, 3]))
    """

    def __init__(
        self,
        num_tokens: int,
        embedding_dim: int,
        hidden_size: int,
        memory_size: int,
        wiring: str,
        attention: nn.Module | None = None,
        cell: str | Callable[..., nn.RNNBase] = "gru",
        num_layers: int = 1,
        dropout: float = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        who, E, H, M = "Decoder", embedding_dim, hidden_size, memory_size
        check_sizes(who, num_tokens=num_tokens, embedding_dim=E, hidden_size=H, memory_size=M, num_layers=num_layers)
        check_dropout(who, dropout)
        if wiring not in WIRINGS:
            raise ValueError(f"{who}: expected wiring to be one of {', '.join(WIRINGS)}, got {wiring!r}")
        if (attention is None) == (wiring not in ("sutskever", "cho")):
            wanted, got = ("a module", "None") if attention is None else ("None", type(attention).__name__)
            raise ValueError(f"{who}: expected attention={wanted} for wiring={wiring!r}, got {got}; change one of them")
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        C = 0 if attention is None else context_size(attention, H, M)
        fed = {"sutskever": 0, "cho": M, "bahdanau": C, "luong": 0, "input-feeding": H}[wiring]
        self.hidden_size, self.memory_size, self.wiring = H, M, wiring
        self.embedding = nn.Embedding(num_tokens, E, **place)
        self.attention: Any = attention
        self.layer = make_layer(who, cell, E + fed, H, num_layers, dropout, **place)
        self.states = 2 if isinstance(self.layer, nn.LSTM) else 1
        K = num_layers
        bridges = (nn.Linear(K * M, K * H, **place) for _ in range(self.states))
        self.bridge: Any = None if M == H else nn.ModuleList(bridges)
        if wiring in ("cho", "bahdanau"):
            self.combine = nn.Linear(H + E + fed, 2 * H, **place)
        elif wiring in ("luong", "input-feeding"):
            self.combine = nn.Linear(C + H, H, bias=False, **place)
        self.output = nn.Linear(H, num_tokens, **place)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        target: Tensor,
        encoded: Encoded,
        *,
        sampling_probability: float = 0.0,
        generator: Generator | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Logits after each token of the target (teacher forcing), ``(logits, weights)``.

        Args:
            target, encoded: as in the class.
            sampling_probability: scheduled sampling (Bengio et al., 2015, where it is 1 - ε): how often a step after
                the first is given a token drawn from the step before it, instead of the target's. One coin a token.
                No gradient goes through the draw; all wirings then go step by step.
            generator: tosses the coins and draws the tokens.
            need_weights: whether to return the attention's weights.
        """
        embedded = self._embed("target (N, L)", target)  # (N, L, E)
        state = self.start(encoded)
        N, N_source = target.shape[0], encoded.memory.shape[0]
        if N_source != N:
            raise ValueError(f"Decoder: expected target and source of one batch, got N={N} and N={N_source}")
        own = toss(sampling_probability, generator, target)
        at_once = own is None and self.wiring in ("sutskever", "cho", "luong")
        all_logits: list[Tensor] = []
        all_weights: list[Tensor | None] = []
        for i, y in enumerate([embedded] if at_once else embedded.split(1, dim=1)):
            if own is not None and i > 0:
                drawn = self.embedding(draw(all_logits[-1][:, -1], generator)).unsqueeze(1)  # (N, 1, E)
                y = torch.where(own[:, i, None, None], drawn, y)
            o, weights, state = self._advance(y, state, need_weights)
            all_logits.append(self.output(self.dropout(o)))
            all_weights.append(weights)
        logits = torch.cat(all_logits, dim=1)
        present = [weights for weights in all_weights if weights is not None]
        return logits, torch.cat(present, dim=1) if present else None

    def start(self, encoded: Encoded) -> DecoderState:
        """The state before the first step; everything that depends on the source alone is computed here, once."""
        K, N = self.layer.num_layers, encoded.memory.shape[0]
        wanted = [(N, K, self.memory_size)] * self.states
        got = [tuple(s.shape) for s in encoded.state]
        if got != wanted or encoded.memory.shape[-1] != self.memory_size:
            raise ValueError(
                f"Decoder: expected an encoder's state of shape(s) {wanted}, (N, num_layers, M), and memory of "
                f"M={self.memory_size}, got {got} and {encoded.memory.shape[-1]}; give encoder and decoder the same "
                "num_layers and kind of cell, and pass memory_size=encoder.memory_size"
            )
        hidden = encoded.state
        if self.bridge is not None:  # (N, K, M) to (N, K * M) to (N, K, H)
            bridged = [W(s.flatten(1)).unflatten(1, (K, -1)) for W, s in zip(self.bridge, hidden, strict=True)]
            hidden = (torch.tanh(bridged[0]), *bridged[1:])
        source, fed = None, None
        if self.attention is not None:
            source = self.attention.project_keys(encoded.memory, key_padding_mask=encoded.key_padding_mask)
        if self.wiring == "cho":
            fed = encoded.state[0][:, -1:]  # the context vector (N, 1, M), of the top layer
        elif self.wiring == "input-feeding":
            fed = encoded.memory.new_zeros(N, 1, self.hidden_size)
        return DecoderState(hidden, source, fed)

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Logits (N, V) of the token after ``tokens`` (N), and the state after it, with the step's weights."""
        if isinstance(tokens, Tensor) and tokens.dim() != 1:
            raise ValueError(f"Decoder: expected tokens (N) of one step, got {tuple(tokens.shape)}; forward takes more")
        wanted = (tokens.shape[0], self.layer.num_layers, self.hidden_size)
        if any(s.shape != wanted for s in state.hidden) or len(state.hidden) != self.states:
            raise ValueError(
                f"Decoder: expected {self.states} hidden state(s) (N, num_layers, H) = {wanted}, to fit the tokens, "
                f"got {[tuple(s.shape) for s in state.hidden]}; begin with start, and pick rows of both alike"
            )
        y = self._embed("tokens (N, 1)", tokens.unsqueeze(1))
        o, weights, state = self._advance(y, state, need_weights=True)
        return self.output(self.dropout(o))[:, 0], state._replace(weights=None if weights is None else weights[:, 0])

    def _embed(self, name: str, tokens: Any) -> Tensor:
        return embed("Decoder", name, tokens, self.embedding, self.embedding.num_embeddings)

    def _advance(
        self, y: Tensor, state: DecoderState, need_weights: bool
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """o (N, L, H) and weights (N, L, S) of the steps whose embedded tokens are y (N, L, E), and the state after."""
        y, fed, weights = self.dropout(y), state.fed, None
        attend: dict[str, Any] = {"start": state.position, "need_weights": need_weights}
        if self.wiring == "bahdanau":
            fed, weights = self.attention(
                state.hidden[0][:, -1:],  # s_{i-1}, of the top layer
                state.source,
                **attend,
            )
        input = y if fed is None else torch.cat([y, fed.expand(-1, y.shape[1], -1)], dim=-1)
        hx = tuple(h.transpose(0, 1).contiguous() for h in state.hidden)  # (num_layers, N, H)
        s, after = self.layer(input, hx if self.states == 2 else hx[0])  # (N, L, H)
        hidden = tuple(h.transpose(0, 1) for h in (after if self.states == 2 else (after,)))
        if self.wiring == "sutskever":
            o = s
        elif self.wiring in ("cho", "bahdanau"):
            pairs = self.combine(torch.cat([s, input], dim=-1)).unflatten(-1, (-1, 2))  # (N, L, H, 2)
            o = pairs.amax(-1)
        else:
            context, weights = self.attention(s, state.source, **attend)
            o = torch.tanh(self.combine(torch.cat([context, s], dim=-1)))
        fed = o[:, -1:] if self.wiring == "input-feeding" else state.fed
        return o, weights, DecoderState(hidden, state.source, fed, None, state.position + y.shape[1])

    def extra_repr(self) -> str:
        """The wiring."""
        return f"wiring={self.wiring!r}"
