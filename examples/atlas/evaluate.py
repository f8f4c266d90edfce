"""Evaluates the atlas model: which facts it knows, its language-specific neurons, and LSS when they are amplified.

Prints the results as they are computed and writes `docs/atlas.md`. The neurons are identified with LAPE
(`engine.identify`); LSS is computed over every ordered pair of languages with the premises of the task `lss`.

Usage: python -m examples.atlas.evaluate [--facts 16] [--model FOLDER] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.neuron_set import IdentificationRequest
from ampsweep.folders.corpus import Corpus
from engine.base import GenerateRequest, Steering
from engine.hf.engine import TransformersEngine
from engine.identify.identification import identify
from engine.neurons.neuron_set import NeuronSet
from examples.atlas.documents import ATLAS, is_held_out, read_rows
from examples.atlas.labels import LANGUAGES
from examples.atlas.report import Report
from examples.atlas.scoring import Scorer
from examples.atlas.shift import ShiftMeter
from jobs.data.facts import read_facts

SEED = 0
TOP_RATE = 0.05
"""Share of neurons that LAPE keeps. With 1 % of so small a model, some languages would have one or two."""
OPS: tuple[dict[str, Any], ...] = (
    *({"op": "set", "factor": value} for value in (0.5, 1.0, 2.0, 3.0, 5.0, 8.0)),
    *({"op": "add", "factor": value} for value in (1.0, 3.0)),
    *({"op": "scale", "factor": value} for value in (2.0, 5.0)),
    *({"op": "set", "patch": "max", "factor": value} for value in (1.0, 3.0)),
)
SHOWN = {"op": "set", "factor": 3.0}
PROMPTS = (
    ("The capital of France is", ("tr", "ja", "ru")),
    ("Страна: Япония. Столица:", ("fr", "th", "en")),
    ("In Egypt, the currency is", ("it", "zh", "ta")),
)


def recall(scorer: Scorer) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean probability of the correct answer for each language, twice, [languages].

    The first is over all premises, the second over those whose fact was never stated in that form during training.
    """
    forms: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in read_rows("templates"):
        forms.setdefault((row["relation"], row["language"]), []).append(row)
    items, unseen = [], []
    for language, fact in itertools.product(LANGUAGES, read_rows("facts")):
        for form in forms[fact["relation"], language]:
            premise = form["template"].partition("[Y]")[0].replace("[X]", fact["subject"][language])
            items.append(scorer.tokens(premise, fact["object"][language]))
            unseen.append(form["held_out"] and is_held_out(fact["id"]))
    probability = np.exp(scorer.score(items)).reshape(len(LANGUAGES), -1)
    mask = np.array(unseen).reshape(len(LANGUAGES), -1)
    over_unseen = [row[is_unseen].mean() for row, is_unseen in zip(probability, mask, strict=True)]
    return probability.mean(axis=1), np.array(over_unseen)


async def find_neurons(engine: TransformersEngine) -> NeuronSet:
    """Identify neurons with LAPE on the corpus of the atlas."""
    return await identify(engine, Corpus.open(ATLAS / "corpus", languages=LANGUAGES), lape())


def lape() -> IdentificationRequest:
    """Return a request for LAPE with TOP_RATE."""
    return IdentificationRequest.of("lape", {"top_rate": TOP_RATE})


async def continuation(engine: TransformersEngine, prompt: str, steering: Steering | None) -> str:
    """Return the greedy continuation of a prompt."""
    request = GenerateRequest(prompt=prompt, sampling=SamplingParams(max_tokens=48), steering=steering)
    return "".join([chunk.text async for chunk in engine.generate(request)])


async def demo(engine: TransformersEngine, neurons: NeuronSet, op: Mapping[str, Any], report: Report) -> None:
    """Report continuations of each prompt, unsteered and steered to a few languages."""
    engine.add_neurons(neurons)
    report.start_continuations(op)
    for prompt, languages in PROMPTS:
        rows = [("none", await continuation(engine, prompt, None))]
        for language in languages:
            intervention = Intervention.from_dict({**op, "languages": [language]})
            steering = Steering(intervention=intervention, neurons=neurons.id)
            rows.append((language, await continuation(engine, prompt, steering)))
        report.continuations(prompt, rows)


async def evaluate(folder: Path, limit: int, out: Path) -> None:
    """Run the evaluation and write the report."""
    scorer, engine, report = Scorer(folder), TransformersEngine(folder), Report()
    neurons = await find_neurons(engine)
    parameters = sum(weight.numel() for weight in scorer.model.parameters())
    report.model(engine.info, parameters, TOP_RATE)
    report.languages(*recall(scorer), {code: len(pairs) for code, pairs in neurons.neurons.items()})
    meter = ShiftMeter(scorer, neurons, read_facts(ATLAS), limit=limit, seed=SEED)
    report.start_shifts(limit, meter.left_out)
    measured = []
    for op in OPS:
        lape_shift, random_shift = meter.measure(op), meter.measure({**op, "selection": "random", "seed": SEED})
        report.shift(op, lape_shift, random_shift)
        measured.append((op, lape_shift, random_shift))
    report.targets(*max(measured, key=lambda row: row[1].mean))
    await demo(engine, neurons, SHOWN, report)
    await engine.close()
    report.write(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ATLAS / "model")
    parser.add_argument("--facts", type=int, default=16, help="maximum number of facts for each pair of languages")
    parser.add_argument("--out", type=Path, default=ATLAS.parents[1] / "docs" / "atlas.md")
    options = parser.parse_args()
    asyncio.run(evaluate(options.model, options.facts, options.out))
