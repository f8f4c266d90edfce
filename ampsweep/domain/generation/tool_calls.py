"""Calls of tools in a generated answer, as a parser finds them while the answer grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ToolParsing = Literal["stream", "whole"]
"""When an answer is parsed: with every chunk, or once at its end, which recognizes malformed calls as text."""


@dataclass(frozen=True, kw_only=True)
class CallPart:
    """A part of a call. The first part of each call has the name of the function.

    Attributes:
        index: Which call of the answer the part belongs to, from 0.
        id: The id of the call, if the parser gives it one; only in the first part.
        name: The name of the function; only in the first part.
        arguments: New text of the arguments. All parts together are a JSON object.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, kw_only=True)
class ParsedText:
    """What a parser has found in a chunk, or in the text that it had held back before.

    Attributes:
        content: Text that is not part of a call.
        calls: Parts of calls.
    """

    content: str = ""
    calls: tuple[CallPart, ...] = ()
