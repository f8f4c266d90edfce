"""Prompts in the words of jobs as prompts in those of the engine."""

from __future__ import annotations

from engine.protocol import Message, Prompt
from jobs import ports


def engine_prompt(prompt: ports.Prompt) -> Prompt:
    """Return a text as it is, and a chat's turns as messages."""
    if isinstance(prompt, str):
        return prompt
    return tuple(Message(role=turn.role, content=turn.content) for turn in prompt)
