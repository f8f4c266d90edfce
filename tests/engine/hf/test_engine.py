from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ampsweep.domain.choices import Mode
from ampsweep.domain.chunk import Chunk
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.sampling import SamplingParams
from ampsweep.errors import EngineFailed, InvalidRequest, UnknownName
from ampsweep.folders.corpus import Sentence
from benchmarks.tiny_models import FAMILIES, LAYERS, MAX_MODEL_LEN, WIDTH, Family
from engine.base import GenerateRequest, Score, ScoreRequest, Steering
from engine.hf.engine import TransformersEngine
from engine.neurons.neuron_set import NeuronSet, PatchValues
from engine.steering.edits import resolve
from tests.engine.forward import Edit, HandModel
from tests.engine.kernels.rows import taken

LONG = "The end of the thing in the north, and then another one: " * 2
HIDDEN = 64
MODES: tuple[Mode, ...] = ("paper", "corrected")
INTERVENTIONS: list[dict[str, Any]] = [
    {"languages": ["fr"], "op": "scale", "factor": 5},
    {"languages": ["fr", "en"], "op": "scale", "factor": 0, "layers": [0, 2]},
    {"languages": ["en"], "op": "add", "factor": 2.5, "scope": "prompt"},
    {"languages": ["fr"], "op": "set", "patch": "max", "factor": 3, "scope": "generation"},
    {"languages": ["en"], "op": "set", "patch": "mean", "non_target": {"op": "set", "factor": 0}},
    {"languages": ["fr"], "op": "add", "patch": "median", "selection": "random", "seed": 3, "layers": [1]},
    {"languages": ["fr"], "op": "set", "factor": 2, "statistic": "p97.5"},
    {"languages": {"fr": 0.5, "en": -2}, "op": "add", "statistic": "std", "layers": [0, 1]},
    {"languages": ["fr"], "op": "add", "patch": "difference", "source": {"language": "en", "op": "set", "factor": 0}},
    {"languages": {"fr": -0.5}, "op": "add", "patch": "difference", "scope": "generation"},
    {"languages": ["fr"], "op": "scale", "factor": 5, "scope": "prompt", "tokens": {"start": -2}},
    {"languages": ["en"], "op": "set", "statistic": "max", "scope": "generation", "tokens": {"positions": [2, 0]}},
    {"languages": ["fr"], "op": "set", "factor": 2, "statistic": "max", "tokens": {"decay": 0.7}},
    {"languages": ["en"], "op": "scale", "factor": 0, "scope": "generation", "tokens": {"end": 3, "decay": 0.5}},
]
VECTORS: list[dict[str, Any]] = [
    {"languages": ["fr"], "op": "add", "vector": "diffmean", "factor": 8},
    {"languages": ["fr"], "op": "add", "vector": "diffmean_raw", "factor": -2, "layers": [1], "scope": "prompt"},
    {"languages": {"en": 0.5}, "op": "add", "vector": "diffmean", "factor": 9, "layers": [0, 2], "scope": "generation"},
    {"languages": ["en"], "op": "add", "vector": "diffmean_raw", "factor": 1, "selection": "random", "seed": 4},
    {
        "languages": ["fr"],
        "op": "add",
        "vector": "diffmean",
        "factor": 8,
        "tokens": {"start": 1, "end": 4, "decay": 0.6},
    },
]


@cache
def _neurons(family: Family) -> NeuronSet:
    random = np.random.default_rng(1)
    width = WIDTH[family]

    def some() -> Any:
        flat = np.sort(random.permutation(LAYERS * width)[:24])
        return np.stack([flat // width, flat % width], axis=1).astype(np.int32)

    values = [random.normal(size=(2, LAYERS, width)).astype(np.float32) for _ in range(3)]
    return NeuronSet(
        id="ns_test",
        model=family,
        fingerprint="",
        layers=LAYERS,
        width=width,
        method="imported",
        neurons={"en": some(), "fr": some()},
        patch=PatchValues(max=values[0], median=values[1], mean=values[2]),
        residual_mean=random.normal(size=(2, LAYERS, HIDDEN)).astype(np.float32),
    )


def _by_family(raws: Sequence[dict[str, Any] | None]) -> list[Any]:
    """Return every intervention for every family. The fast tier has all for one and a few for the others."""
    return [
        pytest.param(family, raw, marks=pytest.mark.processes if family != "qwen2" and index % 4 else ())
        for family in FAMILIES
        for index, raw in enumerate(raws)
    ]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture
def hand(family: Family, model_folder: Callable[[Family], Path]) -> HandModel:
    return HandModel(model_folder(family))


@pytest.fixture
def engine(family: Family, reference: Callable[[Family], TransformersEngine]) -> TransformersEngine:
    reference(family).add_neurons(_neurons(family))
    return reference(family)


@pytest.fixture
def qwen(reference: Callable[[Family], TransformersEngine]) -> TransformersEngine:
    reference("qwen2").add_neurons(_neurons("qwen2"))
    return reference("qwen2")


def _steering(raw: dict[str, Any] | None, mode: Mode = "corrected") -> Steering | None:
    return None if raw is None else Steering(intervention=Intervention.from_dict(raw), neurons="ns_test", mode=mode)


def _edited(raw: dict[str, Any], length: int, prompt_tokens: int) -> dict[int, float]:
    """Return the strengths of the edited tokens of a sequence by their positions, by Python's own slices."""
    parts = {"all": range(length), "prompt": range(prompt_tokens), "generation": range(prompt_tokens, length)}
    part, tokens = parts[raw.get("scope", "all")], raw.get("tokens", {})
    positions = list(part[tokens.get("start") : tokens.get("end")])
    if "positions" in tokens:
        positions = [part[position] for position in tokens["positions"] if -len(part) <= position < len(part)]
    return {position: tokens.get("decay", 1.0) ** (position - min(positions)) for position in positions}


def _edit(raw: dict[str, Any], family: Family, prompt_tokens: int) -> Edit:
    edits = resolve(Intervention.from_dict(raw), _neurons(family))

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
    means = _neurons(family).residual_mean
    assert means is not None
    ((language, weight),) = dict.fromkeys(raw["languages"], 1.0).items()
    weight = raw["languages"][language] if isinstance(raw["languages"], dict) else weight
    index = ("en", "fr").index(language)
    if raw.get("selection"):
        vectors = resolve(Intervention.from_dict(raw), _neurons(family)).vectors
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


def _generate(
    engine: TransformersEngine, prompt: str, raw: dict[str, Any] | None = None, **sampling: Any
) -> list[Chunk]:
    async def collect() -> list[Chunk]:
        request = GenerateRequest(prompt=prompt, sampling=SamplingParams(**sampling), steering=_steering(raw))
        return [chunk async for chunk in engine.generate(request)]

    return asyncio.run(collect())


def _tokens(chunks: list[Chunk]) -> tuple[int, ...]:
    return tuple(token for chunk in chunks for token in chunk.token_ids)


def _score(
    engine: TransformersEngine,
    context: str,
    continuation: str,
    raw: dict[str, Any] | None = None,
    mode: Mode = "corrected",
) -> Score:
    request = ScoreRequest(context=context, continuation=continuation, steering=_steering(raw, mode))
    return asyncio.run(engine.score(request))


def test_unsteered_scores_equal_the_hand_written_forward_pass(engine: TransformersEngine, hand: HandModel) -> None:
    score = _score(engine, LONG, " in the end")
    tokenizer = engine._model.tokenizer
    ids = tokenizer.encode(LONG.rstrip()) + list(score.token_ids)
    expected = hand.logprobs(ids)[score.context_tokens - 1 : -1]
    assert len(ids) > 64  # the sliding window of gemma2 takes part
    np.testing.assert_allclose(score.logprobs, expected[range(len(expected)), score.token_ids], atol=1e-4)


@pytest.mark.parametrize(("family", "raw"), _by_family(INTERVENTIONS), indirect=["family"])
def test_steered_scores_equal_the_hand_written_forward_pass(
    engine: TransformersEngine, hand: HandModel, family: Family, raw: dict[str, Any]
) -> None:
    score = _score(engine, "The end is", " in the north", raw)
    ids = engine._model.tokenizer.encode("The end is") + list(score.token_ids)
    predicted = hand.logprobs(ids, _edit(raw, family, score.context_tokens))[score.context_tokens - 1 : -1]
    np.testing.assert_allclose(score.logprobs, predicted[range(len(predicted)), score.token_ids], atol=1e-4)
    assert np.abs(np.subtract(score.logprobs, _score(engine, "The end is", " in the north").logprobs)).max() > 0.01


@pytest.mark.parametrize(("family", "raw"), _by_family([None, *INTERVENTIONS]), indirect=["family"])
def test_greedy_answers_equal_the_hand_written_forward_pass(
    engine: TransformersEngine, hand: HandModel, family: Family, raw: dict[str, Any] | None
) -> None:
    chunks = _generate(engine, "In the end", raw, max_tokens=8, ignore_eos=True)
    prompt = engine._model.tokenizer.encode("In the end")
    tokens = _tokens(chunks)
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
    score = _score(engine, "The end is", " in the north", raw)
    ids = engine._model.tokenizer.encode("The end is") + list(score.token_ids)
    shift = _shift(raw, family, score.context_tokens)
    predicted = hand.logprobs(ids, shift=shift)[score.context_tokens - 1 : -1]
    np.testing.assert_allclose(score.logprobs, predicted[range(len(predicted)), score.token_ids], atol=1e-4)
    assert np.abs(np.subtract(score.logprobs, _score(engine, "The end is", " in the north").logprobs)).max() > 0.01
    tokens = _tokens(_generate(engine, "In the end", raw, max_tokens=8, ignore_eos=True))
    prompt = engine._model.tokenizer.encode("In the end")
    predicted = hand.logprobs([*prompt, *tokens], shift=_shift(raw, family, len(prompt)))[len(prompt) - 1 : -1]
    assert tokens == tuple(predicted.argmax(dim=-1).tolist())


def test_a_set_without_mean_residuals_has_no_vectors(qwen: TransformersEngine) -> None:
    qwen.add_neurons(replace(_neurons("qwen2"), id="ns_old", residual_mean=None))
    intervention = Intervention.from_dict(VECTORS[0])
    request = ScoreRequest(
        context="x", continuation="y", steering=Steering(intervention=intervention, neurons="ns_old")
    )
    with pytest.raises(InvalidRequest, match=r"ns_old has no residual vectors.*identify it again") as caught:
        asyncio.run(qwen.score(request))
    assert caught.value.param == "intervention.vector"


def test_a_scope_leaves_other_tokens_unsteered(qwen: TransformersEngine) -> None:
    raw: dict[str, Any] = {"languages": ["fr"], "op": "scale", "factor": 9}
    plain = _score(qwen, "The end is", " in the north").logprobs
    generation = _score(qwen, "The end is", " in the north", {**raw, "scope": "generation"}).logprobs
    prompt = _score(qwen, "The end is", " in the north", {**raw, "scope": "prompt"}).logprobs
    everywhere = _score(qwen, "The end is", " in the north", raw).logprobs
    assert generation[0] == plain[0]  # predicted from the prompt's last token, which is not steered
    assert generation[1] != plain[1]
    assert prompt[0] == everywhere[0]
    assert prompt[1] != everywhere[1]


def test_a_neutral_intervention_changes_no_bit(qwen: TransformersEngine) -> None:
    for raw in (
        {"op": "scale", "factor": 1, "languages": ["fr", "en"]},
        {"op": "add", "factor": 0, "languages": ["fr", "en"]},
        {"op": "add", "factor": 0, "languages": ["fr"], "vector": "diffmean"},
    ):
        steered = _score(qwen, "The end is", " in the north", raw)
        assert steered == _score(qwen, "The end is", " in the north")


def test_a_prompt_that_is_too_long_is_rejected(qwen: TransformersEngine) -> None:
    with pytest.raises(InvalidRequest, match="512 tokens, but this engine accepts at most 511") as caught:
        _generate(qwen, "x" * MAX_MODEL_LEN)
    assert caught.value.param == "prompt"
    assert len(_score(qwen, "x", "y" * (MAX_MODEL_LEN - 2)).logprobs) == MAX_MODEL_LEN - 2
    with pytest.raises(InvalidRequest) as caught:
        _score(qwen, "x", "y" * (MAX_MODEL_LEN - 1))
    assert caught.value.param == "context"


def test_an_unknown_neuron_set_or_language_is_rejected_with_the_known_ones(qwen: TransformersEngine) -> None:
    intervention = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2})
    request = ScoreRequest(context="x", continuation="y", steering=Steering(intervention=intervention, neurons="ns_no"))
    with pytest.raises(UnknownName, match="ns_test"):
        asyncio.run(qwen.score(request))
    with pytest.raises(UnknownName, match="en, fr"):
        _generate(qwen, "x", {"languages": ["de"], "op": "scale", "factor": 2})


def test_concurrent_requests_do_not_affect_each_other(qwen: TransformersEngine) -> None:
    async def together() -> list[Score]:
        requests = [
            ScoreRequest(context="The end is", continuation=" in the north", steering=_steering(raw))
            for raw in [None, *INTERVENTIONS, None]
        ]
        return await asyncio.gather(*map(qwen.score, requests))

    scores = asyncio.run(together())
    sequential = [_score(qwen, "The end is", " in the north", raw) for raw in [None, *INTERVENTIONS, None]]
    assert scores == sequential
    assert len({score.logprobs for score in scores}) == len(INTERVENTIONS) + 1


def test_requests_in_flight_fail_when_the_engine_is_closed(model_folder: Callable[[Family], Path]) -> None:
    engine = TransformersEngine(model_folder("llama"))
    request = ScoreRequest(context="The end is", continuation=" in the north")

    async def answer() -> list[Chunk]:
        sampling = SamplingParams(max_tokens=40, ignore_eos=True)
        return [chunk async for chunk in engine.generate(GenerateRequest(prompt="The end", sampling=sampling))]

    async def close_meanwhile() -> list[object]:
        cancelled = asyncio.create_task(engine.score(request))
        answering = asyncio.create_task(answer())
        scoring = [asyncio.create_task(engine.score(request)) for _ in range(8)]
        await asyncio.sleep(0)  # all have begun
        closing = asyncio.create_task(engine.close())
        cancelled.cancel()
        await closing
        results = await asyncio.gather(answering, *scoring, return_exceptions=True)
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        with pytest.raises(EngineFailed, match="closed"):
            await engine.score(request)
        return list(results)

    answered, *scored = asyncio.run(close_meanwhile())
    assert isinstance(answered, EngineFailed)
    assert isinstance(scored[-1], EngineFailed)
    assert all(isinstance(score, Score | EngineFailed) for score in scored)


def test_a_recording_equals_the_statistics_of_stored_activations(engine: TransformersEngine, hand: HandModel) -> None:
    texts = {"en": ["The end.", "In the north, then.", "Another thing"], "ja": ["北の果て", "それから"]}
    sentences = [Sentence(language=code, text=text) for code, sentences_of in texts.items() for text in sentences_of]
    stats = asyncio.run(engine.record(sentences, max_tokens=10_000, residual_counts=True))
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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_dtype_can_be_chosen(model_folder: Callable[[Family], Path], dtype: str) -> None:
    engine = TransformersEngine(model_folder("qwen2"), dtype=dtype, name="tiny", max_model_len=64)
    engine.add_neurons(_neurons("qwen2"))
    assert (engine.info.dtype, engine.info.model, engine.info.max_model_len) == (dtype, "tiny", 64)
    score = _score(engine, "The end is", " in the north", INTERVENTIONS[0])
    assert all(value < 0 for value in score.logprobs)
    asyncio.run(engine.close())


def test_an_unknown_dtype_is_refused(model_folder: Callable[[Family], Path]) -> None:
    with pytest.raises(InvalidRequest, match="float32, bfloat16, float16") as caught:
        TransformersEngine(model_folder("qwen2"), dtype="int8")
    assert caught.value.param == "dtype"


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
    edits = resolve(Intervention.from_dict(raw), _neurons("qwen2"))

    def edit(layer: int, activation: Tensor) -> Tensor:
        neurons = torch.from_numpy(edits.indices[edits.entries(layer)]).long()
        changed = activation.clone()
        changed[:, neurons] = 2 * _published(word, activation, neurons) if len(neurons) else 0.0
        return changed

    paper, corrected = (_score(qwen, LONG, " in the end", raw, mode) for mode in MODES)
    ids = qwen._model.tokenizer.encode(LONG + " in the end")
    predicted = HandModel(model_folder("qwen2")).logprobs(ids, edit)[paper.context_tokens - 1 : -1]
    expected = predicted[range(len(predicted)), paper.token_ids].numpy()
    np.testing.assert_allclose(paper.logprobs, expected, rtol=0, atol=1e-4)
    assert np.abs(np.subtract(corrected.logprobs, expected)).max() > 1e-3


def test_without_a_statistic_mode_paper_changes_nothing(qwen: TransformersEngine) -> None:
    paper, corrected = (_score(qwen, LONG, " in the end", INTERVENTIONS[0], mode) for mode in MODES)
    assert paper == corrected
