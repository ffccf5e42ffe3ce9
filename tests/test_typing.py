"""What a type checker knows of a call: the layers and the cells are typed, although nn.Module.__call__ is not."""

from __future__ import annotations

import re

import pytest

api = pytest.importorskip("mypy.api")

CODE = """
import torch
from torch.nn.utils.rnn import PackedSequence
from seqlab import GRU, LSTM, RNN
x = torch.zeros(4, 2, 3)
def packed() -> PackedSequence: raise RuntimeError
output, (h, c) = LSTM(3, 5)(x)
reveal_type(output)
reveal_type(h)
reveal_type(c)
reveal_type(GRU(3, 5)(x)[1])
reveal_type(RNN(3, 5)(packed())[0])
LSTM(3, 5)(x, (h, c))
LSTM(3, 5)(x, h)
"""


def test_results_are_known_to_a_type_checker():
    out, _, _ = api.run(
        [
            "--config-file=",
            "--no-incremental",
            "--cache-dir=/dev/null",
            "--ignore-missing-imports",
            "--follow-imports=silent",
            "-c",
            CODE,
        ]
    )
    revealed = re.findall(r'Revealed type is "([^"]+)"', out)
    assert [r.split(".")[-1].rstrip("]") for r in revealed] == ["Tensor"] * 4 + ["PackedSequence"], out
    assert out.count("error:") == 1  # an LSTM's state is a pair
    assert 'No overload variant of "__call__"' in out or "incompatible type" in out
