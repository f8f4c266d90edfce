"""The body of a completion, in the shape of OpenAI's, with `intervention` and `neurons` besides.

A field of OpenAI's that would change nothing here is accepted only with the value that asks for nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from jobs.edge import Name, Strict, validated
from jobs.intervention_spec import InterventionSpec
from jobs.ports import CompletionCall


def _one_or_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Stop = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...],
    Field(strict=False, max_length=16),
    BeforeValidator(_one_or_list),
]


class StreamOptions(Strict):
    """How a stream ends: with `include_usage`, one chunk more tells the token counts."""

    include_usage: bool = False


class CompletionRequest(Strict):
    """What to continue, on which model, how, and steered by what.

    `logprobs` is 0 (those of the drawn tokens) or null: no alternatives are kept.
    """

    model: Name
    prompt: str
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Stop | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: Literal[0] | None = None
    intervention: InterventionSpec | None = None
    neurons: Name | None = None
    user: str | None = None
    n: Literal[1] = 1
    best_of: Literal[1] | None = None
    echo: Literal[False] = False
    suffix: Literal[""] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    presence_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None

    def to_call(self) -> CompletionCall:
        """Return what the engines are asked."""
        return CompletionCall(
            model=self.model,
            prompt=self.prompt,
            intervention=None if self.intervention is None else self.intervention.to_dict(),
            neurons=self.neurons,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=self.stop or (),
        )


def parse_completion(raw: object) -> CompletionRequest:
    """Read a completion's body; raises InvalidRequest whose `param` is the first wrong field."""
    return validated(CompletionRequest, raw)
