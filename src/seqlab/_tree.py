"""States and batches: tensors in tuples, NamedTuples, lists and dicts of any depth."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def map_leaves(fn: Callable[[Any], Any], tree: Any) -> Any:
    """``fn`` of everything that is no tuple, list or dict, in containers of the same types; None stays None.

    A PackedSequence, a NamedTuple by its type, is a leaf: its parts fit each other, and some must stay on the CPU.
    """
    if tree is None:
        return None
    if isinstance(tree, PackedSequence) or not isinstance(tree, (tuple, list, dict)):
        return fn(tree)
    if isinstance(tree, dict):
        mapped = copy.copy(tree)  # keeps what else a dict's subclass holds, as the default of a defaultdict
        mapped.update({key: map_leaves(fn, part) for key, part in tree.items()})
        return mapped
    parts = [map_leaves(fn, part) for part in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)


def map_tensors(fn: Callable[[Tensor], Any], tree: Any) -> Any:
    """``fn`` of each tensor, in containers of the same types; what is not a tensor is passed on."""
    return map_leaves(lambda leaf: fn(leaf) if isinstance(leaf, Tensor) else leaf, tree)
