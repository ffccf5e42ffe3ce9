"""The Transformer: torch's layers and the paper's equations in NumPy, caches, masks, positions, and what is refused."""

from __future__ import annotations

import doctest
import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from seqlab.attention import causal_mask
from seqlab.seq2seq import beam_search, greedy_search
from seqlab.tasks import key_padding_mask, reversing
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

EXACT = {"rtol": 0.0, "atol": 1e-12}
GRADIENTS = {"rtol": 0.0, "atol": 1e-10}
f64 = torch.float64
N, L, S, E, HEADS, F = 3, 5, 6, 8, 2, 16
LENGTHS = [3, 5, 4]  # of the targets; of the sources one more
PADDING, MEMORY_PADDING = key_padding_mask(LENGTHS), key_padding_mask([n + 1 for n in LENGTHS])

norm_first = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
activation = pytest.mark.parametrize("activation", ["relu", "gelu"])


def randn(*shape):
    return torch.randn(shape, dtype=f64, requires_grad=True)


def scramble(module):
    """Far from the initial values, so that no term hides behind a bias of 0 or a norm's weight of 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, dtype=f64, generator=generator))
    return module


def twins(ours, theirs):
    """Both with the same weights, that have gone both ways."""
    theirs.load_state_dict(scramble(ours).state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours.eval(), theirs.eval()


def assert_same(ours, theirs, mine, its, inputs, keep):
    """Values and all gradients where something is kept; torch's padding is as meaningless as ours."""
    ours, theirs = ours[keep], theirs[keep]
    assert_close(ours, theirs, **EXACT)
    factor = torch.randn_like(ours)
    names = [name for name, _ in mine.named_parameters()]
    parameters = [[dict(m.named_parameters())[name] for name in names] for m in (mine, its)]
    a = torch.autograd.grad(ours, [*inputs, *parameters[0]], factor)
    b = torch.autograd.grad(theirs, [*inputs, *parameters[1]], factor)
    assert_close(a, b, **GRADIENTS)


def keep(padded):
    return ~PADDING if padded else torch.ones(N, L, dtype=torch.bool)


# Against torch.


@norm_first
@activation
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("causal", [False, True], ids=["all-to-all", "causal"])
def test_the_encoder_block_is_torchs(norm_first, activation, padded, causal):
    options = {"norm_first": norm_first, "dtype": f64}
    ours, theirs = twins(
        EncoderBlock(E, HEADS, F, 0.1, activation, **options),
        nn.TransformerEncoderLayer(E, HEADS, F, 0.1, activation, batch_first=True, **options),
    )
    x, padding = randn(N, L, E), PADDING if padded else None
    mine = ours(x, None, padding, causal)
    its = theirs(x, src_mask=causal_mask(L) if causal else None, src_key_padding_mask=padding)
    assert_same(mine, its, ours, theirs, [x], keep(padded))


@norm_first
@activation
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_the_decoder_block_is_torchs(norm_first, activation, padded):
    options = {"norm_first": norm_first, "dtype": f64}
    ours, theirs = twins(
        DecoderBlock(E, HEADS, F, 0.1, activation, **options),
        nn.TransformerDecoderLayer(E, HEADS, F, 0.1, activation, batch_first=True, **options),
    )
    x, memory = randn(N, L, E), randn(N, S, E)
    masks = (PADDING, MEMORY_PADDING) if padded else (None, None)
    its = theirs(x, memory, causal_mask(L), tgt_key_padding_mask=masks[0], memory_key_padding_mask=masks[1])
    assert_same(ours(x, memory, None, None, *masks), its, ours, theirs, [x, memory], keep(padded))


@pytest.mark.parametrize("kind", ["boolean", "floating", "per-head"])
def test_masks_are_torchs(kind):
    """Of queries and keys, in blocks and stacks, beside the padding."""
    shape = (N * HEADS, L) if kind == "per-head" else (L,)
    masks = [torch.rand(*shape, size) < 0.4 for size in (L, S)]
    for each in masks:
        each[..., 0] = False
    if kind == "floating":
        masks = [torch.randn(L, size, dtype=f64) for size in (L, S)]
    own, cross = masks
    x, memory, options = randn(N, L, E), randn(N, S, E), {"batch_first": True, "dtype": f64}
    layer = nn.TransformerEncoderLayer(E, HEADS, F, **options)
    ours, theirs = twins(EncoderBlock(E, HEADS, F, dtype=f64), layer)
    assert_same(ours(x, own), theirs(x, own), ours, theirs, [x], keep(False))
    ours, theirs = twins(
        TransformerEncoder(2, E, HEADS, F, dtype=f64), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    )
    assert_same(ours(x, own), theirs(x, own), ours, theirs, [x], keep(False))
    layer = nn.TransformerDecoderLayer(E, HEADS, F, **options)
    ours, theirs = twins(DecoderBlock(E, HEADS, F, dtype=f64), layer)
    mine, its = ours(x, memory, own, cross, tgt_is_causal=False), theirs(x, memory, own, cross)
    assert_same(mine, its, ours, theirs, [x, memory], keep(False))
    ours, theirs = twins(TransformerDecoder(2, E, HEADS, F, dtype=f64), nn.TransformerDecoder(layer, 2))
    mine, its = ours(x, memory, own, cross, tgt_is_causal=False), theirs(x, memory, own, cross)
    assert_same(mine, its, ours, theirs, [x, memory], keep(False))


@norm_first
def test_the_stacks_are_torchs(norm_first):
    options = {"norm_first": norm_first, "dtype": f64}
    last = nn.LayerNorm(E, dtype=f64) if norm_first else None
    layer = nn.TransformerEncoderLayer(E, HEADS, F, batch_first=True, **options)
    theirs = nn.TransformerEncoder(layer, 2, last, enable_nested_tensor=False)
    ours, theirs = twins(TransformerEncoder(2, E, HEADS, dim_feedforward=F, **options), theirs)
    x, memory = randn(N, L, E), randn(N, S, E)
    its = theirs(x, src_key_padding_mask=PADDING)
    assert_same(ours(x, None, PADDING), its, ours, theirs, [x], keep(True))

    layer = nn.TransformerDecoderLayer(E, HEADS, F, batch_first=True, **options)
    ours, theirs = twins(
        TransformerDecoder(2, E, HEADS, dim_feedforward=F, **options), nn.TransformerDecoder(layer, 2, last)
    )
    its = theirs(x, memory, causal_mask(L), memory_key_padding_mask=MEMORY_PADDING)
    mine = ours(x, memory, memory_key_padding_mask=MEMORY_PADDING)
    assert_same(mine, its, ours, theirs, [x, memory], keep(False))


@norm_first
@pytest.mark.parametrize(
    ("kind", "torchs"), [(EncoderBlock, nn.TransformerEncoderLayer), (DecoderBlock, nn.TransformerDecoderLayer)]
)
def test_initial_values_and_dropout_are_torchs(kind, torchs, norm_first):
    blocks = []
    for make, options in ((kind, {}), (torchs, {"batch_first": True})):
        torch.manual_seed(0)
        blocks.append(make(E, HEADS, F, 0.3, norm_first=norm_first, dtype=f64, **options))
    ours, theirs = blocks
    assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=0, atol=0)
    x = randn(1, L, E)  # of one sequence: of several, torch lays out the same numbers in another order
    more = [randn(1, S, E)] if kind is DecoderBlock else []
    torch.manual_seed(1)
    dropped = ours(x, *more) if more else ours(x, is_causal=True)
    torch.manual_seed(1)
    assert_close(dropped, theirs(x, *more, causal_mask(L)), **EXACT)
    assert not torch.equal(dropped, ours.eval()(x, *more))


def test_layers_of_a_stack_start_from_weights_of_their_own():
    first, second = TransformerEncoder(2, E, HEADS).layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


# Against the paper's equations, in NumPy.


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def norm(x, w, name):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(q, kv, w, name, causal):
    W, b = w[f"{name}.in_proj_weight"], w[f"{name}.in_proj_bias"]
    q, k, v = (x @ W[i * E : i * E + E].T + b[i * E : i * E + E] for i, x in enumerate((q, kv, kv)))
    heads, d = [], E // HEADS
    for h in range(HEADS):
        part = slice(h * d, h * d + d)
        scores = q[:, part] @ k[:, part].T / math.sqrt(d)
        if causal:
            scores[np.arange(len(q))[:, None] < np.arange(len(kv))] = -np.inf
        heads.append(softmax(scores) @ v[:, part])
    return np.concatenate(heads, -1) @ w[f"{name}.out_proj.weight"].T + w[f"{name}.out_proj.bias"]


def ffn(x, w):
    hidden = np.maximum(x @ w["linear1.weight"].T + w["linear1.bias"], 0)
    return hidden @ w["linear2.weight"].T + w["linear2.bias"]


def block(x, w, memory=None, causal=False, norm_first=False):
    """One sequence, x (L, E); the norms count up with the sublayers."""
    sublayers = [lambda y: attention(y, y, w, "self_attn", causal)]
    if memory is not None:
        sublayers.append(lambda y: attention(y, memory, w, "multihead_attn", False))
    for i, sublayer in enumerate([*sublayers, lambda y: ffn(y, w)], start=1):
        x = x + sublayer(norm(x, w, f"norm{i}")) if norm_first else norm(x + sublayer(x), w, f"norm{i}")
    return x


def positions(length):
    return np.array(
        [[(math.cos if i % 2 else math.sin)(p / 10000 ** ((i - i % 2) / E)) for i in range(E)] for p in range(length)]
    )


def below(w, prefix):
    return {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}


@norm_first
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_model_is_the_papers_equations(norm_first, tied):
    model = scramble(
        Transformer(7, 9, E, HEADS, 2, tied=tied, dim_feedforward=F, norm_first=norm_first, dtype=f64)
    ).eval()
    w = {name: value.numpy() for name, value in model.state_dict().items()}
    source, target = torch.randint(7, (N, S)), torch.randint(9, (N, L))
    logits = model(source, target)
    for n in range(N):
        memory = math.sqrt(E) * w["source_embedding.weight"][source[n]] + positions(S)
        for i in range(2):
            memory = block(memory, below(w, f"encoder.layers.{i}."), norm_first=norm_first)
        memory = norm(memory, w, "encoder.norm") if norm_first else memory
        x = math.sqrt(E) * w["target_embedding.weight"][target[n]] + positions(L)
        for i in range(2):
            x = block(x, below(w, f"decoder.layers.{i}."), memory, causal=True, norm_first=norm_first)
        x = norm(x, w, "decoder.norm") if norm_first else x
        assert_close(logits[n].detach(), torch.from_numpy(x @ w["output.weight"].T), rtol=1e-12, atol=1e-12)
    assert (model.output.weight is model.target_embedding.weight) == tied


def test_the_language_model_is_the_equations():
    model = scramble(LanguageModel(9, E, HEADS, 2, dim_feedforward=F, dtype=f64)).eval()
    w, tokens = {name: value.numpy() for name, value in model.state_dict().items()}, torch.randint(9, (1, L))
    x = math.sqrt(E) * w["embedding.weight"][tokens[0]] + positions(L)
    for i in range(2):
        x = block(x, below(w, f"blocks.layers.{i}."), causal=True)
    wanted = torch.from_numpy(x @ w["embedding.weight"].T)
    assert_close(model(tokens)[0].detach(), wanted, rtol=1e-12, atol=1e-12)


# Positions.


def encoding(start, length, d_model=E):
    return SinusoidalPositions(d_model)(torch.zeros(1, length, d_model, dtype=f64), start)[0]


def test_sinusoids_are_the_equation():
    assert_close(encoding(0, 50), torch.from_numpy(positions(50)), **EXACT)
    assert_close(encoding(20, 30), torch.from_numpy(positions(50)[20:]), **EXACT)
    x = torch.randn(2, 3, E)
    assert_close(SinusoidalPositions(E)(x), x + encoding(0, 3).float())


@given(p=st.integers(0, 2000), k=st.integers(0, 500), half=st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_a_shift_is_a_rotation_that_does_not_depend_on_the_position(p, k, half):
    """PE[p + k] = R_k PE[p], R_k of 2 × 2 rotations."""
    rotations = []
    for i in range(half):
        a = k / 10000 ** (i / half)
        rotations.append(torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]], dtype=f64))
    R = torch.block_diag(*rotations)
    assert_close(encoding(p + k, 1, 2 * half)[0], R @ encoding(p, 1, 2 * half)[0], rtol=0, atol=1e-11)


def test_learned_positions_are_rows_of_the_weight():
    module, x = LearnedPositions(6, E), torch.randn(2, 3, E)
    assert_close(module(x, start=3), x + module.weight[3:])
    module(x, start=3).sum().backward()
    assert module.weight.grad.tolist() == [[0.0] * E] * 3 + [[2.0] * E] * 3


@pytest.mark.parametrize("max_length", [None, 7])
def test_without_positions_order_is_lost_and_with_them_it_is_not(max_length):
    encoder = TransformerEncoder(1, E, HEADS, dtype=f64).eval()
    embedding = TokenEmbedding(9, E, max_length, dtype=f64)
    tokens, order = torch.tensor([[3, 4, 5, 6]]), torch.tensor([2, 0, 3, 1])
    x = nn.functional.embedding(tokens, embedding.weight)
    assert_close(encoder(x[:, order]), encoder(x)[:, order], **EXACT)
    assert (encoder(embedding(tokens[:, order])) - encoder(embedding(tokens))[:, order]).abs().max() > 1e-3


# Step by step.


@norm_first
@pytest.mark.parametrize("parts", [[1] * L, [2, 1, 2], [L]], ids=["steps", "parts", "at-once"])
def test_a_cache_gives_what_the_whole_pass_gives(norm_first, parts):
    options = {"dim_feedforward": F, "norm_first": norm_first, "dtype": f64}
    x, memory = randn(N, L, E), randn(N, S, E)
    encoder = scramble(TransformerEncoder(2, E, HEADS, **options)).eval()
    decoder = scramble(TransformerDecoder(2, E, HEADS, **options)).eval()
    projected = decoder.project_memory(memory, MEMORY_PADDING)
    for whole, step in (
        (encoder(x, is_causal=True), encoder.step),
        (decoder(x, memory, memory_key_padding_mask=MEMORY_PADDING), lambda x, c: decoder.step(x, projected, c)),
    ):
        outputs, cache = [], None
        for part in x.split(parts, dim=1):
            output, cache = step(part, cache)
            outputs.append(output)
        assert_close(torch.cat(outputs, 1), whole, **EXACT)
        assert [keys.key.shape for keys in cache] == [(N, HEADS, L, E // HEADS)] * 2
    assert_close(decoder(x, projected), whole, **EXACT)  # projected keys do for the whole pass too


def test_gradients_flow_through_a_cache_as_through_the_whole_pass():
    encoder, x = scramble(EncoderBlock(E, HEADS, F, dtype=f64)).eval(), randn(N, L, E)
    outputs, cache = [], None
    for part in x.split(1, dim=1):
        output, cache = encoder.step(part, cache)
        outputs.append(output)
    factor, leaves = torch.randn(N, L, E, dtype=f64), [x, *encoder.parameters()]
    a = torch.autograd.grad(torch.cat(outputs, 1), leaves, factor)
    assert_close(a, torch.autograd.grad(encoder(x, is_causal=True), leaves, factor), **GRADIENTS)


def make_models(max_length=None):
    options = {"max_length": max_length, "dim_feedforward": F, "dtype": f64}
    model, language = Transformer(7, 9, E, HEADS, 2, **options), LanguageModel(9, E, HEADS, 2, **options)
    return scramble(model).eval(), scramble(language).eval()


@pytest.mark.parametrize("max_length", [None, S])
def test_the_steps_of_a_model_are_its_whole_pass(max_length):
    model, language = make_models(max_length)
    source, target = torch.randint(7, (N, S)), torch.randint(9, (N, L))
    for whole, state, one in (
        (model(source, target, MEMORY_PADDING), model.start(source, MEMORY_PADDING), model),
        (language(target), language.start(), language),
    ):
        for t in range(L):
            log_probs, state = one.step(target[:, t], state)
            assert_close(log_probs, torch.log_softmax(whole[:, t], -1), **EXACT)
    log_probs, _ = language.step(target[:, 3], language.start(target[:, :3]))  # after a prompt
    assert_close(log_probs, torch.log_softmax(language(target)[:, 3], -1), **EXACT)


def rows(state, index):
    """Every tensor of a state at these sequences, as a search picks them."""
    if isinstance(state, torch.Tensor):
        return state[index]
    if hasattr(state, "_fields"):
        return type(state)(*(rows(part, index) for part in state))
    return tuple(rows(part, index) for part in state) if isinstance(state, tuple) else state


def test_the_sequences_of_a_state_can_be_picked_repeated_and_reordered():
    model, _ = make_models()
    source, target, index = torch.randint(7, (N, S)), torch.randint(9, (N, L)), torch.tensor([2, 0, 2, 1])

    def run(state, target):
        for t in range(target.shape[1]):
            log_probs, state = model.step(target[:, t], state)
        return log_probs, state

    _, half = run(model.start(source, MEMORY_PADDING), target[:, :2])
    picked, _ = run(rows(half, index), target[index, 2:])
    wanted = model(source[index], target[index], MEMORY_PADDING[index])[:, -1]
    assert_close(picked, torch.log_softmax(wanted, -1), **EXACT)


def test_searches_run_on_the_models():
    model, language = make_models()
    source = torch.randint(3, 7, (N, S))
    for n, answer in enumerate(greedy_search(model, source, 6, MEMORY_PADDING)):
        tokens = [1]
        while len(tokens) < 7 and tokens[-1] != 2:  # the whole pass again for each token
            logits = model(source[n : n + 1], torch.tensor([tokens]), MEMORY_PADDING[n : n + 1])
            tokens.append(int(logits[0, -1].argmax()))
        assert answer.tokens.tolist() == tokens[1:]
    for best, *_ in beam_search(model, source, 3, 6, MEMORY_PADDING):
        assert len(best.tokens) <= 6
    beams = beam_search(language, source, 3, 4)
    for n, (best, *_) in enumerate(beams):
        whole = torch.cat([source[n], torch.tensor([1]), best.tokens]).unsqueeze(0)
        log_probs = torch.log_softmax(language(whole[:, :-1]), -1)[0, S:]
        wanted = log_probs.gather(1, best.tokens.unsqueeze(1)).sum().item()
        assert best.log_prob == pytest.approx(wanted, abs=1e-5)  # the search adds up in float32


@pytest.mark.parametrize("max_length", [None, 12])
@pytest.mark.parametrize("lengths", [[1, 4, 2], [1, 1, 1], [4, 4, 4]])
def test_prompts_of_any_length_are_continued_in_one_batch_as_each_alone(max_length, lengths):
    """With a cache, against the whole pass again for each token."""
    _, language = make_models(max_length)
    padding = key_padding_mask(lengths)
    prompts = torch.randint(3, 9, padding.shape).masked_fill(padding, 0)
    scrambled = prompts.masked_fill(padding, 7)
    answers = greedy_search(language, prompts, 6, padding, bos=None)
    assert [a.tokens.tolist() for a in greedy_search(language, scrambled, 6, padding, bos=None)] == [
        a.tokens.tolist() for a in answers
    ]
    for prompt, length, answer in zip(prompts, lengths, answers, strict=True):
        whole = prompt[:length]
        for token in answer.tokens:
            log_probs = torch.log_softmax(language(whole.unsqueeze(0))[0, -1], -1)
            assert token == log_probs.argmax()
            whole = torch.cat([whole, token.unsqueeze(0)])
        log_probs = torch.log_softmax(language(whole[:-1].unsqueeze(0))[0, length - 1 :], -1)
        wanted = log_probs.gather(1, answer.tokens.unsqueeze(1)).sum().item()
        assert answer.log_prob == pytest.approx(wanted, abs=1e-12)
        assert answer.finished == (answer.tokens[-1] == 2)
        (alone,) = greedy_search(language, prompt[None, :length], 6, bos=None)
        assert alone.tokens.tolist() == answer.tokens.tolist()
    for each, others in zip(answers, beam_search(language, prompts, 1, 6, padding, bos=None), strict=True):
        assert each.tokens.tolist() == others[0].tokens.tolist()


def test_after_padded_prompts_a_step_is_the_whole_pass():
    _, language = make_models()
    lengths, padding = [1, 4, 2], key_padding_mask([1, 4, 2])
    prompts, more = torch.randint(3, 9, padding.shape), torch.randint(3, 9, (3, 2))
    state = language.start(prompts, padding)
    for t in range(2):
        log_probs, state = language.step(more[:, t], state)
        for n, length in enumerate(lengths):
            whole = torch.cat([prompts[n, :length], more[n, : t + 1]]).unsqueeze(0)
            assert_close(log_probs[n], torch.log_softmax(language(whole)[0, -1], -1), **EXACT)


# Masks.


def test_a_padded_batch_is_each_sentence_alone():
    model, _ = make_models()
    source, target = torch.randint(7, (N, S)), torch.randint(9, (N, L))
    logits = model(source, target, MEMORY_PADDING)
    for n, length in enumerate(LENGTHS):
        alone = model(source[n : n + 1, : length + 1], target[n : n + 1, :length])
        assert_close(logits[n : n + 1, :length], alone, **EXACT)


def test_nothing_later_is_seen():
    decoder, x, memory = scramble(TransformerDecoder(2, E, HEADS, dtype=f64)), randn(1, L, E), randn(1, S, E)
    for t in range(L):
        gradient, of_memory = torch.autograd.grad(decoder(x, memory)[0, t].pow(2).sum(), [x, memory])
        assert (gradient[0, t + 1 :] == 0).all()
        assert (gradient[0, : t + 1] != 0).all()
        assert (of_memory != 0).all()


# What is refused.


X = torch.zeros(2, 3, E)
TOKENS = torch.zeros(2, 3, dtype=torch.long)
NO_KEY = r"at least one key to attend to in every sequence.*\[1\]"


def mask(*rows):
    return torch.tensor(rows, dtype=torch.bool)


PROMPT_OF_NONE, PADDED_FIRST = mask([0, 0, 1], [1, 1, 1]), mask([1, 0, 0], [0, 0, 0])
NO_TOKENS = TOKENS[:, :0]


def encode(*args, **options):
    return EncoderBlock(8, 2, 16, **options)(*args)


def decode(*args):
    return DecoderBlock(8, 2, 16)(*args)


def language(max_length=None):
    return LanguageModel(5, 8, 2, 1, max_length)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "multiple of num_heads, got 8 and 3", lambda: EncoderBlock(8, 3)),
        (ValueError, "EncoderBlock: expected nhead of at least 1, got 0", lambda: EncoderBlock(8, 0)),
        (TypeError, "DecoderBlock: expected dim_feedforward as an int", lambda: DecoderBlock(8, 2, 16.0)),
        (ValueError, "EncoderBlock: expected dropout as a probability", lambda: encode(X, dropout=2.0)),
        (ValueError, "expected activation 'relu' or 'gelu', got 'tanh'", lambda: encode(X, activation="tanh")),
        (ValueError, "TransformerEncoder: expected num_layers of at least 1", lambda: TransformerEncoder(0, 8, 2)),
        (ValueError, r"EncoderBlock: expected src \(N, L, E\) with E=8, got \(2, 3, 7\)", lambda: encode(X[..., :7])),
        (ValueError, r"src \(N, L, E\) with E=8, got \(3, 8\)", lambda: encode(X[0], norm_first=True)),
        (ValueError, "EncoderBlock: expected src of torch.float32", lambda: encode(X.double())),
        (ValueError, r"expected key \(N, S, E\) with E=8, got \(2, 3, 5\)", lambda: decode(X, X[..., :5])),
        (ValueError, "query and key of one batch, got N=2 and N=1", lambda: decode(X, X[:1])),
        (ValueError, NO_KEY, lambda: encode(X, None, mask([0, 0, 1], [1, 1, 1]))),
        (ValueError, NO_KEY, lambda: decode(X, X, None, None, None, mask([0, 0, 1], [1, 1, 1]))),
        (ValueError, "padding belongs at the end", lambda: decode(X, X, None, None, mask([1, 0, 0], [0, 0, 0]))),
        (ValueError, r"key_padding_mask \(N, S\) = \(2, 3\)", lambda: encode(X, None, mask([0, 0]))),
        (TypeError, "key_padding_mask as a boolean", lambda: encode(X, None, torch.zeros(2, 3))),
        (ValueError, "at least one key, got length 0", lambda: encode(X[:, :0])),
        (ValueError, "SinusoidalPositions: expected an even d_model.*got 7", lambda: SinusoidalPositions(7)),
        (ValueError, r"expected x \(N, L, E\) with E=8, got", lambda: SinusoidalPositions(8)(X[..., :6])),
        (ValueError, "below max_length=2, got 0 to 2; make it with a greater", lambda: LearnedPositions(2, 8)(X)),
        (ValueError, "below max_length=9, got 7 to 9", lambda: LearnedPositions(9, 8)(X, start=7)),
        (ValueError, "below max_length=2, got 0 to 2", lambda: language(2)(TOKENS)),
        (TypeError, r"tokens \(N, L\) as a tensor of integers, got a tensor of torch.float32", lambda: language()(X)),
        (TypeError, r"tokens \(N, L\) as a tensor of integers, got list", lambda: language()([[1, 2]])),
        (ValueError, r"tokens \(N, L\).*got \(3,\); use tokens.unsqueeze", lambda: language()(TOKENS[0])),
        (ValueError, "tokens from 0 to 4, got 5 to 5; make num_tokens", lambda: language()(TOKENS + 5)),
        (ValueError, r"LanguageModel: expected tokens \(N\) of one step", lambda: language().step(TOKENS, None)),
        (
            ValueError,
            r"LanguageModel: expected prompt .* one token, got \(2, 0\)",
            lambda: language().begin(NO_TOKENS),
        ),
        (TypeError, r"LanguageModel: expected prompt \(N, L\) as a tensor", lambda: language().begin([[1], [2, 3]])),
        (ValueError, r"LanguageModel: .*every sequence.*\[1\]", lambda: language().begin(TOKENS, PROMPT_OF_NONE)),
        (
            ValueError,
            "LanguageModel: .*padding at the end",
            lambda: language().start(TOKENS, PADDED_FIRST),
        ),
        (ValueError, "tokens from 0 to 4, got 5 to 5", lambda: language().step(*language().begin(TOKENS[:, :1] + 5))),
        (ValueError, "below max_length=3, got 3 to 3", lambda: greedy_search(language(3), TOKENS, 5, bos=None, eos=-1)),
    ],
)
def test_refused(error, match, call):
    with pytest.raises(error, match=match):
        call()


def test_a_state_of_another_batch_is_refused():
    model = Transformer(7, 9, E, HEADS, 1)
    with pytest.raises(ValueError, match="query and key of one batch"):
        model.step(torch.tensor([1]), model.start(TOKENS))


# It learns, and the examples run.


def test_it_learns_to_reverse():
    """Five symbols backwards: chance is 1/8."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Transformer(8, 9, 32, 4, 1, dropout=0.0, dim_feedforward=64, norm_first=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def batch(n):
        source, target = (each.T for each in reversing(n, length=5, generator=generator))
        return source, torch.cat([torch.full((n, 1), 8), target], 1)  # 8 begins

    for _ in range(200):
        source, target = batch(64)
        loss = nn.functional.cross_entropy(model(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source, target = batch(200)
    answers = greedy_search(model.eval(), source, 5, bos=8, eos=8)
    right = sum(answer.tokens.tolist() == wanted[1:].tolist() for answer, wanted in zip(answers, target, strict=True))
    assert right >= 190


@pytest.mark.parametrize("module", ["positions", "blocks", "stacks", "models"])
def test_examples_in_docstrings(module):
    torch.manual_seed(0)
    results = doctest.testmod(importlib.import_module(f"seqlab.transformer.{module}"))
    assert results.failed == 0
    assert results.attempted > 0
