"""Truncated backpropagation through time: every k1 steps, the loss of the last k1 steps goes back through the last k2.

The forward pass runs once, in chunks of g = gcd(k1, k2) steps. Each is a graph of its own, from a detached state to the
state after it. A window's end lies on a chunk's border, and so does the point k2 steps before it, where the gradient
stops. The backward pass takes the newest chunks one by one, and hands each state's gradient to the chunk before it.

L: length, N: batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ._tree import map_leaves, map_tensors
from .checks import check_sizes

__all__ = ["Window", "tbptt"]


class Window(NamedTuple):
    """What :func:`tbptt` has just gone through: the steps ``start <= t < stop``. Nothing in it carries a graph.

    Args:
        start, stop: the steps whose loss has been pushed back, k1 of them, or fewer in a sequence's last window.
        loss: the value of their loss, a scalar.
        output: the model's output at these steps.
        state: the state after them, as the model returns it; what the next call to :func:`tbptt` starts from.

    >>> Window(0, 10, torch.tensor(0.5), torch.zeros(10, 2, 3), torch.zeros(1, 2, 3)).stop
    10
    """

    start: int
    stop: int
    loss: Tensor
    output: Tensor
    state: Any


class _Chunk(NamedTuple):
    """g steps and their graph. Its ends are leaves (weights, before) and roots (output, after)."""

    weights: dict[str, Tensor]
    before: list[Tensor]
    output: Tensor
    after: list[Tensor]


def tbptt(
    model: nn.Module,
    input: Tensor,
    target: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    k1: int,
    k2: int,
    state: Any = None,
    *,
    dim: int = 0,
) -> Iterator[Window]:
    """Go through a sequence in windows of k1 steps; at each, add the gradients of TBPTT(k1, k2) to ``.grad``.

    With l_t the part of the loss that is due to step t, and θ_u the weights as used at step u, the window that begins
    at step b adds

        Σ_t Σ_u ∂l_t/∂θ_u    over b <= t < b + k1 and b + k1 - k2 <= u <= t.

    Where the length is no multiple of k1, the last window has fewer steps t and the same u: each of its losses goes
    back as far as if the sequence went on.

    Every step's loss counts once; how far back it goes depends on where in the window it lies: through k2 - k1 + 1
    steps at the start, k2 at the end (through fewer where the sequence has just begun). Memory is that of k2 steps,
    whatever the length. The forward pass costs as much as ever, the backward pass k2/k1 times that of full BPTT; in
    chunks of few steps the layers lose speed, so let k1 divide k2, or nearly so.

    **The usual loop is the special case k1 = k2.** It detaches the state every k steps::

        for x, y in zip(input.split(k), target.split(k)):
            output, h = model(x, h.detach())
            loss(output, y).backward()
            optimizer.step()
            optimizer.zero_grad()

    and computes what ``tbptt(model, input, target, loss, k, k, h)`` computes. There the loss of a window's first step
    reaches that step alone, of the past it gets values only, no gradient: on average a loss goes back through
    (k + 1)/2 steps, not k. With k1 < k2 every loss goes back through k2 - k1 + 1 steps at least.

    **A step of the optimizer between windows.** Where k1 < k2, a window's backward pass goes through steps that were
    computed before the last update. Those steps keep their states and the weights that they were computed with, in a
    copy: θ_u above is the weights at the time of step u, and the window adds the exact derivative of its loss, as it
    was computed, with respect to one shift of all the θ_u. States and gradient are stale: the newest weights, run
    from the start of the sequence, would give others. Without a step in between it is the gradient at the one set of
    weights. With k1 = k2 no window goes through older weights than its own, nothing is copied, and only the value of
    the state that it starts from is stale.

    Args:
        model: its forward is ``model(input, state) -> (output, state)``: a recurrent layer of seqlab or torch, or a
            module that holds embedding, layers and readout. It is called with g = gcd(k1, k2) steps at a time, the
            first time with the ``state`` given here; two calls in a row must give what one call on both parts gives.
            A learned initial state belongs in it, for ``state=None``.
        input, target: the whole sequence; neither requires a gradient.
        loss: ``loss(output, target) -> scalar`` of the steps of a window. If it averages, it averages over these.
        k1: steps from one window to the next.
        k2: steps that a gradient goes back; ``k1 <= k2``. At k1 = k2 = L this is full BPTT.
        state: to start from; a tensor, None, or tuples (named ones too), lists and dicts of these, with plain numbers
            beside them. A stream in several calls passes on ``window.state``; no gradient goes back beyond the start
            of a call.
        dim: the axis of time in input, target and output; 1 for batch_first.

    Shape:
        input, target and output have L on axis ``dim``: for a layer, input (L, N, H_in).

    Returns:
        An iterator over the windows. When it hands one out, the gradients are added; it goes on when asked for the
        next, with the weights as they are then.

    Raises:
        TypeError: the model is not a module, a tensor or a size is something else, a state holds something else.
        ValueError: k1 > k2; there is no step; input, target or state requires a gradient; an output or a loss
            of another shape; nothing to train; a layer of two directions or in another layout than ``dim`` says.

    Source:
        Williams and Peng (1990), An efficient gradient-based algorithm for on-line training of recurrent network
        trajectories, where it is BPTT(h; h') with h = k2, h' = k1; the name is from Sutskever (2013), Training
        recurrent neural networks.

    Differs:
        gradients are added by this function, not by autograd: what waits for autograd to add them, as
        DistributedDataParallel and ``register_post_accumulate_grad_hook`` do, does not see them.

    >>> layer = nn.GRU(3, 5)
    >>> input, target = torch.randn(40, 2, 3), torch.randn(40, 2, 5)
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> for window in tbptt(layer, input, target, nn.functional.mse_loss, k1=10, k2=20):
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    ...     print(window.start, window.stop, window.output.shape)
    0 10 torch.Size([10, 2, 5])
    10 20 torch.Size([10, 2, 5])
    20 30 torch.Size([10, 2, 5])
    30 40 torch.Size([10, 2, 5])
    >>> more = tbptt(layer, input, target, nn.functional.mse_loss, k1=10, k2=20, state=window.state)
    >>> next(more).state.shape
    torch.Size([1, 2, 5])
    """
    check_sizes("tbptt", k1=k1, k2=k2)
    if k1 > k2:
        raise ValueError(
            f"tbptt: expected k1 <= k2, got k1={k1} and k2={k2}; a loss older than k2 steps would reach no weight at "
            f"all: raise k2 to {k1}, or lower k1"
        )
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"tbptt: expected model as a torch.nn.Module, got {type(model).__name__}; make a function the forward of a "
            "module that owns the weights, for they are copied where windows overlap"
        )
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise TypeError(
            "tbptt: expected a model that is not wrapped, got DistributedDataParallel; pass model.module, and average "
            "the gradients over the processes at each window"
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("tbptt: expected a model with parameters to train, got none that requires a gradient")
    _check_sequences(input, target, dim)
    if isinstance(model, nn.RNNBase):
        _check_layer(model, input, dim)
    for s in _tensors(state):
        if s.requires_grad:
            raise ValueError(
                f"tbptt: expected state without a graph, got one of shape {tuple(s.shape)} that requires a gradient; "
                "detach() it: nothing goes back beyond the start of a call. An initial state that is to be learned "
                "belongs in the model, for state=None"
            )
    return _windows(model, input, target, loss, k1, k2, state, dim)


def _windows(
    model: nn.Module, input: Tensor, target: Tensor, loss: Callable, k1: int, k2: int, state: Any, dim: int
) -> Iterator[Window]:
    """The generator behind :func:`tbptt`, which has checked the arguments. No local but the ring may hold a graph."""
    L, g = input.shape[dim], math.gcd(k1, k2)
    run = _Run(model, g, dim)
    parameters: dict[str, Tensor] = {name: p for name, p in run.named_parameters() if p.requires_grad}
    ring: list[_Chunk] = []  # the newest chunks, k2 / g of them at most, oldest first
    for start in range(0, L, k1):
        stop = min(start + k1, L)
        weights = parameters
        if k1 < k2:  # the optimizer changes the parameters, and the chunks that are kept need theirs unchanged
            weights = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        state = functional_call(run, weights, (input.narrow(dim, start, stop - start), state, weights, ring))
        del weights
        newest = -(-(stop - start) // g)  # chunks; the very last may be short
        output = torch.cat([chunk.output.detach() for chunk in ring[-newest:]], dim)
        value, output_grad = _loss(loss, output, target.narrow(dim, start, stop - start))
        keep = (k2 - k1) // g if stop < L else 0  # chunks that the next window goes back through
        _backward(ring, output_grad.split(g, dim), keep, parameters)
        ring = ring[max(len(ring) - keep, 0) :]
        yield Window(start, stop, value, output, state)


class _Run(nn.Module):
    """The model over one window: a single call for all its chunks, since each change of weights costs time."""

    def __init__(self, model: nn.Module, g: int, dim: int) -> None:
        super().__init__()
        self.model, self.g, self.dim = model, g, dim

    def forward(self, input: Tensor, state: Any, weights: dict[str, Tensor], ring: list[_Chunk]) -> Any:
        """Append the window's chunks to the ring; returns the state after them, cut off."""
        for steps in input.split(self.g, self.dim):
            before = map_tensors(lambda s: s.detach().requires_grad_(_differentiable(s)), state)
            result = self.model(steps, before)
            if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
                raise TypeError(
                    f"tbptt: expected the model to return (output, state), output a Tensor, got {_kind(result)}"
                )
            output, after = result
            if output.dim() <= self.dim or output.shape[self.dim] != (length := steps.shape[self.dim]):
                raise ValueError(
                    f"tbptt: expected an output with the {length} steps of its input on axis dim={self.dim}, "
                    f"got {tuple(output.shape)}"
                )
            if not output.requires_grad:
                raise ValueError(
                    "tbptt: expected an output that depends on the weights, got one without a graph; is grad mode on?"
                )
            ring.append(_Chunk(weights, _tensors(before), output, _tensors(after)))
            state = map_tensors(Tensor.detach, after)
        return state


def _backward(ring: list[_Chunk], output_grads: tuple[Tensor, ...], keep: int, parameters: dict[str, Tensor]) -> None:
    """From the newest chunk to the oldest: output_grads enter at the last chunks, the state's gradient is handed on."""
    state_grads: tuple[Tensor | None, ...] = ()
    for age, chunk in enumerate(reversed(ring)):
        ends = list(zip(chunk.after, state_grads, strict=False))  # nothing reaches the newest state
        if age < len(output_grads):
            ends.append((chunk.output, output_grads[-1 - age]))
        ends = [(root, grad) for root, grad in ends if grad is not None and root.requires_grad]
        state_grads = ()
        if not ends:  # as in a model whose state does not depend on its weights
            continue
        roots, grads = zip(*ends, strict=True)
        leaves = (*chunk.weights.values(), *(chunk.before if age < len(ring) - 1 else ()))
        # Fresh gradients at each window: .grad on the states would still hold those of the windows before.
        results = torch.autograd.grad(roots, leaves, grads, retain_graph=age < keep, allow_unused=True)
        for p, grad in zip(parameters.values(), results, strict=False):
            if grad is not None:  # cloned: two biases of one sum get one and the same tensor
                p.grad = grad.clone() if p.grad is None else p.grad.add_(grad)
        state_grads = results[len(parameters) :]


def _tensors(state: Any) -> list[Tensor]:
    """The tensors of a state that may have a gradient, in order."""
    found: list[Tensor] = []

    def look(leaf: Any) -> None:
        if isinstance(leaf, Tensor):
            found.extend([leaf] if _differentiable(leaf) else [])
        elif not isinstance(leaf, (bool, int, float, str)):  # tensors inside could not be cut off
            raise TypeError(
                f"tbptt: expected state of tensors and plain numbers, in tuples, lists or dicts, got {_kind(leaf)}; "
                "make it a NamedTuple"
            )

    map_leaves(look, state)
    return found


def _differentiable(s: Tensor) -> bool:
    return s.is_floating_point() or s.is_complex()


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of ({', '.join(type(v).__name__ for v in value)})"
    return type(value).__name__


def _loss(loss: Callable, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The value of the loss and its gradient at the output; parameters of the loss itself get theirs here."""
    output = output.detach().requires_grad_()
    value = loss(output, target)
    if not isinstance(value, Tensor):
        raise TypeError(f"tbptt: expected loss(output, target) as a Tensor, got {type(value).__name__}")
    if value.dim() != 0:
        raise ValueError(f"tbptt: expected loss(output, target) as a scalar, got shape {tuple(value.shape)}; reduce it")
    if value.requires_grad:
        value.backward()
    if output.grad is None:
        raise ValueError("tbptt: expected a loss that depends on the output, got one that does not")
    return value.detach(), output.grad


def _check_sequences(input: Any, target: Any, dim: int) -> None:
    """Input and target are whole sequences of one length, and nothing stands behind them."""
    for name, tensor in (("input", input), ("target", target)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"tbptt: expected {name} as a Tensor, got {type(tensor).__name__}")
        if tensor.requires_grad:
            raise ValueError(
                f"tbptt: expected {name} without a graph, got one that requires a gradient; detach() it, or move "
                "what computes it, such as an embedding, into the model"
            )
        if not 0 <= dim < tensor.dim():
            raise ValueError(f"tbptt: expected dim as an axis of {name}, 0 to {tensor.dim() - 1}, got {dim}")
    L = input.shape[dim]
    if target.shape[dim] != L:
        raise ValueError(
            f"tbptt: expected input and target of one length on axis dim={dim}, got {L} and {target.shape[dim]}"
        )
    if L == 0:
        raise ValueError(f"tbptt: expected at least one step on axis dim={dim}, got {tuple(input.shape)}")


def _check_layer(layer: nn.RNNBase, input: Tensor, dim: int) -> None:
    """The layer can be run in parts, along the axis that is cut."""
    who = type(layer).__name__
    if layer.bidirectional:
        raise ValueError(f"tbptt: expected a layer of one direction, got {who} of two, which reads the future first")
    time = 1 if layer.batch_first and input.dim() == 3 else 0
    if dim != time:
        raise ValueError(
            f"tbptt: expected dim={time}, the axis of time in {who} with batch_first={layer.batch_first}, got {dim}"
        )
