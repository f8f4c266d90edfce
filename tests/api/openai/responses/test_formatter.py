from __future__ import annotations

from dataclasses import replace
from typing import Any

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.errors import EngineFailed
from api.auth.limits import Limits
from api.openai.responses.formatter import ResponsesFormatter
from api.openai.responses.request import parse_response_request
from tests.api.openai.answer_chunks import TWO_CALLS, chunk


def formatter(**changes: Any) -> ResponsesFormatter:
    request = parse_response_request({"model": "m", "input": "a", "max_output_tokens": 9, **changes})
    return ResponsesFormatter(request, request.to_call(Limits()))


def streamed(chunks: list[Chunk], **changes: Any) -> list[dict[str, Any]]:
    formatting = formatter(**changes)
    return [event for one in chunks for event in formatting.events(one)] + list(formatting.final_events())


def test_a_stream_has_the_documented_events_in_order() -> None:
    events = streamed([chunk("Bon"), chunk("jour"), chunk("", "stop")])
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(10))
    created, *_, completed = (event["response"] for event in events if "response" in event)
    assert (created["status"], created["output"], created["usage"]) == ("in_progress", [], None)
    assert completed["output"][0]["content"][0]["text"] == events[6]["text"] == "Bonjour"
    assert completed["usage"]["total_tokens"] == 7
    assert completed["id"] == created["id"]
    assert {event["item_id"] for event in events if "item_id" in event} == {completed["output"][0]["id"]}


def test_an_answer_that_reached_its_limit_is_incomplete() -> None:
    event = streamed([chunk("Bon", "length")])[-1]
    assert event["type"] == "response.incomplete"
    assert event["response"]["status"] == "incomplete"
    assert event["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert event["response"]["completed_at"] is None


def test_a_response_repeats_the_request_with_the_defaults_that_apply() -> None:
    response = formatter(instructions="Be brief.", metadata={"run": "1"}, temperature=0.5).response(
        [chunk("a", "stop")]
    )
    assert (response["status"], response["model"], response["neuron_set"]) == ("completed", "m", "ns_1")
    assert (response["instructions"], response["metadata"]) == ("Be brief.", {"run": "1"})
    assert (response["temperature"], response["top_p"], response["max_output_tokens"]) == (0.5, 1.0, 9)
    assert (response["store"], response["text"]) == (False, {"format": {"type": "text"}})
    of_a_schema = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}
    assert formatter(text={"format": of_a_schema}).response([chunk("{}", "stop")])["text"] == {"format": of_a_schema}
    assert response["output"][0]["content"][0]["logprobs"] == []


def test_log_probabilities_are_returned_if_they_are_included() -> None:
    include = ["message.output_text.logprobs"]
    response = formatter(include=include).response([chunk("a", "stop")])
    (token,) = response["output"][0]["content"][0]["logprobs"]
    assert token == {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    delta = next(event for event in streamed([chunk("a", "stop")], include=include) if "delta" in event)
    assert delta["logprobs"] == [token]


def test_an_error_in_a_stream_is_an_event() -> None:
    formatting = formatter()
    before = len(list(formatting.events(chunk("a"))))
    event = formatting.error_event(EngineFailed("the engine died"))
    assert event == {
        "type": "error",
        "sequence_number": before,
        "code": "engine_failed",
        "message": "the engine died",
        "param": None,
    }


TOOL = {"type": "function", "name": "weather"}


def test_calls_are_items_of_the_output_after_the_text() -> None:
    response = formatter(tools=[TOOL]).response(TWO_CALLS)
    message, first, second = response["output"]
    assert (message["type"], message["content"][0]["text"], message["status"]) == ("message", "I look.", "completed")
    assert (first["type"], first["call_id"], first["name"]) == ("function_call", "call_1", "weather")
    assert (first["arguments"], first["status"]) == ('{"city": "Cairo"}', "completed")
    assert (second["name"], second["arguments"]) == ("now", "{}")
    assert len({item["id"] for item in response["output"]}) == 3
    assert (response["status"], response["tool_choice"], response["tools"][0]["name"]) == (
        "completed",
        "auto",
        "weather",
    )


def test_items_are_streamed_one_after_the_other() -> None:
    events = streamed(TWO_CALLS, tools=[TOOL])
    assert [(event["type"].removeprefix("response."), event.get("output_index")) for event in events[2:]] == [
        ("output_item.added", 0),
        ("content_part.added", 0),
        ("output_text.delta", 0),
        ("output_text.done", 0),
        ("content_part.done", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("function_call_arguments.delta", 1),
        ("function_call_arguments.delta", 1),
        ("function_call_arguments.done", 1),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("function_call_arguments.delta", 2),
        ("function_call_arguments.done", 2),
        ("output_item.done", 2),
        ("completed", None),
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert items == events[-1]["response"]["output"]
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    assert [item["status"] for item in added] == ["in_progress"] * 3
    assert [item.get("arguments") for item in added] == [None, "", ""]


def test_a_call_without_text_has_no_message_and_an_empty_answer_has_one() -> None:
    named = {"type": "function", "name": "weather"}
    (item,) = formatter(tools=[TOOL], tool_choice=named).response([chunk("{}"), chunk("", "stop")])["output"]
    assert (item["type"], item["arguments"]) == ("function_call", "{}")
    (empty,) = formatter(tools=[TOOL]).response([chunk("", "stop")])["output"]
    assert (empty["type"], empty["content"][0]["text"]) == ("message", "")
    (cut,) = formatter(tools=[TOOL], tool_choice=named).response([chunk('{"ci', "length")])["output"]
    assert cut["status"] == "incomplete"


def test_the_steered_spans_are_in_the_response_and_in_the_events_with_text() -> None:
    chunks = [
        replace(chunk("Bon"), steered_spans=()),
        replace(chunk("jour"), steered_spans=((1, 2),)),
        replace(chunk("", "stop"), steered_spans=((2, 3),)),
    ]
    assert formatter().response(chunks)["steered_spans"] == [[1, 3]]
    events = streamed(chunks)
    assert [event["steered_spans"] for event in events if event["type"] == "response.output_text.delta"] == [
        [],
        [[1, 2]],
    ]
    assert events[-1]["response"]["steered_spans"] == [[1, 3]]
    assert "steered_spans" not in formatter().response([chunk("Bon", "stop")])
