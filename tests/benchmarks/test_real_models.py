"""Plain hooks give the answers and recordings of the engines: on a tiny model, and on real ones where there are any."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ampsweep.domain.intervention import Intervention
from ampsweep.folders.corpus import Sentence
from benchmarks.comparisons.mixed_load import random_neurons
from benchmarks.comparisons.plain_model import PlainModel
from benchmarks.models.families import LAYERS, tiny_model
from benchmarks.real_models import Case, cases, compare, plain_changes, plain_stats
from engine.base import ScoreRequest, Steering
from engine.hf.engine import TransformersEngine
from engine.identify.record_request import RecordRequest
from engine.neurons.neuron_set import NeuronSet

REAL_MODELS, DATA, CORPUS = (os.environ.get(f"AMPSWEEP_REAL_{name}") for name in ("MODELS", "DATA", "CORPUS"))
SENTENCES = tuple(
    Sentence(language=language, text=text)
    for language, texts in {
        "en": ("the thing in the end is that nothing stands", "an answer"),
        "fr": ("the sea and the wind and the rain", "another day in the sand by the tree"),
        "tr": ("that is there", "in the beginning there was the sea"),
    }.items()
    for text in texts
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransformersEngine]:
    folder = tmp_path_factory.mktemp("models") / "qwen2"
    tiny_model("qwen2", folder)
    engine = TransformersEngine(folder)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def neurons(engine: TransformersEngine) -> NeuronSet:
    chosen = random_neurons(engine.info)
    engine.add_neurons(chosen)
    return chosen


@pytest.fixture(scope="module")
def plain(engine: TransformersEngine, tmp_path_factory: pytest.TempPathFactory) -> PlainModel:
    folder = tmp_path_factory.mktemp("models") / "qwen2"
    tiny_model("qwen2", folder)
    return PlainModel(folder, "float32")


@pytest.mark.parametrize("case", cases(LAYERS), ids=lambda case: case.name)
def test_the_answers_are_those_of_the_reference_engine(
    engine: TransformersEngine, neurons: NeuronSet, plain: PlainModel, case: Case
) -> None:
    raw = None if case.raw is None else {**case.raw, "languages": ["fr"]}  # the set has no Japanese or Russian
    steering = None if raw is None else Steering(intervention=Intervention.from_dict(raw), neurons=neurons.id)
    text = "the thing in the end is that nothing stands"
    score = asyncio.run(engine.score(ScoreRequest(context="", continuation=text, steering=steering)))
    activation, residual = plain_changes(raw, neurons, plain.model.dtype)
    ids = plain.token_ids(text, whole=True)
    logprobs = plain.logprobs(ids, activation=activation, residual=residual)
    expected = [float(logprobs[position, token]) for position, token in enumerate(ids[1:])]
    np.testing.assert_allclose(score.logprobs, expected, rtol=0, atol=1e-4)
    if raw is not None:
        assert np.abs(plain.logprobs(ids).numpy() - logprobs.numpy()).max() > 1e-3


def test_the_recording_is_that_of_the_reference_engine(engine: TransformersEngine, plain: PlainModel) -> None:
    ours = asyncio.run(engine.record(SENTENCES, RecordRequest(max_tokens=1000)))
    theirs = plain_stats(plain, SENTENCES, ours)
    assert ours.tokens.tolist() == theirs.tokens.tolist()
    np.testing.assert_array_equal(ours.counts, theirs.counts)
    for name in ("patch_max", "patch_mean", "residual_mean"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-5)


@pytest.mark.engine
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    None in (REAL_MODELS, DATA, CORPUS), reason="AMPSWEEP_REAL_MODELS, _DATA and _CORPUS name no folders"
)
@pytest.mark.parametrize("adapter", [False, True], ids=["model", "adapter"])
def test_real_models_differ_only_by_rounding(adapter: bool) -> None:
    assert REAL_MODELS and DATA and CORPUS  # noqa: PT018  # for the types
    options = argparse.Namespace(
        data=Path(DATA),
        corpus=Path(CORPUS),
        languages="en,fr,id,ja,ru,tr",
        items=4,
        sentences=4,
        adapter=adapter,
        eager=False,
    )
    for model in sorted(Path(REAL_MODELS).iterdir()):
        result = asyncio.run(compare(model, "float32", options))
        answers, recording = result["answers"], result["recording"]
        greedy = answers.pop("greedy")
        assert max(each["largest"] for each in answers.values()) < 1e-3
        assert greedy["equal"] == greedy["tokens"]
        assert recording["counts that differ"] < 1e-3
        assert recording["neurons of LAPE in both"] == recording["neurons of LAPE"]
