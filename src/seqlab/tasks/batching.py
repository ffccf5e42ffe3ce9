"""Sequences of different lengths in one tensor: padding, masks, and batches of like lengths.

L: length of the longest, N: batch. A key padding mask is (N, L), True = ignore, as in torch.nn.MultiheadAttention.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence

from ..checks import check_generator, check_sizes
from .vocabulary import Vocabulary


def pad(sequences: Sequence[Tensor], *, batch_first: bool = False) -> tuple[Tensor, Tensor]:
    """Stack sequences along a batch axis, filled up with ``Vocabulary.pad`` to the length of the longest.

    Args:
        sequences: tensors (L_n) or (L_n, ...), of one dtype.
        batch_first: put the batch axis first.

    Shape:
        padded (L, N, ...), or (N, L, ...) with ``batch_first``; mask (N, L) with either.

    Returns:
        (padded, key padding mask); the mask is True where the batch was filled up.

    Raises:
        TypeError: something in the list is not a Tensor.
        ValueError: no sequences, an empty one, or different dtypes, devices or features.

    >>> padded, mask = pad([torch.tensor([5, 6, 7]), torch.tensor([8])])
    >>> padded
    tensor([[5, 8],
            [6, 0],
            [7, 0]])
    >>> mask
    tensor([[False, False, False],
            [False,  True,  True]])
    """
    if len(sequences) == 0:
        raise ValueError("pad: expected at least one sequence, got none")
    for sequence in sequences:
        if not isinstance(sequence, Tensor):
            raise TypeError(f"pad: expected Tensors, got {type(sequence).__name__}; use Vocabulary.encode")
        if sequence.dim() == 0 or len(sequence) == 0:
            raise ValueError(
                f"pad: expected sequences of at least one step, got shape {tuple(sequence.shape)}; "
                "leave empty ones out, or encode with eos=True"
            )
    kinds = {(sequence.dtype, sequence.device, tuple(sequence.shape[1:])) for sequence in sequences}
    if len(kinds) > 1:
        raise ValueError(f"pad: expected one dtype, device and shape of features, got {sorted(map(str, kinds))}")
    padded = pad_sequence(list(sequences), batch_first=batch_first, padding_value=Vocabulary.pad)
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=padded.device)
    return padded, key_padding_mask(lengths)


def key_padding_mask(lengths: Tensor | Sequence[int]) -> Tensor:
    """The mask of a padded batch: True at the steps after a sequence's end, which attention must ignore.

    Args:
        lengths: (N), each at least 1.

    Shape:
        (N, L) with L the greatest length, bool.

    Returns:
        The mask, on the device of ``lengths``.

    Raises:
        ValueError: not one axis, no lengths, or one below 1: a row that is ignored as a whole has no average.
        TypeError: lengths are not integers.

    >>> key_padding_mask([1, 3])
    tensor([[False,  True,  True],
            [False, False, False]])
    """
    lengths = lengths if isinstance(lengths, Tensor) else torch.tensor(lengths, device="cpu")
    if lengths.dim() != 1 or len(lengths) == 0:
        raise ValueError(f"key_padding_mask: expected lengths (N) with N of at least 1, got {tuple(lengths.shape)}")
    if lengths.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        raise TypeError(f"key_padding_mask: expected lengths as integers, got {lengths.dtype}")
    longest, shortest = int(lengths.max()), int(lengths.min())
    if shortest < 1:
        raise ValueError(f"key_padding_mask: expected lengths of at least 1, got {shortest}; leave empty ones out")
    return torch.arange(longest, device=lengths.device) >= lengths[:, None]


def length_batches(
    lengths: Sequence[int] | Sequence[tuple[int, ...]], batch_size: int, *, generator: Generator | None = None
) -> list[list[int]]:
    """Batches of items of like lengths, so that little is padded: each a list of indices, each item in one batch.

    With a generator the items of one length are shuffled, and so are the batches; call it once an epoch. Without one
    the batches go from the shortest to the longest, in the order of the items, as suits an evaluation. All batches
    are full but the one that holds the longest items. Usable as ``batch_sampler`` of a torch DataLoader.

    Args:
        lengths: of every item; for pairs take tuples, (source, target).
        batch_size: items a batch.
        generator: shuffles.

    Returns:
        Indices into ``lengths``, batch by batch.

    Raises:
        ValueError: batch_size is below 1, or there are no items.
        TypeError: batch_size is not an int, or the generator not torch's.

    >>> length_batches([3, 1, 2, 1, 9], 2)
    [[1, 3], [2, 0], [4]]
    >>> length_batches([3, 1, 2, 1, 9], 2, generator=torch.Generator().manual_seed(0))
    [[2, 0], [4], [1, 3]]
    """
    check_sizes("length_batches", batch_size=batch_size)
    if len(lengths) == 0:
        raise ValueError("length_batches: expected at least one item, got none")
    order = list(range(len(lengths)))
    if generator is not None:
        check_generator("length_batches", generator)
        order = torch.randperm(len(lengths), generator=generator, device="cpu").tolist()
    order.sort(key=lambda i: lengths[i])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if generator is not None:
        batches = [batches[i] for i in torch.randperm(len(batches), generator=generator, device="cpu").tolist()]
    return batches
