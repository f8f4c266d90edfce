"""Chats as text, by the template that comes with a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from jinja2.exceptions import TemplateError

from ampsweep.domain.prompt import ChatMessage
from ampsweep.errors import InvalidRequest


class Templated(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    chat_template: str | dict[str, str] | None

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> Any:
        """Return the text of a chat."""
        ...


def write_chat(tokenizer: Templated, chat: Sequence[ChatMessage]) -> str:
    """Return a chat as the model was trained to read it, up to where the assistant's next answer begins.

    Special tokens, BOS too, stand in the text where the template puts them. Raises InvalidRequest (param "messages")
    for an empty chat, a model without a chat template, and a chat that its template refuses.
    """
    if not chat:
        raise InvalidRequest("a chat has at least one message", param="messages")
    if not tokenizer.chat_template:
        raise InvalidRequest(
            "the model has no chat template: send the prompt as text, or put a chat_template.jinja into its folder",
            param="messages",
        )
    messages = [asdict(message) for message in chat]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        raise InvalidRequest(f"the model's chat template refuses this chat: {error}", param="messages") from error
