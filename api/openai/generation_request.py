"""What requests of all endpoints that generate text share: sampling parameters, stream options, intervention, form.

OpenAI's fields without effect here are accepted only with a value that requests nothing, such as null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, create_model, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.prompt import Prompt, TokenIds, Tool
from ampsweep.domain.generation.sampling import SAMPLING_TYPES, SamplingParams
from ampsweep.domain.generation.structured_outputs import FIELD, StructuredOutputs
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.validation import Name, StrictModel, one_or_list
from api.openai.prompt_fields import PromptFields
from api.openai.unsupported import Unsupported, without_unsupported
from api.openai.vllm_xargs import STEERING_FIELD, VllmXargs, check_one_intervention
from jobs.execution import CompletionCall

CHAT_MAX_TOKENS = 1024
"""Default of `max_completion_tokens` for a chat."""

Stop = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...],
    Field(strict=False, max_length=16),
    BeforeValidator(one_or_list),
]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000)]


def _not_ahead(value: object) -> object:
    if isinstance(value, int) and value < 0:
        message = "must be at least 0, the priority of interactive requests; the higher the number, the later it runs"
        raise PydanticCustomError("priority", message)
    return value


RequestPriority = Annotated[int, Field(lt=2**63), BeforeValidator(_not_ahead)]
"""A scheduling priority as in vLLM, but never ahead of the interactive requests of others."""


class StreamOptions(StrictModel):
    """Options of a stream. With `include_usage`, a last event before `[DONE]` has the token counts.

    With `continuous_usage_stats`, each event also has the counts of its choice so far.
    """

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None

    @model_validator(mode="after")
    def _counts_in_all(self) -> StreamOptions:
        if self.continuous_usage_stats and not self.include_usage:
            raise PydanticCustomError("no_usage", "needs include_usage: true", {"key": "continuous_usage_stats"})
        return self


@dataclass(frozen=True, kw_only=True)
class JsonSchema:
    """A JSON schema in the form of OpenAI's API; `name`, `description` and `strict` have no effect."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: Name
    schema: dict[str, Any]
    description: str | None = None
    strict: Annotated[bool, Strict()] | None = None


class ResponseFormat(StrictModel):
    """The form of the text: any (`text`), a JSON object, or JSON that `json_schema` describes."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_of_its_type(self) -> ResponseFormat:
        if (self.json_schema is not None) != (self.type == "json_schema"):
            message = "is required by the type json_schema, and belongs to no other"
            raise PydanticCustomError("schema_of_type", message, {"key": "json_schema"})
        return self

    def structured_outputs(self) -> StructuredOutputs | None:
        """Return the same as vLLM's field; None for text."""
        if self.json_schema is not None:
            return StructuredOutputs(json=self.json_schema.schema)
        return StructuredOutputs(json_object=True) if self.type == "json_object" else None


class _ModelRequest(PromptFields):
    model: Name


if TYPE_CHECKING:
    _SamplingRequest = _ModelRequest
else:
    _OTHERWISE = {"max_tokens", "top_logprobs"}  # they have other names or defaults below
    _SamplingRequest = create_model(
        "_SamplingRequest",
        __base__=_ModelRequest,
        **{name: (hint | None, None) for name, hint in SAMPLING_TYPES.items() if name not in _OTHERWISE},
    )


class GenerationRequest(_SamplingRequest):
    """The fields that completions and chats share: model, sampling parameters, prompt, stream options, intervention.

    The sampling parameters are those of `SamplingParams`. A parameter that is missing or null has the default there;
    that of `temperature` is 0, not 1 as in OpenAI's API.

    `top_k` (0 or -1: all tokens), `min_p`, `repetition_penalty`, `min_tokens`, `ignore_eos`, `stop_token_ids`,
    `bad_words` and `include_stop_str_in_output` are vLLM's, and so is `structured_outputs`, the form of the text; a
    `response_format` of JSON means the same. With a `seed`, the i-th of `n` choices is sampled with seed + i. `neurons`
    is the id of the neuron set that steers; by default it is the default neuron set of the model, or its only one.
    `adapter` is the name of a LoRA adapter of the model (`GET /v1/models` lists them); as `model`, the name of an
    adapter stands for both.
    `priority` 0 is that of interactive requests, 1 that of sweeps; requests with a higher number run later.
    `vllm_xargs` can have the intervention instead, as on vLLM's own server.
    """

    top_k: Annotated[int, Field(ge=-1, le=10_000_000), AfterValidator(lambda top_k: max(0, top_k))] | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    intervention: Intervention | None = None
    neurons: Name | None = None
    adapter: Name | None = None
    priority: RequestPriority | None = None
    vllm_xargs: VllmXargs | None = None
    user: str | None = None
    response_format: ResponseFormat | None = None

    unsupported: ClassVar[Mapping[str, Unsupported]] = {}
    """Fields of other endpoints and servers that this endpoint lacks, in addition to those that all endpoints lack."""

    @model_validator(mode="before")
    @classmethod
    def _without_unsupported(cls, raw: Any) -> Any:
        return without_unsupported(raw, cls.unsupported, fields=cls.model_fields)

    @model_validator(mode="after")
    def _one_intervention(self) -> GenerationRequest:
        check_one_intervention(self.vllm_xargs, {"intervention": self.intervention})
        return self

    @model_validator(mode="after")
    def _one_form(self) -> GenerationRequest:
        if getattr(self, FIELD, None) is not None and self.response_format is not None:
            message = f"cannot be combined with {FIELD}; give only one of them"
            raise PydanticCustomError("two_forms", message, {"key": "response_format"})
        return self

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> GenerationRequest:
        if isinstance(self.stream_options, StreamOptions) and not self.stream:  # not those of the Responses API
            raise PydanticCustomError("no_stream", "needs stream: true; leave it out", {"key": "stream_options"})
        return self

    def param_of(self, _call: int) -> str:
        """Return the field that has the intervention of a call, by its position."""
        return "intervention" if self.vllm_xargs is None else STEERING_FIELD

    @property
    def form(self) -> StructuredOutputs | None:
        """The form that `response_format` requires of the text; None for any."""
        return None if self.response_format is None else self.response_format.structured_outputs()

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def with_continuous_usage(self) -> bool:
        """Whether each event of a stream has token counts."""
        return self.stream_options is not None and bool(self.stream_options.continuous_usage_stats)

    @property
    def choices_per_prompt(self) -> int:
        """The number of choices for each prompt."""
        n: int | None = getattr(self, "n", None)
        return SamplingParams.n if n is None else n

    def sampling(self, **endpoint_params: int) -> SamplingParams:
        """Return the sampling parameters, with those that have different names in the two endpoints."""
        fields = {name: getattr(self, name) for name in SAMPLING_TYPES if name in _SamplingRequest.model_fields}
        if self.form is not None:
            fields[FIELD] = self.form
        values = {name: value for name, value in fields.items() if value is not None}
        return SamplingParams(**{**values, **endpoint_params})

    def check_calls(self, calls: Sequence[CompletionCall]) -> None:
        """Check the calls of the request once the interventions of its preset are known."""

    def call(
        self,
        prompt: Prompt | TokenIds,
        *,
        max_tokens: int,
        logprobs: int,
        prompt_logprobs: int | None = None,
        return_token_ids: bool | None = None,
        tools: tuple[Tool, ...] = (),
    ) -> CompletionCall:
        """Return the call for one prompt."""
        xargs = self.vllm_xargs
        return CompletionCall(
            model=self.model,
            prompt=prompt,
            intervention=self.intervention if xargs is None else xargs.intervention,
            preset=None if xargs is None else xargs.preset,
            neurons=self.neurons,
            sampling=self.sampling(max_tokens=max_tokens, top_logprobs=logprobs),
            adapter=self.adapter,
            prompt_logprobs=prompt_logprobs,
            return_token_ids=bool(return_token_ids),
            priority=self.priority or 0,
            tools=tools,
            options=self.prompt_options(),
        )
