"""Messages of chats and the tools that a model may call, in the schema of OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.prompt import ChatMessage, Tool
from ampsweep.domain.validation import Name, StrictModel
from ampsweep.errors import InvalidRequest
from api.http.json_body import parse_json


def text_of_parts(*kinds: str) -> BeforeValidator:
    """Return a validator that turns a list of OpenAI's content parts into their text, and passes other values on.

    Args:
        kinds: The types that a part may have; an error names the first one.
    """

    def joined(value: object) -> object:
        if not isinstance(value, list):
            return value
        types = [part["type"] for part in value if isinstance(part, dict) and isinstance(part.get("type"), str)]
        other = next((name for name in types if name not in kinds), None)
        if other is not None:
            message = "has a part of type {kind}, but only text is sent to models, even if they take images; remove it"
            raise PydanticCustomError("part_type", message, {"kind": other[:40]})
        texts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") in kinds]
        if not value or len(texts) != len(value) or not all(isinstance(text, str) for text in texts):
            message = "must be a string, or a list of parts of type {kind}"
            raise PydanticCustomError("parts", message, {"kind": kinds[0]})
        return "".join(map(str, texts))

    return BeforeValidator(joined)


EmptyList = Annotated[tuple[Any, ...], Field(strict=False, max_length=0)] | None
"""A list that responses never have, and that OpenAI's clients send back null or empty."""
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
"""The names and values that a client gives to a response or a batch, with the limits of OpenAI's API."""


class Function(StrictModel):
    """A function that a model may call; `parameters` is a JSON schema, which the chat template writes as it is."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(StrictModel):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


Tools = Annotated[tuple[FunctionTool, ...], Field(strict=False, max_length=128)]


class FunctionName(StrictModel):
    """The name of a function."""

    name: Name


class NamedTool(StrictModel):
    """The choice of a tool: the answer is a call of it."""

    type: Literal["function"]
    function: FunctionName


def choice_kind(value: object) -> str:
    """Distinguish the two forms of a choice, so that errors refer to the intended one."""
    return "mode" if isinstance(value, str) else "tool"


ToolMode = Literal["none", "auto", "required"]
ToolChoice = Annotated[Annotated[ToolMode, Tag("mode")] | Annotated[NamedTool, Tag("tool")], Discriminator(choice_kind)]


def parse_arguments(value: dict[str, Any] | str) -> dict[str, Any]:
    """Return the arguments of a call as an object, which chat templates read; OpenAI's API sends their JSON text."""
    if isinstance(value, dict):
        return value
    try:
        arguments = parse_json(value.encode()) if value.strip() else {}
    except InvalidRequest as error:
        reason = error.message.removeprefix("the body ")
        raise PydanticCustomError(
            "arguments", "must be a JSON object, or its text: {reason}", {"reason": reason}
        ) from None
    if not isinstance(arguments, dict):
        raise PydanticCustomError("arguments", "must be a JSON object, or its text")
    return arguments


class CalledFunction(StrictModel):
    """The function that the assistant called, with its arguments."""

    name: Name
    arguments: Annotated[dict[str, Any] | str, AfterValidator(parse_arguments)]


class ToolCall(StrictModel):
    """A call of a tool in a message of the assistant."""

    id: Name
    type: Literal["function"]
    function: CalledFunction


class ChatTurn(StrictModel):
    """One message of a chat. The model's chat template determines which roles it accepts, and in which order.

    A message of the assistant may have `tool_calls` instead of a content; a message of the role `tool` answers one of
    them. The message of a response can be sent back as OpenAI's clients return it, including its null and empty fields.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, text_of_parts("text")] = None
    refusal: None = None
    annotations: EmptyList = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[tuple[ToolCall, ...], Field(strict=False, max_length=128)] | None = None
    tool_call_id: Name | None = None

    @model_validator(mode="after")
    def _fields_of_its_role(self) -> ChatTurn:
        if self.tool_calls and self.role != "assistant":
            raise PydanticCustomError("no_calls", "belongs to messages of the assistant", {"key": "tool_calls"})
        if self.tool_call_id is not None and self.role != "tool":
            raise PydanticCustomError("no_call", "belongs to messages of the role tool", {"key": "tool_call_id"})
        if self.content is None and not self.tool_calls:
            raise PydanticCustomError("no_content", "is required", {"key": "content"})
        return self


def chat_messages(turns: Sequence[ChatTurn]) -> tuple[ChatMessage, ...]:
    """Return the messages of a chat; the role developer becomes system."""
    return tuple(
        ChatMessage(
            role="system" if turn.role == "developer" else turn.role,
            content=turn.content or "",
            tool_calls=tuple(call.model_dump() for call in turn.tool_calls or ()),
            tool_call_id=turn.tool_call_id,
        )
        for turn in turns
    )


def tool_dicts(tools: Sequence[FunctionTool] | None) -> tuple[Tool, ...]:
    """Return tools in the form that chat templates read, without fields that are not set."""
    return tuple(tool.model_dump(exclude_none=True) for tool in tools or ())


def chat_length(
    messages: Sequence[ChatMessage], tools: Sequence[Tool], variables: Mapping[str, Any] | None = None
) -> int:
    """Return how many characters a chat, its tools and the variables of its template have."""
    objects = [*tools, *(call for message in messages for call in message.tool_calls), *(variables or {}).values()]
    return sum(len(message.content) for message in messages) + sum(len(json.dumps(item)) for item in objects)
