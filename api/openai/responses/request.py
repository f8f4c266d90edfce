"""Body of a request to the Responses API: text and functions of OpenAI's schema, extended by interventions.

Responses are not stored. Fields that need stored responses, other tools or other media are rejected with what to do
instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Strict, Tag, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.chat_template import ReasoningEffort, TemplateVariables, template_variables
from ampsweep.domain.generation.prompt import PromptOptions
from ampsweep.domain.generation.sampling import TopLogprobs
from ampsweep.domain.generation.structured_outputs import FIELD, StructuredOutputs
from ampsweep.domain.validation import Name, StrictModel, validate
from api.auth.limits import Limits
from api.openai.generation_request import CHAT_MAX_TOKENS, GenerationRequest, MaxTokens
from api.openai.messages import Metadata, chat_length
from api.openai.responses.input import (
    InputItem,
    NamedResponseTool,
    ResponseToolChoice,
    ResponseTools,
    continues_last_message,
    response_chat,
)
from api.openai.tool_calls import CallReader, ForcedCall, forced_call, with_parsing
from api.openai.unsupported import OF_RESPONSES, Unsupported
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


class Reasoning(StrictModel):
    """Settings of reasoning. `effort` is a variable of the chat template; of `summary` only null is accepted."""

    effort: ReasoningEffort | None = None
    summary: None = None


class ResponseStreamOptions(StrictModel):
    """Options of a stream. Events are never padded, so `include_obfuscation` has no effect."""

    include_obfuscation: bool | None = None


class ResponseRequest(GenerationRequest):
    """A request to answer a text or a list of messages, in the schema of OpenAI's Responses API.

    `instructions` are a system message before the input. Responses are not stored, so `store` can only be false, and
    `input` has to contain the earlier messages of a conversation. `include` with `message.output_text.logprobs` returns
    log-probabilities, with `top_logprobs` alternatives for each token. `tools` are functions; their calls are items of
    the output, as in chats. If the last item of `input` is a message of the assistant with the status `incomplete` or
    `in_progress`, the answer continues it. The other fields are those of chats.
    """

    input: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[
            tuple[InputItem, ...],
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
    reasoning: Reasoning | None = None
    chat_template_kwargs: TemplateVariables | None = None
    tools: ResponseTools | None = None
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
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

    unsupported: ClassVar[Mapping[str, Unsupported]] = OF_RESPONSES

    @model_validator(mode="after")
    def _fields_agree(self) -> ResponseRequest:
        if self.top_logprobs is not None and not self.with_logprobs:
            message = f'needs include: ["{LOGPROBS}"]'
            raise PydanticCustomError("no_logprobs", message, {"key": "top_logprobs"})
        if self._text_form is not None and getattr(self, FIELD, None) is not None:
            raise PydanticCustomError(
                "two_forms", f"cannot be combined with {FIELD}; give only one of them", {"key": "text"}
            )
        return self

    @model_validator(mode="after")
    def _choice_is_possible(self) -> ResponseRequest:
        self._forced()
        return self

    def _forced(self) -> ForcedCall | None:
        """Return the call that the request forces, if any; raise PydanticCustomError if it is not possible."""
        choice = self.tool_choice
        return forced_call(
            None if choice == "auto" else choice,  # which OpenAI's clients also send without tools
            choice.name if isinstance(choice, NamedResponseTool) else None,
            [tool.to_tool() for tool in self.tools or ()],
            parallel=self.parallel_tool_calls,
            form=getattr(self, FIELD, None) or self._text_form,
            param="tool_choice.name",
        )

    @property
    def _text_form(self) -> StructuredOutputs | None:
        text_format = None if self.text is None else self.text.format
        return None if text_format is None else text_format.structured_outputs()

    @property
    def form(self) -> StructuredOutputs | None:
        """The form of a forced call, or the one that `text.format` requires; None for any."""
        forced = self._forced()
        return self._text_form if forced is None else forced.form()

    @property
    def offers_tools(self) -> bool:
        """Whether the model may or must call a tool."""
        return bool(self.tools) and self.tool_choice != "none"

    def call_reader(self) -> CallReader:
        """Return a reader of the answer."""
        return CallReader(forced=self._forced(), parallel=self.parallel_tool_calls is not False)

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the token counts: always."""
        return True

    @property
    def with_logprobs(self) -> bool:
        """Whether the tokens are returned with their log-probabilities."""
        return LOGPROBS in (self.include or ())

    def prompt_options(self) -> PromptOptions:
        """Return the options of the prompt. A last message that is incomplete is continued, as by vLLM's server."""
        effort = None if self.reasoning is None else self.reasoning.effort
        options = super().prompt_options()
        if self.truncation == "auto" and options.truncate_prompt_tokens is None:
            options = replace(options, truncate_prompt_tokens=-1)
        return replace(
            options,
            continue_final_message=continues_last_message(self.input),
            chat_template_kwargs=template_variables(self.chat_template_kwargs, reasoning_effort=effort),
        )

    def to_call(self, limits: Limits) -> CompletionCall:
        """Return the call of the chat that the input describes.

        Raises:
            PromptTooLong: The input and the instructions together exceed the limit of the server.
            MaxTokensTooLarge: The answer could exceed the limit of the server.
        """
        messages = response_chat(self.instructions, self.input)
        tools = tuple(tool.to_tool() for tool in self.tools or ()) if self.offers_tools else ()
        max_tokens = self.max_output_tokens or min(CHAT_MAX_TOKENS, limits.max_tokens)
        length = chat_length(messages, tools, self.prompt_options().chat_template_kwargs)
        limits.check_prompt(length, param="input")
        limits.check_tokens(max_tokens, param="max_output_tokens")
        call = self.call(messages, max_tokens=max_tokens, logprobs=self.top_logprobs or 0, tools=tools)
        return with_parsing(call, stream=bool(self.stream))


def parse_response_request(raw: object) -> ResponseRequest:
    """Parse the body; raise InvalidRequest whose `param` is the first invalid field."""
    return validate(ResponseRequest, raw)
