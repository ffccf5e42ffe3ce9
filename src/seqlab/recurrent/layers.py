"""RNN, LSTM and GRU over whole sequences, as ``torch.nn`` has them. N batch, L length, H_in input_size, H hidden_size,
D directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..cells import gru_step, lstm_step, rnn_step
from ..checks import check_nonlinearity
from .call import State, Weights
from .network import Recurrent


class RNN(Recurrent[torch.Tensor], nn.RNN):
    """Elman network over a whole sequence, :func:`seqlab.cells.rnn_step` in each layer; a drop-in for ``torch.nn.RNN``.

    Args:
        input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional, device, dtype:
            as in ``torch.nn.RNN``.
        backend: "auto" takes the fastest engine that can do what is asked; "loop", "hand", "onednn", "torch" or
            "watched" names one; ``layer.path(input)`` says which it is, and why.

    Shape:
        input (L, N, H_in), (N, L, H_in) with batch_first, (L, H_in) without a batch, or a PackedSequence;
        hx (D * num_layers, N, H); the layer returns (output, h_n), output (L, N, D * H) in the layout of the input.

    Raises:
        TypeError, ValueError: an argument, shape, dtype or device does not fit. A NaN goes through, as in torch.

    Source:
        Elman (1990), Finding structure in time.

    >>> output, h_n = RNN(3, 5, bidirectional=True)(torch.zeros(4, 2, 3))
    >>> output.shape, h_n.shape
    (torch.Size([4, 2, 10]), torch.Size([2, 2, 5]))
    """

    kind = "RNN"
    step_options = ("nonlinearity",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
    ) -> None:
        self.backend = backend
        check_nonlinearity("RNN", nonlinearity)
        options = {"bias": bias, "batch_first": batch_first, "dropout": dropout, "bidirectional": bidirectional}
        super().__init__(
            input_size, hidden_size, num_layers, nonlinearity=nonlinearity, **options, device=device, dtype=dtype
        )

    def step(self, input: torch.Tensor, state: State, weights: Weights) -> State:
        """See :func:`seqlab.cells.rnn_step`."""
        (h,) = state
        return (rnn_step(input, h, **weights, nonlinearity=self.nonlinearity),)


class LSTM(Recurrent[tuple[torch.Tensor, torch.Tensor]], nn.LSTM):
    """LSTM over a whole sequence, :func:`seqlab.cells.lstm_step` in each layer; a drop-in for ``torch.nn.LSTM``.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as in
            ``torch.nn.LSTM``.
        proj_size: as in ``torch.nn.LSTM``: h_t is projected to that many numbers; 0 leaves it as it is.
        backend: as in :class:`RNN`.

    Shape:
        as :class:`RNN`; hx is a pair (h_0, c_0), and the layer returns (output, (h_n, c_n)). With proj_size the last
        axis of output, h_0 and h_n is proj_size (output: D * proj_size), that of c_0 and c_n is hidden_size.

    Raises:
        TypeError, ValueError: as :class:`RNN`, and for a proj_size that is not smaller than hidden_size.

    Source:
        Hochreiter and Schmidhuber (1997); the forget gate is from Gers, Schmidhuber and Cummins (2000).

    >>> output, (h_n, c_n) = LSTM(3, 5, num_layers=2)(torch.zeros(4, 2, 3))
    >>> output.shape, c_n.shape
    (torch.Size([4, 2, 5]), torch.Size([2, 2, 5]))
    """

    kind = "LSTM"
    state_names = ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
    ) -> None:
        self.backend = backend
        if not isinstance(proj_size, int) or not 0 <= proj_size < max(1, hidden_size):
            raise ValueError(
                f"LSTM: expected proj_size from 0, for none, to below hidden_size={hidden_size}, got {proj_size!r}"
            )
        options = {"bias": bias, "batch_first": batch_first, "dropout": dropout, "bidirectional": bidirectional}
        options |= {"proj_size": proj_size, "device": device, "dtype": dtype}
        super().__init__(input_size, hidden_size, num_layers, **options)

    def step(self, input: torch.Tensor, state: State, weights: Weights) -> State:
        """See :func:`seqlab.cells.lstm_step`."""
        h, c = state
        return lstm_step(input, (h, c), **weights)


class GRU(Recurrent[torch.Tensor], nn.GRU):
    """GRU over a whole sequence, :func:`seqlab.cells.gru_step` in each layer; a drop-in for ``torch.nn.GRU``.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as in
            ``torch.nn.GRU``.
        backend: as in :class:`RNN`.
        reset_after: as in :func:`seqlab.cells.gru_step`; torch has no kernel for False.

    Shape:
        as :class:`RNN`; the layer returns (output, h_n).

    Raises:
        TypeError, ValueError: as :class:`RNN`, and for backend="torch" with reset_after=False.

    Source:
        Cho et al. (2014); with reset_after=True, the default, the variant of cuDNN and torch.

    >>> output, h_n = GRU(3, 5, batch_first=True)(torch.zeros(2, 4, 3))
    >>> output.shape, h_n.shape
    (torch.Size([2, 4, 5]), torch.Size([1, 2, 5]))
    """

    kind = "GRU"
    step_options = ("reset_after",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str = "auto",
        reset_after: bool = True,
    ) -> None:
        self.backend = backend
        self.reset_after = reset_after
        options = {"bias": bias, "batch_first": batch_first, "dropout": dropout, "bidirectional": bidirectional}
        super().__init__(input_size, hidden_size, num_layers, **options, device=device, dtype=dtype)

    def step(self, input: torch.Tensor, state: State, weights: Weights) -> State:
        """See :func:`seqlab.cells.gru_step`."""
        (h,) = state
        return (gru_step(input, h, **weights, reset_after=self.reset_after),)

    def extra_repr(self) -> str:
        """As torch's, and reset_after where it differs from torch."""
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
