"""The layers and attention against Keras on its NumPy backend, which runs no code of torch.

Keras is batch-first, has its weights transposed and one bias per gate (two in the GRU with reset_after=True), and the
GRU's gates as z, r, n; like ONNX it has the GRU with its reset gate in both places. A mask is True where a step or key
counts. The backend has no gradients: they are checked along one direction by central differences of Keras's outputs.
"""

from __future__ import annotations

import math
import os
import sys
from importlib.util import find_spec
from unittest import mock

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close

import seqlab
from seqlab.attention import AdditiveAttention, LuongAttention, MultiheadAttention, ScaledDotProductAttention

EXACT = {"rtol": 0.0, "atol": 1e-12}
H_IN, H, L, S, N, E, V, HEADS = 3, 4, 6, 5, 3, 8, 2, 2
LENGTHS = [6, 2, 4]
CASES = {  # our layer, Keras's, the order of Keras's blocks
    "RNN": (seqlab.RNN, {}, "SimpleRNN", [0]),
    "LSTM": (seqlab.LSTM, {}, "LSTM", [0, 1, 2, 3]),
    "GRU-reset-after": (seqlab.GRU, {"reset_after": True}, "GRU", [1, 0, 2]),
    "GRU-reset-before": (seqlab.GRU, {"reset_after": False}, "GRU", [1, 0, 2]),
}
RUNS = [
    (case, path)
    for case in CASES
    for path in ("loop", "hand", "torch")
    if (case, path) != ("GRU-reset-before", "torch")  # torch has no such kernel
]
# The NumPy backend imports JAX and SciPy for convolutions, Fourier transforms and linear algebra, half a gigabyte that
# no recurrent layer and no attention calls. Stand-ins take their place during the import, and record any call.
UNUSED = ["jax", "scipy", "scipy.linalg", "keras.src.backend.jax", "keras.src.backend.jax.math"]


@pytest.fixture(scope="module")
def layers():
    """keras.layers; the environment is as before afterwards, and no configuration is read or written at home."""
    if find_spec("keras") is None:
        pytest.skip("Keras is not installed; requirements.txt names its version")
    stand_ins = {name: mock.MagicMock() for name in UNUSED}
    environment = mock.patch.dict(os.environ, {"KERAS_BACKEND": "numpy", "KERAS_HOME": os.devnull})
    with environment, pytest.MonkeyPatch.context() as patch:
        for name, stand_in in stand_ins.items():
            patch.setitem(sys.modules, name, stand_in)
        import keras
        from keras.src.backend.common import dtypes
    assert keras.backend.backend() == "numpy"
    # Whatever dtype a layer asks for, Keras turns float64 into float32 in nearly every operation, as JAX does by
    # default, except on TensorFlow. Its table of these conversions gets the entry that it has for TensorFlow.
    with mock.patch.dict(dtypes.BIT64_TO_BIT32_DTYPE, float64="float64"):
        yield keras.layers
    assert not [name for name, stand_in in stand_ins.items() if stand_in.mock_calls]


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def tensors(outputs):
    return [torch.from_numpy(np.array(output)) for output in outputs]


def keras_weights(case, parameters):
    """Kernel, recurrent kernel and bias of each direction, from ours in the order of ``layer.parameters()``."""
    order, after = CASES[case][3], case == "GRU-reset-after"
    arrays = [np.concatenate([np.split(p.numpy(), len(order))[gate] for gate in order]) for p in parameters]
    for W_ih, W_hh, b_ih, b_hh in zip(*[iter(arrays)] * 4, strict=True):
        yield from (W_ih.T, W_hh.T, np.stack([b_ih, b_hh]) if after else b_ih + b_hh)


def keras_recurrent(layers, case, bidirectional):
    """A function of input (L, N, H_in), states (D, N, H), parameters and mask: the outputs and final states."""
    _, options, name, _ = CASES[case]
    layer = getattr(layers, name)(H, return_sequences=True, return_state=True, dtype="float64", **options)
    if bidirectional:
        layer = layers.Bidirectional(layer, dtype="float64")
    layer.build((N, L, H_IN))

    def evaluate(x, states, parameters, mask=None):
        layer.set_weights(list(keras_weights(case, parameters)))
        initial = [state[d].numpy() for d in range(len(states[0])) for state in states]  # h, c forward; h, c backward
        y, *final = tensors(layer(x.transpose(0, 1).numpy(), initial_state=initial, mask=mask))
        return [y.transpose(0, 1), *(torch.stack(final[k :: len(states)]) for k in range(len(states)))]

    return evaluate


def our_recurrent(case, path, bidirectional):
    """Our layer, an input and initial states."""
    torch.manual_seed(0)
    ours, options, *_ = CASES[case]
    layer = ours(H_IN, H, bidirectional=bidirectional, dtype=torch.float64, backend=path, **options)
    return layer, randn(L, N, H_IN), [randn(2 if bidirectional else 1, N, H) for _ in layer.state_names]


def run(layer, x, states):
    output, final = layer(x, tuple(states) if len(states) == 2 else states[0])
    return [output, *(final if isinstance(final, tuple) else [final])]


def detached(values):
    return [value.detach() for value in values]


@pytest.mark.parametrize(("case", "path"), RUNS)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("padded", [False, True], ids=["equal", "lengths"])
def test_layer_matches_keras(layers, case, path, bidirectional, padded):
    layer, x, states = our_recurrent(case, path, bidirectional)
    assert layer.path(x)[0] == path
    real = torch.arange(L).unsqueeze(1) < torch.tensor(LENGTHS) if padded else torch.ones(L, N, dtype=torch.bool)
    theirs = keras_recurrent(layers, case, bidirectional)(
        x.detach(), detached(states), detached(layer.parameters()), real.T.numpy() if padded else None
    )
    input = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False) if padded else x
    output, *final = run(layer, input, states)
    output = pad_packed_sequence(output)[0] if padded else output
    # Where a step is padding, Keras repeats the last output, and a packed sequence has none.
    assert_close([output[real], *final], [theirs[0][real], *theirs[1:]], **EXACT)


def along_a_direction(ours, theirs, leaves):
    """Relative error of the gradient of our outputs, compared with central differences of theirs."""
    outputs = ours()
    factors = [torch.randn_like(output) for output in outputs]
    gradients = torch.autograd.grad(outputs, leaves, factors)

    def norm(values):
        return sum(value.square().sum() for value in values).sqrt()

    def loss(step):
        moved = [leaf.detach() + step * d for leaf, d in zip(leaves, direction, strict=True)]
        return sum((f * y).sum() for f, y in zip(factors, theirs(moved), strict=True))

    direction = [torch.randn_like(leaf) for leaf in leaves]
    direction = [d / norm(direction) for d in direction]
    along = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    return float((along - (loss(1e-5) - loss(-1e-5)) / 2e-5).abs() / norm(gradients))


@pytest.mark.parametrize(("case", "path"), RUNS)
def test_layer_gradient_matches_differences_of_keras(layers, case, path):
    layer, x, states = our_recurrent(case, path, bidirectional=True)
    evaluate = keras_recurrent(layers, case, bidirectional=True)
    first = 1 + len(states)
    error = along_a_direction(
        lambda: run(layer, x, states),
        lambda leaves: evaluate(leaves[0], leaves[1:first], leaves[first:]),
        [x, *states, *layer.parameters()],
    )
    assert error <= 1e-9


def dense(layers, x, weight, bias=None):
    """Keras's own projection."""
    layer = layers.Dense(len(weight), use_bias=bias is not None, dtype="float64")
    layer.build(x.shape)
    layer.set_weights([weight.T, *([] if bias is None else [bias])])
    return layer(x)


def keras_attend(layer, query, key, value, padding=None, causal=False, scale=None):
    """Context and weights of one of keras.layers' attentions; its mask is True where a key counts."""
    layer.build([query.shape, value.shape, key.shape])
    layer.set_weights([] if scale is None else [scale])
    mask = None if padding is None else [None, ~padding.numpy()]
    call = {"mask": mask, "return_attention_scores": True, "use_causal_mask": causal}
    return tensors(layer([query, value, key], **call))


def keras_additive(layers, form, leaves, padding=None):
    """v is Keras's scale; without one it is all ones."""
    query, key, value, weight_query, weight_key, v, *normed = (leaf.numpy() for leaf in leaves)
    gain, bias = normed or (None, None)
    layer = layers.AdditiveAttention(use_scale=form != "no scale", dtype="float64")
    scale = gain * v / np.linalg.norm(v) if form == "normed" else v
    query, key = dense(layers, query, weight_query, bias), dense(layers, key, weight_key)
    return keras_attend(layer, query, key, value, padding, scale=None if form == "no scale" else scale)


def our_additive(form):
    torch.manual_seed(0)
    attention = AdditiveAttention(E, H_IN, H, normed=form == "normed", dtype=torch.float64)
    with torch.no_grad():
        if form == "no scale":
            attention.weight_score.fill_(1)
        if form == "normed":
            attention.bias.normal_()
    return attention, [randn(N, L, E), randn(N, S, H_IN), randn(N, S, V)]


def key_padding(length):
    return torch.arange(length) >= torch.tensor([[length], [2], [4]])


@pytest.mark.parametrize("form", ["scale", "no scale", "normed"])
@pytest.mark.parametrize("padding", [None, key_padding(S)], ids=["all", "padding"])
def test_additive_attention_matches_keras(layers, form, padding):
    attention, inputs = our_additive(form)
    theirs = keras_additive(layers, form, detached([*inputs, *attention.parameters()]), padding)
    assert_close(list(attention(*inputs, padding)), theirs, **EXACT)


@pytest.mark.parametrize("form", ["scale", "normed"])
@pytest.mark.parametrize("keep", [None, 0], ids=["plain", "lean"])
def test_additive_gradient_matches_differences_of_keras(layers, form, keep, monkeypatch):
    if keep is not None:  # the score that keeps no large tanh, which is otherwise for larger inputs
        monkeypatch.setattr("seqlab.attention.additive.KEEP", {"cpu": keep})
    attention, inputs = our_additive(form)
    leaves = [*inputs, *attention.parameters()]
    error = along_a_direction(
        lambda: attention(*inputs, key_padding(S)),
        lambda leaves: keras_additive(layers, form, leaves, key_padding(S)),
        leaves,
    )
    assert error <= 1e-9


MASKS = pytest.mark.parametrize("masks", ["none", "padding", "causal", "padding+causal"])


@MASKS
def test_scaled_dot_product_attention_matches_keras(layers, masks):
    torch.manual_seed(0)
    padding, causal = key_padding(L) if "padding" in masks else None, "causal" in masks
    inputs = detached([randn(N, L, E), randn(N, L, E), randn(N, L, V)])
    theirs = layers.Attention(use_scale=True, dtype="float64")
    scale = np.array(1 / math.sqrt(E))
    wanted = keras_attend(theirs, *(x.numpy() for x in inputs), padding, causal, scale)
    ours = ScaledDotProductAttention()
    assert_close(list(ours(*inputs, padding, is_causal=causal)), wanted, **EXACT)
    assert_close(ours(*inputs, padding, is_causal=causal, need_weights=False)[0], wanted[0], **EXACT)


@pytest.mark.parametrize("score", ["dot", "general"])
@pytest.mark.parametrize("padding", [None, key_padding(S)], ids=["all", "padding"])
def test_luongs_attention_matches_keras(layers, score, padding):
    torch.manual_seed(0)
    attention = LuongAttention(E, score=score, dtype=torch.float64)
    inputs = detached([randn(N, L, E), randn(N, S, E), randn(N, S, V)])
    query, key, value = (x.numpy() for x in inputs)
    if score == "general":
        key = dense(layers, key, attention.weight_key.detach().numpy())
    wanted = keras_attend(layers.Attention(dtype="float64"), query, key, value, padding)
    assert_close(list(attention(*inputs, padding)), wanted, **EXACT)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@MASKS
def test_multihead_attention_matches_keras(layers, bias, masks):
    torch.manual_seed(0)
    padding, causal = key_padding(L) if "padding" in masks else None, "causal" in masks
    ours = MultiheadAttention(E, HEADS, bias=bias, batch_first=True, dtype=torch.float64)
    theirs = layers.MultiHeadAttention(HEADS, E // HEADS, use_bias=bias, dtype="float64")
    query, key, value = detached(randn(3, N, L, E))
    theirs.build(query.shape, value.shape, key.shape)
    split = (HEADS, E // HEADS)
    weights = [w.T.reshape(E, *split) for w in ours.in_proj_weight.detach().chunk(3)]
    weights += [ours.out_proj.weight.detach().T.reshape(*split, E)]
    if bias:
        with torch.no_grad():
            ours.in_proj_bias.normal_()
            ours.out_proj.bias.normal_()
        biases = [*(b.reshape(split) for b in ours.in_proj_bias.detach().chunk(3)), ours.out_proj.bias.detach()]
        weights = [w for pair in zip(weights, biases, strict=True) for w in pair]
    theirs.set_weights([w.numpy() for w in weights])
    # Keras is asked for its weights each time: without them its softmax is in float32, whatever the layer's dtype.
    wanted = theirs(
        *(x.numpy() for x in (query, value, key)),
        key_mask=None if padding is None else ~padding.numpy(),
        use_causal_mask=causal,
        return_attention_scores=True,
    )
    options = {"key_padding_mask": padding, "is_causal": causal}
    assert_close(list(ours(query, key, value, **options, average_attn_weights=False)), tensors(wanted), **EXACT)
    context, _ = ours(query, key, value, **options, need_weights=False)
    assert_close(context, *tensors(wanted[:1]), **EXACT)
