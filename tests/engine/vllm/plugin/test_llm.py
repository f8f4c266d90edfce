"""vLLM's `LLM` and `AsyncLLM` with the plug-in, whose engine cores run in processes of their own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from benchmarks.comparisons.mixed_load import random_neurons
from benchmarks.models.families import tiny_model
from engine.base import GenerateRequest, Steering
from engine.hf.engine import TransformersEngine
from tests.engine.neuron_sets import TOO_STRONG, with_a_strong_language
from tests.engine.vllm.plugin.vllm_server import START_SECONDS, environment

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300 + START_SECONDS)]

PROMPTS = ("in the beginning", "the sea and the wind")
STRONG = {"languages": ["fr"], "op": "set", "factor": 2.0}
WRONG = {"languages": ["fr"], "op": "set", "factor": "2"}
SCRIPT = """
import asyncio, json, sys
from vllm import LLM, AsyncEngineArgs, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

OPTIONS = dict(dtype="float32", enforce_eager=True, max_model_len=128, kv_cache_memory_bytes=2**25, seed=0)

async def at_once(model, requests):
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **OPTIONS))
    async def last(number, prompt, params):
        return [output async for output in engine.generate(prompt, params, request_id=str(number))][-1]
    try:
        return await asyncio.gather(*(last(number, *request) for number, request in enumerate(requests)))
    finally:
        engine.shutdown()

def main():
    model, prompts, strong, too_strong, wrong = json.loads(sys.argv[1])
    llm = LLM(model, **OPTIONS)
    def params(intervention, **more):
        extra_args = None if intervention is None else {"ampsweep": intervention}
        return SamplingParams(max_tokens=8, ignore_eos=True, extra_args=extra_args, **{"temperature": 0.0, **more})
    steered = params(strong)
    answers = llm.generate(prompts, [steered, params(None)], use_tqdm=False)
    again = llm.generate(prompts, steered, use_tqdm=False)  # the same parameters once more
    several = llm.generate(prompts[:1], params(json.dumps(strong), n=2, temperature=1.0, top_k=1), use_tqdm=False)
    try:
        llm.generate(prompts[:1], params(wrong), use_tqdm=False)
        refusal = None
    except Exception as error:
        refusal = str(error)
    (overflowed,) = llm.generate(prompts[:1], params({**too_strong, "scope": "generation"}), use_tqdm=False)[0].outputs
    ended = [overflowed.finish_reason, overflowed.stop_reason, len(overflowed.token_ids)]
    streamed = asyncio.run(at_once(model, list(zip(prompts, [params(strong), params(None)]))))
    tokens = [[output.token_ids for output in answer.outputs] for answer in (*answers, *again, *several, *streamed)]
    with open(sys.argv[2], "w") as file:
        json.dump({"tokens": [list(map(list, answer)) for answer in tokens], "refusal": refusal, "ended": ended}, file)

if __name__ == "__main__":
    main()
"""


def test_requests_of_the_python_interface_are_steered(tmp_path: Path) -> None:
    model = tiny_model("qwen2", tmp_path / "model")
    reference = TransformersEngine(model)
    neurons = with_a_strong_language(random_neurons(reference.info))
    reference.add_neurons(neurons)
    neurons.save(tmp_path / "neurons")
    script, output = tmp_path / "script.py", tmp_path / "output.json"
    script.write_text(SCRIPT)
    variables = {
        "AMPSWEEP_NEURONS": str(tmp_path / "neurons"),
        "AMPSWEEP_SLOTS": "3",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
    }
    subprocess.run(
        [sys.executable, str(script), json.dumps([str(model), PROMPTS, STRONG, TOO_STRONG, WRONG]), str(output)],
        env=environment(tmp_path / "overlay", variables),
        check=True,
    )
    answers: dict[str, Any] = json.loads(output.read_text())

    async def expected(prompt: str, *, steered: bool) -> list[int]:
        steering = Steering(intervention=Intervention.from_dict(STRONG), neurons=neurons.id) if steered else None
        sampling = SamplingParams(max_tokens=8, ignore_eos=True)
        request = GenerateRequest(prompt=prompt, sampling=sampling, steering=steering)
        return [token async for chunk in reference.generate(request) for token in chunk.token_ids]

    async def all_expected() -> list[list[list[int]]]:
        first, second = PROMPTS
        strong = [await expected(prompt, steered=True) for prompt in PROMPTS]
        plain = await expected(second, steered=False)
        assert strong[0] != await expected(first, steered=False)
        await reference.close()
        return [[strong[0]], [plain], [strong[0]], [strong[1]], [strong[0], strong[0]], [strong[0]], [plain]]

    assert answers["tokens"] == asyncio.run(all_expected())
    assert "vllm_xargs.ampsweep.factor: input should be a valid number" in answers["refusal"]
    reason, message, tokens = answers["ended"]
    assert (reason, tokens) == ("error", 1), "the first token does not depend on the answer"
    assert message.startswith("the intervention is too strong")
