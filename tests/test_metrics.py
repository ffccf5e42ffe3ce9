"""Metrics against their definitions, written out here a second time, and against numbers worked out on paper."""

from __future__ import annotations

import math
import sys
from collections import Counter
from functools import cache
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.metrics import (
    accuracy_by_length,
    bleu,
    edit_distance,
    length_bins,
    phoneme_error_rate,
    word_error_rate,
)

tokens = st.lists(st.sampled_from("abc"), max_size=7)
sentences = st.lists(st.sampled_from(["one", "two", "three", "and"]), max_size=9)
few = settings(max_examples=80, deadline=None)


def defined_distance(first, second):
    """The definition by recursion: drop, insert or put in place the first token."""

    @cache
    def rest(i, j):
        if i == len(first) or j == len(second):
            return len(first) - i + len(second) - j
        return min(rest(i + 1, j) + 1, rest(i, j + 1) + 1, rest(i + 1, j + 1) + (first[i] != second[j]))

    return rest(0, 0)


def defined_bleu(hypotheses, references):
    """Papineni et al. (2002), sections 2.1.1 to 2.3, unsmoothed; None where an order has no right n-gram."""

    def ngrams(words, n):
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    logs = 0.0
    for n in range(1, 5):
        right = total = 0
        for hypothesis, several in zip(hypotheses, references, strict=True):
            counts = ngrams(hypothesis, n)
            total += sum(counts.values())
            right += sum(min(count, max(ngrams(one, n)[gram] for one in several)) for gram, count in counts.items())
        if right == 0:
            return None
        logs += math.log(right / total) / 4
    c = sum(map(len, hypotheses))
    r = sum(
        min((abs(len(one) - len(hypothesis)), len(one)) for one in several)[1]
        for hypothesis, several in zip(hypotheses, references, strict=True)
    )
    return 100 * math.exp(min(0.0, 1 - r / c) + logs)


# Edits


@few
@given(first=tokens, second=tokens)
def test_the_distance_is_the_defined_one(first, second):
    assert edit_distance(first, second) == defined_distance(tuple(first), tuple(second))
    assert edit_distance(tuple(second), first) == edit_distance(first, second)


@pytest.mark.parametrize(
    ("first", "second", "edits"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("ab", "ba", 2),
        ("intention", "execution", 5),
        ("abc", "abc", 0),
        ("abcd", "bcd", 1),
    ],
)
def test_distances_literally(first, second, edits):
    assert edit_distance(list(first), list(second)) == edits


def test_tokens_are_compared_by_equality_not_by_hash():
    assert hash(-1) == hash(-2)
    assert edit_distance([-1], [-2]) == 1
    assert edit_distance(["a"], [97]) == 1
    assert edit_distance(["AH", "AH0"], ["AH0"]) == 1


# Error rates

K_AE_T, K_AE_T_S, D_AO_G = ["K", "AE", "T"], ["K", "AE", "T", "S"], ["D", "AO", "G"]


def test_rates_literally():
    assert phoneme_error_rate([K_AE_T, D_AO_G], [[K_AE_T_S], [D_AO_G]]) == 1 / 7
    assert word_error_rate([K_AE_T, D_AO_G], [[K_AE_T_S], [D_AO_G]]) == 1 / 2
    assert phoneme_error_rate([K_AE_T * 2], [[K_AE_T]]) == 1.0
    assert phoneme_error_rate([[]], [[K_AE_T]]) == 1.0
    assert phoneme_error_rate([["x", "y"]], [[["z"]]]) == 2.0
    assert word_error_rate([tuple(K_AE_T)], [[K_AE_T]]) == 0.0
    assert word_error_rate([D_AO_G] * 10, [[D_AO_G]] * 9 + [[K_AE_T]]) == 0.1


def test_the_best_reference_counts_and_the_shorter_of_two():
    assert phoneme_error_rate([K_AE_T], [[D_AO_G, K_AE_T_S, K_AE_T]]) == 0.0
    assert word_error_rate([K_AE_T], [[D_AO_G, K_AE_T]]) == 0.0
    shorter, longer = ["K", "AE"], K_AE_T_S  # one edit each
    assert phoneme_error_rate([K_AE_T], [[longer, shorter]]) == phoneme_error_rate([K_AE_T], [[shorter, longer]]) == 0.5


@few
@given(items=st.lists(st.tuples(tokens, st.lists(tokens.filter(len), min_size=1, max_size=3)), min_size=1, max_size=5))
def test_rates_by_definition(items):
    hypotheses, references = ([item[i] for item in items] for i in (0, 1))
    best = [min((defined_distance(tuple(h), tuple(r)), len(r)) for r in several) for h, several in items]
    wanted = sum(edits for edits, _ in best) / sum(length for _, length in best)
    assert phoneme_error_rate(hypotheses, references) == wanted
    assert word_error_rate(hypotheses, references) == sum(edits > 0 for edits, _ in best) / len(items)


# BLEU


@few
@given(
    items=st.lists(
        st.tuples(sentences, st.lists(sentences.filter(len), min_size=1, max_size=3)), min_size=1, max_size=5
    )
)
def test_bleu_is_the_defined_one(items):
    hypotheses, references = ([item[i] for item in items] for i in (0, 1))
    wanted = defined_bleu(hypotheses, references)
    got = bleu(hypotheses, references)
    if wanted is None:  # smoothed: small, and not above what a single right n-gram would give
        assert 0 <= got < 100
    else:
        assert got == pytest.approx(wanted, rel=1e-9)


def test_bleu_literally():
    said = ["vingt", "et", "un", "mille", "deux"]
    assert bleu([said], [[said]]) == pytest.approx(100)
    # 4/5 words, 3/4 pairs, 2/3 triples, 1/2 of four
    wrong_at_the_end = [*said[:-1], "trois"]
    assert bleu([wrong_at_the_end], [[said]]) == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # all right, one word of five missing: the brevity penalty alone
    assert bleu([said[:-1]], [[said]]) == pytest.approx(100 * math.exp(1 - 5 / 4))


def test_bleu_takes_tokens_as_they_are():
    odd = ["quatre-vingt", "dix,", "1.000.000", "&amp;", "Été", "."]
    assert bleu([odd], [[odd]]) == pytest.approx(100)
    assert bleu([[word.lower() for word in odd]], [[odd]]) < 70
    # "dix," is one token, and wrong: sacrebleu's own tokenizer would part it, and find "dix" right
    got = bleu([["a", "b", "c", "d", "dix,"]], [[["a", "b", "c", "d", "dix"]]])
    assert got == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_bleu_takes_several_references_of_different_number():
    hypotheses = [["a", "b", "c", "d", "e"], ["f", "g", "h", "i"]]
    references = [[["a", "b", "c", "d", "x"], ["y", "b", "c", "d", "e"]], [["f", "g", "h", "i"]]]
    assert bleu(hypotheses, references) == pytest.approx(defined_bleu(hypotheses, references))


def test_bleu_of_periods_is_quiet(capfd, caplog):
    assert bleu([["a", "b", "c", "."]] * 200, [[["a", "b", "c", "."]]] * 200) == pytest.approx(100)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_bleu_refuses():
    with pytest.raises(ValueError, match="tokens without white space, and not empty, got 'a b'; split it"):
        bleu([["a b"]], [[["a"]]])
    with pytest.raises(ValueError, match="and not empty, got ''"):
        bleu([["a"]], [[["a", ""]]])
    with pytest.raises(TypeError, match=r"bleu: expected tokens as str, got 3; use Vocabulary\.decode"):
        bleu([[3]], [[["a"]]])


# By length


def test_bins_literally():
    assert length_bins([3, 12, 5, 6, 30], (3, 6, 9, 12)) == {"3-5": [0, 2], "6-8": [3], "9-11": [], "12+": [1, 4]}
    assert length_bins([1, 2, 4], (1, 2, 3)) == {"1": [0], "2": [1], "3+": [2]}
    assert length_bins([], (1,)) == {"1+": []}


@few
@given(lengths=st.lists(st.integers(1, 40)), edges=st.sets(st.integers(2, 40), max_size=5))
def test_every_item_is_in_one_bin(lengths, edges):
    bins = length_bins(lengths, [1, *sorted(edges)])
    assert sorted(chain(*bins.values())) == list(range(len(lengths)))
    for name, items in bins.items():
        low, _, high = name.rstrip("+").partition("-")
        top = math.inf if name.endswith("+") else int(high or low)
        assert all(int(low) <= lengths[i] <= top for i in items)


def test_accuracy_by_length_also_of_tensors():
    wanted = {"3-5": 0.5, "6+": 1.0}
    assert accuracy_by_length([True, False, True], [3, 5, 9], (3, 6)) == wanted
    assert accuracy_by_length(torch.tensor([1, 0, 1]), torch.tensor([3, 5, 9]), (3, 6)) == wanted
    assert math.isnan(accuracy_by_length([True], [3], (3, 6))["6+"])


def test_bins_refuse():
    with pytest.raises(ValueError, match="expected lengths of at least 3, the first edge, got 2; lower the edge"):
        length_bins([5, 2], (3, 6))
    for edges in ((), (3, 3), (6, 3)):
        with pytest.raises(ValueError, match="expected edges that ascend, at least one, got"):
            length_bins([5], edges)
    with pytest.raises(ValueError, match="expected a length for every answer, got 2 lengths for 1"):
        accuracy_by_length([True], [3, 4], (3,))


# What all refuse

every_metric = pytest.mark.parametrize("metric", [phoneme_error_rate, word_error_rate, bleu], ids=lambda f: f.__name__)


@every_metric
def test_shapes_that_do_not_fit_are_named(metric):
    who = f"^{metric.__name__}: "
    with pytest.raises(ValueError, match=who + "expected a list of references for every hypothesis, got 1 for 2"):
        metric([["a"], ["b"]], [[["a"]]])
    with pytest.raises(ValueError, match=who + "expected at least one hypothesis, got none"):
        metric([], [])
    with pytest.raises(ValueError, match=who + "expected at least one reference for every hypothesis, got none"):
        metric([["a"]], [[]])
    with pytest.raises(TypeError, match=who + r".*each a list of tokens, got \['a'\]; wrap a single reference"):
        metric([["a"]], [["a"]])
    with pytest.raises(TypeError, match=who + r"expected a list or tuple of tokens, got str; use text\.split\(\)"):
        metric(["a"], [[["a"]]])


def test_tensors_are_no_tokens():
    with pytest.raises(TypeError, match=r"edit_distance: .* got Tensor; use .* tensor\.tolist\(\) for numbers"):
        edit_distance(torch.tensor([1]), [1])


def test_a_rate_over_no_phonemes_is_refused():
    with pytest.raises(ValueError, match="phoneme_error_rate: expected references with tokens, got empty ones only"):
        phoneme_error_rate([["a"]], [[[]]])


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(
        ModuleNotFoundError, match=r'edit_distance: .*package rapidfuzz, .*pip install "seqlab\[data\]"'
    ):
        edit_distance([], [])
    with pytest.raises(ModuleNotFoundError, match=r'bleu: .*package sacrebleu, .*pip install "seqlab\[data\]"'):
        bleu([["a"]], [[["a"]]])


KINDS = {
    "tensors": lambda numbers: list(torch.tensor(numbers)),
    "arrays": lambda numbers: list(np.array(numbers)),
    "arrays-of-none": lambda numbers: [np.array(number) for number in numbers],
    "floats": lambda numbers: [float(number) for number in numbers],
}


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_equal_by_value_not_by_identity(kind):
    make = KINDS[kind]
    assert edit_distance(make([1, 2, 3]), make([1, 3])) == edit_distance(make([1, 2, 3]), [1, 3]) == 1
    assert word_error_rate([make([1, 2])], [[[1, 2]]]) == word_error_rate([[1, 2]], [[make([1, 2])]]) == 0
    assert phoneme_error_rate([make([1, 2])], [[make([1, 4]), [1, 5]]]) == 0.5


@pytest.mark.parametrize("metric", [edit_distance, lambda a, b: word_error_rate([a], [[b]])])
@pytest.mark.parametrize("tokens", [[torch.ones(2)], [np.ones(2)]])
def test_a_token_of_several_values_is_refused(metric, tokens):
    with pytest.raises(TypeError, match="expected tokens of one value each, got a tensor or array of several"):
        metric(tokens, tokens)
