"""seqlab: recurrent networks and attention that read like their equations and compute what torch.nn computes.

The names below cover computing. ``seqlab.plotting``, ``seqlab.interactive`` and ``seqlab.book`` are imported by name,
so that a training script does not load matplotlib.
"""

from __future__ import annotations

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
    "GRUCell",
    "GradientMonitor",
    "LSTMCell",
    "RNNCell",
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
