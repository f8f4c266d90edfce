"""Steering under torch.compile changes no answer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.base import ScoreRequest
from engine.vllm.release_test import release_test, split_prompts
from engine.vllm.settings import VllmSettings
from tests.engine.both_engines import both_engines

SMALL = VllmSettings(slots=4, max_num_seqs=8, kv_cache_bytes=64 * 1024**2, compile=False)


@pytest.mark.engine
def test_torch_compile_changes_no_answer(tmp_path: Path) -> None:
    with both_engines("qwen2", tmp_path / "model", replace(SMALL, compile=True)) as both:
        for steering in (None, both.steering(["fr"], "set", 2.0), both.steering(["tr"], "scale", -3.0, layers=[1])):
            request = ScoreRequest(context="the thing", continuation=" in the end", steering=steering)
            ours, reference = both.run(both.vllm.score(request)), both.run(both.reference.score(request))
            np.testing.assert_allclose(ours.logprobs, reference.logprobs, rtol=0, atol=1e-4)
        both.run(release_test(both.vllm, both.neurons, partial(split_prompts, both.vllm._loop)))
