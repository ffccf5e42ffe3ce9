"""The study of the six guests: its sentences, its readers against torch, and that no network knows of another."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from seqbook.studies.guests import (
    NAMES,
    PLACES,
    WHICH,
    Attention,
    Recurrent,
    Shortcut,
    accuracy,
    lone_drink,
    losses,
    orders,
    train,
)

READERS = {
    "bag": lambda S: Shortcut(S, None, 6),
    "window": lambda S: Shortcut(S, 4, 6),
    "RNN": lambda S: Recurrent(S, "RNN", 6),
    "RNN with a layer": lambda S: Recurrent(S, "RNN", 6, hidden=5),
    "question first": lambda S: Recurrent(S, "RNN", 6, first=True),
    "GRU": lambda S: Recurrent(S, "GRU", 6),
    "attention": lambda S: Attention(S, 6),
    "attention without labels": lambda S: Attention(S, 6, label=False),
}
every_reader = pytest.mark.parametrize("kind", READERS)


def made(kind, S=2):
    torch.manual_seed(0)
    return READERS[kind](S)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_sentence_names_each_guest_once_and_the_drink_stands_after_the_name():
    task = orders(3, 50, generator())
    guests, drinks = task.words[..., 0::2], task.words[..., 1::2]
    assert (guests.sort(-1).values == NAMES + torch.arange(6)).all()
    assert task.questions.equal(guests)
    assert task.answers.equal(drinks)
    assert task.counts.tolist() == [[place <= moment for place in range(6)] for moment in range(6)]
    assert len(set(guests[..., 0].flatten().tolist())) == 6  # anybody may come first


def test_questions_by_place_and_a_fixed_order():
    task = orders(1, 20, generator(), by="place", shuffled=False)
    assert (task.questions == PLACES + torch.arange(6)).all()
    assert (task.words[..., 0::2] == NAMES + torch.arange(6)).all()


def test_fewer_guests_than_names():
    task = orders(1, 200, generator(), present=3, names=24)
    guests = task.words[..., 0::2]
    assert guests.shape == (1, 200, 3)
    assert len(guests.unique()) == 24
    assert all(len(set(row.tolist())) == 3 for row in guests[0])


def test_the_lone_drink_stands_where_it_should():
    task = lone_drink(1, 300, generator(), places=range(5, 10))
    is_drink = task.words < WHICH
    assert (is_drink.sum(-1) == 1).all()
    assert set(is_drink.int().argmax(-1).flatten().tolist()) == {5, 6, 7, 8, 9}
    assert task.words[is_drink].equal(task.answers.flatten())


@pytest.mark.parametrize(("kind", "theirs"), [("RNN", nn.RNN), ("GRU", nn.GRU)])
def test_states_are_those_of_torch(kind, theirs):
    reader = made(kind)
    task = orders(2, 4, generator())
    for s in range(2):
        layer = theirs(6, 6, batch_first=True)
        with torch.no_grad():
            layer.weight_ih_l0.copy_(reader.input.weight[s].T)
            layer.weight_hh_l0.copy_(reader.recurrent.weight[s].T)
            layer.bias_ih_l0.copy_(reader.input.bias[s, 0])
            layer.bias_hh_l0.copy_(reader.recurrent.bias[s, 0])
        assert_close(reader.states(task.words)[s], layer(reader.embedding(task.words)[s])[0], atol=1e-6, rtol=1e-5)


def test_attention_weights_add_up_to_one_and_see_nothing_unread():
    weights = made("attention").weights(orders(2, 3, generator()))
    assert weights.shape == (2, 3, 6, 6, 12)
    assert_close(weights.sum(-1), torch.ones(2, 3, 6, 6))
    assert (weights[:, :, 2, :, 6:] == 0).all()


@every_reader
def test_later_words_change_no_earlier_answer(kind):
    reader, task = made(kind), orders(2, 3, generator())
    changed = task._replace(words=torch.cat([task.words[..., :6], orders(2, 3, generator(1)).words[..., 6:]], -1))
    assert_close(reader(changed)[:, :, :3], reader(task)[:, :, :3])


def test_a_bag_does_not_know_the_order_and_a_window_not_what_is_outside():
    task = orders(2, 3, generator())
    swapped = task._replace(words=task.words.flip(-1))
    assert_close(made("bag")(swapped)[:, :, -1], made("bag")(task)[:, :, -1])
    outside = task._replace(words=torch.cat([task.words[..., :8].flip(-1), task.words[..., 8:]], -1))
    assert made("window")(outside)[:, :, -1].equal(made("window")(task)[:, :, -1])


def test_attention_without_labels_is_a_bag():
    task = orders(2, 3, generator())
    swapped = task._replace(words=task.words.flip(-1))
    plain, labelled = made("attention without labels"), made("attention")
    assert_close(plain(swapped)[:, :, -1], plain(task)[:, :, -1])
    assert not torch.allclose(labelled(swapped)[:, :, -1], labelled(task)[:, :, -1])


@every_reader
def test_networks_share_nothing(kind):
    reader, task = made(kind), orders(2, 3, generator())
    losses(reader(task), task)[0].backward()
    for name, parameter in reader.named_parameters():
        assert parameter.grad[0].any(), name
        assert not parameter.grad[1].any(), name


def test_training_is_adamw_of_each_network_alone():
    """Against torch.optim.AdamW with the same sentences, clipping and falling rate, one network at a time."""
    reader, rates, updates = made("RNN"), torch.tensor([0.01, 0.003]), 5
    start = [p.detach().clone() for p in reader.parameters()]
    train(reader, orders, rates, updates, seed=3, N=4)
    for s in range(2):
        single = made("RNN", S=1)
        with torch.no_grad():
            for p, old in zip(single.parameters(), start, strict=True):
                p.copy_(old[s : s + 1])
        optimizer, source = torch.optim.AdamW(single.parameters(), lr=1.0, weight_decay=0.01), generator(3)
        for update in range(updates):
            both = orders(2, 4, source)
            task = both._replace(**{k: getattr(both, k)[s : s + 1] for k in ("words", "questions", "answers")})
            optimizer.param_groups[0]["lr"] = float(rates[s]) * (1 - 0.98 * update / updates)
            optimizer.zero_grad()
            losses(single(task), task).sum().backward()
            nn.utils.clip_grad_norm_(single.parameters(), 1.0)
            optimizer.step()
        for (name, p), q in zip(reader.named_parameters(), single.parameters(), strict=True):
            assert_close(p[s : s + 1], q, msg=lambda text, name=name: f"{name}: {text}", atol=1e-5, rtol=1e-4)


def test_one_order_is_learned_and_accuracy_counts_what_was_read():
    reader = Recurrent(2, "RNN", 16)
    one = functools.partial(orders, present=2)
    train(reader, one, torch.full((2,), 0.03), updates=60, seed=0)
    found = accuracy(reader, one, 2, seed=1, N=400)
    assert found.shape == (2, 2, 2)
    assert found[:, 0, 0].min() > 0.9
    assert found[:, 0, 1].isnan().all()  # not ordered yet
