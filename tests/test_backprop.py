"""The hand-written passes against torch.nn and against autograd through the loop of the cells' steps."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from seqlab.backprop import gru_sequence, hand_obstacle, lstm_sequence, rnn_sequence
from seqlab.cells import gru_step, lstm_step, rnn_step

H_IN, H, L, N = 3, 4, 6, 5
LENGTHS = [6, 5, 5, 2, 1]

# kind: our function, the step, its blocks, torch's layer, the option that all three take
KINDS = {
    "RNN": (rnn_sequence, rnn_step, 1, nn.RNN, {"nonlinearity": "tanh"}),
    "RNN-relu": (rnn_sequence, rnn_step, 1, nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (lstm_sequence, lstm_step, 4, nn.LSTM, {}),
    "GRU": (gru_sequence, gru_step, 3, nn.GRU, {}),
    "GRU-before": (gru_sequence, gru_step, 3, None, {"reset_after": False}),
}


def batch_sizes_of(lengths):
    return torch.tensor([sum(length > t for length in lengths) for t in range(max(lengths))])


def problem(kind, lengths=None, bias=True, steps=L, batch=N, dtype=torch.float64, device="cpu"):
    """Input (packed, if lengths are given), states and weights, all of which ask for gradients."""
    torch.manual_seed(0)
    blocks, options = KINDS[kind][2], {"dtype": dtype, "device": device}
    x = torch.randn(steps, batch, H_IN, **options) if lengths is None else torch.randn(sum(lengths), H_IN, **options)
    batch = batch if lengths is None else len(lengths)
    state = [torch.randn(batch, H, **options) for _ in range(2 if kind == "LSTM" else 1)]
    weights = [torch.randn(blocks * H, size, **options) / 2 for size in (H_IN, H)]
    weights += [torch.randn(blocks * H, **options) for _ in range(2 if bias else 0)]
    return [tensor.requires_grad_() for tensor in (x, *state, *weights)]


def by_hand(kind, tensors, **options):
    """Output and final states, flat."""
    function, _, _, _, extra = KINDS[kind]
    count = 2 if kind == "LSTM" else 1
    x, state, weights = tensors[0], tensors[1 : 1 + count], tensors[1 + count :]
    output, final = function(x, tuple(state) if count == 2 else state[0], *weights, **extra, **options)
    return [output, *(final if count == 2 else (final,))]


def by_loop(kind, tensors, reverse=False, batch_sizes=None, states=None):
    """The same by the cell's step, one step after the other; the states after each step go into the list ``states``."""
    _, step, _, _, extra = KINDS[kind]
    count = 2 if kind == "LSTM" else 1
    x, state, weights = tensors[0], tuple(tensors[1 : 1 + count]), tensors[1 + count :]
    inputs = x.unbind() if batch_sizes is None else x.split(batch_sizes.tolist())
    outputs = [None] * len(inputs)
    states = [] if states is None else states
    for t in reversed(range(len(inputs))) if reverse else range(len(inputs)):
        n = len(inputs[t])
        here = tuple(s[:n] for s in state)
        new = step(inputs[t], here if count == 2 else here[0], *weights, **extra)
        new = new if count == 2 else (new,)
        states.append(new)
        outputs[t] = new[0]
        state = tuple(torch.cat((fresh, old[n:])) for fresh, old in zip(new, state, strict=True))
    return [torch.stack(outputs) if batch_sizes is None else torch.cat(outputs), *state]


def gradients(outputs, tensors, **options):
    """Of a loss that weighs each number of each output differently."""
    weigher = torch.Generator().manual_seed(7)
    loss = sum((y * torch.randn(y.shape, dtype=y.dtype, generator=weigher).to(y.device)).sum() for y in outputs)
    return torch.autograd.grad(loss, tensors, **options)


def assert_same(ours, expected, tensors):
    for y, z in zip(ours, expected, strict=True):
        assert_close(y, z, rtol=0, atol=1e-12)
    for d, e in zip(gradients(ours, tensors), gradients(expected, tensors), strict=True):
        assert_close(d, e, rtol=0, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind][3]])
def test_both_directions_match_torch(kind, packed, bias):
    _, _, _, layer, extra = KINDS[kind]
    reference = layer(H_IN, H, bias=bias, bidirectional=True, dtype=torch.float64, **extra)
    x, *state = problem(kind, LENGTHS if packed else None)[: 3 if kind == "LSTM" else 2]
    parameters = list(reference.parameters())
    half = len(parameters) // 2
    both = tuple(torch.stack((s, -s)) for s in state)
    sizes = batch_sizes_of(LENGTHS) if packed else None
    output, final = reference(PackedSequence(x, sizes) if packed else x, both if len(both) == 2 else both[0])
    ahead = by_hand(kind, [x, *state, *parameters[:half]], batch_sizes=sizes)
    back = by_hand(kind, [x, *(-s for s in state), *parameters[half:]], batch_sizes=sizes, reverse=True)
    ours = [torch.cat((ahead[0], back[0]), -1), *(torch.stack(s) for s in zip(ahead[1:], back[1:], strict=True))]
    expected = [output.data if packed else output, *(final if kind == "LSTM" else (final,))]
    assert_same(ours, expected, [x, *state, *parameters])


@pytest.mark.parametrize("reverse", [False, True], ids=["ahead", "reverse"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["dense", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_passes_match_the_loop(kind, lengths, reverse):
    tensors = problem(kind, lengths)
    options = {"reverse": reverse, "batch_sizes": lengths and batch_sizes_of(lengths)}
    assert_same(by_hand(kind, tensors, **options), by_loop(kind, tensors, **options), tensors)


@pytest.mark.parametrize("lengths", [None, list(range(300, 100, -40))], ids=["dense", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_long_sequences_are_treated_in_blocks_without_a_seam(kind, lengths):
    tensors = problem(kind, lengths, steps=300, batch=2)
    sizes = lengths and batch_sizes_of(lengths)
    ours, expected = by_hand(kind, tensors, batch_sizes=sizes), by_loop(kind, tensors, batch_sizes=sizes)
    for d, e in zip(gradients(ours, tensors), gradients(expected, tensors), strict=True):
        assert_close(d, e, rtol=1e-11, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5).map(lambda x: sorted(x, reverse=True)),
    reverse=st.booleans(),
)
def test_any_lengths_match_the_loop(kind, lengths, reverse):
    tensors, sizes = problem(kind, lengths), batch_sizes_of(lengths)
    ours = by_hand(kind, tensors, reverse=reverse, batch_sizes=sizes)
    assert_same(ours, by_loop(kind, tensors, reverse=reverse, batch_sizes=sizes), tensors)


@pytest.mark.parametrize("reverse", [False, True], ids=["ahead", "reverse"])
@pytest.mark.parametrize("lengths", [None, [3, 2]], ids=["dense", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_and_gradgradcheck(kind, lengths, reverse):
    tensors = problem(kind, lengths, steps=3, batch=2)
    options = {"reverse": reverse, "batch_sizes": lengths and batch_sizes_of(lengths)}

    def function(*tensors):
        return tuple(by_hand(kind, tensors, **options))

    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_third_derivative_matches_the_loop(kind):
    tensors = problem(kind, steps=3, batch=2)
    found = []
    for run in (by_hand, by_loop):
        y = run(kind, tensors)[0].square().sum()
        for _ in range(2):
            y = sum(d.square().sum() for d in torch.autograd.grad(y, tensors[:3], create_graph=True))
        found.append(torch.autograd.grad(y, tensors[:3]))
    for d, e in zip(*found, strict=True):
        assert_close(d, e, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivative_counts_a_shared_weight_once(kind):
    """The input of the second layer depends on the weights too: the recomputation must not follow that path."""
    tensors = problem(kind, steps=3, batch=2)
    tensors[-4] = torch.randn_like(tensors[-3]).requires_grad_()  # W_ih for an input of size H
    found = []
    for run in (by_hand, by_loop):
        x = torch.cat((tensors[0], tensors[0][..., :1]), -1)
        for _ in range(2):
            x = run(kind, [x, *tensors[1:]])[0]
        (slope,) = torch.autograd.grad(x.square().sum(), tensors[0], create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), tensors))
    for d, e in zip(*found, strict=True):
        assert_close(d, e, rtol=0, atol=1e-10)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_only_what_needs_a_gradient_gets_one(kind, create_graph):
    tensors = problem(kind)
    expected = gradients(by_loop(kind, tensors), tensors)
    for chosen in itertools.chain(([k] for k in range(len(tensors))), [range(1, len(tensors)), [0, 1]]):
        fresh = [x.detach().requires_grad_(k in chosen) for k, x in enumerate(tensors)]
        wanted = [fresh[k] for k in chosen]
        found = gradients(by_hand(kind, fresh), wanted, create_graph=create_graph)
        for k, d in zip(chosen, found, strict=True):
            assert_close(d, expected[k], rtol=0, atol=1e-10)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_output_alone_carries_its_gradient(kind, create_graph):
    tensors = problem(kind)
    for y, z in zip(by_hand(kind, tensors), by_loop(kind, tensors), strict=True):
        found = gradients([y], tensors, create_graph=create_graph, retain_graph=True, allow_unused=True)
        expected = gradients([z], tensors, retain_graph=True, allow_unused=True)
        for d, e in zip(found, expected, strict=True):
            assert_close(torch.zeros(()) if d is None else d, torch.zeros(()) if e is None else e)


class Blocked(torch.autograd.Function):
    """A function with no gradient, which sends None back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return None


@pytest.mark.parametrize("create_graph", [False, True])
def test_no_gradient_at_all_comes_back_as_none(create_graph):
    tensors = problem("GRU")
    loss = Blocked.apply(by_hand("GRU", tensors)[0]).sum()
    assert torch.autograd.grad(loss, tensors[0], create_graph=create_graph, allow_unused=True) == (None,)


@pytest.mark.parametrize("kind", KINDS)
def test_layouts_of_input_and_gradient_do_not_matter(kind):
    x, *others = problem(kind)
    expected = torch.autograd.grad(by_loop(kind, [x, *others])[0].sum(), [x, *others])
    batch_first = x.detach().transpose(0, 1).contiguous().requires_grad_()
    output = by_hand(kind, [batch_first.transpose(0, 1), *others])[0]
    found = torch.autograd.grad(output.transpose(0, 1).sum(), [batch_first, *others])  # an expanded gradient
    assert_close(found[0].transpose(0, 1), expected[0], rtol=0, atol=1e-10)
    for d, e in zip(found[1:], expected[1:], strict=True):
        assert_close(d, e, rtol=0, atol=1e-10)
    weights = [w.detach().t().contiguous().t().requires_grad_() for w in others[-4:-2]]
    strided = by_hand(kind, [x, *others[:-4], *weights, *others[-2:]])[0]
    found = torch.autograd.grad(strided, weights, torch.ones(N, L, H, dtype=x.dtype).transpose(0, 1))
    for d, e in zip(found, expected[-4:-2], strict=True):
        assert_close(d, e, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_twice_is_the_same_and_spoils_nothing(kind):
    tensors = problem(kind)
    before = [x.detach().clone() for x in tensors]
    outputs = by_hand(kind, tensors)
    kept = [y.detach().clone() for y in outputs]
    first, second = gradients(outputs, tensors, retain_graph=True), gradients(outputs, tensors)
    for d, e in zip((*first, *before, *kept), (*second, *tensors, *outputs), strict=True):
        assert torch.equal(d, e)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_may_be_changed_in_place(kind):
    tensors = problem(kind)
    found = []
    for run in (by_hand, by_loop):
        outputs = [y.clone() for y in run(kind, tensors)] if run is by_loop else run(kind, tensors)
        for y in outputs:
            y.mul_(2)
        found.append(gradients(outputs, tensors))
    for d, e in zip(*found, strict=True):
        assert_close(d, e, rtol=0, atol=1e-10)
    places = [d.untyped_storage().data_ptr() for d in found[0][-4:]]
    assert len(set(places)) == 4


def fading(kind, steps, dtype=torch.float32):
    """A problem whose gradient loses more than a third at each step."""
    tensors = problem(kind, steps=steps, batch=2, dtype=dtype)
    with torch.no_grad():
        for w in tensors[-4:-2]:
            w.mul_(0.5)
        for b in tensors[-2:]:
            b.zero_()
    return tensors


@pytest.mark.parametrize("kind", KINDS)
def test_vanished_gradients_are_zero_and_the_others_exact(kind):
    tensors = fading(kind, 600)
    found, expected = (torch.autograd.grad(run(kind, tensors)[0][-1].sum(), tensors) for run in (by_hand, by_loop))
    assert_close(found, expected, rtol=1e-4, atol=1e-6)
    large = expected[0].abs() > 1e-29
    assert_close(found[0][large], expected[0][large], rtol=1e-2, atol=0)
    assert torch.count_nonzero(found[0][:100]) == 0
    assert torch.count_nonzero(found[1]) == 0  # h_0


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_before_the_gap_keeps_its_gradient(kind):
    tensors = fading(kind, 600)
    outputs = (run(kind, tensors)[0] for run in (by_hand, by_loop))
    found, expected = (torch.autograd.grad(y[-1].sum() + y[20].square().sum(), tensors) for y in outputs)
    assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert torch.count_nonzero(found[0][20]) > 0
    assert torch.count_nonzero(found[0][200:300]) == 0


def test_float64_keeps_what_float32_would_drop():
    tensors = fading("RNN", 200, torch.float64)
    found, expected = (torch.autograd.grad(run("RNN", tensors)[0][-1].sum(), tensors) for run in (by_hand, by_loop))
    assert 0 < expected[0][0].abs().max() < 1e-30
    assert_close(found[0], expected[0], rtol=1e-8, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_is_not_taken_for_vanished(kind):
    tensors = problem(kind, steps=300, batch=2)
    output = by_hand(kind, tensors)[0]
    gradient = torch.zeros_like(output)
    gradient[-1] = torch.nan
    assert torch.autograd.grad(output, tensors[0], gradient)[0][0].isnan().any()


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("reverse", [False, True], ids=["ahead", "reverse"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["dense", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_monitor_sees_state_and_total_gradient_of_each_step(kind, lengths, reverse, create_graph):
    tensors, seen, kept, states = problem(kind, lengths), [], [], []
    options = {"reverse": reverse, "batch_sizes": lengths and batch_sizes_of(lengths)}

    def monitor(states):
        kept.append(states)
        return seen.append

    ours = by_hand(kind, tensors, monitor=monitor, **options)
    gradients(ours, tensors, create_graph=create_graph, retain_graph=True)
    outputs = by_loop(kind, tensors, **options, states=states)
    states = states[::-1] if reverse else states
    assert len(kept) == len(seen) == 1
    names = ["h", "c"] if kind == "LSTM" else ["h"]
    assert list(kept[0]) == list(seen[0]) == names
    join = torch.stack if lengths is None else torch.cat
    for k, name in enumerate(names):
        assert_close(kept[0][name], join([state[k] for state in states]), rtol=0, atol=1e-12)
        totals = gradients(outputs, [state[k] for state in states], retain_graph=True)
        assert_close(seen[0][name], join(totals), rtol=0, atol=1e-10)
    gradients(ours, tensors)
    assert len(kept) == 1
    assert_close(seen[0], seen[1], rtol=0, atol=1e-10)


def test_monitor_is_not_called_where_no_backward_pass_can_follow():
    tensors, seen = problem("GRU"), []
    with torch.no_grad():
        by_hand("GRU", tensors, monitor=seen.append)
    by_hand("GRU", [x.detach() for x in tensors], monitor=seen.append)
    assert seen == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "RNN-relu"])  # that dies out at once
def test_nothing_counts_as_vanished_under_a_monitor(kind):
    """What is shown of small gradients, subnormal ones among them, is what the loop computes."""
    tensors, seen, states = fading(kind, 300), [], []
    by_hand(kind, tensors, monitor=lambda states: seen.append)[0][-1].sum().backward()
    output = by_loop(kind, tensors, states=states)[0]
    expected = torch.stack(torch.autograd.grad(output[-1].sum(), [h for h, *_ in states]))
    large = expected.abs() > 1e-36
    assert (expected[large].abs() < 1e-31).any()
    assert_close(seen[0]["h"][large], expected[large], rtol=1e-3, atol=0)


def test_padding_plays_no_part():
    """A packed batch by hand equals each of its sequences alone, in the caller's order, wherever the padding is NaN."""
    torch.manual_seed(0)
    lengths = torch.tensor([2, 6, 1, 5])
    x = torch.randn(6, 4, H_IN)
    x[torch.arange(6).unsqueeze(1) >= lengths] = torch.nan
    layer = nn.GRU(H_IN, H)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    data, h_n = gru_sequence(packed.data, torch.zeros(4, H), *layer.parameters(), batch_sizes=packed.batch_sizes)
    output, _ = pad_packed_sequence(
        PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
    )
    for n, length in enumerate(lengths):
        alone, final = layer(x[:length, n])
        assert_close(output[:length, n], alone)
        assert_close(h_n[packed.unsorted_indices[n]], final[0])


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch_has_empty_outputs_and_zero_gradients(kind):
    tensors = problem(kind, steps=300, batch=0)
    outputs = by_hand(kind, tensors)
    assert outputs[0].shape == (300, 0, H)
    assert all(torch.count_nonzero(d) == 0 for d in gradients(outputs, tensors))


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_and_functional_call(kind):
    tensors = problem(kind)
    expected = gradients(by_hand(kind, tensors), tensors)
    found = gradients(checkpoint(lambda *x: by_hand(kind, x), *tensors, use_reentrant=False), tensors)
    for d, e in zip(found, expected, strict=True):
        assert_close(d, e, rtol=0, atol=0)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.ParameterList(x.detach() for x in tensors[1:])

        def forward(self, x):
            return by_hand(kind, [x, *self.weights])[0]

    replaced = {f"weights.{k}": x for k, x in enumerate(tensors[1:])}
    output = functional_call(Layer(), replaced, tensors[0])
    (found,) = torch.autograd.grad(output.sum(), tensors[-3])
    assert_close(found, torch.autograd.grad(by_hand(kind, tensors)[0].sum(), tensors[-3])[0], rtol=0, atol=0)


def test_backward_under_autocast_stays_in_float32():
    tensors = problem("GRU", dtype=torch.float32)
    outputs = by_hand("GRU", tensors)
    expected = gradients(outputs, tensors, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(outputs, tensors)
    assert_close(found, expected, rtol=0, atol=0)


def test_obstacles_are_named_and_refused():
    x, h, *weights = (x.detach() for x in problem("GRU", dtype=torch.float32))
    assert hand_obstacle(x) == ""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "autocast" in hand_obstacle(x)
        with pytest.raises(RuntimeError, match=r"gru_sequence: .* since autocast is on.*; loop over the cell's steps"):
            gru_sequence(x, h, *weights)
    with pytest.raises(RuntimeError, match=r"a torch\.func transform is under way"):
        grad(lambda x: gru_sequence(x, h, *weights)[0].sum())(x)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward-mode differentiation is under way"):
        gru_sequence(x, h, *weights)
    with pytest.raises(RuntimeError, match=r"float32 and float64, not in torch\.float16"):
        gru_sequence(x.half(), h, *weights)
    seen = []

    @torch.compile(backend="eager", fullgraph=True)
    def compiled(x):
        seen.append(hand_obstacle(x))
        return x + 1

    compiled(x)
    assert seen == ["torch.compile or torch.export is tracing"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": torch.zeros(L, H_IN)}, r"expected input \(L, N, H_in\) .* got \(6, 3\); add the batch axis"),
        ({"input": torch.zeros(0, N, H_IN)}, r"at least one step, got \(0, 5, 3\)"),
        ({"batch_sizes": torch.tensor([5, 1])}, r"expected input \(R, H_in\), the data of a PackedSequence"),
        ({"hx": torch.zeros(1, N, H)}, r"initial h of shape \(5, 4\), got \(1, 5, 4\); a layer's states"),
        ({"hx": torch.zeros(N + 1, H)}, r"initial h of shape \(5, 4\), got \(6, 4\)"),
        ({"weight_ih": torch.zeros(4 * H, H_IN)}, r"expected weight_ih of shape \(12, 3\)"),
    ],
)
def test_wrong_shapes_are_refused(change, message):
    x, h, *weights = (x.detach() for x in problem("GRU", dtype=torch.float32))
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    arguments = {"input": x, "hx": h, **dict(zip(names, weights, strict=True)), **change}
    with pytest.raises(ValueError, match=rf"gru_sequence: .*{message}"):
        gru_sequence(**arguments)


def test_unknown_nonlinearity_is_refused():
    x, h, *weights = problem("RNN")
    with pytest.raises(ValueError, match="rnn_sequence: expected nonlinearity 'tanh' or 'relu', got 'sin'"):
        rnn_sequence(x, h, *weights, nonlinearity="sin")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["dense", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_passes_match_the_loop_on_cuda(kind, lengths):
    tensors = problem(kind, lengths, device="cuda")
    options = {"reverse": True, "batch_sizes": lengths and batch_sizes_of(lengths)}
    assert_same(by_hand(kind, tensors, **options), by_loop(kind, tensors, **options), tensors)
