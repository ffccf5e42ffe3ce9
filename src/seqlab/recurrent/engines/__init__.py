"""The engines, and the choice among them.

* "loop": the equation of ``cells`` for each layer, direction and step, under autograd. It can be read and watched, and
  stands all that torch does to a computation. It says what is right.
* "hand": the backward pass of ``backprop``, derived by hand.
* "onednn": oneDNN's LSTM on the CPU, for packed and for long batches.
* "torch": torch's own kernels, as ``torch.nn`` calls them.
* "watched": the same, one direction of one layer at a time, with inputs whose gradients are those of the gates.

An engine is a module with two functions of a ``Call``: ``obstacle``, why it can't run the call, and ``run``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from ..._torch import forward_mode, transforming
from ..call import Call
from . import hand, kernel, loop, onednn, watched

ENGINES: dict[str, Any] = {"loop": loop, "hand": hand, "onednn": onednn, "torch": kernel, "watched": watched}
SHORT = 6  # steps from which the hand-written pass wins back what its preparation costs


def choose(call: Call, backend: str) -> tuple[str, str]:
    """The name of the engine that runs this call, and the reason in words.

    Raises:
        ValueError: the backend is unknown, or can't do what is asked.
    """
    if backend == "auto":
        return _fastest(call)
    if backend not in ENGINES:
        names = ", ".join(("auto", *ENGINES))
        raise ValueError(f"{call.kind}: expected backend to be one of {names}, got {backend!r}")
    if words := ENGINES[backend].obstacle(call):
        raise ValueError(
            f"{call.kind}: backend={backend!r} is not possible, since {words}; use backend='auto' or 'loop'"
        )
    return backend, f"backend={backend!r} was asked for"


def _fastest(call: Call) -> tuple[str, str]:
    """The first engine without an obstacle, from the one that is fastest for this call to the loop."""
    if words := _only_the_loop(call):
        return "loop", words
    first, reason = _preferred(call)
    obstacles: list[str] = []
    for name in (first, "hand", "torch"):
        words = ENGINES[name].obstacle(call)
        if not words:
            return name, ", and ".join(dict.fromkeys(obstacles)) or reason
        obstacles.append(f"the hand-written pass steps aside: {words}" if name == "hand" else words)
    return "loop", ", and ".join(dict.fromkeys(obstacles))


def _only_the_loop(call: Call) -> str:
    """What is asked for that only the loop can do, in words; empty if nothing is."""
    if call.watchers:
        return "a watcher wants the state after each step"
    if not call.own_step:
        return "a subclass has its own step"
    # torch 2.6 can't tell export from compile; the loop is right for both
    if getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)():
        return "torch.export records the operations"
    if transforming():
        return "a torch.func transform is under way"
    return "forward-mode differentiation is under way" if forward_mode() else ""


def _preferred(call: Call) -> tuple[str, str]:
    """The engine that is fastest for this call if it has no obstacle, and the reason in words."""
    if torch.compiler.is_compiling():
        return "torch", "torch.compile is tracing"
    by_onednn = not onednn.missing(call)
    if by_onednn and isinstance(call.input, PackedSequence):
        return "onednn", "torch leaves oneDNN's LSTM for a packed batch; here the batch is padded for it"
    if not call.differentiated():
        return "torch", "no gradient is asked for, and torch's kernels are the fastest forward pass"
    if call.data.device.type != "cpu":
        if call.gradient_watchers:
            return "watched", "on a GPU torch's kernels are the fastest, with inputs that show the gradients"
        return "torch", "on a GPU torch's kernels are the fastest"
    if call.length < SHORT:
        return "torch", f"over fewer than {SHORT} steps the hand-written pass does not win back its preparation"
    if by_onednn and call.length >= onednn.LONG:
        return "onednn", "oneDNN has the LSTM in float32 as one operation, and a late loss goes back by hand"
    if by_onednn:
        return "torch", "oneDNN, in torch, has the LSTM in float32 as one operation"
    return "hand", "the hand-written backward pass is the fastest on the CPU"
