"""What a task asks of a model and what it gets back, in words of its own: jobs knows no engine."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.ports import Prompt


@dataclass(frozen=True, kw_only=True)
class ScoreCall:
    """Ask for the log-probability of each token of `continuation` after `context`, a text or a chat."""

    context: Prompt
    continuation: str


@dataclass(frozen=True, kw_only=True)
class GenerateCall:
    """Ask for a greedy continuation of `prompt`, a text, or for the answer to a chat."""

    prompt: Prompt
    max_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back for one call: tokens and natural-log probabilities; `text` for a generation.

    A call that failed (too long a prompt, say) has `error` and no tokens; it is a failed sample, not a failed cell.
    """

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    prompt_tokens: int = 0
    text: str | None = None
    error: str | None = None


Call = ScoreCall | GenerateCall
