"""Answers, scores and recordings equal those of a forward pass that is written by hand, under every intervention."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ampsweep.domain.choices import Mode
from ampsweep.domain.intervention import Intervention
from ampsweep.folders.corpus import Sentence
from benchmarks.models.families import FAMILIES, LAYERS, Family
from engine.hf.engine import TransformersEngine
from engine.identify.record_request import RecordRequest
from engine.steering.edits import resolve
from tests.engine.forward import Edit, HandModel
from tests.engine.hf.calls import INTERVENTIONS, VECTORS, generate, neurons_of, score_text, tokens_of
from tests.engine.kernels.rows import taken

LONG = "The end of the thing in the north, and then another one: " * 2
MODES: tuple[Mode, ...] = ("paper", "corrected")


def _by_family(raws: Sequence[dict[str, Any] | None]) -> list[Any]:
    """Return every intervention for every family. The fast tier has all for one and a few for the others."""
    return [
        pytest.param(family, raw, marks=pytest.mark.processes if family != "qwen2" and index % 4 else ())
        for family in FAMILIES
        for index, raw in enumerate(raws)
    ]


def _edited(raw: dict[str, Any], length: int, prompt_tokens: int) -> dict[int, float]:
    """Return the strengths of the edited tokens of a sequence by their positions, by Python's own slices."""
    parts = {"all": range(length), "prompt": range(prompt_tokens), "generation": range(prompt_tokens, length)}
    part, tokens = parts[raw.get("scope", "all")], raw.get("tokens", {})
    positions = list(part[tokens.get("start") : tokens.get("end")])
    if "positions" in tokens:
        positions = [part[position] for position in tokens["positions"] if -len(part) <= position < len(part)]
    return {position: tokens.get("decay", 1.0) ** (position - min(positions)) for position in positions}


def _edit(raw: dict[str, Any], family: Family, prompt_tokens: int) -> Edit:
    edits = resolve(Intervention.from_dict(raw), neurons_of(family))

    def edit(layer: int, activation: Tensor) -> Tensor:
        changed = activation.clone()
        for position, strength in _edited(raw, len(activation), prompt_tokens).items():
            entries = edits.entries(layer)
            for index, mult, add in zip(edits.indices[entries], edits.mult[entries], edits.add[entries], strict=True):
                changed[position, index] = float(mult) * activation[position, index] + float(add)
            if edits.statistic is not None and edits.coef is not None:
                shift = edits.coef[entries] * np.float32(taken(activation[position], edits.statistic))
                changed[position, edits.indices[entries]] += torch.from_numpy(shift)
            changed[position] = activation[position] + strength * (changed[position] - activation[position])
        return changed

    return edit


def _shift(raw: dict[str, Any], family: Family, prompt_tokens: int) -> Edit:
    """Return the shift of the residual stream, computed from the set's means by the definition, for two languages."""
    means = neurons_of(family).residual_mean
    assert means is not None
    ((language, weight),) = dict.fromkeys(raw["languages"], 1.0).items()
    weight = raw["languages"][language] if isinstance(raw["languages"], dict) else weight
    index = ("en", "fr").index(language)
    if raw.get("selection"):
        vectors = resolve(Intervention.from_dict(raw), neurons_of(family)).vectors
        assert vectors is not None
    else:
        vectors = means[index] - means[1 - index]
        if raw["vector"] == "diffmean":
            vectors = vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        vectors = raw["factor"] * weight * vectors

    def shift(layer: int, residual: Tensor) -> Tensor:
        shifted = residual.clone()
        for position, strength in _edited(raw, len(residual), prompt_tokens).items():
            if layer in raw.get("layers", range(LAYERS)):
                shifted[position] += strength * torch.from_numpy(vectors[layer])
        return shifted

    return shift


def test_unsteered_scores_equal_the_hand_written_forward_pass(engine: TransformersEngine, hand: HandModel) -> None:
    score = score_text(engine, LONG, " in the end")
    tokenizer = engine._model.tokenizer
    ids = tokenizer.encode(LONG.rstrip()) + list(score.token_ids)
    expected = hand.logprobs(ids)[score.context_tokens - 1 : -1]
    assert len(ids) > 64  # the sliding window of gemma2 takes part
    np.testing.assert_allclose(score.logprobs, expected[range(len(expected)), score.token_ids], atol=1e-4)


@pytest.mark.parametrize(("family", "raw"), _by_family(INTERVENTIONS), indirect=["family"])
def test_steered_scores_equal_the_hand_written_forward_pass(
    engine: TransformersEngine, hand: HandModel, family: Family, raw: dict[str, Any]
) -> None:
    score = score_text(engine, "The end is", " in the north", raw)
    ids = engine._model.tokenizer.encode("The end is") + list(score.token_ids)
    predicted = hand.logprobs(ids, _edit(raw, family, score.context_tokens))[score.context_tokens - 1 : -1]
    np.testing.assert_allclose(score.logprobs, predicted[range(len(predicted)), score.token_ids], atol=1e-4)
    assert np.abs(np.subtract(score.logprobs, score_text(engine, "The end is", " in the north").logprobs)).max() > 0.01


@pytest.mark.parametrize(("family", "raw"), _by_family([None, *INTERVENTIONS]), indirect=["family"])
def test_greedy_answers_equal_the_hand_written_forward_pass(
    engine: TransformersEngine, hand: HandModel, family: Family, raw: dict[str, Any] | None
) -> None:
    chunks = generate(engine, "In the end", raw, max_tokens=8, ignore_eos=True)
    prompt = engine._model.tokenizer.encode("In the end")
    tokens = tokens_of(chunks)
    logprobs = [value for chunk in chunks for value in chunk.logprobs]
    whole = [*prompt, *tokens]
    predicted = hand.logprobs(whole, _edit(raw, family, len(prompt))) if raw else hand.logprobs(whole)
    predicted = predicted[len(prompt) - 1 : -1]
    assert tokens == tuple(predicted.argmax(dim=-1).tolist())
    np.testing.assert_allclose(logprobs, predicted[range(len(tokens)), tokens], atol=1e-4)
    assert {chunk.prompt_tokens for chunk in chunks} == {len(prompt)}
    assert [chunk.finish_reason for chunk in chunks] == [None] * 7 + ["length"]


@pytest.mark.parametrize(("family", "raw"), _by_family(VECTORS), indirect=["family"])
def test_a_vector_is_added_to_the_residual_stream_of_the_forward_pass(
    engine: TransformersEngine, hand: HandModel, family: Family, raw: dict[str, Any]
) -> None:
    score = score_text(engine, "The end is", " in the north", raw)
    ids = engine._model.tokenizer.encode("The end is") + list(score.token_ids)
    shift = _shift(raw, family, score.context_tokens)
    predicted = hand.logprobs(ids, shift=shift)[score.context_tokens - 1 : -1]
    np.testing.assert_allclose(score.logprobs, predicted[range(len(predicted)), score.token_ids], atol=1e-4)
    assert np.abs(np.subtract(score.logprobs, score_text(engine, "The end is", " in the north").logprobs)).max() > 0.01
    tokens = tokens_of(generate(engine, "In the end", raw, max_tokens=8, ignore_eos=True))
    prompt = engine._model.tokenizer.encode("In the end")
    predicted = hand.logprobs([*prompt, *tokens], shift=_shift(raw, family, len(prompt)))[len(prompt) - 1 : -1]
    assert tokens == tuple(predicted.argmax(dim=-1).tolist())


def test_a_recording_equals_the_statistics_of_stored_activations(engine: TransformersEngine, hand: HandModel) -> None:
    texts = {"en": ["The end.", "In the north, then.", "Another thing"], "ja": ["北の果て", "それから"]}
    sentences = [Sentence(language=code, text=text) for code, sentences_of in texts.items() for text in sentences_of]
    stats = asyncio.run(engine.record(sentences, RecordRequest(max_tokens=10_000, residual_counts=True)))
    tokenizer = engine._model.tokenizer
    assert stats.languages == ("en", "ja")
    assert stats.residual_counts is not None
    for index, lines in enumerate(texts.values()):
        stored, residuals = [], []  # [T, L, F] and [T, L, H] a sentence, without its BOS token
        for text in lines:
            ids = tokenizer.encode(text)
            special = len(ids) - len(tokenizer.encode(text, add_special_tokens=False))
            stored.append(torch.stack(hand.activations(ids), dim=1)[special:])
            residuals.append(torch.stack(hand.residuals(ids), dim=1)[special:])
        means = torch.stack([activations.mean(dim=0) for activations in stored])
        counted = sum(((activations > 0).sum(dim=0) for activations in stored), torch.zeros(1, dtype=torch.long))
        np.testing.assert_array_equal(stats.counts[index], counted)
        assert stats.tokens[index] == sum(map(len, stored))
        assert stats.sentences[index] == stats.patch_sentences[index] == len(lines)
        np.testing.assert_allclose(stats.patch_max[index], means.amax(dim=0), atol=1e-4)
        np.testing.assert_allclose(stats.patch_mean[index], means.mean(dim=0), atol=1e-4)
        np.testing.assert_allclose(
            stats.patch_median[index], means.sort(dim=0).values[(len(lines) - 1) // 2], atol=1e-4
        )
        np.testing.assert_array_equal(stats.positive[index], (means > 0).sum(dim=0))
        np.testing.assert_allclose(stats.residual_mean[index], torch.cat(residuals).mean(dim=0), atol=1e-4)
        np.testing.assert_array_equal(stats.residual_counts[index], (torch.cat(residuals) > 0).sum(dim=0))


def _published(word: str, activation: Tensor, neurons: Tensor) -> Tensor:
    """Return the value that the published code sets for the statistic `word` of a layer's activations [T, F]."""
    if word == "iqr":
        return activation.quantile(0.75) - activation.quantile(0.25)
    if word == "mad":
        return (activation[:, neurons] - activation.median()).abs().median()
    if word.startswith("p"):
        return activation.quantile(float(word[1:]) / 100)
    value: Tensor = getattr(activation, word)()
    return value


@pytest.mark.parametrize("word", ["mean", "std", "median", "max", "iqr", "mad", "p97.5"])
def test_mode_paper_takes_a_statistic_over_the_whole_forward_pass(
    qwen: TransformersEngine, model_folder: Callable[[Family], Path], word: str
) -> None:
    raw = {"languages": ["fr"], "op": "set", "factor": 2, "statistic": word}
    edits = resolve(Intervention.from_dict(raw), neurons_of("qwen2"))

    def edit(layer: int, activation: Tensor) -> Tensor:
        neurons = torch.from_numpy(edits.indices[edits.entries(layer)]).long()
        changed = activation.clone()
        changed[:, neurons] = 2 * _published(word, activation, neurons) if len(neurons) else 0.0
        return changed

    paper, corrected = (score_text(qwen, LONG, " in the end", raw, mode) for mode in MODES)
    ids = qwen._model.tokenizer.encode(LONG + " in the end")
    predicted = HandModel(model_folder("qwen2")).logprobs(ids, edit)[paper.context_tokens - 1 : -1]
    expected = predicted[range(len(predicted)), paper.token_ids].numpy()
    np.testing.assert_allclose(paper.logprobs, expected, rtol=0, atol=1e-4)
    assert np.abs(np.subtract(corrected.logprobs, expected)).max() > 1e-3


def test_without_a_statistic_mode_paper_changes_nothing(qwen: TransformersEngine) -> None:
    paper, corrected = (score_text(qwen, LONG, " in the end", INTERVENTIONS[0], mode) for mode in MODES)
    assert paper == corrected
