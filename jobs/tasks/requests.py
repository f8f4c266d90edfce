"""The calls that a task makes to a model, and the answers it receives. Independent of any engine."""

from __future__ import annotations

from dataclasses import dataclass

from ampsweep.domain.prompt import Prompt, ScoreText, Split


@dataclass(frozen=True, kw_only=True)
class ScoreCall:
    """Ask for the log-probability of each token of `continuation` after `context`, a text or a chat.

    Where a token spans the join, `aligned` scores from the last token border that context and whole text share,
    `lm_eval` what lm-eval scores. `options` are contexts and continuations of the item's other calls: where the join of
    one is spanned, all are scored from the last border that all share.
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
        max_tokens: Number of generated tokens, at most.
        stop: Texts that end the answer; they are not part of it.
        strip: Whether white space at the prompt's end is left out.
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
    """What came back for one call: tokens and natural-log probabilities; `text` for a generation.

    `spanned_join` says of a scored text that a token lies on both sides of the join of context and continuation. A call
    that failed (too long a prompt, say) has `error` and no tokens; it is a failed sample, not a failed cell.
    """

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    prompt_tokens: int = 0
    text: str | None = None
    spanned_join: bool | None = None
    error: str | None = None


Call = ScoreCall | GenerateCall
