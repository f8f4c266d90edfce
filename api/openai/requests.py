"""Bodies of completion and chat requests in OpenAI's schema, extended by `intervention` and `neurons`.

A field of OpenAI's that would change nothing here is accepted only with the value that asks for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, create_model, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.prompt import ChatMessage, Prompt, TokenIds
from ampsweep.domain.sampling import SAMPLING_TYPES, SamplingParams, TopLogprobs
from ampsweep.domain.validation import Name, StrictModel, validate
from api.auth.limits import Limits
from jobs.execution import CompletionCall


def _one_or_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


MAX_PROMPTS = 1024
"""Prompts of one request."""

Stop = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...],
    Field(strict=False, max_length=16),
    BeforeValidator(_one_or_list),
]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000)]
OPENAI_TEMPERATURE = 1.0
"""The temperature of a request that gives none."""


def _prompt_kind(value: object) -> str:
    """Tell a text, a list of token ids and a list of prompts apart, so that an error speaks of what was meant."""
    if isinstance(value, str):
        return "text"
    return "tokens" if isinstance(value, list | tuple) and value and isinstance(value[0], int) else "prompts"


Text = Annotated[str, Tag("text")]
Tokens = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(strict=False, min_length=1, max_length=1_000_000)
]
OnePrompt = Annotated[
    Text | Annotated[Tokens, Tag("tokens")] | Annotated[Tokens, Tag("prompts")], Discriminator(_prompt_kind)
]
Prompts = Annotated[tuple[OnePrompt, ...], Field(strict=False, min_length=1, max_length=MAX_PROMPTS)]


class StreamOptions(StrictModel):
    """How a stream ends: with `include_usage`, one chunk more tells the token counts."""

    include_usage: bool = False


class _ModelRequest(StrictModel):
    model: Name


if TYPE_CHECKING:
    _SamplingRequest = _ModelRequest
else:
    _OTHERWISE = {"max_tokens", "top_logprobs", "ignore_eos"}  # the first two have other names or defaults below
    _SamplingRequest = create_model(
        "_SamplingRequest",
        __base__=_ModelRequest,
        **{name: (hint | None, None) for name, hint in SAMPLING_TYPES.items() if name not in _OTHERWISE},
    )


class GenerationRequest(_SamplingRequest):
    """What completions and chats have in common: on which model, drawn how, steered by what.

    The sampling parameters are those of `SamplingParams`. A parameter that is missing or null has the default there,
    except for `temperature`, which has OpenAI's.

    `top_k` (0 or -1: all tokens), `min_p` and `repetition_penalty` are vLLM's. With a `seed`, the i-th of `n` answers
    is drawn with seed + i. `neurons` is the id of a neuron set; without it the model's default steers, or its only
    one.
    """

    top_k: Annotated[int, Field(ge=-1, le=10_000_000), AfterValidator(lambda top_k: max(0, top_k))] | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    intervention: Intervention | None = None
    neurons: Name | None = None
    user: str | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _neurons_of_an_intervention(self) -> GenerationRequest:
        if self.neurons is not None and self.intervention is None:
            message = "steers nothing without an intervention; give one, or leave neurons out for an unsteered answer"
            raise PydanticCustomError("no_intervention", message, {"key": "neurons"})
        return self

    @property
    def with_usage(self) -> bool:
        """Whether a stream tells the token counts at its end."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def answers(self) -> int:
        """How many answers each prompt gets."""
        return self.sampling().n

    def sampling(self, **of_the_endpoint: int) -> SamplingParams:
        """Return the sampling parameters, together with those that the endpoint names itself."""
        fields = {name: getattr(self, name) for name in SAMPLING_TYPES if name in _SamplingRequest.model_fields}
        values = {name: value for name, value in fields.items() if value is not None}
        return SamplingParams(**{"temperature": OPENAI_TEMPERATURE, **values, **of_the_endpoint})

    def call(self, prompt: Prompt | TokenIds, *, max_tokens: int, logprobs: int) -> CompletionCall:
        """Return what the engines are asked."""
        return CompletionCall(
            model=self.model,
            prompt=prompt,
            intervention=self.intervention,
            neurons=self.neurons,
            sampling=self.sampling(max_tokens=max_tokens, top_logprobs=logprobs),
        )


class CompletionRequest(GenerationRequest):
    """Text to continue. `logprobs` alternatives to each token are told; with 0 the log-probabilities alone.

    `prompt` is a text, a list of token ids, or a list of several of these; the answers to the i-th of several prompts
    are the choices from i times `n` on.
    """

    prompt: Annotated[
        Text | Annotated[Tokens, Tag("tokens")] | Annotated[Prompts, Tag("prompts")], Discriminator(_prompt_kind)
    ]
    max_tokens: MaxTokens | None = None
    logprobs: TopLogprobs | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None

    def to_calls(self, limits: Limits) -> list[CompletionCall]:
        """Return what the engines are asked, a call a prompt.

        Raises PromptTooLong or MaxTokensTooLarge for more than the server takes.
        """
        one = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        prompts = cast("Sequence[str | tuple[int, ...]]", (self.prompt,) if one else self.prompt)
        max_tokens = 16 if self.max_tokens is None else self.max_tokens
        limits.check_prompt(sum(map(len, prompts)), param="prompt")
        limits.check_tokens(max_tokens * self.answers * len(prompts), param="max_tokens")
        return [
            self.call(
                prompt if isinstance(prompt, str) else TokenIds(prompt),
                max_tokens=max_tokens,
                logprobs=self.logprobs or 0,
            )
            for prompt in prompts
        ]


def parse_completion(raw: object) -> CompletionRequest:
    """Read a completion's body; raises InvalidRequest whose `param` is the first wrong field."""
    return validate(CompletionRequest, raw)


DEFAULT_TOKENS = 1024
"""Tokens of an answer that does not say how many it may have."""


def _text_of_parts(value: object) -> object:
    """Return the text of a list of OpenAI's content parts; anything but text is left to be refused."""
    if not isinstance(value, list):
        return value
    texts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
    if not value or len(texts) != len(value) or not all(isinstance(text, str) for text in texts):
        raise PydanticCustomError("parts", "must be a text, or a list of parts of type text")
    return "".join(map(str, texts))


NotUsed = Annotated[tuple[Any, ...], Field(strict=False, max_length=0)] | None
"""A list of something that no answer here has, as OpenAI's clients send it back: null or empty."""


class ChatTurn(StrictModel):
    """One message. Which roles it takes, and in which order, the model's chat template says.

    An answer's message can be sent back as OpenAI's clients return it, with the fields that are null or empty in it.
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text_of_parts)]
    refusal: None = None
    annotations: NotUsed = None
    audio: None = None
    function_call: None = None
    tool_calls: NotUsed = None


class TextFormat(StrictModel):
    """The only form of an answer there is."""

    type: Literal["text"]


class ChatRequest(GenerationRequest):
    """A chat to answer. `top_logprobs` alternatives to each token are told where `logprobs` is true."""

    messages: Annotated[tuple[ChatTurn, ...], Field(strict=False, min_length=1, max_length=10_000)]
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    response_format: TextFormat | None = None
    tools: NotUsed = None
    tool_choice: Literal["none"] | None = None

    @model_validator(mode="after")
    def _one_word_for_each(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("no_logprobs", "needs logprobs: true", {"key": "top_logprobs"})
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            message = "is the old name of max_completion_tokens; give one of them"
            raise PydanticCustomError("two_names", message, {"key": "max_tokens"})
        return self

    def to_call(self, limits: Limits) -> CompletionCall:
        """Return what the engines are asked; PromptTooLong or MaxTokensTooLarge for more than the server takes."""
        turns = tuple(
            ChatMessage(role="system" if turn.role == "developer" else turn.role, content=turn.content)
            for turn in self.messages
        )
        max_tokens = self.max_completion_tokens or self.max_tokens or min(DEFAULT_TOKENS, limits.max_tokens)
        limits.check_prompt(sum(len(turn.content) for turn in turns), param="messages")
        tokens_param = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        limits.check_tokens(max_tokens * self.answers, param=tokens_param)
        return self.call(turns, max_tokens=max_tokens, logprobs=self.top_logprobs or 0)


def parse_chat(raw: object) -> ChatRequest:
    """Read a chat's body; raises InvalidRequest whose `param` is the first wrong field."""
    return validate(ChatRequest, raw)
