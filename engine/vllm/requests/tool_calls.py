"""Calls of tools in answers, found by the parsers of vLLM's server.

A parser belongs to the format in which a model writes calls. Without a name, it is chosen by the way in which the chat
template writes the call of an earlier message, and only if the parser reads that call.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ampsweep.domain.generation.prompt import ChatMessage, PromptOptions, Tool
from ampsweep.domain.generation.tool_calls import CallPart, ParsedText, ToolParsing
from ampsweep.errors import InvalidRequest, UnknownName
from engine.chat_template import write_chat

if TYPE_CHECKING:
    from vllm.entrypoints.generate.base.protocol import DeltaMessage
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.parser.abstract_parser import Parser

log = logging.getLogger(__name__)

NONE = "none"
"""The name of a parser that finds no calls: they stay part of the text."""
FORMATS: Mapping[str, str] = {
    "hermes": r'<tool_call>\s*\{"name": ?"probe"',
    "qwen3_coder": r"<tool_call>\s*<function=probe>",
    "glm45": r"<tool_call>\s*probe\s*<arg_key>",
    "mistral": r"\[TOOL_CALLS\]",
    "llama3_json": r'\A\s*(<\|python_tag\|>)?\{"name": ?"probe", ?"parameters":',
    "lfm2": r"<\|tool_call_start\|>\s*\[probe\(",
    "pythonic": r"\A\s*\[probe\(",
    "functiongemma": r"<start_function_call>call:probe",
    "gemma4": r"<\|tool_call>call:probe",
    "apertus": r"<\|tools_prefix\|>",
    "seed_oss": r"<seed:tool_call>",
}
"""vLLM's names of parsers, each with a pattern of the call of a function `probe` in its format."""
_HARMONY = "openai"
_ARGUMENTS = {"word": "x"}
_PROBE: Tool = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "A function",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}


class CallParsers:
    """The parser of one model.

    vLLM's parsers are imported, and the parser is chosen, when the first request needs them; a parser with a name is
    imported at once, so that a wrong name is an error at the start.
    """

    def __init__(self, tokenizer: Any, name: str | None) -> None:
        """Take the parser with vLLM's name `name`; None chooses it by the tokenizer's chat template.

        Raises:
            UnknownName: vLLM has no such parser (param "tool_call_parser").
            InvalidRequest: The parser needs a token that the tokenizer does not have.
        """
        self._tokenizer = tokenizer
        self._choosing = asyncio.Lock()
        self._is_chosen = name is not None
        self._parser = None if name in (None, NONE) else _named_parser(str(name), tokenizer)

    async def parsing(self, tools: Sequence[Tool], parse: ToolParsing | None) -> CallParsing | None:
        """Return what parses the answers to a request; None if it asks for nothing, or the model has no parser."""
        if parse is None or not tools:
            return None
        async with self._choosing:
            if not self._is_chosen:
                self._parser = await asyncio.to_thread(_chosen_parser, self._tokenizer)
                self._is_chosen = True
        if self._parser is None:
            return None
        return await asyncio.to_thread(CallParsing, self._parser, self._tokenizer, tools, parse)


class CallParsing:
    """Parses the answers to one request.

    Attributes:
        special_tokens: Whether the text of the answers has to have special tokens.
    """

    def __init__(self, parser: type[Parser], tokenizer: Any, tools: Sequence[Tool], parse: ToolParsing) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        self._parser = parser
        self._tokenizer = tokenizer
        self._parse = parse
        self._request = ChatCompletionRequest(
            messages=[{"role": "user", "content": ""}], tools=[dict(tool) for tool in tools], tool_choice="auto"
        )
        tool_parser = self._make().tool_parser
        if tool_parser is not None:
            self._request = tool_parser.adjust_request(self._request)
        self.special_tokens = not self._request.skip_special_tokens

    def reader(self, prompt: Sequence[int]) -> CallReader:
        """Return a reader of one answer to a prompt of token ids."""
        if self._parse == "stream":
            return StreamReader(self._make(), self._request, prompt)
        return WholeReader(self._make(), self._request)

    def _make(self) -> Parser:
        return self._parser(self._tokenizer, self._request.tools)


class StreamReader:
    """Parses an answer while it grows."""

    def __init__(self, parser: Parser, request: ChatCompletionRequest, prompt: Sequence[int]) -> None:
        self._parser: Parser | None = parser
        self._request = request
        self._prompt = list(prompt)

    def read(self, text: str, ids: Sequence[int], *, finished: bool) -> ParsedText:
        """Return what is known after further text and tokens. If the parser fails, the rest is text."""
        if self._parser is None:
            return ParsedText(content=text)
        if not (text or ids or finished):
            return ParsedText()
        try:
            delta = self._parser.parse_delta(
                text, list(ids), self._request, prompt_token_ids=self._prompt, finished=finished
            )
        except Exception as error:  # noqa: BLE001  # a parser may raise anything at what a model writes
            log.warning("a parser of tool calls failed; the rest is returned as text: %s", type(error).__name__)
            self._parser = None
            return ParsedText(content=text)
        return _parsed(delta)


class WholeReader:
    """Parses an answer when it has ended."""

    def __init__(self, parser: Parser, request: ChatCompletionRequest) -> None:
        self._parser = parser
        self._request = request
        self._text: list[str] = []
        self._ids: list[int] = []

    def read(self, text: str, ids: Sequence[int], *, finished: bool) -> ParsedText:
        """Return what is in the answer if it is finished. If the parser fails, all of it is text."""
        self._text.append(text)
        self._ids += ids
        if not finished:
            return ParsedText()
        answer = "".join(self._text)
        try:
            _, content, calls = self._parser.parse(
                answer, self._request, enable_auto_tools=True, model_output_token_ids=self._ids
            )
        except Exception as error:  # noqa: BLE001  # as above
            log.warning("a parser of tool calls failed; the answer is returned as text: %s", type(error).__name__)
            return ParsedText(content=answer)
        parts = [
            CallPart(index=index, id=call.id, name=call.name, arguments=call.arguments)
            for index, call in enumerate(calls or ())
        ]
        return ParsedText(content=content or "", calls=tuple(parts))


CallReader = StreamReader | WholeReader


def _parsed(delta: DeltaMessage | None) -> ParsedText:
    if delta is None:
        return ParsedText()
    parts = []
    for call in delta.tool_calls or ():
        name, arguments = (None, None) if call.function is None else (call.function.name, call.function.arguments)
        parts.append(CallPart(index=call.index, id=call.id, name=name, arguments=arguments or ""))
    return ParsedText(content=delta.content or "", calls=tuple(parts))


def _named_parser(name: str, tokenizer: Any) -> type[Parser]:
    from vllm.parser import ParserManager
    from vllm.tool_parsers import ToolParserManager

    if name not in (names := ToolParserManager.list_registered()):
        raise UnknownName("parser of tool calls", name, [*names, NONE], param="tool_call_parser")
    try:
        parser: type[Parser] | None = ParserManager.get_parser(
            tool_parser_name=name, enable_auto_tools=True, is_harmony=name == _HARMONY, tokenizer=tokenizer
        )
    except TypeError as error:
        message = f"the parser {name} cannot be used with this model: {error.__cause__ or error}"
        raise InvalidRequest(f"{message}; name another one, or none", param="tool_call_parser") from error
    assert parser is not None
    return parser


def _chosen_parser(tokenizer: Any) -> type[Parser] | None:
    """Return the only parser whose format the chat template writes; None if there is none, or it does not read it."""
    written = written_call(tokenizer)
    names = [name for name, pattern in FORMATS.items() if written is not None and re.search(pattern, written)]
    if written is None or len(names) != 1:
        log.info("no parser of tool calls is known for the model's chat template; calls are returned as text")
        return None
    (name,) = names
    try:
        parser = _named_parser(name, tokenizer)
        answer = CallParsing(parser, tokenizer, [_PROBE], "whole").reader(()).read(written, (), finished=True)
        is_read = [(call.name, json.loads(call.arguments)) for call in answer.calls] == [("probe", _ARGUMENTS)]
    except (InvalidRequest, ValueError):
        is_read = False
    if not is_read:
        log.warning("the parser of tool calls %s does not read what the chat template writes; it is not used", name)
        return None
    log.info("tool calls are parsed by %s", name)
    return parser


def written_call(tokenizer: Any) -> str | None:
    """Return how a chat template writes a call of `probe` by the assistant; None if it does not write calls."""
    question = ChatMessage(role="user", content="x")
    call = {"id": "probe0000", "type": "function", "function": {"name": "probe", "arguments": _ARGUMENTS}}
    answer = ChatMessage(role="assistant", content="", tool_calls=(call,))
    try:
        before = write_chat(tokenizer, [question], tools=[_PROBE])
        after = write_chat(
            tokenizer, [question, answer], tools=[_PROBE], options=PromptOptions(add_generation_prompt=False)
        )
    except Exception:  # noqa: BLE001  # templates can raise anything
        return None
    pairs = enumerate(zip(before, after, strict=False))
    shared = next((position for position, (one, other) in pairs if one != other), len(before))
    written = after[shared:]
    return written if "probe" in written else None
