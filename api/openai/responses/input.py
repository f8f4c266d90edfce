"""The input and the tools of a request to the Responses API, and the chat that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.prompt import ChatMessage, Tool
from ampsweep.domain.validation import Name, StrictModel
from api.openai.messages import Function, ToolMode, choice_kind, parse_arguments, text_of_parts

_KINDS = ("message", "function_call", "function_call_output")
Status = Literal["in_progress", "completed", "incomplete"]


class InputMessage(StrictModel):
    """A message of the input. A message of a response's `output` can be sent back as it is."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, text_of_parts("input_text", "output_text")]
    type: Literal["message"] = "message"
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(StrictModel):
    """A call of a tool by the assistant, as it is in the `output` of a response."""

    type: Literal["function_call"]
    call_id: Name
    name: Name
    arguments: Annotated[dict[str, Any] | str, AfterValidator(parse_arguments)]
    id: str | None = None
    status: Status | None = None


class FunctionCallOutput(StrictModel):
    """What a tool has returned for a call."""

    type: Literal["function_call_output"]
    call_id: Name
    output: Annotated[str, text_of_parts("input_text", "output_text")]
    id: str | None = None
    status: Status | None = None


def _known_item(value: object) -> object:
    kind = _item_kind(value)
    if kind not in _KINDS:
        message = "is an item of type {kind}, but only {kinds} are supported; send its text as a message"
        raise PydanticCustomError("item_type", message, {"kind": kind[:40], "kinds": ", ".join(_KINDS)})
    return value


def _item_kind(value: object) -> str:
    kind = value.get("type", "message") if isinstance(value, dict) else getattr(value, "type", "message")
    return str(kind)


InputItem = Annotated[
    Annotated[
        Annotated[InputMessage, Tag("message")]
        | Annotated[FunctionCall, Tag("function_call")]
        | Annotated[FunctionCallOutput, Tag("function_call_output")],
        Discriminator(_item_kind),
    ],
    BeforeValidator(_known_item),
]


class ResponseTool(Function):
    """A function that the model may call, with the fields that chats have in `function`."""

    type: Literal["function"]

    def to_tool(self) -> Tool:
        """Return the tool in the form that chat templates read."""
        return {"type": "function", "function": self.model_dump(exclude_none=True, exclude={"type"})}


def _function_only(value: object) -> object:
    kind = value.get("type", "function") if isinstance(value, dict) else "function"
    if kind != "function":
        message = "is {kind}, but only tools of type function are supported; leave the others out"
        raise PydanticCustomError("tool_type", message, {"key": "type", "kind": str(kind)[:40]})
    return value


ResponseTools = Annotated[
    tuple[Annotated[ResponseTool, BeforeValidator(_function_only)], ...], Field(strict=False, max_length=128)
]


class NamedResponseTool(StrictModel):
    """The choice of a tool: the answer is a call of it."""

    type: Literal["function"]
    name: Name


ResponseToolChoice = Annotated[
    Annotated[ToolMode, Tag("mode")] | Annotated[NamedResponseTool, Tag("tool")], Discriminator(choice_kind)
]


def continues_last_message(given: str | Sequence[InputItem]) -> bool:
    """Return whether the last item of an input is a message of the assistant that is not complete."""
    last = None if isinstance(given, str) else given[-1]
    return isinstance(last, InputMessage) and last.role == "assistant" and last.status in ("in_progress", "incomplete")


def response_chat(instructions: str | None, given: str | Sequence[InputItem]) -> tuple[ChatMessage, ...]:
    """Return the chat of an input; the instructions are a system message before it, and developer becomes system.

    A call belongs to the message of the assistant before it, or makes one without text.
    """
    messages = [ChatMessage(role="system", content=instructions)] if instructions else []
    if isinstance(given, str):
        return (*messages, ChatMessage(role="user", content=given))
    for item in given:
        if isinstance(item, FunctionCall):
            if not messages or messages[-1].role != "assistant":
                messages.append(ChatMessage(role="assistant", content=""))
            function = {"name": item.name, "arguments": item.arguments}
            call = {"id": item.call_id, "type": "function", "function": function}
            messages[-1] = replace(messages[-1], tool_calls=(*messages[-1].tool_calls, call))
        elif isinstance(item, FunctionCallOutput):
            messages.append(ChatMessage(role="tool", content=item.output, tool_call_id=item.call_id))
        else:
            role = "system" if item.role == "developer" else item.role
            messages.append(ChatMessage(role=role, content=item.content))
    return tuple(messages)
