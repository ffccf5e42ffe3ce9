"""Initial values: what each function promises of the weights, for every kind of layer, and what it leaves alone."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.testing import assert_close

import seqlab
from seqlab import forget_bias_, identity_, orthogonal_, spectral_radius_

MAKERS = {
    "RNN": lambda: seqlab.RNN(3, 4, num_layers=2, bidirectional=True),
    "LSTM": lambda: seqlab.LSTM(3, 4, num_layers=2, bidirectional=True),
    "GRU": lambda: seqlab.GRU(3, 4, num_layers=2, bidirectional=True),
    "LSTMCell": lambda: seqlab.LSTMCell(3, 4),
    "GRUCell": lambda: seqlab.GRUCell(3, 4),
    "torch-LSTM": lambda: nn.LSTM(3, 4),
    "torch-RNNCell": lambda: nn.RNNCell(3, 4),
    "float64": lambda: seqlab.GRU(3, 4, dtype=torch.float64),
}
every_layer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def blocks(layer):
    """Every (H, H) block of the recurrent weights."""
    weights = [p.detach() for name, p in layer.named_parameters() if name.startswith("weight_hh")]
    return [block for weight in weights for block in weight.split(weight.shape[1])]


def others(layer, kind):
    return {name: p.detach().clone() for name, p in layer.named_parameters() if not name.startswith(kind)}


@every_layer
def test_orthogonal_has_singular_values_of_gain_and_eigenvalues_on_its_circle(make):
    layer = make()
    before = others(layer, "weight_hh")
    assert orthogonal_(layer, gain=0.5) is layer
    for block in blocks(layer):
        assert_close(torch.linalg.svdvals(block), torch.full_like(block[0], 0.5))
        assert_close(torch.linalg.eigvals(block).abs(), torch.full_like(block[0], 0.5))
    assert not torch.equal(blocks(layer)[0], blocks(layer)[-1]) or len(blocks(layer)) == 1
    assert_close(others(layer, "weight_hh"), before, rtol=0, atol=0)


def test_orthogonal_in_float64_is_exact_to_its_digits():
    (block,) = blocks(orthogonal_(seqlab.RNN(3, 64, dtype=torch.float64)))
    assert_close(block @ block.mT, torch.eye(64, dtype=torch.float64), rtol=0, atol=1e-12)


def test_orthogonal_draws_from_the_generator_the_same_for_every_dtype():
    single, double = seqlab.RNN(3, 4), seqlab.RNN(3, 4, dtype=torch.float64)
    state = torch.get_rng_state()
    for layer in (single, double):
        orthogonal_(layer, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert_close(single.weight_hh_l0, double.weight_hh_l0.float(), rtol=0, atol=0)


@every_layer
def test_identity_is_a_scaled_identity_in_each_block(make):
    layer = make()
    before = others(layer, "weight_hh")
    assert identity_(layer, scale=1.05) is layer
    for block in blocks(layer):
        assert_close(block, 1.05 * torch.eye(4, dtype=block.dtype))
    assert_close(others(layer, "weight_hh"), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell", "torch-LSTM"])
def test_forget_bias_is_the_sum_of_both_biases(kind):
    layer = MAKERS[kind]()
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    assert forget_bias_(layer, 1.5) is layer
    after = {name: p.detach() for name, p in layer.named_parameters()}
    for name in after:
        if name.startswith("bias_ih"):
            total = after[name] + after[name.replace("_ih", "_hh")]
            assert_close(total[4:8], torch.full((4,), 1.5))
        kept = [0, 1, 2, 3, *range(8, 16)] if name.startswith("bias") else slice(None)
        assert_close(after[name][kept], before[name][kept], rtol=0, atol=0)


def test_forget_bias_is_what_the_gate_sees():
    """With no input, no state but c = 1, and the candidate's weights zero, one step multiplies c by sigmoid(value)."""
    cell = seqlab.LSTMCell(3, 4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
    _, c = forget_bias_(cell, 2.0)(torch.zeros(3).double(), (torch.zeros(4).double(), torch.ones(4).double()))
    assert_close(c, torch.full((4,), 2.0, dtype=torch.float64).sigmoid())


@every_layer
@pytest.mark.parametrize("radius", [0.0, 0.9, 1.1])
def test_spectral_radius_of_each_block(make, radius):
    layer = make()
    before = others(layer, "weight_hh")
    directions = [block / block.norm() for block in blocks(layer)]
    assert spectral_radius_(layer, radius) is layer
    for block, direction in zip(blocks(layer), directions, strict=True):
        assert_close(torch.linalg.eigvals(block).abs().max(), torch.tensor(radius, dtype=block.dtype))
        if radius:
            assert_close(block / block.norm(), direction)
    assert_close(others(layer, "weight_hh"), before, rtol=0, atol=0)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 12), gates=st.integers(1, 4), radius=st.floats(0.01, 3.0), seed=st.integers(0, 999))
def test_spectral_radius_of_a_tensor(size, gates, radius, seed):
    weight = torch.randn(gates * size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert spectral_radius_(weight, radius) is weight
    for block in weight.split(size):
        assert torch.linalg.eigvals(block).abs().max().item() == pytest.approx(radius, rel=1e-9)


def test_values_change_in_place_and_stay_parameters():
    layer = seqlab.RNN(3, 4)
    weight, address = layer.weight_hh_l0, layer.weight_hh_l0.data_ptr()
    for change in (orthogonal_, identity_, lambda layer: spectral_radius_(layer, 0.9)):
        change(layer)
    assert layer.weight_hh_l0 is weight
    assert weight.data_ptr() == address
    assert weight.requires_grad
    assert weight.is_leaf


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: orthogonal_(nn.Linear(3, 3)),
            TypeError,
            "orthogonal_: expected a recurrent layer or cell.*got Linear",
        ),
        (lambda: identity_("RNN"), TypeError, "identity_: expected a recurrent layer or cell.*got str"),
        (
            lambda: identity_(nn.Sequential(seqlab.RNN(3, 4))),
            TypeError,
            "got Sequential; of a larger model pass the recurrent layer alone",
        ),
        (lambda: identity_(nn.LSTM(3, 4, proj_size=2)), ValueError, "got an LSTM with proj_size; use one with"),
        (lambda: forget_bias_(seqlab.GRU(3, 4), 1.0), TypeError, "forget_bias_: expected an LSTM or LSTMCell, got GRU"),
        (lambda: forget_bias_(seqlab.LSTM(3, 4, bias=False), 1.0), ValueError, "got bias=False; use bias=True"),
        (lambda: spectral_radius_(seqlab.RNN(3, 4), -1.0), ValueError, "expected a radius of at least 0, got -1.0"),
        (lambda: spectral_radius_(torch.eye(2), torch.nan), ValueError, "expected a radius of at least 0, got nan"),
        (lambda: spectral_radius_(torch.zeros(2, 2), 0.9), ValueError, "spectral radius above 0, got 0.0; draw them"),
        (lambda: spectral_radius_(torch.full((2, 2), torch.nan), 0.9), ValueError, "above 0, got nan; draw them"),
        (lambda: spectral_radius_(torch.zeros(3, 2), 0.9), ValueError, r"\(H, H\) or \(G \* H, H\), got \(3, 2\)"),
        (lambda: spectral_radius_(torch.zeros(4), 0.9), ValueError, r"got \(4,\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Weights that are computed: set rightly, or refused with nothing changed.

CHANGES = {
    "orthogonal": lambda layer: orthogonal_(layer, generator=torch.Generator().manual_seed(1)),
    "identity": lambda layer: identity_(layer, 0.5),
    "spectral_radius": lambda layer: spectral_radius_(layer, 0.5),
    "forget_bias": lambda layer: forget_bias_(layer, 1.5),
}
TREATMENTS = {
    "weight_norm": lambda layer, name: parametrizations.weight_norm(layer, name),
    "weight_norm, dim 1": lambda layer, name: parametrizations.weight_norm(layer, name, dim=-1),
    "spectral_norm": lambda layer, name: parametrizations.spectral_norm(layer, name),
    "orthogonal": lambda layer, name: parametrizations.orthogonal(layer, name),
    "cayley": lambda layer, name: parametrizations.orthogonal(layer, name, "cayley", use_trivialization=False),
    "symmetric": lambda layer, name: parametrize.register_parametrization(layer, name, Half(), unsafe=True),
    "pruning": lambda layer, name: prune.l1_unstructured(layer, name, 0.5),
    "old weight_norm": lambda layer, name: nn.utils.weight_norm(layer, name),
    "old spectral_norm": lambda layer, name: nn.utils.spectral_norm(layer, name),
}


class Half(nn.Module):
    """No right_inverse."""

    def forward(self, x):
        return x / 2


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("module", [nn, seqlab], ids=["torch", "seqlab"])
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell"])
@pytest.mark.parametrize("treat", TREATMENTS.values(), ids=TREATMENTS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_computed_weight_is_set_rightly_or_refused(module, kind, treat, change):
    torch.manual_seed(0)
    layer, plain = getattr(module, kind)(3, 4), getattr(module, kind)(3, 4)
    suffix = "_l0" if kind == "LSTM" else ""
    name = ("bias_hh" if change == "forget_bias" else "weight_hh") + suffix
    plain.load_state_dict(layer.state_dict())
    dims = {"orthogonal", "cayley", "spectral_norm", "old spectral_norm"}
    if change == "forget_bias" and any(treat is TREATMENTS[key] for key in dims):
        pytest.skip("a vector has no such norm")
    treat(layer, name)
    x = torch.randn(2, 3) if kind == "LSTMCell" else torch.randn(5, 2, 3)
    layer(x)
    before = copy.deepcopy(layer.state_dict())
    refused = None
    try:
        CHANGES[change](layer)
    except ValueError as error:
        refused = str(error)
    if refused is not None:
        assert refused.startswith(f"{change}_: cannot set {name} of this ")
        assert_close(layer.state_dict(), before, rtol=0, atol=0)
        assert change == "forget_bias" or treat not in (TREATMENTS["weight_norm"], TREATMENTS["weight_norm, dim 1"])
        return
    layer.eval()
    layer(x)
    weight = getattr(layer, name).detach()
    if change == "forget_bias":
        assert_close((weight + getattr(layer, "bias_ih" + suffix).detach())[4:8], torch.full((4,), 1.5))
        return
    for block in weight.split(4):
        radius = 1.0 if change == "orthogonal" else 0.5
        assert torch.linalg.eigvals(block).abs().max().item() == pytest.approx(radius, rel=1e-3)
    if change != "spectral_radius":
        assert_close(weight, getattr(CHANGES[change](plain), name).detach(), rtol=1e-4, atol=1e-6)


def test_a_refusal_changes_no_layer_of_several():
    layer = seqlab.GRU(3, 4, num_layers=2)
    parametrizations.spectral_norm(layer, "weight_hh_l1")
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match=r"identity_: cannot set weight_hh_l1 .*another value; initialise"):
        identity_(layer, 0.3)
    assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_a_weight_that_is_computed_is_not_changed_in_vain():
    layer = parametrizations.weight_norm(seqlab.RNN(3, 4), "weight_hh_l0")
    with pytest.raises(ValueError, match="got one that is computed, whose change would be lost; pass the layer"):
        spectral_radius_(layer.weight_hh_l0, 0.9)


def test_another_default_device_changes_nothing():
    here, there, lstm = seqlab.GRU(3, 4), seqlab.GRU(3, 4), seqlab.LSTM(3, 4)
    orthogonal_(here, generator=torch.Generator().manual_seed(1))
    with torch.device("meta"):
        for change in (identity_, lambda layer: spectral_radius_(layer, 0.9)):
            change(there)
        orthogonal_(there, generator=torch.Generator().manual_seed(1))
        forget_bias_(lstm, 1.0)
    assert_close(there.weight_hh_l0, here.weight_hh_l0, rtol=0, atol=0)
