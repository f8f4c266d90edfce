"""The calls that a task makes to a model, and the answers it receives. Independent of any engine."""

from __future__ import annotations

from dataclasses import dataclass

from ampsweep.domain.generation.chunk import Span
from ampsweep.domain.generation.prompt import Prompt, ScoreText, Split


@dataclass(frozen=True, kw_only=True)
class ScoreCall:
    """Ask for the log-probability of each token of `continuation` after `context`.

    Attributes:
        context: A text or a chat.
        continuation: The text to score.
        split: Where scoring starts if a token spans the join of context and continuation: `aligned` scores from the
            last token border that the context and the whole text share, `lm_eval` scores the tokens that lm-eval does.
        options: Context and continuation of each of the item's score calls. If a token spans the join in one of them,
            all are scored from the last border that all share.
    """

    context: Prompt
    continuation: str
    split: Split = "aligned"
    options: tuple[ScoreText, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GenerateCall:
    """Ask for a continuation of `prompt`, a text, or for the answer to a chat.

    Attributes:
        prompt: The text or the chat.
        max_tokens: Maximum number of generated tokens.
        stop: Texts that end the answer; they are not part of it.
        strip: Whether to remove white space at the prompt's end.
        temperature: Divisor of the logits; 0 is greedy.
        top_p: Keep the likeliest tokens whose probabilities together reach this sum.
        seed: Seed of the random numbers; None takes that of the cell.
    """

    prompt: Prompt
    max_tokens: int
    stop: tuple[str, ...] = ()
    strip: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The model's answer to one call.

    A call that failed, for example because its prompt is too long, has an `error` and no tokens. It makes a failed
    sample, not a failed cell.

    Attributes:
        token_ids: The scored or generated tokens.
        logprobs: Their natural log-probabilities.
        prompt_tokens: Number of tokens of the prompt.
        text: The generated text; None for a score call.
        spanned_join: Whether a token spans the join of context and continuation; None for a generation.
        error: Why the call failed.
        steered_spans: Which tokens were steered, as spans [first, end); None if that does not depend on the text.
    """

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    prompt_tokens: int = 0
    text: str | None = None
    spanned_join: bool | None = None
    error: str | None = None
    steered_spans: tuple[Span, ...] | None = None


Call = ScoreCall | GenerateCall
