from __future__ import annotations

from typing import Any

from ampsweep.domain.chunk import Chunk, FinishReason
from ampsweep.errors import EngineFailed
from api.auth.limits import Limits
from api.openai.responses_formatter import ResponsesFormatter
from api.openai.responses_request import parse_response_request


def formatter(**changes: Any) -> ResponsesFormatter:
    request = parse_response_request({"model": "m", "input": "a", "max_output_tokens": 9, **changes})
    return ResponsesFormatter(request, request.to_call(Limits()))


def chunk(text: str, finish_reason: FinishReason | None = None) -> Chunk:
    return Chunk(
        text=text,
        token_ids=(7,),
        token_texts=(text,),
        text_offsets=(0,),
        logprobs=(-0.5,),
        top_logprobs=((),),
        prompt_tokens=4,
        finish_reason=finish_reason,
        neuron_set="ns_1",
    )


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
