"""Runs requests without interventions on an LLMEngine, in the way of vLLM's offline interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm import LLMEngine


def run_plain(engine: LLMEngine, prompts: Sequence[dict[str, Any]], sampling: dict[str, Any]) -> None:
    """Add all prompts (vLLM's dictionaries of token ids) and step the engine until all are answered."""
    from vllm import SamplingParams

    for number, prompt in enumerate(prompts):
        engine.add_request(f"plain-{number}", prompt, SamplingParams(temperature=0.0, **sampling))
    while engine.has_unfinished_requests():
        engine.step()
