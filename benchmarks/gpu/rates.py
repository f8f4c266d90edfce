"""Tokens a second on a GPU: stock vLLM, the idle patched engine, distinct interventions in a batch, and recording.

The engines share the card and take turns, so that what disturbs the machine disturbs all of them.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ampsweep.folders.corpus import Sentence
from benchmarks.gpu.parts import Parts
from benchmarks.timed_runs.rounds import Variants, ratio, time_rounds
from benchmarks.timed_runs.stock_vllm import StockVllm
from benchmarks.timed_runs.vllm_runs import VllmRuns
from benchmarks.timed_runs.workload import GeneratedItem, ScoredItem, Texts, in_turn, neuron_set
from engine.vllm.engine import VllmEngine
from engine.vllm.settings import VllmSettings

CARD_SHARE = 0.3
"""Share of the card that each stock engine may take."""
PARTS = ("idle", "generation", "scoring", "recording")
_SENTENCES = 8
"""Recorded sentences for each request of a run."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is generated, and under how many distinct interventions.

    Attributes:
        requests: Requests in a run; all are in flight at once.
        prompt: Tokens of a prompt.
        new_tokens: Tokens of an answer.
        distinct: Numbers of distinct interventions; 0 stands for none.
        rounds: Timed rounds.
    """

    requests: int = 256
    prompt: int = 32
    new_tokens: int = 128
    distinct: tuple[int, ...] = (0, 1, 4, 16, 64, 256)
    rounds: int = 3


def generated(prompts: Sequence[str], distinct: int, new_tokens: int) -> list[GeneratedItem]:
    """Return requests to continue the prompts, with `distinct` interventions."""
    return [
        GeneratedItem(prompt=prompt, new_tokens=new_tokens, intervention=number)
        for prompt, number in zip(prompts, in_turn(distinct, len(prompts)), strict=True)
    ]


def scored(texts: Sequence[tuple[str, str]], distinct: int) -> list[ScoredItem]:
    """Return requests to score the second text of each pair after the first, with `distinct` interventions."""
    return [
        ScoredItem(context=context, option=option, intervention=number)
        for (context, option), number in zip(texts, in_turn(distinct, len(texts)), strict=True)
    ]


class GpuRates:
    """The comparisons on one model; each method returns seconds and ratios by variant."""

    def __init__(self, engine: VllmEngine, load: Load) -> None:
        """Use `engine`, which has as many slots as the load has distinct interventions."""
        self._engine, self._load = engine, load
        self._runs, self._texts = VllmRuns(engine), Texts()
        engine.add_neurons(neuron_set(engine.info, max(load.distinct)))

    async def distinct(self) -> dict[str, Any]:
        """Generate under different numbers of distinct interventions."""
        load = self._load

        async def run(prompts: list[str], distinct: int) -> None:
            await self._runs.generate(generated(prompts, distinct, load.new_tokens))

        variants = {_named(distinct): partial(run, distinct=distinct) for distinct in load.distinct}
        make = partial(self._texts.texts, load.requests, load.prompt)
        seconds = await time_rounds(make, variants, rounds=load.rounds)
        return _compared(seconds, base=_named(0), tokens=load.requests * load.new_tokens)

    async def scoring(self) -> dict[str, Any]:
        """Score short texts under different numbers of distinct interventions, beside generation of one token."""
        load = self._load

        async def run(texts: list[tuple[str, str]], distinct: int) -> None:
            await self._runs.score(scored(texts, distinct))

        async def forward(texts: list[tuple[str, str]]) -> None:
            await self._runs.generate(generated([context + option for context, option in texts], 0, 1))

        def make() -> list[tuple[str, str]]:
            texts = self._texts.texts(2 * load.requests, load.prompt)
            return list(zip(texts[::2], texts[1::2], strict=True))

        variants: Variants[list[tuple[str, str]]] = {
            "forward pass": forward,
            **{_named(distinct): partial(run, distinct=distinct) for distinct in load.distinct},
        }
        seconds = await time_rounds(make, variants, rounds=load.rounds)
        return _compared(seconds, base="forward pass", tokens=2 * load.requests * load.prompt)

    async def recording(self) -> dict[str, Any]:
        """Record sentences, beside generation of one token after each."""
        load = self._load

        async def record(texts: list[str]) -> None:
            await self._runs.record([Sentence(language="en", text=text) for text in texts])

        async def prefill(texts: list[str]) -> None:
            await self._runs.generate(generated(texts, 0, 1))

        make = partial(self._texts.texts, _SENTENCES * load.requests, load.prompt)
        variants: Variants[list[str]] = {"prefill": prefill, "recording": record}
        seconds = await time_rounds(make, variants, rounds=load.rounds)
        return _compared(seconds, base="prefill", tokens=_SENTENCES * load.requests * load.prompt)

    async def idle(self, stocks: Mapping[str, StockVllm]) -> dict[str, Any]:
        """Generate without interventions, on stock engines and on the patched one."""
        load = self._load
        sampling = {"max_tokens": load.new_tokens, "ignore_eos": True}

        def prompts() -> list[dict[str, Any]]:
            texts = self._texts.texts(load.requests, load.prompt)
            return [{"prompt_token_ids": list(text.encode())} for text in texts]

        async def on_stock(work: list[dict[str, Any]], stock: StockVllm) -> float:
            return await asyncio.to_thread(stock.run, work, sampling)

        variants: Variants[list[dict[str, Any]]] = {
            "patched": partial(self._runs.plain, sampling=sampling),
            **{name: partial(on_stock, stock=stock) for name, stock in stocks.items()},
        }
        seconds = await time_rounds(prompts, variants, rounds=load.rounds)
        return _compared(seconds, base=next(iter(stocks)), tokens=load.requests * load.new_tokens)


async def rates(
    folder: Path,
    parts: Parts,
    *,
    load: Load,
    settings: VllmSettings,
    dtype: str,
    stock: Mapping[str, Mapping[str, Any]],
) -> None:
    """Open the engines on the model in `folder` and measure.

    Args:
        folder: The model's folder.
        parts: Where the results go.
        load: What is generated.
        settings: Settings of the patched engine; its KV cache must have a size, so that the stock engines find room.
        dtype: The dtype of all engines.
        stock: The arguments of each stock engine, by name; the first one is the base of the ratios.
    """
    assert settings.kv_cache_bytes is not None
    engine = await VllmEngine.open(
        folder, dtype=dtype, settings=replace(settings, slots=max(load.distinct), max_num_seqs=load.requests)
    )
    common = {
        "dtype": dtype,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": load.requests,
        "kv_cache_memory_bytes": settings.kv_cache_bytes,
    }
    measured = GpuRates(engine, load)

    async def idle() -> dict[str, Any]:
        stocks = {name: StockVllm(folder, {**common, **arguments}) for name, arguments in stock.items()}
        try:
            return await measured.idle(stocks)
        finally:
            for stock_engine in stocks.values():
                stock_engine.close()

    parts.add("setting", {"versions": dict(engine.info.versions), "dtype": dtype, "load": asdict(load)})
    measures = (idle, measured.distinct, measured.scoring, measured.recording)
    for name, measure in zip(PARTS, measures, strict=True):
        await parts.run(name, measure)
    await engine.close()


def _named(distinct: int) -> str:
    return f"{distinct} interventions"


def _compared(seconds: Mapping[str, list[float]], *, base: str, tokens: int) -> dict[str, Any]:
    """Return seconds, tokens a second in the median round, and the speed relative to the variant `base`."""
    return {
        variant: {
            "seconds": times,
            "tokens/s": round(tokens / statistics.median(times)),
            "ratio": asdict(ratio(times, seconds[base])),
        }
        for variant, times in seconds.items()
    }
