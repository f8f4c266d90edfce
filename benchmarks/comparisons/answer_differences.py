"""How far the log-probabilities of vLLM's answers are from those of plain hooks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Answered:
    """vLLM's answer to a call under the intervention `case`: all tokens of the text, and those of the answer."""

    task: str
    case: str
    ids: list[int]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


class Expected(NamedTuple):
    """What plain hooks give for the tokens of an answer: log-probabilities, and whether a token is the likeliest."""

    logprobs: list[float]
    likeliest: list[bool]


def compare_answers(answers: Sequence[Answered], expected: Sequence[Expected]) -> dict[str, Any]:
    """Return the largest and the mean difference of log-probabilities, by task and by intervention."""
    differences: defaultdict[str, list[float]] = defaultdict(list)
    greedy: list[bool] = []
    for answer, plain in zip(answers, expected, strict=True):
        errors = [abs(actual - reference) for actual, reference in zip(answer.logprobs, plain.logprobs, strict=True)]
        differences[f"task {answer.task}"] += errors
        differences[f"intervention {answer.case}"] += errors
        if answer.task == "generation":
            greedy += plain.likeliest
    figures = {
        name: {"tokens": len(values), "largest": max(values), "mean": float(np.mean(values))}
        for name, values in differences.items()
    }
    return {**figures, "greedy": {"tokens": len(greedy), "equal": sum(greedy)}}


def rounding(
    answers: Sequence[Answered], expected: Sequence[Expected], exact: Sequence[Expected]
) -> dict[str, dict[str, float]]:
    """Return, for each intervention, how far rounding moves log-probabilities (root mean square).

    Args:
        answers: The answers of vLLM in 16 bits.
        expected: What plain hooks give for them in 16 bits.
        exact: What plain hooks give for them in float32.
    """
    names = ("vLLM to hooks", "vLLM to hooks in float32", "hooks to hooks in float32")
    squares: defaultdict[str, list[list[float]]] = defaultdict(lambda: [[], [], []])
    for answer, plain, reference in zip(answers, expected, exact, strict=True):
        values = zip(answer.logprobs, plain.logprobs, reference.logprobs, strict=True)
        for ours, theirs, best in values:
            for kind, difference in enumerate((ours - theirs, ours - best, theirs - best)):
                squares[answer.case][kind].append(difference**2)
    return {
        case: {name: float(np.mean(values) ** 0.5) for name, values in zip(names, kinds, strict=True)}
        for case, kinds in squares.items()
    }
