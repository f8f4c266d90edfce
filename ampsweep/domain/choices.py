"""Closed sets of names that several packages share."""

from __future__ import annotations

from typing import Literal, get_args

Mode = Literal["corrected", "paper"]
"""Whether errors in the paper's published code are corrected or reproduced."""

EngineKind = Literal["vllm", "transformers", "fake"]
ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)
