"""Replays an answer in one forward pass of the reference implementation, with edits at given tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ampsweep.domain.generation.chunk import Chunk, joined_spans
from engine.base import Steering
from engine.hf.engine import TransformersEngine


def assert_replayed(
    engine: TransformersEngine, always: Steering, prompt: str, chunks: Sequence[Chunk], *, switches: int = 2
) -> None:
    """Check that an answer was steered at the tokens that it reports and at no others.

    Args:
        engine: The reference implementation, which has the neuron set.
        always: The steering without `when`.
        prompt: The prompt.
        chunks: The answer.
        switches: How often its steering was switched on, at least.
    """
    spans = joined_spans(chunk.steered_spans for chunk in chunks)
    assert spans is not None
    assert len(spans) >= switches, "the answer was switched on too rarely"
    context = engine.encoder.tokens(prompt)
    answer = [token for chunk in chunks for token in chunk.token_ids]
    edited = torch.zeros(len(context) + len(answer) - 1)
    for first, end in spans:
        edited[len(context) + first : len(context) + end] = 1.0
    if switches:
        assert 0 < edited[len(context) :].sum() < len(answer) - 1
    with torch.inference_mode(), engine._model.hooks.steer(engine._neurons.resolve(always), edited):
        logits = engine._model.model(input_ids=torch.tensor([[*context, *answer[:-1]]]), use_cache=False).logits[0]
    logprobs = logits[len(context) - 1 :].float().log_softmax(dim=-1)[range(len(answer)), answer]
    np.testing.assert_allclose([value for chunk in chunks for value in chunk.logprobs], logprobs, rtol=0, atol=1e-4)
