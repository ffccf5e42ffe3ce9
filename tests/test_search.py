"""Greedy and beam search: against all sequences there are, against plain Python, and in cases made by hand."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from seqlab.attention import AdditiveAttention, LuongAttention
from seqlab.seq2seq import Decoder, Encoder, Seq2Seq, beam_search, greedy_search
from seqlab.seq2seq.search import _greatest
from seqlab.tasks import Vocabulary, key_padding_mask

BOS, EOS, V = 1, 2, 4
LENGTHS = (3, 1, 5, 2)
EXACT = {"rtol": 0.0, "atol": 1e-12}


class Table:
    """A model whose next token depends on the last one alone: ``{token: probabilities}``."""

    def __init__(self, table):
        self.table = table

    def start(self, source, key_padding_mask=None):
        return None

    def step(self, tokens, state):
        any_row = next(iter(self.table.values()))  # a dead beam, of probability 0, has some token too
        return torch.tensor([self.table.get(t, any_row) for t in tokens.tolist()], dtype=torch.float64).log(), state


ONE = torch.tensor([[3]])


def make(seed=0, wiring="bahdanau", cell="gru"):
    torch.manual_seed(seed)
    encoder = Encoder(6, 3, 4, cell, bidirectional=True)
    attention = None if wiring in ("cho", "sutskever") else AdditiveAttention(4, 8, 3)
    model = Seq2Seq(encoder, Decoder(V, 3, 4, 8, wiring, attention, cell)).double()
    with torch.no_grad():  # far from uniform
        for parameter in model.parameters():
            parameter.normal_()
    return model


def sources():
    mask = key_padding_mask(LENGTHS)
    return torch.randint(3, 6, mask.shape, generator=torch.Generator().manual_seed(0)).masked_fill(mask, 0), mask


@torch.no_grad()
def log_prob(model, source, answer):
    """Of a whole answer, by teacher forcing."""
    target = torch.tensor([[BOS, *answer]])
    log_probs = model(source.unsqueeze(0), target[:, :-1]).log_softmax(-1)
    return float(log_probs[0, range(len(answer)), answer].sum())


def all_answers(max_length, tokens=V):
    """Every sequence that ends with eos in at most max_length tokens."""
    others = [token for token in range(tokens) if token != EOS]
    for length in range(max_length):
        for beginning in itertools.product(others, repeat=length):
            yield (*beginning, EOS)


def plain(hypotheses):
    return [(tuple(each.tokens.tolist()), each.score, each.log_prob, each.finished) for each in hypotheses]


@pytest.mark.parametrize("wiring", ["sutskever", "cho", "bahdanau", "luong", "input-feeding"])
@pytest.mark.parametrize(("alpha", "normalisation"), [(0.0, "wu"), (0.7, "wu"), (1.0, "length")])
def test_a_beam_that_holds_everything_ranks_all_answers_there_are(wiring, alpha, normalisation):
    model, (source, mask), max_length = make(wiring=wiring), sources(), 3
    found = beam_search(model, source, V**max_length, max_length, mask, alpha=alpha, normalisation=normalisation)
    for n, length in enumerate(LENGTHS):
        ranking = []
        for answer in all_answers(max_length):
            p = log_prob(model, source[n, :length], answer)
            share = len(answer) if normalisation == "length" else (5 + len(answer)) / 6
            ranking.append((p / share**alpha, p, answer))
        ranking.sort(reverse=True)
        ended = [each for each in found[n] if each.finished]
        assert [tuple(each.tokens.tolist()) for each in ended] == [answer for _, _, answer in ranking]
        for each, (score, p, _) in zip(ended, ranking, strict=True):
            assert each.score == pytest.approx(score, abs=1e-12)
            assert each.log_prob == pytest.approx(p, abs=1e-12)
        cut_off = [each for each in found[n] if not each.finished]
        assert len(cut_off) == (V - 1) ** max_length
        assert found[n] == ended + cut_off
        for each in cut_off:
            assert each.log_prob == pytest.approx(log_prob(model, source[n, :length], each.tokens.tolist()), abs=1e-12)


def beam_by_hand(table, B, max_length, share, by_count):
    """One source, in lists: (answer, score, log p, finished). It stops by count, or at max_length alone."""
    live, finished = [((), 0.0)], []
    for _ in range(max_length):
        continued = [
            ((*answer, token), p + math.log(q))
            for answer, p in live
            for token, q in enumerate(table[answer[-1] if answer else BOS])
            if q > 0
        ]
        continued.sort(key=lambda each: -each[1])
        finished += [each for each in continued[:B] if each[0][-1] == EOS]
        live = [each for each in continued if each[0][-1] != EOS][:B]
        if by_count and len(finished) >= B:
            live = []
    finished = sorted(((a, p / share(len(a)), p, True) for a, p in finished), key=lambda each: -each[1])
    return (finished + [(a, p / share(len(a)), p, False) for a, p in live])[:B]


@given(
    weights=st.lists(st.lists(st.integers(0, 5), min_size=5, max_size=5).filter(any), min_size=5, max_size=5),
    beam_size=st.integers(1, 7),
    max_length=st.integers(1, 6),
    alpha=st.sampled_from([0.0, 0.6, 1.0, 1.5]),
    normalisation=st.sampled_from(["wu", "length"]),
    stop=st.sampled_from(["bound", "count"]),
)
@settings(max_examples=200, deadline=None)
def test_any_beam_is_that_of_plain_python_ties_and_impossible_tokens_included(
    weights, beam_size, max_length, alpha, normalisation, stop
):
    """Stopping by bound changes nothing: in plain Python the search goes on to max_length."""
    table = {token: [w / sum(row) for w in row] for token, row in enumerate(weights)}
    options = {"alpha": alpha, "normalisation": normalisation, "stop": stop}
    found = beam_search(Table(table), ONE, beam_size, max_length, **options)[0]

    def share(length):
        return (length if normalisation == "length" else (5 + length) / 6) ** alpha

    by_hand = beam_by_hand(table, beam_size, max_length, share, stop == "count")
    assert [each.score for each in found] == pytest.approx([score for _, score, _, _ in by_hand], abs=1e-12)
    if stop == "count":  # equal scores of different lengths may come in another order where the search ends sooner
        assert [(answer, finished) for answer, _, _, finished in plain(found)] == [
            (answer, finished) for answer, _, _, finished in by_hand
        ]
    for answer, _, p, finished in plain(found):
        steps = zip((BOS, *answer), answer, strict=False)
        assert p == pytest.approx(sum(math.log(table[before][token]) for before, token in steps), abs=1e-12)
        assert finished == (answer[-1] == EOS)


# .6 · .75 = .45 is still alive when two have ended, of .40 and .15
ALIVE = {1: [0, 0, 0.4, 0.6, 0], 3: [0, 0, 0.25, 0, 0.75], 4: [0, 0, 1.0, 0, 0]}


def test_it_goes_on_while_a_live_hypothesis_can_still_win():
    (greedy,) = greedy_search(Table(ALIVE), ONE, 5)
    best = beam_search(Table(ALIVE), ONE, 2, 5)[0]
    assert [(each.tokens.tolist(), round(math.exp(each.log_prob), 2)) for each in best] == [
        ([3, 4, 2], 0.45),
        ([2], 0.4),
    ]
    assert best[0].log_prob == pytest.approx(greedy.log_prob)
    by_count = beam_search(Table(ALIVE), ONE, 2, 5, stop="count")[0]
    assert [each.tokens.tolist() for each in by_count] == [[2], [3, 2]]


@pytest.mark.parametrize(("alpha", "normalisation"), [(1.0, "length"), (2.0, "wu")])
def test_the_bound_knows_what_length_will_do_for_a_live_hypothesis(alpha, normalisation):
    """Of .16 when two have ended, it scores below both at its length then, and above both at its length in the end."""
    chain = {token: [float(token + 1 == after) for after in range(10)] for token in range(4, 9)}
    first = {1: [0, 0, 0.6, 0.4, 0, 0, 0, 0, 0, 0], 3: [0, 0, 0.6, 0, 0.4, 0, 0, 0, 0, 0], 9: [0, 0, 1.0] + 7 * [0]}
    found = beam_search(Table(first | chain), ONE, 2, 8, alpha=alpha, normalisation=normalisation)[0]
    assert [each.tokens.tolist() for each in found] == [[3, 4, 5, 6, 7, 8, 9, 2], [2]]
    assert found[0].log_prob == pytest.approx(math.log(0.16))


@pytest.mark.parametrize(("alpha", "normalisation"), [(0.0, "wu"), (0.6, "wu"), (1.0, "length"), (2.0, "length")])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_that_holds_all_that_live_finds_the_best_of_all_answers(seed, alpha, normalisation):
    """Exhaustive search; the best of all comes first, however early others end."""
    generator, max_length = torch.Generator().manual_seed(seed), 5
    rows = torch.rand(V, V, generator=generator, dtype=torch.float64) ** 3
    table = dict(enumerate((rows / rows.sum(1, keepdim=True)).tolist()))

    def rank(answer):
        p = sum(math.log(table[before][token]) for before, token in zip((BOS, *answer), answer, strict=False))
        return p / (len(answer) if normalisation == "length" else (5 + len(answer)) / 6) ** alpha

    best = max(all_answers(max_length), key=rank)
    B = (V - 1) ** (max_length - 1)  # beginnings that may still go on
    found = beam_search(Table(table), ONE, B, max_length, alpha=alpha, normalisation=normalisation)[0][0]
    assert (tuple(found.tokens.tolist()), found.score) == (best, pytest.approx(rank(best), abs=1e-12))


@given(
    rows=st.lists(st.lists(st.integers(-3, 3), min_size=8, max_size=8), min_size=1, max_size=3),
    k=st.integers(1, 10),
    dead=st.booleans(),
)
@settings(deadline=None)
def test_the_greatest_candidates_are_those_of_a_stable_sort(rows, k, dead):
    candidates = torch.tensor(rows, dtype=torch.float32)
    candidates = candidates.masked_fill(candidates == -3, -math.inf) if dead else candidates
    values, order = _greatest(candidates, k)
    wanted = candidates.sort(dim=1, descending=True, stable=True)
    assert_close(values, wanted.values[:, :k], rtol=0, atol=0)
    alive = values.isfinite()
    assert torch.equal(order[alive], wanted.indices[:, :k][alive])
    assert_close(candidates.gather(1, order), values, rtol=0, atol=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_greedy_is_a_beam_of_one(seed, alpha):
    model, (source, mask) = make(seed), sources()
    greedy = greedy_search(model, source, 6, mask)
    beam = beam_search(model, source, 1, 6, mask, alpha=alpha, stop="count" if alpha else "bound")
    for one, (other,) in zip(greedy, beam, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert (one.finished, one.log_prob) == (other.finished, pytest.approx(other.log_prob, abs=1e-12))
        assert_close(one.weights, other.weights, **EXACT)
        assert one.score == one.log_prob


@pytest.mark.parametrize("wiring", ["cho", "bahdanau", "input-feeding"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_batch_is_searched_as_each_source_alone(wiring, cell):
    model, (source, mask) = make(2, wiring, cell), sources()
    together, greedy = beam_search(model, source, 3, 5, mask), greedy_search(model, source, 5, mask)
    for n, length in enumerate(LENGTHS):
        (alone,) = beam_search(model, source[n : n + 1, :length], 3, 5)
        (first,) = greedy_search(model, source[n : n + 1, :length], 5)
        for ours, its in zip([*together[n], greedy[n]], [*alone, first], strict=True):
            assert ours.tokens.tolist() == its.tokens.tolist()
            assert ours.log_prob == pytest.approx(its.log_prob, abs=1e-12)
            if wiring != "cho":
                assert_close(ours.weights[:, :length], its.weights, **EXACT)


@pytest.mark.parametrize("seed", range(4))
def test_weights_and_log_probs_of_a_hypothesis_are_those_of_teacher_forcing(seed):
    model, (source, mask) = make(seed, "luong"), sources()
    with torch.no_grad():  # nearer to uniform, so that beams change places
        model.decoder.output.weight.mul_(0.3)
        model.decoder.output.bias.zero_()
    for n, several in enumerate(beam_search(model, source, 8, 5, mask)):
        encoded = model.encoder(source[n : n + 1, : LENGTHS[n]])
        for each in several:
            target = torch.cat([torch.tensor([BOS]), each.tokens[:-1]]).unsqueeze(0)
            _, weights = model.decoder(target, encoded, need_weights=True)
            assert_close(each.weights[:, : LENGTHS[n]], weights[0], **EXACT)
            assert each.log_prob == pytest.approx(
                log_prob(model, source[n, : LENGTHS[n]], each.tokens.tolist()), abs=1e-12
            )


def test_a_monotonic_window_moves_with_the_beams():
    torch.manual_seed(0)
    model = Seq2Seq(Encoder(6, 3, 4), Decoder(V, 3, 4, 4, "luong", LuongAttention(4, window="local-m", half_width=1)))
    source = torch.tensor([[3, 4, 5, 3, 4]])
    longest = max(beam_search(model, source, 3, 4)[0], key=lambda each: len(each.tokens))
    assert len(longest.tokens) == 4
    assert (longest.weights != 0).tolist() == [
        [True, True, False, False, False],
        [True, True, True, False, False],
        [False, True, True, True, False],
        [False, False, True, True, True],
    ]


# token 3 is likelier at first, and leads nowhere; 4 ends at once
GARDEN_PATH = {1: [0, 0, 0, 0.6, 0.4], 3: [0, 0, 0.4, 0.3, 0.3], 4: [0, 0, 0.9, 0, 0.1]}


def test_a_beam_of_two_finds_what_greedy_misses():
    (greedy,) = greedy_search(Table(GARDEN_PATH), ONE, 5)
    assert (greedy.tokens.tolist(), greedy.log_prob) == ([3, 2], pytest.approx(math.log(0.24)))
    best = beam_search(Table(GARDEN_PATH), ONE, 2, 5)[0][0]
    assert (best.tokens.tolist(), best.log_prob) == ([4, 2], pytest.approx(math.log(0.36)))


# to end at once has probability 0.3; 3 3 <eos> has 0.7 * 0.6 * 0.6 = 0.252 in three tokens, 0.63 each
SHORT = {1: [0, 0, 0.3, 0.7], 3: [0, 0, 0.6, 0.4]}
LONG = {1: [0, 0, 0.45, 0.55, 0], 3: [0, 0, 0, 0, 1.0], 4: [0, 0, 0.75, 0.25, 0]}


@pytest.mark.parametrize(
    ("alpha", "normalisation", "answer"),
    [
        (0.0, "wu", [2]),  # log 0.45 = -0.799 before log 0.4125 = -0.886
        (0.0, "length", [2]),
        (1.0, "length", [3, 4, 2]),  # -0.799 after -0.886 / 3
        (1.0, "wu", [3, 4, 2]),  # -0.799 after -0.886 / (8 / 6) = -0.664
        (0.2, "wu", [2]),  # -0.799 before -0.886 / 1.059 = -0.836
    ],
)
def test_length_normalisation_changes_the_choice(alpha, normalisation, answer):
    best = beam_search(Table(LONG), ONE, 2, 3, alpha=alpha, normalisation=normalisation)[0][0]
    assert best.tokens.tolist() == answer
    share = len(answer) if normalisation == "length" else (5 + len(answer)) / 6
    assert best.score == pytest.approx(best.log_prob / share**alpha)


def test_at_max_length_the_finished_come_first_and_the_rest_fills_up():
    found = beam_search(Table(SHORT), ONE, 3, 2)[0]
    assert [(answer, finished) for answer, _, _, finished in plain(found)] == [
        ((3, 2), True),  # 0.42
        ((2,), True),  # 0.3
        ((3, 3), False),  # 0.28
    ]
    endless = Table({1: [0, 0, 0, 1], 3: [0, 0, 0, 1]})
    (greedy,) = greedy_search(endless, ONE, 4)
    (beam,) = beam_search(endless, ONE, 2, 4)  # there is but one answer
    for each in (greedy, *beam):
        assert plain([each]) == [((3, 3, 3, 3), 0.0, 0.0, False)]


def test_ties_go_to_the_earlier_beam_then_to_the_smaller_token():
    even = Table({token: [0.2] * 5 for token in range(5)})
    found = beam_search(even, ONE, 4, 2)[0]
    assert [each.tokens.tolist() for each in found] == [[2], [0, 2], [0, 0], [0, 1]]
    assert greedy_search(even, ONE, 1)[0].tokens.tolist() == [0]


@pytest.mark.parametrize("seed", range(3))
def test_the_trace_tells_every_beam_and_every_end(seed):
    model, (source, mask), steps = make(seed), sources(), []
    found = beam_search(model, source, 3, 6, mask, stop="count", on_step=steps.append)
    for n in range(len(source)):
        beams, ended = [()] * 3, []
        for step in steps:
            assert step.tokens.shape == step.parents.shape == step.log_probs.shape == (len(source), 3)
            for each in step.finished[n]:
                assert tuple(each.tokens[:-1].tolist()) in beams
                ended.append(tuple(each.tokens.tolist()))
            beams = [
                (*beams[parent], token)
                for token, parent in zip(step.tokens[n].tolist(), step.parents[n].tolist(), strict=True)
            ]
            if len(ended) >= 3:
                break
            for beam, p in zip(beams, step.log_probs[n].tolist(), strict=True):
                if math.isfinite(p):
                    assert p == pytest.approx(log_prob(model, source[n, : LENGTHS[n]], beam), abs=1e-12)
        assert {answer for answer, _, _, finished in plain(found[n]) if finished} <= set(ended)
        assert {answer for answer, _, _, finished in plain(found[n]) if not finished} <= set(beams)


def test_it_stops_when_all_are_finished():
    seen = []

    class Counted(Table):
        def step(self, tokens, state):
            seen.append(len(tokens))
            return super().step(tokens, state)

    greedy_search(Counted(GARDEN_PATH), ONE, 50)
    assert seen == [1, 1]
    seen.clear()
    beam_search(Counted(GARDEN_PATH), ONE, 2, 50)
    assert seen == [2, 2]


class Parts(NamedTuple):
    tokens: Tensor
    nested: tuple
    shared: str
    nothing: None = None


def test_states_of_any_nesting_are_picked_row_by_row():
    class Remember:
        """Every part of the state holds what has been written; they must not part ways."""

        def start(self, source, key_padding_mask=None):
            empty = source.new_zeros(len(source), 0)
            return Parts(empty, (empty, [empty, {"deep": empty}]), "all")

        def step(self, tokens, state):
            assert (state.shared, state.nothing) == ("all", None)
            outer, [inner, deep] = state.nested
            for each in (outer, inner, deep["deep"]):
                assert_close(each, state.tokens, rtol=0, atol=0)
            now = torch.cat([state.tokens, tokens.unsqueeze(1)], dim=1)
            p = torch.tensor([[0, 0, 0.1, 0.5 + 0.01 * (i % 3), 0.4 - 0.01 * (i % 3)] for i in range(len(tokens))])
            return p.log(), Parts(now, (now, [now, {"deep": now}]), "all")

    assert len(beam_search(Remember(), torch.zeros(2, 1, dtype=torch.int64), 3, 5)) == 2


def test_searches_keep_no_graph_and_use_the_numbers_of_the_vocabulary():
    model, (source, mask) = make(), sources()
    assert not greedy_search(model, source, 3, mask)[0].weights.requires_grad
    assert (Vocabulary.bos, Vocabulary.eos) == (BOS, EOS)
    table = Table({0: [0, 0.2, 0.3, 0.5], 3: [0, 0.6, 0.2, 0.2]})
    assert greedy_search(table, ONE, 5, bos=0, eos=1)[0].tokens.tolist() == [3, 1]
    assert beam_search(table, ONE, 1, 5, bos=0, eos=1)[0][0].tokens.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: greedy_search(Table(SHORT), ONE, 0), ValueError, "greedy_search: expected max_length of at least 1"),
        (lambda: beam_search(Table(SHORT), ONE, 0, 5), ValueError, "beam_search: expected beam_size of at least 1"),
        (lambda: beam_search(Table(SHORT), ONE, 2.0, 5), TypeError, "beam_search: expected beam_size as an int"),
        (lambda: beam_search(Table(SHORT), [3], 2, 5), TypeError, "beam_search: expected source as a Tensor, got list"),
        (lambda: beam_search(Table(SHORT), ONE[:0], 2, 5), ValueError, r"at least one source .* got \(0, 1\)"),
        (lambda: beam_search(Table(SHORT), ONE, 2, 5, alpha=-1), ValueError, "expected alpha as a number from 0 on"),
        (
            lambda: beam_search(Table(SHORT), ONE, 2, 5, normalisation="mean"),
            ValueError,
            "beam_search: expected normalisation 'wu' or 'length', got 'mean'",
        ),
        (lambda: beam_search(Table(SHORT), ONE, 2, 5, stop="early"), ValueError, "expected stop 'bound' or 'count'"),
        (lambda: greedy_search(Table(SHORT), ONE, 5, bos=ONE[0]), TypeError, "bos as an int, or None .* got Tensor"),
        (lambda: beam_search(Table(SHORT), ONE, 2, 5, bos=None), TypeError, r"method begin\(.* got Table; pass the"),
        (lambda: greedy_search(Table({1: [0.5, 0.5]}), ONE, 5), ValueError, r"\(N, V\) = \(1, more than eos=2\)"),
        (lambda: greedy_search(Table({1: [math.nan] * 4}), ONE, 5), ValueError, "greedy_search: .* got NaN"),
        (
            lambda: greedy_search(make(), torch.tensor([[3, 3]]), 5, torch.tensor([[True, True]])),
            ValueError,
            "all True for sequence",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
