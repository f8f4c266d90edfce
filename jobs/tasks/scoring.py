"""Makes samples from the answers to an item."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ampsweep.domain.generation.chunk import Span
from ampsweep.domain.generation.prompt import Prompt
from jobs.sample import Sample
from jobs.tasks.base import Item
from jobs.tasks.requests import Answer, GenerateCall, ScoreCall

NO_NUMBERS = "log-probabilities are not numbers: activations overflow; use a smaller factor or a wider dtype"

MAX_CONTEXT = 2000
"""Characters of a context at its end that `input` has at most. Examples of a few-shot prompt are before them."""


def scored_sample(item: Item, answers: Sequence[Answer], **columns: Any) -> Sample:
    """Return a sample with the tokens of all answers, in the order of the calls.

    Args:
        item: The item.
        answers: Its answers, none of which failed.
        **columns: The fields of `Sample` that the task computes: `score`, `prediction`, `gold` and so on.
    """
    joins = [answer.spanned_join for answer in answers if answer.spanned_join is not None]
    return Sample(
        doc_id=item.doc_id,
        logprobs=tuple(logprob for answer in answers for logprob in answer.logprobs),
        call_tokens=tuple(len(answer.logprobs) for answer in answers),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(len(answer.logprobs) for answer in answers),
        spanned_join=any(joins) if joins else None,
        answer=item.answer,
        input=_input_of(item),
        steered_spans=_steered_spans(answers),
        **columns,
    )


def _input_of(item: Item) -> str | None:
    """Return the `input` of the item's meta, or else the prompt of its only generation, or what is scored."""
    prompts = [call.prompt for call in item.calls if isinstance(call, GenerateCall)]
    if len(prompts) == 1:
        return str(item.meta.get("input", _text(prompts[0])))
    texts = [(_text(call.context), call.continuation) for call in item.calls if isinstance(call, ScoreCall)]
    return _question(texts, item.meta.get("labels", range(len(texts)))) if texts else None


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1].content


def _question(texts: Sequence[tuple[str, str]], labels: Sequence[object]) -> str:
    """Return the context, of a long one its end, and on lines of their own the options after it; of one text, the text.

    Args:
        texts: Context and continuation of each option. If the contexts differ, the options are the whole texts.
        labels: What `prediction` calls each option.
    """
    if len(texts) == 1:
        return "".join(texts[0])
    contexts = {context for context, _ in texts}
    question = [_end(contexts.pop())] if len(contexts) == 1 else []
    options = [continuation if question else _end(context) + continuation for context, continuation in texts]
    return "\n".join([*question, *(f"{label}: {text.strip()}" for label, text in zip(labels, options, strict=True))])


def _end(context: str) -> str:
    return context if len(context) <= MAX_CONTEXT else f"…{context[-MAX_CONTEXT:]}"


def _steered_spans(answers: Sequence[Answer]) -> tuple[Span, ...] | None:
    """Return the steered tokens, counted over all answers; None if no answer says which are steered."""
    if all(answer.steered_spans is None for answer in answers):
        return None
    spans: list[Span] = []
    before = 0
    for answer in answers:
        spans += [(before + first, before + end) for first, end in answer.steered_spans or ()]
        before += len(answer.logprobs)
    return tuple(spans)


def failed_sample(item: Item, answers: Sequence[Answer]) -> Sample | None:
    """Return a failed sample if the item or an answer has an error, or an answer no tokens or NaN; otherwise None."""
    if item.error is not None:
        return Sample(doc_id=item.doc_id, answer=item.answer, error=item.error)
    for answer in answers:
        if (error := _error_of(answer)) is not None:
            return Sample(doc_id=item.doc_id, answer=item.answer, error=error)
    return None


def _error_of(answer: Answer) -> str | None:
    """Return why an answer cannot be scored; None if it can."""
    if answer.error is not None:
        return answer.error
    if not answer.logprobs:
        return "the engine returned no tokens"
    return NO_NUMBERS if any(map(math.isnan, answer.logprobs)) else None


def choose_likeliest(item: Item, answers: Sequence[Answer], *, label: int) -> Sample:
    """Predict the option with the largest sum of log-probabilities; ties go to the first.

    Args:
        item: The item.
        answers: One answer for each option, in their order.
        label: The index of the right option.

    Returns:
        A sample whose `prediction` and `gold` are indices of options as text, and whose `score` is the sum of the
        predicted option in nats; a failed sample if an answer failed.
    """
    if (sample := failed_sample(item, answers)) is not None:
        return sample
    sums = [sum(answer.logprobs) for answer in answers]
    prediction = sums.index(max(sums))
    return scored_sample(
        item, answers, score=sums[prediction], prediction=str(prediction), gold=str(label), correct=prediction == label
    )
