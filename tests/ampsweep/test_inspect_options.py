"""Inspect's settings as fields of a chat."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from ampsweep.inspect_options import NO_EFFECT, PASSED, REFUSED, chat_fields
from api.auth.limits import Limits
from api.openai.chats.request import parse_chat

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


def test_every_setting_that_has_a_counterpart_is_a_field_of_a_chat() -> None:
    schema = {"name": "answer", "json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    fields = chat_fields(
        {
            "max_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "stop_seqs": ["\n"],
            "seed": 3,
            "num_choices": 2,
            "frequency_penalty": 0.1,
            "presence_penalty": 0.2,
            "logit_bias": {42: -3.0},
            "logprobs": True,
            "top_logprobs": 1,
            "reasoning_effort": "low",
            "response_schema": schema,
            "extra_body": {"min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}},
        }
    )
    call = parse_chat({**CHAT, **fields}).to_call(Limits())
    sampling = call.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (9, 0.5, 0.9, 40)
    assert (sampling.stop, sampling.seed, sampling.n, sampling.top_logprobs) == (("\n",), 3, 2, 1)
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.min_p) == (0.1, 0.2, 0.1)
    assert sampling.logit_bias == {42: -3.0}
    assert sampling.structured_outputs is not None
    assert sampling.structured_outputs.json == schema["json_schema"]
    assert call.options.chat_template_kwargs == {"enable_thinking": False, "reasoning_effort": "low"}


def test_the_kinds_of_settings_do_not_overlap() -> None:
    kinds = (set(PASSED), set(NO_EFFECT), set(REFUSED))
    assert sum(map(len, kinds)) == len(set.union(*kinds))
    assert chat_fields({"max_retries": 3, "cache_prompt": "auto", "verbosity": "medium", "batch": False}) == {}


@pytest.mark.parametrize(
    ("config", "param", "says"),
    [
        ({"effort": "high"}, "effort", "give reasoning_effort"),
        ({"prompt_logprobs": 1}, "prompt_logprobs", "not supported"),
        ({"fallback_models": ["other"]}, "fallback_models", "leave it out"),
        ({"reasoning_mode": "pro"}, "reasoning_mode", "give reasoning_effort"),
        ({"reasoning_tokens": 100}, "reasoning_tokens", "limit max_tokens"),
        ({"modalities": ["image"]}, "modalities", "answers are texts"),
        ({"batch": True}, "batch", "max_connections"),
        ({"best_of": 3}, "best_of", "num_choices"),
        ({"verbosity": "low"}, "verbosity", "system message"),
        ({"a_later_setting": 1}, "a_later_setting", "leave it out"),
        ({"extra_body": {"stream": True}}, "extra_body.stream", "sends itself"),
        ({"seed": 1, "extra_body": {"seed": 2}}, "extra_body.seed", "sends itself"),
    ],
)
def test_a_setting_without_a_counterpart_is_refused_by_its_name(config: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        chat_fields(config)
    assert caught.value.param == param
    assert param.split(".")[-1] in caught.value.message
