"""seqlab: recurrent networks and attention that read like their equations and compute what torch.nn computes.

torch and numpy are all it needs. ``seqlab.tasks``, ``seqlab.metrics``, ``seqlab.tbptt`` and ``seqlab.backprop`` are
imported by name. What only the book needs is in ``seqbook``, which comes in the same wheel.
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
from .convolution import DilatedBlock, DilatedStack, receptive_field
from .gradients import (
    GradientMonitor,
    clip_grad_norm_,
    clip_grad_value_,
    lag_spectrum,
    recurrent_jacobians,
    singular_values,
    spectral_radius,
)
from .initialization import forget_bias_, identity_, orthogonal_, spectral_radius_
from .memory import ContentMemory, ContentMemoryCell
from .recurrent import GRU, LSTM, RNN
from .seq2seq import Decoder, Encoder, Seq2Seq, beam_search, greedy_search, sample
from .training import Checkpoint, Evaluation, choose_device, epochs, fit, seed_everything
from .transformer import (
    DecoderBlock,
    EncoderBlock,
    LanguageModel,
    LearnedPositions,
    SinusoidalPositions,
    Transformer,
    TransformerDecoder,
    TransformerEncoder,
)

__version__ = "0.1.0"
__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "Checkpoint",
    "ContentMemory",
    "ContentMemoryCell",
    "Decoder",
    "DecoderBlock",
    "DilatedBlock",
    "DilatedStack",
    "Encoder",
    "EncoderBlock",
    "Evaluation",
    "GRUCell",
    "GradientMonitor",
    "LSTMCell",
    "LanguageModel",
    "LearnedPositions",
    "LuongAttention",
    "MultiheadAttention",
    "ProjectedKeys",
    "RNNCell",
    "ScaledDotProductAttention",
    "Seq2Seq",
    "SinusoidalPositions",
    "Transformer",
    "TransformerDecoder",
    "TransformerEncoder",
    "additive_score",
    "beam_search",
    "causal_mask",
    "choose_device",
    "clip_grad_norm_",
    "clip_grad_value_",
    "epochs",
    "fit",
    "forget_bias_",
    "greedy_search",
    "gru_step",
    "identity_",
    "lag_spectrum",
    "lstm_step",
    "orthogonal_",
    "receptive_field",
    "recurrent_jacobians",
    "rnn_step",
    "sample",
    "seed_everything",
    "singular_values",
    "spectral_radius",
    "spectral_radius_",
]
