"""Rejects log-probabilities that are not numbers: NaN follows where a model computes more than its dtype can hold."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan

from ampsweep.errors import InvalidRequest

_WIDER = "--dtype bfloat16"


def require_numbers(logprobs: Iterable[float | None], *, dtype: str, steered: bool) -> None:
    """Check that no log-probability is NaN.

    Args:
        logprobs: Log-probabilities; None where there is none.
        dtype: The dtype in which the model computes.
        steered: Whether an intervention changes activations.

    Raises:
        InvalidRequest: One is NaN (param "intervention"; "model" without an intervention).
    """
    if not any(value is not None and isnan(value) for value in logprobs):
        return
    if steered:
        raise InvalidRequest(too_strong(dtype), param="intervention")
    remedy = f"load the model with {_WIDER}" if _is_narrow(dtype) else "its weights may be damaged: download it again"
    raise InvalidRequest(f"{_problem(dtype)}, even without an intervention; {remedy}", param="model")


def too_strong(dtype: str) -> str:
    """Return the message of a steered request that computes NaN in this dtype."""
    remedy = f"use a smaller factor{f', or load the model with {_WIDER}' if _is_narrow(dtype) else ''}"
    return f"the intervention is too strong: {_problem(dtype)}; {remedy}"


def _problem(dtype: str) -> str:
    return f"the log-probabilities are not numbers (NaN), because the model computed in {dtype} what it cannot hold"


def _is_narrow(dtype: str) -> bool:
    return dtype == "float16"
