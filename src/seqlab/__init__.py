"""seqlab: recurrent networks and attention that read like their equations and compute what torch.nn computes.

The names below cover computing. ``seqlab.tasks``, ``seqlab.metrics``, ``seqlab.plotting``, ``seqlab.interactive`` and
``seqlab.book`` are imported by name, so that a training script does not load what it does not need.
"""

from __future__ import annotations

from .attention import (
    AdditiveAttention,
    LuongAttention,
    MultiheadAttention,
    ProjectedKeys,
    ScaledDotProductAttention,
    additive_score,
    causal_mask,
)
from .cells import GRUCell, LSTMCell, RNNCell, gru_step, lstm_step, rnn_step
from .gradients import GradientMonitor, recurrent_jacobians, singular_values, spectral_radius
from .initialization import forget_bias_, identity_, orthogonal_, spectral_radius_
from .recurrent import GRU, LSTM, RNN
from .training import choose_device, seed_everything

__version__ = "0.1.0"
__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "GRUCell",
    "GradientMonitor",
    "LSTMCell",
    "LuongAttention",
    "MultiheadAttention",
    "ProjectedKeys",
    "RNNCell",
    "ScaledDotProductAttention",
    "additive_score",
    "causal_mask",
    "choose_device",
    "forget_bias_",
    "gru_step",
    "identity_",
    "lstm_step",
    "orthogonal_",
    "recurrent_jacobians",
    "rnn_step",
    "seed_everything",
    "singular_values",
    "spectral_radius",
    "spectral_radius_",
]
