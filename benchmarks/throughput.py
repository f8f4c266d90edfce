"""Generation and scoring: plain vLLM, steered vLLM, and a Hugging Face model with hooks, in one run.

The model is Qwen2-shaped with random weights. Steered vLLM gets requests that carry as many distinct interventions as
asked for, each on 1 % of the neurons, mixed in one batch; hooks can do one intervention a batch, and do it in batches
of 16. Every variant runs once to warm up, then all of them in turn `--rounds` times; medians count.

Usage: python -m benchmarks.throughput --out FILE.json [--distinct 1 8 64] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from benchmarks.hooks_baseline import HooksBaseline
from benchmarks.random_model import random_model
from engine.intervention import Intervention
from engine.neuron_set import NeuronSet
from engine.protocol import EngineInfo, GenerateRequest, Sampling, ScoreRequest, Steering
from engine.vllm_engine import VllmEngine
from engine.vllm_patch.launch import VllmSettings

REQUESTS = 128
PROMPT_TOKENS = 32
OPTION_TOKENS = 24
NEW_TOKENS = 32
SHARE = 0.01
SEED = 0


def neuron_set(info: EngineInfo, languages: int) -> NeuronSet:
    """Give each of `languages` made-up languages 1 % of the neurons of each layer, drawn at random."""
    rng = np.random.default_rng(SEED)
    each = round(info.width * SHARE)

    def draw() -> np.ndarray:
        layers = [np.sort(rng.choice(info.width, each, replace=False)) for _ in range(info.layers)]
        return np.array([(at, int(index)) for at, layer in enumerate(layers) for index in layer], dtype=np.int32)

    return NeuronSet(
        id="ns_benchmark",
        model=info.model,
        fingerprint=info.fingerprint,
        layers=info.layers,
        width=info.width,
        method="random",
        params={"seed": SEED},
        neurons={f"l{number}": draw() for number in range(languages)},
    )


def texts(count: int, length: int, seed: int) -> list[str]:
    """Return texts of `length` letters, one token each."""
    rng = np.random.default_rng(seed)
    return ["".join(row) for row in rng.choice(list(ascii_lowercase), (count, length))]


def steerings(distinct: int, requests: int) -> list[Steering | None]:
    """Return a steering for each request, `distinct` different ones in turn; none at all for 0."""
    if distinct == 0:
        return [None] * requests
    made = [
        Steering(
            intervention=Intervention.from_dict({"languages": [f"l{number}"], "op": "scale", "factor": 1.5}),
            neurons="ns_benchmark",
        )
        for number in range(distinct)
    ]
    return [made[at % distinct] for at in range(requests)]


class VllmRuns:
    """What is timed on vLLM; each run has prompts of its own, so that no prefix cache answers for the model."""

    def __init__(self, engine: VllmEngine, *, requests: int = REQUESTS) -> None:
        self.engine = engine
        self.requests = requests
        self.seed = SEED

    def prompts(self) -> list[str]:
        """Return prompts that no run had before."""
        self.seed += 1
        return texts(self.requests, PROMPT_TOKENS, self.seed)

    async def generate(self, distinct: int) -> int:
        """Continue all prompts; return the number of new tokens."""

        async def one(prompt: str, steering: Steering | None) -> int:
            sampling = Sampling(max_tokens=NEW_TOKENS, ignore_eos=True)
            request = GenerateRequest(prompt=prompt, sampling=sampling, steering=steering)
            return sum([len(chunk.token_ids) async for chunk in self.engine.generate(request)])

        return sum(await asyncio.gather(*map(one, self.prompts(), steerings(distinct, self.requests))))

    async def score(self, distinct: int) -> int:
        """Score a continuation after each prompt; return the number of tokens, those of the prompts too."""

        async def one(prompt: str, option: str, steering: Steering | None) -> int:
            score = await self.engine.score(ScoreRequest(context=prompt, continuation=option, steering=steering))
            return score.context_tokens + len(score.token_ids)

        options = texts(self.requests, OPTION_TOKENS, self.seed)
        return sum(await asyncio.gather(*map(one, self.prompts(), options, steerings(distinct, self.requests))))


async def measure(variants: dict[str, Callable[[], Awaitable[int]]], rounds: int) -> dict[str, float]:
    """Return each variant's median rate in tokens a second over the rounds, after one warm-up."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            started = time.perf_counter()
            tokens = await run()
            if number:
                rates[name].append(tokens / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


async def run(folder: Path, distinct: Sequence[int], rounds: int) -> dict[str, object]:
    """Run the benchmark on the model in `folder` and return its report."""
    settings = VllmSettings(kv_cache_bytes=1024**3, max_model_len=256)
    engine = await VllmEngine.open(folder, settings=settings)
    engine.add_neurons(neuron_set(engine.info, max(distinct)))
    runs, hooks = VllmRuns(engine), HooksBaseline(folder, share=SHARE, seed=SEED)

    async def hooked_generate() -> int:
        return await asyncio.to_thread(hooks.generate, runs.prompts(), NEW_TOKENS)

    async def hooked_score() -> int:
        return await asyncio.to_thread(hooks.score, runs.prompts(), texts(REQUESTS, OPTION_TOKENS, runs.seed))

    generate = {f"vllm, {n} interventions": lambda n=n: runs.generate(n) for n in (0, *distinct)}
    score = {f"vllm, {n} interventions": lambda n=n: runs.score(n) for n in (0, *distinct)}
    report: dict[str, object] = {
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "versions": dict(engine.info.versions),
        "model": {"parameters": hooks.parameters, "layers": engine.info.layers, "neurons a layer": engine.info.width},
        "work": {
            "requests": REQUESTS,
            "prompt tokens": PROMPT_TOKENS,
            "new tokens": NEW_TOKENS,
            "option tokens": OPTION_TOKENS,
            "share of neurons": SHARE,
            "rounds": rounds,
            "seed": SEED,
        },
        "generate": with_ratios(await measure({**generate, "transformers with hooks": hooked_generate}, rounds)),
        "score": with_ratios(await measure({**score, "transformers with hooks": hooked_score}, rounds)),
    }
    await engine.close()
    return report


def with_ratios(rates: dict[str, float]) -> dict[str, dict[str, float]]:
    """Put beside each rate its ratio to the first, the unsteered one."""
    first = next(iter(rates.values()))
    return {name: {"tokens/s": round(rate, 1), "ratio": round(rate / first, 3)} for name, rate in rates.items()}


def main() -> None:
    """Read the arguments, run, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--distinct", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        random_model(Path(folder), seed=SEED)
        report = asyncio.run(run(Path(folder), options.distinct, options.rounds))
    text = json.dumps(report, indent=2)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
