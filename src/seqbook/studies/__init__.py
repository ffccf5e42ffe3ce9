"""Studies at full scale, to be run as programs: resumable, in one process or several, with results as JSON.

They add settings to the library, and nothing else. What they found here is in the repository's
``experiments/results``; :func:`seqbook.recorded` reads it.
"""

from __future__ import annotations

from .common import environment

__all__ = ["environment"]
