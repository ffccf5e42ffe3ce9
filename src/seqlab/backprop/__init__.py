"""Backpropagation through time, derived by hand: one direction of one layer, forward and backward.

Autograd records some ten operations a step and multiplies out the weight gradients step by step. Written by hand, what
stays in the loop over time is the recurrence alone. The derivation has the same steps for each cell:

1. Step t = 1, ..., L computes a_t, linear in x_t and h_{t-1}, and from it the state h_t (in the LSTM also c_t); h_0 is
   the initial state. Write dh_t for the total derivative dL/dh_t, da_t for dL/da_t, and so on.
2. h_t acts on the loss L directly, as output t (h_L also as the final state), and through step t + 1. So dh_t begins
   as the gradient that comes in from outside, and step t + 1 adds its part to it.
3. da_t is dh_t times factors that the forward pass determines. They are computed for many steps at once.
4. The loop runs from t = L to 1. Each step multiplies its factors by dh_t, which gives da_t, and adds W_hhᵀ da_t to
   dh_{t-1}.
5. All steps share the weights, so that their gradients are sums over t, and a sum of outer products is one matrix
   product: dW_ih = Σ da_t x_tᵀ, dW_hh = Σ da_t h_{t-1}ᵀ, db = Σ da_t. So is dx_t = W_ihᵀ da_t, for all t.

``passes`` holds steps 3 and 4, with the factors of each cell; ``sequence`` steps 2 and 5, which all cells share;
``functions`` what can be called; ``graphs`` records the passes on a GPU and replays them.

Where it differs from autograd: under a loss that leaves out many steps, such as one on the last step, the gradient may
shrink until its numbers are subnormal, below 1e-38 in float32 and 2e-308 in float64. Some CPUs calculate with those up
to a hundred times slower, and a subnormal number has lost digits already. So there, on a CPU, a dh_t (or dc_t) that is
subnormal counts as zero, as with ``torch.set_flush_denormal``, and steps that no error reaches are left out. Nothing
is ever added to a gradient. The loop over ``cells`` keeps subnormal numbers, and so does a pass that is monitored.
"""

from __future__ import annotations

from .functions import gru_sequence, lstm_sequence, rnn_sequence
from .sequence import hand_obstacle

__all__ = ["gru_sequence", "hand_obstacle", "lstm_sequence", "rnn_sequence"]
