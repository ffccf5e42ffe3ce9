"""Recurrent layers: one meaning, and three paths that compute it.

* "loop": the equation of ``cells`` for each layer, direction and step. It can be read and watched, and stands all that
  torch does to a computation. It says what is right.
* "hand": the backward pass of ``backprop``, derived by hand.
* "torch": torch's own kernels, reached through the parent's ``forward``, which keeps pace with torch by itself.

Each layer is a ``torch.nn`` layer: it inherits constructor, parameters, initialisation, state_dict and copying, and so
stands wherever its parent does. ``backend="auto"`` takes the fastest path that can do what is asked, and ``path`` says
which that is, and why.

Shapes: N batch, L length, H_in input_size, H hidden_size, D directions. Inside, time is the first axis.
"""

from __future__ import annotations

from .layers import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN"]
