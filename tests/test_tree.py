"""Trees of tensors: every container keeps its type, and what is not a tensor is passed on."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from seqlab._tree import map_leaves, map_tensors
from seqlab.seq2seq.steps import pick_rows
from seqlab.training.data import to_device


class Pair(NamedTuple):
    first: object
    second: object


X = torch.arange(3.0)
TREES = {
    "tensor": X,
    "none": None,
    "tuple": (X, (X, None)),
    "namedtuple": Pair(X, Pair("text", [X])),
    "list": [X, [], 3],
    "dict": {"a": X, 2: {"b": (X,)}},
    "ordered": OrderedDict(z=X, a=X),
    "default": defaultdict(list, a=X),
}


def leaves(tree):
    found = []
    map_leaves(found.append, tree)
    return found


@pytest.mark.parametrize("kind", TREES)
def test_every_container_keeps_its_type_and_order(kind):
    tree = TREES[kind]
    mapped = map_tensors(lambda x: x + 1, tree)

    def check(before, after):
        assert type(before) is type(after)
        if isinstance(before, Tensor):
            assert torch.equal(after, before + 1)
        elif isinstance(before, dict):
            assert list(before) == list(after)
            for key in before:
                check(before[key], after[key])
        elif isinstance(before, (tuple, list)):
            assert len(before) == len(after)
            for a, b in zip(before, after, strict=True):
                check(a, b)
        else:
            assert before is after

    check(tree, mapped)
    assert all(torch.equal(x, torch.arange(3.0)) for x in leaves(tree) if isinstance(x, Tensor))  # left as it was
    check(tree, pick_rows(map_tensors(lambda x: x.flip(0) + 1, tree), torch.tensor([2, 1, 0])))
    assert all(x.is_meta for x in leaves(to_device(tree, torch.device("meta"))) if isinstance(x, Tensor))


def test_a_default_dict_keeps_its_default():
    assert map_tensors(torch.neg, TREES["default"])["missing"] == []


def test_a_packed_batch_is_moved_as_a_whole_and_its_sizes_stay_on_the_cpu():
    packed = pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    (there,) = to_device([packed], torch.device("meta"))
    assert there.data.is_meta
    assert there.batch_sizes.device.type == "cpu"
