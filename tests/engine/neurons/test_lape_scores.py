from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import DamagedFile, NotFound
from engine.neurons.lape_scores import SCORES_FILE, LapeScores, SiteScores


def site(layers: int, width: int | tuple[int, ...]) -> SiteScores:
    """Made-up scores of two languages."""
    widths, random = LayerWidths(layers, width), np.random.default_rng(layers)
    probability = random.random((2, widths.total)).astype(np.float32)
    return SiteScores(
        widths=widths,
        probability=probability,
        entropy=np.where(np.arange(widths.total) == 1, np.nan, random.random(widths.total)).astype(np.float32),
        candidate=random.random(widths.total) < 0.5,
        selected=probability > 0.5,
    )


@pytest.fixture
def scores() -> LapeScores:
    return LapeScores(
        neuron_set="ns_1",
        languages=("fr", "tr"),
        params={"top_rate": 0.01, "filter_rate": 0.95, "activation_bar": 0.9},
        sites={"mlp": site(3, (2, 4, 6)), "residual": site(3, 5)},
    )


def test_saved_scores_are_read_again(scores: LapeScores, tmp_path: Path) -> None:
    scores.save(tmp_path)
    loaded = LapeScores.load(tmp_path, neuron_set="ns_1")
    assert loaded.metadata == scores.metadata
    assert loaded.metadata["left_out"] == ["attention_heads"]
    assert list(loaded.sites) == ["mlp", "residual"]
    for name, expected in scores.sites.items():
        assert loaded.sites[name].widths == expected.widths
        for array in ("probability", "entropy", "candidate", "selected"):
            np.testing.assert_array_equal(getattr(loaded.sites[name], array), getattr(expected, array))


def test_a_row_has_the_position_and_the_languages_of_its_score(scores: LapeScores) -> None:
    mlp = scores.sites["mlp"]
    first, second = scores.rows("mlp", [1, 2 + 4 + 5])
    assert (first["site"], first["layer"], first["index"], first["entropy"]) == ("mlp", 0, 1, None)
    assert (second["layer"], second["index"]) == (2, 5), "the last neuron of the third layer"
    assert second["entropy"] == pytest.approx(float(mlp.entropy[11]))
    assert second["probability"] == {"fr": float(mlp.probability[0, 11]), "tr": float(mlp.probability[1, 11])}
    assert second["selected"] == [code for code, share in second["probability"].items() if share > 0.5]


def test_candidates_come_first_then_the_lower_entropy(scores: LapeScores) -> None:
    mlp = replace(
        scores.sites["mlp"],
        candidate=np.arange(12) % 2 == 0,
        entropy=np.array([3, 0, 1, 0, 1, np.nan, 2, 0, 9, 0, 8, 5], dtype=np.float32),
    )
    assert mlp.by_entropy.tolist() == [2, 4, 6, 0, 10, 8, 1, 3, 7, 9, 11, 5]


def test_a_set_without_scores_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="identify the set again with --scores"):
        LapeScores.load(tmp_path, neuron_set="ns_1")


def test_scores_of_another_set_are_rejected(scores: LapeScores, tmp_path: Path) -> None:
    scores.save(tmp_path)
    with pytest.raises(DamagedFile, match="scores of ns_1, not of ns_2"):
        LapeScores.load(tmp_path, neuron_set="ns_2")


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-9], lambda content: b"x" * 99])
def test_a_damaged_file_is_rejected(scores: LapeScores, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    scores.save(tmp_path)
    path = tmp_path / SCORES_FILE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFile, match="cannot be read as scores"):
        LapeScores.load(tmp_path, neuron_set="ns_1")


def test_a_probability_that_is_no_number_is_rejected_with_its_place(scores: LapeScores, tmp_path: Path) -> None:
    scores.sites["mlp"].probability[1, 7] = np.nan
    scores.save(tmp_path)
    with pytest.raises(DamagedFile, match=r"mlp\.probability has nan for index 1 of layer 2; identify the set again"):
        LapeScores.load(tmp_path, neuron_set="ns_1")
