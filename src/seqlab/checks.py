"""What the layers refuse, and what the message says: who, what was expected, what came, the remedy.

ValueError is for a wrong value or shape, TypeError for a wrong type. Shapes: N batch, L length, H_in input_size,
H hidden_size, D directions. Values are never scanned: a look at every number costs as much as a step, and on a GPU
makes the CPU wait.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


def check_sizes(who: str, least: int = 1, **sizes: Any) -> None:
    """Every size is an integer of at least ``least``."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{who}: expected {name} as an int, got {size!r}")
        if size < least:
            raise ValueError(f"{who}: expected {name} of at least {least}, got {size}")


def check_generator(who: str, generator: Any) -> None:
    """The generator is torch's and lives on the CPU: other devices draw other numbers from the same seed."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"{who}: expected generator as a torch.Generator, got {type(generator).__name__}; "
            "use torch.Generator().manual_seed(0)"
        )
    if generator.device.type != "cpu":
        raise ValueError(
            f"{who}: expected a generator on the CPU, got one on {generator.device}; "
            "make it with torch.Generator() and move the tensors afterwards"
        )


def check_dropout(who: str, dropout: Any) -> None:
    """Dropout is a probability."""
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
        raise ValueError(f"{who}: expected dropout as a probability from 0 to 1, got {dropout!r}")


def check_nonlinearity(who: str, nonlinearity: Any) -> None:
    """The nonlinearity is one that the Elman network has."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{who}: expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}")


def check_pair(who: str, hx: Any) -> tuple[Any, Any]:
    """The state of an LSTM is a pair; returns it."""
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        got = f"{len(hx)} items" if isinstance(hx, (tuple, list)) else type(hx).__name__
        raise TypeError(f"{who}: expected hx as a pair, hidden and cell state, got {got}; pass (h_0, c_0)")
    return hx[0], hx[1]


def check_like(who: str, name: str, tensor: Any, weight: Any) -> None:
    """The tensor has the device and the dtype of the weights; autocast converts the dtype by itself."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{who}: expected {name} as a Tensor, got {type(tensor).__name__}")
    device = weight.device
    if tensor.device != device:
        raise ValueError(
            f"{who}: expected {name} on {device}, where the weights are, got {tensor.device}; use {name}.to('{device}')"
        )
    if tensor.dtype != weight.dtype and not torch.is_autocast_enabled(device.type):
        remedy = f"use {name}.to({weight.dtype})" if tensor.is_floating_point() else "embed indices with nn.Embedding"
        raise ValueError(f"{who}: expected {name} of {weight.dtype}, as the weights, got {tensor.dtype}; {remedy}")


def check_step(
    who: str,
    input: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    blocks: int,
    hidden_size: int | None = None,
) -> None:
    """The weights have this cell's number of gate blocks: those of another could be cut in the wrong places.

    ``hidden_size`` is named where h is a projection of another size.
    """
    H_in, H = input.shape[-1], hidden_size or h.shape[-1]
    rows = blocks * H
    for name, tensor, shape in (
        ("weight_ih", weight_ih, (rows, H_in)),
        ("weight_hh", weight_hh, (rows, h.shape[-1])),
        ("bias_ih", bias_ih, (rows,)),
        ("bias_hh", bias_hh, (rows,)),
    ):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(
                f"{who}: expected {name} of shape {shape}, for H_in={H_in}, H={H} and {blocks} gate block(s), "
                f"got {tuple(tensor.shape)}; check the sizes, and that the weights are of this kind of cell"
            )


def check_cell_state(cell: nn.RNNCellBase, input: Any, state: Any) -> Tensor:
    """Input and state fit the cell; returns the state, zeros for None."""
    who = type(cell).__name__
    check_like(who, "input", input, cell.weight_hh)
    if input.dim() not in (1, 2) or input.shape[-1] != cell.input_size:
        raise ValueError(
            f"{who}: expected input (N, H_in) or (H_in) with H_in={cell.input_size}, got {tuple(input.shape)}; "
            "a cell takes one time step, a layer a whole sequence"
        )
    shape = (*input.shape[:-1], cell.hidden_size)
    if state is None:
        return input.new_zeros(shape)
    check_like(who, "hx", state, cell.weight_hh)
    if state.shape != shape:
        raise ValueError(
            f"{who}: expected hx of shape {shape}, to fit the input, got {tuple(state.shape)}; "
            "leave hx out to start from zeros"
        )
    return state


def check_layer_input(layer: nn.RNNBase, input: Any) -> None:
    """The input of a recurrent layer is a sequence, a batch of sequences, or a packed batch, of at least one step."""
    who, H_in, packed = type(layer).__name__, layer.input_size, isinstance(input, PackedSequence)
    data = input.data if packed else input
    check_like(who, "input", data, layer.weight_ih_l0)
    shape = tuple(data.shape)
    axes_fit = len(shape) in ((2,) if packed else (2, 3))
    if not axes_fit or shape[-1] != H_in:
        if packed:
            wanted = "a PackedSequence with data (sum of lengths, H_in)"
        else:
            wanted = f"input {'(N, L, H_in)' if layer.batch_first else '(L, N, H_in)'}, or (L, H_in) without a batch,"
        if not axes_fit:
            raise ValueError(f"{who}: expected {wanted} with H_in={H_in}, got {shape}; add or drop axes")
        remedy = f"make the layer with input_size={shape[-1]}, or project the input to {H_in} features"
        if H_in in shape:
            remedy = f"put the features last, input.movedim({shape.index(H_in)}, -1)"
        raise ValueError(f"{who}: expected {wanted} with H_in={H_in}, got {shape}; {remedy}")
    if shape[1 if len(shape) == 3 and layer.batch_first else 0] == 0:
        raise ValueError(f"{who}: expected at least one time step, got length 0 in {shape}; leave empty sequences out")


def check_layer_state(layer: nn.RNNBase, input: Any, hx: Any, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """The initial states fit layer and input; returns them as a tuple, in the order of their names."""
    who, layers = type(layer).__name__, layer.num_layers * (2 if layer.bidirectional else 1)
    states = check_pair(who, hx) if len(names) == 2 else (hx,)
    axes, N, L = "(D * num_layers, N, H)", None, None
    if isinstance(input, PackedSequence):
        N = int(input.batch_sizes[0])
    elif input.dim() == 3:
        N, L = input.shape[:2] if layer.batch_first else (input.shape[1], input.shape[0])
    else:
        axes = "(D * num_layers, H), unbatched as the input is,"
    for name, state in zip(names, states, strict=True):
        H = layer.proj_size if name == "h" and layer.proj_size else layer.hidden_size
        wanted = (layers, H) if N is None else (layers, N, H)
        check_like(who, f"{name}_0", state, layer.weight_hh_l0)
        if state.shape != wanted:
            remedy = "leave hx out to start from zeros"
            if state.shape == (layers, L, H):
                remedy = f"set batch_first={not layer.batch_first} if the input's axis of size {L} is the batch"
            raise ValueError(f"{who}: expected {name}_0 {axes} = {wanted}, got {tuple(state.shape)}; {remedy}")
    return states
