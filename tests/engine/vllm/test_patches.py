"""vLLM does not decode likely tokens, so ids unknown to its tokenizer do no harm."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.engine.tokenizers import sentence_piece

pytestmark = pytest.mark.engine


def step(tokenizer: Any, ids: list[int]) -> Any:
    """Return vLLM's output for the likely tokens of one step, the first of which is sampled."""
    from vllm import SamplingParams
    from vllm.v1.engine.logprobs import LogprobsProcessor

    request: Any = SimpleNamespace(sampling_params=SamplingParams(logprobs=len(ids) - 1))
    processor = LogprobsProcessor.from_new_request(tokenizer=tokenizer, request=request)
    values = np.log(np.arange(len(ids), 0, -1) / 10, dtype=np.float32)
    output: Any = SimpleNamespace(
        new_logprobs=(np.array([ids]), values[None], np.array([1]), None),
        new_prompt_logprobs_tensors=None,
        prompt_token_id_logprobs=None,
    )
    processor.update_from_output(output)
    assert processor.logprobs is not None
    return processor.logprobs[0]


def test_an_id_unknown_to_the_tokenizer_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.engine.logprobs import LogprobsProcessor

    from engine.vllm.patches import skip_logprob_texts

    monkeypatch.setattr(LogprobsProcessor, "from_new_request", LogprobsProcessor.__dict__["from_new_request"])
    skip_logprob_texts()
    skip_logprob_texts()
    tokenizer = sentence_piece()
    unknown = len(tokenizer) + 7
    assert tokenizer.convert_ids_to_tokens([unknown]) == [None]
    entries = step(tokenizer, [unknown, 3, unknown + 1])
    assert list(entries) == [unknown, 3, unknown + 1]
    assert [entry.rank for entry in entries.values()] == [1, 1, 2]
    assert {entry.decoded_token for entry in entries.values()} == {None}
