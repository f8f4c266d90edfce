"""The body of a chat, in the shape of OpenAI's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from api.auth.limits import Limits
from api.openai.completion_request import GenerationRequest, MaxTokens
from jobs.execution import CompletionCall, Turn
from jobs.validation import StrictModel, validate

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
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
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
            Turn(role="system" if turn.role == "developer" else turn.role, content=turn.content)
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
