"""Sampling: drawn frequencies against the exact distribution, truncations against plain Python, what is refused."""

from __future__ import annotations

import doctest
import importlib
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from seqlab.seq2seq import Decoder, Encoder, Seq2Seq, greedy_search, sample
from seqlab.seq2seq.sampling import reweighted
from seqlab.tasks import key_padding_mask
from seqlab.transformer import LanguageModel

BOS, EOS = 1, 2


class Table:
    """A model whose next token depends on the last one alone: ``{token: probabilities}``."""

    def __init__(self, table):
        self.table = table

    def start(self, source, key_padding_mask=None):
        return None

    def step(self, tokens, state):
        rows = [self.table.get(t, self.table[BOS]) for t in tokens.tolist()]  # a row that has ended draws on, unseen
        return torch.tensor(rows, dtype=torch.float64).log(), state


TABLE = {1: [0, 0, 0.1, 0.6, 0.3], 3: [0, 0, 0.3, 0.2, 0.5], 4: [0, 0, 0.5, 0.45, 0.05]}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def truncated(p, temperature=1.0, top_k=None, top_p=None):
    """q of one distribution, token by token in plain Python."""
    q = {v: x ** (1 / temperature) for v, x in enumerate(p) if x > 0}
    kept = sorted(q, key=lambda v: (-q[v], v))[:top_k]
    if top_p is not None:
        total, fewest, reached = math.fsum(q[v] for v in kept), [], 0.0
        for v in kept:
            if reached >= top_p * total:
                break
            fewest.append(v)
            reached += q[v]
        kept = fewest
    total = math.fsum(q[v] for v in kept)
    return [q[v] / total if v in kept else 0.0 for v in range(len(p))]


OPTIONS = [{}, {"temperature": 0.5}, {"temperature": 3.0}, {"top_k": 2}, {"top_p": 0.55}]
OPTIONS += [{"temperature": 2.0, "top_k": 2, "top_p": 0.6}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_answers_come_as_often_as_their_probability_says(options):
    n, max_length = 20000, 3
    answers = sample(Table(TABLE), torch.zeros(n, 1), max_length, generator=generator(), **options)
    counts: dict[tuple, int] = {}
    for answer in answers:
        counts[tuple(answer.tokens.tolist())] = counts.get(tuple(answer.tokens.tolist()), 0) + 1
    table = {token: truncated(row, **options) for token, row in TABLE.items()}
    exact = {}
    for length in range(1, max_length + 1):
        for answer in itertools.product((2, 3, 4), repeat=length):
            if 2 not in answer[:-1] and (answer[-1] == 2 or length == max_length):
                exact[answer] = math.prod(table[a][b] for a, b in itertools.pairwise((BOS, *answer)))
    assert sum(exact.values()) == pytest.approx(1.0)
    assert set(counts) <= {answer for answer, p in exact.items() if p > 0}
    chi_square = sum((counts.get(a, 0) - n * p) ** 2 / (n * p) for a, p in exact.items() if p > 0)
    freedom = sum(p > 0 for p in exact.values()) - 1
    assert chi_square <= freedom + 4 * math.sqrt(2 * freedom) + 1e-9


@given(
    weights=st.lists(st.integers(0, 6), min_size=2, max_size=9).filter(any),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.none() | st.integers(1, 10),
    top_p=st.none() | st.sampled_from([1e-6, 0.1, 0.37, 0.511, 0.83, 0.997, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_a_truncated_distribution_is_that_of_plain_python(weights, temperature, top_k, top_p):
    p = [w / sum(weights) for w in weights]
    found = reweighted(torch.tensor([p, p[::-1]], dtype=torch.float64).log(), temperature, top_k, top_p).exp()
    for row, wanted in zip(found, (p, p[::-1]), strict=True):
        assert_close(row, torch.tensor(truncated(wanted, temperature, top_k, top_p), dtype=torch.float64))


@pytest.mark.parametrize(("top_p", "kept"), [(0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.76, 4)])
def test_top_p_is_reached_by_a_sum_that_equals_it_and_equal_tokens_go_by_number(top_p, kept):
    found = reweighted(torch.zeros(1, 4), 1.0, None, top_p).exp()
    assert_close(found, torch.tensor([[1 / kept] * kept + [0.0] * (4 - kept)]))


def test_top_p_of_one_and_top_k_of_all_leave_everything():
    log_probs = torch.randn(3, 1000, generator=generator()).log_softmax(1)
    for options in ((1.0, None, 1.0), (1.0, 1000, None), (1.0, 5000, 1.0)):
        assert_close(reweighted(log_probs, *options), log_probs)


def make_models():
    torch.manual_seed(0)
    encoder = Encoder(6, 3, 4)
    models = Seq2Seq(encoder, Decoder(6, 3, 4, 4, "sutskever")), LanguageModel(6, 8, 2, 1, dim_feedforward=16)
    with torch.no_grad():
        for model in models:
            for parameter in model.parameters():
                parameter.normal_()
    return [model.double().eval() for model in models]


MASK = key_padding_mask([3, 1, 2])
SOURCE = torch.tensor([[3, 4, 5], [4, 0, 0], [5, 3, 0]])


@pytest.mark.parametrize("temperature", [1e-3, 1e-45])
@pytest.mark.parametrize("which", [0, 1], ids=["seq2seq", "language-model"])
def test_towards_temperature_zero_it_is_greedy(which, temperature):
    model, options = make_models()[which], {"bos": None if which else 1}
    greedy = greedy_search(model, SOURCE, 6, MASK, **options)
    cold = sample(model, SOURCE, 6, MASK, temperature=temperature, generator=generator(), **options)
    one = sample(model, SOURCE, 6, MASK, top_k=1, temperature=5.0, generator=generator(), **options)
    tiny = sample(model, SOURCE, 6, MASK, top_p=1e-9, generator=generator(), **options)
    for some in (cold, one, tiny):
        assert [each.tokens.tolist() for each in some] == [each.tokens.tolist() for each in greedy]
        assert [each.log_prob for each in some] == pytest.approx([each.log_prob for each in greedy], abs=1e-12)


@torch.no_grad()
def test_a_language_model_with_its_cache_draws_what_the_whole_pass_draws():
    _, model = make_models()
    options = {"temperature": 1.3, "top_k": 4}
    answers = sample(model, SOURCE, 6, MASK, bos=None, generator=generator(7), **options)
    rows, replay = [row[~mask].tolist() for row, mask in zip(SOURCE, MASK, strict=True)], generator(7)
    for _ in range(max(len(answer.tokens) for answer in answers)):  # the whole pass again, one row at a time
        log_probs = torch.stack([model(torch.tensor([row]))[0, -1].log_softmax(-1) for row in rows])
        drawn = torch.multinomial(reweighted(log_probs, 1.3, 4, None).exp(), 1, generator=replay)
        rows = [[*row, int(token)] for row, token in zip(rows, drawn, strict=True)]
    for answer, row, mask in zip(answers, rows, MASK, strict=True):
        prompt = int((~mask).sum())
        assert answer.tokens.tolist() == row[prompt : prompt + len(answer.tokens)]
        assert answer.finished == (answer.tokens[-1] == EOS)
        assert EOS not in answer.tokens[:-1]
        log_probs = model(torch.tensor([row]))[0].log_softmax(-1)[prompt - 1 :]
        wanted = log_probs[range(len(answer.tokens)), answer.tokens].sum().item()
        assert answer.log_prob == answer.score == pytest.approx(wanted, abs=1e-12)  # of the model itself


def test_the_seed_decides_and_nothing_else_is_drawn_from():
    model, _ = make_models()
    before = torch.get_rng_state()
    first, again, other = ([a.tokens.tolist() for a in draws(model, seed)] for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def draws(model, seed):
    return sample(model, SOURCE.repeat(4, 1), 6, MASK.repeat(4, 1), generator=generator(seed))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_drawn_from_in_single_precision(dtype):
    class Half(Table):
        def step(self, tokens, state):
            return super().step(tokens, state)[0].to(dtype), state

    answers = sample(Half(TABLE), torch.zeros(2000, 1), 1, top_p=0.85, generator=generator())
    share = sum(answer.tokens.item() == 3 for answer in answers) / 2000
    assert share == pytest.approx(2 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (ValueError, "temperature as a number above 0, got 0; use greedy_search", {"temperature": 0}),
        (ValueError, "temperature as a number above 0, got -1.0", {"temperature": -1.0}),
        (ValueError, "temperature as a number above 0, got inf", {"temperature": math.inf}),
        (ValueError, "temperature as a number above 0, got None", {"temperature": None}),
        (ValueError, "temperature as a number above 0, got nan", {"temperature": math.nan}),
        (ValueError, "top_k of at least 1, got 0", {"top_k": 0}),
        (TypeError, "top_k as an int, got 2.5", {"top_k": 2.5}),
        (ValueError, r"top_p as a number above 0 and up to 1, got 1\.5; leave it out", {"top_p": 1.5}),
        (ValueError, "top_p as a number above 0 and up to 1, got 0.0", {"top_p": 0.0}),
        (TypeError, "torch.Generator to draw with, got int", {"generator": 3}),
        (TypeError, r"model with a method begin\(.* got Table", {"bos": None}),
        (ValueError, "max_length of at least 1", {"max_length": 0}),
    ],
)
def test_refused(error, match, options):
    arguments = {"max_length": 3, "generator": generator(), **options}
    with pytest.raises(error, match=f"sample: expected .*{match}"):
        sample(Table(TABLE), torch.zeros(1, 1), **arguments)


def test_examples_in_docstrings():
    results = doctest.testmod(importlib.import_module("seqlab.seq2seq.sampling"))
    assert results.failed == 0
    assert results.attempted > 0
