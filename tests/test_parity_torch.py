"""The layers against torch.nn: outputs to 1e-12, all gradients to 1e-10, on each of the paths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close

import seqlab

KINDS = {
    "RNN": (seqlab.RNN, nn.RNN, {}),
    "RNN-relu": (seqlab.RNN, nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (seqlab.LSTM, nn.LSTM, {}),
    "GRU": (seqlab.GRU, nn.GRU, {}),
}
H_IN, H, L, N = 3, 4, 6, 5
LENGTHS = {"sorted": [6, 5, 5, 2, 1], "unsorted": [2, 6, 1, 5, 5]}


def twins(kind, backend="loop", **options):
    """The same layer twice: torch's, and ours with its weights."""
    ours, theirs, extra = KINDS[kind]
    torch.manual_seed(0)
    reference = theirs(H_IN, H, dtype=torch.float64, **extra, **options)
    layer = ours(H_IN, H, dtype=torch.float64, backend=backend, **extra, **options)
    layer.load_state_dict(reference.state_dict())
    return layer, reference


def states(layer, batch, device="cpu"):
    """Random initial states, one for RNN and GRU, two for LSTM."""
    layers = layer.num_layers * (2 if layer.bidirectional else 1)
    shape = (layers, layer.hidden_size) if batch is None else (layers, batch, layer.hidden_size)
    count = 2 if isinstance(layer, nn.LSTM) else 1
    return [torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True) for _ in range(count)]


def leaves_of(result):
    """The tensors that a layer returns: output (its data, if packed), h_n, and c_n of an LSTM."""
    output, final = result
    output = output.data if isinstance(output, PackedSequence) else output
    return [output, *(final if isinstance(final, tuple) else (final,))]


def run(layer, make_input, x, hx):
    """All outputs, and the gradients of a loss that weighs each of their numbers differently."""
    state = None if not hx else tuple(hx) if len(hx) == 2 else hx[0]
    result = layer(make_input(x), state)
    outputs = leaves_of(result)
    weigher = torch.Generator().manual_seed(7)
    loss = sum((o * torch.randn(o.shape, dtype=o.dtype, generator=weigher).to(o.device)).sum() for o in outputs)
    return result, outputs, torch.autograd.grad(loss, [x, *hx, *layer.parameters()])


def assert_same(layer, reference, make_input, x, hx):
    result, outputs, gradients = run(layer, make_input, x, hx)
    expected, wanted, wanted_gradients = run(reference, make_input, x, hx)
    assert type(result[0]) is type(expected[0])
    if isinstance(result[0], PackedSequence):
        assert_close(tuple(result[0])[1:], tuple(expected[0])[1:], rtol=0, atol=0)  # the same order and lengths
    assert_close(outputs, wanted, rtol=0, atol=1e-12)
    assert_close(gradients, wanted_gradients, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["loop", "hand", "torch"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
@pytest.mark.parametrize("form", ["batch", "unbatched", "sorted", "unsorted"])
def test_layer_matches_torch_forward_and_backward(kind, backend, num_layers, bidirectional, bias, batch_first, form):
    layer, reference = twins(
        kind, backend, num_layers=num_layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first
    )
    batch = None if form == "unbatched" else N
    shape = (L, H_IN) if batch is None else (N, L, H_IN) if batch_first else (L, N, H_IN)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def make_input(x):
        if form not in LENGTHS:
            return x
        return pack_padded_sequence(x, torch.tensor(LENGTHS[form]), batch_first, enforce_sorted=form == "sorted")

    for hx in ([], states(layer, batch)):
        assert_same(layer, reference, make_input, x, hx)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    backend=st.sampled_from(["loop", "hand"]),
    sizes=st.tuples(*[st.integers(1, 5)] * 4),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_both_paths_match_torch_for_any_shape(kind, backend, sizes, num_layers, bidirectional, seed):
    ours, theirs, extra = KINDS[kind]
    length, batch, input_size, hidden_size = sizes
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "dtype": torch.float64, **extra}
    torch.manual_seed(seed)
    reference = theirs(input_size, hidden_size, **options)
    layer = ours(input_size, hidden_size, backend=backend, **options)
    layer.load_state_dict(reference.state_dict())
    x = torch.randn(length, batch, input_size, dtype=torch.float64, requires_grad=True)
    assert_same(layer, reference, lambda x: x, x, states(layer, batch))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    backend=st.sampled_from(["loop", "hand"]),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    bidirectional=st.booleans(),
)
def test_both_paths_match_torch_for_any_lengths(kind, backend, lengths, bidirectional):
    layer, reference = twins(kind, backend, bidirectional=bidirectional, num_layers=2)
    x = torch.randn(max(lengths), len(lengths), H_IN, dtype=torch.float64, requires_grad=True)
    make_input = lambda x: pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)  # noqa: E731
    assert_same(layer, reference, make_input, x, states(layer, len(lengths)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["loop", "hand"])
def test_a_packed_sequence_runs_as_if_alone(kind, backend):
    """Neither its neighbours nor the padding reach a sequence, in either direction."""
    layer, _ = twins(kind, backend, bidirectional=True, num_layers=2)
    lengths = LENGTHS["unsorted"]
    x = torch.randn(L, N, H_IN, dtype=torch.float64)
    output, final = layer(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False))
    padded, _ = pad_packed_sequence(output)
    final = final if isinstance(final, tuple) else (final,)
    for n, length in enumerate(lengths):
        alone, alone_final = layer(x[:length, n])
        assert_close(padded[:length, n], alone, rtol=0, atol=1e-12)
        alone_final = alone_final if isinstance(alone_final, tuple) else (alone_final,)
        assert_close([s[:, n] for s in final], list(alone_final), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("backend", "form"), [("loop", "batch"), ("hand", "batch"), ("hand", "sorted"), ("hand", "unsorted")]
)
def test_dropout_draws_the_same_masks_as_torch(kind, backend, form):
    layer, reference = twins(kind, backend, num_layers=3, bidirectional=True, dropout=0.4)
    x = torch.randn(L, N, H_IN, dtype=torch.float64, requires_grad=True)

    def make_input(x):
        if form == "batch":
            return x
        return pack_padded_sequence(x, torch.tensor(LENGTHS[form]), enforce_sorted=form == "sorted")

    torch.manual_seed(5)
    expected = run(reference, make_input, x, [])
    torch.manual_seed(5)
    got = run(layer, make_input, x, [])
    assert_close(got[1], expected[1], rtol=0, atol=1e-12)
    assert_close(got[2], expected[2], rtol=0, atol=1e-10)
    assert (run(layer, make_input, x, [])[1][0] - got[1][0]).abs().max() > 1e-3  # other draws, other outputs
    layer.eval(), reference.eval()
    assert_same(layer, reference, lambda x: x, x, [])


@pytest.mark.parametrize("kind", [*KINDS, "GRU-reset-before"])
@pytest.mark.parametrize("backend", ["loop", "hand"])
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_first_and_second_derivatives_by_differences(kind, backend, packed):
    options = {"bidirectional": True, "dtype": torch.float64, "backend": backend}
    torch.manual_seed(0)
    if kind == "GRU-reset-before":
        layer = seqlab.GRU(2, 2, reset_after=False, **options)
    else:
        ours, _, extra = KINDS[kind]
        layer = ours(2, 2, **extra, **options)
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)

    def function(x, *values):
        input = pack_padded_sequence(x, torch.tensor([1, 3]), enforce_sorted=False) if packed else x
        return tuple(leaves_of(torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (input,))))

    leaves = (x, *(p.detach().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_of_all_paths_agree(kind):
    """ATen's kernels on the CPU can be differentiated twice, the oneDNN LSTM among them, and so can the hand's pass."""
    layer, _ = twins(kind, "loop", num_layers=2, bidirectional=True)
    x = torch.randn(L, N, H_IN, dtype=torch.float64)

    def twice(dtype, backend):
        layer.to(dtype).backend = backend
        leaf = x.to(dtype).requires_grad_()
        gradients = torch.autograd.grad(layer(leaf)[0].square().sum(), [leaf, *layer.parameters()], create_graph=True)
        penalty = sum(g.square().sum() for g in gradients)
        return torch.autograd.grad(penalty, [leaf, *layer.parameters()])

    for backend in ("torch", "hand"):
        assert_close(twice(torch.float64, backend), twice(torch.float64, "loop"), rtol=1e-9, atol=1e-9)
    for single, double in zip(twice(torch.float32, "torch"), twice(torch.float64, "loop"), strict=True):
        assert (single - double).norm() <= 1e-4 * double.norm()


def reset_before(backend, **options):
    torch.manual_seed(0)
    return seqlab.GRU(H_IN, H, dtype=torch.float64, backend=backend, reset_after=False, **options)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
@pytest.mark.parametrize("form", ["batch", "unbatched", "sorted", "unsorted"])
def test_reset_before_is_the_same_by_hand_as_by_the_loop(form, batch_first, bias):
    """torch has no such layer; the loop is checked against ONNX."""
    options = {"num_layers": 2, "bidirectional": True, "bias": bias, "batch_first": batch_first}
    layer, reference = reset_before("hand", **options), reset_before("loop", **options)
    batch = None if form == "unbatched" else N
    shape = (L, H_IN) if batch is None else (N, L, H_IN) if batch_first else (L, N, H_IN)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def make_input(x):
        if form not in LENGTHS:
            return x
        return pack_padded_sequence(x, torch.tensor(LENGTHS[form]), batch_first, enforce_sorted=form == "sorted")

    for hx in ([], states(layer, batch)):
        assert_same(layer, reference, make_input, x, hx)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_matches_torch_to_its_digits(kind, dtype):
    layer, reference = twins(kind, bidirectional=True)
    layer.to(dtype), reference.to(dtype)
    x = torch.randn(L, N, H_IN, dtype=dtype)
    assert layer(x)[0].dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    assert_close(layer(x)[0], reference(x)[0], rtol=0, atol=tolerance)


def accelerator():
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["loop", "hand", "torch"])
@pytest.mark.parametrize("form", ["batch", "unsorted"])
def test_layer_matches_torch_on_cuda(kind, backend, form):
    layer, reference = twins(kind, backend, num_layers=2, bidirectional=True)
    layer.to("cuda"), reference.to("cuda")
    x = torch.randn(L, N, H_IN, dtype=torch.float64, device="cuda", requires_grad=True)

    def make_input(x):
        return x if form == "batch" else pack_padded_sequence(x, torch.tensor(LENGTHS[form]), enforce_sorted=False)

    assert_same(layer, reference, make_input, x, states(layer, N, "cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["loop", "hand"])
def test_second_derivatives_on_cuda_need_a_path_by_name(kind, backend):
    layer, _ = twins(kind, backend)
    layer.to("cuda")
    x = torch.randn(L, N, H_IN, dtype=torch.float64, device="cuda", requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), x)[0].isfinite().all()
    layer.backend = "auto"
    (gradient,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(gradient.square().sum(), x)


@pytest.mark.gpu
@pytest.mark.skipif(accelerator() is None, reason="needs CUDA or MPS")
@pytest.mark.parametrize("kind", KINDS)
def test_loop_on_an_accelerator_matches_the_cpu(kind):
    layer, _ = twins(kind, bidirectional=True)
    layer.to(torch.float32)
    x = torch.randn(L, N, H_IN)
    expected = layer(x)[0]
    assert_close(layer.to(accelerator())(x.to(accelerator()))[0].cpu(), expected, rtol=0, atol=1e-3)
