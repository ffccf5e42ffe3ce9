"""Recorded experiments: whole, made by the code of today, and made by a recorder that can be trusted."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "experiments"
RECORDINGS = sorted((FOLDER / "results").glob("*.json"))
recordings = pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)


def load(name: str):
    """Import a script of experiments/, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


record = load("record")


@recordings
def test_a_recording_is_whole_and_says_how_it_was_made(path):
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["complete"], f"stopped before its end: run python experiments/{path.stem}.py"
    assert {"experiment", "about", "settings", "code", "made with", "seconds", "results"} <= set(data)
    assert {"seqlab", "torch", "numpy", "python", "device", "date"} <= set(data["made with"])
    assert (FOLDER / f"{path.stem}.py").exists()


@recordings
def test_a_recording_is_not_older_than_its_code(path):
    changed = record.stale(path)
    assert not changed, (
        f"{path.name} was recorded before the last change of {', '.join(changed)}: "
        f"run python experiments/{path.stem}.py, which takes about "
        f"{json.loads(path.read_text(encoding='utf-8'))['seconds'] / 60:.0f} minutes"
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of experiments with one script, in which record() works."""
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    (tmp_path / "experiments" / "toy.py").write_text('"""Doc."""\nx = 1  # why\n')
    monkeypatch.setattr(record, "HERE", tmp_path / "experiments")
    return tmp_path / "experiments"


def run(parts, **settings):
    return record.record("toy", parts, about="a toy", settings=settings, depends=("seqlab.cells:lstm_step",))


def test_a_stopped_recording_goes_on_where_it_was(folder):
    calls = []

    def part(results, name, stop=False):
        calls.append(name)
        if stop:
            raise KeyboardInterrupt
        return sorted(results)

    with pytest.raises(KeyboardInterrupt):
        run({"a": lambda r: part(r, "a"), "b": lambda r: part(r, "b", stop=True)})
    assert json.loads((folder / "results" / "toy.json").read_text())["complete"] is False
    path = run({"a": lambda r: part(r, "a"), "b": lambda r: part(r, "b")})
    data = json.loads(path.read_text())
    assert data["complete"] is True
    assert calls == ["a", "b", "b"]
    assert data["results"] == {"a": [], "b": ["a"]}


@pytest.mark.parametrize("change", ["settings", "code"])
def test_another_setting_or_code_begins_anew(folder, change):
    run({"a": lambda _: 1}, width=4)
    if change == "code":
        (folder / "toy.py").write_text("x = 2\n")
    path = run({"a": lambda _: 2}, width=5 if change == "settings" else 4)
    assert json.loads(path.read_text())["results"] == {"a": 2}


def test_only_a_change_of_meaning_makes_a_recording_stale(folder):
    path = run({"a": lambda _: 1})
    assert record.stale(path) == []
    (folder / "toy.py").write_text('"""Another docstring."""\n\n\nx = (1)\n')
    assert record.stale(path) == []
    (folder / "toy.py").write_text("x = 1.5\n")
    assert record.stale(path) == ["experiments/toy.py"]


def test_a_change_of_the_library_makes_a_recording_stale(folder, monkeypatch):
    path = run({"a": lambda _: 1})
    monkeypatch.setattr("seqlab.cells.lstm_step", run)
    assert record.stale(path) == ["seqlab.cells:lstm_step"]


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_longest_lag_computes_what_the_layers_compute(kind):
    experiment = load("longest_lag")
    start = next(iter(experiment.STARTS[kind]))
    networks = [experiment.network(experiment.STARTS[kind][start], seed) for seed in (0, 1)]
    parameters, _ = torch.func.stack_module_state(networks)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    symbols, _ = experiment.batch(3, 7, generators)
    found = experiment.forward(kind, False, parameters, symbols)
    for k, network in enumerate(networks):
        output, _ = network["layer"](nn.functional.one_hot(symbols[:, k], 16).float())
        torch.testing.assert_close(found[k], network["answer"](output[-1]))


def test_longest_lag_trains_each_network_as_adam_does_alone(monkeypatch):
    """The stacked optimiser against torch.optim.Adam and clip_grad_norm_, on a network of its own."""
    experiment = load("longest_lag")
    monkeypatch.setattr(experiment, "UPDATES", 60)
    monkeypatch.setattr(experiment, "CHECK", 1)  # so that the number found is exact
    monkeypatch.setattr(experiment, "CLIP", 0.2)  # so that it is often reached
    settings = [("ReLU, identity", 3e-3, 0), ("ReLU, identity", 1e-2, 1)]
    together = experiment.train("RNN", 3, settings, relu=True)
    for (start, rate, seed), found in zip(settings, together, strict=True):
        network = experiment.network(experiment.STARTS["RNN"][start], seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        training = torch.Generator().manual_seed(1000 + seed)
        testing = torch.Generator().manual_seed(2000 + seed)
        solved = None
        for update in range(1, 61):
            x, y = experiment.delayed_recall(32, lag=3, generator=training)
            output, _ = network["layer"](nn.functional.one_hot(x, 16).float())
            optimizer.zero_grad()
            nn.functional.cross_entropy(network["answer"](output[-1]), y).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.2)
            optimizer.step()
            if solved is None:
                x, y = experiment.delayed_recall(256, lag=3, generator=testing)
                output, _ = network["layer"](nn.functional.one_hot(x, 16).float())
                share = (network["answer"](output[-1]).argmax(-1) == y).double().mean()
                solved = update if share >= 0.95 else None
        assert found == solved
