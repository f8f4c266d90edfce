"""Calls of tools in the answers to chats: what a request forces, and the calls in the chunks of an answer.

Where the model decides whether it calls a tool, the engine's parser finds the calls (`Chunk.parsed`). Where the request
forces a call, the answer is constrained to JSON, which is read here: the arguments of the function that the request
names, or a list of objects with `name` and `parameters` if it requires a call of any function.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import Tool
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.domain.generation.tool_calls import CallPart, ParsedText
from ampsweep.errors import InvalidRequest
from jobs.execution import CompletionCall

_ANY_ARGUMENTS: Mapping[str, Any] = {"type": "object"}


def forced_call(
    choice: object, name: str | None, tools: Sequence[Tool], *, parallel: bool | None, form: object, param: str
) -> ForcedCall | None:
    """Return the call that the `tool_choice` of a request forces; None if the model decides.

    Args:
        choice: The `tool_choice`.
        name: The function that it names, if any.
        tools: The tools of the request.
        parallel: The request's `parallel_tool_calls`.
        form: What else the request says about the form of the answer; None if nothing.
        param: The field with the name of the function.

    Raises:
        PydanticCustomError: There are no tools, or none of this name, or the form of the answer is given too.
    """
    if choice in (None, "none"):
        return None
    if not tools:
        raise PydanticCustomError("no_tools", "needs tools; leave it out, or add some", {"key": "tool_choice"})
    if choice == "auto":
        return None
    names = [tool["function"]["name"] for tool in tools]
    if name not in (None, *names):
        raise PydanticCustomError(
            "no_such_tool", "must be one of the tools: {names}", {"key": param, "names": ", ".join(names)}
        )
    if form is not None:
        message = "cannot force a call if the form of the answer is given too; leave one of them out"
        raise PydanticCustomError("two_forms", message, {"key": "tool_choice"})
    return ForcedCall(name=name, tools=tools, parallel=parallel is not False)


@dataclass(frozen=True, kw_only=True)
class ForcedCall:
    """A call that a request forces: of the function `name`, or of any if it is None.

    Attributes:
        name: The name of the function; None for any of `tools`.
        tools: The tools of the request.
        parallel: Whether the answer may have several calls.
    """

    name: str | None
    tools: Sequence[Tool]
    parallel: bool

    def form(self) -> StructuredOutputs:
        """Return the form of the answer.

        Raises:
            InvalidRequest: `$defs` of a tool is not an object, or two tools define a schema of the same name in it
                differently; `param` is the tool.
        """
        if self.name is not None:
            function = next(tool["function"] for tool in self.tools if tool["function"]["name"] == self.name)
            return StructuredOutputs(json={**_ANY_ARGUMENTS, **function.get("parameters", {})})
        schemas: list[dict[str, Any]] = []
        definitions: dict[str, Any] = {}
        for index, tool in enumerate(self.tools):
            function = tool["function"]
            parameters = {**_ANY_ARGUMENTS, **function.get("parameters", {})}
            definitions_of_tool = parameters.pop("$defs", {})  # references begin at the root of the schema
            if not isinstance(definitions_of_tool, dict):
                raise InvalidRequest("$defs of its parameters must be an object", param=f"tools.{index}")
            for name, schema in definitions_of_tool.items():
                if definitions.setdefault(name, schema) != schema:
                    message = f"another tool has a different schema {name!r} in $defs; rename one of them"
                    raise InvalidRequest(message, param=f"tools.{index}")
            schemas.append(
                {
                    "type": "object",
                    "properties": {"name": {"const": function["name"]}, "parameters": parameters},
                    "required": ["name", "parameters"],
                    "additionalProperties": False,
                }
            )
        listed: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"anyOf": schemas}}
        if not self.parallel:
            listed["maxItems"] = 1
        return StructuredOutputs(json={**listed, **({"$defs": definitions} if definitions else {})})


def with_parsing(call: CompletionCall, *, stream: bool) -> CompletionCall:
    """Return a call whose answer the engine parses, if the model has tools and decides in which form it answers."""
    if not call.tools or call.sampling.structured_outputs is not None:
        return call
    return replace(call, parse_tools="stream" if stream else "whole")


class CallReader:
    """Reads the text and the calls of one answer, chunk by chunk.

    Args:
        forced: The call that the request forces; None if the model decides.
        parallel: Whether calls after the first one are returned.
    """

    def __init__(self, *, forced: ForcedCall | None = None, parallel: bool = True) -> None:
        self._forced = forced
        self._parallel = parallel
        self._text = ""  # of a forced call of any function
        self._has_calls = False

    def read(self, chunk: Chunk) -> ParsedText:
        """Return the new text and the new parts of calls. The first part of each call has an id and a name."""
        parsed = self._parsed(chunk)
        calls = tuple(
            part if part.name is None else _with_id(part) for part in parsed.calls if self._parallel or part.index == 0
        )
        self._has_calls = self._has_calls or bool(calls)
        return ParsedText(content=parsed.content, calls=calls)

    def finish_reason(self, chunk: Chunk) -> str | None:
        """Return the finish reason of the answer after its last chunk, None after any other one."""
        return "tool_calls" if self._has_calls and chunk.finish_reason == "stop" else chunk.finish_reason

    def _parsed(self, chunk: Chunk) -> ParsedText:
        if self._forced is None:
            return ParsedText(content=chunk.text) if chunk.parsed is None else chunk.parsed
        if self._forced.name is not None:
            name = None if self._has_calls else self._forced.name
            return ParsedText(calls=(CallPart(index=0, name=name, arguments=chunk.text),))
        self._text += chunk.text
        return ParsedText() if chunk.finish_reason is None else _listed(self._text)


def _listed(text: str) -> ParsedText:
    """Return the calls in a list of them. A list that is incomplete, because the answer was too long, is text."""
    try:
        calls = json.loads(text)
    except ValueError:
        return ParsedText(content=text)
    parts = [
        CallPart(index=index, name=call["name"], arguments=json.dumps(call["parameters"], ensure_ascii=False))
        for index, call in enumerate(calls)
    ]
    return ParsedText(calls=tuple(parts))


def _with_id(part: CallPart) -> CallPart:
    """Return the first part of a call with an id. Nine characters, because templates of Mistral accept no others."""
    return replace(part, id=part.id or secrets.token_hex(5)[:9])


@dataclass(kw_only=True)
class Call:
    """A call with all of its arguments so far, as JSON text."""

    id: str
    name: str
    arguments: str = ""


def joined(parts: Iterable[ParsedText]) -> tuple[str, list[Call]]:
    """Return the text and the calls of an answer from what its chunks had."""
    texts: list[str] = []
    calls: dict[int, Call] = {}
    for parsed in parts:
        texts.append(parsed.content)
        for part in parsed.calls:
            if part.name is not None:
                calls[part.index] = Call(id=part.id or "", name=part.name)
            if part.index in calls:
                calls[part.index].arguments += part.arguments
    return "".join(texts), [call for _, call in sorted(calls.items())]
