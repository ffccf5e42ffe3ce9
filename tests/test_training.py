"""Device, seeds, and fit: resumed bit for bit, stopped in order, saved whole or not at all."""

from __future__ import annotations

import builtins
import copy
import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import zipfile
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from seqlab.gradients import GradientMonitor, clip_grad_norm_
from seqlab.recurrent import GRU, RNN
from seqlab.tasks import length_batches, pad, pronunciations
from seqlab.training import (
    Checkpoint,
    Evaluation,
    History,
    choose_device,
    epochs,
    fit,
    load_weights,
    progress,
    seed_everything,
    share,
)
from seqlab.training import checkpoint as checkpoints
from seqlab.training.data import to_device

# Device and seed.


@pytest.mark.parametrize(
    ("cuda", "mps", "dtype", "wanted", "line"),
    [
        (True, True, torch.float32, "cuda", "Device: cuda (Imagined 9000), float32\n"),
        (False, True, torch.bfloat16, "mps", "Device: mps (Apple GPU), bfloat16\n"),
        (False, False, torch.float32, "cpu", f"Device: cpu ({torch.get_num_threads()} thread(s)), float32\n"),
        (
            False,
            True,
            torch.float64,
            "cpu",
            f"Device: cpu ({torch.get_num_threads()} thread(s)), float64, which MPS does not have\n",
        ),
    ],
)
def test_the_fastest_device_is_chosen_and_named_in_one_line(cuda, mps, dtype, wanted, line, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Imagined 9000")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device(dtype=dtype) == torch.device(wanted)
    assert capsys.readouterr().out == line


def test_each_process_takes_its_own_gpu_and_the_first_one_prints(monkeypatch, capsys):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Imagined 9000")
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        choose_device()
    assert taken == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert capsys.readouterr().out == "Device: cuda:0 (Imagined 9000), float32, 2 processes\n"
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="expected a GPU for each process, got 2 GPU"):
        choose_device()


def test_a_device_that_is_not_there_or_lacks_the_dtype_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match=r"expected a device that is there \(mps, cpu\), got cuda"):
        choose_device("cuda")
    with pytest.raises(ValueError, match="expected a dtype that MPS has, got float64; take float32"):
        choose_device("mps", torch.float64)
    with pytest.raises(TypeError, match="expected dtype of floating point"):
        choose_device(dtype=torch.int64)


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


# The small runs that the tests below train.


class Reader(nn.Module):
    """A GRU with dropout in it, so that a wrong state of the generators shows."""

    def __init__(self):
        super().__init__()
        self.rnn, self.drop, self.out = GRU(3, 8), nn.Dropout(0.3), nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.drop(self.rnn(x)[0][-1]))


def squared(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()


def batch_of(n):
    x = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(n))
    return x, x[0, :, :1]


def start(seed=0, **options):
    """Model, loss, batches, optimizer and scheduler, new, as a script has them when it starts."""
    seed_everything(seed)
    model = Reader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    options["scheduler"] = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    return (model, squared, batch_of, optimizer), options


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def drawing(model):
    """An evaluation that draws from every global generator, and has ups and downs."""
    draws = random.random() + np.random.rand() + torch.rand(()).item()  # noqa: NPY002
    return model.out.bias.item() + draws


# Training.


def test_the_updates_are_those_of_the_loop_written_out():
    args, options = start()
    seed_everything(1)
    history = fit(*args, 12, clip=0.5, **options)
    (model, _, _, optimizer), options = start()
    seed_everything(1)
    losses, norms = [], []
    for n in range(12):
        optimizer.zero_grad()
        loss = squared(model, batch_of(n))
        loss.backward()
        norms.append(clip_grad_norm_(model, 0.5).item())
        optimizer.step()
        options["scheduler"].step()
        losses.append(loss.item())
    assert same(args[0], model)
    assert history == History(losses, norms, stopped="steps")
    assert min(norms) < 0.5 < max(norms)  # clipping has had something to do, and something to leave


def test_a_pair_of_sum_and_count_is_their_mean():
    args, options = start()
    model, _, _, optimizer = args
    fit(model, lambda m, b: ((m(b[0]) - b[1]).square().sum(), torch.tensor(4)), batch_of, optimizer, 5, **options)
    (other, *rest), options = start()
    fit(other, *rest, 5, **options)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_every_so_many_steps_and_after_the_last_it_is_evaluated_in_evaluation_mode():
    seen = []

    def evaluate(model):
        seen.append((model.training, torch.is_grad_enabled()))
        return float(len(seen))

    args, options = start()
    history = fit(*args, 10, evaluation=Evaluation(evaluate, every=4), **options)
    assert history.evaluations == [(4, 1.0), (8, 2.0), (10, 3.0)]
    assert seen == [(False, False)] * 3
    assert args[0].training


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_when_the_patience_runs_out_it_stops_and_the_best_weights_come_back(higher_is_better):
    values, kept = iter([3.0, 2.0, 2.0, 4.0, 1.0]), []

    def evaluate(model):
        kept.append(copy.deepcopy(model))
        return next(values) * (-1 if higher_is_better else 1)

    args, options = start()
    history = fit(*args, 50, evaluation=Evaluation(evaluate, 2, 2, higher_is_better), **options)
    assert (history.stopped, history.steps, history.best) == ("early", 8, (4, -2.0 if higher_is_better else 2.0))
    assert same(args[0], kept[1])
    assert not same(args[0], kept[3])


def test_without_patience_the_newest_weights_stay():
    values = iter([1.0, 2.0])
    args, options = start()
    history = fit(*args, 4, evaluation=Evaluation(lambda model: next(values), every=2), **options)
    others, options = start()
    fit(*others, 4, **options)
    assert history.best == (2, 1.0)
    assert same(args[0], others[0])


def test_a_monitor_sees_the_gradients_before_they_are_clipped():
    args, options = start()
    monitor = GradientMonitor(args[0], every=2)
    history = fit(*args, 4, clip=1e-3, monitor=monitor, **options)
    assert [report.norm for report in monitor.reports] == pytest.approx(history.norms[::2])
    assert [report.loss for report in monitor.reports] == pytest.approx(history.losses[::2])


# Batches.


def test_epochs_are_shuffled_anew_and_any_step_can_be_asked():
    lengths = [3, 1, 2, 1, 9, 4, 4]
    steps = epochs(lambda generator: length_batches(lengths, 2, generator=generator), seed=5)
    run = [steps(n) for n in range(12)]
    assert all(sorted(index for batch in run[i : i + 4] for index in batch) == list(range(7)) for i in (0, 4, 8))
    assert run[:4] != run[4:8]
    again = epochs(lambda generator: length_batches(lengths, 2, generator=generator), seed=5)
    assert [again(n) for n in reversed(range(12))] == run[::-1]


def test_epochs_refuse_what_a_step_number_cannot_find():
    with pytest.raises(TypeError, match="epochs: expected a function of a generator, got list; wrap it"):
        epochs([[1]])
    with pytest.raises(TypeError, match=r"epochs: expected seed as an int, got 1\.5"):
        epochs(lambda generator: [1], seed=1.5)
    with pytest.raises(ValueError, match="expected at least one batch in an epoch, got none"):
        epochs(lambda generator: [])
    numbers = count(1)
    grows = epochs(lambda generator: [0] * next(numbers))
    with pytest.raises(ValueError, match="expected 1 batches in epoch 1, as in the first, got 2"):
        grows(1)


def test_the_shares_of_all_processes_are_the_batch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(share(list(range(8))))
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]
    with pytest.raises(ValueError, match="share: expected an item for each of 3 processes at least, got 2"):
        share([1, 2])


def test_every_tensor_of_a_batch_is_moved():
    class Pair(NamedTuple):
        x: torch.Tensor
        words: list

    there = to_device({"a": Pair(torch.ones(2), ["b", (torch.ones(1), 3)])}, torch.device("meta"))
    assert there["a"].x.device.type == there["a"].words[1][0].device.type == "meta"
    assert isinstance(there["a"], Pair)
    assert there["a"].words[1][1] == 3


# Checkpoints.


@pytest.mark.parametrize("stop", [1, 5, 6, 11])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(stop, tmp_path, capsys):
    evaluation = Evaluation(drawing, every=3, patience=100)
    args, options = start()
    whole = fit(*args, 12, evaluation=evaluation, checkpoint=Checkpoint(tmp_path / "a.pt"), **options)

    class Killed(Exception):
        pass

    def killing(n):
        if n == stop:
            raise Killed
        return batch_of(n)

    save = Checkpoint(tmp_path / "new folder" / "b.pt", every=2)
    (model, loss, _, optimizer), options = start()
    with pytest.raises(Killed):
        fit(model, loss, killing, optimizer, 12, evaluation=evaluation, checkpoint=save, **options)
    others, options = start(seed=99)  # the script starts again; everything comes from the file
    resumed = fit(*others, 12, evaluation=evaluation, checkpoint=save, **options)
    assert f"goes on from {save.path} at step {stop // 2 * 2 or 1} of 12" in capsys.readouterr().out
    assert resumed == whole
    assert same(args[0], others[0])
    a, b = (torch.load(path, weights_only=True) for path in (tmp_path / "a.pt", save.path))
    assert json.dumps(a, default=lambda t: t.tolist()) == json.dumps(b, default=lambda t: t.tolist())


def test_a_finished_run_is_returned_and_can_be_prolonged(tmp_path):
    save = Checkpoint(tmp_path / "run.pt")
    args, options = start()
    first = fit(*args, 4, checkpoint=save, **options)
    others, options = start(seed=1)
    assert fit(*others, 4, checkpoint=save, monitor=GradientMonitor(others[0]), **options) == first
    assert same(args[0], others[0])
    assert fit(*others, 6, checkpoint=save, **options).steps == 6
    with pytest.raises(ValueError, match=r"expected steps of at least 6, which .*run.pt has behind it, got 5"):
        fit(*others, 5, checkpoint=save, **options)
    args, options = start()
    assert fit(*args, 2, checkpoint=Checkpoint(save.path, resume=False), **options).losses == first.losses[:2]


def test_a_run_that_stopped_early_stays_stopped_with_its_best_weights(tmp_path):
    values = iter([1.0, 2.0])
    evaluation = Evaluation(lambda model: next(values), every=1, patience=1)
    args, options = start()
    history = fit(*args, 9, evaluation=evaluation, checkpoint=Checkpoint(tmp_path / "run.pt"), **options)
    others, options = start(seed=1)
    again = fit(*others, 9, evaluation=evaluation, checkpoint=Checkpoint(tmp_path / "run.pt"), **options)
    assert again == history
    assert (again.stopped, again.steps) == ("early", 2)
    assert same(args[0], others[0])
    best, newest = Reader(), Reader()
    load_weights(best, tmp_path / "run.pt", best=True)
    load_weights(newest, tmp_path / "run.pt")
    assert same(best, args[0])
    assert not same(newest, args[0])


def test_a_full_disk_leaves_the_earlier_checkpoint_whole(tmp_path, monkeypatch):
    save = Checkpoint(tmp_path / "run.pt", every=2)
    args, options = start()
    fit(*args, 2, checkpoint=save, **options)
    before = save.path.read_bytes()

    def full(state, file):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"could not write .* \(No space left on device\); .*run\.pt is still the one"):
        fit(*args, 4, checkpoint=save, **options)
    assert save.path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.pt"]


def save_beyond(limit, path):
    """In a process of its own, which may write no longer file."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    args, options = start()
    try:
        fit(*args, 2, checkpoint=Checkpoint(path), **options)
    except OSError as error:
        print(error)


@pytest.mark.skipif(os.name != "posix", reason="RLIMIT_FSIZE")
@pytest.mark.parametrize("limit", [100, 2000, 9000])
def test_a_disk_that_is_full_anywhere_in_the_file_is_said_to_be(limit, tmp_path):
    with child(f"t.save_beyond({limit}, {str(tmp_path / 'run.pt')!r})", stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=120)
    assert "could not write the checkpoint (File too large); there was none before; make room, and resume" in out
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda data: data[: len(data) // 2], "one that is cut off or damaged"),
        (lambda data: data[:-1], "one that is cut off or damaged"),
        (lambda data: b"", "an empty file"),
        (lambda data: b"Call me Ishmael.", "another kind of file"),
    ],
)
def test_a_file_cut_off_or_foreign_is_refused_with_its_cause(damage, cause, tmp_path):
    path = tmp_path / "run.pt"
    args, options = start()
    fit(*args, 2, checkpoint=Checkpoint(path), **options)
    path.write_bytes(damage(path.read_bytes()))
    message = rf"checkpoint: expected a file written by fit, got {cause}.*run\.pt"
    with pytest.raises(ValueError, match=message):
        fit(*args, 4, checkpoint=Checkpoint(path), **options)
    with pytest.raises(ValueError, match=message):
        load_weights(args[0], path)


def test_wherever_a_file_is_damaged_that_is_found_or_changes_nothing(tmp_path):
    path, draw = tmp_path / "run.pt", random.Random(0)
    model = nn.Linear(2, 1)
    fit(
        model,
        lambda m, x: m(x).mean(),
        lambda n: torch.ones(1, 2),
        torch.optim.SGD(model.parameters()),
        1,
        checkpoint=Checkpoint(path),
    )
    whole, state = path.read_bytes(), repr(checkpoints.read(path))
    places = [*range(0, 60), *range(len(whole) - 200, len(whole)), *draw.sample(range(len(whole)), 300)]
    found = []
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            assert repr(checkpoints.read(path)) == state
        except ValueError as error:
            found.append(str(error))
    assert len(found) > 50
    assert all("checkpoint: expected a file written by fit, got" in text for text in found)


def test_one_flipped_bit_is_found(tmp_path):
    path = tmp_path / "run.pt"
    args, options = start()
    fit(*args, 2, checkpoint=Checkpoint(path), **options)
    weight = args[0].rnn.weight_hh_l0.detach().numpy().tobytes()
    flipped = bytes([weight[0] ^ 1]) + weight[1:]
    path.write_bytes(path.read_bytes().replace(weight, flipped))
    with pytest.raises(ValueError, match=r"got one that is cut off or damaged \(wrong checksum of"):
        load_weights(args[0], path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path, monkeypatch):
    path, args, options = tmp_path / "run.pt", *start()
    fit(*args, 2, checkpoint=Checkpoint(path), **options)
    model = args[0]
    with pytest.raises(ValueError, match=r"load_weights: expected best weights in .*run.pt, got none; run fit with"):
        load_weights(model, path, best=True)
    with pytest.raises(ValueError, match=r"expected the model that wrote .*run.pt, with rnn.weight_ih_l0 of shape"):
        load_weights(nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"expected scheduler as in .*run.pt, which has one, got none; start anew"):
        fit(*args, 4, checkpoint=Checkpoint(path))
    few = torch.optim.AdamW(list(model.parameters())[:2])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(few, 20)
    with pytest.raises(ValueError, match=r"expected the optimizer that wrote .*run.pt, got another"):
        fit(model, squared, batch_of, few, 4, scheduler=scheduler, checkpoint=Checkpoint(path))
    state = torch.load(path, weights_only=True)
    torch.save({**state, "random": state["random"] * 2}, path)
    with pytest.raises(ValueError, match=r"expected 2 process\(es\), as wrote .*run.pt, got 1; start 2, or"):
        fit(*args, 4, checkpoint=Checkpoint(path), **options)
    torch.save({**state, "version": 2}, path)
    with pytest.raises(ValueError, match=r"expected version 1 of the format, got version 2 in .*run.pt; read it with"):
        fit(*args, 4, checkpoint=Checkpoint(path), **options)
    torch.save(model.state_dict(), path)
    with pytest.raises(ValueError, match=r"got another kind of file, .*run.pt; give Checkpoint another path"):
        fit(*args, 4, checkpoint=Checkpoint(path), **options)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("notes.txt", "Call me Ishmael.")
    with pytest.raises(ValueError, match=r"got one that torch cannot read .*run.pt; give Checkpoint another path"):
        fit(*args, 4, checkpoint=Checkpoint(path), **options)


def test_optimizer_and_scheduler_of_another_class_are_refused(tmp_path):
    args, options = start()
    fit(*args, 2, checkpoint=Checkpoint(tmp_path / "run.pt"), **options)
    model, *rest, optimizer = args
    rates = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    with pytest.raises(
        ValueError, match=r"expected scheduler as in .*run.pt, which has CosineAnnealingLR, got StepLR; s"
    ):
        fit(*args, 4, scheduler=rates, checkpoint=Checkpoint(tmp_path / "run.pt"))
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(other, 20)
    with pytest.raises(ValueError, match=r"expected optimizer as in .*run.pt, which has AdamW, got SGD; start anew"):
        fit(model, *rest, other, 4, scheduler=rates, checkpoint=Checkpoint(tmp_path / "run.pt"))


def test_a_file_from_before_the_classes_were_written_is_still_read(tmp_path):
    path, args, options = tmp_path / "run.pt", *start()
    fit(*args, 2, checkpoint=Checkpoint(path), **options)
    state = torch.load(path, weights_only=True)
    del state["kinds"]
    torch.save(state, path)
    assert fit(*args, 4, checkpoint=Checkpoint(path), **options).steps == 4


# What a state may hold: it is read back before it is trusted.


class Odd:
    """A type that torch.load does not read."""


class Counting(torch.optim.SGD):
    """From its first step on, its state has something of the reader's own in it."""

    def __init__(self, parameters, thing, **options):
        super().__init__(parameters, **options)
        self.thing = thing

    def step(self, closure=None):
        super().step(closure)
        for p in self.param_groups[0]["params"]:
            self.state[p]["seen"] = self.thing


class Remembering(nn.Linear):
    """A module with a state that is no parameter."""

    def __init__(self, thing):
        super().__init__(3, 1)
        self.thing = thing

    def get_extra_state(self):
        return self.thing

    def set_extra_state(self, thing):
        self.thing = thing


class Warmup:
    """A schedule with a state, for LambdaLR."""

    def __init__(self, thing):
        self.thing = thing

    def __call__(self, n):
        return 1.0 / (n + 1)


READABLE = {
    "NumPy float64": np.float64(0.1),
    "NumPy float32": np.float32(0.1),
    "NumPy int64": np.int64(3),
    "NumPy bool": np.bool_(True),
    "NumPy string": np.str_("warm"),
    "NumPy array": np.arange(6.0).reshape(2, 3).T,
    "set": {1, 2},
    "nested": {"a": [(np.float64(1), None, "b")], 3: torch.ones(2)},
}
SPOILED = ("NumPy string", "NumPy array", "nested")  # by Optimizer.load_state_dict, which makes iterables anew
UNREADABLE = {
    "own class": Odd(),
    "function": lambda n: n,
    "module": nn.Linear(1, 1),
    "NumPy objects": np.array([Odd()]),
    "path": Path("run"),
    "nested": {"a": [1, (2, Odd())]},
}


def with_state(where, thing):
    """A run in which optimizer, scheduler or model have the thing in their state."""
    seed_everything(0)
    model = Remembering(thing if where == "model" else None)
    optimizer = Counting(model.parameters(), thing if where == "optimizer" else 0, lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, Warmup(thing if where == "scheduler" else None))
    return (model, lambda m, x: m(x).square().mean(), lambda n: torch.ones(2, 3) * n, optimizer), scheduler


@pytest.mark.parametrize("where", ["optimizer", "scheduler", "model"])
@pytest.mark.parametrize("name", READABLE)
def test_a_state_of_plain_and_numpy_types_comes_back(where, name, tmp_path):
    thing = READABLE[name]
    if where == "optimizer" and name in SPOILED:
        pytest.skip("refused, see below")
    path = tmp_path / "run.pt"
    args, scheduler = with_state(where, thing)
    whole = fit(*args, 5, scheduler=scheduler)
    args, scheduler = with_state(where, thing)
    evaluation = Evaluation(lambda model: 1.0, every=1, patience=9)
    fit(*args, 3, scheduler=scheduler, evaluation=evaluation, checkpoint=Checkpoint(path))
    others, scheduler = with_state(where, None)
    others[3].thing = args[3].thing
    assert fit(*others, 3, scheduler=scheduler, checkpoint=Checkpoint(path)).steps == 3
    model, optimizer = others[0], others[3]
    found = {
        "optimizer": optimizer.state[model.weight].get("seen"),
        "scheduler": scheduler.lr_lambdas[0].thing,
        "model": model.thing,
    }[where]
    assert type(found) is type(thing)
    assert getattr(found, "dtype", None) == getattr(thing, "dtype", None)
    assert repr(found) == repr(thing)
    assert fit(*others, 5, scheduler=scheduler, checkpoint=Checkpoint(path)).losses == whole.losses


def test_an_extra_state_may_have_another_shape_in_the_file(tmp_path):
    args, scheduler = with_state("model", torch.ones(3))
    fit(*args, 1, scheduler=scheduler, checkpoint=Checkpoint(tmp_path / "run.pt"))
    model = Remembering(torch.zeros(2))
    load_weights(model, tmp_path / "run.pt")
    assert torch.equal(model.thing, torch.ones(3))


@pytest.mark.parametrize("where", ["optimizer", "scheduler", "model"])
@pytest.mark.parametrize("thing", UNREADABLE.values(), ids=UNREADABLE)
def test_a_state_that_could_not_be_read_back_is_refused_by_name_before_the_second_step(where, thing, tmp_path):
    path, steps = tmp_path / "run.pt", []
    (model, loss, batches, optimizer), scheduler = with_state(where, thing)
    name = {
        "optimizer": r"optimizer\['state'\]\[0\]\['seen'\]",
        "scheduler": r"scheduler\['lr_lambdas'\]\[0\]\['thing'\]",
        "model": r"model\['_extra_state'\]",
    }[where]
    kind = r"\['a'\]\[1\]\[1\], of type .*Odd" if isinstance(thing, dict) else f", of type .*{type(thing).__qualname__}"
    with pytest.raises(
        TypeError, match=f"read back safely from a checkpoint, got {name}{kind}; put a number or Tensor"
    ):
        fit(
            model,
            loss,
            lambda n: (steps.append(n), batches(n))[1],
            optimizer,
            9,
            scheduler=scheduler,
            checkpoint=Checkpoint(path),
        )
    assert steps == ([0] if where == "optimizer" else [])
    assert os.listdir(tmp_path) == (["run.pt"] if where == "optimizer" else [])
    if where == "optimizer":
        assert checkpoints.read(path)["history"]["losses"] == []


@pytest.mark.parametrize("thing", [*(READABLE[name] for name in SPOILED), "warm", b"warm", [1, {2: ("warm",)}]])
def test_a_state_that_torchs_optimizers_do_not_bring_back_is_refused_by_name(thing, tmp_path):
    args, scheduler = with_state("optimizer", thing)
    with pytest.raises(TypeError, match=r"from a checkpoint, got optimizer\['state'\]\[0\]\['seen'\]"):
        fit(*args, 5, scheduler=scheduler, checkpoint=Checkpoint(tmp_path / "run.pt"))
    assert checkpoints.read(tmp_path / "run.pt")["history"]["losses"] == []


def test_the_rates_of_numpy_resume_bit_for_bit(tmp_path):
    def begin():
        (model, loss, batches, _), _ = start()
        optimizer = torch.optim.AdamW(model.parameters(), lr=np.logspace(-3, -1, 3, dtype=np.float32)[1])
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 2 / np.sqrt(n + 1))
        return (model, loss, batches, optimizer), {"scheduler": rates}

    args, options = begin()
    whole = fit(*args, 8, checkpoint=Checkpoint(tmp_path / "whole.pt"), **options)
    others, options = begin()
    fit(*others, 3, checkpoint=Checkpoint(tmp_path / "run.pt"), **options)
    others, options = begin()
    assert fit(*others, 8, checkpoint=Checkpoint(tmp_path / "run.pt"), **options) == whole
    assert same(args[0], others[0])


SCHEDULES = {
    "LambdaLR": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda n: 1 / (n + 1)),
    "OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=20, cycle_momentum=False),
    "CyclicLR": lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=3, cycle_momentum=False),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, swa_lr=0.05, anneal_epochs=4),
    "SequentialLR": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o, [torch.optim.lr_scheduler.LinearLR(o), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)], [4]
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_resume_bit_for_bit(schedule, tmp_path):
    def begin():
        args, _ = start()
        return args, {"scheduler": schedule(args[3])}

    args, options = begin()
    whole = fit(*args, 9, **options)
    others, options = begin()
    fit(*others, 6, checkpoint=Checkpoint(tmp_path / "run.pt"), **options)
    others, options = begin()
    assert fit(*others, 9, checkpoint=Checkpoint(tmp_path / "run.pt"), **options) == whole
    assert same(args[0], others[0])


def test_a_file_with_a_foreign_type_is_whole_and_said_to_be(tmp_path):
    path, args, options = tmp_path / "run.pt", *start()
    fit(*args, 2, checkpoint=Checkpoint(path), **options)
    torch.save({**torch.load(path, weights_only=True), "scheduler": Odd()}, path)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"got one with the type \S*Odd in it, .*run.pt; the file is whole: read it with"
    ):
        fit(*args, 4, checkpoint=Checkpoint(path), **options)
    assert path.read_bytes() == before


def test_a_file_that_reads_back_otherwise_never_takes_the_name(tmp_path, monkeypatch):
    path, args, options = tmp_path / "run.pt", *start()
    fit(*args, 2, checkpoint=Checkpoint(path), **options)
    before, save = path.read_bytes(), torch.save

    def flipping(state, file):
        save(state, file)
        if isinstance(state, dict) and "format" in state:
            file.seek(file.tell() // 2)
            file.write(b"the disk is worn")

    monkeypatch.setattr(torch, "save", flipping)
    with pytest.raises(
        OSError, match=r"could not write the checkpoint .* reads back damaged .*is still the one before"
    ):
        fit(*args, 4, checkpoint=Checkpoint(path), **options)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.pt"]


@pytest.mark.parametrize("error", [MemoryError, PermissionError])
def test_what_the_machine_lacks_is_not_called_damage(error, tmp_path, monkeypatch):
    path, args, options = tmp_path / "run.pt", *start()
    fit(*args, 2, checkpoint=Checkpoint(path), **options)

    def failing(*args, **kwargs):
        raise error(errno.EACCES, "Permission denied")

    monkeypatch.setattr(torch, "load", failing)
    with pytest.raises(error):
        load_weights(args[0], path)
    monkeypatch.undo()
    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(error):
        fit(*args, 4, checkpoint=Checkpoint(path), **options)
    assert os.listdir(tmp_path) == ["run.pt"]


def test_a_new_checkpoint_reaches_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (order.append(name), real(*a))[1])
    state = {"format": checkpoints.FORMAT, "version": checkpoints.VERSION}
    checkpoints.write(tmp_path / "run.pt", state)
    assert order == ["fsync", "replace", "fsync"]  # the file, the move, the folder


# Killed with SIGKILL in the middle of a checkpoint: words of the CMU dictionary, their first phoneme to be told.


class Speller(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.drop, self.out = nn.Embedding(28, 8), GRU(8, 16), nn.Dropout(0.2), nn.Linear(16, 39)

    def forward(self, letters):
        return self.out(self.drop(self.rnn(self.embed(letters))[0].amax(0)))


def train_speller(path, steps=30):
    seed_everything(3)
    said = {word: first for word, (first, *_) in list(pronunciations().items())[:4000:20]}
    phonemes = {p: i for i, p in enumerate(sorted({p for first in said.values() for p in first}))}
    letters = [torch.tensor([" '".find(c) if c == "'" else ord(c) - 95 for c in word]) for word in said]
    sounds = torch.tensor([phonemes[first[0]] for first in said.values()])
    order = epochs(lambda generator: length_batches([len(word) for word in letters], 16, generator=generator))

    def batches(n):
        chosen = order(n)
        return pad([letters[i] for i in chosen])[0], sounds[chosen]

    model = Speller()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1, (n + 1) / 10))
    loss = lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    history = fit(model, loss, batches, optimizer, steps, scheduler=scheduler, clip=1.0, checkpoint=Checkpoint(path, 7))
    return model, history


def be_killed_while_saving(path):
    """In a process of its own: the third checkpoint is half on the disk when the process is killed."""
    saves, save = count(1), torch.save

    def half(state, file):
        if next(saves) < 5:  # the first two are from before and after the first step
            return save(state, file)
        file.write(Path(path).read_bytes()[: Path(path).stat().st_size // 2])
        file.flush()
        os.fsync(file.fileno())
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    train_speller(path)


def child(code, **options):
    """Python in a process of its own that can import this file."""
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", f"import test_training as t; {code}"], env=environment, **options)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_in_the_middle_of_a_checkpoint_and_resumed_it_ends_as_if_nothing_had_been(tmp_path, capsys):
    path = tmp_path / "speller.pt"
    assert child(f"t.be_killed_while_saving({str(path)!r})").wait(120) == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == ["speller.pt", "speller.pt.part"]
    model, resumed = train_speller(path)
    assert "at step 14 of 30" in capsys.readouterr().out  # in the second epoch of 13 batches
    other, whole = train_speller(tmp_path / "whole.pt")
    assert resumed == whole
    assert same(model, other)
    assert whole.losses[-1] < whole.losses[0]
    assert not (tmp_path / "speller.pt.part").exists()


# Stops.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_step_saves_and_returns(number, tmp_path):
    args, options = start()
    whole = fit(*args, 8, **options)

    def interrupted(n):
        if n == 3:
            signal.raise_signal(number)
        return batch_of(n)

    save, before = Checkpoint(tmp_path / "run.pt"), signal.getsignal(number)
    (model, loss, _, optimizer), options = start()
    history = fit(model, loss, interrupted, optimizer, 8, checkpoint=save, **options)
    assert (history.stopped, history.losses) == ("interrupted", whole.losses[:4])
    assert signal.getsignal(number) == before
    others, options = start(seed=1)
    assert fit(*others, 8, checkpoint=save, **options) == whole
    assert same(others[0], args[0])


@pytest.fixture
def interruptible():
    """Python's own answer to Ctrl-C; a process started in the background may have inherited that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_ctrl_c_stops_at_once(interruptible):
    def impatient(n):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    (model, loss, _, optimizer), _ = start()
    with pytest.raises(KeyboardInterrupt):
        fit(model, loss, impatient, optimizer, 8)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_a_thread_it_trains_and_leaves_the_signals_alone():
    args, options = start()
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(*args, 2, **options)))
    thread.start()
    thread.join()
    assert found[0].steps == 2


class Spoiled(nn.Module):
    """Plants a NaN or an Inf into a forward or a backward pass."""

    def __init__(self, place):
        super().__init__()
        self.rnn, self.out, self.place, self.calls = RNN(3, 4), nn.Linear(4, 1), place, 0

    def forward(self, x):
        self.calls += 1
        last = self.calls == 4
        if last and self.place == "input":
            x = x.clone()
            x[2] = math.nan
        h = self.rnn(x)[0][-1]
        if last and self.place == "gradient":
            h.register_hook(lambda g: g * math.inf)
        y = self.out(h)
        return y * math.inf if last and self.place == "loss" else y


@pytest.mark.parametrize(
    ("place", "watched", "message"),
    [
        ("input", False, "NaN in the loss, though every weight is finite"),
        ("input", True, "NaN in rnn.h_l0, at step 2, first met in the forward pass"),
        ("loss", False, "Inf in the loss, though every weight is finite"),
        ("loss", True, "Inf in the loss, though every recurrent state is finite"),
        ("gradient", False, "(NaN|Inf) in the gradient of rnn.weight_ih_l0"),
        ("gradient", True, "Inf in rnn.h_l0, in ∂L/∂h_t at step 5, first met in the backward pass"),
        ("weight", False, "Inf in the weight out.bias, from before this step"),
    ],
)
def test_a_nan_stops_with_step_and_culprit_before_it_reaches_the_weights(place, watched, message, tmp_path):
    seed_everything(0)
    model = Spoiled(place)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    save = Checkpoint(tmp_path / "run.pt", every=2)
    monitor = GradientMonitor(model) if watched else None
    kept = []

    def batches(n):
        if n == 3 and place == "weight":
            with torch.no_grad():
                model.out.bias.fill_(math.inf)
        kept.append(copy.deepcopy(model.state_dict()))
        return batch_of(n)

    with pytest.raises(
        FloatingPointError, match=rf"at step 3, got {message}; the update was not made: .*; the last good .*run\.pt"
    ):
        fit(model, squared, batches, optimizer, 9, clip=1.0, monitor=monitor, checkpoint=save)
    assert all(torch.equal(a, b) for a, b in zip(kept[-1].values(), model.state_dict().values(), strict=True))
    good = Spoiled(place)
    load_weights(good, save.path)
    assert all(torch.equal(a, b) for a, b in zip(kept[2].values(), good.state_dict().values(), strict=True))


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e30), (torch.float64, 1e200)])
def test_finite_gradients_whose_squares_overflow_are_clipped(dtype, size):
    model = nn.Linear(2, 1, dtype=dtype)
    before = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = fit(
        model, lambda m, x: (m(x) * size).sum(), lambda n: torch.ones(1, 2, dtype=dtype), optimizer, 3, clip=1.0
    )
    assert history.norms == pytest.approx([math.sqrt(3) * size] * 3)
    for p, q in zip(model.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(p, q - 0.3 / math.sqrt(3), rtol=1e-5, atol=1e-6)


def test_a_norm_beyond_float64_is_told_apart():
    model = nn.Linear(2, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    args = model, lambda m, x: (m(x) * 1.7e308).sum() * 0.5, lambda n: torch.full((1, 2), 2.0).double(), optimizer, 1
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    with pytest.raises(FloatingPointError, match="Inf in the norm of the gradients, though each of them is finite"):
        fit(*args)
    assert fit(*args, clip=1.0).norms == [math.inf]


@pytest.mark.parametrize(
    ("clip", "advice"), [(None, "lower the learning rate, or clip$"), (1.0, "or lower the learning rate$")]
)
def test_who_clips_is_not_told_to_clip(clip, advice):
    model = nn.Linear(2, 1)
    with pytest.raises(FloatingPointError, match=rf"look at batches\(0\), {advice}"):
        fit(
            model,
            lambda m, x: m(x).sum() * math.nan,
            lambda n: torch.ones(1, 2),
            torch.optim.SGD(model.parameters()),
            3,
            clip=clip,
        )


def test_sparse_gradients_train_as_dense_ones():
    def trained(sparse):
        seed_everything(0)
        model = nn.Sequential(nn.Embedding(7, 3, sparse=sparse), nn.Flatten(), nn.Linear(12, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batches = lambda n: torch.tensor([[n % 7, 1, 1, 2]])  # noqa: E731
        history = fit(model, lambda m, x: m(x).square().sum() + 3 * m(x).sum(), batches, optimizer, 5, clip=0.5)
        return history, model

    (a, ours), (b, theirs) = trained(True), trained(False)
    assert a.losses == pytest.approx(b.losses)
    assert a.norms == pytest.approx(b.norms)
    assert max(a.norms) > 0.5
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_a_nan_in_a_sparse_gradient_is_named():
    model = nn.Embedding(7, 3, sparse=True)
    model.weight.register_hook(lambda g: g * math.nan)
    with pytest.raises(FloatingPointError, match="got NaN in the gradient of weight; the update was not made"):
        fit(model, lambda m, x: m(x).sum(), lambda n: torch.tensor([1]), torch.optim.SGD(model.parameters()), 3)


def test_the_default_device_does_not_matter(tmp_path):
    def trained(path):
        seed_everything(0)
        model = nn.Linear(3, 1, device="cpu")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        order = epochs(lambda generator: torch.randperm(12, generator=generator, device="cpu").view(3, 4))
        x = torch.arange(36.0, device="cpu").view(12, 3) / 36
        loss = lambda m, b: ((m(x[b]) - 1).square().sum(), len(b))  # noqa: E731
        evaluation = Evaluation(lambda m: m.bias.item(), every=2, patience=9)
        for steps in (3, 6):
            history = fit(
                model,
                loss,
                order,
                optimizer,
                steps,
                clip=0.5,
                evaluation=evaluation,
                checkpoint=Checkpoint(path),
            )
        return history, model

    whole, model = trained(tmp_path / "a.pt")
    with torch.device("meta"):  # a tensor made without a device has no values
        history, other = trained(tmp_path / "b.pt")
    assert history == whole
    assert same(model, other)


# A run that ends with an error leaves its last checkpoint, with the history up to there.


class Failing(Exception):
    pass


def fail():
    raise Failing


def interrupt():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("event", [fail, interrupt, "NaN"])
@pytest.mark.parametrize("place", ["batches", "loss", "backward", "evaluation", "writer", "scheduler", "monitor"])
def test_whatever_ends_a_run_its_last_checkpoint_goes_on_to_the_same_end(event, place, tmp_path, interruptible):
    if event == "NaN" and place in ("batches", "writer", "scheduler", "monitor"):
        pytest.skip("there is no value to spoil")

    def run(save, at):
        (model, _, _, optimizer), _ = start()
        calls = dict.fromkeys(["batches", "loss", "backward", "evaluation", "writer", "scheduler", "monitor"], 0)

        def pass_by(name, value=None):
            calls[name] += 1
            if name == place and calls[name] == at:
                if event == "NaN":
                    return value * math.nan
                event()
            return value

        def loss(model, batch):
            value = pass_by("loss", squared(model, batch))
            value.register_hook(lambda g: pass_by("backward", g))
            return value

        class Writer(Notes):
            def add_scalar(self, name, value, step):
                if name == "loss":
                    pass_by("writer")

        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: pass_by("scheduler", 1.0) / (n + 1))
        monitor = GradientMonitor(model)
        look = monitor.step
        monitor.step = lambda mean: (pass_by("monitor"), look(mean))[1]
        evaluation = Evaluation(lambda model: pass_by("evaluation", drawing(model)), every=1)
        watched = {"evaluation": evaluation, "monitor": monitor, "writer": Writer()}
        options = {**watched, "scheduler": rates, "checkpoint": save, "clip": 0.5}
        history = fit(model, loss, lambda n: pass_by("batches", batch_of(n)), optimizer, 8, **options)
        return model, history

    save = Checkpoint(tmp_path / "run.pt", every=3)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises((Failing, KeyboardInterrupt, FloatingPointError)):
        run(save, at=7 if place == "writer" else 5)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert os.listdir(tmp_path) == ["run.pt"]
    model, whole = run(Checkpoint(tmp_path / "whole.pt"), at=None)
    kept = checkpoints.read(save.path)["history"]
    assert kept["losses"] == whole.losses[: len(kept["losses"])]
    assert len(kept["losses"]) == (6 if place == "writer" else 3)
    other, resumed = run(save, at=None)
    assert resumed == whole
    assert same(model, other)


def test_an_evaluation_that_is_nan_stops_too():
    args, options = start()
    with pytest.raises(FloatingPointError, match="expected a number from the evaluation after 2 steps, got NaN"):
        fit(*args, 4, evaluation=Evaluation(lambda model: math.nan, every=2), **options)


# What is seen.


def test_the_bar_counts_from_where_the_run_goes_on_and_tells_the_loss(tmp_path, capsys):
    args, options = start()
    fit(*args, 2, checkpoint=Checkpoint(tmp_path / "run.pt"), progress=True, **options)
    history = fit(*args, 5, checkpoint=Checkpoint(tmp_path / "run.pt"), progress=True, **options)
    first, second = capsys.readouterr().err.strip().split("\n")
    assert "2/2" in first
    assert "2/5" in second
    assert "5/5" in second
    assert f"loss={history.losses[-1]:.4g}" in second


@pytest.mark.parametrize(
    ("shell", "terminal", "shown"),
    [
        (None, True, True),
        (None, False, False),
        (SimpleNamespace(), True, True),  # IPython in a terminal
        (SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=True)), False, True),  # JupyterLab
        (SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=False)), True, False),  # a page that is built
    ],
)
def test_by_default_the_bar_is_shown_where_somebody_looks_on(shell, terminal, shown, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
    assert progress.has_reader() is shown
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    assert progress.has_reader() is (shown or hasattr(shell, "kernel"))


def test_a_quiet_run_says_nothing(capsys):
    args, options = start()
    fit(*args, 3, **options)
    assert capsys.readouterr() == ("", "")


class Notes:
    """A SummaryWriter that keeps what it is told."""

    def __init__(self):
        self.scalars = {}

    def add_scalar(self, name, value, step):
        self.scalars.setdefault(name, []).append((step, value))

    def __getattr__(self, name):
        return lambda *args: None


def test_a_writer_gets_losses_norms_rates_evaluations_and_reports():
    args, options = start()
    notes = Notes()
    evaluation = Evaluation(lambda model: 1.5, every=2)
    monitor = GradientMonitor(args[0], every=2)
    history = fit(*args, 4, writer=notes, evaluation=evaluation, monitor=monitor, **options)
    assert notes.scalars["loss"] == list(enumerate(history.losses))
    assert notes.scalars["gradient norm"] == list(enumerate(history.norms))
    rates = [0.01 * (1 + math.cos(math.pi * n / 20)) / 2 for n in range(4)]
    assert [rate for _, rate in notes.scalars["learning rate"]] == pytest.approx(rates)
    assert notes.scalars["evaluation"] == [(1, 1.5), (3, 1.5)]
    assert [step for step, _ in notes.scalars["gradient/norm"]] == [0, 2]


def test_a_folder_becomes_a_tensorboard_log(tmp_path):
    pytest.importorskip("tensorboard")
    args, options = start()
    fit(*args, 2, writer=tmp_path / "log", **options)
    assert [path.name.startswith("events.out.tfevents") for path in (tmp_path / "log").iterdir()] == [True]


@pytest.fixture
def plain(monkeypatch):
    """An installation of torch and numpy alone, in a terminal."""
    real = builtins.__import__

    def without(name, *args):
        if name.split(".")[0] in ("tqdm", "tensorboard") or name == "torch.utils.tensorboard":
            raise ModuleNotFoundError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(progress, "has_reader", lambda: True)


def test_on_a_plain_installation_it_trains_without_a_bar(plain):
    args, options = start()
    assert fit(*args, 2, **options).steps == 2
    assert fit(*args, 2, progress=False, writer=Notes(), **options).steps == 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"progress": True}, "expected the package tqdm for progress=True, and found none; pip install tqdm$"),
        ({"writer": "log"}, "expected the package tensorboard for a folder as writer, .*; pip install tensorboard$"),
        ({"writer": Path("log")}, "expected the package tensorboard"),
    ],
)
def test_a_missing_package_that_is_asked_for_is_named_with_its_remedy(option, message, plain):
    args, options = start()
    with pytest.raises(ModuleNotFoundError, match=message):
        fit(*args, 2, **option, **options)


def test_without_a_standard_error_nobody_reads(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    assert not progress.has_reader()


# What is refused.


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": nn.Tanh()}, TypeError, "expected model as a module with something to train, got Tanh"),
        ({"model": 3}, TypeError, "expected model as a module with something to train, got int"),
        ({"loss": 3}, TypeError, r"expected loss as a function of \(model, batch\), got int"),
        ({"loss": nn.MSELoss()}, TypeError, "got the module MSELoss; write lambda model, batch"),
        ({"loss": lambda m, b: m(b[0])}, TypeError, r"expected loss to return a scalar Tensor .*got a Tensor \(4, 1\)"),
        ({"loss": lambda m, b: 1.0}, TypeError, r"expected loss to return a scalar Tensor .*got float"),
        (
            {"loss": lambda m, b: torch.ones(())},
            TypeError,
            r"got a Tensor \(\) without a graph",
        ),
        ({"batches": [1]}, TypeError, "expected batches as a function of the step number, got list"),
        ({"optimizer": 3}, TypeError, "expected optimizer of torch.optim, got int"),
        ({"optimizer": torch.optim.SGD(nn.Linear(1, 1).parameters())}, ValueError, "got 2 that are not; make it from"),
        ({"steps": 0}, ValueError, "fit: expected steps of at least 1, got 0"),
        ({"steps": 1.5}, TypeError, "fit: expected steps as an int, got 1.5"),
        ({"clip": 0}, ValueError, "expected clip as a norm above 0, got 0; None does not clip"),
        ({"clip": math.nan}, ValueError, "expected clip as a norm above 0, got nan"),
        ({"clip": "1"}, TypeError, "expected clip as a number, got '1'; None does not clip"),
        ({"clip": True}, TypeError, "expected clip as a number, got True"),
        ({"scheduler": 3}, TypeError, "expected scheduler that goes by the step, such as LambdaLR, got int"),
        ({"evaluation": len}, TypeError, r"expected evaluation as Evaluation\(...\), got builtin_function"),
        ({"checkpoint": "run.pt"}, TypeError, r"expected checkpoint as Checkpoint\(...\), got str"),
        ({"monitor": 3}, TypeError, r"expected monitor as GradientMonitor\(...\), got int"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(change, error, message):
    (model, loss, batches, optimizer), _ = start()
    arguments = {"model": model, "loss": loss, "batches": batches, "optimizer": optimizer, "steps": 3}
    with pytest.raises(error, match=message):
        fit(**{**arguments, **change})


class Twice(torch.optim.SGD):
    """A user's own, which asks for a closure too."""

    def step(self, closure, *, twice):
        return super().step(closure)


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, Twice])
@pytest.mark.parametrize("scheduled", [False, True])
def test_an_optimizer_that_needs_a_closure_is_refused(kind, scheduled):
    (model, *rest), _ = start()
    optimizer = kind(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer) if scheduled else None
    with pytest.raises(
        TypeError, match=f"needs no closure, got {kind.__name__}, which evaluates .*; take SGD, Adam or"
    ):
        fit(model, *rest[:2], optimizer, 3, scheduler=scheduler)


def test_a_scheduler_that_waits_for_a_measure_is_refused():
    args, _ = start()
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(args[3])
    with pytest.raises(TypeError, match="got ReduceLROnPlateau"):
        fit(*args, 3, scheduler=plateau)


def test_evaluation_and_checkpoint_refuse_what_cannot_be_meant():
    with pytest.raises(TypeError, match="Evaluation: expected a function of the model, got float"):
        Evaluation(0.5)
    with pytest.raises(ValueError, match="Evaluation: expected patience of at least 1, got 0"):
        Evaluation(len, patience=0)
    with pytest.raises(TypeError, match="Checkpoint: expected path as a str or Path, got int"):
        Checkpoint(3)
    with pytest.raises(ValueError, match="Checkpoint: expected every of at least 1, got 0"):
        Checkpoint("run.pt", every=0)
