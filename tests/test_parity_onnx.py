"""The layers against a second oracle that shares no code with torch: ONNX's reference evaluator, written in NumPy.

ONNX stacks the gates in another order (LSTM i, o, f, g; GRU z, r, n) and has the GRU with its reset gate in both
places, so that it is the only outside check of reset_after=False, which torch does not have.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch.testing import assert_close

import seqlab

H_IN, H, L, N = 3, 4, 6, 2
CASES = [
    pytest.param(seqlab.RNN, "RNN", [0], {}, {}, id="RNN"),
    pytest.param(seqlab.LSTM, "LSTM", [0, 3, 1, 2], {}, {}, id="LSTM"),
    pytest.param(seqlab.GRU, "GRU", [1, 0, 2], {"reset_after": True}, {"linear_before_reset": 1}, id="GRU-reset-after"),
    pytest.param(
        seqlab.GRU, "GRU", [1, 0, 2], {"reset_after": False}, {"linear_before_reset": 0}, id="GRU-reset-before"
    ),
]


def stacked(layer, name, order):
    """ONNX's tensor of one kind of parameter, (D, G * H, ...), with its blocks in the given order."""
    directions = ["_l0", "_l0_reverse"] if layer.bidirectional else ["_l0"]
    parameters = [layer.get_parameter(name + direction).detach() for direction in directions]
    return np.stack([torch.cat([p.split(H)[gate] for gate in order]).numpy() for p in parameters])


@pytest.mark.parametrize(("ours", "operator", "order", "options", "attributes"), CASES)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("backend", ["loop", "hand", "auto"])
def test_layer_matches_the_onnx_reference(ours, operator, order, options, attributes, bidirectional, backend):
    torch.manual_seed(0)
    layer = ours(H_IN, H, bidirectional=bidirectional, dtype=torch.float64, backend=backend, **options)
    directions = 2 if bidirectional else 1
    x = torch.randn(L, N, H_IN, dtype=torch.float64)
    states = [torch.randn(directions, N, H, dtype=torch.float64) for _ in range(2 if operator == "LSTM" else 1)]
    feeds = {
        "X": x.numpy(),
        "W": stacked(layer, "weight_ih", order),
        "R": stacked(layer, "weight_hh", order),
        "B": np.concatenate([stacked(layer, "bias_ih", order), stacked(layer, "bias_hh", order)], axis=1),
    }
    feeds |= {f"initial_{name}": state.numpy() for name, state in zip("hc", states, strict=False)}
    outputs = ["Y", "Y_h", "Y_c"][: 1 + len(states)]
    names = ["X", "W", "R", "B", "", *list(feeds)[4:]]  # the empty name is sequence_lens, which is not given
    direction = "bidirectional" if bidirectional else "forward"
    node = helper.make_node(operator, names, outputs, hidden_size=H, direction=direction, **attributes)
    graph = helper.make_graph(
        [node],
        "one recurrent layer",
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in feeds],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    y, *finals = (torch.from_numpy(np.array(value)) for value in ReferenceEvaluator(model).run(None, feeds))

    output, final = layer(x, tuple(states) if operator == "LSTM" else states[0])
    assert_close(output, y.transpose(1, 2).reshape(L, N, directions * H), rtol=0, atol=1e-12)  # from (L, D, N, H)
    assert_close(list(final) if operator == "LSTM" else [final], finals, rtol=0, atol=1e-12)
