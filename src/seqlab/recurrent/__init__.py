"""Recurrent layers: one meaning, and four engines that compute it: "loop", "hand", "onednn" and "torch".

A call takes one road: ``network`` checks it and makes it data (``call``), ``engines`` has the choice and the engines,
``layers`` the equation of each layer. Each layer is a ``torch.nn`` layer: it inherits constructor, parameters,
initialisation, state_dict and copying, and so stands wherever its parent does. ``backend="auto"`` takes the fastest
engine that can do what is asked, and ``path`` says which that is, and why.

Shapes: N batch, L length, H_in input_size, H hidden_size, D directions. Inside, time is the first axis.
"""

from __future__ import annotations

from .layers import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN"]
