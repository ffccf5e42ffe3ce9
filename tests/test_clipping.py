"""Clipping: against torch's functions, by properties that define it, and on gradients that are not finite."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqlab.gradients import clip_grad_norm_, clip_grad_value_

SHAPES = [(3, 4), (4,), (), (2, 0), (5,)]


def model_with_gradients(scale=1.0, dtype=torch.float64):
    """Some parameters with gradients, and one without."""
    torch.manual_seed(0)
    model = nn.ParameterDict({f"p{k}": nn.Parameter(torch.zeros(s, dtype=dtype)) for k, s in enumerate(SHAPES)})
    for p in model.values():
        p.grad = scale * torch.randn(p.shape, dtype=dtype)
    model["frozen"] = nn.Parameter(torch.zeros(2, dtype=dtype), requires_grad=False)
    return model


def vector(model):
    """All gradients as one vector."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("form", ["module", "list", "generator"])
def test_clipping_by_norm_equals_torch_up_to_its_millionth(scale, form):
    ours, theirs = model_with_gradients(scale), model_with_gradients(scale)
    given = {"module": ours, "list": list(ours.parameters()), "generator": ours.parameters()}[form]
    report = clip_grad_norm_(given, 0.5)
    norm = float(nn.utils.clip_grad_norm_(theirs.parameters(), 0.5))
    assert report.before == pytest.approx(norm, rel=1e-14)
    wanted = vector(theirs) * ((norm + 1e-6) / norm if norm > 0.5 else 1)
    torch.testing.assert_close(vector(ours), wanted, rtol=1e-14, atol=0)
    assert report.after == pytest.approx(float(vector(ours).norm()), rel=1e-14)
    assert report.clipped == (norm > 0.5)
    assert report.changed == float(norm > 0.5)
    assert report.factor == pytest.approx(min(1, 0.5 / norm), rel=1e-14)


@pytest.mark.parametrize("value", [0.1, 1.0, 100.0])
def test_clipping_by_value_equals_torch(value):
    ours, theirs = model_with_gradients(), model_with_gradients()
    before = vector(ours)
    report = clip_grad_value_(ours, value)
    nn.utils.clip_grad_value_(theirs.parameters(), value)
    assert torch.equal(vector(ours), vector(theirs))
    assert report.before == pytest.approx(float(before.norm()), rel=1e-14)
    assert report.after == pytest.approx(float(vector(ours).norm()), rel=1e-14)
    assert report.changed == float((before.abs() > value).double().mean())
    assert report.clipped == (value < 100)


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_the_report_names_the_norm_of_each_parameter(clip):
    model = model_with_gradients()
    wanted = {name: float(p.grad.norm()) for name, p in model.items() if p.grad is not None}
    assert clip(model, 0.1).norms == pytest.approx(wanted, rel=1e-14)
    listed = clip(list(model.parameters()), 0.1).norms
    assert list(listed)[:2] == ["parameter 0 (3, 4)", "parameter 1 (4,)"]
    assert len(listed) == 5


numbers = st.floats(-1e3, 1e3, allow_subnormal=False)


@given(entries=st.lists(numbers, min_size=1, max_size=6), threshold=st.floats(1e-3, 1e3))
def test_the_bound_holds_and_the_direction_stays(entries, threshold):
    p = torch.zeros(len(entries), dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor(entries, dtype=torch.float64)
    before = p.grad.clone()
    report = clip_grad_norm_(p, threshold)
    assert float(p.grad.norm()) <= threshold * (1 + 1e-12)
    torch.testing.assert_close(p.grad, before * report.factor, rtol=1e-12, atol=0)
    again = clip_grad_norm_(p, threshold * (1 + 1e-12))
    assert not again.clipped
    p.grad = before.clone()
    clip_grad_value_(p, threshold)
    assert p.grad.abs().max() <= threshold
    assert torch.equal(p.grad.sign(), before.sign())


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_clipping_is_continuous_at_the_threshold(clip):
    """The same gradient a hair below and a hair above the threshold ends within a hair."""
    results = []
    for size in (1 - 1e-9, 1.0, 1 + 1e-9):
        p = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        p.grad = torch.tensor([size, 0.0], dtype=torch.float64)
        results.append((clip(p, 1.0).clipped, p.grad.clone()))
    assert [clipped for clipped, _ in results] == [False, False, True]
    assert max(float((g - results[1][1]).norm()) for _, g in results) <= 1.1e-9


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e25), (torch.bfloat16, 1e25), (torch.float16, 1e3)])
def test_a_norm_beyond_the_dtype_is_clipped_and_not_erased(dtype, size):
    p = torch.zeros(10_000, dtype=dtype, requires_grad=True)
    p.grad = torch.full_like(p, size)
    report = clip_grad_norm_(p, 1.0)
    assert report.before == pytest.approx(100 * size, rel=1e-2)
    assert float(p.grad.double().norm()) == pytest.approx(1, rel=1e-2)
    p.grad = torch.full_like(p, size)
    nn.utils.clip_grad_norm_(p, 1.0)
    assert not p.grad.any()  # torch's, for which this is stated under Differs


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_named_and_nothing_changes(clip, bad):
    model = model_with_gradients()
    model["p1"].grad[2] = bad
    before = vector(model)
    with pytest.raises(RuntimeError, match="NaN or Inf in p1; nothing was clipped"):
        clip(model, 0.1)
    with pytest.raises(RuntimeError, match=r"NaN or Inf in parameter 1 \(4,\)"):
        clip(model.parameters(), 0.1)
    report = clip(model, 0.1, error_if_nonfinite=False)
    assert not math.isfinite(report.before)
    assert not report.clipped
    torch.testing.assert_close(vector(model), before, rtol=0, atol=0, equal_nan=True)


def test_many_bad_gradients_are_counted():
    parameters = [torch.zeros(1, requires_grad=True) for _ in range(8)]
    for p in parameters:
        p.grad = torch.tensor([math.nan])
    with pytest.raises(RuntimeError, match=r"parameter 4 \(1,\) and 3 more;"):
        clip_grad_norm_(parameters, 1.0)


def test_a_gradient_of_zeros_is_left_alone():
    p = torch.zeros(3, requires_grad=True)
    p.grad = torch.zeros(3)
    report = clip_grad_norm_(p, 1.0)
    assert (report.before, report.after, report.factor, report.clipped) == (0, 0, 1, False)


def test_the_report_says_what_was_done():
    p = torch.zeros(2, requires_grad=True)
    p.grad = torch.tensor([30.0, 40.0])
    assert str(clip_grad_norm_(p, 100)) == "norm 50, not clipped (threshold 100)"
    assert str(clip_grad_value_(p, 35)) == "norm 50 clipped to 46.1 (×0.922), 50 % of the entries cut"
    assert str(clip_grad_norm_(p, 0.5)) == "norm 46.1 clipped to 0.5 (×0.0108)"


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
@pytest.mark.parametrize(
    ("given", "threshold", "error", "message"),
    [
        (lambda: nn.Linear(2, 1), 1.0, ValueError, "got 2 parameters without any; call backward"),
        (lambda: [], 1.0, ValueError, "got 0 parameters"),
        (lambda: model_with_gradients().named_parameters(), 1.0, TypeError, "got tuple; pass model or"),
        (lambda: 3, 1.0, TypeError, "expected parameters as a module or Tensors, got int"),
        (model_with_gradients, 0.0, ValueError, "(max_norm|clip_value) as a positive finite number, got 0.0"),
        (model_with_gradients, math.nan, ValueError, "got nan"),
        (model_with_gradients, math.inf, ValueError, "got inf"),
        (model_with_gradients, True, ValueError, "got True"),
        (model_with_gradients, "1", ValueError, "got '1'"),
    ],
)
def test_what_does_not_fit_is_refused(clip, given, threshold, error, message):
    with pytest.raises(error, match=message):
        clip(given(), threshold)
