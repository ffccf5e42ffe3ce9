"""One step of each recurrent network: the equation once, as a pure function, and a module that holds its weights.

Shapes use torch's letters: N batch, H_in input_size, H hidden_size. Every function also takes one example without
the batch axis. Parameter names, shapes and gate order are those of ``torch.nn``; the modules inherit their
parameters from it, and only the step itself is written here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import check_cell_state, check_nonlinearity, check_pair, check_sizes, check_step

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "gru_step", "lstm_step", "rnn_step"]


def rnn_step(
    input: Tensor,
    hx: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    nonlinearity: str = "tanh",
) -> Tensor:
    """One step of the Elman network: h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Args:
        input: x, the input of this step.
        hx: h, the hidden state before this step.
        weight_ih, weight_hh, bias_ih, bias_hh: as in ``torch.nn.RNNCell``; a bias of None is left out.
        nonlinearity: "tanh", or "relu" in its place.

    Shape:
        input (N, H_in), hx (N, H), weight_ih (H, H_in), weight_hh (H, H), biases (H).

    Returns:
        h' of shape (N, H).

    Raises:
        ValueError: the shapes don't fit each other, or the nonlinearity is unknown.

    Source:
        Elman (1990), Finding structure in time.

    >>> x, h = torch.tensor([1.0]), torch.tensor([0.5])
    >>> rnn_step(x, h, weight_ih=torch.tensor([[1.0]]), weight_hh=torch.tensor([[-2.0]]))
    tensor([0.])
    """
    check_step("rnn_step", input, hx, weight_ih, weight_hh, bias_ih, bias_hh, blocks=1)
    check_nonlinearity("rnn_step", nonlinearity)
    h = hx
    a = F.linear(input, weight_ih, bias_ih) + F.linear(h, weight_hh, bias_hh)
    return torch.tanh(a) if nonlinearity == "tanh" else torch.relu(a)


def lstm_step(
    input: Tensor,
    hx: tuple[Tensor, Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    weight_hr: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of the LSTM with a forget gate and without peepholes::

        a  = W_ih x + b_ih + W_hh h + b_hh, cut into four blocks i, f, g, o
        i  = sigmoid(a_i)        input gate
        f  = sigmoid(a_f)        forget gate
        g  = tanh(a_g)           candidate
        o  = sigmoid(a_o)        output gate
        c' = f * c + i * g       cell state
        h' = o * tanh(c')        hidden state
        h' = W_hr h'             its projection, if weight_hr is given

    Args:
        input: x, the input of this step.
        hx: (h, c), hidden and cell state before this step.
        weight_ih, weight_hh, bias_ih, bias_hh: as in ``torch.nn.LSTMCell``; a bias of None is left out.
        weight_hr: as in ``torch.nn.LSTM`` with proj_size.

    Shape:
        input (N, H_in), h and c (N, H), weight_ih (4H, H_in), weight_hh (4H, H), biases (4H); with weight_hr (P, H),
        h (N, P) and weight_hh (4H, P).

    Returns:
        (h', c'), of the shapes of (h, c).

    Raises:
        ValueError: the shapes don't fit each other.

    Source:
        Hochreiter and Schmidhuber (1997), Long short-term memory; the forget gate f is from Gers, Schmidhuber
        and Cummins (2000), Learning to forget; the projection from Sak, Senior and Beaufays (2014), Long short-term
        memory based recurrent neural network architectures.
    Differs:
        one network of four gates per unit, not memory cells in blocks that share their gates; no peepholes.

    >>> zero = torch.zeros(1)
    >>> h, c = lstm_step(zero, (zero, torch.tensor([2.0])), torch.zeros(4, 1), torch.zeros(4, 1))
    >>> c  # with every weight 0 the forget gate is one half
    tensor([1.])
    """
    h, c = hx
    check_step("lstm_step", input, h, weight_ih, weight_hh, bias_ih, bias_hh, blocks=4, hidden_size=c.shape[-1])
    a = F.linear(input, weight_ih, bias_ih) + F.linear(h, weight_hh, bias_hh)  # (N, 4H)
    a_i, a_f, a_g, a_o = a.chunk(4, dim=-1)  # (N, H) each
    i = torch.sigmoid(a_i)
    f = torch.sigmoid(a_f)
    g = torch.tanh(a_g)
    o = torch.sigmoid(a_o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    if weight_hr is not None:
        h = F.linear(h, weight_hr)
    return h, c


def gru_step(
    input: Tensor,
    hx: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    reset_after: bool = True,
) -> Tensor:
    """One step of the GRU::

        r  = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        reset gate
        z  = sigmoid(W_iz x + b_iz + W_hz h + b_hz)        update gate
        n  = tanh(W_in x + b_in + r * (W_hn h + b_hn))     candidate, reset_after=True
        n  = tanh(W_in x + b_in + W_hn (r * h) + b_hn)     candidate, reset_after=False
        h' = (1 - z) * n + z * h                           hidden state

    Args:
        input: x, the input of this step.
        hx: h, the hidden state before this step.
        weight_ih, weight_hh, bias_ih, bias_hh: as in ``torch.nn.GRUCell``, blocks r, z, n; a bias of None is left out.
        reset_after: whether the reset gate multiplies after the matrix product (torch, cuDNN) or before it
            (Cho et al. 2014). The two are different networks; weights trained for one do not suit the other.

    Shape:
        input (N, H_in), hx (N, H), weight_ih (3H, H_in), weight_hh (3H, H), biases (3H).

    Returns:
        h' of shape (N, H).

    Raises:
        ValueError: the shapes don't fit each other.

    Source:
        Cho et al. (2014), Learning phrase representations using RNN encoder-decoder.
    Differs:
        biases, which the paper leaves out; with reset_after=True the place of the reset gate. Some papers
        exchange z and 1 - z; here, as in torch, z = 1 keeps the state.

    >>> zero = torch.zeros(1)
    >>> gru_step(zero, torch.tensor([2.0]), torch.zeros(3, 1), torch.zeros(3, 1))  # z is one half, n is 0
    tensor([1.])
    """
    check_step("gru_step", input, hx, weight_ih, weight_hh, bias_ih, bias_hh, blocks=3)
    h = hx
    x_r, x_z, x_n = F.linear(input, weight_ih, bias_ih).chunk(3, dim=-1)  # (N, H) each: W_i x + b_i
    W_hr, W_hz, W_hn = weight_hh.chunk(3)  # (H, H) each
    b_hr, b_hz, b_hn = (None, None, None) if bias_hh is None else bias_hh.chunk(3)
    r = torch.sigmoid(x_r + F.linear(h, W_hr, b_hr))
    z = torch.sigmoid(x_z + F.linear(h, W_hz, b_hz))
    h_n = r * F.linear(h, W_hn, b_hn) if reset_after else F.linear(r * h, W_hn, b_hn)
    n = torch.tanh(x_n + h_n)
    return (1 - z) * n + z * h


class RNNCell(nn.RNNCell):
    """:func:`rnn_step` with its weights; a drop-in for ``torch.nn.RNNCell``.

    Args:
        input_size, hidden_size, bias, nonlinearity, device, dtype: as in ``torch.nn.RNNCell``.

    Shape:
        input (N, H_in) or (H_in), hx (N, H) or (H), by default zeros; returns h' of the same shape as hx.

    Raises:
        TypeError, ValueError: a size, shape, dtype or device does not fit; the message says which.

    >>> cell = RNNCell(3, 5)
    >>> cell(torch.zeros(2, 3)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_sizes("RNNCell", input_size=input_size, hidden_size=hidden_size)
        check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, nonlinearity, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """One step; zeros for a state that is not given."""
        h = check_cell_state(self, input, hx)
        return rnn_step(input, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, self.nonlinearity)


class LSTMCell(nn.LSTMCell):
    """:func:`lstm_step` with its weights; a drop-in for ``torch.nn.LSTMCell``.

    Args:
        input_size, hidden_size, bias, device, dtype: as in ``torch.nn.LSTMCell``.

    Shape:
        input (N, H_in) or (H_in), hx = (h, c), each (N, H) or (H), by default zeros; returns (h', c').

    Raises:
        TypeError, ValueError: a size, shape, dtype or device does not fit; the message says which.

    >>> h, c = LSTMCell(3, 5)(torch.zeros(2, 3))
    >>> h.shape, c.shape
    (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        check_sizes("LSTMCell", input_size=input_size, hidden_size=hidden_size)
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """One step; zeros for a state that is not given."""
        h, c = (None, None) if hx is None else check_pair("LSTMCell", hx)
        state = check_cell_state(self, input, h), check_cell_state(self, input, c)
        return lstm_step(input, state, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


class GRUCell(nn.GRUCell):
    """:func:`gru_step` with its weights; a drop-in for ``torch.nn.GRUCell``.

    Args:
        input_size, hidden_size, bias, device, dtype: as in ``torch.nn.GRUCell``.
        reset_after: as in :func:`gru_step`; True is torch's network, False that of Cho et al. (2014).

    Shape:
        input (N, H_in) or (H_in), hx (N, H) or (H), by default zeros; returns h' of the same shape as hx.

    Raises:
        TypeError, ValueError: a size, shape, dtype or device does not fit; the message says which.

    >>> cell = GRUCell(3, 5, reset_after=False)
    >>> cell(torch.zeros(2, 3)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
    ) -> None:
        check_sizes("GRUCell", input_size=input_size, hidden_size=hidden_size)
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.reset_after = reset_after

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """One step; zeros for a state that is not given."""
        h = check_cell_state(self, input, hx)
        return gru_step(input, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, self.reset_after)

    def extra_repr(self) -> str:
        """As torch's, and reset_after where it differs from torch."""
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
