"""Attention: the published formulas in plain Python, masks, windows, gradients, what is refused, and what it costs."""

from __future__ import annotations

import copy
import doctest
import importlib
import math
import pickle
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from seqlab.attention import (
    AdditiveAttention,
    LuongAttention,
    MultiheadAttention,
    ScaledDotProductAttention,
    additive_score,
    causal_mask,
)

EXACT = {"rtol": 0.0, "atol": 1e-12}
E = 4
KINDS = {
    "additive": lambda: AdditiveAttention(E, E, 5, dtype=torch.float64),
    "normed": lambda: AdditiveAttention(E, E, 5, normed=True, dtype=torch.float64),
    **{
        f"{score}-{window}": lambda score=score, window=window: LuongAttention(
            E, score=score, window=window, half_width=2, dtype=torch.float64
        )
        for score in ("dot", "general", "concat")
        for window in (None, "local-m", "local-p")
    },
    "scaled": ScaledDotProductAttention,
    "multihead": lambda: MultiheadAttention(E, 2, batch_first=True, dtype=torch.float64),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_global = pytest.mark.parametrize("kind", [k for k in KINDS if "local" not in k])


def make(kind):
    torch.manual_seed(0)
    attention = KINDS[kind]()
    with torch.no_grad():  # far from the initial values, so that no term hides
        for parameter in attention.parameters():
            parameter.normal_()
    return attention


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64)


def after(lengths, S):
    """The mask of sequences of the given lengths, padded at the end."""
    return torch.arange(S) >= torch.tensor(lengths).unsqueeze(1)


# The formulas, one query and one key at a time, in plain Python.


def matvec(W, x):
    return [sum(w * x_i for w, x_i in zip(row, x, strict=True)) for row in W.tolist()]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def tanh_sum(v, *terms):
    return dot(v, [math.tanh(sum(parts)) for parts in zip(*terms, strict=True)])


def score_by_hand(attention, kind, query, key):
    if kind in ("additive", "normed"):
        v = attention.weight_score.tolist()
        bias = [0.0] * len(v)
        if kind == "normed":
            v = [attention.gain.item() * x / math.sqrt(dot(v, v)) for x in v]
            bias = attention.bias.tolist()
        return tanh_sum(v, matvec(attention.weight_query, query), matvec(attention.weight_key, key), bias)
    if kind.startswith("dot"):
        return dot(query, key)
    if kind.startswith("general"):
        return dot(query, matvec(attention.weight_key, key))
    W = torch.cat([attention.weight_query, attention.weight_key], dim=1)  # W [query; key], as in the paper
    return tanh_sum(attention.weight_score.tolist(), matvec(W, [*query, *key]))


def attend_by_hand(attention, kind, query, keys, values, t, start=0):
    """One query: (context, weights); the keys hold no padding."""
    S, window = len(keys), getattr(attention, "window", None)
    near, p = range(S), 0.0
    if window == "local-m":
        p = min(start + t, S - 1)
    if window == "local-p":
        a = tanh_sum(attention.weight_position_score.tolist(), matvec(attention.weight_position, query))
        p = S / (1 + math.exp(-a))
    if window:
        near = [s for s in range(S) if abs(s - p) <= attention.half_width]
    raised = {s: math.exp(score_by_hand(attention, kind, query, keys[s])) for s in near}
    weights = [raised.get(s, 0.0) / sum(raised.values()) for s in range(S)]
    if window == "local-p":
        sigma = attention.half_width / 2
        weights = [w * math.exp(-((s - p) ** 2) / (2 * sigma**2)) for s, w in enumerate(weights)]
    return [dot(weights, column) for column in zip(*values, strict=True)], weights


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("scaled", "multihead")])
def test_attention_is_its_formula(kind):
    attention = make(kind)
    N, L, S, V = 2, 9, 7, 3
    lengths = [7, 5]
    query, key, value = randn(N, L, E), randn(N, S, E), randn(N, S, V)
    options = {"start": 1} if getattr(attention, "window", None) == "local-m" else {}
    context, weights = attention(query, key, value, after(lengths, S), **options)
    for n, length in enumerate(lengths):
        keys, values = key[n, :length].tolist(), value[n, :length].tolist()
        for t in range(L):
            wanted = attend_by_hand(attention, kind, query[n, t].tolist(), keys, values, t, **options)
            assert_close(context[n, t], torch.tensor(wanted[0], dtype=torch.float64), **EXACT)
            assert_close(weights[n, t, :length], torch.tensor(wanted[1], dtype=torch.float64), **EXACT)
            assert (weights[n, t, length:] == 0).all()


def test_the_river_bank_example():
    weights = torch.softmax(torch.tensor([2.1, 0.2, 0.1]), dim=0)
    assert [f"{w:.2f}" for w in weights.tolist()] == ["0.78", "0.12", "0.11"]
    scores = torch.tensor([[[2.1], [0.2], [0.1]]])
    assert_close(LuongAttention(1, score="dot")(torch.ones(1, 1, 1), scores)[1].flatten(), weights)


def test_normed_starts_with_a_score_of_length_one_over_root_h():
    attention = AdditiveAttention(3, 4, 16, normed=True)
    assert attention.gain.item() == 0.25
    assert (attention.bias == 0).all()


# Masks and order: the same for every kind.


@every_kind
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_padding_never_changes_the_result(kind, data):
    attention = make(kind)
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    L, extra = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 3))
    S = max(lengths) + extra
    query, key, value = randn(len(lengths), L, E), randn(len(lengths), S, E), randn(len(lengths), S, E)
    mask = after(lengths, S)
    key[mask] *= 1e6
    value[mask] *= 1e6
    context, weights = attention(query, key, value, mask)
    assert (weights[mask.unsqueeze(1).expand_as(weights)] == 0).all()
    for n, length in enumerate(lengths):
        alone = attention(query[n : n + 1], key[n : n + 1, :length], value[n : n + 1, :length])
        assert_close(context[n : n + 1], alone[0], **EXACT)
        assert_close(weights[n : n + 1, :, :length], alone[1], **EXACT)


@every_global
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_keys_in_another_order_give_the_same_context(kind, data):
    attention = make(kind)
    S = data.draw(st.integers(1, 6))
    order = torch.tensor(data.draw(st.permutations(range(S))))
    query, key, value = randn(2, 3, E), randn(2, S, E), randn(2, S, E)
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=2 * S, max_size=2 * S))).view(2, S)
    mask[:, data.draw(st.integers(0, S - 1))] = False
    context, weights = attention(query, key, value, mask)
    permuted = attention(query, key[:, order], value[:, order], mask[:, order])
    assert_close(permuted, (context, weights[:, :, order]), **EXACT)


@every_kind
def test_keys_projected_once_give_the_same_result(kind):
    attention = make(kind)
    query, key, value, mask = randn(2, 3, E), randn(2, 6, E), randn(2, 6, E), after([6, 4], 6)
    projected = attention.project_keys(key, value, mask)
    whole = attention(query, key, value, mask)
    assert_close(attention(query, projected), whole, **EXACT)
    for t in range(3):
        position = {"start": t} if getattr(attention, "window", None) == "local-m" else {}
        step = attention(query[:, t : t + 1], projected, **position)
        assert_close(step, tuple(out[:, t : t + 1] for out in whole), **EXACT)


@every_kind
def test_without_weights_the_context_is_the_same(kind):
    attention, query, key = make(kind), randn(2, 3, E), randn(2, 6, E)
    context, weights = attention(query, key, key_padding_mask=after([6, 2], 6), need_weights=False)
    assert weights is None
    assert_close(context, attention(query, key, key, after([6, 2], 6))[0], **EXACT)


@every_kind
def test_nothing_is_stored(kind):
    attention = make(kind)
    before = set(vars(attention))
    attention(randn(2, 3, E), randn(2, 6, E))
    assert set(vars(attention)) == before


def test_causal_mask_forbids_what_comes_later():
    x = randn(1, 5, E).requires_grad_()
    _, weights = ScaledDotProductAttention()(x, x, is_causal=True)
    assert_close(weights == 0, causal_mask(5).unsqueeze(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_local_positions_are_right_in_half_precision(dtype):
    attention = LuongAttention(2, score="dot", window="local-m", half_width=1, dtype=dtype)
    _, weights = attention(torch.zeros(1, 1, 2, dtype=dtype), torch.zeros(1, 3001, 2, dtype=dtype), start=2999)
    assert weights.flatten().nonzero().flatten().tolist() == [2998, 2999, 3000]


# Gradients.


@every_kind
def test_gradients(kind, lean):
    attention = make(kind)
    inputs = [
        x.requires_grad_() for x in (randn(2, 2, E), randn(2, 4, E), randn(2, 4, 3 if kind != "multihead" else E))
    ]
    mask = after([4, 3], 4)
    names = [name for name, _ in attention.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in attention.parameters()]

    def call(query, key, value, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(attention, state, (query, key, value, mask))

    assert torch.autograd.gradcheck(call, (*inputs, *values))
    assert torch.autograd.gradgradcheck(call, (*inputs, *values))


def plain_score(query, key, v):
    return torch.tanh(query.unsqueeze(2) + key.unsqueeze(1)) @ v


@pytest.fixture
def lean(monkeypatch):
    """The lean form at any size."""
    module = importlib.import_module("seqlab.attention.additive")
    monkeypatch.setattr(module, "KEEP", {"cpu": 0})
    return module


@pytest.mark.parametrize("block", [1, 45, 10**6])
def test_additive_score_and_its_gradients_are_those_of_the_plain_form(block, lean, monkeypatch):
    """In blocks of one query, of three with a shorter last one, and of all."""
    monkeypatch.setattr(lean, "BLOCK", block)
    inputs = [x.requires_grad_() for x in (randn(1, 7, 3), randn(1, 5, 3), randn(3))]
    got, wanted = additive_score(*inputs), plain_score(*inputs)
    assert_close(got, wanted, **EXACT)
    grad = torch.randn_like(got)
    assert_close(torch.autograd.grad(got, inputs, grad), torch.autograd.grad(wanted, inputs, grad), **EXACT)
    assert torch.autograd.gradcheck(additive_score, inputs)
    assert torch.autograd.gradgradcheck(additive_score, inputs)


@pytest.mark.parametrize("at_once", [1, 2, 4, 7, 100])
def test_any_number_of_queries_at_once_gives_the_same(at_once, lean, monkeypatch):
    """As a GPU takes them: half of them, or what its memory allows."""
    monkeypatch.setattr(lean, "_queries_at_once", lambda L, key: at_once)
    inputs = [x.requires_grad_() for x in (randn(2, 7, 3), randn(2, 5, 3), randn(3))]
    assert_close(additive_score(*inputs), plain_score(*inputs), **EXACT)
    assert torch.autograd.gradcheck(additive_score, inputs)
    assert torch.autograd.gradgradcheck(additive_score, inputs)


def test_how_many_queries_a_device_takes_at_once(lean, monkeypatch):
    key, memory = torch.zeros(2, 5, 8), SimpleNamespace(total_memory=8 * 4 * 80 * 3)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    monkeypatch.setattr(lean, "BLOCK", 240)
    on_gpu = SimpleNamespace(device=torch.device("cuda"), numel=key.numel, element_size=key.element_size)
    assert [lean._queries_at_once(L, key) for L in (1, 7, 9)] == [3, 3, 3]
    assert [lean._queries_at_once(L, on_gpu) for L in (1, 2, 4, 5, 9)] == [1, 1, 2, 3, 3]  # three fill an eighth
    assert lean._queries_at_once(9, key.to("meta")) == 5


def test_additive_score_of_a_sequence_with_itself_has_the_right_second_derivative(lean):
    """Query and key share an ancestor: neither's gradient may run through the other."""
    x, v = randn(1, 3, 2).requires_grad_(), randn(2)

    def second(score):
        (first,) = torch.autograd.grad(score(2 * x, x, v).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    assert_close(second(additive_score), second(plain_score), rtol=1e-12, atol=1e-12)


def test_additive_score_may_be_differentiated_twice_from_one_graph(lean):
    inputs = [x.requires_grad_() for x in (randn(2, 3, 4), randn(2, 5, 4), randn(4))]
    scores = additive_score(*inputs)
    once = torch.autograd.grad(scores.sum(), inputs, retain_graph=True)
    assert_close(torch.autograd.grad(scores.sum(), inputs), once, **EXACT)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, in its rules for jvp
@every_kind
def test_torch_func_and_forward_mode(kind):
    attention, key, mask = make(kind), randn(2, 6, E), after([6, 4], 6)
    query = randn(2, 3, E)
    tangent = randn(2, 3, E)

    def total(query):
        return attention(query, key, key_padding_mask=mask, need_weights=False)[0].square().sum()

    leaf = query.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(total(leaf), leaf)
    assert_close(torch.func.grad(total)(query), wanted, **EXACT)
    _, along = torch.func.jvp(total, (query,), (tangent,))
    assert_close(along, (wanted * tangent).sum(), rtol=0.0, atol=1e-10)
    many = torch.stack([query, 2 * query])
    assert_close(torch.func.vmap(total)(many), torch.stack([total(q) for q in many]), rtol=1e-12, atol=1e-12)


@every_kind
def test_copies_pickles_export_and_autocast(kind, lean):
    attention, query, key, mask = make(kind).eval(), randn(2, 3, E), randn(2, 6, E), after([6, 4], 6)
    wanted = attention(query, key, None, mask)
    for twin in (copy.deepcopy(attention), pickle.loads(pickle.dumps(attention))):
        assert_close(twin(query, key, None, mask), wanted, **EXACT)
    exported = torch.export.export(attention, (query, key, None, mask)).module()
    assert_close(exported(query, key, None, mask), wanted, **EXACT)
    attention = attention.float()
    query, key = query.float().requires_grad_(), key.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        context, _ = attention(query, key, None, mask)
    context.float().sum().backward()
    assert query.grad.dtype == torch.float32
    assert_close(context.double(), wanted[0], rtol=0.1, atol=0.2)


# What is refused, and what the message says.


@every_kind
def test_a_sequence_with_every_key_masked_is_refused(kind):
    attention, mask = make(kind), after([3, 0, 2, 0], 5)
    with pytest.raises(ValueError, match=rf"{type(attention).__name__}.*at least one key.*sequence\(s\) \[1, 3\]"):
        attention(randn(4, 2, E), randn(4, 5, E), None, mask)


@every_kind
def test_wrong_masks_and_sources_are_refused(kind):
    attention, query, key = make(kind), randn(2, 3, E), randn(2, 5, E)
    with pytest.raises(TypeError, match=r"key_padding_mask as a boolean Tensor.*float64"):
        attention(query, key, None, randn(2, 5))
    with pytest.raises(ValueError, match=r"key_padding_mask \(N, S\) = \(2, 5\).*got \(2, 3\)"):
        attention(query, key, None, torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"one value for each key.*got value \(2, 4"):
        attention(query, key, key[:, :4])
    with pytest.raises(ValueError, match="at least one key, got length 0"):
        attention(query, key[:, :0])
    with pytest.raises(ValueError, match="of one batch, got N=2 and N=1"):
        attention(query, key[:1])
    with pytest.raises(ValueError, match="beside projected keys"):
        attention(query, attention.project_keys(key), key)
    with pytest.raises(TypeError, match="query as a Tensor, got list"):
        attention([1.0], key)
    with pytest.raises(ValueError, match=r"query \(N, L, E\) with E=4, got \(2, 3, 7\)"):
        attention(randn(2, 3, 7), key)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "multihead"])
def test_a_query_without_its_axis_of_length_is_told_how(kind):
    with pytest.raises(ValueError, match=r"got \(2, 4\); use query.unsqueeze\(1\)"):
        make(kind)(randn(2, E), randn(2, 5, E))


@pytest.mark.parametrize("kind", ["additive", "general-None", "multihead"])
def test_another_dtype_than_the_weights_is_refused(kind):
    with pytest.raises(ValueError, match=r"query of torch.float64, as the weights, got torch.float32"):
        make(kind)(torch.zeros(2, 3, E), randn(2, 5, E))


@pytest.mark.parametrize("kind", ["scaled", "multihead"])
def test_wrong_attention_masks_are_refused(kind):
    attention, x = make(kind), randn(2, 5, E)
    with pytest.raises(ValueError, match=r"attn_mask of shape \(5, 5\) or \(\d, 5, 5\), got \(5, 4\)"):
        attention(x, x, attn_mask=torch.zeros(5, 4, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"attn_mask boolean.*int64"):
        attention(x, x, attn_mask=torch.zeros(5, 5, dtype=torch.long))
    with pytest.raises(ValueError, match=r"as many queries as keys for is_causal=True, got L=2, S=5"):
        attention(x[:, :2], x, is_causal=True)
    for mask in (torch.ones(5, 5, dtype=torch.bool), torch.full((5, 5), -math.inf, dtype=torch.float64)):
        with pytest.raises(ValueError, match="leave some query none"):
            attention(x, x, attn_mask=mask)
    for need_weights in (True, False):
        with pytest.raises(ValueError, match="padding belongs at the end"):
            attention(x, x, None, after([2, 3], 5).flip(1), is_causal=True, need_weights=need_weights)


@pytest.mark.parametrize("window", ["local-m", "local-p"])
def test_windows_want_the_padding_at_the_end(window):
    attention = LuongAttention(E, window=window, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"LuongAttention: .*padding at the end.*or use window=None"):
        attention(randn(2, 3, E), randn(2, 5, E), None, after([3, 4], 5).flip(1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: AdditiveAttention(0, 2, 3), ValueError, "query_size of at least 1, got 0"),
        (lambda: AdditiveAttention(1, 2, 3.0), TypeError, "hidden_size as an int, got 3.0"),
        (lambda: LuongAttention(3, score="cosine"), ValueError, "score 'dot', 'general' or 'concat', got 'cosine'"),
        (lambda: LuongAttention(3, window="local"), ValueError, "window None, 'local-m' or 'local-p', got 'local'"),
        (lambda: LuongAttention(3, 4, score="dot"), ValueError, "got 3 and 4; use score='general'"),
        (lambda: LuongAttention(3, half_width=0), ValueError, "half_width of at least 1, got 0"),
        (lambda: ScaledDotProductAttention(dropout=2), ValueError, "dropout as a probability"),
        (lambda: MultiheadAttention(5, 2), ValueError, "embed_dim as a multiple of num_heads, got 5 and 2"),
        (
            lambda: MultiheadAttention(8, 2, 0.0, True, True),
            ValueError,
            "add_bias_kv=False, got True; keys that no source",
        ),
        (lambda: MultiheadAttention(8, 2, add_zero_attn=True), ValueError, "expected add_zero_attn=False, got True"),
        (lambda: MultiheadAttention(8, 2, 0.0, True, 3), ValueError, "expected add_bias_kv=False, got 3"),
        (lambda: additive_score(randn(2, 3, 4), randn(2, 3, 5), randn(4)), ValueError, r"got \(2, 3, 4\), \(2, 3, 5\)"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Cost.


@pytest.mark.parametrize("score", ["general", "concat", "dot"])
def test_the_cost_of_a_window_falls_with_it_and_not_with_the_source(score):
    def operations(half_width, S):
        attention = LuongAttention(8, score=score, window="local-m", half_width=half_width)
        projected, query = attention.project_keys(torch.randn(1, S, 8)), torch.randn(1, 16, 8)
        with FlopCounterMode(display=False) as counter:
            attention(query, projected, need_weights=False)
        return counter.get_total_flops()

    assert operations(4, 100) == operations(4, 1000)
    assert operations(4, 1000) < operations(40, 1000) / 3


def numbers_kept(N, L, S, H):
    """The size of the largest tensor that autograd keeps of a call."""
    kept = []
    attention = AdditiveAttention(8, 8, H)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        attention(torch.randn(N, L, 8), torch.randn(N, S, 8))
    return max(kept)


def test_additive_attention_keeps_no_tensor_of_many_pairs_for_the_backward_pass():
    assert numbers_kept(N=2, L=200, S=210, H=64) == 2 * 200 * 210  # the weights; the sums are 64 times as many
    assert numbers_kept(N=2, L=20, S=30, H=64) == 2 * 20 * 30 * 64  # where keeping is faster


@pytest.mark.parametrize("kind", ["additive", "concat-local-p", "scaled", "multihead"])
def test_compiled_as_one_graph(kind):
    attention, query, key, mask = make(kind), randn(2, 3, E), randn(2, 6, E), after([6, 4], 6)
    compiled = torch.compile(attention, backend="eager", fullgraph=True)
    assert_close(compiled(query, key, None, mask), attention(query, key, None, mask), **EXACT)


@pytest.mark.parametrize("module", ["common", "additive", "luong", "scaled"])
def test_examples_in_docstrings(module):
    results = doctest.testmod(importlib.import_module(f"seqlab.attention.{module}"))
    assert results.failed == 0
    assert results.attempted > 0
