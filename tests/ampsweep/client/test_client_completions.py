"""Both clients against a real server: continued prompts, chats, tokens, and their interventions."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep import Client
from ampsweep.client.models import Choice, Sweep
from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest, UnknownName

pytestmark = pytest.mark.processes

STEERED = {"languages": ["tr"], "op": "set", "patch": "max", "factor": 2.0}


def test_a_prompt_is_continued_whole_or_in_pieces(client: Client, done: Sweep) -> None:
    whole = client.complete("tiny", "Hello", max_tokens=5)
    pieces = list(client.stream("tiny", "Hello", max_tokens=5))
    assert "".join(piece.text for piece in pieces) == whole.text
    assert [piece.finish_reason for piece in pieces] == [None] * 4 + ["length"]
    assert client.complete("tiny", "Hello", max_tokens=5, **_steered(client, done)).text != whole.text


def test_all_answers_to_a_prompt_come_back(client: Client) -> None:
    completion = client.complete("tiny", "Hello", max_tokens=3, n=2, temperature=1.0, seed=1, logprobs=0)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert completion.usage.completion_tokens == 6
    assert all(choice.logprobs and len(choice.logprobs["token_ids"]) == 3 for choice in completion.choices)
    pieces = list(
        client.stream(
            "tiny", "Hello", max_tokens=3, n=2, temperature=1.0, seed=1, stream_options={"include_usage": True}
        )
    )
    for index in (0, 1):
        assert _text(pieces, index) == completion.choices[index].text


def test_a_chat_is_answered_whole_or_in_pieces_steered_or_not(client: Client, done: Sweep) -> None:
    chat = [ChatMessage(role="user", content="Hello")]
    whole = client.chat("tiny", chat, max_tokens=5)
    as_json = [{"role": "user", "content": "Hello"}]
    assert _text(list(client.stream_chat("tiny", as_json, max_tokens=5)), 0) == whole.text
    assert client.chat("tiny", chat, max_tokens=5, **_steered(client, done)).text != whole.text


def test_the_tokens_of_the_prompt_and_of_the_answer_come_back(client: Client) -> None:
    """A chat whose last message is continued, with variables of the template."""
    chat = [ChatMessage(role="user", content="Hello"), ChatMessage(role="assistant", content="Well,")]
    fields: dict[str, Any] = {"continue_final_message": True, "chat_template_kwargs": {"enable_thinking": False}}
    prompt = b"enable_thinking: false\nuser: Hello\nassistant: Well,"
    answer = client.chat("tiny", chat, max_tokens=3, return_token_ids=True, prompt_logprobs=0, **fields)
    (choice,) = answer.choices
    assert choice.prompt_token_ids == tuple(prompt)
    assert choice.prompt_logprobs is not None
    assert len(choice.prompt_logprobs) == len(prompt)
    assert len(choice.token_ids or ()) == 3
    pieces = list(client.stream_chat("tiny", chat, max_tokens=3, return_token_ids=True, **fields))
    assert [piece.prompt_token_ids for piece in pieces if piece.prompt_token_ids is not None] == [tuple(prompt)]
    assert tuple(token for piece in pieces for token in piece.token_ids or ()) == choice.token_ids
    whole = client.complete("tiny", "Hello", max_tokens=3, return_token_ids=True)
    assert whole.choices[0].prompt_token_ids == tuple(b"Hello")
    assert client.tokenize("tiny", chat, **fields).tokens == tuple(prompt)


def test_the_tokens_of_a_prompt_and_their_text_come_back(client: Client) -> None:
    tokens = client.tokenize("tiny", "né", add_special_tokens=False, return_token_strs=True)
    assert (tokens.count, tokens.tokens, tokens.token_strs) == (3, tuple("né".encode()), ("6e", "c3", "a9"))
    assert client.detokenize("tiny", tokens.tokens) == "né"
    chat = client.tokenize("tiny", [ChatMessage(role="user", content="Hello")])
    assert client.detokenize("tiny", chat.tokens) == "user: Hello\nassistant:"
    with pytest.raises(InvalidRequest) as refused:
        client.detokenize("tiny", [-1])
    assert refused.value.param == "tokens.0"


def test_a_request_takes_vllms_sampling_parameters(client: Client) -> None:
    free = client.complete("tiny", "Hello", max_tokens=5)
    biased = client.complete("tiny", "Hello", max_tokens=5, logit_bias={3: 100}, min_tokens=5, stop_token_ids=[0])
    assert biased.text == " delta" * 5 != free.text
    with pytest.raises(InvalidRequest, match="at most max_tokens, which is 5") as refused:
        client.complete("tiny", "Hello", max_tokens=5, min_tokens=6)
    assert refused.value.param == "min_tokens"


def test_a_stream_that_is_closed_ends(client: Client) -> None:
    pieces = client.stream("tiny", "Hello", max_tokens=1000)
    assert next(pieces).text
    pieces.close()
    assert list(pieces) == []


def test_an_intervention_is_taken_as_a_value_or_as_json(client: Client, done: Sweep) -> None:
    steered = _steered(client, done)
    value = Intervention.from_dict(steered["intervention"])
    as_json = client.complete("tiny", "Hello", max_tokens=5, **steered)
    assert client.complete("tiny", "Hello", max_tokens=5, **{**steered, "intervention": value}).text == as_json.text


def test_a_wrong_intervention_is_named(client: Client, done: Sweep) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.complete("tiny", "Hello", intervention={**STEERED, "op": "square"})
    assert refused.value.param == "intervention.op"
    steered = {**_steered(client, done), "intervention": {**STEERED, "languages": ["xx"]}}
    with pytest.raises(UnknownName):
        list(client.stream("tiny", "Hello", **steered))


def _steered(client: Client, sweep: Sweep) -> dict[str, Any]:
    """Steering by the neurons of a sweep; other tests bring more sets in."""
    (used,) = {cell["neurons"] for cell in client.cells(sweep.id)} - {None}
    return {"intervention": STEERED, "neurons": used}


def _text(pieces: list[Choice], index: int) -> str:
    return "".join(piece.text for piece in pieces if piece.index == index)
