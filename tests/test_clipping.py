"""Clipping: against torch's functions, by properties that define it, and on gradients out of the usual range."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqlab.gradients import ClipReport, clip_grad_norm_, clip_grad_value_

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
    assert clip_grad_norm_(p, 100).text == "norm 50, not clipped (threshold 100)"
    assert clip_grad_value_(p, 35).text == "norm 50 clipped to 46.1 (×0.922), 50 % of the entries cut"
    assert clip_grad_norm_(p, 0.5).text == "norm 46.1 clipped to 0.5 (×0.0108)"


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
@pytest.mark.parametrize(
    ("given", "threshold", "error", "message"),
    [
        (lambda: model_with_gradients().named_parameters(), 1.0, TypeError, "got tuple; pass model or"),
        (lambda: 3, 1.0, TypeError, "expected parameters as a module or Tensors, got int"),
        (model_with_gradients, 0.0, ValueError, "(max_norm|clip_value) as a positive number, got 0.0"),
        (model_with_gradients, math.nan, ValueError, "got nan"),
        (model_with_gradients, -1.0, ValueError, "got -1.0"),
        (model_with_gradients, None, ValueError, "got None"),
        (model_with_gradients, True, ValueError, "got True"),
        (model_with_gradients, "1", ValueError, "got '1'"),
    ],
)
def test_what_does_not_fit_is_refused(clip, given, threshold, error, message):
    with pytest.raises(error, match=message):
        clip(given(), threshold)


# A drop-in for torch's functions.


@pytest.mark.parametrize("name", ["clip_grad_norm_", "clip_grad_value_"])
def test_it_is_called_as_torchs(name):
    ours, theirs = (
        {"clip_grad_norm_": clip_grad_norm_, "clip_grad_value_": clip_grad_value_}[name],
        getattr(nn.utils, name),
    )
    names = list(inspect.signature(theirs).parameters)
    assert list(inspect.signature(ours).parameters)[: len(names)] == names
    p = torch.zeros(2, requires_grad=True)
    p.grad = torch.tensor([3.0, 4.0])
    given = {"clip_grad_norm_": (p, 1.0, 2.0, True, False), "clip_grad_value_": (p, 1.0, False)}[name]
    assert ours(*given) == 5


def test_what_comes_back_is_a_number_that_carries_the_report():
    p = torch.zeros(2, requires_grad=True)
    p.grad = torch.tensor([3.0, 4.0])
    norm = clip_grad_norm_([p], 1.0)
    assert isinstance(norm, ClipReport)
    assert (str(norm), f"{norm:.2f}", "%.1f" % norm, norm.item(), float(norm)) == ("5.0", "5.00", "5.0", 5.0, 5.0)  # noqa: UP031
    assert 4 < norm < 6
    assert norm == 5 == max(norm, 1)
    assert sum([norm, norm]) / 2 == math.sqrt(norm * norm) == 5
    assert torch.tensor([norm, norm]).tolist() == [5, 5]
    for other in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))):
        assert (other, other.after, other.norms, other.text) == (5, 1, {"parameter 0 (2,)": 5.0}, norm.text)
    with pytest.raises(AttributeError):
        norm.after = 2.0


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_no_gradients_are_a_norm_of_zero_as_torchs(clip):
    for parameters in (nn.Linear(2, 1), [], [torch.zeros(2, requires_grad=True)]):
        report = clip(parameters, 1.0)
        assert (report, report.norms, report.clipped, report.factor) == (0, {}, False, 1)
    assert nn.utils.clip_grad_norm_([], 1.0) == 0


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_an_infinite_threshold_reads_the_norm_and_changes_nothing(clip):
    model = model_with_gradients(1e6)
    before = vector(model)
    report = clip(model, math.inf)
    assert report == pytest.approx(float(before.norm()), rel=1e-14)
    assert not report.clipped
    assert torch.equal(vector(model), before)


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_a_gradient_of_no_entries_is_a_norm_of_zero(clip):
    p = torch.zeros(0, 3, requires_grad=True)
    p.grad = torch.zeros(0, 3)
    report = clip(p, 1.0)
    assert (report, report.after, report.changed) == (0, 0, 0)


@pytest.mark.parametrize("p", [0.5, 1, 2, 2.5, 3, 40, math.inf, "inf"])
def test_other_norms_equal_torchs(p):
    ours, theirs = model_with_gradients(), model_with_gradients()
    theirs["p3"].grad = None  # of no entries, of which torch takes no largest one
    report = clip_grad_norm_(ours, 0.5, p)
    norm = float(nn.utils.clip_grad_norm_(theirs.parameters(), 0.5, float(p)))
    assert report == pytest.approx(norm, rel=1e-13)
    torch.testing.assert_close(vector(ours), vector(theirs), rtol=1e-5, atol=0)
    assert float(torch.linalg.vector_norm(vector(ours), float(p))) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("p", [0, -1, math.nan, "two", None])
def test_a_norm_type_that_is_none_is_refused(p):
    with pytest.raises(ValueError, match="clip_grad_norm_: expected norm_type as a positive number, got"):
        clip_grad_norm_(model_with_gradients(), 1.0, p)


def exact(entries):
    """The norm, by fractions: as a ratio to a power of two that is near it, for which a float has room."""
    total = sum(Fraction(e) ** 2 for e in entries)
    exponent = (total.numerator.bit_length() - total.denominator.bit_length()) // 2
    return math.sqrt(total / Fraction(4) ** exponent), exponent


wide = st.builds(
    lambda mantissa, exponent: mantissa * 2.0**exponent,
    st.floats(1, 2, exclude_max=True) | st.floats(-2, -1, exclude_min=True),
    st.integers(-900, 1023),
)


@given(
    entries=st.lists(st.lists(wide | st.just(0.0), max_size=3), min_size=1, max_size=4),
    threshold=st.sampled_from([1e-100, 1e-3, 1.0, 1e100]),
)
def test_over_the_whole_range_of_float64_it_is_the_exact_norm(entries, threshold):
    """No sum of squares overflows or vanishes; fractions are the oracle."""
    parameters = [torch.zeros(len(e), dtype=torch.float64, requires_grad=True) for e in entries]
    for p, e in zip(parameters, entries, strict=True):
        p.grad = torch.tensor(e, dtype=torch.float64)
    flat = [e for part in entries for e in part]
    report = clip_grad_norm_(parameters, threshold)
    ratio, exponent = exact(flat) if any(flat) else (0.0, 0)
    large = exponent > 1020
    if not large:
        assert report == pytest.approx(ratio * 2.0**exponent, rel=1e-14, abs=1e-320)
    assert report.clipped == (large or ratio * 2.0**exponent > threshold)
    for p, e in zip(parameters, entries, strict=True):
        wanted = e
        if report.clipped:
            factor = Fraction(threshold) / Fraction(ratio) / Fraction(2) ** exponent
            wanted = [float(Fraction(x) * factor) for x in e]
        torch.testing.assert_close(p.grad, torch.tensor(wanted, dtype=torch.float64), rtol=1e-13, atol=1e-320)
    for norm, e in zip(report.norms.values(), entries, strict=True):
        ratio, exponent = exact(e) if any(e) else (0.0, 0)
        assert exponent > 1020 or norm == pytest.approx(ratio * 2.0**exponent, rel=1e-14, abs=1e-320)


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
@pytest.mark.parametrize("size", [1e200, 1.7e308, 1e-200])
def test_entries_whose_squares_leave_the_range_are_finite(clip, size):
    p = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    p.grad = torch.full((2,), size, dtype=torch.float64)
    report = clip(p, size / 2)
    assert report == math.hypot(size, size)  # Inf for 1.7e308, which is right
    assert report.clipped
    wanted = size / 2 / (math.sqrt(2) if clip is clip_grad_norm_ else 1)
    torch.testing.assert_close(p.grad, torch.full_like(p.grad, wanted), rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("threshold", [1e-3, 1.0, 50.0])
def test_the_largest_numbers_of_a_dtype_are_clipped_rightly(dtype, threshold):
    p = torch.zeros(100, dtype=dtype, requires_grad=True)
    p.grad = torch.full_like(p, torch.finfo(dtype).max)
    report = clip_grad_norm_(p, threshold)
    assert report == pytest.approx(10 * torch.finfo(dtype).max, rel=1e-6)
    assert float(p.grad.double().norm()) == pytest.approx(threshold, rel=2e-2 if dtype != torch.float32 else 1e-6)


# Gradients of other kinds.


def test_parameters_of_several_dtypes_are_one_vector():
    p, q, r = (
        torch.zeros(1, dtype=dtype, requires_grad=True) for dtype in (torch.float64, torch.float16, torch.bfloat16)
    )
    p.grad, q.grad, r.grad = torch.full_like(p, 2.0), torch.full_like(q, 3.0), torch.full_like(r, 6.0)
    report = clip_grad_norm_([p, q, r], 3.5)
    assert (report, report.after) == (7, 3.5)
    assert (p.grad.item(), q.grad.item(), r.grad.item()) == (1, 1.5, 3)
    assert clip_grad_value_([p, q, r], 1e5) == 3.5  # beyond what a float16 can hold, and nothing to cut


def test_a_parameter_that_comes_twice_counts_once():
    p = torch.zeros(2, requires_grad=True)
    p.grad = torch.tensor([3.0, 4.0])
    assert clip_grad_norm_([p, p], 1.0) == 5
    torch.testing.assert_close(p.grad, torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_a_sparse_gradient_is_clipped_as_the_dense_one(clip):
    ours, theirs = nn.Embedding(6, 2, sparse=True, dtype=torch.float64), nn.Embedding(6, 2, dtype=torch.float64)
    words = torch.tensor([4, 1, 4, 4])  # a word that comes thrice has one row in the gradient
    for embed in (ours, theirs):
        (embed(words) * torch.arange(1.0, 9.0, dtype=torch.float64).view(4, 2)).sum().backward()
    a, b = clip(ours, 2.0), clip(theirs, 2.0)
    assert (a, a.after, a.changed > 0) == (b, b.after, b.changed > 0)
    assert ours.weight.grad.is_sparse
    torch.testing.assert_close(ours.weight.grad.to_dense(), theirs.weight.grad, rtol=1e-15, atol=0)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
def test_another_sparse_layout_is_refused():
    p = torch.eye(2).to_sparse_csr().requires_grad_()
    p.grad = torch.eye(2).to_sparse_csr()
    with pytest.raises(
        TypeError, match=r"expected gradients that are dense or sparse in COO layout, got torch.sparse_csr"
    ):
        clip_grad_norm_(p, 1.0)


def test_a_complex_gradient_is_clipped_by_its_absolute_values():
    p = torch.zeros(2, dtype=torch.complex128, requires_grad=True)
    p.grad = torch.tensor([3 + 4j, 12j], dtype=torch.complex128)
    assert clip_grad_norm_(p, 1.3) == 13
    torch.testing.assert_close(p.grad, torch.tensor([0.3 + 0.4j, 1.2j], dtype=torch.complex128))
    with pytest.raises(
        TypeError, match=r"clip_grad_value_: expected real gradients, got torch.complex128 for parameter 0"
    ):
        clip_grad_value_(p, 1.0)


class Spread(torch.Tensor):
    """As a DTensor: its values lie in several processes."""

    def to_local(self):
        return self


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_a_gradient_spread_over_processes_is_refused(clip):
    p = torch.zeros(2, requires_grad=True).as_subclass(Spread)
    p.grad = torch.ones(2).as_subclass(Spread)
    with pytest.raises(TypeError, match=f"got a DTensor for parameter 0 .*; use torch.nn.utils.{clip.__name__}"):
        clip(p, 1.0)


def test_a_gradient_with_a_graph_of_its_own_is_clipped_in_place():
    p = torch.ones(2, requires_grad=True)
    (p.grad,) = torch.autograd.grad((p**2).sum(), p, create_graph=True)
    assert clip_grad_norm_(p, 1.0) == pytest.approx(math.sqrt(8))
    assert clip_grad_value_(p, 0.5).clipped
    assert p.grad.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_the_default_device_does_not_matter(clip):
    ours, theirs = model_with_gradients(1e3), model_with_gradients(1e3)
    with torch.device("meta"):  # a tensor that is made without a device has no values
        report = clip(ours, 0.5)
    assert report.norms == clip(theirs, 0.5).norms
    assert torch.equal(vector(ours), vector(theirs))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_parameters_of_several_devices_are_one_vector():
    p, q = torch.zeros(1, requires_grad=True), torch.zeros(1, device="cuda", requires_grad=True)
    p.grad, q.grad = torch.full_like(p, 3.0), torch.full_like(q, 4.0)
    assert clip_grad_norm_([p, q], 2.5) == 5
    assert (p.grad.item(), q.grad.item()) == (1.5, 2)
    assert clip_grad_value_([q, p], 1.75).changed == 0.5
