"""Bounds and defaults of the sampling parameters that the help of commands shows.

Imports nothing, so that the help need not import the class that has the parameters
(`ampsweep.domain.generation.sampling`).
"""

from __future__ import annotations

LEAST_TOKENS = 1
DEFAULT_TOKENS = 64
LEAST_TEMPERATURE = 0
DEFAULT_TEMPERATURE = 0.0
