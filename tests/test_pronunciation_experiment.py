"""The full-scale experiment on a small part of the dictionary: it runs, resumes after SIGKILL, and refuses a mix-up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from seqbook.studies import pronunciation
from seqbook.studies.pronunciation import MODELS, Data, Settings, build, loss, main, run, scores, table

SMALL = {"hidden_size": 16, "embedding_dim": 8, "batch_size": 16, "steps": 12}
FEW = """
from seqbook.studies import pronunciation
words = pronunciation.pronunciations()
pronunciation.pronunciations = lambda: dict(list(words.items())[:120000:400])
"""
# The second kill from the end of a run of 12 steps with a checkpoint at each: half of the file is on the disk.
KILLED = """
import io, os, signal
import torch
from seqlab.training import checkpoint
save, calls = torch.save, []
def half(state, file, *args, **kwargs):
    calls.append(0)
    if len(calls) < 9:
        return save(state, file, *args, **kwargs)
    whole = io.BytesIO()
    save(state, whole)
    data = whole.getvalue()[: len(whole.getvalue()) // 2]
    file.write(data) if hasattr(file, "write") else open(file, "wb").write(data)
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
"""


@pytest.fixture(scope="module")
def words():
    """Three hundred words from all over the dictionary."""
    return dict(list(pronunciation.pronunciations().items())[:120000:400])


@pytest.fixture
def few(words, monkeypatch):
    monkeypatch.setattr(pronunciation, "pronunciations", lambda: words)


@pytest.mark.parametrize("model", MODELS)
def test_each_model_is_trained_and_tested(model, few, tmp_path, capsys):
    result = run(Settings(model=model, **SMALL), tmp_path, beam_size=2)
    assert json.loads((tmp_path / "result.json").read_text())["settings"]["model"] == model
    assert result["greedy"]["PER"] > 0
    assert 0 < result["beam"]["WER"] <= 100
    assert result["words"]["train"] > result["words"]["test"] > 0
    shown = table([result])
    assert f"{model}, " in shown
    assert "Phonetisaurus" in shown


def program(folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    arguments = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    code = "".join([*before, f"pronunciation.main({[*arguments, '--folder', str(folder), '--beam-size', '2']})"])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_a_run_killed_while_it_writes_a_checkpoint_ends_as_one_that_was_not(tmp_path):
    assert program(tmp_path / "whole", FEW).returncode == 0
    killed = program(tmp_path / "killed", FEW, KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "result.json").exists()
    resumed = program(tmp_path / "killed", FEW)
    assert resumed.returncode == 0, resumed.stderr
    assert "goes on from" in resumed.stdout
    whole, resumed = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed"))
    for equal in ("loss", "validation", "greedy", "beam"):
        assert whole[equal] == resumed[equal]
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "killed")]
    for name, weight in states[0]["model"].items():
        assert torch.equal(weight, states[1]["model"][name])


def test_a_run_until_some_update_is_the_beginning_of_the_whole_one(few, tmp_path):
    part = run(Settings(**SMALL), tmp_path / "part", until=5)
    assert "greedy" not in part
    assert not (tmp_path / "part" / "result.json").exists()
    whole = run(Settings(**SMALL), tmp_path / "whole")
    assert part["validation"] == whole["validation"][: len(part["validation"])]
    assert len(part["validation"]) == 5
    resumed = run(Settings(**SMALL), tmp_path / "part")
    assert resumed["greedy"] == whole["greedy"]


def test_a_folder_belongs_to_one_setting(few, tmp_path):
    run(Settings(**{**SMALL, "steps": 1}), tmp_path)
    with pytest.raises(ValueError, match=r"got another steps, rate; name another folder"):
        run(Settings(**{**SMALL, "steps": 2, "rate": 0.1}), tmp_path)


def test_an_unknown_model_is_refused(capsys):
    with pytest.raises(ValueError, match=r"expected model to be one of none, additive, .*, got 'lstm'"):
        build(Settings(model="lstm"), 10, 10)
    with pytest.raises(SystemExit):
        main(["--help"])


def test_loss_counts_phonemes_and_not_padding(few):
    data = Data()
    model = build(Settings(**SMALL), len(data.letters), len(data.phonemes)).eval()
    pairs = data.pairs(data.validation)
    total, count = loss(model, pronunciation.batch(pairs))
    alone = [loss(model, pronunciation.batch([pair])) for pair in pairs]
    torch.testing.assert_close(total, sum(one for one, _ in alone), rtol=1e-5, atol=1e-4)
    assert count == sum(n for _, n in alone)


def test_scores_do_not_depend_on_batches_and_count_any_pronunciation(few, monkeypatch):
    data = Data()

    class Answer(NamedTuple):
        tokens: torch.Tensor

    def last_pronunciations(model, source, max_length, mask):
        spelled = ["".join(data.letters.decode(letters)) for letters in source]
        return [Answer(data.phonemes.encode(data.test[word][-1], eos=True)) for word in spelled]

    monkeypatch.setattr(pronunciation, "greedy_search", last_pronunciations)
    found = scores(torch.nn.Linear(1, 1), data.test, data)
    assert found["PER"] == found["WER"] == 0
