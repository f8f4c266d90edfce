"""Formats chats as text with the chat template of a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from ampsweep.domain.generation.prompt import DEFAULT_OPTIONS, ChatMessage, PromptOptions, Tool
from ampsweep.errors import InvalidRequest
from engine.tokenizer import ChatFormatter

_FILE = "chat_template.json"
_DEFAULT = "default"
_CONTINUES = "continue_final_message"

_Write = Callable[[list[dict[str, Any]]], str]
"""Formats messages, each as a dictionary, with the template of one model."""


def read_chat_template(tokenizer: ChatFormatter, folder: Path) -> None:
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
    tokenizer: ChatFormatter,
    chat: Sequence[ChatMessage],
    *,
    tools: Sequence[Tool] = (),
    options: PromptOptions = DEFAULT_OPTIONS,
) -> str:
    """Format a chat in the way the model was trained on, up to the start of the assistant's next answer.

    The templates of some models that take images skip a message whose content is a text instead of a list of parts. If
    the last message is missing in the result, the chat is formatted again with one part of text in each message.

    Args:
        tokenizer: The model's tokenizer.
        chat: The messages, oldest first.
        tools: The tools that the assistant may call.
        options: Where the text ends, and the variables of the template.

    Returns:
        The text. It contains the special tokens that the template writes, BOS included.

    Raises:
        InvalidRequest: The chat is empty, the model has no chat template, or its template rejects the chat (param
            "messages") or the variables (param "chat_template_kwargs"), does not write the tools (param "tools"), or
            does not write the last message as it is (param "continue_final_message").
    """
    if not chat:
        raise InvalidRequest("a chat must have at least one message", param="messages")
    _check_template(tokenizer)
    write = partial(_rendered, tokenizer, tools=tools, options=options)
    last = chat[-1].content.strip()
    unwritten: InvalidRequest | None = None
    text = ""
    try:
        text = _write_texts(write, chat, has_variables=bool(options.chat_template_kwargs))
    except InvalidRequest as error:
        if error.param != _CONTINUES:
            raise
        unwritten = error
    if unwritten is None and last in text:
        return text
    text_of_parts = _write_parts(write, chat)
    if text_of_parts is not None and last in text_of_parts:
        return text_of_parts
    if unwritten is not None:
        raise unwritten
    return text


def _write_texts(write: _Write, chat: Sequence[ChatMessage], *, has_variables: bool) -> str:
    """Format messages whose contents are texts, and raise InvalidRequest for the errors of the template."""
    try:
        return write([message.to_dict() for message in chat])
    except TemplateError as error:
        raise InvalidRequest(f"the model's chat template rejects this chat: {error}", param="messages") from error
    except (TypeError, AttributeError, ArithmeticError, LookupError) as error:
        if not has_variables:
            raise
        message = f"the model's chat template fails with these variables: {error}; correct them, or leave them out"
        raise InvalidRequest(message, param="chat_template_kwargs") from error


def _write_parts(write: _Write, chat: Sequence[ChatMessage]) -> str | None:
    """Format messages whose contents are lists of parts; return None if the template cannot."""
    try:
        return write(
            [{**message.to_dict(), "content": [{"type": "text", "text": message.content}]} for message in chat]
        )
    except (TemplateError, TypeError):  # a template that only reads texts joins them with +
        return None
    except InvalidRequest as error:
        if error.param != _CONTINUES:
            raise
        return None


def _check_template(tokenizer: ChatFormatter) -> None:
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


def _rendered(
    tokenizer: ChatFormatter, messages: list[dict[str, Any]], *, tools: Sequence[Tool], options: PromptOptions
) -> str:
    variables = dict(options.chat_template_kwargs)
    if options.continue_final_message:
        variables[_CONTINUES] = True
    try:
        text = str(
            tokenizer.apply_chat_template(
                messages,
                tools=[dict(tool) for tool in tools] or None,
                tokenize=False,
                add_generation_prompt=options.add_generation_prompt and not options.continue_final_message,
                **variables,
            )
        )
    except ValueError as error:  # of Transformers, which looks for the last message in the text
        if not options.continue_final_message:
            raise
        message = "the model's chat template does not write the last message as it is, so that no answer can continue"
        raise InvalidRequest(
            f"{message} it; send the text of the whole prompt as a completion", param=_CONTINUES
        ) from error
    for index, tool in enumerate(tools):
        if tool["function"]["name"] not in text:
            message = f"the model's chat template does not write the tool {tool['function']['name']!r} into the prompt"
            raise InvalidRequest(f"{message}; leave tools out, or use a model with tools", param=f"tools.{index}")
    return text
