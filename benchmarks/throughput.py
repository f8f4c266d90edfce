"""Measures what steering, scoring and recording cost, as ratios within one run.

The model is Qwen2-shaped with random weights (`benchmarks.models.qwen2`). It runs on Ampsweep's vLLM engine, on an
unpatched vLLM in a separate process, and on a Hugging Face model with forward hooks. The variants of a comparison
alternate, each with new work of the same size and kind; a ratio is the median of the ratios within each round.

Usage: python -m benchmarks.throughput [--out FILE.json] [--docs FILE.md] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ampsweep.folders.corpus import Sentence
from benchmarks.models.qwen2 import random_model
from benchmarks.timed_runs.hooks_baseline import HooksBaseline
from benchmarks.timed_runs.report import THROUGHPUT, tables, write_between_markers
from benchmarks.timed_runs.rounds import Variants, time_rounds
from benchmarks.timed_runs.stock_vllm import StockVllm
from benchmarks.timed_runs.vllm_runs import VllmRuns
from benchmarks.timed_runs.workload import SEED, GeneratedItem, ScoredItem, Texts, in_turn, neuron_set
from engine.vllm.engine import VllmEngine
from engine.vllm.settings import VllmSettings

DISTINCT = (0, 1, 8, 64, 256)
REQUESTS, PROMPT, NEW_TOKENS = 256, 16, 16
SCORED, SCORED_DISTINCT = 64, 4
OPTION = (20, 60)
CONTEXTS = {1: (20, 60), 4: (40, 100)}  # by the number of options for each context
SWEEP = 64  # number of interventions, and of items for each of them
SWEEP_PROMPT, SWEEP_ANSWER = (4, 8), 4
LANGUAGES, SENTENCES, SENTENCE = 1, 500, (10, 50)
SETTINGS = VllmSettings(kv_cache_bytes=1024**3, max_model_len=256)
STOCK = {"dtype": "float32", "kv_cache_memory_bytes": 1024**3, "max_model_len": 256, "max_num_seqs": 256}
ONE_TOKEN = {"max_tokens": 1, "detokenize": False}
WORKLOAD: dict[str, dict[str, Any]] = {
    "generation, idle": {"requests": REQUESTS, "prompt": PROMPT, "new tokens": NEW_TOKENS},
    "scoring": {"options": SCORED, "interventions": SCORED_DISTINCT, "tokens": OPTION, "contexts": CONTEXTS},
    "sweep": {
        "interventions": SWEEP,
        "items": SWEEP,
        "prompt": SWEEP_PROMPT,
        "mean answer": SWEEP_ANSWER,
    },
    "recording": {"languages": LANGUAGES, "sentences": SENTENCES, "tokens": SENTENCE},
}
"""The work of each suite. Lengths are in tokens; a pair is the shortest and the longest."""

Seconds = dict[str, list[float]]


class Suites:
    """The comparisons; each method returns the seconds of its variants, by round."""

    def __init__(self, runs: VllmRuns, stock: StockVllm, hooks: HooksBaseline, *, rounds: int) -> None:
        """Compare the steered engine, the unpatched vLLM and the hooks."""
        self._runs, self._stock, self._hooks, self._rounds = runs, stock, hooks, rounds
        self._texts = Texts()

    async def generation(self, *, vector: bool = False) -> Seconds:
        """Generate with different numbers of distinct interventions in a batch, on neurons or the residual stream."""
        kind = "vectors" if vector else "interventions"

        async def run(prompts: list[str], distinct: int) -> None:
            numbers = in_turn(distinct, len(prompts))
            pairs = zip(prompts, numbers, strict=True)
            await self._runs.generate(
                [
                    GeneratedItem(prompt=prompt, new_tokens=NEW_TOKENS, intervention=number, vector=vector)
                    for prompt, number in pairs
                ]
            )

        variants = {f"{distinct} {kind}": partial(run, distinct=distinct) for distinct in DISTINCT}
        return await time_rounds(partial(self._texts.texts, REQUESTS, PROMPT), variants, rounds=self._rounds)

    async def idle(self) -> Seconds:
        """Generate without interventions, with and without the patch."""
        sampling = {"max_tokens": NEW_TOKENS, "ignore_eos": True}

        async def stock(prompts: list[dict[str, Any]]) -> float:
            return await asyncio.to_thread(self._stock.run, prompts, sampling)

        variants: Variants[list[dict[str, Any]]] = {
            "patched": partial(self._runs.plain, sampling=sampling),
            "stock": stock,
        }
        return await time_rounds(
            lambda: list(map(self._prompt, self._texts.texts(REQUESTS, PROMPT))), variants, rounds=self._rounds
        )

    async def scoring(self, options: int) -> Seconds:
        """Score options, with `options` of them for each context."""

        async def stock(items: list[ScoredItem], sampling: dict[str, Any]) -> float:
            prompts = [self._prompt(item.context + item.option, salt=item.intervention) for item in items]
            return await asyncio.to_thread(self._stock.run, prompts, sampling)

        async def hooks(items: list[ScoredItem]) -> None:
            await asyncio.to_thread(self._hooks.score, items)

        async def same_blocks(items: list[ScoredItem]) -> float:
            prompts = [self._prompt(item.context + item.option, salt=item.intervention) for item in items]
            return await self._plain(prompts, ONE_TOKEN)

        variants: dict[str, Callable[[list[ScoredItem]], Awaitable[float | None]]] = {
            "scoring": self._runs.score,
            "forward pass": partial(stock, sampling=ONE_TOKEN),
            "prompt_logprobs": partial(stock, sampling={**ONE_TOKEN, "prompt_logprobs": 0}),
            "hooks": hooks,
        }
        if options > 1:
            variants["forward pass, shared contexts"] = same_blocks
        make = partial(
            self._texts.scored,
            SCORED,
            context=CONTEXTS[options],
            option=OPTION,
            options=options,
            distinct=SCORED_DISTINCT,
        )
        return await time_rounds(make, variants, rounds=self._rounds)

    async def sweep(self) -> Seconds:
        """Generate the short answers of a sweep, with the interventions mixed and one after the other."""

        def make() -> list[GeneratedItem]:
            prompts = self._texts.texts(SWEEP, *SWEEP_PROMPT)
            return [
                GeneratedItem(prompt=prompt, new_tokens=length, intervention=number)
                for number in range(SWEEP)
                for prompt, length in zip(prompts, self._texts.answers(SWEEP, mean=SWEEP_ANSWER), strict=True)
            ]

        async def one_at_a_time(items: Sequence[GeneratedItem]) -> None:
            for start in range(0, len(items), SWEEP):
                await self._runs.generate(items[start : start + SWEEP])

        variants = {"mixed": self._runs.generate, "one intervention at a time": one_at_a_time}
        return await time_rounds(make, variants, rounds=2, warm_up=False)

    async def recording(self) -> Seconds:
        """Run sentences through the model with and without recording."""

        def make() -> list[Sentence]:
            texts = self._texts.texts(LANGUAGES * SENTENCES, *SENTENCE)
            return [Sentence(language=f"l{index // SENTENCES}", text=text) for index, text in enumerate(texts)]

        async def prefill(sentences: Sequence[Sentence]) -> float:
            return await self._plain([self._prompt(sentence.text) for sentence in sentences], ONE_TOKEN)

        variants = {"recording": self._runs.record, "prefill": prefill}
        return await time_rounds(make, variants, rounds=max(1, self._rounds // 2))

    async def _plain(self, prompts: Sequence[dict[str, Any]], sampling: dict[str, Any]) -> float:
        """Return the seconds that unsteered requests take on the patched engine."""
        started = time.perf_counter()
        await self._runs.plain(prompts, sampling)
        return time.perf_counter() - started

    def _prompt(self, text: str, salt: int | None = None) -> dict[str, Any]:
        prompt: dict[str, Any] = {"prompt_token_ids": self._hooks.tokenizer.encode(text)}
        return prompt if salt is None else {**prompt, "cache_salt": str(salt)}


async def run(folder: Path, *, rounds: int, only: Sequence[str]) -> dict[str, Any]:
    """Run the benchmark on the model in `folder` and return its report; `only` names the suites (default all)."""
    hooks = HooksBaseline(folder)
    stock = StockVllm(folder, STOCK)
    engine = await VllmEngine.open(folder, settings=SETTINGS)
    engine.add_neurons(neuron_set(engine.info, max(DISTINCT)))
    suites = Suites(VllmRuns(engine), stock, hooks, rounds=rounds)
    by_name: dict[str, Callable[[], Awaitable[Seconds]]] = {
        "generation": suites.generation,
        "generation, residual stream": partial(suites.generation, vector=True),
        "idle": suites.idle,
        "scoring": partial(suites.scoring, 1),
        "scoring, 4 options to a context": partial(suites.scoring, 4),
        "sweep": suites.sweep,
        "recording": suites.recording,
    }
    seconds: dict[str, Seconds] = {}
    for name, suite in by_name.items():
        if not only or name in only:
            seconds[name] = await suite()
            print(name, json.dumps(seconds[name]), file=sys.stderr, flush=True)
    report: dict[str, Any] = {
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
        },
        "versions": dict(engine.info.versions),
        "model": {"parameters": hooks.parameters, "layers": engine.info.layers, "neurons a layer": engine.info.width},
        "seed": SEED,
        "workload": WORKLOAD,
        "seconds": seconds,
    }
    await engine.close()
    stock.close()
    return report


def main() -> None:
    """Run the benchmark; print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/throughput.json"))
    parser.add_argument("--docs", type=Path, help="a page in which to replace the tables between the markers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[], help="suites to run; default all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        random_model(Path(folder), seed=SEED)
        report = asyncio.run(run(Path(folder), rounds=options.rounds, only=options.only))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    text = tables(report)
    if options.docs is not None:
        write_between_markers(options.docs, text, section=THROUGHPUT)
    print(text)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
