"""Formats chats as text with the chat template of a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from jinja2.exceptions import TemplateError

from ampsweep.domain.prompt import ChatMessage, Tool
from ampsweep.errors import InvalidRequest

_FILE = "chat_template.json"
_DEFAULT = "default"


class Templated(Protocol):
    """The part of a Hugging Face tokenizer that formats chats."""

    chat_template: str | dict[str, str] | None

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None,
        tokenize: bool,
        add_generation_prompt: bool,
    ) -> Any:
        """Return the text of a chat."""
        ...


def read_chat_template(tokenizer: Templated, folder: Path) -> None:
    """Give a tokenizer the template of `chat_template.json` if Transformers found none in the model's folder.

    Transformers reads `tokenizer_config.json`, `chat_template.jinja` and `additional_chat_templates`; the JSON file,
    which multimodal models have, it reads only for a processor.

    Raises:
        InvalidRequest: The file cannot be read (param "model").
    """
    path = folder / _FILE
    if not path.is_file() or tokenizer.chat_template:
        return
    try:
        tokenizer.chat_template = json.loads(path.read_text(encoding="utf-8"))["chat_template"]
    except (ValueError, KeyError, TypeError) as error:
        message = f"{_FILE} of {folder.name} is not JSON with the key chat_template; download the model again"
        raise InvalidRequest(message, param="model") from error


def write_chat(
    tokenizer: Templated, chat: Sequence[ChatMessage], *, tools: Sequence[Tool] = (), generation_prompt: bool = True
) -> str:
    """Format a chat in the way the model was trained on, up to the start of the assistant's next answer.

    The templates of some models that take images skip a message whose content is a text instead of a list of parts. If
    the last message is missing in the result, the chat is formatted again with one part of text in each message.

    Args:
        tokenizer: The model's tokenizer.
        chat: The messages, oldest first.
        tools: The tools that the assistant may call.
        generation_prompt: Whether the text ends with the start of the answer, or after the last message.

    Returns:
        The text. It contains the special tokens that the template writes, BOS included.

    Raises:
        InvalidRequest: The chat is empty, the model has no chat template, or its template rejects the chat (param
            "messages") or does not write the tools (param "tools").
    """
    if not chat:
        raise InvalidRequest("a chat must have at least one message", param="messages")
    if not tokenizer.chat_template:
        raise InvalidRequest(
            "the model has no chat template; send the prompt as text, or add a chat_template.jinja to its folder",
            param="messages",
        )
    if isinstance(tokenizer.chat_template, dict) and _DEFAULT not in tokenizer.chat_template:
        names = ", ".join(sorted(tokenizer.chat_template))
        raise InvalidRequest(
            f"the model has chat templates, but no default one ({names}); copy one of additional_chat_templates to "
            "chat_template.jinja in its folder",
            param="messages",
        )
    write = partial(_rendered, tokenizer, tools=tools, generation_prompt=generation_prompt)
    last = chat[-1].content.strip()
    try:
        text = write([message.to_dict() for message in chat])
    except TemplateError as error:
        raise InvalidRequest(f"the model's chat template rejects this chat: {error}", param="messages") from error
    if last in text:
        return text
    parts = [{**message.to_dict(), "content": [{"type": "text", "text": message.content}]} for message in chat]
    try:
        text_of_parts = write(parts)
    except (TemplateError, TypeError):  # a template that only reads texts joins them with +
        return text
    return text_of_parts if last in text_of_parts else text


def _rendered(
    tokenizer: Templated, messages: list[dict[str, Any]], *, tools: Sequence[Tool], generation_prompt: bool
) -> str:
    listed = [dict(tool) for tool in tools] or None
    text = str(
        tokenizer.apply_chat_template(messages, tools=listed, tokenize=False, add_generation_prompt=generation_prompt)
    )
    for index, tool in enumerate(tools):
        if tool["function"]["name"] not in text:
            message = f"the model's chat template does not write the tool {tool['function']['name']!r} into the prompt"
            raise InvalidRequest(f"{message}; leave tools out, or use a model with tools", param=f"tools.{index}")
    return text
