"""The passes as a function that autograd can use: steps 2 and 5 of the derivation in ``backprop``, for any cell."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from .._torch import forward_mode, is_batched, transforming
from ..checks import check_step
from .graphs import graphed
from .passes import Pass, Tensors, Weights

Receiver = Callable[[dict[str, Tensor]], object]
Monitor = Callable[[dict[str, Tensor]], Receiver | None]


class Plan(NamedTuple):
    """What a run needs beside its tensors."""

    cell: Pass
    sizes: list[int]  # sequences at each step
    last: Any  # index of the final states in a buffer of states
    monitor: Monitor | None

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What a run depends on beside its tensors; the final states' index follows from the sizes."""
        return (type(self.cell), *vars(self.cell).values(), *self.sizes)


class _Sequence(Function):
    """The node in autograd's graph: input (R, H_in), output (R, H)."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, input: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Any, b_hh: Any, *state: Tensor
    ) -> tuple[Tensor, ...]:
        """Output and final states, copied, so that the caller may change them: backward needs the buffers."""
        cell, sizes = plan.cell, plan.sizes
        biases = (W_hh.new_zeros(len(W_hh)) if b is None else b for b in (b_ih, b_hh))

        def compute(input: Tensor, *others: Tensor) -> Tensors:
            return cell.forward(input, others[4:], sizes, *others[:4])

        buffers: Any = graphed(("forward", *plan.key), compute, input, W_ih, W_hh, *biases, *state)
        ctx.plan = plan
        ctx.receive = plan.monitor and plan.monitor(_named(plan, buffers))
        ctx.save_for_backward(input, W_ih, W_hh, b_ih, b_hh, *state, *buffers)
        ctx.set_materialize_grads(False)
        return buffers[0][plan.sizes[0] :].clone(), *(b[plan.last].clone() for b in buffers[: len(state)])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """By hand; or by the loop, where the gradient itself is to be differentiated or has a batch axis of vmap."""
        plan, needs, inputs = ctx.plan, ctx.needs_input_grad[1:], 5 + len(ctx.plan.cell.names)
        saved = ctx.saved_tensors  # once: checkpointing recomputes at the first look and forbids a second
        tensors, buffers = saved[:inputs], saved[inputs:]
        if all(grad is None for grad in grads):
            return (None,) * (1 + len(needs))
        with torch.autocast(tensors[0].device.type, enabled=False):
            batched = any(grad is not None and is_batched(grad) for grad in grads)
            if not (batched or torch.is_grad_enabled()):
                return None, *_by_hand(plan, needs, tensors, buffers, grads, ctx.receive)
            if ctx.receive is not None and not batched:
                with torch.no_grad():
                    _by_hand(plan, (False,) * len(needs), tensors, buffers, grads, ctx.receive)
            return None, *_by_loop(plan, needs, tensors, grads)


def _named(plan: Plan, buffers: Sequence[Tensor]) -> dict[str, Tensor]:
    """The rows of all steps, of the buffers that belong to states."""
    return {name: buffer[plan.sizes[0] :] for name, buffer in zip(plan.cell.names, buffers, strict=False)}


def many_wait(plan: Plan, grads: Sequence[Tensor | None]) -> bool:
    """Whether many steps get no error directly, only from later ones, where a small gradient can become subnormal.

    Args:
        grads: what comes in from outside: dL/d(output) (R, H), and of the final states.
    """
    direct, *final = grads
    if direct is None:
        return True
    if bool(direct[::7, 0].all()):  # a dense loss, most often
        return False
    waiting = (direct == 0).all(1)
    if plan.sizes[-1] == plan.sizes[0] and all(d is None for d in final):  # what lies behind the loss waits for nothing
        errors = waiting.logical_not().view(len(plan.sizes), -1)
        waiting &= errors.flip(0).cumsum(0).flip(0).flatten() > 0
    return 8 * int(waiting.sum()) > len(waiting)


def gradients(
    plan: Plan, needs: Sequence[bool], tensors: Any, buffers: Any, grads: Any, receive: Receiver | None = None
) -> list[Tensor | None]:
    """The gradients that are needed, by hand, in the order of the tensors: input, four weights, initial state."""
    (cell, sizes, last, _), (input, W_ih, W_hh) = plan, tensors[:3]
    L, N, R = len(sizes), sizes[0], len(input)
    totals = [torch.empty_like(buffer) for buffer in buffers[: len(cell.names)]]  # (N + R, H): dh, dc
    for total, direct, final in zip(totals, (grads[0], None), grads[1:], strict=False):
        total[:N] = 0
        total[N:] = 0 if direct is None else direct
        if final is not None:
            total[last] += final
    d_input = torch.empty_like(input) if needs[0] else None
    d_W_ih, d_W_hh = (torch.empty_like(W) if need else None for W, need in zip((W_ih, W_hh), needs[1:3], strict=True))
    d_b_ih, d_b_hh = (W_hh.new_zeros(len(W_hh)) if need else None for need in needs[3:5])
    parts = cell.parts(W_hh.contiguous())
    # Subnormal numbers cost a CPU up to a hundred times the time. What is watched is shown as it is.
    flush = receive is None and W_hh.device.type == "cpu" and many_wait(plan, grads)
    rows = list(accumulate(sizes, initial=0))  # where each step starts
    # Blocks of steps, small enough for the processor's cache; on a GPU one, since its time goes by the operations.
    block = L if W_hh.is_cuda else -(-L // max(1, R // max(512, 2**17 // len(W_hh)), L // 128))
    for stop in range(L, 0, -block):
        start = max(0, stop - block)
        here, states = slice(rows[start], rows[stop]), slice(N + rows[start - 1] if start else 0, N + rows[stop])
        dh_dc = [total[states] for total in totals]
        if flush and stop < L and not any(bool(d.any()) for d in dh_dc):  # no error reaches these steps
            if d_input is not None:
                d_input[here] = 0
            continue
        used = tuple(b[states if k < len(totals) else here] for k, b in enumerate(buffers))
        da, factors = cell.backward(dh_dc, used, sizes[start:stop], parts, flush)
        if d_input is not None:
            torch.mm(da, W_ih, out=d_input[here])
        kept = int(stop < L)  # 0: what lies there plays no part
        if d_W_ih is not None:
            d_W_ih.addmm_(da.t(), input[here], beta=kept)
        if d_W_hh is not None:
            for d_part, (d, x) in zip(d_W_hh.split([d.shape[1] for d, _ in factors]), factors, strict=True):
                d_part.addmm_(d.t(), x, beta=kept)
        if d_b_ih is not None or d_b_hh is not None:
            sums = da.sum(0)
            if d_b_ih is not None:
                d_b_ih += sums
            if d_b_hh is not None:
                d_b_hh += sums if factors[0][0] is da else torch.cat([d.sum(0) for d, _ in factors])
    if receive is not None:
        receive(_named(plan, totals))
    d_state = [total[:N] if need else None for total, need in zip(totals, needs[5:], strict=True)]
    return [d_input, d_W_ih, d_W_hh, d_b_ih, d_b_hh, *d_state]


def _by_hand(
    plan: Plan, needs: tuple[bool, ...], tensors: Any, buffers: Any, grads: Any, receive: Receiver | None
) -> Sequence[Tensor | None]:
    """:func:`gradients`, as a function of tensors alone that a CUDA graph can replay."""
    bare, watched, count = plan._replace(monitor=None), receive is not None, len(buffers)

    def compute(*inputs: Tensor) -> list[Tensor | None]:
        totals: dict[str, Tensor] = {}
        weights, buffers, grads = inputs[:3], inputs[3 : 3 + count], inputs[3 + count :]
        found = gradients(bare, needs, weights, buffers, grads, totals.update if watched else None)
        return [*found, *totals.values()]

    key = ("backward", *plan.key, needs, watched)
    results: Any = graphed(key, compute, *tensors[:3], *buffers, *grads)  # of the tensors it needs x, W_ih and W_hh
    if receive is not None:
        receive(dict(zip(plan.cell.names, results[len(needs) :], strict=True)))
    return results[: len(needs)]


def _by_loop(plan: Plan, needs: Sequence[bool], tensors: Any, grads: Any) -> list[Tensor | None]:
    """The same, as a differentiable function of the tensors and of the gradients that come in."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        tensors = [None if x is None else x.view_as(x) for x in tensors]  # apart from the history of the originals
        outputs = _loop(plan, *tensors)
    reached = [k for k, grad in enumerate(grads) if grad is not None]
    wanted = [x for x, need in zip(tensors, needs, strict=True) if need]
    ends, directions = [outputs[k] for k in reached], [grads[k] for k in reached]
    found = iter(torch.autograd.grad(ends, wanted, directions, create_graph=create_graph, allow_unused=True))
    return [next(found) if need else None for need in needs]


def _loop(plan: Plan, input: Tensor, W_ih: Tensor, W_hh: Tensor, b_ih: Any, b_hh: Any, *state: Tensor) -> list[Tensor]:
    """What the pass computes, (R, H), and the final states, by the cell's step."""
    states = [state]
    for x in input.split(plan.sizes):
        states.append(plan.cell.step(x, tuple(s[: len(x)] for s in states[-1]), (W_ih, W_hh, b_ih, b_hh)))
    buffers = [torch.cat(s) for s in zip(*states, strict=True)]  # (N + R, H)
    return [buffers[0][plan.sizes[0] :], *(b[plan.last] for b in buffers)]


def hand_obstacle(input: Tensor) -> str:
    """Why the hand-written pass cannot run now on this input, in words; empty if it can.

    Args:
        input: what the layer computes with; of a PackedSequence its data.

    >>> hand_obstacle(torch.zeros(4, 2, 3))
    ''
    >>> hand_obstacle(torch.zeros(4, 2, 3, dtype=torch.bfloat16))
    'it computes in float32 and float64, not in torch.bfloat16'
    """
    if torch.compiler.is_compiling():
        return "torch.compile or torch.export is tracing"
    if torch.jit.is_tracing():
        return "torch.jit is tracing"
    if type(input) not in (Tensor, torch.nn.Parameter):
        return f"it computes with plain tensors, not with {type(input).__name__}"
    if input.dtype not in (torch.float32, torch.float64):
        return f"it computes in float32 and float64, not in {input.dtype}"
    if not torch.amp.is_autocast_available(input.device.type):
        return f"it does not run on the device {input.device.type}"
    if torch.is_autocast_enabled(input.device.type):
        return "autocast is on, which would change the dtype inside"
    if transforming():
        return "a torch.func transform is under way"
    return "forward-mode differentiation is under way" if forward_mode() else ""


def run(
    who: str,
    cell: Pass,
    input: Tensor,
    state: tuple[Tensor, ...],
    weights: Weights,
    reverse: bool,
    batch_sizes: Tensor | None,
    monitor: Monitor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Bring the input into rows in the order in which they are read, run, and bring the output back."""
    obstacle = hand_obstacle(input)
    compiling = torch.compiler.is_compiling()  # asked for earlier, a caller that is not compiled itself gets a no
    if obstacle and not compiling:
        raise RuntimeError(f"{who}: the hand-written pass cannot run, since {obstacle}; loop over the cell's steps")
    _check(who, cell, input, state, weights, batch_sizes)
    last: Any
    if batch_sizes is None:
        L, N = input.shape[:2]
        sizes, last, rows = [N] * L, slice(L * N, None), (input.flip(0) if reverse else input).flatten(0, 1)

        def arranged(x: Tensor) -> Tensor:
            x = x.unflatten(0, (L, N))
            return x.flip(0) if reverse else x
    else:
        sizes, last, mirror = packed_order(batch_sizes, input.device)
        rows = input.index_select(0, mirror) if reverse else input

        def arranged(x: Tensor) -> Tensor:
            return x.index_select(0, mirror) if reverse else x

    def watched(states: dict[str, Tensor]) -> Receiver | None:
        receive = monitor and monitor({name: arranged(rows) for name, rows in states.items()})
        return receive and (lambda totals: receive({name: arranged(rows) for name, rows in totals.items()}))

    tensors = (input, *state, *weights)
    has_graph = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    plan = Plan(cell, sizes, last, watched if monitor and has_graph else None)
    output, *final = (_loop if compiling else _Sequence.apply)(plan, rows, *weights, *state)
    return arranged(output), tuple(final)


def packed_order(batch_sizes: Tensor, device: torch.device) -> tuple[list[int], Tensor, Tensor]:
    """Of a packed batch: sizes, index of the final states, and for each row the one as far from its sequence's end."""
    N = int(batch_sizes[0])
    starts, n = batch_sizes.cumsum(0) - batch_sizes, torch.arange(N, device="cpu")
    lengths = (batch_sizes.unsqueeze(1) > n).sum(0)
    step = torch.repeat_interleave(batch_sizes)  # of each row
    column = torch.arange(len(step), device="cpu") - starts[step]
    mirror = starts[lengths[column] - 1 - step] + column
    return batch_sizes.tolist(), (N + starts[lengths - 1] + n).to(device), mirror.to(device)


def _check(who: str, cell: Pass, input: Tensor, state: Any, weights: Weights, batch_sizes: Any) -> None:
    """The shapes fit each other, and there is something to do."""
    W_ih, W_hh, b_ih, b_hh = weights
    axes = "(L, N, H_in)" if batch_sizes is None else "(R, H_in), the data of a PackedSequence,"
    if input.dim() != (3 if batch_sizes is None else 2) or len(input) == 0:
        remedy = "add the batch axis by unsqueeze(1)" if batch_sizes is None else "pass the packed rows"
        raise ValueError(f"{who}: expected input {axes} of at least one step, got {tuple(input.shape)}; {remedy}")
    check_step(who, input, state[0], W_ih, W_hh, b_ih, b_hh, cell.blocks)
    N = input.shape[1] if batch_sizes is None else int(batch_sizes[0])
    for name, s in zip(cell.names, state, strict=True):
        if s.shape != (N, W_hh.shape[1]):
            raise ValueError(
                f"{who}: expected the initial {name} of shape {(N, W_hh.shape[1])}, got {tuple(s.shape)}; "
                "a layer's states, (D * num_layers, N, H), are passed one by one"
            )
