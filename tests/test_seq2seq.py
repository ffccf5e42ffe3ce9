"""Encoder and decoder: the papers' equations one sentence and one step at a time, padding, forcing, sampling."""

from __future__ import annotations

import copy
import doctest
import functools
import importlib
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from seqlab.attention import (
    AdditiveAttention,
    LuongAttention,
    MultiheadAttention,
    ProjectedKeys,
    ScaledDotProductAttention,
)
from seqlab.recurrent import GRU
from seqlab.seq2seq import Decoder, DecoderState, Encoded, Encoder, Seq2Seq, greedy_search
from seqlab.tasks import key_padding_mask, reversing

EXACT = {"rtol": 0.0, "atol": 1e-12}
V_IN, V_OUT, E, H = 9, 7, 3, 4
LENGTHS = (5, 2, 4)
WIRINGS = ("sutskever", "cho", "bahdanau", "luong", "input-feeding")
CELLS = ("rnn", "gru", "lstm")
every_wiring = pytest.mark.parametrize("wiring", WIRINGS)
every_cell = pytest.mark.parametrize("cell", CELLS)
both_directions = pytest.mark.parametrize("bidirectional", [False, True], ids=["one direction", "bidirectional"])


def make(wiring, cell="gru", bidirectional=True, num_layers=1, attention=None, dropout=0.0):
    torch.manual_seed(0)
    encoder = Encoder(V_IN, E, H, cell, num_layers, bidirectional, dropout)
    if attention is None and wiring in ("bahdanau", "luong", "input-feeding"):
        attention = AdditiveAttention(H, encoder.memory_size, 5)
    decoder = Decoder(V_OUT, E, H, encoder.memory_size, wiring, attention, cell, num_layers, dropout)
    model = Seq2Seq(encoder, decoder).double()
    with torch.no_grad():  # far from the initial values, so that no term hides
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model


def batch(L=4):
    generator = torch.Generator().manual_seed(1)
    mask = key_padding_mask(LENGTHS)
    source = torch.randint(3, V_IN, mask.shape, generator=generator).masked_fill(mask, 0)
    target = torch.randint(3, V_OUT, (len(LENGTHS), L), generator=generator)
    target[:, 0] = 1
    return source, target, mask


# The equations, one sentence, one step, one vector at a time; nothing below uses a layer or an attention of seqlab.


def step_by_hand(cell, w, suffix, x, state):
    def part(kind, v):
        return w[f"weight_{kind}_{suffix}"] @ v + w[f"bias_{kind}_{suffix}"]

    h = state[0]
    if cell == "rnn":
        return (torch.tanh(part("ih", x) + part("hh", h)),)
    if cell == "gru":
        (r_x, z_x, n_x), (r_h, z_h, n_h) = part("ih", x).chunk(3), part("hh", h).chunk(3)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        return ((1 - z) * torch.tanh(n_x + r * n_h) + z * h,)
    i, f, g, o = (part("ih", x) + part("hh", h)).chunk(4)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def parts(module, prefix):
    return {name.removeprefix(prefix): p for name, p in module.named_parameters() if name.startswith(prefix)}


def run_by_hand(cell, w, suffix, inputs):
    """One direction of one layer from zeros: the state after each input."""
    states, state = [], (torch.zeros(H, dtype=torch.float64),) * (2 if cell == "lstm" else 1)
    for x in inputs:
        state = step_by_hand(cell, w, suffix, x, state)
        states.append(state)
    return states


def encode_by_hand(encoder, cell, tokens, bidirectional, num_layers):
    """Memory, a list of vectors, and each layer's final state: [after the last token; backwards, after the first]."""
    w, inputs, last = parts(encoder, "layer."), [encoder.embedding.weight[token] for token in tokens], []
    for k in range(num_layers):
        directions = [run_by_hand(cell, w, f"l{k}", inputs)]
        if bidirectional:
            directions.append(run_by_hand(cell, w, f"l{k}_reverse", inputs[::-1]))
        last.append([torch.cat(each) for each in zip(*(states[-1] for states in directions), strict=True)])
        if bidirectional:
            directions[1].reverse()
        inputs = [torch.cat([state[0] for state in at_s]) for at_s in zip(*directions, strict=True)]
    return inputs, last


def attend_by_hand(attention, query, memory):
    scores = [
        attention.weight_score @ torch.tanh(attention.weight_query @ query + attention.weight_key @ key)
        for key in memory
    ]
    weights = torch.stack(scores).exp()
    weights = weights / weights.sum()
    return sum(a * m for a, m in zip(weights, memory, strict=True)), weights


def maxout(t):
    return torch.stack([torch.maximum(t[2 * j], t[2 * j + 1]) for j in range(len(t) // 2)])


def decode_by_hand(decoder, cell, wiring, tokens, memory, last):
    """Logits and weights of each step."""
    w, combine, layers = parts(decoder, "layer."), parts(decoder, "combine."), len(last)
    states = last
    if decoder.memory_size != H:  # a matrix for all layers together; h is squashed, c is not
        bridged = [
            (bridge.weight @ torch.cat(parts_of_layers) + bridge.bias).chunk(layers)
            for bridge, parts_of_layers in zip(decoder.bridge, zip(*last, strict=True), strict=True)
        ]
        states = [[torch.tanh(h), *c] for h, *c in zip(*bridged, strict=True)]
    c, fed = last[-1][0], torch.zeros(H, dtype=torch.float64)
    all_logits, all_weights = [], []
    for token in tokens:
        y = decoder.embedding.weight[token]
        if wiring == "bahdanau":
            c, a = attend_by_hand(decoder.attention, states[-1][0], memory)
        x = torch.cat({"cho": [y, c], "bahdanau": [y, c], "input-feeding": [y, fed]}.get(wiring, [y]))
        after = []
        for k, state in enumerate(states):
            after.append(step_by_hand(cell, w, f"l{k}", x, state))
            x = after[-1][0]
        states, s = after, x
        if wiring == "sutskever":
            o = s
        elif wiring in ("cho", "bahdanau"):
            o = maxout(combine["weight"] @ torch.cat([s, y, c]) + combine["bias"])
        else:
            c, a = attend_by_hand(decoder.attention, s, memory)
            o = fed = torch.tanh(combine["weight"] @ torch.cat([c, s]))
        all_logits.append(decoder.output.weight @ o + decoder.output.bias)
        if wiring not in ("sutskever", "cho"):
            all_weights.append(a)
    return torch.stack(all_logits), torch.stack(all_weights) if all_weights else None


def model_by_hand(model, cell, wiring, source, target, *sizes):
    results = []
    for x, y, length in zip(source.tolist(), target.tolist(), LENGTHS, strict=True):
        memory, last = encode_by_hand(model.encoder, cell, x[:length], *sizes)
        results.append(decode_by_hand(model.decoder, cell, wiring, y, memory, last))
    return results


@every_wiring
@every_cell
@pytest.mark.parametrize("num_layers", [1, 2])
@both_directions
def test_logits_weights_and_gradients_are_those_of_the_equations(wiring, cell, bidirectional, num_layers):
    model, (source, target, mask) = make(wiring, cell, bidirectional, num_layers), batch()
    logits, weights = model.decoder(target, model.encoder(source, mask), need_weights=True)
    by_hand = model_by_hand(model, cell, wiring, source, target, bidirectional, num_layers)
    expected = torch.stack([each for each, _ in by_hand])
    assert_close(logits, expected, **EXACT)
    assert_close(model(source, target, mask), expected, **EXACT)
    for n, (_, a) in enumerate(by_hand):
        if a is None:
            assert weights is None
        else:
            assert_close(weights[n, :, : LENGTHS[n]], a, **EXACT)
            assert (weights[n, :, LENGTHS[n] :] == 0).all()
    direction = torch.randn(logits.shape, dtype=torch.float64)
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad((logits * direction).sum(), parameters.values())
    wanted = torch.autograd.grad((expected * direction).sum(), parameters.values(), materialize_grads=True)
    for name, grad, want in zip(parameters, grads, wanted, strict=True):
        assert_close(grad, want, rtol=0.0, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


@both_directions
@every_cell
def test_a_padded_batch_encodes_each_sentence_as_alone(cell, bidirectional):
    encoder, (source, _, mask) = make("sutskever", cell, bidirectional, num_layers=2).encoder, batch()
    together = encoder(source, mask)
    assert together.key_padding_mask is mask
    for n, length in enumerate(LENGTHS):
        alone = encoder(source[n : n + 1, :length])
        assert alone.key_padding_mask is None
        assert_close(together.memory[n, :length], alone.memory[0], **EXACT)
        assert (together.memory[n, length:] == 0).all()
        for ours, its in zip(together.state, alone.state, strict=True):
            assert_close(ours[n], its[0], **EXACT)


@every_wiring
def test_a_padded_batch_gives_the_logits_of_each_sentence_alone(wiring):
    model, (source, target, mask) = make(wiring, "lstm", num_layers=2), batch()
    logits = model(source, target, mask)
    for n, length in enumerate(LENGTHS):
        assert_close(logits[n : n + 1], model(source[n : n + 1, :length], target[n : n + 1]), **EXACT)


def test_what_padding_holds_does_not_matter_and_a_mask_without_padding_is_none():
    encoder, (source, _, mask) = make("cho").encoder, batch()
    for ours, its in zip(encoder(source, mask)[1], encoder(source.masked_fill(mask, 5), mask)[1], strict=True):
        assert_close(ours, its, rtol=0, atol=0)
    assert encoder(source, torch.zeros_like(mask)).key_padding_mask is None


ATTENTIONS = {
    **{
        f"{score}-{window}": functools.partial(LuongAttention, H, 2 * H, score, window, 1)
        for score in ("general", "concat")
        for window in (None, "local-m", "local-p")
    },
    "additive": lambda: AdditiveAttention(H, 2 * H, 5),
    "normed": lambda: AdditiveAttention(H, 2 * H, 5, normed=True),
    "multihead": lambda: MultiheadAttention(H, 2, kdim=2 * H, vdim=2 * H, batch_first=True),
    "dot": lambda: LuongAttention(2 * H, score="dot"),
    "scaled": ScaledDotProductAttention,
}


@pytest.mark.parametrize("kind", ATTENTIONS)
@pytest.mark.parametrize("wiring", ["bahdanau", "luong", "input-feeding"])
def test_all_steps_at_once_are_the_steps_one_by_one_with_any_attention(wiring, kind):
    torch.manual_seed(0)
    encoder, size = Encoder(V_IN, E, H, bidirectional=True), 2 * H if kind in ("dot", "scaled") else H
    decoder = Decoder(V_OUT, E, size, encoder.memory_size, wiring, ATTENTIONS[kind]())
    model, (source, target, mask) = Seq2Seq(encoder, decoder).double(), batch(L=6)
    logits, weights = model.decoder(target, model.encoder(source, mask), need_weights=True)
    without, none = model.decoder(target, model.encoder(source, mask))
    assert none is None
    assert_close(without, logits, **EXACT)
    state = model.start(source, mask)
    for i in range(target.shape[1]):
        log_probs, state = model.step(target[:, i], state)
        assert_close(log_probs, logits[:, i].log_softmax(-1), **EXACT)
        assert_close(state.weights, weights[:, i], **EXACT)
    assert state.position == 6


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_an_attention_says_the_size_of_its_context_and_a_decoder_does_not_run_it(kind, monkeypatch):
    """Nothing is drawn either: with dropout in the attention, weights would depend on its mode."""
    size = 2 * H if kind in ("dot", "scaled") else H
    attention = ATTENTIONS[kind]()
    context, _ = attention(torch.zeros(2, 3, size), torch.zeros(2, 5, 2 * H))
    assert attention.context_size(size, 2 * H) == context.shape[2]
    monkeypatch.setattr(type(attention), "forward", None)
    states = []
    for mode in (True, False):
        torch.manual_seed(0)
        states.append(Decoder(V_OUT, E, size, 2 * H, "luong", attention.train(mode)).state_dict())
    assert_close(dict(states[0]), dict(states[1]), rtol=0, atol=0)


def test_a_decoder_tells_any_attention_where_it_is():
    """One of the user's own, that attends to the key at the position of the query."""

    class Diagonal(nn.Module):
        def context_size(self, query_size, key_size):
            return key_size

        def project_keys(self, key, value=None, key_padding_mask=None):
            return ProjectedKeys(key, key, key_padding_mask)

        def forward(self, query, key, *, start, need_weights):
            rows = key.value[:, start : start + query.shape[1]]
            return rows, torch.eye(key.value.shape[1])[start : start + query.shape[1]].expand(len(query), -1, -1)

    for wiring in ("bahdanau", "luong", "input-feeding"):
        model = make(wiring, attention=Diagonal())
        source, target = torch.full((2, 4), 3), torch.full((2, 4), 1)
        _, weights = model.decoder(target, model.encoder(source), need_weights=True)
        assert torch.equal(weights, torch.eye(4).expand(2, -1, -1))


@pytest.mark.parametrize("cell", CELLS)
@every_wiring
def test_device_and_dtype_are_those_of_all_weights(wiring, cell):
    place = {"device": "meta", "dtype": torch.float64}
    attention = AdditiveAttention(H, 2 * H, 5, **place) if wiring in ("bahdanau", "luong", "input-feeding") else None
    encoder = Encoder(V_IN, E, H, cell, 2, True, **place)
    model = Seq2Seq(encoder, Decoder(V_OUT, E, H, 2 * H, wiring, attention, cell, 2, **place))
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.float64)}


@every_wiring
@every_cell
def test_teacher_forcing_equals_steps_in_two_layers(wiring, cell):
    model, (source, target, mask) = make(wiring, cell, num_layers=2), batch()
    logits, state = model(source, target, mask), model.start(source, mask)
    for i in range(target.shape[1]):
        log_probs, state = model.step(target[:, i], state)
        assert_close(log_probs, logits[:, i].log_softmax(-1), **EXACT)


@pytest.mark.parametrize(("wiring", "calls"), [*zip(WIRINGS, (1, 1, 4, 1, 4), strict=True)])
def test_the_layer_is_called_once_where_nothing_is_fed_back(wiring, calls):
    model, (source, target, mask) = make(wiring), batch()
    seen = []
    model.decoder.layer.register_forward_hook(lambda *_: seen.append(1))
    model(source, target, mask)
    assert len(seen) == calls


def test_the_keys_are_projected_once_a_source(monkeypatch):
    model, (source, target, mask) = make("bahdanau"), batch()
    seen, project = [], AdditiveAttention._project
    monkeypatch.setattr(AdditiveAttention, "_project", lambda self, key: seen.append(1) or project(self, key))
    model(source, target, mask)
    assert len(seen) == 1


@every_wiring
def test_a_step_sees_nothing_later(wiring):
    model, (source, target, mask) = make(wiring), batch()
    changed = target.clone()
    changed[:, 2:] = 3
    before, after = model(source, target, mask), model(source, changed, mask)
    assert_close(before[:, :2], after[:, :2], rtol=0, atol=0)
    assert not torch.equal(before[:, 2:], after[:, 2:])


def test_a_state_of_the_right_size_is_handed_over_as_it_is():
    model, (source, _, mask) = make("sutskever", "lstm", bidirectional=False), batch()
    encoded = model.encoder(source, mask)
    assert model.decoder.bridge is None
    for ours, its in zip(model.start(source, mask).hidden, encoded.state, strict=True):
        assert_close(ours, its, rtol=0, atol=0)


def test_cell_may_be_what_makes_a_layer():
    encoder = Encoder(V_IN, E, H, functools.partial(GRU, reset_after=False))
    decoder = Decoder(V_OUT, E, H, H, "sutskever", cell=nn.LSTM)
    assert encoder.layer.reset_after is False
    assert type(decoder.layer) is nn.LSTM
    assert decoder.states == 2


# Scheduled sampling


@every_wiring
def test_sampling_at_zero_is_teacher_forcing_and_at_one_follows_the_draws(wiring):
    model, (source, target, mask) = make(wiring), batch(L=5)
    assert_close(model(source, target, mask, sampling_probability=0.0), model(source, target, mask), rtol=0, atol=0)
    logits = model(source, target, mask, sampling_probability=1.0, generator=torch.Generator().manual_seed(3))
    other = target.clone()
    other[:, 1:] = 3
    again = model(source, other, mask, sampling_probability=1.0, generator=torch.Generator().manual_seed(3))
    assert_close(logits, again, rtol=0, atol=0)  # but for the first token the target plays no part
    assert not torch.equal(logits, model(source, target, mask))
    replay, drawn = torch.Generator().manual_seed(3), target[:, :1]  # the draws, from the logits they were made of
    torch.rand(target.shape, generator=replay)
    for i in range(4):
        drawn = torch.cat([drawn, torch.multinomial(logits[:, i].softmax(-1), 1, generator=replay)], dim=1)
    assert_close(model(source, drawn, mask), logits, **EXACT)


def test_the_share_of_tokens_replaced_is_the_probability_and_no_gradient_goes_through():
    torch.manual_seed(0)
    model = Seq2Seq(Encoder(5, 2, 2), Decoder(5, 2, 2, 2, "sutskever"))
    with torch.no_grad():
        model.decoder.output.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 100.0]))  # the model writes 4, always
    seen = []
    model.decoder.layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    source, target = torch.full((200, 1), 3), torch.full((200, 21), 3)
    model(source, target, sampling_probability=0.3, generator=torch.Generator().manual_seed(0))
    given = torch.cat(seen, dim=1)
    own = (given == model.decoder.embedding.weight[4]).all(-1)
    assert not own[:, 0].any()
    assert abs(own[:, 1:].float().mean() - 0.3) < 0.03  # 4000 coins: standard deviation 0.007


# Learning, copies, modes


def test_it_learns_to_reverse():
    torch.manual_seed(0)
    encoder = Encoder(11, 16, 32, bidirectional=True)
    model = Seq2Seq(encoder, Decoder(11, 16, 32, 64, "luong", AdditiveAttention(32, 64, 32)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=200)
    generator = torch.Generator().manual_seed(0)

    def draw(n):
        source, target = (x.T + 3 for x in reversing(n, length=5, generator=generator))
        return source, torch.cat([torch.ones(n, 1, dtype=torch.int64), target], dim=1)

    for _ in range(200):
        source, target = draw(64)
        loss = nn.functional.cross_entropy(model(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    source, target = draw(500)
    answers = greedy_search(model, source, max_length=5, eos=0)  # nothing ends here: all have five symbols
    right = [each.tokens.tolist() == wanted for each, wanted in zip(answers, target[:, 1:].tolist(), strict=True)]
    assert sum(right) / 500 >= 0.95


@every_wiring
def test_copies_pickles_and_state_dicts_compute_the_same(wiring):
    model, (source, target, mask) = make(wiring, "lstm"), batch()
    fresh = make(wiring, "lstm")
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(model.state_dict())
    for other in (fresh, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_close(other(source, target, mask), model(source, target, mask), rtol=0, atol=0)


def test_dropout_works_in_training_alone():
    model, (source, target, mask) = make("luong", num_layers=2, dropout=0.5), batch()
    assert not torch.equal(model(source, target, mask), model(source, target, mask))
    model.eval()
    assert_close(model(source, target, mask), model(source, target, mask), rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@every_wiring
def test_on_a_gpu_it_computes_the_same(wiring):
    model, tensors = make(wiring, "lstm", num_layers=2), batch()
    expected = model(*tensors)
    assert_close(model.cuda()(*(t.cuda() for t in tensors)).cpu(), expected, rtol=0.0, atol=1e-10)


# What is refused


def encoder(**options):
    return Encoder(V_IN, E, H, **options)


SOURCE = torch.tensor([[3, 4], [5, 0]])
PADDED = torch.tensor([[False, False], [False, True]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: encoder(cell="gruu"), ValueError, "Encoder: expected cell 'rnn', 'gru' or 'lstm', .* got 'gruu'"),
        (lambda: encoder(dropout=2), ValueError, "Encoder: expected dropout as a probability"),
        (lambda: Encoder(0, E, H), ValueError, "Encoder: expected num_tokens of at least 1, got 0"),
        (lambda: encoder()(SOURCE[:, :0]), ValueError, r"Encoder: expected source .* at least one token, got \(2, 0\)"),
        (lambda: encoder()(SOURCE[0]), ValueError, r"Encoder: expected source \(N, S\) .* got \(2,\); use .*unsqueeze"),
        (lambda: encoder()(SOURCE.float()), TypeError, "Encoder: expected source .* integers, got .*float32"),
        (lambda: encoder()([[3]]), TypeError, "Encoder: expected source .* integers, got list"),
        (lambda: encoder()(SOURCE + 6), ValueError, "Encoder: expected source .* from 0 to 8, got 6 to 11; .*vocabul"),
        (lambda: encoder()(SOURCE, ~PADDED[:, :1]), ValueError, r"key_padding_mask \(N, S\) = \(2, 2\)"),
        (lambda: encoder()(SOURCE, PADDED.int()), TypeError, "key_padding_mask as a boolean Tensor"),
        (lambda: encoder()(SOURCE, PADDED | True), ValueError, r"all True for sequence\(s\) \[0, 1\]"),
        (lambda: encoder()(SOURCE, PADDED.flip(1)), ValueError, "Encoder: expected .*padding at the end.*tasks.pad"),
    ],
)
def test_what_an_encoder_cannot_read_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def decoder(wiring="sutskever", attention=None, M=H, **options):
    return Decoder(V_OUT, E, H, M, wiring, attention, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decoder("luong-style"), "Decoder: expected wiring to be one of sutskever, cho, .* got 'luong-style'"),
        (lambda: decoder("luong"), "Decoder: expected attention=a module for wiring='luong', got None"),
        (
            lambda: decoder("cho", ScaledDotProductAttention()),
            "Decoder: expected attention=None for wiring='cho', got Scaled",
        ),
        (
            lambda: decoder("luong", AdditiveAttention(H, H + 1, 3)),
            "hidden_size=4 and keys of memory_size=4, .*AdditiveAttention: .* keys of 5 features, got 4 and 4",
        ),
        (
            lambda: decoder("bahdanau", AdditiveAttention(H + 1, H, 3)),
            "queries of hidden_size=4 .*expected queries of 5 and keys of 4 features",
        ),
        (
            lambda: decoder("luong", MultiheadAttention(H, 2)),
            "batch first, got one that refuses them.*batch_first=True",
        ),
        (
            lambda: decoder("luong", ScaledDotProductAttention(), M=5),
            "expected queries of 4 and keys of 4 features, got 4",
        ),
        (
            lambda: decoder("luong", MultiheadAttention(H, 2, kdim=5, batch_first=True), M=5),
            "MultiheadAttention: expected vdim=5, the keys being the values, got 4",
        ),
        (lambda: decoder(cell="lstmm"), "Decoder: expected cell 'rnn', 'gru' or 'lstm'"),
        (lambda: Seq2Seq(encoder(bidirectional=True), decoder()), "Seq2Seq: expected a decoder with memory_size=8"),
        (lambda: Seq2Seq(encoder(cell="lstm"), decoder())(SOURCE, SOURCE), "Decoder: expected an encoder's state"),
        (
            lambda: Seq2Seq(encoder(num_layers=2), decoder())(SOURCE, SOURCE),
            r"got \[\(2, 2, 4\)\] and 4; .*num_layers",
        ),
        (
            lambda: decoder().start(Encoded(torch.zeros(2, 3, 5), (torch.zeros(2, 1, H),))),
            r"memory of M=4, got .* and 5",
        ),
        (lambda: Seq2Seq(encoder(), decoder())(SOURCE, SOURCE[:1]), "target and source of one batch, got N=1 and N=2"),
        (lambda: Seq2Seq(encoder(), decoder())(SOURCE, SOURCE + 3), "expected target .* from 0 to 6, got 3 to 8"),
        (lambda: Seq2Seq(encoder(), decoder())(SOURCE, SOURCE[:, :0]), "expected target .* at least one token"),
        (lambda: decoder().step(torch.tensor([3, 9]), decoder_state()), "expected tokens .* from 0 to 6, got 3 to 9"),
        (lambda: decoder().step(torch.tensor([3]), decoder_state()), r"hidden .* = \(1, 1, 4\).* got \[\(2, 1, 4\)\]"),
        (lambda: decoder(cell="lstm").step(torch.tensor([3, 3]), decoder_state()), r"expected 2 hidden state\(s\)"),
        (lambda: decoder().step(SOURCE, decoder_state()), r"expected tokens \(N\) of one step, got \(2, 2\)"),
    ],
)
def test_what_a_decoder_cannot_do_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_attention_that_does_not_say_its_size_is_refused():
    with pytest.raises(TypeError, match=r"method context_size\(query_size, key_size\).*got Linear"):
        decoder("luong", nn.Linear(2, 2))


def decoder_state():
    return DecoderState((torch.zeros(2, 1, H),))


@pytest.mark.parametrize("probability", [-0.1, 1.5, "often", True])
def test_a_sampling_probability_is_one(probability):
    with pytest.raises(ValueError, match="Decoder: expected sampling_probability from 0 to 1"):
        Seq2Seq(encoder(), decoder())(SOURCE, SOURCE, sampling_probability=probability)


def test_sampling_needs_a_generator():
    with pytest.raises(TypeError, match=r"Decoder: expected a torch\.Generator to draw with, got NoneType; pass"):
        Seq2Seq(encoder(), decoder())(SOURCE, SOURCE, sampling_probability=0.5)


@pytest.mark.parametrize("module", ["encoder", "decoder", "model", "search", "steps"])
def test_examples(module):
    torch.manual_seed(0)
    results = doctest.testmod(importlib.import_module(f"seqlab.seq2seq.{module}"))
    assert results.failed == 0
    assert results.attempted > 0
