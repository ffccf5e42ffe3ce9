"""Forward and backward pass of each cell over all steps: steps 3 and 4 of the derivation in ``backprop``.

A buffer has a row for each step of each sequence, step after step: step t has its sequences in ``sizes[t]`` rows,
the longest first, as in a PackedSequence. A buffer of states (h, c, dh, dc) starts with the initial state's N rows.
Before a loop, buffers are cut into views for each step, since a view costs as much as a small operation.
R rows = sum of sizes, N batch, H_in input_size, H hidden_size, G = blocks * H.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..cells import gru_step, lstm_step, rnn_step

Tensors = tuple[Tensor, ...]
Weights = tuple[Tensor, Tensor, Tensor | None, Tensor | None]  # W_ih, W_hh, b_ih, b_hh
Factors = list[tuple[Tensor, Tensor]]


class Pass:
    """What the autograd function in ``sequence`` asks of a cell."""

    names: tuple[str, ...] = ("h",)  # of the states, which are the first buffers
    blocks = 1

    def step(self, input: Tensor, state: Tensors, weights: Weights) -> Tensors:
        """The equation itself, from ``cells``."""
        raise NotImplementedError

    def parts(self, W_hh: Tensor) -> Tensors:
        """W_hh, cut by what it multiplies."""
        return (W_hh,)

    def forward(self, input: Tensor, state: Tensors, sizes: list[int], *weights: Tensor) -> Tensors:
        """Run over the input (R, H_in); return the buffers that ``backward`` needs."""
        raise NotImplementedError

    def backward(
        self, totals: Sequence[Tensor], buffers: Tensors, sizes: list[int], parts: Tensors, flush: bool
    ) -> tuple[Tensor, Factors]:
        """Run back over some steps, given their rows of the buffers. Complete ``totals``, which are dh (and dc).

        ``parts`` is W_hh, cut by :meth:`parts`; ``flush`` as in :func:`backwards`.
        Returns da (R, G), to which W_ih x contributes, and for each part of W_hh its da and what it multiplied.
        """
        raise NotImplementedError


class RNNPass(Pass):
    """The Elman network.

    h_t = φ(a_t) with a_t = W_ih x_t + W_hh h_{t-1} + b, and φ = tanh or relu::

        da_t = dh_t * φ'(a_t)        tanh' = 1 - h_t²,  relu' = 1 where h_t > 0, else 0
        dh_{t-1} += W_hhᵀ da_t
    """

    def __init__(self, nonlinearity: str) -> None:
        self.nonlinearity = nonlinearity

    def step(self, input: Tensor, state: Tensors, weights: Weights) -> Tensors:
        return (rnn_step(input, state[0], *weights, self.nonlinearity),)

    def forward(self, input: Tensor, state: Tensors, sizes: list[int], *weights: Tensor) -> Tensors:
        W_ih, W_hh, b_ih, b_hh = weights
        h = states_from(state[0], input)
        linear(input, W_ih, b_ih + b_hh, out=h[sizes[0] :])  # a_t lies where h_t will
        before, after = around(h, sizes)
        W, activate_ = transposed(W_hh), torch.tanh_ if self.nonlinearity == "tanh" else torch.relu_
        for t in range(len(sizes)):
            activate_(after[t].addmm_(before[t], W))
        return (h,)

    def backward(
        self, totals: Sequence[Tensor], buffers: Tensors, sizes: list[int], parts: Tensors, flush: bool
    ) -> tuple[Tensor, Factors]:
        (dh,), (h,), (W,) = totals, buffers, parts
        ht = h[-sum(sizes) :]
        da = minus(h.new_ones(()), ht, ht) if self.nonlinearity == "tanh" else (ht > 0).to(h.dtype)
        das, (dh_before, dh_after) = da.split(sizes), around(dh, sizes)
        for t in backwards(flush, dh_after):
            das[t].mul_(dh_after[t])
            dh_before[t].addmm_(das[t], W)
        return da, [(da, previous(h, sizes))]


class LSTMPass(Pass):
    """The LSTM.

    h_t = o * tanh(c_t), c_t = f * c_{t-1} + i * g, and a_t = W_ih x_t + W_hh h_{t-1} + b in the blocks i, f, g, o::

        dc_t += dh_t * o (1 - tanh²(c_t))
        da_o = dh_t * tanh(c_t) o (1 - o)
        da_i = dc_t * g i (1 - i),    da_f = dc_t * c_{t-1} f (1 - f),    da_g = dc_t * i (1 - g²)
        dc_{t-1} += dc_t * f
        dh_{t-1} += W_hhᵀ da_t
    """

    names = ("h", "c")
    blocks = 4

    def step(self, input: Tensor, state: Tensors, weights: Weights) -> Tensors:
        return lstm_step(input, (state[0], state[1]), *weights)

    def forward(self, input: Tensor, state: Tensors, sizes: list[int], *weights: Tensor) -> Tensors:
        W_ih, W_hh, b_ih, b_hh = weights
        h, c = (states_from(s, input) for s in state)
        H = h.shape[1]
        gates, tanh_c = h.new_empty(len(input), 4 * H), h.new_empty(len(input), H)
        linear(input, W_ih, b_ih + b_hh, out=gates)
        (h_before, h_after), (c_before, c_after), tanh_cs = around(h, sizes), around(c, sizes), tanh_c.split(sizes)
        a, a_if, (i, f, g, o) = (gates.split(sizes), gates[:, : 2 * H].split(sizes), blocks(gates, 4, sizes))
        W = transposed(W_hh)
        for t in range(len(sizes)):
            a[t].addmm_(h_before[t], W)
            a_if[t].sigmoid_()
            g[t].tanh_()
            o[t].sigmoid_()
            torch.mul(f[t], c_before[t], out=c_after[t]).addcmul_(i[t], g[t])
            torch.mul(o[t], torch.tanh(c_after[t], out=tanh_cs[t]), out=h_after[t])
        return h, c, gates, tanh_c

    def rebuild(self, input: Tensor, state: Tensors, sizes: list[int], output: Tensor, *weights: Tensor) -> Tensors:
        """The buffers of ``forward``, from the h_t that another engine has computed: one product, and c_t in a loop."""
        W_ih, W_hh, b_ih, b_hh = weights
        h, c = (states_from(s, input) for s in state)
        h[sizes[0] :] = output
        gates, H = torch.addmm(b_ih + b_hh, input, W_ih.t()), h.shape[1]
        gates.addmm_(previous(h, sizes), W_hh.t())
        gates[:, : 2 * H].sigmoid_()
        gates[:, 2 * H : 3 * H].tanh_()
        gates[:, 3 * H :].sigmoid_()
        i, f, g, _ = gates.chunk(4, 1)
        torch.mul(i, g, out=c[sizes[0] :])
        (c_before, c_after), fs = around(c, sizes), f.split(sizes)
        for t in range(len(sizes)):
            c_after[t].addcmul_(fs[t], c_before[t])
        return h, c, gates, torch.tanh(c[sizes[0] :])

    def backward(
        self, totals: Sequence[Tensor], buffers: Tensors, sizes: list[int], parts: Tensors, flush: bool
    ) -> tuple[Tensor, Factors]:
        (dh, dc), (h, c, gates, tanh_c), (W,) = totals, buffers, parts
        i, f, g, o = gates.chunk(4, 1)
        da, ot, ig, fc = torch.empty_like(gates), h[-len(gates) :], i * g, f * previous(c, sizes)
        da_i, da_f, da_g, da_o = da.chunk(4, 1)
        minus(ig, ig, i, out=da_i)
        minus(fc, fc, f, out=da_f)
        minus(i, ig, g, out=da_g)
        minus(ot, ot, o, out=da_o)
        dc_dh = minus(o, ot, tanh_c)
        das, das_ifg, das_o = da.split(sizes), da.unflatten(1, (4, -1))[:, :3].split(sizes), da_o.split(sizes)
        (dh_before, dh_after), (dc_before, dc_after) = around(dh, sizes), around(dc, sizes)
        dc_wide, fs, dc_dhs = dc[-len(da) :].unsqueeze(1).split(sizes), f.split(sizes), dc_dh.split(sizes)
        for t in backwards(flush, dh_after, dc_after):
            dc_after[t].addcmul_(dh_after[t], dc_dhs[t])
            das_o[t].mul_(dh_after[t])
            das_ifg[t].mul_(dc_wide[t])
            dc_before[t].addcmul_(dc_after[t], fs[t])
            dh_before[t].addmm_(das[t], W)
        return da, [(da, previous(h, sizes))]


class GRUAfterPass(Pass):
    """The GRU with the reset gate after the product.

    h_t = n + z * (h_{t-1} - n) with a_n = x_n + r * q, where x_n = W_in x_t + b_in and q = W_hn h_{t-1} + b_hn::

        da_n = dh_t * (1 - z)(1 - n²)
        da_r = da_n * q r (1 - r),    da_z = dh_t * (h_{t-1} - n) z (1 - z),    dq = da_n * r
        dh_{t-1} += dh_t * z
        dh_{t-1} += W_hhᵀ (da_r, da_z, dq)

    W_ih x contributes to (r, z, n), W_hh h to (q, r, z): a buffer with the blocks q, r, z, n holds both side by side.
    """

    blocks = 3

    def step(self, input: Tensor, state: Tensors, weights: Weights) -> Tensors:
        return (gru_step(input, state[0], *weights, True),)

    def parts(self, W_hh: Tensor) -> Tensors:
        W_rz, W_n = W_hh.tensor_split([len(W_hh) // 3 * 2])
        return (torch.cat((W_n, W_rz)),)

    def forward(self, input: Tensor, state: Tensors, sizes: list[int], *weights: Tensor) -> Tensors:
        W_ih, W_hh, b_ih, b_hh = weights
        h, H = states_from(state[0], input), state[0].shape[1]
        gates = h.new_empty(len(input), 4 * H)
        b_rz, b_n = b_hh.split([2 * H, H])
        linear(input, W_ih, b_ih + torch.cat((b_rz, torch.zeros_like(b_n))), out=gates[:, H:])
        gates[:, :H] = b_n
        (before, after), a, a_rz = around(h, sizes), gates[:, : 3 * H].split(sizes), gates[:, H : 3 * H].split(sizes)
        q, r, z, n = blocks(gates, 4, sizes)
        W = torch.cat((W_hh[2 * H :].t(), W_hh[: 2 * H].t()), 1)  # as ``transposed``, of ``parts``
        for t in range(len(sizes)):
            a[t].addmm_(before[t], W)
            a_rz[t].sigmoid_()
            n[t].addcmul_(r[t], q[t]).tanh_()
            torch.lerp(n[t], before[t], z[t], out=after[t])
        return h, gates

    def backward(
        self, totals: Sequence[Tensor], buffers: Tensors, sizes: list[int], parts: Tensors, flush: bool
    ) -> tuple[Tensor, Factors]:
        (dh,), (h, gates), (W,), H = totals, buffers, parts, totals[0].shape[1]
        q, r, z, n = gates.chunk(4, 1)
        h_previous, da = previous(h, sizes), torch.empty_like(gates)
        dq, da_r, da_z, da_n = da.chunk(4, 1)
        dn, hz = 1 - z, (h_previous - n).mul_(z)
        minus(dn, dn * n, n, out=da_n)
        torch.mul(da_n, r, out=dq)
        rq = dq * q
        minus(rq, rq, r, out=da_r)
        minus(hz, hz, z, out=da_z)
        das, das_wide, zs = da[:, : 3 * H].split(sizes), da.unflatten(1, (4, -1)).split(sizes), z.split(sizes)
        (dh_before, dh_after), dh_wide = around(dh, sizes), dh[-len(n) :].unsqueeze(1).split(sizes)
        for t in backwards(flush, dh_after):
            das_wide[t].mul_(dh_wide[t])
            dh_before[t].addcmul_(dh_after[t], zs[t])
            dh_before[t].addmm_(das[t], W)
        return da[:, H:], [(da[:, H : 3 * H], h_previous), (dq, h_previous)]


class GRUBeforePass(Pass):
    """The GRU with the reset gate before the product.

    h_t = n + z * (h_{t-1} - n) with a_n = W_in x_t + b_in + W_hn p + b_hn, where p = r * h_{t-1}::

        da_n = dh_t * (1 - z)(1 - n²),    da_z = dh_t * (h_{t-1} - n) z (1 - z)
        dp = W_hnᵀ da_n
        da_r = dp * h_{t-1} r (1 - r)
        dh_{t-1} += dh_t * z + dp * r
        dh_{t-1} += W_hrᵀ da_r + W_hzᵀ da_z

    One part of W_hh multiplies h_{t-1}, the other p.
    """

    blocks = 3

    def step(self, input: Tensor, state: Tensors, weights: Weights) -> Tensors:
        return (gru_step(input, state[0], *weights, False),)

    def parts(self, W_hh: Tensor) -> Tensors:
        return W_hh[: len(W_hh) // 3 * 2], W_hh[len(W_hh) // 3 * 2 :]

    def forward(self, input: Tensor, state: Tensors, sizes: list[int], *weights: Tensor) -> Tensors:
        W_ih, W_hh, b_ih, b_hh = weights
        h, H = states_from(state[0], input), state[0].shape[1]
        rzn, p = h.new_empty(len(input), 3 * H), h.new_empty(len(input), H)
        linear(input, W_ih, b_ih + b_hh, out=rzn)
        (before, after), a_rz, ps = around(h, sizes), rzn[:, : 2 * H].split(sizes), p.split(sizes)
        r, z, n = blocks(rzn, 3, sizes)
        W_rz, W_n = (transposed(W) for W in self.parts(W_hh))
        for t in range(len(sizes)):
            a_rz[t].addmm_(before[t], W_rz).sigmoid_()
            n[t].addmm_(torch.mul(r[t], before[t], out=ps[t]), W_n).tanh_()
            torch.lerp(n[t], before[t], z[t], out=after[t])
        return h, rzn, p

    def backward(
        self, totals: Sequence[Tensor], buffers: Tensors, sizes: list[int], parts: Tensors, flush: bool
    ) -> tuple[Tensor, Factors]:
        (dh,), (h, rzn, p), (W_rz, W_n), H = totals, buffers, parts, totals[0].shape[1]
        r, z, n = rzn.chunk(3, 1)
        h_previous, da, dp = previous(h, sizes), torch.empty_like(rzn), torch.zeros_like(p)
        da_r, da_z, da_n = da.chunk(3, 1)
        dn, hz = 1 - z, (h_previous - n).mul_(z)
        minus(dn, dn * n, n, out=da_n)
        minus(p, p, r, out=da_r)
        minus(hz, hz, z, out=da_z)
        das_zn, das_rz = da.unflatten(1, (3, -1))[:, 1:].split(sizes), da[:, : 2 * H].split(sizes)
        das_r, das_n, dps, rs, zs = (x.split(sizes) for x in (da_r, da_n, dp, r, z))
        (dh_before, dh_after), dh_wide = around(dh, sizes), dh[-len(p) :].unsqueeze(1).split(sizes)
        for t in backwards(flush, dh_after):
            das_zn[t].mul_(dh_wide[t])
            das_r[t].mul_(dps[t].addmm_(das_n[t], W_n))
            dh_before[t].addcmul_(dh_after[t], zs[t]).addcmul_(dps[t], rs[t])
            dh_before[t].addmm_(das_rz[t], W_rz)
        return da, [(da[:, : 2 * H], h_previous), (da_n, p)]


def linear(x: Tensor, W: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """out = x Wᵀ + b: x (R, K), W (G, K), b (G), out (R, G)."""
    return torch.addmm(b, x, W.t(), out=out)


def transposed(W: Tensor) -> Tensor:
    """Wᵀ, with its rows one after the other in memory: so the products with it take down to half the time."""
    return W.t().contiguous()


def states_from(initial: Tensor, input: Tensor) -> Tensor:
    """A buffer of states (N + R, H) that starts with the initial state."""
    states = initial.new_empty(len(initial) + len(input), initial.shape[1])
    states[: len(initial)] = initial
    return states


def around(states: Tensor, sizes: list[int]) -> tuple[list[Tensor], Sequence[Tensor]]:
    """For each step the state before it, of the sequences that go on, and the state after it."""
    sizes_before = [len(states) - sum(sizes), *sizes]
    parts = states.split(sizes_before)
    return [s if m == n else s[:n] for s, m, n in zip(parts, sizes_before, sizes, strict=False)], parts[1:]


def previous(states: Tensor, sizes: list[int]) -> Tensor:
    """The states before all steps, (R, H); a view where no sequence ends."""
    N = len(states) - sum(sizes)
    if sizes[-1] == N:
        return states[:-N]
    return torch.cat(around(states, sizes)[0])


def backwards(flush: bool, *totals: Sequence[Tensor]) -> Iterator[int]:
    """The steps from the last to the first; with ``flush``, what has become subnormal on the way is set to zero."""
    for t in reversed(range(len(totals[0]))):
        if flush:
            for total in totals:
                torch.hardshrink(total[t], torch.finfo(total[t].dtype).tiny, out=total[t])
        yield t


def blocks(gates: Tensor, count: int, sizes: list[int]) -> list[Sequence[Tensor]]:
    """Each block of columns, cut into steps."""
    return [block.split(sizes) for block in gates.chunk(count, 1)]


def minus(a: Tensor, b: Tensor, c: Tensor, out: Tensor | None = None) -> Tensor:
    """a - b * c, in one pass over the memory."""
    return torch.addcmul(a, b, c, value=-1, out=out)
