from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import InvalidRequest
from engine.identify.checkpoint import Checkpoint
from engine.identify.record_request import RecordRequest
from engine.identify.recorder import AdmittedSentence, Recorder
from engine.identify.sentence_means import SentenceMeans
from engine.identify.stats import PATCH_SENTENCES

LAYERS, WIDTH, HIDDEN = 2, 3, 4
RESIDUAL = np.zeros((LAYERS, HIDDEN), dtype=np.float32)


def _recorder(max_tokens: int = 10_000) -> Recorder:
    return Recorder(LayerWidths(LAYERS, WIDTH), RecordRequest(max_tokens=max_tokens), hidden_size=HIDDEN)


def _add(recorder: Recorder, admission: AdmittedSentence, mean: NDArray[np.float32], counts: int = 1) -> None:
    recorder.add(admission, counts=np.full((LAYERS, WIDTH), counts), mean=mean, residual=RESIDUAL)


def test_the_mean_residual_is_over_all_tokens_of_a_language() -> None:
    recorder = _recorder()
    tokens = {"en": [3, 1], "fr": [2]}
    rng = np.random.default_rng(0)
    residuals = {
        code: [rng.normal(size=(count, LAYERS, HIDDEN)) for count in token_counts]
        for code, token_counts in tokens.items()
    }
    counts, mean = np.zeros((LAYERS, WIDTH), dtype=np.int32), np.zeros((LAYERS, WIDTH), dtype=np.float32)
    for code, sentences in residuals.items():
        for sentence in sentences:
            admission = recorder.admit(code, len(sentence))
            assert admission is not None
            recorder.add(admission, counts=counts, mean=mean, residual=sentence.sum(axis=0))
    means = recorder.finish().residual_mean
    expected = np.stack([np.concatenate(sentences).mean(axis=0) for sentences in residuals.values()])
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, expected, rtol=1e-6)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_activations_that_overflow_are_not_recorded(value: float) -> None:
    recorder = _recorder()
    admission = recorder.admit("fr", 3)
    assert admission is not None
    residual = RESIDUAL.copy()
    residual[1, 2] = value
    nothing = np.zeros((LAYERS, WIDTH), dtype=np.int32)
    with pytest.raises(InvalidRequest, match=r"in fr .*bfloat16") as rejected:
        recorder.add(admission, counts=nothing, mean=nothing.astype(np.float32), residual=residual)
    assert rejected.value.param == "dtype"


def test_residual_counts_are_summed_and_survive_a_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, size=(3, LAYERS, HIDDEN)).astype(np.int32)
    mean = np.zeros((LAYERS, WIDTH), dtype=np.float32)

    def add(recorder: Recorder, language: str, residual_counts: NDArray[np.int32]) -> None:
        admission = recorder.admit(language, 2)
        assert admission is not None
        ones = np.ones((LAYERS, WIDTH), dtype=np.int64)
        recorder.add(admission, counts=ones, mean=mean, residual=RESIDUAL, residual_counts=residual_counts)

    def recorder() -> Recorder:
        checkpoint = Checkpoint(tmp_path / "recording", identity="x", every=0)
        return Recorder(
            LayerWidths(LAYERS, WIDTH), RecordRequest(max_tokens=100, checkpoint=checkpoint), hidden_size=HIDDEN
        )

    stopped = recorder()
    add(stopped, "en", counts[0])
    add(stopped, "en", counts[1])
    resumed = recorder()
    assert [resumed.admit("en", 2) for _ in range(2)] == [None, None], "the checkpoint has them"
    add(resumed, "fr", counts[2])
    recorded = resumed.finish().residual_counts
    assert recorded is not None
    np.testing.assert_array_equal(recorded, [counts[0] + counts[1], counts[2]])


def test_without_residual_counts_there_are_none() -> None:
    recorder = _recorder()
    admission = recorder.admit("en", 2)
    assert admission is not None
    _add(recorder, admission, np.zeros((LAYERS, WIDTH), dtype=np.float32))
    assert recorder.finish().residual_counts is None


@given(sentences=st.integers(1, 2 * PATCH_SENTENCES), seed=st.integers(0, 99), order=st.randoms())
def test_patch_values_are_computed_from_the_first_sentences(sentences: int, seed: int, order: object) -> None:
    random = np.random.default_rng(seed)
    means = random.normal(size=(sentences, LAYERS, WIDTH)).astype(np.float32)
    recorder = _recorder()
    admitted = [recorder.admit("en", 2) for _ in means]
    admissions = [admission for admission in admitted if admission is not None]
    order.shuffle(admissions)  # type: ignore[attr-defined]
    for admission in admissions:
        _add(recorder, admission, means[admission.position])
    stats = recorder.finish()
    first = means[:PATCH_SENTENCES]
    np.testing.assert_array_equal(stats.patch_max[0], first.max(axis=0))
    np.testing.assert_array_equal(stats.patch_median[0], np.sort(first, axis=0)[(len(first) - 1) // 2])
    np.testing.assert_allclose(stats.patch_mean[0], first.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_array_equal(stats.positive[0], (first > 0).sum(axis=0))
    assert stats.patch_sentences.tolist() == [len(first)]
    assert stats.sentences.tolist() == [sentences]
    assert stats.tokens.tolist() == [2 * sentences]
    assert (stats.counts == sentences).all()


def test_a_language_is_full_at_its_first_sentence_that_does_not_fit() -> None:
    recorder = _recorder(max_tokens=10)
    taken = [recorder.admit("en", tokens) for tokens in (4, 6, 1)]
    assert [admission and admission.position for admission in taken] == [0, 1, None]
    taken = [recorder.admit("fr", tokens) for tokens in (4, 7, 1)]
    assert [admission and admission.position for admission in taken] == [0, None, None]


def test_sentences_after_the_first_hundred_need_no_mean() -> None:
    recorder = _recorder()
    admissions = [admission for _ in range(PATCH_SENTENCES + 1) if (admission := recorder.admit("en", 1)) is not None]
    assert [admission.mean_wanted for admission in admissions] == [True] * PATCH_SENTENCES + [False]
    counts = np.ones((LAYERS, WIDTH), dtype=np.int32)
    recorder.add(admissions[-1], counts=counts, mean=None, residual=RESIDUAL)
    with pytest.raises(AssertionError, match="without its mean"):
        recorder.add(admissions[0], counts=counts, mean=None, residual=RESIDUAL)


def test_sentences_that_were_added_up_count_once_each(tmp_path: Path) -> None:
    """A recording that goes on from the checkpoint records none of them again."""
    one = np.ones((LAYERS, WIDTH), dtype=np.int32)
    request = RecordRequest(max_tokens=10_000, checkpoint=Checkpoint(tmp_path / "recording", identity="x", every=0))
    recorder, apart = Recorder(LayerWidths(LAYERS, WIDTH), request, hidden_size=HIDDEN), _recorder()
    tokens = [1 + number % 3 for number in range(PATCH_SENTENCES + 4)]
    for each in (recorder, apart):
        admissions = [admission for count in tokens if (admission := each.admit("en", count)) is not None]
        for admission in admissions[:PATCH_SENTENCES]:
            each.add(admission, counts=one, mean=one.astype(np.float32), residual=RESIDUAL + 1)
        last = admissions[PATCH_SENTENCES:]
        for together in [last[::2], last[1::2]] if each is recorder else [[admission] for admission in last]:
            sentences = len(together)
            each.add(*together, counts=one * sentences, mean=None, residual=(RESIDUAL + 1) * sentences)
    restored = Recorder(LayerWidths(LAYERS, WIDTH), request, hidden_size=HIDDEN)
    assert [restored.admit("en", count) for count in tokens] == [None] * len(tokens)
    expected = apart.finish()
    for stats in (recorder.finish(), restored.finish()):
        assert (stats.counts == len(tokens)).all()
        assert stats.tokens.tolist() == expected.tokens.tolist() == [sum(tokens)]
        assert stats.sentences.tolist() == [len(tokens)]
        np.testing.assert_array_equal(stats.residual_mean, expected.residual_mean)


def test_the_mean_of_a_sentence_is_not_added_to_that_of_another() -> None:
    recorder = _recorder()
    one, other = recorder.admit("en", 1), recorder.admit("en", 1)
    assert one is not None
    assert other is not None
    mean = np.ones((LAYERS, WIDTH), dtype=np.float32)
    with pytest.raises(AssertionError, match="one sentence"):
        recorder.add(one, other, counts=mean.astype(np.int32), mean=mean, residual=RESIDUAL)


def test_all_means_are_kept_for_a_method_that_needs_them(tmp_path: Path) -> None:
    with SentenceMeans(tmp_path) as means:
        recorder = Recorder(
            LayerWidths(LAYERS, WIDTH), RecordRequest(max_tokens=10_000, sentence_means=means), hidden_size=HIDDEN
        )
        for number in range(PATCH_SENTENCES + 5):
            admission = recorder.admit("en", 1)
            assert admission is not None
            assert admission.mean_wanted
            _add(recorder, admission, np.full((LAYERS, WIDTH), number, dtype=np.float32))
        stats = recorder.finish()
        assert stats.sentence_means is means
        assert means.languages == ("en",) * (PATCH_SENTENCES + 5)
        assert stats.patch_sentences.tolist() == [PATCH_SENTENCES]
        assert stats.patch_max.max() == PATCH_SENTENCES - 1, "patch values are still those of the first sentences"


def test_a_sentence_without_tokens_is_not_counted() -> None:
    recorder = _recorder()
    assert recorder.admit("en", 0) is None
    with pytest.raises(InvalidRequest):
        recorder.finish()


def test_a_language_without_sentences_has_an_entry() -> None:
    recorder = _recorder(max_tokens=5)
    assert recorder.admit("en", 6) is None
    admission = recorder.admit("fr", 5)
    assert admission is not None
    _add(recorder, admission, np.ones((LAYERS, WIDTH), dtype=np.float32), counts=5)
    stats = recorder.finish()
    assert stats.languages == ("en", "fr")
    assert stats.tokens.tolist() == [0, 5]
    assert stats.patch_max[:, 0, 0].tolist() == [0.0, 1.0]


def test_the_means_of_a_language_are_freed_once_all_have_arrived() -> None:
    recorder = _recorder()
    mean = np.zeros((LAYERS, WIDTH), dtype=np.float32)
    references = sys.getrefcount(mean)
    for _ in range(PATCH_SENTENCES + 50):
        admission = recorder.admit("en", 1)
        assert admission is not None
        _add(recorder, admission, mean)
        held = len(recorder._languages["en"].means)
        assert held <= PATCH_SENTENCES - 1
    assert held == 0
    assert sys.getrefcount(mean) == references


def test_sentences_that_do_not_reach_an_expert_are_left_out_of_its_patch_values(tmp_path: Path) -> None:
    """Neuron 0 is reached by all sentences, neuron 1 by two of four, neuron 2 by none; a checkpoint keeps that."""
    means = np.array([[1.0, np.nan, np.nan], [2.0, 5.0, np.nan], [3.0, np.nan, np.nan], [-4.0, -7.0, np.nan]])
    reached = np.array([[4, 0, 0], [4, 1, 0], [4, 0, 0], [4, 3, 0]])
    widths = LayerWidths(1, 3)
    sentence_means = SentenceMeans(tmp_path)
    checkpoint = Checkpoint(tmp_path / "checkpoint", identity="test", every=0)
    recorders = [
        Recorder(widths, RecordRequest(max_tokens=100, checkpoint=checkpoint), hidden_size=HIDDEN),
        Recorder(widths, RecordRequest(max_tokens=100, sentence_means=sentence_means), hidden_size=HIDDEN),
    ]
    for recorder in recorders:
        for mean, tokens in zip(means, reached, strict=True):
            admission = recorder.admit("en", 4)
            assert admission is not None
            measured: dict[str, Any] = {"mean": mean[None].astype(np.float32), "residual": RESIDUAL[:1]}
            recorder.add(admission, counts=tokens[None], reached=tokens[None], **measured)
    restored = Recorder(widths, RecordRequest(max_tokens=100, checkpoint=checkpoint), hidden_size=HIDDEN)
    assert [restored.admit("en", 4) for _ in means] == [None] * 4
    for recorder in (*recorders, restored):
        stats = recorder.finish()
        assert stats.reached is not None
        assert stats.reached.tolist() == [[[16, 4, 0]]]
        assert stats.patch_max.tolist() == [[[3.0, 5.0, 0.0]]]
        assert stats.patch_median.tolist() == [[[1.0, -7.0, 0.0]]]
        assert stats.patch_mean.tolist() == [[[0.5, -1.0, 0.0]]]
        assert stats.positive.tolist() == [[[3, 1, 0]]]
    ((_, stored),) = sentence_means.blocks(3)
    np.testing.assert_array_equal(stored, np.nan_to_num(means).astype(np.float32))
    sentence_means.close()
