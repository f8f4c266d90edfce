"""The likely tokens of each step, without the texts that vLLM would write for them.

The engine has texts of its own (`engine.detokenizer.TokenTexts`) and reads none of vLLM's. Writing them costs a call of
the tokenizer for each token of each step, and ends vLLM's process where a tokenizer that marks spaces meets an id that
it does not know: a model whose vocabulary is padded can draw one at any step.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.engine.logprobs import LogprobsProcessor

_make = LogprobsProcessor.from_new_request.__func__


def leave_likely_tokens_unwritten() -> None:
    """Make vLLM tell the likely tokens of a request by their ids alone; a second call changes nothing."""
    LogprobsProcessor.from_new_request = classmethod(_unwritten)


def _unwritten(cls: type[LogprobsProcessor], tokenizer: Any, request: Any) -> Any:
    del tokenizer
    return _make(cls, tokenizer=None, request=request)
