"""Gradients through time: where they vanish or explode, how far each step's loss reaches back, and a bound on them.

The norm of a parameter's gradient adds up all time steps and hides which of them still count. So the monitor reports
‖∂L/∂h_t‖ for each t, the total derivative: by way of the output at t and of all later steps. That in turn mixes the
losses of all steps, which the lag spectrum keeps apart, and the Jacobians are the factors of both.
L: length, N: batch, H: hidden_size.
"""

from __future__ import annotations

from .clipping import ClipReport, clip_grad_norm_, clip_grad_value_
from .jacobians import recurrent_jacobians, singular_values, spectral_radius
from .monitor import GradientMonitor
from .report import Finding, Profile, Report
from .spectrum import lag_spectrum

__all__ = [
    "ClipReport",
    "Finding",
    "GradientMonitor",
    "Profile",
    "Report",
    "clip_grad_norm_",
    "clip_grad_value_",
    "lag_spectrum",
    "recurrent_jacobians",
    "singular_values",
    "spectral_radius",
]
