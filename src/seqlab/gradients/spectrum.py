"""How far back the loss of a single step reaches: the norm of its gradient, for each step and each lag.

L: length, N: batch, H: hidden_size, S: size of the state, H or for LSTM 2H.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..checks import check_sizes
from ..recurrent import GRU, LSTM, RNN
from .jacobians import steps_of


@torch.enable_grad()
def lag_spectrum(
    layer: RNN | LSTM | GRU, input: Tensor, loss: Callable[[Tensor], Tensor], max_lag: int, hx: Any = None
) -> dict[str, Tensor]:
    """‖∂l_t/∂h_{t-k}‖ for every step t and lag k, where l_t is the loss at step t alone.

    The gradient of the sum of losses, ‖∂L/∂h_t‖, mixes lags: the error of the step itself hides what comes from far
    ahead. Here the losses are kept apart. Each begins at its own step and goes back one step at a time::

        v_{t,0} = ∂l_t/∂s_t
        v_{t,k} = J_{t-k+1}ᵀ v_{t,k-1}        for all t at once

    of the state s = h in RNN and GRU, s = [h, c] in LSTM. That is max_lag steps, where autograd needs a backward pass
    for each t. What backpropagation truncated to k2 steps leaves out of the gradient at h_{t-k} are the v_{t,k} with
    k >= k2.

    Args:
        layer: one layer, one direction.
        input, hx: as in the layer's forward.
        loss: from the layer's output to the loss of each step, readout included; an entry t may depend on the output
            at t alone. It is called once.
        max_lag: largest k, less than the length.

    Shape:
        loss: the layer's output to (L,), or (L, N); with batch_first (N, L).
        returns (L, N, max_lag + 1) for each state, or (L, max_lag + 1) for an unbatched input, in float64 (float32 on
        MPS); [t, n, k] is for sample n, and ``norm(dim=1)`` that of the whole batch.

    Returns:
        A dict of the spectrum by state, under "h", and in LSTM under "h" and "c" the parts of v for h_{t-k} and
        c_{t-k}. NaN where k > t, for there is no such state.

    Raises:
        TypeError: not a layer of seqlab, a PackedSequence, or a loss that is no Tensor.
        ValueError: several layers, both directions, a max_lag or an input that does not fit, or a loss that is of
            another shape, does not depend on the output, or at one step depends on the output of others.

    Source:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, section 2, whose
        temporal contributions are these, taken to the weights.

    Differs: in an LSTM h_{t-k} and c_{t-k} are two coordinates of one state: the derivative by one holds the other
        fixed. Autograd's, which GradientMonitor reports, counts for c_{t-k} also its way through h_{t-k}.

    >>> layer, readout = RNN(3, 5), torch.nn.Linear(5, 1)
    >>> x, y = torch.randn(20, 2, 3), torch.randn(20, 2, 1)
    >>> spectrum = lag_spectrum(layer, x, lambda h: (readout(h) - y).square().mean(-1), max_lag=4)["h"]
    >>> spectrum.shape
    torch.Size([20, 2, 5])
    >>> spectrum[2, 0].isnan()  # the third step has two before it
    tensor([False, False, False,  True,  True])
    """
    who = "lag_spectrum"
    check_sizes(who, max_lag=max_lag)
    x, before, after, weights = steps_of(who, layer, input, hx)
    if max_lag >= len(x):
        raise ValueError(f"{who}: expected max_lag below the length, {len(x)}, got {max_lag}; lower it to {len(x) - 1}")
    parts = len(layer.state_names)
    v = torch.zeros_like(after)  # row u < L - k: the gradient at step u of the loss at step u + k
    v[..., : layer.hidden_size] = _at_output(layer, after[..., : layer.hidden_size], loss, input.dim() == 2)
    s = before.requires_grad_()
    after = torch.cat(layer.step(x, s.chunk(parts, dim=-1), weights), dim=-1)  # (L, N, S), all steps at once
    # In float32 the square of 1e-23 is 0: norms are taken in float64. MPS has none, so there tiny norms read 0.
    dtype = torch.float32 if x.device.type == "mps" else torch.float64
    norms = v.new_full((parts, len(x), x.shape[1], max_lag + 1), torch.nan, dtype=dtype)
    for k in range(max_lag + 1):
        if k:
            (back,) = torch.autograd.grad(after, s, v, retain_graph=True)  # rows Jᵀv, which belong a step earlier
            v[:-1] = back[1:]
        reached = v[: len(x) - k].unflatten(-1, (parts, -1))
        norms[:, k:, :, k] = torch.linalg.vector_norm(reached, dim=-1, dtype=dtype).movedim(-1, 0)
    if input.dim() == 2:
        norms = norms.squeeze(2)
    return dict(zip(layer.state_names, norms, strict=True))


def _at_output(layer: RNN | LSTM | GRU, h: Tensor, loss: Callable[[Tensor], Tensor], unbatched: bool) -> Tensor:
    """∂l_t/∂h_t, of the shape of h (L, N, H)."""
    who, first = "lag_spectrum", layer.batch_first and not unbatched
    output = (h.squeeze(1) if unbatched else h.transpose(0, 1) if first else h).clone().requires_grad_()
    losses = loss(output)
    if not isinstance(losses, Tensor):
        raise TypeError(f"{who}: expected loss(output) as a Tensor, got {type(losses).__name__}")
    each = tuple(output.shape[:-1])
    if tuple(losses.shape) not in (each, (len(h),)):
        raise ValueError(
            f"{who}: expected loss(output) of shape {each} or {(len(h),)}, a loss for each step, got "
            f"{tuple(losses.shape)}; use reduction='none' and reduce the other axes"
        )
    last = losses.movedim(1, 0)[-1] if first and losses.dim() == 2 else losses[-1]
    found = []
    for part in (last, losses):
        if not part.requires_grad:
            raise ValueError(f"{who}: expected loss(output) to depend on the output, got one without a graph")
        (grad,) = torch.autograd.grad(part.sum(), output, retain_graph=part is last, allow_unused=True)
        if grad is None:
            raise ValueError(f"{who}: expected loss(output) to depend on the output, got one that does not")
        found.append(grad.unsqueeze(1) if unbatched else grad.transpose(0, 1) if first else grad)
    if found[0][:-1].any():
        raise ValueError(
            f"{who}: expected the loss at step t to depend on the output at t alone, got one whose last step reaches "
            "back; a loss that mixes the steps, as attention does, has no lag"
        )
    return found[1]
