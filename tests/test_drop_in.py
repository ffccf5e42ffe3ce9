"""A model written with torch.nn's recurrent layers, and the same with seqlab's in their places."""

from __future__ import annotations

import copy
import pickle
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import seqlab

LENGTHS = torch.tensor([4, 9, 7])


class Tagger(nn.Module):
    """Packed bidirectional LSTM of two layers, then a checkpointed GRU, then an RNN: tags for each of the tokens."""

    def __init__(self, layers: ModuleType) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.lstm = layers.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = layers.GRU(10, 8, batch_first=True)
        self.rnn = layers.RNN(8, 8, batch_first=True, nonlinearity="relu")
        self.tags = nn.Linear(8, 4)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.embedding(tokens)
        if lengths is None:
            x, _ = self.lstm(x)
        else:
            packed, _ = self.lstm(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
            x, _ = pad_packed_sequence(packed, batch_first=True)
        x, _ = checkpoint(self.gru, x, use_reentrant=False) if self.training else self.gru(x)
        return self.tags(self.rnn(x)[0])


@pytest.fixture
def models():
    """Both, with the same weights."""
    torch.manual_seed(0)
    theirs, ours = Tagger(nn), Tagger(seqlab)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    return theirs, ours


@pytest.fixture
def tokens():
    return torch.randint(20, (3, 9), generator=torch.Generator().manual_seed(1))


def test_trained_with_packed_input_and_checkpointing_they_stay_equal(models, tokens):
    losses = []
    for model in models:
        model.double()
        optimizer, found = torch.optim.Adam(model.parameters(), lr=0.03), []
        for _ in range(30):
            loss = nn.functional.cross_entropy(model(tokens, LENGTHS).flatten(0, 1), tokens.flatten() % 4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        losses.append(found)
    assert losses[0][-1] < 0.8 * losses[0][0]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-9, atol=0)


def test_under_autocast(models, tokens):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs, ours = (model(tokens, LENGTHS) for model in models)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.02)
    ours.float().sum().backward()
    assert models[1].lstm.weight_hh_l0.grad.isfinite().all()


def test_exported(models, tokens):
    model = models[1].eval()
    exported = torch.export.export(model, (tokens,)).module()
    other = tokens.flip(0)
    torch.testing.assert_close(exported(other), model(other))
    torch.testing.assert_close(exported(other), models[0].eval()(other))


def test_copied_and_pickled(models, tokens):
    model = models[1].eval()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(tokens, LENGTHS), model(tokens, LENGTHS))
