"""The benchmark: every promise has its rows, both sides of a row agree, a run is recorded. Nothing here is timed."""

from __future__ import annotations

import importlib
import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmark is no part of the installed library
main = importlib.import_module("benchmarks.__main__")
rows = importlib.import_module("benchmarks.rows")
timing = importlib.import_module("benchmarks.timing")

TINY = (2, 6, 3, 4)
FIELDS = [
    *("promise", "size", "baseline", "unit"),
    *("ours", "theirs", "ratio", "low", "high", "pairs", "at_most", "met"),
]
# name of the rows: the promised ratio, by size where it depends on that
FAST = ("(16, 100, 64, 128)", "(8, 512, 128, 512)", "(1, 1000, 64, 128)", "(16, 30, 32, 32)")
OTHERS = ("(32, 35, 128, 256)", "(32, 200, 256, 256)", "(64, 50, 32, 64)")
PROMISED = {
    "GRU training": {
        **dict.fromkeys(FAST, 0.50),
        **dict.fromkeys([*OTHERS, "(24, 80, 96, 192)"], 0.80),
        "(16, 100, 64, 128)": 0.55,
    },
    "RNN training": {
        **dict.fromkeys(FAST, 0.50),
        **dict.fromkeys(OTHERS, 0.75),
        **dict.fromkeys(["(32, 35, 128, 256)", "(24, 80, 96, 192)"], 0.80),
    },
    "LSTM training, float32": dict.fromkeys(FAST + OTHERS, 1.05),
    "LSTM training, float64": dict.fromkeys(FAST + OTHERS, 0.90),
    "LSTM, lengths": 0.20,
    "GRU, lengths": 0.30,
    "RNN, lengths": 0.30,
    "LSTM, loss on the last step": 0.15,
    "GRU, loss on the last step": 0.20,
    "RNN, loss on the last step": 0.20,
    "GRU training, reset before": 0.50,
    "GRU by hand, norm": 1.03,
    "GRU by hand, GradientMonitor": 1.10,
    "RNN by hand, norm": 1.03,
    "RNN by hand, GradientMonitor": 1.10,
    "LSTM by hand, norm": 1.03,
    "LSTM by hand, GradientMonitor": 1.10,
    "additive attention, memory": 0.10,
    "additive attention, training": 1.00,
    "TBPTT(": 0.85,
    "LSTM inference": dict.fromkeys(FAST + OTHERS, 1.05),
    "GRU inference": dict.fromkeys(FAST + OTHERS, 1.05),
    "RNN inference": dict.fromkeys(FAST + OTHERS, 1.05),
}
SIDES = {
    **{f"training {kind}": partial(rows.training, kind, TINY) for kind in ("RNN", "LSTM", "GRU")},
    "last step": partial(rows.training, "LSTM", (2, 70, 3, 4), last_step=True),
    "float64": partial(rows.training, "LSTM", TINY, dtype=torch.float64),
    "lengths": partial(rows.variable_length, "LSTM", TINY, 2),
    "inference": partial(rows.inference, "RNN", TINY),
    "reset before": partial(rows.reset_before, TINY),
    "norms": partial(rows.monitored, "LSTM", TINY, norms_only=True),
    "monitor": partial(rows.monitored, "GRU", TINY),
    "attention": partial(rows.additive, N=1),
    "truncated": partial(rows.truncated, 20, 40),
    "truncated, thrifty": partial(rows.truncated, 20, 40, thrifty=True),
    "spectrum": partial(rows.spectrum, "RNN"),
}


@pytest.mark.parametrize("name", PROMISED)
def test_every_promise_has_its_rows(name):
    found = [row for row in rows.rows() if row.promise.startswith(name) and row.at_most is not None]
    if isinstance(PROMISED[name], dict):
        found = [row for row in found if row.promise == name]
        assert {row.size: row.at_most for row in found} == PROMISED[name]
    else:
        assert found
        assert {row.at_most for row in found} == {PROMISED[name]}


def test_both_directions_have_rows():
    assert sum("both directions" in row.size for row in rows.rows()) == 3


@pytest.mark.parametrize("side", SIDES)
def test_both_sides_of_a_row_compute_the_same(side):
    torch.manual_seed(0)
    ours, baseline = SIDES[side]()
    assert timing.difference(ours(), baseline()) < 1e-4


def test_a_row_is_measured_printed_and_recorded(tmp_path, capsys):
    row = rows.Row("GRU training", str(TINY), "nn.GRU", 1e9, partial(rows.training, "GRU", TINY))
    threads = torch.get_num_threads()
    entries = main.run([row])
    assert torch.get_num_threads() == threads
    heading, line = capsys.readouterr().out.splitlines()
    assert "promised" in heading
    assert "nn.GRU" in line
    assert line.endswith("yes")
    about = main.machine() | {"gpu": None, "processor": "A (good) CPU @ 2 GHz"}
    path = main.record(tmp_path / "results", {"machine": about, "rows": entries, "gpu": []})
    assert path.name == "a-good-cpu-2-ghz.json"
    recorded = json.loads(path.read_text())
    (entry,) = recorded["rows"]
    assert list(entry) == FIELDS
    assert entry["pairs"] >= 15
    assert entry["met"] is True
    assert set(recorded["machine"]) >= {"processor", "gpu", "torch", "python", "date", "commit", "cores", "device"}


def test_sides_that_disagree_are_not_timed():
    row = rows.Row("wrong", "", "", None, lambda: (lambda: torch.ones(2), lambda: torch.full((2,), 1.01)))
    with pytest.raises(RuntimeError, match=r"wrong .*: expected the results of both sides to agree, got 9.9e-03"):
        main.measure(row)


def test_a_result_that_is_nan_is_not_timed():
    fine, nan = torch.ones(2), torch.tensor([1.0, torch.nan])
    row = rows.Row("nan", "", "", None, lambda: (lambda: (fine, nan), lambda: (fine, fine)))
    with pytest.raises(RuntimeError, match="agree"):
        main.measure(row)


def test_the_sides_take_turns_and_change_places():
    calls = []
    found = timing.interleaved(lambda: calls.append("a"), lambda: calls.append("b"), pairs=16, most=16)
    assert "".join(calls[4:]) == "baab" * 8
    assert found.pairs == 16


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_the_peak_is_that_of_the_work_alone():
    def pair(N: int = 64):
        return (lambda: torch.ones(N, 2**18).sum()), (lambda: None)  # N MiB

    assert 60 < timing._peak((pair, 0)) < 80
    assert timing._peak((pair, 1)) < 8
