"""The Jacobian of each recurrent step, and the two numbers by which a matrix is judged.

L: length, N: batch, H: hidden_size, S: size of the state, H or for LSTM 2H.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import jacrev, vmap
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from ..recurrent import GRU, LSTM, RNN

PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
DROP_IN = "seqlab's RNN, LSTM, GRU take torch.nn's arguments and weights: new.load_state_dict(old.state_dict())"


def recurrent_jacobians(layer: RNN | LSTM | GRU, input: Tensor, hx: Any = None) -> Tensor:
    """J_t = ∂s_t/∂s_{t-1} at every step, of the state s = h in RNN and GRU, s = [h, c] in LSTM.

    In the tanh RNN J_t = diag(1 - h_t²) W_hh. Gradients go back by its transpose: J_tᵀ ∂L/∂s_t is what reaches
    s_{t-1} through s_t. All steps, samples and rows are differentiated in one batch.

    Args:
        layer: one layer, one direction.
        input, hx: as in the layer's forward; the Jacobians are taken along the states that they lead to.

    Shape:
        returns (L, N, S, S), or (L, S, S) for an unbatched input, S = H, or 2H for LSTM, whose blocks are
        [[∂h_t/∂h_{t-1}, ∂h_t/∂c_{t-1}], [∂c_t/∂h_{t-1}, ∂c_t/∂c_{t-1}]]. A row is one unit of the later state.

    Raises:
        TypeError: not a layer of seqlab, or a PackedSequence.
        ValueError: several layers, both directions, or an input that does not fit.

    Source:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, section 2.

    >>> layer, x = RNN(3, 5), torch.randn(20, 2, 3)
    >>> jacobians = recurrent_jacobians(layer, x)
    >>> h, h_n = layer(x)
    >>> torch.testing.assert_close(jacobians, (torch.diag_embed(1 - h**2) @ layer.weight_hh_l0).detach())
    >>> product = torch.eye(5)  # over the whole sequence: ∂h_L/∂h_0
    >>> for jacobian in jacobians.flip(0):
    ...     product = product @ jacobian
    >>> product.shape
    torch.Size([2, 5, 5])
    """
    who = "recurrent_jacobians"
    x, before, _, weights = steps_of(who, layer, input, hx)

    def step(x: Tensor, s: Tensor) -> Tensor:
        return torch.cat(layer.step(x, s.chunk(len(layer.state_names), dim=-1), weights), dim=-1)

    jacobians = vmap(vmap(jacrev(step, argnums=1)))(x, before)
    return jacobians if input.dim() == 3 else jacobians.squeeze(1)


def steps_of(
    who: str, layer: RNN | LSTM | GRU, input: Tensor, hx: Any
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """What each step computes with, cut off from the graph: x_t (L, N, H_in), s_{t-1} and s_t (L, N, S), the weights.

    With them ``layer.step`` can be differentiated at all steps at once.
    """
    if not isinstance(layer, (RNN, LSTM, GRU)):
        raise TypeError(f"{who}: expected a layer of seqlab (RNN, LSTM, GRU), got {type(layer).__name__}; {DROP_IN}")
    if isinstance(input, PackedSequence):
        raise TypeError(f"{who}: expected input as a Tensor, got a PackedSequence; pass sequences of one length")
    if layer.num_layers != 1 or layer.bidirectional:
        raise ValueError(
            f"{who}: expected one layer and one direction, got num_layers={layer.num_layers} and "
            f"bidirectional={layer.bidirectional}; copy the weights of one into a {type(layer).__name__} of its own"
        )
    if getattr(layer, "proj_size", 0):
        raise ValueError(f"{who}: expected a state of one size, got an LSTM with proj_size; use one with proj_size=0")
    states: list[Tensor] = []
    keep = layer.watch(lambda _l, _d, _t, state: states.append(torch.cat([*state.values()], dim=-1)))
    names = PARAMETERS if layer.bias else PARAMETERS[:2]
    with torch.no_grad(), keep, parametrize.cached():  # a spectral norm would change from one reading to the next
        layer(input, hx)
        weights = {name: getattr(layer, f"{name}_l0").detach() for name in names}  # computed ones too
    parts = hx if isinstance(hx, (tuple, list)) else [hx]  # h_0, or h_0 and c_0, of shape (1, N, H) each
    first = torch.zeros_like(states[0]) if hx is None else torch.cat([*parts], dim=-1).detach().view_as(states[0])
    s = torch.stack([first, *states])
    x = input.detach() if input.dim() == 3 else input.detach().unsqueeze(1)
    x = x.transpose(0, 1) if layer.batch_first and input.dim() == 3 else x
    return x, s[:-1], s[1:], weights


def spectral_radius(matrix: Tensor) -> Tensor:
    """Largest absolute value of an eigenvalue of W, ρ(W): (..., n, n) to (...), computed in float64.

    Raises:
        TypeError: not a floating-point Tensor.
        ValueError: not square, or NaN or Inf in it.

    >>> spectral_radius(torch.tensor([[0.5, 9.0], [0.0, -0.8]]))  # triangular: eigenvalues on the diagonal
    tensor(0.8000)
    """
    wide = _checked("spectral_radius", matrix)
    if matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"spectral_radius: expected square matrices (..., n, n), got {tuple(matrix.shape)}")
    return torch.linalg.eigvals(wide).abs().amax(-1).to(matrix)


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values, largest first: (..., m, n) to (..., min(m, n)), in float64. The first bounds ‖W v‖ / ‖v‖.

    Raises:
        TypeError: not a floating-point Tensor.
        ValueError: fewer than two axes, or NaN or Inf in it.

    >>> singular_values(torch.tensor([[0.0, 3.0], [2.0, 0.0]]))
    tensor([3., 2.])
    """
    return torch.linalg.svdvals(_checked("singular_values", matrix)).to(matrix)


def _checked(who: str, matrix: Tensor) -> Tensor:
    """The matrix in float64, on the CPU where the device has none."""
    if not isinstance(matrix, Tensor) or not matrix.is_floating_point():
        got = f"a Tensor of {matrix.dtype}" if isinstance(matrix, Tensor) else type(matrix).__name__
        raise TypeError(f"{who}: expected a floating-point Tensor, got {got}; use torch.as_tensor(matrix).double()")
    if matrix.dim() < 2:
        raise ValueError(f"{who}: expected matrices (..., m, n), got {tuple(matrix.shape)}")
    if not matrix.isfinite().all():  # handed on, these crash the process in some builds of LAPACK
        raise ValueError(f"{who}: expected finite values, got NaN or Inf in {tuple(matrix.shape)}; clean them first")
    return matrix.to("cpu" if matrix.device.type == "mps" else matrix.device, torch.float64)
