"""Identifies a neuron set: records a corpus on an engine, selects neurons by a method, and builds the set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.neuron_set import FILTER_RATE, IdentificationRequest
from ampsweep.folders.corpus import Corpus
from ampsweep.hashing import content_hash
from engine.base import Engine, EngineInfo
from engine.identify.average_precision import select_average_precision
from engine.identify.checkpoint import Checkpoint
from engine.identify.lape import candidate_entropy, select_lape
from engine.identify.published import published_denominators, template_tokens
from engine.identify.record_request import RecordRequest
from engine.identify.scores import scores_of
from engine.identify.selections import select_act_prob, select_activated, select_random
from engine.identify.sentence_means import SentenceMeans
from engine.identify.stats import ActivationStats
from engine.identify.tracker import RecordingTracker
from engine.neurons.lape_scores import LapeScores
from engine.neurons.neuron_set import NeuronSet, PatchValues

Built = TypeVar("Built")


def checkpoint_in(
    folder: Path, info: EngineInfo, corpus: Corpus, request: IdentificationRequest, *, scores: bool = False
) -> Checkpoint:
    """Return the checkpoint in `folder` of an identification on the engine described by `info`.

    A recording for `scores` has more sums, so neither kind continues from a checkpoint of the other.
    """
    neuron_set_id = request.neuron_set_id(
        fingerprint=info.fingerprint, corpus_hash=corpus.hash, languages=corpus.languages
    )
    depends_on = {
        "id": neuron_set_id,
        "kind": info.kind,
        "dtype": info.dtype,
        "versions": dict(info.versions),
        # A checkpoint from before the residual was recorded is ignored.
        "sums": ["activations", "residual", *(["residual_counts"] if scores else [])],
    }
    return Checkpoint(folder / f".{neuron_set_id}.recording", identity=content_hash(depends_on))


async def identify(
    engine: Engine,
    corpus: Corpus,
    request: IdentificationRequest,
    *,
    checkpoint: Checkpoint | None = None,
    tracker: RecordingTracker | None = None,
) -> NeuronSet:
    """Identify the language-specific neurons of a model.

    Args:
        engine: The engine of the model.
        corpus: Sentences by language.
        request: The method and its parameters.
        checkpoint: Where the recording is saved at intervals and continued from. The caller discards it.
        tracker: Tells other threads how far the recording is; see `tracker_of`.

    Returns:
        The neuron set, with patch values, mean residuals and the id of the request. Its `params` are those of the
        method and `max_tokens`.

    Raises:
        InvalidRequest: No sentence of the corpus fits `max_tokens`.
        EngineFailed: The engine died.
        Unavailable: The disk is full (`average_precision` only).
    """

    def build(stats: ActivationStats) -> NeuronSet:
        return neuron_set_of(stats, request, corpus=corpus, info=engine.info)

    return await _recorded(engine, corpus, request, checkpoint, tracker, build)


async def identify_with_scores(
    engine: Engine,
    corpus: Corpus,
    request: IdentificationRequest,
    *,
    checkpoint: Checkpoint | None = None,
    tracker: RecordingTracker | None = None,
) -> tuple[NeuronSet, LapeScores]:
    """Identify a set as `identify` does, and score every neuron and the residual stream by LAPE in the same pass.

    Raises:
        InvalidRequest: As in `identify`, or the engine does not count residuals (param "residual_counts").
        EngineFailed: The engine died.
        Unavailable: The disk is full (`average_precision` only).
    """

    def build(stats: ActivationStats) -> tuple[NeuronSet, LapeScores]:
        neuron_set = neuron_set_of(stats, request, corpus=corpus, info=engine.info)
        return neuron_set, scores_of(stats, neuron_set=neuron_set.id, params=request.params)

    return await _recorded(engine, corpus, request, checkpoint, tracker, build, residual_counts=True)


async def _recorded(
    engine: Engine,
    corpus: Corpus,
    request: IdentificationRequest,
    checkpoint: Checkpoint | None,
    tracker: RecordingTracker | None,
    build: Callable[[ActivationStats], Built],
    *,
    residual_counts: bool = False,
) -> Built:
    """Record the corpus and return, from a thread, what `build` makes of the statistics.

    The means of all sentences that `average_precision` needs are in a file beside the checkpoint meanwhile. A
    checkpoint does not hold them, so its recording begins anew if it was stopped.
    """
    if tracker is None:
        tracker = await asyncio.to_thread(tracker_of, corpus, request)
    recording = RecordRequest(max_tokens=request.max_tokens, residual_counts=residual_counts, tracker=tracker)
    sentences = tracker.reading(corpus.sentences())
    if request.method == "average_precision":
        with SentenceMeans(None if checkpoint is None else checkpoint.path.parent) as means:
            stats = await engine.record(sentences, replace(recording, sentence_means=means))
            return await asyncio.to_thread(build, stats)
    stats = await engine.record(sentences, replace(recording, checkpoint=checkpoint))
    if request.method == "lape_paper":
        tokens = await template_tokens(engine)
        stats = await asyncio.to_thread(published_denominators, stats, template_tokens=tokens)
    return await asyncio.to_thread(build, stats)


def tracker_of(corpus: Corpus, request: IdentificationRequest) -> RecordingTracker:
    """Return a tracker for the identification of `request` on `corpus`."""
    return RecordingTracker(corpus.characters(), max_tokens=request.max_tokens)


def neuron_set_of(
    stats: ActivationStats, request: IdentificationRequest, *, corpus: Corpus, info: EngineInfo
) -> NeuronSet:
    """Build the neuron set from the statistics `stats` of `corpus`, recorded on the model described by `info`."""
    return NeuronSet(
        id=request.neuron_set_id(fingerprint=info.fingerprint, corpus_hash=corpus.hash, languages=corpus.languages),
        model=info.model,
        fingerprint=info.fingerprint,
        layers=info.layers,
        width=info.width,
        method=request.method,
        params={**request.params, "max_tokens": request.max_tokens},
        corpus=corpus.name,
        corpus_hash=corpus.hash,
        neurons=select(request, stats),
        patch=PatchValues(max=stats.patch_max, median=stats.patch_median, mean=stats.patch_mean),
        entropy=candidate_entropy(stats, filter_rate=request.params.get("filter_rate", FILTER_RATE)),
        residual_mean=stats.residual_mean,
    )


def select(request: IdentificationRequest, stats: ActivationStats) -> dict[str, NDArray[np.int32]]:
    """Select the neurons of each language by the method of the request: int32 [k, 2] of (layer, index), sorted."""
    params: dict[str, Any] = dict(request.params)
    if request.method == "activated":
        return select_activated(stats)
    if request.method == "act_prob":
        return select_act_prob(stats, neurons=params["neurons"])
    if request.method == "average_precision":
        assert stats.sentence_means is not None, "the means of all sentences were recorded"
        count = params["neurons"]
        return select_average_precision(stats.sentence_means, stats.languages, neurons=count, widths=stats.widths)
    lape = select_lape(stats, **{name: value for name, value in params.items() if name != "seed"})
    if request.method != "random":
        return lape
    return select_random(lape, widths=stats.widths, seed=params["seed"])
