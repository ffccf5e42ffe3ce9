"""A small external memory, written and read by attention: the content-addressed part of the Neural Turing machine.

A recurrent network keeps what it knows in one vector, which every step rewrites. Here a controller, one of ``cells``,
has a matrix of slots beside it. It writes to and reads from all slots at once, each as much as a softmax says, so that
the whole can be trained by gradients. The three equations are functions; a cell and a layer use them.

Shapes: L length, N batch, H_in input_size, H hidden_size, S slots, W width of a slot.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cells import GRUCell
from .checks import check_like, check_sizes

__all__ = ["ContentMemory", "ContentMemoryCell", "content_weights", "read", "write"]

State = tuple[Tensor, Tensor, Tensor]  # h of the controller (N, H), the slots M (N, S, W), the focus w (N, S)


def content_weights(memory: Tensor, key: Tensor, beta: Tensor) -> Tensor:
    """Weights of the slots by their likeness to a key: w[s] = softmax over s of beta cos(key, memory[s]).

    Args:
        memory: the slots.
        key: what is looked for.
        beta: sharpness, at least 0; at 0 all slots have the same weight.

    Shape:
        memory (N, S, W), key (N, W), beta (N).

    Returns:
        weights (N, S), of sum 1. The cosine with a vector of length 0 is 0.

    Raises:
        ValueError: the shapes don't fit each other.

    Source:
        Graves, Wayne and Danihelka (2014), Neural Turing machines, equations 5 and 6.

    >>> memory = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> content_weights(memory, key=torch.tensor([[3.0, 0.0]]), beta=torch.tensor([2.0]))  # 1 / (1 + exp(-2)) and rest
    tensor([[0.8808, 0.1192]])
    """
    _check("content_weights", memory, key=(key, "NW"), beta=(beta, "N"))
    exact = torch.promote_types(memory.dtype, torch.float32)  # in half precision the squares would overflow
    M, k = memory.to(exact), key.to(exact).unsqueeze(2)  # (N, S, W), (N, W, 1)
    norms = torch.linalg.vector_norm(M, dim=2) * torch.linalg.vector_norm(k, dim=1)  # (N, S)
    some = norms > 0
    cosine = torch.where(some, (M @ k).squeeze(2) / torch.where(some, norms, 1.0), 0.0)
    return torch.softmax(beta.unsqueeze(1) * cosine.to(memory.dtype), dim=1)


def write(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """Erase, then add, in each slot as much as its weight says: M'[s] = M[s] * (1 - w[s] erase) + w[s] add.

    Args:
        memory: M.
        weights: w, from 0 to 1.
        erase: how much of each coordinate is to go, from 0 to 1.
        add: what is to come.

    Shape:
        memory (N, S, W), weights (N, S), erase and add (N, W).

    Returns:
        the new memory (N, S, W); the old one is left as it was.

    Raises:
        ValueError: the shapes don't fit each other.

    Source:
        Graves, Wayne and Danihelka (2014), equations 3 and 4.

    >>> memory, first = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[1.0, 0.0]])
    >>> write(memory, first, erase=torch.tensor([[1.0, 0.0]]), add=torch.tensor([[0.0, 5.0]]))
    tensor([[[0., 7.],
             [3., 4.]]])
    """
    _check("write", memory, weights=(weights, "NS"), erase=(erase, "NW"), add=(add, "NW"))
    w, erase, add = weights.unsqueeze(2), erase.unsqueeze(1), add.unsqueeze(1)  # (N, S, 1), (N, 1, W) twice
    return memory * (1 - w * erase) + w * add


def read(memory: Tensor, weights: Tensor) -> Tensor:
    """The mean of the slots under the weights: r = Σ_s w[s] M[s].

    Args:
        memory: M.
        weights: w, of sum 1.

    Shape:
        memory (N, S, W), weights (N, S).

    Returns:
        r (N, W).

    Raises:
        ValueError: the shapes don't fit each other.

    Source:
        Graves, Wayne and Danihelka (2014), equation 2.

    >>> read(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), weights=torch.tensor([[0.5, 0.5]]))
    tensor([[2., 3.]])
    """
    _check("read", memory, weights=(weights, "NS"))
    return (weights.unsqueeze(1) @ memory).squeeze(1)


def _check(who: str, memory: Tensor, **others: tuple[Tensor, str]) -> None:
    if memory.dim() != 3:
        raise ValueError(f"{who}: expected memory (N, S, W), got {tuple(memory.shape)}; add or drop axes")
    sizes = dict(zip("NSW", memory.shape, strict=True))
    for name, (tensor, axes) in others.items():
        if tensor.shape != (wanted := tuple(sizes[axis] for axis in axes)):
            raise ValueError(
                f"{who}: expected {name} ({', '.join(axes)}) = {wanted}, to fit memory (N, S, W) = "
                f"{tuple(memory.shape)}, got {tuple(tensor.shape)}"
            )


class ContentMemoryCell(nn.Module):
    """One step of a controller with a memory; one focus w for writing and reading::

        h' = GRU([x; read(M, w)], h)
        (key, beta, gate, erase, add) = W [h'; x] + b
        w' = gate * content_weights(M, key, beta) + (1 - gate) * w
        M' = write(M, w', erase, add)
        y  = [h'; read(M', w')]

    beta goes through softplus, gate and erase through sigmoid. With gate near 0 the focus stays where it was: a value
    can be written to the slot that its key, one step before, has found.

    Args:
        input_size: H_in.
        hidden_size: H, of the controller.
        slots: S.
        width: W, numbers in a slot.
        device, dtype: of the weights.

    Shape:
        input (N, H_in), state (h, M, w) of shapes (N, H), (N, S, W), (N, S), by default as ``start`` gives it.

    Returns:
        The pair (y, state), y (N, H + W), state (h', M', w').

    Raises:
        TypeError, ValueError: a size, shape, dtype or device does not fit.

    Source:
        Graves, Wayne and Danihelka (2014), Neural Turing machines, equations 2 to 7.
    Differs:
        left out are location addressing but for the gate of equation 7, that is shift and sharpening (8 and 9), and
        what the differentiable neural computer (Graves et al. 2016) added: allocation of free slots and temporal links.
        One head writes and reads. It sees the input beside the controller's state, so that a key can get the same
        address whatever came before. The first memory is learned, from a standard normal distribution, whose slots
        differ; beta starts near 10.

    >>> cell = ContentMemoryCell(3, 4, slots=5, width=6)
    >>> y, (h, M, w) = cell(torch.zeros(2, 3))
    >>> y.shape, h.shape, M.shape, w.shape
    (torch.Size([2, 10]), torch.Size([2, 4]), torch.Size([2, 5, 6]), torch.Size([2, 5]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, slots: int, width: int, device: Any = None, dtype: Any = None
    ) -> None:
        who = "ContentMemoryCell"
        check_sizes(who, input_size=input_size, hidden_size=hidden_size, slots=slots, width=width)
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.input_size, self.hidden_size, self.slots, self.width = input_size, hidden_size, slots, width
        self.controller = GRUCell(input_size + width, hidden_size, **place)
        self.interface = nn.Linear(hidden_size + input_size, 3 * width + 2, **place)
        self.memory = nn.Parameter(torch.randn(slots, width, **place))
        with torch.no_grad():
            self.interface.bias[width] = 10.0  # beta's

    def start(self, N: int) -> State:
        """The state of N sequences before their first step: h = 0, the learned memory, an even focus."""
        hidden = self.memory.new_zeros(N, self.hidden_size)
        weights = self.memory.new_full((N, self.slots), 1 / self.slots)
        return hidden, self.memory.expand(N, -1, -1), weights

    def forward(self, input: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One step; shapes as in the class."""
        check_like("ContentMemoryCell", "input", input, self.memory)
        if input.dim() != 2 or input.shape[1] != self.input_size:
            raise ValueError(
                f"ContentMemoryCell: expected input (N, H_in) with H_in={self.input_size}, got {tuple(input.shape)}; "
                "a cell takes one time step, ContentMemory a whole sequence"
            )
        if state is None:
            state = self.start(input.shape[0])
        elif not isinstance(state, (tuple, list)) or len(state) != 3:
            got = f"{len(state)} items" if isinstance(state, (tuple, list)) else type(state).__name__
            raise TypeError(f"ContentMemoryCell: expected state as a triple (h, M, w), got {got}")
        h, M, w = state
        h = self.controller(torch.cat([input, read(M, w)], dim=1), h)
        W = self.width
        key, beta, gate, erase, add = self.interface(torch.cat([h, input], dim=1)).split([W, 1, 1, W, W], dim=1)
        gate = torch.sigmoid(gate)  # (N, 1)
        w = gate * content_weights(M, key, F.softplus(beta).squeeze(1)) + (1 - gate) * w
        M = write(M, w, torch.sigmoid(erase), add)
        return torch.cat([h, read(M, w)], dim=1), (h, M, w)


class ContentMemory(nn.Module):
    """A :class:`ContentMemoryCell` along a sequence; stands where a recurrent layer does, also in ``seqlab.tbptt``.

    Args:
        input_size, hidden_size, slots, width, device, dtype: as in :class:`ContentMemoryCell`.
        batch_first: whether the batch comes first; by default, as in torch.nn.LSTM, the length does.

    Shape:
        input (L, N, H_in), or (N, L, H_in) with batch_first; state (h, M, w) as of the cell.

    Returns:
        The pair (output, state), output (L, N, H + W) or (N, L, H + W), at each step h of the controller and behind it
        what has been read.

    Raises:
        TypeError, ValueError: a size, shape, dtype or device does not fit.

    >>> layer = ContentMemory(3, 4, slots=5, width=6)
    >>> output, (h, M, w) = layer(torch.zeros(7, 2, 3))
    >>> output.shape, M.shape
    (torch.Size([7, 2, 10]), torch.Size([2, 5, 6]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        slots: int,
        width: int,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.cell = ContentMemoryCell(input_size, hidden_size, slots, width, device, dtype)
        self.batch_first = batch_first

    def forward(self, input: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """All steps, from the learned memory unless a state is given; shapes as in the class."""
        check_like("ContentMemory", "input", input, self.cell.memory)
        axes, H_in = "(N, L, H_in)" if self.batch_first else "(L, N, H_in)", self.cell.input_size
        if input.dim() != 3 or input.shape[2] != H_in or input.shape[1 if self.batch_first else 0] == 0:
            raise ValueError(
                f"ContentMemory: expected input {axes} with H_in={H_in} and at least one step, got {tuple(input.shape)}"
            )
        time, output = 1 if self.batch_first else 0, []
        if state is None:
            state = self.cell.start(input.shape[1 - time])
        for x in input.unbind(time):
            y, state = self.cell(x, state)
            output.append(y)
        return torch.stack(output, dim=time), state
