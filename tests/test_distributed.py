"""fit under torchrun: two processes have the loss curve of one, resume bit for bit, and stop together.

torchrun starts this file as a script, once; it goes through all runs, and each process writes down what it saw.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from seqlab.recurrent import GRU
from seqlab.tasks import length_batches, pad
from seqlab.training import Checkpoint, Evaluation, choose_device, epochs, fit, seed_everything, share

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch is built without torch.distributed")

LENGTHS = [2, 9, 4, 7, 3, 3, 8, 2, 6, 5, 2]
SEQUENCES = [torch.randint(1, 5, (n,), generator=torch.Generator().manual_seed(n)) for n in LENGTHS]


class Tagger(nn.Module):
    """Tells at each step which symbol came before, in sequences of unequal length."""

    def __init__(self, dropout):
        super().__init__()
        self.embed, self.rnn, self.drop, self.out = nn.Embedding(5, 4), GRU(4, 6), nn.Dropout(dropout), nn.Linear(6, 5)

    def forward(self, x):
        return self.out(self.drop(self.rnn(self.embed(x))[0]))


def total(model, x):
    """Sum and count over the steps that are not padding."""
    target = x.roll(1, 0)
    target[0] = 0
    losses = nn.functional.cross_entropy(model(x).flatten(0, 1), target.flatten(), reduction="none")
    real = (x != 0).flatten()
    return (losses * real).sum(), real.sum()


def mean(model, x):
    value, number = total(model, x)
    return value / number


ORDER = epochs(lambda generator: length_batches(LENGTHS, 4, generator=generator))  # batches of 4, 4 and 3


def batch(n):
    return pad([SEQUENCES[i] for i in share(ORDER(n))])[0]


def train(steps=10, *, dropout=0.0, seed=0, loss=total, batches=batch, **options):
    seed_everything(seed)
    model = Tagger(dropout).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    history = fit(model, loss, batches, optimizer, steps, scheduler=scheduler, clip=0.3, **options)
    return model, optimizer, history


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def refusal(run):
    try:
        run()
    except (FloatingPointError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def main(folder):
    """What each of the processes does and sees."""
    rank, seen = int(os.environ["RANK"]), {}
    choose_device("cpu", torch.float64)

    model, _, history = train(progress=True)
    seen["curve"] = {"losses": history.losses, "norms": history.norms, "weights": weights(model)}
    seen["draw"] = torch.rand(()).item()  # what dropout would have drawn next

    # Resumed, with dropout, from another seed: everything comes from the file, each process's generator too.
    model, _, history = train(dropout=0.5, checkpoint=Checkpoint(folder / "whole.pt"))
    seen["whole"] = {"losses": history.losses, "weights": weights(model)}
    train(5, dropout=0.5, checkpoint=Checkpoint(folder / "halves.pt"))
    seed_everything(rank + 7)
    model, _, history = train(dropout=0.5, seed=5, checkpoint=Checkpoint(folder / "halves.pt"))
    seen["halves"] = {"losses": history.losses, "weights": weights(model)}

    # Stops: a signal to one process, a NaN in the share of one, an evaluation that comes out differently in each.
    def terminated(n):
        if n == 3 and rank == 1:
            signal.raise_signal(signal.SIGTERM)
        return batch(n)

    history = train(batches=terminated, checkpoint=Checkpoint(folder / "terminated.pt"))[2]
    seen["terminated"] = [history.stopped, history.steps]

    def spoiled(model, x):
        value, number = total(model, x)
        return value * (math.nan if next(calls) == 4 and rank == 1 else 1), number

    calls = count()
    seen["nan"] = refusal(lambda: train(loss=spoiled))
    values = iter([3.0, 2.0, 2.5, 2.5] if rank == 0 else [1.0, 2.0, 3.0, 4.0])
    history = train(evaluation=Evaluation(lambda model: next(values), every=1, patience=2))[2]
    seen["early"] = [history.stopped, history.steps, history.best]
    seen["mean"] = refusal(lambda: train(loss=mean))

    # Another default device, where a tensor that is made without a device has no values.
    line = nn.Linear(2, 1)
    x = torch.ones(4, 2)
    with torch.device("meta"):
        history = fit(
            line, lambda m, x: (m(x).sum(), len(x)), lambda n: share(x), torch.optim.SGD(line.parameters()), 2
        )
    seen["default"] = history.steps
    (folder / f"{rank}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """The folder, what torchrun printed, and what each process saw."""
    folder = tmp_path_factory.mktemp("torchrun")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    with subprocess.Popen(
        [*torchrun, __file__, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun then ends its processes
            out, err = process.communicate()
    assert process.returncode == 0, err
    return folder, out, err, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_have_the_loss_curve_of_one(launched):
    model, _, history = train()
    for seen in launched[-1]:
        assert seen["curve"]["losses"] == pytest.approx(history.losses, rel=1e-10)
        assert seen["curve"]["norms"] == pytest.approx(history.norms, rel=1e-10)
        assert seen["curve"]["weights"] == pytest.approx(weights(model), rel=1e-10, abs=1e-12)
    assert min(history.norms) < 0.3 < max(history.norms)  # clipping had something to do


def test_the_mean_of_the_shares_means_would_be_another_curve():
    """The test above can fail: in these batches the shares have unequal numbers of steps."""
    history = train(1)[2]
    seed_everything(0)
    model = Tagger(0.0).double()
    x = batch(0)
    shares = [mean(model, x[:, rank::2]).item() for rank in range(2)]
    assert abs(sum(shares) / 2 - history.losses[0]) > 1e-3


def test_two_processes_resume_bit_for_bit(launched):
    for seen in launched[-1]:
        assert seen["halves"] == seen["whole"]
    assert launched[-1][0]["whole"] == launched[-1][1]["whole"]


def test_each_process_drops_units_of_its_own(launched):
    assert launched[-1][0]["draw"] != launched[-1][1]["draw"]


def test_a_signal_to_one_process_stops_both_after_the_same_step(launched):
    assert [seen["terminated"] for seen in launched[-1]] == [["interrupted", 4]] * 2
    assert torch.load(launched[0] / "terminated.pt", weights_only=True)["history"]["stopped"] == "interrupted"


def test_a_nan_in_one_share_stops_both(launched):
    for seen in launched[-1]:
        assert "FloatingPointError: fit: expected a finite loss and finite gradients at step 4, got NaN" in seen["nan"]


def test_the_first_process_decides_when_patience_has_run_out(launched):
    assert [seen["early"] for seen in launched[-1]] == [["early", 4, [2, 2.0]]] * 2


def test_a_mean_is_refused_where_it_would_be_biased(launched):
    for seen in launched[-1]:
        assert "expected loss to return (sum, count) under 2 processes, got one Tensor" in seen["mean"]


def test_the_default_device_does_not_matter(launched):
    assert [seen["default"] for seen in launched[-1]] == [2, 2]


def test_only_the_first_process_speaks(launched):
    _, out, err, _ = launched
    assert out.count("Device: cpu (1 thread(s)), float64, 2 processes") == 1
    assert out.count("goes on from") == 1
    assert err.count("10/10") == 1


def test_a_checkpoint_of_two_processes_is_not_resumed_by_one(launched):
    with pytest.raises(ValueError, match=r"expected 2 process\(es\), as wrote .*whole\.pt, got 1; start 2, or"):
        train(dropout=0.5, checkpoint=Checkpoint(launched[0] / "whole.pt"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
