"""Fields of OpenAI's API and of vLLM's server that have no counterpart here, each with what to do instead.

A value that requests nothing, such as null or vLLM's default, is accepted, so that clients can send all their fields.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from pydantic_core import PydanticCustomError


class Unsupported(NamedTuple):
    """A field that is not supported: what to do instead, and the values, null aside, that have no effect."""

    remedy: str
    harmless: tuple[object, ...] = ()


_BEAMS = "belongs to beam search, which is not supported; sample several answers with n"
_MEDIA = "belongs to images and audio, which are not supported; leave it out"
_TRANSFER = "belongs to disaggregated serving, which is not supported; leave it out"
_CHATS = "belongs to chats; send messages to /v1/chat/completions"

EVERYWHERE: Mapping[str, Unsupported] = {
    "use_beam_search": Unsupported(_BEAMS, (False,)),
    "length_penalty": Unsupported(_BEAMS, (1.0,)),
    "logprob_token_ids": Unsupported("is not supported; read the log-probabilities of the likeliest tokens", ([],)),
    "return_tokens_as_token_ids": Unsupported("is not supported; give return_token_ids instead", (False,)),
    "return_token_offsets": Unsupported("is not supported; the logprobs of a completion have text_offset", (False,)),
    "return_prompt_text": Unsupported("is not supported; POST /tokenize and /detokenize return the prompt", (False,)),
    "prompt_embeds": Unsupported("is not supported; send the text or the token ids in prompt"),
    "chat_template": Unsupported(
        "is not supported in a request; put chat_template.jinja into the model's folder, or send the text of the prompt"
    ),
    "thinking_token_budget": Unsupported(
        "is not supported; limit the answer by its number of tokens, or turn thinking off in chat_template_kwargs"
    ),
    "include_reasoning": Unsupported(
        "must be true: thoughts are part of the text; turn thinking off in chat_template_kwargs", (True,)
    ),
    "repetition_detection": Unsupported("is not supported; give repetition_penalty, or a text in stop"),
    "stream_interval": Unsupported("is not supported: a stream has an event for each token; leave it out", (1,)),
    "watermarking": Unsupported("is not supported; leave it out", (False,)),
    "routed_experts_prompt_start": Unsupported("is not supported; leave it out", (0,)),
    "cache_salt": Unsupported("is not supported: all requests share the prefix cache; leave it out"),
    "request_id": Unsupported("is not supported; send the id in the header X-Request-ID"),
    "session_id": Unsupported("is not supported; leave it out"),
    "kv_transfer_params": Unsupported(_TRANSFER),
    "ec_transfer_params": Unsupported(_TRANSFER),
    "media_io_kwargs": Unsupported(_MEDIA),
    "mm_processor_kwargs": Unsupported(_MEDIA),
    "mm_payload": Unsupported(_MEDIA, ("tensors",)),
    "return_mm_kwargs": Unsupported(_MEDIA, (True,)),
}
"""Fields that no endpoint has."""
OF_COMPLETIONS: Mapping[str, Unsupported] = {
    name: Unsupported(_CHATS)
    for name in ("messages", "chat_template_kwargs", "reasoning_effort", "continue_final_message", "documents", "tools")
}
OF_CHATS: Mapping[str, Unsupported] = {
    "prompt": Unsupported("belongs to completions; send it to /v1/completions, or as messages"),
    "echo": Unsupported("is not supported: the request has the text that comes before the answer already", (False,)),
    "functions": Unsupported("is the former form of tools; give tools"),
    "function_call": Unsupported("is the former form of tool_choice; give tool_choice"),
    "audio": Unsupported("is not supported: answers are texts; leave it out"),
    "prediction": Unsupported("is not supported; leave it out"),
    "web_search_options": Unsupported("is not supported; leave it out"),
}
OF_RESPONSES: Mapping[str, Unsupported] = {
    "messages": Unsupported("belongs to chats; send the messages in input"),
    "reasoning_effort": Unsupported('belongs to chats; give reasoning: {"effort": ...}'),
    "continue_final_message": Unsupported("belongs to chats; give the last message the status incomplete", (False,)),
    "return_token_ids": Unsupported("belongs to chats; send messages to /v1/chat/completions", (False,)),
    "prompt_logprobs": Unsupported("belongs to chats; send messages to /v1/chat/completions"),
    "logprobs": Unsupported('belongs to chats; give include: ["message.output_text.logprobs"]', (False,)),
    "enable_response_messages": Unsupported("is not supported; leave it out", (False,)),
    "previous_input_messages": Unsupported("is not supported; send the earlier messages in input"),
}


def without_unsupported(raw: Any, of_endpoint: Mapping[str, Unsupported], *, fields: Collection[str]) -> Any:
    """Return the body of a request without unsupported fields whose value requests nothing.

    Args:
        raw: The body.
        of_endpoint: Unsupported fields of this endpoint.
        fields: The fields that the endpoint has.

    Raises:
        PydanticCustomError: About the first unsupported field that requests something, with what to do instead.
    """
    if not isinstance(raw, Mapping):
        return raw
    rest = {}
    for name, value in raw.items():
        unsupported = None if name in fields else of_endpoint.get(name) or EVERYWHERE.get(name)
        if unsupported is None:
            rest[name] = value
        elif value is not None and not any(_same(value, harmless) for harmless in unsupported.harmless):
            raise PydanticCustomError("unsupported_field", unsupported.remedy, {"key": str(name)})
    return rest


def _same(value: object, harmless: object) -> bool:
    """Return whether two values of JSON are equal; a number is not a boolean."""
    return value == harmless and isinstance(value, bool) == isinstance(harmless, bool)
