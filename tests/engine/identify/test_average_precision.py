"""Selection by average precision, compared with its definition and with worked examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.identify import average_precision
from engine.identify.average_precision import select_average_precision
from engine.identify.sentence_means import SentenceMeans
from tests.engine.identify.direct_average_precision import direct_average_precision


@pytest.fixture
def means(tmp_path: Path) -> Iterator[SentenceMeans]:
    with SentenceMeans(tmp_path) as opened:
        yield opened


def fill(means: SentenceMeans, languages: list[str], rows: NDArray[np.float32]) -> None:
    for language, row in zip(languages, rows, strict=True):
        means.append(language, row)


@pytest.mark.parametrize("levels", [3, 1000])
@pytest.mark.parametrize("block", [2**22, 100])
def test_the_neurons_are_those_with_the_highest_average_precision(
    levels: int, block: int, means: SentenceMeans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(average_precision, "_BLOCK", block)
    rng = np.random.default_rng(levels)
    languages = rng.choice(["en", "fr", "tr"], size=60).tolist()
    rows = (rng.integers(0, levels, size=(60, 4, 6)) / levels).astype(np.float32)  # with 3 levels most scores tie
    fill(means, languages, rows)
    neurons = select_average_precision(means, ["en", "fr", "tr"], neurons=7, widths=LayerWidths(4, 6))
    for language, pairs in neurons.items():
        positive = np.array(languages) == language
        scores = [direct_average_precision(positive.tolist(), column.tolist()) for column in rows.reshape(60, 24).T]
        expected = sorted(np.argsort(-np.round(scores, 12), kind="stable")[:7].tolist())
        assert (pairs[:, 0] * 6 + pairs[:, 1]).tolist() == expected


def test_a_worked_example(means: SentenceMeans) -> None:
    #              neuron 0 puts fr first, neuron 1 last, neuron 2 tells nothing
    rows = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.5], [0.2, 0.8, 0.5], [0.1, 0.9, 0.5]], dtype=np.float32)
    fill(means, ["fr", "fr", "en", "en"], rows)
    neurons = select_average_precision(means, ["en", "fr"], neurons=1, widths=LayerWidths(1, 3))
    assert {language: pairs.tolist() for language, pairs in neurons.items()} == {"en": [[0, 1]], "fr": [[0, 0]]}
    ranks = np.array([[1, 3, 4], [2, 4, 4]])
    np.testing.assert_allclose(
        average_precision._average_precision(ranks), [1, (1 / 3 + 2 / 4) / 2, 0.5], rtol=0, atol=1e-15
    )


def test_ties_go_to_the_first_neurons_and_a_language_without_sentences_has_none(means: SentenceMeans) -> None:
    fill(means, ["en", "fr"], np.zeros((2, 2, 2), dtype=np.float32))
    neurons = select_average_precision(means, ["en", "fr", "tr"], neurons=3, widths=LayerWidths(2, 2))
    assert neurons["en"].tolist() == neurons["fr"].tolist() == [[0, 0], [0, 1], [1, 0]]
    assert neurons["tr"].shape == (0, 2)
    everything = select_average_precision(means, ["en"], neurons=9, widths=LayerWidths(2, 2))
    assert len(everything["en"]) == 4
