"""vLLM's fields for the tokens of a prompt and of an answer, in requests and in responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.chunk import Chunk, PromptPart
from ampsweep.domain.generation.sampling import TopLogprobs
from ampsweep.domain.validation import StrictModel

_LOWEST = -9999.0
"""Stands for minus infinity, which JSON cannot express, as in vLLM's server."""


def _not_all(value: object) -> object:
    if value == -1 and not isinstance(value, bool):
        message = "must be from 0 to 20: not all tokens of the vocabulary are returned"
        raise PydanticCustomError("all_tokens", message)
    return value


AlternativeCount = Annotated[TopLogprobs, BeforeValidator(_not_all)]
"""Number of likeliest alternatives to a token. -1, which is the whole vocabulary in vLLM, has an error of its own."""


class TokenDetailFields(StrictModel):
    """Fields of completions and chats.

    With `return_token_ids` the response has the ids of the prompt's tokens and of those of each answer. With
    `prompt_logprobs` it has the log-probability of each token of the prompt, with so many likeliest alternatives.
    """

    return_token_ids: bool | None = None
    prompt_logprobs: AlternativeCount | None = None

    @model_validator(mode="after")
    def _prompt_logprobs_of_a_whole_response(self) -> TokenDetailFields:
        if self.prompt_logprobs is not None and getattr(self, "stream", None):
            message = "is not available in a stream; leave stream out"
            raise PydanticCustomError("in_stream", message, {"key": "prompt_logprobs"})
        return self

    def prompt_details(self, chunk: Chunk) -> dict[str, Any]:
        """Return the fields of a response about the prompt, from the first chunk of an answer."""
        ids, part = chunk.prompt_token_ids, chunk.prompt
        details: dict[str, Any] = {}
        if self.return_token_ids and ids is not None:
            details["prompt_token_ids"] = list(ids)
        if self.prompt_logprobs is not None and part is not None:
            details["prompt_logprobs"] = _prompt_logprobs(part, self.prompt_logprobs)
        return details

    def answer_details(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        """Return the fields of a choice about the tokens of its answer."""
        return {"token_ids": [token for chunk in chunks for token in chunk.token_ids]} if self.return_token_ids else {}


def shown_logprob(logprob: float | None) -> float | None:
    """Return a log-probability as JSON can express it; None if it is not a number, as of overflowing activations."""
    return None if logprob is None or math.isnan(logprob) else max(logprob, _LOWEST)


def _prompt_logprobs(part: PromptPart, count: int) -> list[dict[str, Any] | None]:
    """Return an object for each token of a prompt, None for the first: by token id, the token and its alternatives."""
    return [
        None
        if logprob is None
        else {
            str(token): {"logprob": shown_logprob(logprob), "rank": rank, "decoded_token": text},
            **{
                str(other.token_id): {
                    "logprob": shown_logprob(other.logprob),
                    "rank": place,
                    "decoded_token": other.text,
                }
                for place, other in enumerate(alternatives[:count], start=1)
            },
        }
        for token, text, logprob, rank, alternatives in zip(
            part.token_ids, part.token_texts, part.logprobs, part.ranks, part.top_logprobs, strict=True
        )
    ]
