from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.generation.structured_outputs import StructuredOutputs
from ampsweep.domain.generation.tool_calls import ParsedText
from ampsweep.errors import InvalidRequest
from api.openai.tool_calls import Call, CallReader, ForcedCall, joined, with_parsing
from jobs.execution import CompletionCall
from tests.api.openai.answer_chunks import TWO_CALLS, chunk

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now"}}


def forced(
    name: str | None, *, parallel: bool = True, tools: tuple[dict[str, Any], ...] = (WEATHER, NOW)
) -> ForcedCall:
    return ForcedCall(name=name, tools=tools, parallel=parallel)


def schema(call: ForcedCall) -> dict[str, Any]:
    json_schema = call.form().json
    assert isinstance(json_schema, dict)
    return json_schema


def test_a_named_function_constrains_the_answer_to_its_arguments() -> None:
    assert schema(forced("weather")) == CITY
    assert schema(forced("now")) == {"type": "object"}


def test_a_call_of_any_function_is_a_list_of_names_and_parameters() -> None:
    listed = schema(forced(None))
    names = [option["properties"]["name"]["const"] for option in listed["items"]["anyOf"]]
    assert (listed["type"], listed["minItems"], names) == ("array", 1, ["weather", "now"])
    assert listed["items"]["anyOf"][0]["properties"]["parameters"] == CITY
    assert "maxItems" not in listed
    assert schema(forced(None, parallel=False))["maxItems"] == 1


def test_definitions_of_all_tools_move_to_the_root_to_which_references_refer() -> None:
    def tool(name: str, place: dict[str, Any]) -> dict[str, Any]:
        parameters = {"type": "object", "properties": {"at": {"$ref": "#/$defs/Place"}}, "$defs": {"Place": place}}
        return {"type": "function", "function": {"name": name, "parameters": parameters}}

    place = {"type": "string"}
    listed = schema(forced(None, tools=(tool("a", place), tool("b", place))))
    assert listed["$defs"] == {"Place": place}
    assert all("$defs" not in option["properties"]["parameters"] for option in listed["items"]["anyOf"])
    with pytest.raises(InvalidRequest, match="rename one of them") as refused:
        forced(None, tools=(tool("a", place), tool("b", {"type": "integer"}))).form()
    assert refused.value.param == "tools.1"
    no_object = {"type": "function", "function": {"name": "a", "parameters": {"$defs": []}}}
    with pytest.raises(InvalidRequest, match="must be an object") as refused:
        forced(None, tools=(WEATHER, no_object)).form()
    assert refused.value.param == "tools.1"


def test_what_the_engine_has_parsed_is_passed_on_and_every_call_has_an_id() -> None:
    reader = CallReader()
    text, calls = joined([reader.read(one) for one in TWO_CALLS])
    assert text == "I look."
    assert calls == [
        Call(id="call_1", name="weather", arguments='{"city": "Cairo"}'),
        Call(id=calls[1].id, name="now", arguments="{}"),
    ]
    assert len(calls[1].id) == 9
    assert [reader.finish_reason(one) for one in TWO_CALLS[-2:]] == [None, "tool_calls"]


def test_only_the_first_call_is_returned_without_parallel_calls() -> None:
    reader = CallReader(parallel=False)
    _, calls = joined([reader.read(one) for one in TWO_CALLS])
    assert [call.name for call in calls] == ["weather"]


def test_an_answer_without_a_parser_is_text() -> None:
    reader = CallReader()
    assert reader.read(chunk("<tool_call>", "stop")) == ParsedText(content="<tool_call>")
    assert reader.finish_reason(chunk("", "stop")) == "stop"


def test_the_arguments_of_a_named_function_are_streamed() -> None:
    reader = CallReader(forced=forced("weather"))
    chunks = [chunk('{"city"'), chunk(': "Cairo"}'), chunk("", "stop")]
    first, second, last = [reader.read(one).calls[0] for one in chunks]
    assert (first.name, first.arguments, second.name, second.arguments) == ("weather", '{"city"', None, ': "Cairo"}')
    assert (first.id is None, second.id, last.arguments) == (False, None, "")
    assert reader.finish_reason(chunks[-1]) == "tool_calls"


def test_calls_of_any_function_are_returned_at_the_end() -> None:
    reader = CallReader(forced=forced(None))
    text = json.dumps([{"name": "weather", "parameters": {"city": "Kairo é"}}, {"name": "now", "parameters": {}}])
    assert reader.read(chunk(text[:20])) == ParsedText()
    parsed = reader.read(chunk(text[20:], "stop"))
    assert [(part.index, part.name, part.arguments) for part in parsed.calls] == [
        (0, "weather", '{"city": "Kairo é"}'),
        (1, "now", "{}"),
    ]
    assert len({part.id for part in parsed.calls}) == 2


def test_a_list_of_calls_that_is_cut_off_is_text() -> None:
    reader = CallReader(forced=forced(None))
    cut = chunk('[{"name": "weather", "par', "length")
    assert reader.read(cut) == ParsedText(content=cut.text)
    assert reader.finish_reason(cut) == "length"


def test_the_engine_parses_if_the_model_has_tools_and_chooses_the_form_of_its_answer() -> None:
    call = CompletionCall(
        model="m", prompt=(ChatMessage(role="user", content="a"),), intervention=None, neurons=None,
        sampling=SamplingParams(), tools=(WEATHER,),
    )  # fmt: skip
    assert with_parsing(call, stream=True).parse_tools == "stream"
    assert with_parsing(call, stream=False).parse_tools == "whole"
    assert with_parsing(replace(call, tools=()), stream=False).parse_tools is None
    constrained = SamplingParams(structured_outputs=StructuredOutputs(regex="a"))
    assert with_parsing(replace(call, sampling=constrained), stream=False).parse_tools is None
