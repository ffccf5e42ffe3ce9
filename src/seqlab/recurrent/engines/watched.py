"""torch's own kernels, one direction of one layer at a time, watched at their speed: for a GPU.

A kernel shows neither the gates nor their gradients. So each step gets G = blocks * H further inputs that are zero,
with the identity as their weights. They change no result, and the gradient of these inputs, which autograd computes,
*is* da_t, that of the gates' pre-activations. From it and from what comes in from outside the total gradients follow
for all steps at once, after the backward pass::

    RNN:  dh_t = direct_t + W_hhᵀ da_{t+1}
    LSTM: dh_t as in an RNN;  dc_t = dh_t * o (1 - tanh²(c_t)) + f_{t+1} * dc_{t+1}
    GRU:  dh_t = direct_t + W_hhᵀ (da_r, da_z, r * da_n)_{t+1} + z_{t+1} * dh_{t+1}

``backprop`` derives them. Gates and c_t come from h_t, by one product and :func:`linear_scan`.

N batch, L length, H_in input_size, H hidden_size, D directions, G = blocks * H.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.nn.utils.rnn import PackedSequence

from ..._torch import is_batched
from ..._torch import kernel as torch_kernel
from ..call import Call, Input, State, Weights
from ..watch import Receiver, tell
from . import kernel

# Total gradients of the states, from da (L, N, G), the direct gradient of h (L, N, H), and the final one of c.
Totals = Callable[[Tensor, Tensor, Tensor | None], dict[str, Tensor]]


def obstacle(call: Call) -> str:
    """Why this engine can't run the call, in words; empty if it can."""
    if not (call.gradient_watchers and call.differentiated()):
        return "no watcher wants the gradient of each step"
    if isinstance(call.input, PackedSequence):
        return "a packed batch has no step for all sequences at once"
    if "weight_hr" in call.weights[0][0]:
        return "a projection hides the gates behind it"
    device = call.data.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return "autocast is on, which would change the dtype inside"
    return kernel.obstacle(call._replace(gradient_watchers=()))


def run(call: Call) -> tuple[Input, State]:
    """Output, in the layout of the input, and final states."""

    def one_direction(x: Tensor, state: State, weights: Weights, layer: int, direction: int) -> tuple[Tensor, State]:
        x = x.flip(0) if direction else x
        back = (lambda s: s.flip(0)) if direction else (lambda s: s)
        W_ih, W_hh = weights["weight_ih"], weights["weight_hh"]
        biases = [weights[name] for name in ("bias_ih", "bias_hh") if name in weights]
        seen = Seen()
        wide_x, wide_W = Probe.apply(seen, x, W_ih, W_hh, *biases, *state)
        name = {"LSTM": "lstm", "GRU": "gru", "RNN": f"rnn_{call.options.get('nonlinearity')}"}[call.kind]
        hx: Any = [s.unsqueeze(0) for s in state] if call.kind == "LSTM" else state[0].unsqueeze(0)
        settings = (bool(biases), 1, 0.0, True, False, False)
        with warnings.catch_warnings():  # cuDNN would have all weights in one piece of memory
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
            results = torch_kernel(name)(wide_x, hx, [wide_W, W_hh, *biases], *settings)
        output, *final = Arrival.apply(seen, results[0], *(s[0] for s in results[1:]))
        with torch.no_grad():
            h_before = torch.cat((state[0].unsqueeze(0), output[:-1]))
            b_ih, b_hh = biases or (None, None)
            a_x, a_h = F.linear(x, W_ih, b_ih), F.linear(h_before, W_hh, b_hh)
            seen.totals, states = METHODS[call.kind](a_x, a_h, W_hh, state)
            states = {"h": output.detach(), **states}
        receive = tell(call.gradient_watchers, layer, direction, {key: back(s) for key, s in states.items()})
        seen.receive = receive and (lambda totals: receive({key: back(d) for key, d in totals.items()}))
        return back(output), tuple(final)

    return call.by_layer(call.data, call.initial, one_direction)


class Seen:
    """What passes between the two ends of a kernel's node in a backward pass."""

    totals: Totals
    receive: Receiver | None = None
    arrived: tuple[Tensor | None, ...] = ()  # gradients of output and final states


class Arrival(Function):
    """A kernel's results as they are; on the way back it notes what comes in."""

    @staticmethod
    def forward(ctx: Any, seen: Seen, *results: Tensor) -> tuple[Tensor, ...]:
        """Output (L, N, H), and the final states (N, H)."""
        ctx.seen = seen
        ctx.set_materialize_grads(False)
        return tuple(x.view_as(x) for x in results)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The same gradients."""
        ctx.seen.arrived = grads
        return None, *grads


class Probe(Function):
    """The further inputs. Its inputs are all tensors of the call, so that each backward pass comes here."""

    @staticmethod
    def forward(ctx: Any, seen: Seen, x: Tensor, W_ih: Tensor, W_hh: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        """(L, N, H_in + G) and (G, H_in + G)."""
        ctx.seen, ctx.H_in, ctx.width, ctx.others = seen, x.shape[2], W_hh.shape[1], 1 + len(others)
        G = len(W_ih)
        return F.pad(x, (0, G)), torch.cat((W_ih, torch.eye(G, dtype=W_ih.dtype, device=W_ih.device)), 1)

    @staticmethod
    def backward(ctx: Any, d_x: Tensor, d_W: Tensor) -> Any:
        """Cut off what belongs to the further inputs, and hand out the totals."""
        seen, H_in = ctx.seen, ctx.H_in
        if seen.receive is not None and not is_batched(d_x):
            with torch.no_grad():
                direct, *final = seen.arrived
                da = d_x[..., H_in:]
                direct = da.new_zeros(*da.shape[:2], ctx.width) if direct is None else direct.clone()
                if final[0] is not None:
                    direct[-1] += final[0]
                seen.receive(seen.totals(da, direct, final[1] if len(final) > 1 else None))
        return None, d_x[..., :H_in], d_W[:, :H_in], *(None for _ in range(ctx.others))


def _rnn(a_x: Tensor, a_h: Tensor, W_hh: Tensor, state: State) -> tuple[Totals, dict[str, Tensor]]:
    return lambda da, direct, _: {"h": from_next(da @ W_hh, direct)}, {}


def _lstm(a_x: Tensor, a_h: Tensor, W_hh: Tensor, state: State) -> tuple[Totals, dict[str, Tensor]]:
    a_i, a_f, a_g, a_o = (a_x + a_h).chunk(4, -1)
    f, o = torch.sigmoid(a_f), torch.sigmoid(a_o)
    c = linear_scan(f, torch.sigmoid(a_i) * torch.tanh(a_g), state[1])

    def totals(da: Tensor, direct: Tensor, d_c_n: Tensor | None) -> dict[str, Tensor]:
        dh = from_next(da @ W_hh, direct)
        dc = dh * o * (1 - torch.tanh(c).square())
        if d_c_n is not None:
            dc[-1] += d_c_n
        return {"h": dh, "c": backward_scan(f, dc)}

    return totals, {"c": c}


def _gru(a_x: Tensor, a_h: Tensor, W_hh: Tensor, state: State) -> tuple[Totals, dict[str, Tensor]]:
    H = W_hh.shape[1]
    r, z = torch.sigmoid(a_x[..., : 2 * H] + a_h[..., : 2 * H]).chunk(2, -1)

    def totals(da: Tensor, direct: Tensor, _: Tensor | None) -> dict[str, Tensor]:
        da_rz, da_n = da.split([2 * H, H], -1)
        return {"h": backward_scan(z, from_next(torch.cat((da_rz, r * da_n), -1) @ W_hh, direct))}

    return totals, {}


METHODS = {"RNN": _rnn, "LSTM": _lstm, "GRU": _gru}


def from_next(given: Tensor, direct: Tensor) -> Tensor:
    """direct_t + given_{t+1}, over the memory of ``direct``."""
    direct[:-1] += given[1:]
    return direct


def backward_scan(factor: Tensor, u: Tensor) -> Tensor:
    """s_t = u_t + factor_{t+1} * s_{t+1}."""
    factor = torch.cat((torch.zeros_like(factor[:1]), factor.flip(0)[:-1]))
    return linear_scan(factor, u.flip(0), torch.zeros_like(u[0])).flip(0)


def linear_scan(factor: Tensor, u: Tensor, initial: Tensor) -> Tensor:
    """s_t = factor_t * s_{t-1} + u_t from s_0 = initial, in log2(L) operations on all steps instead of L on one.

    After the pass with distance k, u_t is what the last 2 k steps have contributed to s_t, and factor_t the product of
    their factors.

    Source: Hillis and Steele (1986), Data parallel algorithms, for sums.

    >>> linear_scan(torch.full((4, 1), 0.5), torch.ones(4, 1), torch.zeros(1)).flatten()
    tensor([1.0000, 1.5000, 1.7500, 1.8750])
    """
    u = torch.cat(((u[0] + factor[0] * initial).unsqueeze(0), u[1:]))
    k = 1
    while k < len(u):
        u = torch.cat((u[:k], torch.addcmul(u[k:], factor[k:], u[:-k])))
        factor = torch.cat((factor[:k], factor[k:] * factor[:-k]))
        k *= 2
    return u
