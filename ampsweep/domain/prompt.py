"""Prompts: text, chats and token ids, and how the text of a score request is divided into tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TokenIds:
    """A prompt given as tokens: at least one id of the model's vocabulary. No special token is added in front."""

    ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """One message of a chat. The model's chat template defines the valid roles (system, user, assistant)."""

    role: str
    content: str


Prompt = str | tuple[ChatMessage, ...]
"""Text to continue, or a chat to answer, which the model's chat template turns into text."""

ScoreText = tuple[Prompt, str]
"""A context and the continuation to score after it."""

Split = Literal["aligned", "lm_eval"]
"""How the tokens of a text are divided into context and scored tokens; see `engine.base.ScoreRequest`."""
