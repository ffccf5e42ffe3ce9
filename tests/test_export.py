"""Exported with a batch axis that is left open, every module computes for another batch what it computes itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.testing import assert_close

from seqlab.attention import AdditiveAttention, LuongAttention, MultiheadAttention, ScaledDotProductAttention
from seqlab.convolution import DilatedBlock, DilatedStack
from seqlab.memory import ContentMemory, ContentMemoryCell
from seqlab.seq2seq import Decoder, Encoder, Seq2Seq
from seqlab.transformer import (
    DecoderBlock,
    EncoderBlock,
    LanguageModel,
    LearnedPositions,
    SinusoidalPositions,
    TokenEmbedding,
    Transformer,
    TransformerDecoder,
    TransformerEncoder,
)

E, L, S = 4, 3, 5


def x(N, length=L, size=E):
    return torch.randn(N, length, size)


def tokens(N, length=L):
    return torch.randint(3, 7, (N, length))


def padding(N):
    return torch.arange(S) >= torch.randint(1, S + 1, (N, 1))


def attention(kind, **options):
    return lambda: kind(**options), lambda N: (x(N), x(N, S), None, padding(N)), (0, 0, None, 0)


def seq2seq(wiring, cell="gru"):
    def make():
        encoder = Encoder(7, E, E, cell, bidirectional=True)
        looks = wiring in ("bahdanau", "luong", "input-feeding")
        return Seq2Seq(
            encoder, Decoder(7, E, E, 2 * E, wiring, AdditiveAttention(E, 2 * E, E) if looks else None, cell)
        )

    return make, lambda N: (tokens(N, S), tokens(N)), (0, 0)


SMALL = {"dim_feedforward": 8}
CASES: dict[str, tuple[Callable, Callable, tuple]] = {
    "additive": attention(AdditiveAttention, query_size=E, key_size=E, hidden_size=E),
    "normed": attention(AdditiveAttention, query_size=E, key_size=E, hidden_size=E, normed=True),
    **{
        f"{score}-{window}": attention(LuongAttention, query_size=E, score=score, window=window, half_width=1)
        for score in ("general", "concat")
        for window in (None, "local-m", "local-p")
    },
    "scaled": attention(ScaledDotProductAttention),
    "multihead": attention(MultiheadAttention, embed_dim=E, num_heads=2, batch_first=True),
    "dilated-block": (lambda: DilatedBlock(E, dilation=2), lambda N: (x(N),), (0,)),
    "dilated-stack": (lambda: DilatedStack(E, E, [1, 2]), lambda N: (x(N),), (0,)),
    "memory-cell": (lambda: ContentMemoryCell(E, E, 3, 2), lambda N: (torch.randn(N, E),), (0,)),
    "memory": (lambda: ContentMemory(E, E, 3, 2, batch_first=True), lambda N: (x(N),), (0,)),
    "encoder": (lambda: Encoder(7, E, E, bidirectional=True), lambda N: (tokens(N),), (0,)),
    **{wiring: seq2seq(wiring) for wiring in ("sutskever", "cho", "bahdanau", "luong", "input-feeding")},
    "lstm": seq2seq("luong", "lstm"),
    "encoder-block": (lambda: EncoderBlock(E, 2, 8), lambda N: (x(N, S), None, padding(N)), (0, None, 0)),
    "decoder-block": (lambda: DecoderBlock(E, 2, 8), lambda N: (x(N), x(N, S)), (0, 0)),
    "encoder-stack": (lambda: TransformerEncoder(2, E, 2, 8), lambda N: (x(N),), (0,)),
    "decoder-stack": (lambda: TransformerDecoder(2, E, 2, 8), lambda N: (x(N), x(N, S)), (0, 0)),
    "transformer": (
        lambda: Transformer(7, 7, E, 2, 1, **SMALL),
        lambda N: (tokens(N, S), tokens(N), padding(N)),
        (0, 0, 0),
    ),
    "language-model": (lambda: LanguageModel(7, E, 2, 1, 9, **SMALL), lambda N: (tokens(N),), (0,)),
    "embedding": (lambda: TokenEmbedding(7, E), lambda N: (tokens(N),), (0,)),
    "sinusoids": (lambda: SinusoidalPositions(E), lambda N: (x(N),), (0,)),
    "positions": (lambda: LearnedPositions(9, E), lambda N: (x(N),), (0,)),
}


@pytest.mark.parametrize("case", CASES)
def test_exported_with_an_open_batch_axis(case):
    torch.manual_seed(0)
    make, arguments, axes = CASES[case]
    module: nn.Module = make().eval()
    batch = Dim("batch", min=1, max=64)
    shapes = tuple(None if axis is None else {axis: batch} for axis in axes)
    exported = torch.export.export(module, arguments(3), dynamic_shapes=shapes).module()
    for N in (2, 5):
        inputs = arguments(N)
        assert_close(exported(*inputs), module(*inputs))


NO_BATCH = {"encoder", "sutskever", "cho", "bahdanau", "luong", "input-feeding", "lstm"}
NO_BATCH |= {"transformer", "language-model", "embedding"}


@pytest.mark.parametrize("case", CASES)
def test_an_empty_batch_gives_empty_results_and_gradients_of_zero_or_says_that_it_is_empty(case):
    torch.manual_seed(0)
    make, arguments, _ = CASES[case]
    module: nn.Module = make()
    inputs = [None if each is None else each[:0] for each in arguments(3)]
    if case in NO_BATCH:
        with pytest.raises(ValueError, match=r"at least one sequence of at least one token, got .0, "):
            module(*inputs)
        return
    result, whole = module(*inputs), module(*arguments(3))
    results, wholes = ([r[0] if isinstance(r, tuple) else r] for r in (result, whole))
    for each, other in zip(results, wholes, strict=True):
        assert each.shape == (0, *other.shape[1:])
    if next(module.parameters(), None) is not None:
        results[0].sum().backward()
        assert all(p.grad is None or (p.grad == 0).all() for p in module.parameters())
