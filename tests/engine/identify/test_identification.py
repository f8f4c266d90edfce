from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.domain.neurons.neuron_set import IdentificationRequest
from ampsweep.errors import InvalidRequest
from ampsweep.folders.corpus import Corpus
from benchmarks.models.families import FAMILIES, Family
from engine.fake import FAKE_INFO, FakeEngine
from engine.hf.engine import TransformersEngine
from engine.identify.identification import checkpoint_in, identify
from engine.identify.record_request import RecordRequest
from engine.neurons.neuron_set import NeuronSet
from tests.engine.forward import HandModel
from tests.engine.identify.direct_average_precision import direct_average_precision
from tests.engine.identify.test_lape import direct_lape

TEXTS = {
    "en": ["The end of the thing.", "In the north there is another one.", "It rains.", "And then they went on."],
    "ja": ["北の果てにもう一つある。", "雨が降る。", "それから彼らは行った。"],
    "tr": ["Şeyin sonu.", "Kuzeyde bir tane daha var.", "Yağmur yağıyor."],
}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    for code, lines in TEXTS.items():
        (tmp_path / f"{code}.txt").write_text("\n".join(lines), encoding="utf-8")
    return Corpus.open(tmp_path, name="few-words")


def _identify(corpus: Corpus, method: str, **params: Any) -> NeuronSet:
    engine = FakeEngine()
    request = IdentificationRequest.of(method, params)
    complete = request.for_model(engine.info.model, widths=engine.info.widths)
    return asyncio.run(identify(engine, corpus, complete))


@pytest.mark.parametrize("family", FAMILIES)
def test_lape_selects_the_neurons_computed_from_stored_activations(
    family: Family,
    reference: Callable[[Family], TransformersEngine],
    model_folder: Callable[[Family], Path],
    corpus: Corpus,
) -> None:
    engine = reference(family)
    neuron_set = asyncio.run(identify(engine, corpus, IdentificationRequest.of("lape", {"top_rate": 0.1})))
    hand, tokenizer = HandModel(model_folder(family)), engine._model.tokenizer
    counts, tokens = [], []
    for lines in TEXTS.values():
        stored = []
        for text in lines:
            ids = tokenizer.encode(text)
            special = len(ids) - len(tokenizer.encode(text, add_special_tokens=False))
            stored.append(torch.stack(hand.activations(ids), dim=1)[special:])
        everything = torch.cat(stored)
        counts.append((everything > 0).sum(dim=0).tolist())
        tokens.append(len(everything))
    expected = direct_lape(counts, tokens, list(TEXTS), top_rate=0.1)
    assert {code: [tuple(pair) for pair in pairs.tolist()] for code, pairs in neuron_set.neurons.items()} == expected
    assert sum(map(len, expected.values())) > 10


def test_an_identified_set_records_its_provenance(corpus: Corpus, tmp_path: Path) -> None:
    neuron_set = _identify(corpus, "lape", top_rate=0.2)
    assert (neuron_set.model, neuron_set.fingerprint, neuron_set.layers, neuron_set.width) == (
        "fake",
        FAKE_INFO.fingerprint,
        4,
        32,
    )
    assert (neuron_set.corpus, neuron_set.corpus_hash, neuron_set.method) == ("few-words", corpus.hash, "lape")
    assert neuron_set.params == {"top_rate": 0.2, "filter_rate": 0.95, "activation_bar": 0.95, "max_tokens": 100_000}
    assert neuron_set.languages == corpus.languages == ("en", "ja", "tr")
    assert neuron_set.patch is not None
    neuron_set.save(tmp_path / "set")
    assert NeuronSet.load(tmp_path / "set").id == neuron_set.id


def test_the_id_is_known_in_advance_and_differs_between_requests(corpus: Corpus) -> None:
    request = IdentificationRequest.of("lape")
    fingerprint, languages = FAKE_INFO.fingerprint, corpus.languages
    expected_id = request.neuron_set_id(fingerprint=fingerprint, corpus_hash=corpus.hash, languages=languages)
    longer = IdentificationRequest.of("lape", max_tokens=9)
    other = Corpus.open(next(iter(corpus.files.values())).parent, languages=["en", "tr"])
    assert _identify(corpus, "lape").id == expected_id
    assert _identify(corpus, "lape", top_rate=0.01).id == expected_id  # the default, spelled out
    others = [
        _identify(corpus, "lape", top_rate=0.02).id,
        _identify(corpus, "random").id,
        _identify(corpus, "random", seed=1).id,
        longer.neuron_set_id(fingerprint=fingerprint, corpus_hash=corpus.hash, languages=languages),
        request.neuron_set_id(fingerprint="1" * 64, corpus_hash=corpus.hash, languages=languages),
        request.neuron_set_id(fingerprint=fingerprint, corpus_hash=other.hash, languages=other.languages),
    ]
    assert len({expected_id, *others}) == 7


def test_random_has_as_many_neurons_in_each_layer_as_lape(corpus: Corpus) -> None:
    lape, random = _identify(corpus, "lape", top_rate=0.2), _identify(corpus, "random", top_rate=0.2)
    for code in lape.languages:
        np.testing.assert_array_equal(lape.neurons[code][:, 0], random.neurons[code][:, 0])
    assert any(lape.neurons[code].tolist() != random.neurons[code].tolist() for code in lape.languages)


def test_average_precision_finds_the_neurons_of_recorded_means(
    reference: Callable[[Family], TransformersEngine], model_folder: Callable[[Family], Path], corpus: Corpus
) -> None:
    engine = reference("qwen2")
    request = IdentificationRequest.of("average_precision", {"neurons": 9})
    neuron_set = asyncio.run(identify(engine, corpus, request))
    hand, tokenizer = HandModel(model_folder("qwen2")), engine._model.tokenizer
    means = [
        (code, torch.stack(hand.activations(tokenizer.encode(text)), dim=1).mean(dim=0).flatten())
        for code, lines in TEXTS.items()
        for text in lines
    ]
    for code, pairs in neuron_set.neurons.items():
        positive = [language == code for language, _ in means]
        scores = np.array(
            [
                direct_average_precision(positive, column.tolist())
                for column in torch.stack([mean for _, mean in means]).T
            ]
        )
        chosen = pairs[:, 0] * neuron_set.width + pairs[:, 1]
        assert len(chosen) == 9
        assert scores[chosen].min() >= np.delete(scores, chosen).max() - 1e-12
    assert neuron_set.params == {"neurons": 9, "max_tokens": 100_000}
    assert neuron_set.patch is not None


def test_average_precision_takes_its_number_from_the_model_and_leaves_no_file(corpus: Corpus, tmp_path: Path) -> None:
    info, request = FakeEngine().info, IdentificationRequest.of("average_precision")
    complete = request.for_model("google/gemma-2-2b-it", widths=info.widths)
    assert complete.params == {"neurons": 354}
    assert request.for_model("fake", widths=LayerWidths(info.layers, 1000)).params == {"neurons": 12}
    given = IdentificationRequest.of("average_precision", {"neurons": 5})
    assert given.for_model("google/gemma-2-2b-it", widths=info.widths) == given
    checkpoint = checkpoint_in(tmp_path / "beside", info, corpus, given)
    neuron_set = asyncio.run(identify(FakeEngine(), corpus, given, checkpoint=checkpoint))
    assert [len(pairs) for pairs in neuron_set.neurons.values()] == [5, 5, 5]
    assert list((tmp_path / "beside").iterdir()) == []


def test_every_method_gives_every_language_an_entry(corpus: Corpus) -> None:
    assert {code: len(pairs) for code, pairs in _identify(corpus, "act_prob", neurons=7).neurons.items()} == {
        "en": 7,
        "ja": 7,
        "tr": 7,
    }
    assert _identify(corpus, "activated").languages == ("en", "ja", "tr")
    assert IdentificationRequest.of("act_prob").params == {"neurons": 897}


@pytest.mark.parametrize(
    ("method", "params", "param"),
    [
        ("magic", {}, "method"),
        ("lape", {"neurons": 5}, "params"),
        ("activated", {"top_rate": 0.1}, "params"),
        ("lape", {"top_rate": 0}, "params.top_rate"),
        ("lape", {"filter_rate": 1.1}, "params.filter_rate"),
        ("lape", {"activation_bar": "high"}, "params.activation_bar"),
        ("lape", {"top_rate": True}, "params.top_rate"),
        ("act_prob", {"neurons": 0}, "params.neurons"),
        ("act_prob", {"neurons": 1.5}, "params.neurons"),
        ("average_precision", {"neurons": 0}, "params.neurons"),
        ("random", {"seed": -1}, "params.seed"),
    ],
)
def test_a_wrong_method_or_parameter_is_named(method: str, params: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        IdentificationRequest.of(method, params)
    assert caught.value.param == param


def test_the_token_limit_must_be_positive(corpus: Corpus) -> None:
    with pytest.raises(InvalidRequest) as caught:
        IdentificationRequest.of("lape", max_tokens=0)
    assert caught.value.param == "max_tokens"
    limited = asyncio.run(FakeEngine().record(corpus.sentences(), RecordRequest(max_tokens=40)))
    assert (limited.tokens <= 40).all()
    assert limited.sentences.tolist() == [1, 1, 2]
