"""Initial values of the recurrent weights: orthogonal, identity, forget-gate bias, spectral radius.

Each function changes its layer in place, under ``torch.no_grad``, and returns it. A layer is a recurrent layer or cell
of seqlab or of ``torch.nn``; all its layers and directions are treated. weight_hh stacks one (H, H) block a gate, and
each block is treated by itself. What a function does not name, it leaves as it was.

A parametrised weight (``torch.nn.utils.parametrize``) is assigned and read back. If the parametrisation gives another
value, as a spectral norm does for most, or if a hook computes the weight, as in pruning, the function raises and leaves
the layer as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

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
        ValueError: a weight is parametrised or pruned in a way that cannot take the value.

    Source:
        Saxe, McClelland and Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in deep linear
        neural networks.

    >>> layer = orthogonal_(nn.RNN(3, 4))
    >>> torch.linalg.svdvals(layer.weight_hh_l0).detach().round(decimals=4)
    tensor([1., 1., 1., 1.])
    """

    def draw(block: Tensor) -> None:
        # Drawn on the CPU in float64, so that every device and dtype gets the same matrix, rounded once.
        drawn = torch.empty(block.shape, dtype=torch.float64, device="cpu")
        block.copy_(nn.init.orthogonal_(drawn, gain, generator))

    _change_blocks(layer, "orthogonal_", draw)
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
        ValueError: a weight is parametrised or pruned in a way that cannot take the value.

    Source:
        Le, Jaitly and Hinton (2015), A simple way to initialize recurrent networks of rectified linear units.
    Differs:
        the paper's IRNN has ReLU units, and also sets the biases to zero and draws weight_ih from a Gaussian of
        standard deviation 0.001; these are left to the caller.

    >>> identity_(nn.RNN(3, 2, nonlinearity="relu"), scale=0.5).weight_hh_l0.detach()
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    _change_blocks(layer, "identity_", lambda block: block.zero_().fill_diagonal_(scale))
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
        ValueError: the layer was made with bias=False, or a bias is parametrised or pruned in a way that cannot take
            the value.

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
    with _all_or_nothing(layer):
        biases = {name: getattr(layer, name).clone() for name in _names(layer, "bias_[ih]h")}
        for name, bias in biases.items():
            bias[H : 2 * H] = value if name.startswith("bias_ih") else 0.0  # blocks i, f, g, o
        _assign(layer, "forget_bias_", biases)
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
        ValueError: the radius is negative, the weight is not made of square blocks, a block's eigenvalues are all
            zero, or not finite, so that no factor can give it another radius, or a weight is parametrised or pruned in
            a way that cannot take the value.

    Source:
        Jaeger (2001), The "echo state" approach to analysing and training recurrent neural networks.

    >>> spectral_radius_(torch.tensor([[0.0, 2.0], [2.0, 0.0]]), 0.5)
    tensor([[0.0000, 0.5000],
            [0.5000, 0.0000]])
    """
    if not radius >= 0:
        raise ValueError(f"spectral_radius_: expected a radius of at least 0, got {radius}")

    def scale(block: Tensor) -> None:
        # In float64 on the CPU: not every device has a solver for eigenvalues, nor every dtype.
        values = block.detach().to("cpu", torch.float64)
        present = torch.linalg.eigvals(values).abs().max() if values.isfinite().all() else values.sum()
        if not (present.isfinite() and present > 0):
            raise ValueError(
                f"spectral_radius_: expected weights with a spectral radius above 0, got {present.item()}; "
                "draw them first, with orthogonal_ or torch.nn.init"
            )
        block.mul_(radius / present.item())

    _change_blocks(weight_or_layer, "spectral_radius_", scale)
    return weight_or_layer


def _names(layer: nn.Module, pattern: str) -> list[str]:
    """Names of the weights as attributes: what is parametrised or pruned has parameters of other names."""
    found = (
        re.match(rf"(?:parametrizations\.)?({pattern}(?:_l\d+(?:_reverse)?)?)", n) for n, _ in layer.named_parameters()
    )
    return list(dict.fromkeys(match[1] for match in found if match))


def _change_blocks(layer: nn.Module | Tensor, who: str, change: Callable[[Tensor], object]) -> None:
    """Apply ``change`` to each (H, H) block of the recurrent weights."""
    if isinstance(layer, Tensor):
        if layer.grad_fn is not None:
            raise ValueError(
                f"{who}: expected a weight that is stored, got one that is computed, whose change would be lost; pass "
                "the layer itself"
            )
        layer.copy_(_changed(layer, who, change))
        return
    names = _names(layer, "weight_hh") if isinstance(layer, nn.Module) else []
    if not names:
        raise TypeError(
            f"{who}: expected a recurrent layer or cell, with weight_hh, got {type(layer).__name__}; "
            "of a larger model pass the recurrent layer alone"
        )
    if getattr(layer, "proj_size", 0):
        raise ValueError(f"{who}: expected square blocks, got an LSTM with proj_size; use one with proj_size=0")
    with _all_or_nothing(layer):
        _assign(layer, who, {name: _changed(getattr(layer, name), who, change) for name in names})


def _changed(weight: Tensor, who: str, change: Callable[[Tensor], object]) -> Tensor:
    if weight.dim() != 2 or weight.shape[1] == 0 or weight.shape[0] % weight.shape[1] != 0:
        raise ValueError(f"{who}: expected square blocks, (H, H) or (G * H, H), got {tuple(weight.shape)}")
    changed = weight.detach().clone()
    for block in changed.split(weight.shape[1]):
        change(block)
    return changed


@contextmanager
def _all_or_nothing(layer: nn.Module) -> Iterator[None]:
    """On an error the layer is as before. Reading alone changes the vectors of a spectral norm."""
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    try:
        yield
    except (TypeError, ValueError):
        layer.load_state_dict(before)
        raise


def _assign(layer: nn.Module, who: str, values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        if name in layer._parameters:
            getattr(layer, name).copy_(value)
            continue
        problem = ""
        if not parametrize.is_parametrized(layer, name):
            problem = "a hook computes it, as in pruning; initialise first, then prune"
        else:
            try:
                setattr(layer, name, value)
                if not torch.allclose(getattr(layer, name), value, rtol=1e-4, atol=1e-6):
                    problem = "its parametrisation gives another value; initialise first, then parametrise"
            except (RuntimeError, ValueError, NotImplementedError) as error:
                problem = f"its parametrisation refuses the value: {error}"
        if problem:
            raise ValueError(f"{who}: cannot set {name} of this {type(layer).__name__}: {problem}")
