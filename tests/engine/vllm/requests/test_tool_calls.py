"""vLLM's parsers of tool calls with the bundled tokenizer and chat templates in the formats of several families."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import AutoTokenizer

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.domain.generation.tool_calls import CallPart, ParsedText, ToolParsing
from ampsweep.errors import InvalidRequest, UnknownName
from engine.vllm.requests.tool_calls import CallParsers, StreamReader, written_call

pytestmark = [pytest.mark.engine, pytest.mark.anyio]

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
_TOOLS = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
_TURNS = """{% for message in messages %}<{{ message.role }}>{{ message.content
}}{% for call in message.tool_calls or [] %}CALL{% endfor %}</s>{% endfor %}{%
if add_generation_prompt %}<assistant>{% endif %}"""
_HERMES = (
    '<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>'
)
_CODER = """<tool_call>
<function={{ call.function.name }}>
{% for name, value in call.function.arguments.items() %}<parameter={{ name }}>
{{ value }}
</parameter>
{% endfor %}</function>
</tool_call>"""
_LLAMA = '{"name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}'


def template(call: str) -> str:
    return _TOOLS + _TURNS.replace("CALL", call)


def tokenizer(call: str | None, *tokens: str) -> Any:
    made = AutoTokenizer.from_pretrained(ATLAS_MODEL)
    made.add_tokens(list(tokens))
    made.chat_template = None if call is None else template(call)
    return made


async def read(parsers: CallParsers, text: str, parse: ToolParsing, made: Any) -> ParsedText:
    """Return what is found in an answer that arrives token by token."""
    parsing = await parsers.parsing([TOOL], parse)
    assert parsing is not None
    reader, ids = parsing.reader((1, 2)), made.encode(text, add_special_tokens=False)
    pieces = [made.decode([token]) for token in ids]
    assert "".join(pieces) == text
    steps = [reader.read(piece, [token], finished=False) for piece, token in zip(pieces, ids, strict=True)]
    return _joined([*steps, reader.read("", [], finished=True)])


def _joined(steps: list[ParsedText]) -> ParsedText:
    calls: dict[int, CallPart] = {}
    for part in (part for step in steps for part in step.calls):
        before = calls.get(part.index, CallPart(index=part.index))
        calls[part.index] = CallPart(
            index=part.index, name=part.name or before.name, arguments=before.arguments + part.arguments
        )
    return ParsedText(content="".join(step.content for step in steps), calls=tuple(calls.values()))


ANSWERS = {
    "hermes": (_HERMES, (), 'I look.<tool_call>{"name": "weather", "arguments": {"city": "Cairo"}}</tool_call>'),
    "qwen3_coder": (
        _CODER,
        ("<tool_call>", "</tool_call>"),
        "I look.<tool_call>\n<function=weather>\n<parameter=city>\nCairo\n</parameter>\n</function>\n</tool_call>",
    ),
    "llama3_json": (_LLAMA, ("<|python_tag|>",), '{"name": "weather", "parameters": {"city": "Cairo"}}'),
}


@pytest.mark.parametrize("parse", ["whole", "stream"])
@pytest.mark.parametrize("family", ANSWERS)
async def test_the_parser_is_chosen_by_the_template_and_finds_calls(family: str, parse: ToolParsing) -> None:
    call, tokens, answer = ANSWERS[family]
    made = tokenizer(call, *tokens)
    found = await read(CallParsers(made, None), answer, parse, made)
    assert [(part.name, json.loads(part.arguments)) for part in found.calls] == [("weather", {"city": "Cairo"})]
    assert found.content.strip() == ("" if family == "llama3_json" else "I look.")


@pytest.mark.parametrize("parse", ["whole", "stream"])
async def test_an_answer_without_calls_is_text(parse: ToolParsing) -> None:
    made = tokenizer(_HERMES)
    found = await read(CallParsers(made, None), "It is 5 < 6 in Cairo.", parse, made)
    assert found == ParsedText(content="It is 5 < 6 in Cairo.")


async def test_a_malformed_call_stays_text_if_the_whole_answer_is_parsed() -> None:
    made = tokenizer(_HERMES)
    answer = '<tool_call>{"name": weather</tool_call>'
    assert await read(CallParsers(made, "hermes"), answer, "whole", made) == ParsedText(content=answer)


@pytest.mark.parametrize(
    "call", [None, "(call of {{ call.function.name }})", '<tool_call>{"name": "{{ call.function.name }}", </tool_call>']
)
async def test_without_a_parser_that_reads_the_format_there_is_none(call: str | None) -> None:
    assert await CallParsers(tokenizer(call), None).parsing([TOOL], "whole") is None


async def test_nothing_is_parsed_without_need() -> None:
    made = tokenizer(_HERMES)
    assert await CallParsers(made, "none").parsing([TOOL], "whole") is None
    assert await CallParsers(made, "hermes").parsing([], "whole") is None
    assert await CallParsers(made, "hermes").parsing([TOOL], None) is None


def test_a_wrong_name_is_an_error_at_the_start() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'hermes'") as unknown:
        CallParsers(tokenizer(_HERMES), "hermess")
    assert unknown.value.param == "tool_call_parser"
    with pytest.raises(InvalidRequest, match=r"llama3_json cannot be used with this model.*python_tag") as unusable:
        CallParsers(tokenizer(_LLAMA), "llama3_json")
    assert unusable.value.param == "tool_call_parser"


def test_the_call_is_what_a_template_writes_after_the_start_of_the_answer() -> None:
    assert written_call(tokenizer(_LLAMA)) == '{"name": "probe", "parameters": {"word": "x"}}</s>'
    assert written_call(tokenizer(None)) is None
    assert written_call(tokenizer("{{ raise_exception('no calls') }}")) is None


async def test_a_parser_that_fails_leaves_the_rest_as_text() -> None:
    class Failing:
        def parse_delta(self, *_: Any, **__: Any) -> None:
            raise KeyError("arguments")

    failing: Any = Failing()
    reader = StreamReader(failing, failing, ())
    assert [reader.read(text, [1], finished=False).content for text in ("a", "b")] == ["a", "b"]
