"""Inspect's settings of generation as fields of `POST /v1/chat/completions`. Does not import Inspect.

Each field of Inspect's `GenerateConfig` is passed on, applied by Inspect itself, without effect on text, or refused by
its name: an evaluation never runs without a setting that it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ampsweep.errors import InvalidRequest

PASSED: Mapping[str, str] = {
    "max_tokens": "max_completion_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop_seqs": "stop",
    "seed": "seed",
    "num_choices": "n",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "logprobs": "logprobs",
    "top_logprobs": "top_logprobs",
    "reasoning_effort": "reasoning_effort",
    "response_schema": "response_format",
    "extra_body": "",
}
"""Fields of `GenerateConfig`, each with the field of a chat that means the same; those in `extra_body` keep theirs."""
NO_EFFECT = frozenset(
    {
        *(
            "max_retries",
            "timeout",
            "attempt_timeout",
            "stream_idle_timeout",
            "max_connections",
            "adaptive_connections",
        ),
        *("system_message", "cache", "fail_on_refusal"),
        *("reasoning_history", "max_tool_output", "parallel_tool_calls", "internal_tools", "cache_prompt"),
    }
)
"""Fields that Inspect applies itself, that belong to tools, or that cannot change an answer."""
REFUSED: Mapping[str, tuple[str, tuple[object, ...]]] = {
    "best_of": ("is not supported; sample several answers with num_choices", (1,)),
    "verbosity": ("is not supported; ask for it in the system message", ("medium",)),
    "prompt_logprobs": ("is not supported; POST /v1/chat/completions returns them", ()),
    "fallback_models": ("is not supported; leave it out", ([],)),
    "reasoning_mode": ("is not supported; give reasoning_effort", ("standard",)),
    "effort": ("is not supported; give reasoning_effort", ()),
    "reasoning_tokens": ("is not supported; give reasoning_effort, or limit max_tokens", ()),
    "reasoning_summary": ("is not supported, because thoughts are a part of the text; leave it out", ("none", "auto")),
    "modalities": ("is not supported, because answers are texts; leave it out", ([],)),
    "extra_headers": ("is not supported; leave it out", ({},)),
    "batch": ("is not supported, because requests are batched by the engine; raise max_connections", (False, 0)),
}
"""Fields without a counterpart: what to do instead, and the values that request nothing."""
_OF_THE_PROVIDER = ("model", "messages", "prompt", "stream")


def chat_fields(config: Mapping[str, Any], of_provider: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields of a chat that mean the same as settings of Inspect.

    Args:
        config: The settings that are not None, by the names of `GenerateConfig`, as JSON.
        of_provider: Further fields of the chat.

    Raises:
        InvalidRequest: A setting has no counterpart; `param` is its name.
    """
    fields = dict(of_provider or {})
    for name, value in config.items():
        if name in REFUSED:
            remedy, harmless = REFUSED[name]
            if value not in harmless:
                raise InvalidRequest(f"{name} {remedy}", param=name)
        elif name not in PASSED and name not in NO_EFFECT:
            raise InvalidRequest(f"{name} is not a setting that the ampsweep provider knows; leave it out", param=name)
        elif PASSED.get(name):
            fields[PASSED[name]] = _response_format(value) if name == "response_schema" else value
    for name, value in config.get("extra_body", {}).items():
        if name in fields or name in _OF_THE_PROVIDER:
            message = f"extra_body cannot have {name}, which the provider sends itself; leave it out"
            raise InvalidRequest(message, param=f"extra_body.{name}")
        fields[name] = value
    return fields


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `response_format` of a chat for a `ResponseSchema`."""
    others = {name: value for name, value in schema.items() if name != "json_schema"}
    return {"type": "json_schema", "json_schema": {**others, "schema": schema["json_schema"]}}
