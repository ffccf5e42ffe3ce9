"""The public functions: one direction of one layer over a sequence, for each cell."""

from __future__ import annotations

import torch

from ..checks import check_nonlinearity
from .passes import GRUAfterPass, GRUBeforePass, LSTMPass, RNNPass
from .sequence import Monitor, run


def rnn_sequence(
    input: torch.Tensor,
    hx: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor | None = None,
    bias_hh: torch.Tensor | None = None,
    nonlinearity: str = "tanh",
    *,
    reverse: bool = False,
    batch_sizes: torch.Tensor | None = None,
    monitor: Monitor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`seqlab.cells.rnn_step` over a sequence, with the gradient derived by hand.

    Args:
        input: the sequence; or, of a batch of variable lengths, ``PackedSequence.data``.
        hx: h_0; with batch_sizes in the order of the packed batch, longest first.
        weight_ih, weight_hh, bias_ih, bias_hh, nonlinearity: as in :func:`seqlab.cells.rnn_step`.
        reverse: read from the end, each sequence from its own.
        batch_sizes: ``PackedSequence.batch_sizes``.
        monitor: a function that is called with the states after all steps, {"h": h_t}, if a backward pass can follow.
            What it returns, a function or None, is called in each backward pass with their total gradients,
            {"h": dL/dh_t}. Both are in the layout of the output, and may be kept but not changed.

    Shape:
        input (L, N, H_in), output (L, N, H); with batch_sizes (R, H_in) and (R, H) for R = their sum. hx, h_n (N, H).

    Returns:
        The pair (output, h_n), the states after all steps, and each sequence's last.

    Raises:
        ValueError: the shapes don't fit each other, or the nonlinearity is unknown.
        RuntimeError: :func:`hand_obstacle` says why.

    Differs: under a late loss, subnormal gradients count as zero, see the module's description; not so under a
        monitor. A gradient that is to be differentiated again (create_graph) is computed by the loop.

    >>> layer = torch.nn.RNN(3, 5)
    >>> x, h0 = torch.randn(4, 2, 3), torch.zeros(2, 5)
    >>> output, h_n = rnn_sequence(x, h0, *layer.parameters())
    >>> torch.testing.assert_close(output, layer(x)[0])
    """
    check_nonlinearity("rnn_sequence", nonlinearity)
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    output, (h_n,) = run("rnn_sequence", RNNPass(nonlinearity), input, (hx,), weights, reverse, batch_sizes, monitor)
    return output, h_n


def lstm_sequence(
    input: torch.Tensor,
    hx: tuple[torch.Tensor, torch.Tensor],
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor | None = None,
    bias_hh: torch.Tensor | None = None,
    *,
    reverse: bool = False,
    batch_sizes: torch.Tensor | None = None,
    monitor: Monitor | None = None,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """:func:`seqlab.cells.lstm_step` over a sequence, with the gradient derived by hand.

    Args, Shape, Raises, Differs: as :func:`rnn_sequence`, with hx = (h_0, c_0); the monitor gets {"h": h_t, "c": c_t},
    and their gradients.

    Returns:
        (output, (h_n, c_n)).

    >>> layer = torch.nn.LSTM(3, 5)
    >>> x, zeros = torch.randn(4, 2, 3), torch.zeros(2, 5)
    >>> output, (h_n, c_n) = lstm_sequence(x, (zeros, zeros), *layer.parameters())
    >>> torch.testing.assert_close(output, layer(x)[0])
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    output, (h_n, c_n) = run("lstm_sequence", LSTMPass(), input, tuple(hx), weights, reverse, batch_sizes, monitor)
    return output, (h_n, c_n)


def gru_sequence(
    input: torch.Tensor,
    hx: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    bias_ih: torch.Tensor | None = None,
    bias_hh: torch.Tensor | None = None,
    reset_after: bool = True,
    *,
    reverse: bool = False,
    batch_sizes: torch.Tensor | None = None,
    monitor: Monitor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`seqlab.cells.gru_step` over a sequence, with the gradient derived by hand.

    Args, Shape, Returns, Raises, Differs: as :func:`rnn_sequence`, with reset_after as in
    :func:`seqlab.cells.gru_step`.

    >>> layer = torch.nn.GRU(3, 5)
    >>> x, h0 = torch.randn(4, 2, 3), torch.zeros(2, 5)
    >>> output, h_n = gru_sequence(x, h0, *layer.parameters())
    >>> torch.testing.assert_close(output, layer(x)[0])
    """
    cell = GRUAfterPass() if reset_after else GRUBeforePass()
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    output, (h_n,) = run("gru_sequence", cell, input, (hx,), weights, reverse, batch_sizes, monitor)
    return output, h_n
