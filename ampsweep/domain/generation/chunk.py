"""Generated text as it is streamed: chunks, and the tokens in them with their log-probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ampsweep.domain.generation.tool_calls import ParsedText

FinishReason = Literal["stop", "length", "abort"]
Span = tuple[int, int]
"""The first token and the one after the last."""


class TokenLogprob(NamedTuple):
    """A token, its log-probability (natural log), and its text: U+FFFD for bytes that are not a whole character."""

    token_id: int
    logprob: float
    text: str


class SampledToken(NamedTuple):
    """A token of an answer, with its likeliest alternatives, the likeliest first; the token may be among them.

    `offset` is where the token begins in the answer's text, in characters.
    """

    token: TokenLogprob
    alternatives: tuple[TokenLogprob, ...]
    offset: int


@dataclass(frozen=True, kw_only=True)
class PromptPart:
    """The tokens of a prompt and their log-probabilities (natural log) under the steered model.

    Attributes:
        text: The text of the prompt, without special tokens.
        token_ids: The tokens, special ones included.
        token_texts: The text of each token by itself, as in `Chunk`.
        text_offsets: Where each token begins in `text`, in characters.
        logprobs: The log-probability of each token given those before it; None for the first.
        ranks: How many tokens are at least as likely in the place of each, itself included; None for the first.
        top_logprobs: The likeliest tokens in its place, the likeliest first, as many as were requested; none for the
            first token.
    """

    text: str
    token_ids: tuple[int, ...]
    token_texts: tuple[str, ...]
    text_offsets: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    ranks: tuple[int | None, ...]
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of one answer: new text, its tokens and their log-probabilities (natural log) under the steered model.

    In `text`, the text of a token may come with a later chunk, or not at all: that of the end-of-sequence token, of a
    stop string and what follows it, and of bytes that never became a character. The tokens are listed nonetheless.

    Attributes:
        index: Which of the request's `n` answers the chunk belongs to.
        text: New text of the answer.
        token_ids: The new tokens.
        token_texts: The text of each token by itself: U+FFFD for a part of a character, empty for an id that the
            tokenizer does not know.
        text_offsets: Where each token begins in the answer's text, in characters.
        logprobs: The log-probability of each token, before penalties, temperature and truncation.
        top_logprobs: The likeliest alternatives to each token, the likeliest first, as many as were requested; the
            sampled token may be among them.
        prompt_tokens: The number of tokens of the prompt; the same in all chunks.
        finish_reason: Why the answer ended; set in the last chunk of each answer only.
        neuron_set: The id of the neuron set that steered the answer; None without steering.
        prompt: The prompt's tokens with their log-probabilities, in the first chunk of each answer to a request that
            asked for them.
        prompt_token_ids: The prompt's tokens, in the first chunk of each answer to a request that asked for their ids.
        parsed: The text and the calls of tools that a parser has found; None without a parser. `text` has all of the
            answer, whatever the parser finds.
        steered_spans: Which of the new tokens are steered, as spans [first, end) of indices in the answer; None if that
            does not depend on the text. A token is steered if its own activations are edited, which changes the tokens
            after it.
    """

    index: int = 0
    text: str
    token_ids: tuple[int, ...]
    token_texts: tuple[str, ...]
    text_offsets: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...]
    prompt_tokens: int
    finish_reason: FinishReason | None = None
    neuron_set: str | None = None
    prompt: PromptPart | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    parsed: ParsedText | None = None
    steered_spans: tuple[Span, ...] | None = None

    def tokens(self) -> Iterator[SampledToken]:
        """Yield the tokens, each with its alternatives."""
        for token_id, logprob, text, alternatives, offset in zip(
            self.token_ids, self.logprobs, self.token_texts, self.top_logprobs, self.text_offsets, strict=True
        ):
            yield SampledToken(TokenLogprob(token_id, logprob, text), alternatives, offset)


def joined_spans(parts: Iterable[Sequence[Span] | None]) -> list[Span] | None:
    """Return the steered tokens of one answer, each span as long as possible.

    Args:
        parts: `steered_spans` of its chunks, in order.

    Returns:
        None if the steering does not depend on the text.
    """
    spans: list[Span] = []
    known = False
    for part in parts:
        known = known or part is not None
        for first, end in part or ():
            if spans and spans[-1][1] == first:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((first, end))
    return spans if known else None
