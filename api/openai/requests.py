"""Bodies of completion requests, and what chats share with them: OpenAI's schema, extended by interventions.

OpenAI's fields without effect here are accepted only with a value that requests nothing, such as null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.prompt import Prompt, TokenIds, Tool
from ampsweep.domain.generation.sampling import SAMPLING_TYPES, SamplingParams, TokenId
from ampsweep.domain.generation.structured_outputs import FIELD, StructuredOutputs
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.validation import Name, StrictModel, one_or_list, validate
from ampsweep.errors import InvalidRequest
from api.auth.limits import Limits
from api.openai.prompt_fields import PromptFields
from api.openai.token_details import AlternativeCount, TokenDetailFields
from api.openai.unsupported import OF_COMPLETIONS, Unsupported, without_unsupported
from api.openai.vllm_xargs import STEERING_FIELD, VllmXargs, check_one_intervention
from jobs.execution import CompletionCall

MAX_PROMPTS = 1024
"""Maximum number of prompts in one request, each counted once for each of its `interventions`."""
MAX_INTERVENTIONS = 256
"""Maximum number of `interventions` in one request."""
COMPLETION_MAX_TOKENS = 16
"""Default of `max_tokens` for a completion, as in OpenAI's API."""
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


def _prompt_kind(value: object) -> str:
    """Distinguish a text, a list of token ids and a list of prompts, so that errors refer to the intended type."""
    if isinstance(value, str):
        return "text"
    return "tokens" if isinstance(value, list | tuple) and value and isinstance(value[0], int) else "prompts"


Text = Annotated[str, Tag("text")]
Tokens = Annotated[tuple[TokenId, ...], Field(strict=False, min_length=1, max_length=1_000_000)]
OnePrompt = Annotated[
    Text | Annotated[Tokens, Tag("tokens")] | Annotated[Tokens, Tag("prompts")], Discriminator(_prompt_kind)
]
Prompts = Annotated[tuple[OnePrompt, ...], Field(strict=False, min_length=1, max_length=MAX_PROMPTS)]


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


class CompletionRequest(TokenDetailFields, GenerationRequest):
    """A request to continue text.

    `prompt` is a text, a list of token ids, or a list of several of these. The choices of the i-th prompt begin at
    index i × `n`. `interventions` continues every prompt once with each of several interventions, of which null is
    none; with p prompts, the choices of the i-th intervention begin at index i × p × `n`. `logprobs` is the number of
    alternatives that are returned for each token; with 0, only the log-probability of the token itself is returned.
    With `echo` each choice begins with its prompt, whose tokens have log-probabilities too, the first one none;
    `max_tokens` 0 then generates nothing. With `return_token_ids` each choice has its `token_ids` and its
    `prompt_token_ids`; `prompt_logprobs` gives it the `prompt_logprobs`, in vLLM's form.
    """

    prompt: Annotated[
        Text | Annotated[Tokens, Tag("tokens")] | Annotated[Prompts, Tag("prompts")], Discriminator(_prompt_kind)
    ]
    interventions: (
        Annotated[tuple[Intervention | None, ...], Field(strict=False, min_length=1, max_length=MAX_INTERVENTIONS)]
        | None
    ) = None
    max_tokens: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    logprobs: AlternativeCount | None = None
    best_of: Literal[1] | None = None
    echo: bool | None = None
    suffix: Literal[""] | None = None

    unsupported: ClassVar[Mapping[str, Unsupported]] = OF_COMPLETIONS

    @model_validator(mode="after")
    def _generates_or_echoes(self) -> CompletionRequest:
        if self.max_tokens == 0 and not self.echo:
            raise PydanticCustomError("nothing_asked", "must be at least 1 without echo", {"key": "max_tokens"})
        if self.max_tokens == 0 and getattr(self, "min_tokens", None):
            message = "must be 0 if max_tokens is 0; lower it, or raise max_tokens"
            raise PydanticCustomError("nothing_asked", message, {"key": "min_tokens"})
        return self

    @model_validator(mode="after")
    def _one_kind_of_interventions(self) -> CompletionRequest:
        if self.interventions is not None and self.intervention is not None:
            message = "cannot be combined with intervention; add that one to the list"
            raise PydanticCustomError("two_kinds", message, {"key": "interventions"})
        check_one_intervention(self.vllm_xargs, {"interventions": self.interventions})
        return self

    @property
    def prompts(self) -> Sequence[str | tuple[int, ...]]:
        """The prompts: texts and lists of token ids."""
        is_single = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        return cast("Sequence[str | tuple[int, ...]]", (self.prompt,) if is_single else self.prompt)

    def to_calls(self, limits: Limits) -> list[CompletionCall]:
        """Return one call for each prompt and intervention: all prompts with the first one, then with the second.

        Raises:
            PromptTooLong: The prompts together exceed the limit of the server.
            MaxTokensTooLarge: The choices together could exceed the limit of the server.
            InvalidRequest: Prompts times interventions are too many.
        """
        prompts = self.prompts
        max_tokens = COMPLETION_MAX_TOKENS if self.max_tokens is None else self.max_tokens
        interventions = (None,) if self.interventions is None else self.interventions
        if len(prompts) * len(interventions) > MAX_PROMPTS:
            message = f"{len(prompts)} prompts with {len(interventions)} interventions are more than {MAX_PROMPTS}"
            raise InvalidRequest(f"interventions: {message}; send several requests", param="interventions")
        limits.check_prompt(sum(map(len, prompts)) * len(interventions), param="prompt")
        choices = self.choices_per_prompt * len(prompts) * len(interventions)
        limits.check_tokens(max_tokens * choices, param="max_tokens")
        prompt_logprobs = (self.logprobs or 0) if self.echo else None
        if self.prompt_logprobs is not None:
            prompt_logprobs = max(self.prompt_logprobs, prompt_logprobs or 0)
        calls = [
            self.call(
                prompt if isinstance(prompt, str) else TokenIds(prompt),
                max_tokens=max(1, max_tokens),
                logprobs=self.logprobs or 0,
                prompt_logprobs=prompt_logprobs,
                return_token_ids=self.return_token_ids,
            )
            for prompt in prompts
        ]
        if self.interventions is None:
            return calls
        return [replace(call, intervention=each) for each in interventions for call in calls]

    def check_calls(self, calls: Sequence[CompletionCall]) -> None:
        """Check the calls of the request once the interventions of its preset are known.

        Raises:
            InvalidRequest: Nothing is generated, but the steering depends on the text (param `when` or `part`).
        """
        for index, call in enumerate(calls if self.max_tokens == 0 else ()):
            if call.intervention is not None and (name := call.intervention.text_field) is not None:
                message = f"with max_tokens 0 there is no running text to decide by; leave {name} out, or raise"
                raise InvalidRequest(f"{message} max_tokens", param=f"{self.param_of(index)}.{name}")

    def param_of(self, call: int) -> str:
        """Return the field that has the intervention of a call, by its position in `to_calls`."""
        if self.interventions is None:
            return super().param_of(call)
        return f"interventions.{call // len(self.prompts)}"


def parse_completion(raw: object) -> CompletionRequest:
    """Parse the body of a completion; raise InvalidRequest whose `param` is the first invalid field."""
    return validate(CompletionRequest, raw)
