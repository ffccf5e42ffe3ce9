"""Which path a call takes, and the reason in words."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from ..backprop import hand_obstacle

if TYPE_CHECKING:
    from .base import Recurrent, State

BACKENDS = ("auto", "loop", "hand", "torch")
SHORT = 6  # steps from which the hand-written pass wins back what its preparation costs


def choose(network: Recurrent, input: Tensor | PackedSequence | None, initial: State | None) -> tuple[str, str]:
    """The rule behind ``path``. The first condition that holds decides."""
    who, backend = type(network).__name__, network.backend
    if backend not in BACKENDS:
        raise ValueError(f"{who}: expected backend to be one of {', '.join(BACKENDS)}, got {backend!r}")
    data = network._weights(0, 0)["weight_ih"] if input is None else input[0] if isinstance(input, tuple) else input
    differentiated = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad
        for t in chain((data,), initial or (), network._parameters.values(), network.parameters())
    )
    if backend != "auto":
        return backend, _named(network, data, differentiated)
    if network._watchers:
        return "loop", "a watcher wants the state after each step"
    # torch 2.6 can't tell export from compile; the loop is right for both
    if getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)():
        return "loop", "torch.export records the operations"
    if torch._C._are_functorch_transforms_active():
        return "loop", "a torch.func transform is under way"
    if forward_ad._current_level >= 0:
        return "loop", "forward-mode differentiation is under way"
    not_torch = torch_obstacle(network, differentiated)
    if not (differentiated or not_torch):
        return "torch", "no gradient is asked for, and torch's kernels are the fastest forward pass"
    not_hand = hand_obstacle(data)
    if not_torch and not_hand:
        return "loop", f"{not_torch}, and the hand-written pass steps aside: {not_hand}"
    if not_torch:
        return "hand", not_torch
    if not_hand:
        return "torch", f"the hand-written pass steps aside: {not_hand}"
    if data.device.type != "cpu":
        return "torch", "on a GPU torch's kernels are the fastest"
    steps = _steps(network, input)
    if steps is not None and steps < SHORT:
        return "torch", f"over fewer than {SHORT} steps the hand-written pass does not win back its preparation"
    onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    if isinstance(network, nn.LSTM) and data.dtype == torch.float32 and onednn:
        return "torch", "oneDNN, in torch, has the LSTM in float32 as one operation"
    return "hand", "the hand-written backward pass is the fastest on the CPU"


def torch_obstacle(network: Recurrent, differentiated: bool) -> str:
    """What is asked for that torch's kernels cannot do, in words; empty if nothing is."""
    if network._watchers:
        return "a watcher wants the state after each step"
    if network._gradient_watchers and differentiated:
        return "a watcher wants the gradient of each step"
    return "" if network.reset_after else "torch has no kernel for reset_after=False"


def _named(network: Recurrent, data: Tensor, differentiated: bool) -> str:
    """The reason for a backend that was named, if it is possible."""
    obstacle, others = "", "'loop'"
    if network.backend == "torch":
        obstacle, others = torch_obstacle(network, differentiated), "'hand' or 'loop'"
    elif network.backend == "hand":
        obstacle = "a watcher wants the state after each step" if network._watchers else hand_obstacle(data)
    if obstacle:
        raise ValueError(
            f"{type(network).__name__}: backend={network.backend!r} is not possible, since {obstacle}; "
            f"use backend='auto' or {others}"
        )
    return f"backend={network.backend!r} was asked for"


def _steps(network: Recurrent, input: Tensor | PackedSequence | None) -> int | None:
    if input is None:
        return None
    if isinstance(input, PackedSequence):
        return len(input.batch_sizes)
    return input.shape[1 if network.batch_first and input.dim() == 3 else 0]
