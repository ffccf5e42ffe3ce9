"""With another default device set, everything computes where its inputs are, and tasks stay on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from seqlab import metrics, tasks
from seqlab._tree import map_leaves
from seqlab.attention import AdditiveAttention, LuongAttention, MultiheadAttention, ScaledDotProductAttention
from seqlab.convolution import DilatedStack
from seqlab.memory import ContentMemory
from seqlab.recurrent import GRU
from seqlab.seq2seq import Decoder, Encoder, Seq2Seq, beam_search, greedy_search, sample
from seqlab.tbptt import tbptt
from seqlab.transformer import LanguageModel, Transformer

G = torch.Generator  # made before the default changes
SOURCE = torch.tensor([[3, 4, 5], [5, 3, 0]])
MASK = torch.tensor([[False, False, False], [False, False, True]])
X, KEY = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
PADDING = torch.arange(5) >= torch.tensor([[5], [3]])


def seq2seq(wiring="bahdanau", attention=None):
    attention = attention or AdditiveAttention(4, 8, 4)
    return Seq2Seq(Encoder(7, 4, 4, bidirectional=True), Decoder(7, 4, 4, 8, wiring, attention))


MODELS = {
    "seq2seq": seq2seq(),
    "window": seq2seq("luong", LuongAttention(4, 8, window="local-m", half_width=1)),
    "transformer": Transformer(7, 7, 8, 2, 1, dim_feedforward=8).eval(),
    "language-model": LanguageModel(7, 8, 2, 1, 12, dim_feedforward=8).eval(),
}
ATTENTIONS = {
    "additive": AdditiveAttention(4, 4, 4, normed=True),
    "local-m": LuongAttention(4, window="local-m", half_width=1),
    "local-p": LuongAttention(4, score="concat", window="local-p", half_width=1),
    "scaled": ScaledDotProductAttention(),
    "multihead": MultiheadAttention(4, 2, batch_first=True),
}
STACK, MEMORY, LAYER = DilatedStack(4, 4, [1, 2]), ContentMemory(4, 4, 3, 2), GRU(4, 4)


def searches(model):
    bos = {"bos": None} if isinstance(model, LanguageModel) else {}
    return [
        greedy_search(model, SOURCE, 4, MASK, **bos),
        beam_search(model, SOURCE, 2, 4, MASK, **bos),
        sample(model, SOURCE, 4, MASK, generator=seeded(), top_p=0.9, **bos),
    ]


def seeded():
    return G(device="cpu").manual_seed(0)


def windows():
    return [window.output for window in tbptt(LAYER, X, X, torch.nn.functional.mse_loss, 2, 2)]


CALLS = {
    **{f"search-{name}": lambda model=model: searches(model) for name, model in MODELS.items()},
    **{name: lambda a=attention: a(X, KEY, None, PADDING) for name, attention in ATTENTIONS.items()},
    "causal": lambda: ATTENTIONS["multihead"](X, X, is_causal=True),
    "teacher-forcing": lambda: MODELS["seq2seq"](SOURCE, SOURCE, MASK, sampling_probability=0.5, generator=seeded()),
    "whole-pass": lambda: [MODELS["transformer"](SOURCE, SOURCE, MASK), MODELS["language-model"](SOURCE)],
    "stack": lambda: STACK(X),
    "memory": lambda: MEMORY(X),
    "tbptt": windows,
    "copying": lambda: tasks.copying(3, delay=2, generator=seeded()),
    "delayed-recall": lambda: tasks.delayed_recall(3, lag=2, generator=seeded()),
    "adding": lambda: tasks.adding(3, length=4, generator=seeded()),
    "reversing": lambda: tasks.reversing(3, length=4, generator=seeded()),
    "associative-recall": lambda: tasks.associative_recall(3, pairs=2, generator=seeded()),
    "agreement": lambda: tasks.agreement(3, clauses=2, generator=seeded()),
    "number-pairs": lambda: [pair.number for pair in tasks.number_pairs(3, digits=(1, 3), generator=seeded())],
    "batches": lambda: tasks.length_batches([3, 1, 2], 2, generator=seeded()),
    "mask": lambda: tasks.key_padding_mask([1, 3]),
    "vocabulary": lambda: tasks.pad([tasks.Vocabulary(["ab"]).encode("ab"), tasks.Vocabulary(["ab"]).encode("a")]),
    "edits": lambda: metrics.edit_distance(list(SOURCE[0]), list(SOURCE[1])),
}


def leaves(tree):
    found = []
    map_leaves(found.append, tree)
    return found


@pytest.mark.parametrize("call", CALLS)
def test_another_default_device_changes_nothing(call):
    wanted = leaves(CALLS[call]())
    with torch.device("meta"):
        found = leaves(CALLS[call]())
    assert len(found) == len(wanted)
    for ours, before in zip(found, wanted, strict=True):
        if isinstance(before, Tensor):
            assert ours.device.type == "cpu"
            assert_close(ours, before, rtol=0, atol=0)
        else:
            assert ours == before
