"""Which errors of vLLM reject a single request, and the error that its sender gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ampsweep.domain.generation.structured_outputs import FIELD
from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    from vllm import SamplingParams

_SOURCE_LINE = re.compile(r"\[[\d:]+\] \S+:\d+: ")
"""The time and the line of xgrammar's source in its errors."""


def is_refusal(error: Exception) -> bool:
    """Return whether the error rejects a single request. After any other error the engine is unusable."""
    if isinstance(error, ValueError | TypeError):
        return True
    from vllm.exceptions import VLLMValidationError  # a ValueError in older releases

    return isinstance(error, VLLMValidationError)


def refusal(error: Exception, params: SamplingParams) -> InvalidRequest:
    """Return the error of a rejected request. Only structured outputs have not been checked before."""
    if getattr(params, FIELD, None) is None:
        refused = InvalidRequest(str(error))
    else:
        reason = _SOURCE_LINE.sub("", " ".join(str(error).split())).rstrip(".")
        refused = InvalidRequest(f"{FIELD}: {reason}; correct or simplify it", param=FIELD)
    refused.__cause__ = error
    return refused
