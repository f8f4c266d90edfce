"""Conversion of prompts from the type of `jobs` to that of `engine`."""

from __future__ import annotations

from typing import overload

from ampsweep.domain.prompt import TokenIds
from engine.base import Message, Prompt
from jobs import execution as ports


@overload
def engine_prompt(prompt: ports.Prompt) -> Prompt: ...
@overload
def engine_prompt(prompt: ports.Prompt | TokenIds) -> Prompt | TokenIds: ...
def engine_prompt(prompt: ports.Prompt | TokenIds) -> Prompt | TokenIds:
    """Convert the turns of a chat to messages; return text and tokens unchanged."""
    if isinstance(prompt, str | TokenIds):
        return prompt
    return tuple(Message(role=turn.role, content=turn.content) for turn in prompt)
