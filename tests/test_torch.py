"""torch's undocumented parts: each helper with torch's own way, and with its fallback, gives the same."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad
from torch.testing import assert_close

from seqlab import _torch

f64 = torch.float64


@pytest.fixture(params=["torch's own", "fallback"])
def lacking(request, monkeypatch):
    """Call with (owner, name) of what torch lacks in the second run."""

    def lack(*parts):
        for owner, name in parts if request.param == "fallback" else ():
            monkeypatch.delattr(owner, name)
        return request.param == "fallback"

    return lack


def test_transforms_are_seen_and_without_an_answer_assumed(lacking):
    seen = []
    missing = lacking((torch._C, "_are_functorch_transforms_active"))
    torch.func.grad(lambda x: (seen.append(_torch.transforming()), x.sum())[1])(torch.ones(2))
    assert seen == [True]
    assert _torch.transforming() is missing


def test_forward_mode_is_seen():
    with forward_ad.dual_level():
        assert _torch.forward_mode()
    assert not _torch.forward_mode()


def test_forward_mode_is_seen_without_torchs_counter(monkeypatch):
    class Public:
        dual_level = forward_ad.dual_level

    monkeypatch.setattr(_torch, "forward_ad", Public)
    with forward_ad.dual_level():
        assert _torch.forward_mode()
    assert not _torch.forward_mode()


def test_batched_tensors_are_seen_and_without_an_answer_assumed(lacking):
    seen = []
    missing = lacking((torch._C._functorch, "is_batchedtensor"), (torch._C._functorch, "is_legacy_batchedtensor"))
    torch.func.vmap(lambda x: (seen.append(_torch.is_batched(x)), x)[1])(torch.ones(2, 3))
    assert seen == [True]
    assert _torch.is_batched(torch.ones(2)) is missing
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(lambda d: seen.append(_torch.is_batched(d)))
    torch.autograd.grad(y, x, torch.eye(2), is_grads_batched=True)
    assert seen == [True, True]


@pytest.mark.parametrize("ord", [1, 2, torch.inf])
def test_norms(lacking, ord):
    lacking((torch, "_foreach_norm"))
    xs = [torch.randn(3, 2), torch.randn(5), torch.full((2,), 1e-30)]
    for x, norm in zip(xs, _torch.norms(xs, ord, dtype=f64), strict=True):
        assert norm.dtype == f64
        assert_close(norm, torch.linalg.vector_norm(x.double(), ord))


def test_in_place(lacking):
    lacking((torch, "_foreach_mul_"), (torch, "_foreach_clamp_min_"), (torch, "_foreach_clamp_max_"))
    xs = [torch.tensor([-3.0, 0.5]), torch.tensor([4.0])]
    kept = list(xs)
    _torch.clamp_(xs, -1.0, 2.0)
    _torch.mul_(xs, torch.tensor(2.0))
    assert all(x is y for x, y in zip(xs, kept, strict=True))
    assert_close(torch.cat(xs), torch.tensor([-2.0, 1.0, 4.0]))


@pytest.mark.parametrize("missing", [False, True])
def test_tanh_backward(missing, monkeypatch):
    if missing:

        class Without:
            aten = None

        monkeypatch.setattr(torch, "ops", Without)
    t, d = torch.rand(2, 3, 4, dtype=f64), torch.randn(2, 3, 1, dtype=f64)
    wanted = d * (1 - t * t)
    assert _torch.tanh_backward_(d, t) is t
    assert_close(t, wanted)
