"""Gradients through time: the Jacobians of a recurrence, and a monitor that says where gradients vanish or explode.

The norm of a parameter's gradient adds up all time steps and hides which of them still count. So the monitor hooks the
state after every step and reports ‖∂L/∂h_t‖ for each t, the total derivative: by way of the output at t and of all
later steps. L: length, N: batch, H: hidden_size.
"""

from __future__ import annotations

from .jacobians import recurrent_jacobians, singular_values, spectral_radius
from .monitor import GradientMonitor
from .report import Finding, Profile, Report

__all__ = [
    "Finding",
    "GradientMonitor",
    "Profile",
    "Report",
    "recurrent_jacobians",
    "singular_values",
    "spectral_radius",
]
