"""What tasks with given options have in common: the likeliest one is the answer."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.sample import Sample
from jobs.tasks.base import Item, failed, scored
from jobs.tasks.requests import Answer


def chosen(item: Item, answers: Sequence[Answer], *, label: int) -> Sample:
    """Predict the option whose answer has the largest sum of log-probabilities, of equal ones the first.

    There is one answer an option. `prediction` and `gold` (`label`) are options' numbers from 0, as text; `score` is
    the predicted option's sum, in nats. A failed answer makes a failed sample.
    """
    if (sample := failed(item, answers)) is not None:
        return sample
    sums = [sum(answer.logprobs) for answer in answers]
    prediction = sums.index(max(sums))
    return scored(
        item, answers, score=sums[prediction], prediction=str(prediction), gold=str(label), correct=prediction == label
    )
