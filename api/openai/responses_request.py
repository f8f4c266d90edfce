"""Body of a request to the Responses API: the text part of OpenAI's schema, extended by `intervention` and `neurons`.

Responses are not stored. Fields that need stored responses, tools or other media are rejected with what to do instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Strict, Tag, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.prompt import ChatMessage
from ampsweep.domain.sampling import TopLogprobs
from ampsweep.domain.structured_outputs import FIELD, StructuredOutputs
from ampsweep.domain.validation import Name, StrictModel, validate
from api.auth.limits import Limits
from api.openai.messages import EmptyList, Metadata, text_of_parts
from api.openai.requests import CHAT_MAX_TOKENS, GenerationRequest, MaxTokens
from jobs.execution import CompletionCall

LOGPROBS = "message.output_text.logprobs"
"""The value of `include` that asks for log-probabilities."""


def _refuse(message: str) -> BeforeValidator:
    """Return a validator that accepts only null and false. Its error is `message`, which says what to do instead."""

    def check(value: object) -> object:
        if value is None or value is False:
            return value
        raise PydanticCustomError("not_supported", message)

    return BeforeValidator(check)


def _message_item(value: object) -> object:
    kind = value.get("type", "message") if isinstance(value, dict) else "message"
    if kind != "message":
        message = "is an item of type {kind}, but only messages are supported; send its text as a message"
        raise PydanticCustomError("item_type", message, {"kind": str(kind)[:40]})
    return value


class InputMessage(StrictModel):
    """A message of the input. A message of a response's `output` can be sent back as it is."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, text_of_parts("input_text", "output_text")]
    type: Literal["message"] = "message"
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: Literal["commentary", "final_answer"] | None = None


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """The form of the text: any (`text`), a JSON object, or JSON that `schema` describes.

    `name`, `description` and `strict` belong to a schema and have no effect.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any] | None = None
    name: Name | None = None
    description: str | None = None
    strict: Annotated[bool, Strict()] | None = None

    def structured_outputs(self) -> StructuredOutputs | None:
        """Return the same as vLLM's field; None for text."""
        if self.schema is not None:
            return StructuredOutputs(json=self.schema)
        return StructuredOutputs(json_object=True) if self.type == "json_object" else None


class TextConfig(StrictModel):
    """The form of the answer. `verbosity` has no effect."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None

    @model_validator(mode="after")
    def _schema_of_its_type(self) -> TextConfig:
        if self.format is not None and (self.format.schema is not None) != (self.format.type == "json_schema"):
            message = "is required by the type json_schema, and belongs to no other"
            raise PydanticCustomError("schema_of_type", message, {"key": "format.schema"})
        return self


class NoReasoning(StrictModel):
    """Settings of reasoning. Only null is accepted."""

    effort: None = None
    summary: None = None


class ResponseStreamOptions(StrictModel):
    """Options of a stream. Events are never padded, so `include_obfuscation` has no effect."""

    include_obfuscation: bool | None = None


class ResponseRequest(GenerationRequest):
    """A request to answer a text or a list of messages, in the schema of OpenAI's Responses API.

    `instructions` are a system message before the input. Responses are not stored, so `store` can only be false, and
    `input` has to contain the earlier messages of a conversation. `include` with `message.output_text.logprobs` returns
    log-probabilities, with `top_logprobs` alternatives for each token. The other fields are those of chats.
    """

    input: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[
            tuple[Annotated[InputMessage, BeforeValidator(_message_item)], ...],
            Field(strict=False, min_length=1, max_length=10_000),
            Tag("messages"),
        ],
        Discriminator(lambda value: "text" if isinstance(value, str) else "messages"),
    ]
    instructions: str | None = None
    max_output_tokens: MaxTokens | None = None
    include: Annotated[tuple[Literal["message.output_text.logprobs"], ...], Field(strict=False)] | None = None
    top_logprobs: TopLogprobs | None = None
    text: TextConfig | None = None
    metadata: Metadata | None = None
    reasoning: NoReasoning | None = None
    tools: EmptyList = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    truncation: Literal["disabled"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    n: Literal[1] | None = None
    stream_options: ResponseStreamOptions | None = None  # type: ignore[assignment]  # of another API
    store: Annotated[bool | None, _refuse("must be false: responses are not stored; keep the response itself")] = None
    background: Annotated[
        bool | None, _refuse("must be false: send the request without it, or in a file to POST /v1/batches")
    ] = None
    previous_response_id: Annotated[
        None, _refuse("is not supported, because responses are not stored; send the earlier messages in input")
    ] = None
    conversation: Annotated[
        None, _refuse("is not supported, because conversations are not stored; send the earlier messages in input")
    ] = None
    response_format: Annotated[None, _refuse("belongs to chats; give the form of the answer in text.format")] = None
    prompt: Annotated[
        None, _refuse("is not supported, because prompts are not stored; send their text in instructions")
    ] = None

    @model_validator(mode="after")
    def _fields_agree(self) -> ResponseRequest:
        if self.top_logprobs is not None and not self.with_logprobs:
            message = f'needs include: ["{LOGPROBS}"]'
            raise PydanticCustomError("no_logprobs", message, {"key": "top_logprobs"})
        if self.form is not None and getattr(self, FIELD, None) is not None:
            raise PydanticCustomError(
                "two_forms", f"cannot be combined with {FIELD}; give only one of them", {"key": "text"}
            )
        return self

    @property
    def form(self) -> StructuredOutputs | None:
        """The form that `text.format` requires of the text; None for any."""
        text_format = None if self.text is None else self.text.format
        return None if text_format is None else text_format.structured_outputs()

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the token counts: always."""
        return True

    @property
    def with_logprobs(self) -> bool:
        """Whether the tokens are returned with their log-probabilities."""
        return LOGPROBS in (self.include or ())

    def to_call(self, limits: Limits) -> CompletionCall:
        """Return the call of the chat that the input describes.

        Raises:
            PromptTooLong: The input and the instructions together exceed the limit of the server.
            MaxTokensTooLarge: The answer could exceed the limit of the server.
        """
        messages = [ChatMessage(role="system", content=self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            messages.append(ChatMessage(role="user", content=self.input))
        else:
            messages += [
                ChatMessage(role="system" if item.role == "developer" else item.role, content=item.content)
                for item in self.input
            ]
        max_tokens = self.max_output_tokens or min(CHAT_MAX_TOKENS, limits.max_tokens)
        limits.check_prompt(sum(len(message.content) for message in messages), param="input")
        limits.check_tokens(max_tokens, param="max_output_tokens")
        return self.call(tuple(messages), max_tokens=max_tokens, logprobs=self.top_logprobs or 0)


def parse_response_request(raw: object) -> ResponseRequest:
    """Parse the body; raise InvalidRequest whose `param` is the first invalid field."""
    return validate(ResponseRequest, raw)
