"""Device and seed."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from seqlab import choose_device, seed_everything


@pytest.mark.parametrize(
    ("cuda", "mps", "wanted", "line"),
    [
        (True, True, "cuda", "Device: cuda (Imagined 9000)\n"),
        (False, True, "mps", "Device: mps (Apple GPU)\n"),
        (False, False, "cpu", f"Device: cpu ({torch.get_num_threads()} thread(s))\n"),
    ],
)
def test_the_fastest_device_is_chosen_and_named_in_one_line(cuda, mps, wanted, line, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Imagined 9000")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device() == torch.device(wanted)
    assert capsys.readouterr().out == line


def test_the_chosen_device_computes(capsys):
    assert torch.ones(2, device=choose_device()).sum().item() == 2


def test_a_seed_repeats_the_draws_of_all_three_generators():
    def draw(seed):
        seed_everything(seed)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002  # the global one is under test

    assert draw(3) == draw(3)
    assert all(a != b for a, b in zip(draw(3), draw(4), strict=True))


@pytest.mark.parametrize("seed", [1.0, "1", True, None])
def test_a_seed_is_an_int(seed):
    with pytest.raises(TypeError, match="seed_everything: expected seed as an int, got"):
        seed_everything(seed)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_is_in_the_range_of_numpy(seed):
    with pytest.raises(ValueError, match=r"expected seed from 0 to 2\*\*32 - 1, got .*; take it modulo"):
        seed_everything(seed)
