"""The Responses API with the `openai` client and a server on a socket."""

from __future__ import annotations

from typing import Any, cast

import openai
import pytest
from openai.types.responses import (
    ResponseCompletedEvent,
    ResponseIncompleteEvent,
    ResponseInputParam,
    ResponseTextDeltaEvent,
)

from tests.api.openai.test_openai_client import SCALE, client, steerable
from tests.worker.installation import Installation

pytestmark = [pytest.mark.processes, pytest.mark.anyio]

PARAMS: dict[str, Any] = {
    "model": "tiny",
    "instructions": "Answer in one word.",
    "input": "The capital of France?",
    "max_output_tokens": 5,
}


async def test_a_response_and_its_stream_have_the_same_text(installation: Installation) -> None:
    async with client(installation) as (talking, _):
        whole = await talking.responses.create(**PARAMS)
        events = [event async for event in await talking.responses.create(**PARAMS, stream=True)]
        async with talking.responses.stream(**PARAMS) as stream:
            helped = [event async for event in stream]
        messages = [
            {"role": "system", "content": PARAMS["instructions"]},
            {"role": "user", "content": PARAMS["input"]},
        ]
        chat = await talking.chat.completions.create(
            model="tiny", messages=cast("Any", messages), max_completion_tokens=5
        )
    assert whole.output_text == chat.choices[0].message.content
    deltas = [event.delta for event in events if isinstance(event, ResponseTextDeltaEvent)]
    assert "".join(deltas) == whole.output_text
    assert [event.type for event in helped] == [event.type for event in events]
    assert len(deltas) > 1
    assert (events[0].type, events[0].sequence_number) == ("response.created", 0)
    last = events[-1]
    assert isinstance(last, ResponseCompletedEvent | ResponseIncompleteEvent)
    assert last.response.usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.output_tokens == 5
    assert whole.status == last.response.status == "incomplete"
    assert whole.incomplete_details is not None
    assert whole.incomplete_details.reason == "max_output_tokens"


async def test_a_response_is_sent_back_as_a_part_of_the_next_input(installation: Installation) -> None:
    async with client(installation) as (talking, _):
        first = await talking.responses.create(**PARAMS)
        turns: list[Any] = [{"role": "user", "content": PARAMS["input"]}, *first.output]
        turns.append({"role": "user", "content": [{"type": "input_text", "text": "Why?"}]})
        second = await talking.responses.create(**{**PARAMS, "input": cast("ResponseInputParam", turns)})
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


async def test_a_response_is_steered_by_a_field_or_by_the_name_of_the_model(installation: Installation) -> None:
    async with client(installation) as (talking, server):
        await steerable(server)
        created = await server.http.post("/v1/interventions", json={"name": "fr", "intervention": SCALE})
        assert created.status_code == 201
        plain = await talking.responses.create(**PARAMS)
        steered = await talking.responses.create(**PARAMS, extra_body={"intervention": SCALE})
        named = await talking.responses.create(**{**PARAMS, "model": "tiny+fr"})
    assert plain.output_text != steered.output_text == named.output_text
    assert cast("Any", plain).neuron_set is None
    assert cast("Any", steered).neuron_set.startswith("ns_")
    assert named.model == "tiny+fr"


async def test_errors_are_the_exceptions_that_the_clients_users_expect(installation: Installation) -> None:
    async with client(installation) as (talking, _):
        with pytest.raises(openai.NotFoundError):
            await talking.responses.create(**{**PARAMS, "model": "nope"})
        for wrong in ({"store": True}, {"previous_response_id": "resp_1"}, {"max_output_tokens": 0}):
            with pytest.raises(openai.BadRequestError) as caught:
                await talking.responses.create(**{**PARAMS, **cast("Any", wrong)})
            assert caught.value.param == next(iter(wrong))
