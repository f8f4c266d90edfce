"""Samples: one scored item of a cell each, one row of Parquet."""

from __future__ import annotations

from dataclasses import dataclass

from ampsweep.domain.generation.chunk import Span


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The score of one item, with the model's answers that it was computed from.

    Attributes:
        doc_id: Id of the item within its task's data.
        prediction: The option, language or text that the model chose, as the task defines it.
        gold: The correct answer.
        correct: Whether the prediction is correct.
        score: The score that the task defines; log-probabilities are in nats.
        logprobs: Natural log-probabilities of the scored tokens, call after call.
        call_tokens: How many of `logprobs` belong to each call, so that the sum of each call can be recomputed.
        completion: The generated text.
        prompt_tokens: Prompt tokens of all calls.
        completion_tokens: Generated or scored tokens of all calls.
        measures: Further values by name, as JSON: those of an lm-eval task by metric, and for language_confusion the
            `english_words` by language.
        spanned_join: Whether a token spans the join of context and continuation in one of the calls; None where
            nothing is scored after a context.
        error: Why the sample failed; it then has neither a score nor a prediction.
        answer: Number of the answer, from 0, where each prompt is answered several times; else None.
        input: What a generated text answers, continues or translates: the question, the text, the sentence. Where
            options are scored, the question (of a long one the last 2,000 characters) and the options, each on a line
            after what `prediction` calls it.
        steered_spans: Which of the tokens of `logprobs` were steered; None if that does not depend on the text.
    """

    doc_id: str
    prediction: str | None = None
    gold: str | None = None
    correct: bool | None = None
    score: float | None = None
    logprobs: tuple[float, ...] = ()
    call_tokens: tuple[int, ...] = ()
    completion: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    measures: str | None = None
    spanned_join: bool | None = None
    error: str | None = None
    answer: int | None = None
    input: str | None = None
    steered_spans: tuple[Span, ...] | None = None
