"""One scored item of a cell: one row of Parquet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a task made of the answers to one item.

    `score` is in natural-log units (see the task). `logprobs` are those of the calls' tokens, call after call, and
    `call_tokens` says how many belong to each call, so every sum can be made again. `prompt_tokens` and
    `completion_tokens` are totals over the calls. `measures` is JSON, what an lm-eval task says of the
    item by metric. `spanned_join` says of a scored item that a token spans the join of context and continuation in one
    of its calls. A sample that failed has `error`, and neither score nor prediction.
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
