from __future__ import annotations

import json
from dataclasses import replace
from math import inf, nan

from ampsweep.domain.generation.chunk import TokenLogprob
from api.openai.chats.formatter import ChatFormatter
from api.openai.chats.request import parse_chat
from api.openai.completions.formatter import CompletionFormatter
from api.openai.completions.request import parse_completion
from tests.api.openai.answer_chunks import chunk

BROKEN = [
    replace(chunk("a"), logprobs=(nan,), top_logprobs=((TokenLogprob(8, -inf, "b"),),)),
    replace(chunk("c", "stop"), logprobs=(-inf,)),
]
"""Chunks of a model whose activations overflow."""


def test_log_probabilities_that_json_cannot_express_are_null_or_very_small() -> None:
    request = parse_completion({"model": "m", "prompt": "x", "logprobs": 1})
    (choice,) = CompletionFormatter(request).response(BROKEN)["choices"]
    assert choice["logprobs"]["token_logprobs"] == [None, -9999.0]
    assert choice["logprobs"]["top_logprobs"] == [{"a": None, "b": -9999.0}, {"c": -9999.0}]


def test_events_of_a_chat_are_json_whatever_the_log_probabilities() -> None:
    message = {"role": "user", "content": "x"}
    formatter = ChatFormatter(parse_chat({"model": "m", "messages": [message], "logprobs": True, "top_logprobs": 1}))
    choices = [event["choices"][0] for one in BROKEN for event in formatter.events(one)]
    json.dumps(choices, allow_nan=False)
    tokens = [token for choice in choices if choice["logprobs"] for token in choice["logprobs"]["content"]]
    assert [(token["token"], token["logprob"]) for token in tokens] == [("a", None), ("c", -9999.0)]
