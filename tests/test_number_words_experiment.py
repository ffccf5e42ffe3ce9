"""The translation of number words that three chapters share: its parts, its answers' order, its repeatability."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from seqbook.studies import number_words
from seqbook.studies.number_words import LENGTHS, MODELS, Data, Settings, build, run, scores, train, translate
from seqlab.metrics import length_bins
from seqlab.seq2seq import Hypothesis


@pytest.fixture(scope="module")
def data():
    return Data()


def test_no_number_of_the_test_was_trained_on_and_every_length_is_tested(data):
    seen = {pair.number for pair in data.train}
    assert not seen & {pair.number for pair in data.test}
    assert len({pair.number for pair in data.test}) == len(data.test)
    assert all(len(some) >= 80 for some in length_bins([len(pair.source) for pair in data.test], LENGTHS).values())
    assert max(len(pair.target) for pair in data.train + data.test) < number_words.LONGEST


def test_reverse_turns_the_source_alone(data):
    pairs = data.test[:20]
    for (source, target), (turned, same) in zip(data.encode(pairs), data.encode(pairs, reverse=True), strict=True):
        assert turned.tolist() == [*source[:-1].flip(0).tolist(), source[-1].item()]  # <eos> stays at the end
        assert target.equal(same)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_and_is_scored(model, data):
    few = SimpleNamespace(**{**vars(data), "test": data.test[::20], "encode": data.encode})
    found = run(Settings(model, hidden_size=8, steps=2, bidirectional=model == "additive"), few)
    assert len(found["BLEU"]) == len(found["exact"]) == len(LENGTHS)
    assert all(0 <= score <= 100 for score in found["BLEU"] + found["exact"])


def test_a_seed_gives_the_same_model_again(data):
    settings = Settings("dot", hidden_size=8, steps=3)
    first, second = (train(settings, data).state_dict() for _ in range(2))
    assert all(first[name].equal(second[name]) for name in first)
    other = train(Settings("dot", hidden_size=8, steps=3, seed=1), data).state_dict()
    assert not first["decoder.output.weight"].equal(other["decoder.output.weight"])


def test_answers_come_in_the_order_of_the_pairs(data):
    model, pairs = build(Settings("dot", hidden_size=8), data).eval(), data.test[:40:7]
    together = translate(model, pairs, data)
    alone = [translate(model, [pair], data)[0] for pair in pairs]
    assert [a.tokens.tolist() for a in together] == [a.tokens.tolist() for a in alone]


def test_scores_count_answers_right_to_the_word_by_length(data, monkeypatch):
    """An oracle that errs in long numbers only: a hundred per cent in short bins, none in the last."""

    def oracle(model, pairs, data, reverse):
        targets = [pair.target if len(pair.source) < LENGTHS[-1] else pair.target[:-1] for pair in pairs]
        return [Hypothesis(data.french.encode(target, eos=True), 0.0, 0.0, True) for target in targets]

    monkeypatch.setattr(number_words, "translate", oracle)
    found = scores(None, data)
    assert found["exact"] == [100.0] * (len(LENGTHS) - 1) + [0.0]
    assert found["BLEU"][:-1] == pytest.approx([100.0] * (len(LENGTHS) - 1))
    assert 80 < found["BLEU"][-1] < 100


def test_an_unknown_model_is_named(data):
    with pytest.raises(ValueError, match=r"number_words: expected model to be one of none, .* got 'additiv'"):
        build(Settings("additiv"), data)


def test_answers_are_never_longer_than_longest(data):
    torch.manual_seed(0)
    found = translate(build(Settings("none", hidden_size=4), data).eval(), data.test[:8], data)
    assert all(len(one.tokens) <= number_words.LONGEST for one in found)


def test_another_model_is_an_argument_and_leaves_the_others_as_they_are(data):
    names = list(MODELS)
    settings, models = Settings("mine", hidden_size=8), {"mine": ("sutskever", lambda H: None)}
    assert build(settings, data, models).decoder.wiring == "sutskever"
    assert list(MODELS) == names
    with pytest.raises(ValueError, match="expected model to be one of mine, got 'dot'"):
        build(Settings("dot"), data, models)
