"""Compares steering on vLLM with plain forward hooks, on real models, tasks and text.

For each model and data type, vLLM records a corpus, and LAPE selects neurons. Then vLLM answers items of `lss`,
`xcopa`, `perplexity` and `generation`, unsteered and under each intervention of `cases`, all in one batch.
`PlainModel`, which shares no code with the engines, records the same sentences and computes the log-probabilities of
the same tokens; generated tokens are compared with its likeliest ones. In 16 bits, both are also compared with
`PlainModel` in float32, which tells rounding from errors. Each combination runs in its own process. Prints one Markdown
table, and writes all figures as JSON. With `--adapter`, all answers are given with a random LoRA adapter for every
projection, and plain hooks run on the model into which the adapter is merged.

Usage: python -m benchmarks.real_models MODEL [MODEL ...] --data DATA --corpus CORPUS [--out FILE.json]
    [--dtypes float32,bfloat16] [--languages en,fr,id,ja,ru,tr] [--items 12] [--sentences 20] [--adapter] [--eager]

MODEL is a Hugging Face folder, DATA a folder with data sets as `ampsweep serve --data` takes it, with mLAMA and XCOPA,
and CORPUS a folder with one text file a language.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.neuron_set import IdentificationRequest
from ampsweep.folders.corpus import Corpus, Sentence
from benchmarks.comparisons.answer_differences import Answered, Expected, compare_answers, rounding
from benchmarks.comparisons.plain_model import Change, PlainModel, Recorded, unchanged
from benchmarks.models.adapter import tiny_adapter
from engine.base import GenerateRequest, ScoreRequest, Steering
from engine.identify.identification import neuron_set_of, select
from engine.identify.record_request import RecordRequest
from engine.identify.stats import ActivationStats
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.engine import VllmEngine
from engine.vllm.settings import VllmSettings
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.spec.sweep import parse_spec
from jobs.tasks.loading import load_items
from jobs.tasks.requests import Call, ScoreCall

LAPE = IdentificationRequest.of("lape")
SETTINGS = VllmSettings(slots=16, max_num_seqs=64, kv_cache_bytes=1024**3)
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Those that the adapter changes, in every layer."""
ADAPTER_SCALE = 0.03
"""Standard deviation of the adapter's matrices: it changes answers much, and leaves them readable."""


class Case(NamedTuple):
    """A named intervention in its JSON form, or None."""

    name: str
    raw: dict[str, Any] | None


def cases(layers: int) -> tuple[Case, ...]:
    """Return no intervention, one of each op, and a vector in the residual stream."""
    return (
        Case("unsteered", None),
        Case("set to p_max", {"languages": ["fr"], "op": "set", "patch": "max"}),
        Case("set to p_median", {"languages": ["ja"], "op": "set", "patch": "median"}),
        Case("scaled by 0", {"languages": ["ja"], "op": "scale", "factor": 0.0}),
        Case("difference added", {"languages": ["ru"], "op": "add", "patch": "difference", "factor": 1.0}),
        Case(
            "diffmean_raw added",
            {"languages": ["tr"], "op": "add", "vector": "diffmean_raw", "factor": 1.0, "layers": [layers // 2]},
        ),
    )


def plain_changes(raw: dict[str, Any] | None, neurons: NeuronSet, dtype: torch.dtype) -> tuple[Change, Change]:
    """Return what an intervention does to activations and to the residual stream, implemented independently."""
    if raw is None:
        return unchanged, unchanged
    language = neurons.languages.index(raw["languages"][0])
    if "vector" in raw:
        means = np.asarray(neurons.residual_mean, dtype=np.float64)
        others = np.delete(means, language, axis=0).mean(0)
        vectors = torch.from_numpy(raw["factor"] * (means[language] - others)).float()
        chosen = set(raw["layers"])

        def shift(layer: int, values: Tensor) -> Tensor:
            return (values.float() + vectors[layer]).to(dtype) if layer in chosen else values

        return unchanged, shift
    assert neurons.patch is not None, "the set was recorded"
    pairs = neurons.neurons[neurons.languages[language]]
    patch = raw.get("patch")
    if patch == "difference":
        mean = neurons.patch.mean.astype(np.float64)
        table: NDArray[Any] = mean[language] - np.delete(mean, language, axis=0).mean(0)
    else:
        table = np.ones(neurons.widths.shape) if patch is None else getattr(neurons.patch, patch)[language]
    indices = [torch.from_numpy(pairs[pairs[:, 0] == layer, 1].astype(np.int64)) for layer in range(neurons.layers)]
    magnitudes = torch.from_numpy(np.asarray(table, dtype=np.float32)) * raw.get("factor", 1.0)

    def edit(layer: int, values: Tensor) -> Tensor:
        edited, magnitude = indices[layer], magnitudes[layer][indices[layer]]
        values = values.clone()
        before = values[..., edited].float()
        after = {"set": magnitude.expand_as(before), "scale": before * magnitude, "add": before + magnitude}[raw["op"]]
        values[..., edited] = after.to(dtype)
        return values

    return edit, unchanged


def calls_of(model: Path, data: Path, corpus: Path, *, items: int) -> Iterator[tuple[str, Call]]:
    """Yield the calls of the unsteered cells of a sweep over all tasks, with the task's name."""
    spec = {
        "name": "calls",
        "model": "model",
        "neurons": {"method": "lape", "corpus": "corpus", "languages": ["en", "fr", "ja"]},
        "interventions": {"languages": ["fr", "ja"], "op": "scale", "factors": [0]},
        "tasks": [
            {"name": "lss", "languages": ["en"], "limit": items, "data": "mlama"},
            {"name": "xcopa", "languages": ["id"], "limit": items},
            {"name": "perplexity", "languages": ["en", "ja"], "limit": max(items // 4, 1)},
            {"name": "generation", "languages": ["en"], "limit": max(items // 4, 1), "max_tokens": 16},
        ],
        "seed": 0,
    }
    catalog = Catalog(models={"model": model}, corpora={"corpus": corpus}, data=data)
    with tempfile.TemporaryDirectory() as folder:
        cells = plan(parse_spec(spec), catalog, NeuronSets(Path(folder)))
        for cell in (cell for cell in cells if cell.intervention is None):
            for item in load_items(cell, catalog).items:
                for call in item.calls:
                    yield cell.task.name, call


async def answer_all(
    engine: VllmEngine,
    plain: PlainModel,
    neurons: NeuronSet,
    calls: Sequence[tuple[str, Call]],
    *,
    adapter: str | None = None,
) -> list[Answered]:
    """Return vLLM's answers to all calls under all interventions, in one batch."""

    async def answer(task: str, call: Call, case: Case) -> Answered:
        steering = (
            None if case.raw is None else Steering(intervention=Intervention.from_dict(case.raw), neurons=neurons.id)
        )
        if isinstance(call, ScoreCall):
            request = ScoreRequest(
                context=call.context,
                continuation=call.continuation,
                split=call.split,
                options=call.options,
                steering=steering,
                adapter=adapter,
            )
            score = await engine.score(request)
            assert isinstance(call.context, str), "no task is asked through the chat template"
            ids = plain.token_ids(call.context + call.continuation, whole=not call.context)
            assert tuple(ids[-len(score.token_ids) :]) == score.token_ids, "vLLM scored the tokens of the whole text"
            return Answered(task=task, case=case.name, ids=ids, token_ids=score.token_ids, logprobs=score.logprobs)
        sampling = SamplingParams(max_tokens=call.max_tokens)
        prompt = GenerateRequest(
            prompt=call.prompt, strip=call.strip, sampling=sampling, steering=steering, adapter=adapter
        )
        chunks = [chunk async for chunk in engine.generate(prompt)]
        tokens = tuple(token for chunk in chunks for token in chunk.token_ids)
        assert isinstance(call.prompt, str), "no task is asked through the chat template"
        text = call.prompt.rstrip() if call.strip else call.prompt
        return Answered(
            task=task,
            case=case.name,
            ids=[*plain.token_ids(text), *tokens],
            token_ids=tokens,
            logprobs=tuple(value for chunk in chunks for value in chunk.logprobs),
        )

    requests = [answer(task, call, case) for task, call in calls for case in cases(neurons.layers)]
    return await asyncio.gather(*requests)


def expect(plain: PlainModel, neurons: NeuronSet, answers: Sequence[Answered]) -> list[Expected]:
    """Return what plain hooks give for each answer under its intervention."""
    expected = []
    interventions = {case.name: case.raw for case in cases(neurons.layers)}
    dtype: torch.dtype = plain.model.dtype
    for answer in answers:
        activation, residual = plain_changes(interventions[answer.case], neurons, dtype)
        logprobs = plain.logprobs(answer.ids, activation=activation, residual=residual)
        count, tokens = len(answer.token_ids), torch.tensor(answer.token_ids)
        before = logprobs[len(answer.ids) - count - 1 : len(answer.ids) - 1]
        values = before.gather(-1, tokens[:, None])[:, 0].tolist()
        expected.append(Expected(values, (before.argmax(-1) == tokens).tolist()))
    return expected


def plain_stats(plain: PlainModel, sentences: Sequence[Sentence], like: ActivationStats) -> ActivationStats:
    """Return the statistics of the sentences as plain hooks give them."""
    recorded: defaultdict[str, list[Recorded]] = defaultdict(list)
    for sentence in sentences:
        recorded[sentence.language].append(plain.record(sentence.text))
    by_language = [recorded[language] for language in like.languages]
    means = [np.stack([sentence.mean for sentence in sentences]) for sentences in by_language]
    tokens = np.array([sum(sentence.tokens for sentence in sentences) for sentences in by_language])
    residuals = np.stack([np.sum([sentence.residual for sentence in sentences], axis=0) for sentences in by_language])
    return replace(
        like,
        counts=np.stack([np.sum([sentence.positive for sentence in sentences], axis=0) for sentences in by_language]),
        tokens=tokens,
        patch_max=np.stack([values.max(0) for values in means]),
        patch_mean=np.stack([values.mean(0) for values in means]),
        residual_mean=(residuals / tokens[:, None, None]).astype(np.float32),
    )


def compare_recordings(recorded: ActivationStats, plain: ActivationStats) -> dict[str, Any]:
    """Return how far two recordings of the same sentences are apart."""
    assert recorded.tokens.tolist() == plain.tokens.tolist(), "both recorded the same tokens"
    first, second = (
        {(language, *pair) for language, pairs in select(LAPE, stats).items() for pair in pairs.tolist()}
        for stats in (recorded, plain)
    )
    scale = float(np.abs(plain.residual_mean).max())
    return {
        "tokens": int(recorded.tokens.sum()),
        "counts that differ": float((recorded.counts != plain.counts).mean()),
        "largest difference of a share": float(
            (np.abs(recorded.counts - plain.counts).max((1, 2)) / recorded.tokens).max()
        ),
        "largest difference of p_max": float(np.abs(recorded.patch_max - plain.patch_max).max()),
        "largest difference of a residual, over the largest": float(
            np.abs(recorded.residual_mean - plain.residual_mean).max() / scale
        ),
        "neurons of LAPE": len(first),
        "neurons of LAPE in both": len(first & second),
    }


async def compare(model: Path, dtype: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one model in one data type on vLLM and with plain hooks."""
    with tempfile.TemporaryDirectory() as folder:
        return await _compare(model, dtype, options, Path(folder))


async def _compare(model: Path, dtype: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Do the same; the sentences and the adapter, if there is one, are written to `folder`."""
    corpus = first_sentences(options.corpus, folder / "corpus", options.languages.split(","), options.sentences)
    sentences = list(corpus.sentences())
    settings, merged, adapter = replace(SETTINGS, compile=not options.eager), model, None
    if options.adapter:
        adapter = "random"
        path, merged = tiny_adapter(model, folder / adapter, targets=PROJECTIONS, seed=0, scale=ADAPTER_SCALE)
        settings = replace(settings, adapters={adapter: path})
    calls = list(calls_of(model, options.data, options.corpus, items=options.items))
    seconds: dict[str, float] = {}

    def lap(name: str, began: float) -> None:
        seconds[name] = time.perf_counter() - began

    began = time.perf_counter()
    engine = await VllmEngine.open(model, dtype=dtype, settings=settings)
    lap("vLLM starts", began)
    began = time.perf_counter()
    stats = await engine.record(sentences, RecordRequest(max_tokens=LAPE.max_tokens))
    lap("vLLM records", began)
    neurons = neuron_set_of(stats, LAPE, corpus=corpus, info=engine.info)
    engine.add_neurons(neurons)
    plain = PlainModel(model, dtype)
    began = time.perf_counter()
    answers = await answer_all(engine, plain, neurons, calls, adapter=adapter)
    lap("vLLM answers", began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    await engine.close()
    began = time.perf_counter()
    expected = plain_stats(plain, sentences, stats)
    lap("hooks record", began)
    if adapter is not None:
        plain = PlainModel(merged, dtype)
    began = time.perf_counter()
    hooks = expect(plain, neurons, answers)
    lap("hooks answer", began)
    exact = None if dtype == "float32" else expect(PlainModel(merged, "float32"), neurons, answers)
    return {
        "model": model.name if adapter is None else f"{model.name} with an adapter",
        "dtype": dtype,
        "versions": dict(engine.info.versions),
        "requests": len(answers),
        "neurons": {language: len(pairs) for language, pairs in neurons.neurons.items()},
        "recording": compare_recordings(stats, expected),
        "answers": compare_answers(answers, hooks),
        "rounding": {} if exact is None else rounding(answers, hooks, exact),
        "seconds": seconds,
        "peak memory, bytes": peak,
    }


def first_sentences(corpus: Path, folder: Path, languages: Sequence[str], count: int) -> Corpus:
    """Write the first `count` sentences of each language of a corpus into `folder`, and return that corpus."""
    texts_of: defaultdict[str, list[str]] = defaultdict(list)
    for sentence in Corpus.open(corpus, languages=languages).sentences():
        if len(texts_of[sentence.language]) < count:
            texts_of[sentence.language].append(sentence.text)
    folder.mkdir()
    for language, texts in texts_of.items():
        (folder / f"{language}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return Corpus.open(folder, name="real-models")


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table with one column for each model and data type."""
    heads = [f"{result['model']}, {result['dtype']}" for result in results]
    rows: list[tuple[str, list[str]]] = []
    for name in results[0]["answers"]:
        if name == "greedy":
            values = [
                f"{result['answers'][name]['equal']} of {result['answers'][name]['tokens']}" for result in results
            ]
            rows.append(("generated tokens that plain hooks find likeliest", values))
        else:
            differences = [result["answers"][name] for result in results]
            cells = [f"{difference['largest']:.2g} ({difference['mean']:.1g})" for difference in differences]
            rows.append((f"{name}: largest (mean)", cells))
    for case in results[0]["rounding"] if all(result["rounding"] for result in results) else ():
        values = [" / ".join(f"{value:.2g}" for value in result["rounding"][case].values()) for result in results]
        rows.append((f"root mean square, {case}: {' / '.join(results[0]['rounding'][case])}", values))
    rows += [(name, [_figure(result["recording"][name]) for result in results]) for name in results[0]["recording"]]
    rows += [(f"{name}, s", [f"{result['seconds'][name]:.1f}" for result in results]) for name in results[0]["seconds"]]
    rows.append(("peak memory, GB", [f"{result['peak memory, bytes'] / 1e9:.1f}" for result in results]))
    lines = [f"| | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(values)} |" for name, values in rows)])


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2g}"


def main() -> None:
    """Compare all models, each in its own process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--languages", default="en,fr,id,ja,ru,tr")
    parser.add_argument("--items", type=int, default=12)
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--adapter", action="store_true", help="answer with a random LoRA adapter")
    parser.add_argument("--eager", action="store_true", help="do not compile the model")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        result = asyncio.run(compare(options.models[0], options.dtypes, options))
        options.out.write_text(json.dumps(result), encoding="utf-8")
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            for dtype in options.dtypes.split(","):
                out = Path(folder) / "result.json"
                arguments = {**vars(options), "dtypes": dtype, "out": out}
                flags = [f"--{name}" for name, value in arguments.items() if value is True]
                arguments = {name: value for name, value in arguments.items() if name != "models"}
                command = [sys.executable, "-m", "benchmarks.real_models", str(model), "--one", *flags]
                command += [
                    part
                    for name, value in arguments.items()
                    if not isinstance(value, bool)
                    for part in (f"--{name}", str(value))
                ]
                subprocess.run(command, check=True)
                results.append(json.loads(out.read_text(encoding="utf-8")))
    print(table(results))
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
