"""Scores of MLP neurons and of the residual stream, against the rule computed one by one from counts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ampsweep.domain.neurons.neuron_set import IdentificationRequest
from ampsweep.folders.corpus import Corpus
from benchmarks.models.families import Family
from engine.hf.engine import TransformersEngine
from engine.identify.identification import checkpoint_in, identify, identify_with_scores
from engine.identify.scores import scores_of
from engine.neurons.lape_scores import SITES, Site, SiteScores
from engine.neurons.numbering import selected
from tests.engine.identify.counts import make_stats
from tests.engine.identify.test_lape import direct_lape

TEXTS = {
    "en": ["The end of the thing.", "In the north there is another one.", "And then they went on."],
    "ja": ["北の果てにもう一つある。", "雨が降る。", "それから彼らは行った。"],
    "tr": ["Şeyin sonu.", "Kuzeyde bir tane daha var.", "Yağmur yağıyor."],
}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    for code, lines in TEXTS.items():
        (tmp_path / f"{code}.txt").write_text("\n".join(lines), encoding="utf-8")
    return Corpus.open(tmp_path, name="few-words")


def selected_by(scores: SiteScores, languages: tuple[str, ...]) -> dict[str, list[tuple[int, int]]]:
    return {
        code: [tuple(pair) for pair in selected(own, scores.widths).tolist()]
        for code, own in zip(languages, scores.selected, strict=True)
    }


def test_both_sites_are_scored_as_by_hand(reference: Callable[[Family], TransformersEngine], corpus: Corpus) -> None:
    engine = reference("qwen2")
    rates = {"top_rate": 0.1, "filter_rate": 0.5, "activation_bar": 0.5}
    request = IdentificationRequest.of("lape", rates)
    neuron_set, scores = asyncio.run(identify_with_scores(engine, corpus, request))
    counts: dict[Site, list[list[list[int]]]] = {"mlp": [], "residual": []}
    tokens = []
    for lines in TEXTS.values():
        observed = [engine._model.observe(engine._model.tokenizer.encode(text)) for text in lines]
        tokens.append(sum(len(activations[0]) for activations, _ in observed))
        for position, site in enumerate(SITES):
            values = torch.cat([torch.stack(by_site[position], dim=1) for by_site in observed])
            counts[site].append((values > 0).sum(dim=0).tolist())
    for site, expected in counts.items():
        ours = scores.sites[site]
        picked = direct_lape(expected, tokens, list(TEXTS), **rates)
        assert selected_by(ours, scores.languages) == picked
        assert sum(map(len, picked.values())) > 5
        shares = np.array(expected).reshape(3, -1) / np.array(tokens)[:, None]
        np.testing.assert_allclose(ours.probability, shares, rtol=1e-6)
        for number in range(0, shares.shape[1], 7):
            q = [share / shares[:, number].sum() for share in shares[:, number] if share > 0]
            entropy = -math.fsum(each * math.log(each) for each in q) if q else math.nan
            np.testing.assert_allclose(ours.entropy[number], entropy, atol=1e-6)
    assert (scores.neuron_set, scores.languages) == (neuron_set.id, neuron_set.languages)
    assert scores.params == rates


def test_the_set_is_the_same_with_and_without_scores(
    reference: Callable[[Family], TransformersEngine], corpus: Corpus, tmp_path: Path
) -> None:
    engine, request = reference("qwen2"), IdentificationRequest.of("average_precision", {"neurons": 9})
    plain = asyncio.run(identify(engine, corpus, request))
    scored, scores = asyncio.run(identify_with_scores(engine, corpus, request))
    assert (scored.id, scored.with_content_id().id) == (plain.id, plain.with_content_id().id)
    assert scores.params == {"top_rate": 0.01, "filter_rate": 0.95, "activation_bar": 0.95}, "LAPE's defaults"
    identities = {checkpoint_in(tmp_path, engine.info, corpus, request, scores=each).identity for each in (True, False)}
    assert len(identities) == 2, "neither continues from a checkpoint of the other"


def test_a_value_that_is_never_above_0_has_no_entropy() -> None:
    stats = make_stats([[[5, 0]], [[5, 0]]], [10, 10], residual_counts=[[[0, 10, 3]], [[0, 10, 0]]])
    scores = scores_of(stats, neuron_set="ns_1", params={"filter_rate": 0.1, "top_rate": 1.0, "activation_bar": 0.1})
    residual = scores.sites["residual"]
    np.testing.assert_allclose(residual.entropy, [math.nan, math.log(2), 0.0])
    assert residual.candidate.tolist() == [False, True, True]
    assert residual.selected.tolist() == [[False, True, True], [False, True, False]]
    np.testing.assert_allclose(scores.sites["mlp"].entropy, [math.log(2), math.nan])
