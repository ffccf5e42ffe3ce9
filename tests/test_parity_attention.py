"""Attention against torch's own and against ONNX's reference evaluator: values, weights and gradients."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.testing import assert_close

from seqlab.attention import MultiheadAttention, ProjectedKeys, ScaledDotProductAttention, causal_mask
from seqlab.transformer import DecoderBlock, EncoderBlock, TransformerDecoder, TransformerEncoder

EXACT = {"rtol": 0.0, "atol": 1e-12}
GRADIENTS = {"rtol": 0.0, "atol": 1e-10}
N, L, S, E = 2, 4, 6, 8


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def padding():
    mask = torch.zeros(N, S, dtype=torch.bool)
    mask[0, 4:] = True
    return mask


def assert_same(ours, theirs, leaves_of_ours, leaves_of_theirs):
    """Outputs and gradients agree; a pair is (context, weights)."""
    assert_close(ours, theirs, **EXACT)
    factors = [torch.randn_like(out) for out in ours if out is not None]
    grads = [
        torch.autograd.grad([out for out in outs if out is not None], leaves, factors, allow_unused=True)
        for outs, leaves in ((ours, leaves_of_ours), (theirs, leaves_of_theirs))
    ]
    assert_close(*grads, **GRADIENTS)


CONSTRUCTIONS = [
    pytest.param({}, id="plain"),
    pytest.param({"bias": False}, id="no-bias"),
    pytest.param({"kdim": 3, "vdim": 5}, id="kdim-vdim"),
    pytest.param({"batch_first": True}, id="batch-first"),
]


@pytest.mark.parametrize("options", CONSTRUCTIONS)
@pytest.mark.parametrize("masked", ["", "padding", "bool", "float", "per-head", "padding+bool"])
@pytest.mark.parametrize("weights", ["none", "mean", "heads"])
def test_multihead_matches_torch_forward_and_backward(options, masked, weights):
    torch.manual_seed(0)
    ours = MultiheadAttention(E, 2, **options, dtype=torch.float64)
    theirs = nn.MultiheadAttention(E, 2, **options, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    query, key, value = randn(N, L, E), randn(N, S, options.get("kdim", E)), randn(N, S, options.get("vdim", E))
    inputs = [x if options.get("batch_first") else x.transpose(0, 1) for x in (query, key, value)]
    forbidden = torch.rand(N * 2 if masked == "per-head" else 1, L, S) < 0.4
    forbidden[:, :, 0] = False
    call = {"need_weights": weights != "none", "average_attn_weights": weights != "heads"}
    if "padding" in masked:
        call["key_padding_mask"] = padding()
    if "bool" in masked:
        call["attn_mask"] = forbidden[0]
    if masked == "per-head":
        call["attn_mask"] = forbidden
    if masked == "float":
        call["attn_mask"] = torch.randn(L, S, dtype=torch.float64)
    leaves = [query, key, value]
    mine, torchs = ([*leaves, *module.parameters()] for module in (ours, theirs))
    assert_same(ours(*inputs, **call), theirs(*inputs, **call), mine, torchs)


def test_arguments_in_torchs_order_mean_the_same():
    """Every argument by position, in the constructors and in the calls, against torch's own signatures."""
    for ours, theirs in (
        (MultiheadAttention.__init__, nn.MultiheadAttention.__init__),
        (MultiheadAttention.forward, nn.MultiheadAttention.forward),
        (EncoderBlock.forward, nn.TransformerEncoderLayer.forward),
        (TransformerEncoder.forward, nn.TransformerEncoder.forward),
        (DecoderBlock.forward, nn.TransformerDecoderLayer.forward),
        (TransformerDecoder.forward, nn.TransformerDecoder.forward),
    ):
        mine, its = (
            [name for name, p in inspect.signature(call).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
            for call in (ours, theirs)
        )
        assert mine == its[: len(mine)]
        assert set(its) - set(mine) <= {"memory_is_causal"}
    for ours, theirs in ((EncoderBlock, nn.TransformerEncoderLayer), (DecoderBlock, nn.TransformerDecoderLayer)):
        mine, its = (list(inspect.signature(kind).parameters) for kind in (ours, theirs))
        assert mine[:5] == its[:5]
        with pytest.raises(TypeError, match="positional"):  # what torch has sixth
            ours(E, 2, 16, 0.0, "relu", 1e-5)
    arguments = (E, 2, 0.0, True, False, False, 3, 5, True, "cpu", torch.float64)
    ours, theirs = MultiheadAttention(*arguments), nn.MultiheadAttention(*arguments)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = randn(N, L, E), randn(N, S, 3), randn(N, S, 5)
    call = (query, key, value, padding(), True, None, False)
    assert_close(ours(*call), theirs(*call), **EXACT)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("padded", [False, True])
def test_multihead_makes_the_causal_mask_itself(need_weights, padded):
    torch.manual_seed(0)
    ours, theirs = (kind(E, 2, dtype=torch.float64) for kind in (MultiheadAttention, nn.MultiheadAttention))
    theirs.load_state_dict(ours.state_dict())
    x = randn(S, N, E)
    call = {"need_weights": need_weights, "key_padding_mask": padding() if padded else None}
    got = ours(x, x, is_causal=True, **call)
    assert_same(got, theirs(x, x, x, attn_mask=causal_mask(S), **call), [x], [x])
    assert_close(ours(x, x, is_causal=True, attn_mask=causal_mask(S), **call), got, **EXACT)


def test_multihead_unbatched_matches_torch():
    ours, theirs = (kind(E, 2, dtype=torch.float64) for kind in (MultiheadAttention, nn.MultiheadAttention))
    theirs.load_state_dict(ours.state_dict())
    query, key, mask = randn(L, E), randn(S, E), padding()[0]
    assert_same(ours(query, key, key_padding_mask=mask), theirs(query, key, key, mask), [query, key], [query, key])


def test_multihead_starts_from_torchs_weights_and_survives_copying():
    states = []
    for kind in (MultiheadAttention, nn.MultiheadAttention):
        torch.manual_seed(0)
        states.append(kind(E, 2, kdim=3).state_dict())
    assert_close(*states)
    module, x = MultiheadAttention(E, 2), torch.randn(S, N, E)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert_close(twin(x, x), module(x, x))


def test_multihead_stands_in_torchs_encoder_layer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(E, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
    x = randn(N, S, E)
    wanted = layer(x, src_mask=causal_mask(S), is_causal=True)
    ours = MultiheadAttention(E, 2, batch_first=True, dtype=torch.float64)
    ours.load_state_dict(layer.self_attn.state_dict())
    layer.self_attn = ours
    assert_close(layer(x, src_mask=causal_mask(S), is_causal=True), wanted, **EXACT)
    with pytest.raises(TypeError, match="key_padding_mask as a boolean"):  # the layer makes the mask floating
        layer(x, src_key_padding_mask=padding())


def test_projected_keys_grow_into_a_cache():
    """Step by step with keys appended to the cache: the same as all at once with the causal mask."""
    attention, x = MultiheadAttention(E, 2, batch_first=True, dtype=torch.float64), randn(N, S, E)
    whole, _ = attention(x, x, is_causal=True)
    cache = attention.project_keys(x[:, :1])
    for t in range(S):
        if t:
            new = attention.project_keys(x[:, t : t + 1])
            cache = ProjectedKeys(torch.cat([cache.key, new.key], 2), torch.cat([cache.value, new.value], 2))
        assert_close(attention(x[:, t : t + 1], cache)[0], whole[:, t : t + 1], **EXACT)


def test_dropout_is_torchs_during_training_and_absent_in_eval():
    x = torch.randn(S, N, E)
    ours, theirs = (kind(E, 2, dropout=0.5) for kind in (MultiheadAttention, nn.MultiheadAttention))
    theirs.load_state_dict(ours.state_dict())
    torch.manual_seed(1)
    got = ours(x, x, x)
    torch.manual_seed(1)
    assert_close(got, theirs(x, x, x))
    assert_close(ours.eval()(x, x, x), theirs.eval()(x, x, x))
    single = ScaledDotProductAttention(dropout=0.5)
    assert (single(x, x)[1] == 0).any()
    assert (single.eval()(x, x)[1] > 0).all()


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masked", ["", "padding", "causal", "bool", "float"])
def test_scaled_dot_product_matches_torch(need_weights, masked):
    torch.manual_seed(0)
    length = S if masked == "causal" else L
    query, key, value = randn(N, length, E), randn(N, S, E), randn(N, S, 3)
    allowed = torch.ones(N, length, S, dtype=torch.bool)
    call = {}
    if masked == "padding":
        call["key_padding_mask"] = padding()
        allowed &= ~padding().unsqueeze(1)
    elif masked == "causal":
        call["is_causal"] = True
        allowed = allowed.tril()
    elif masked == "bool":
        forbidden = torch.rand(N, length, S) < 0.4
        forbidden[:, :, 1] = False
        call["attn_mask"], allowed = forbidden, ~forbidden
    elif masked == "float":
        call["attn_mask"] = allowed = torch.randn(length, S, dtype=torch.float64)
    context, weights = ScaledDotProductAttention()(query, key, value, need_weights=need_weights, **call)
    wanted = F.scaled_dot_product_attention(query, key, value, allowed)
    assert_same((context,), (wanted,), [query, key, value], [query, key, value])
    assert (weights is not None) == need_weights


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_scaled_dot_product_matches_the_onnx_reference(causal, need_weights):
    shapes = {"Q": (N, S, E), "K": (N, S, E), "V": (N, S, E)}
    inputs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape) for name, shape in shapes.items()]
    node = helper.make_node("Attention", list(shapes), ["Y"], q_num_heads=1, kv_num_heads=1, is_causal=int(causal))
    output = helper.make_tensor_value_info("Y", TensorProto.DOUBLE, None)
    graph = helper.make_graph([node], "attention", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    torch.manual_seed(0)
    tensors = [torch.randn(shape, dtype=torch.float64) for shape in shapes.values()]
    (wanted,) = ReferenceEvaluator(model).run(None, {k: t.numpy() for k, t in zip(shapes, tensors, strict=True)})
    context, _ = ScaledDotProductAttention()(*tensors, is_causal=causal, need_weights=need_weights)
    assert_close(context, torch.from_numpy(wanted), **EXACT)
