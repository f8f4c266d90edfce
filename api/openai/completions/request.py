"""Body of a request to continue text: prompts, each continued with one or several interventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, cast

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.prompt import TokenIds
from ampsweep.domain.generation.sampling import TokenId
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.validation import validate
from ampsweep.errors import InvalidRequest
from api.auth.limits import Limits
from api.openai.generation_request import GenerationRequest
from api.openai.token_details import AlternativeCount, TokenDetailFields
from api.openai.unsupported import OF_COMPLETIONS, Unsupported
from api.openai.vllm_xargs import check_one_intervention
from jobs.execution import CompletionCall

MAX_PROMPTS = 1024
"""Maximum number of prompts in one request, each counted once for each of its `interventions`."""
MAX_INTERVENTIONS = 256
"""Maximum number of `interventions` in one request."""
COMPLETION_MAX_TOKENS = 16
"""Default of `max_tokens` for a completion, as in OpenAI's API."""


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
