"""Initial values of the recurrent weights: orthogonal, identity, forget-gate bias, spectral radius.

Each function changes its layer in place, under ``torch.no_grad``, and returns it. A layer is a recurrent layer or cell
of seqlab or of ``torch.nn``; all its layers and directions are treated. weight_hh stacks one (H, H) block a gate, and
each block is treated by itself. What a function does not name, it leaves as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["forget_bias_", "identity_", "orthogonal_", "spectral_radius_"]

Layer = TypeVar("Layer", bound=nn.Module)
LayerOrTensor = TypeVar("LayerOrTensor", bound=nn.Module | Tensor)


@torch.no_grad()
def orthogonal_(layer: Layer, gain: float = 1.0, generator: torch.Generator | None = None) -> Layer:
    """Random orthogonal recurrent weights, times gain: every singular value of a block is gain.

    The eigenvalues then lie on the circle of radius gain in the complex plane; they are not all equal to gain.

    Args:
        layer: whose weight_hh to set, block by block.
        gain: the common singular value.
        generator: the source of randomness, on the CPU; None is torch's global one.

    Returns:
        The layer.

    Raises:
        TypeError: the layer has no recurrent weights.

    Source:
        Saxe, McClelland and Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in deep linear
        neural networks.

    >>> layer = orthogonal_(nn.RNN(3, 4))
    >>> torch.linalg.svdvals(layer.weight_hh_l0).detach().round(decimals=4)
    tensor([1., 1., 1., 1.])
    """
    for block in _blocks(layer, "orthogonal_"):
        # Drawn on the CPU in float64, so that every device and dtype gets the same matrix, rounded once.
        block.copy_(nn.init.orthogonal_(torch.empty(block.shape, dtype=torch.float64), gain, generator))
    return layer


@torch.no_grad()
def identity_(layer: Layer, scale: float = 1.0) -> Layer:
    """Recurrent weights scale * I.

    Args:
        layer: whose weight_hh to set, block by block.
        scale: the common eigenvalue.

    Returns:
        The layer.

    Raises:
        TypeError: the layer has no recurrent weights.

    Source:
        Le, Jaitly and Hinton (2015), A simple way to initialize recurrent networks of rectified linear units.
    Differs:
        the paper's IRNN has ReLU units, and also sets the biases to zero and draws weight_ih from a Gaussian of
        standard deviation 0.001; these are left to the caller.

    >>> identity_(nn.RNN(3, 2, nonlinearity="relu"), scale=0.5).weight_hh_l0.detach()
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    for block in _blocks(layer, "identity_"):
        nn.init.eye_(block).mul_(scale)
    return layer


@torch.no_grad()
def forget_bias_(layer: Layer, value: float) -> Layer:
    """Effective bias of an LSTM's forget gate: bias_ih + bias_hh = value in the gate's block.

    torch has two bias vectors and adds them, so that value goes to one of them and zero to the other. Setting both to
    1, as is often done, makes a bias of 2. At state zero and input zero the gate is then sigmoid(value).

    Args:
        layer: an LSTM or LSTMCell with biases.
        value: the sum of the two biases.

    Returns:
        The layer.

    Raises:
        TypeError: not an LSTM.
        ValueError: the layer was made with bias=False.

    Source:
        Gers, Schmidhuber and Cummins (2000), Learning to forget; Jozefowicz, Zaremba and Sutskever (2015), An
        empirical exploration of recurrent network architectures.

    >>> layer = forget_bias_(nn.LSTM(3, 2), 1.0)
    >>> (layer.bias_ih_l0 + layer.bias_hh_l0)[2:4].detach()
    tensor([1., 1.])
    """
    if not isinstance(layer, (nn.LSTM, nn.LSTMCell)):
        raise TypeError(f"forget_bias_: expected an LSTM or LSTMCell, got {type(layer).__name__}, without forget gate")
    if not layer.bias:
        raise ValueError(f"forget_bias_: expected a {type(layer).__name__} with biases, got bias=False; use bias=True")
    H = layer.hidden_size
    for name, bias in layer.named_parameters():
        if name.startswith("bias"):
            bias[H : 2 * H] = value if name.startswith("bias_ih") else 0.0  # blocks i, f, g, o
    return layer


@torch.no_grad()
def spectral_radius_(weight_or_layer: LayerOrTensor, radius: float) -> LayerOrTensor:
    """Scale recurrent weights so that the largest absolute eigenvalue of each block is radius.

    Args:
        weight_or_layer: a layer, whose weight_hh is scaled, or a weight (H, H), or a stack of blocks (G * H, H).
        radius: the wanted spectral radius.

    Returns:
        What was given.

    Raises:
        TypeError: neither a Tensor nor a layer with recurrent weights.
        ValueError: the radius is negative, the weight is not made of square blocks, or a block's eigenvalues are all
            zero, or not finite, so that no factor can give it another radius.

    Source:
        Jaeger (2001), The "echo state" approach to analysing and training recurrent neural networks.

    >>> spectral_radius_(torch.tensor([[0.0, 2.0], [2.0, 0.0]]), 0.5)
    tensor([[0.0000, 0.5000],
            [0.5000, 0.0000]])
    """
    if not radius >= 0:
        raise ValueError(f"spectral_radius_: expected a radius of at least 0, got {radius}")
    for block in _blocks(weight_or_layer, "spectral_radius_"):
        # In float64 on the CPU: not every device has a solver for eigenvalues, nor every dtype.
        values = block.detach().to("cpu", torch.float64)
        present = torch.linalg.eigvals(values).abs().max() if values.isfinite().all() else values.sum()
        if not (present.isfinite() and present > 0):
            raise ValueError(
                f"spectral_radius_: expected weights with a spectral radius above 0, got {present.item()}; "
                "draw them first, with orthogonal_ or torch.nn.init"
            )
        block.mul_(radius / present.item())
    return weight_or_layer


def _blocks(layer: nn.Module | Tensor, who: str) -> Iterator[Tensor]:
    """The (H, H) blocks of the recurrent weights, as views that can be written to."""
    if isinstance(layer, Tensor):
        weights = [layer]
    elif isinstance(layer, nn.Module):
        weights = [weight for name, weight in layer.named_parameters() if name.startswith("weight_hh")]
    else:
        weights = []
    if not weights:
        raise TypeError(
            f"{who}: expected a recurrent layer or cell, with weight_hh, got {type(layer).__name__}; "
            "of a larger model pass the recurrent layer alone"
        )
    if getattr(layer, "proj_size", 0):
        raise ValueError(f"{who}: expected square blocks, got an LSTM with proj_size; use one with proj_size=0")
    for weight in weights:
        if weight.dim() != 2 or weight.shape[1] == 0 or weight.shape[0] % weight.shape[1] != 0:
            raise ValueError(f"{who}: expected square blocks, (H, H) or (G * H, H), got {tuple(weight.shape)}")
        yield from weight.split(weight.shape[1])
