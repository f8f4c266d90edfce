"""The methods paragraph, sentence by sentence, against the spec that it describes."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.report.prose.methods import methods_paragraph
from jobs.report.sources.provenance import Provenance

SPEC: dict[str, Any] = {
    "name": "small",
    "model": "tiny",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "ht"], "top_rate": 0.05},
    "interventions": {"op": "set", "factors": [0.5, 2.0], "layers": "all", "scope": "all", "controls": []},
    "tasks": [{"name": "lss", "languages": ["en", "fr"]}],
    "mode": ["corrected"],
    "seed": 4,
}
SOURCES: dict[str, list[Any]] = {
    "models": [{"name": "tiny", "sha256": "a" * 64}],
    "engines": [{"name": "vllm", "versions": "vllm==0.32.0", "dtype": "float32"}],
    "neurons": ["ns_1"],
    "data": [{"task": "lss", "language": language, "sha256": "b" * 64} for language in ("en", "fr")],
}
COMPUTED = {"ampsweep": "0.1.0", "torch": "2.13.0", "vllm": "0.32.0"}


def paragraph(*, version: str = "0.1.0", signatures: tuple[str, ...] = (), failed: int = 0, **changed: Any) -> str:
    provenance = Provenance(
        sweep_id="swp_1",
        spec={**SPEC, **changed},
        version=version,
        versions=[COMPUTED],
        failed_cells={f"cell_{index}": "out of memory" for index in range(failed)},
        sources=SOURCES,
        files={},
    )
    return methods_paragraph(provenance, samples=120, signatures=signatures)


def interventions(**changed: Any) -> dict[str, Any]:
    return {"interventions": {**SPEC["interventions"], **changed}}


def task(**changed: Any) -> dict[str, Any]:
    return {"tasks": [{**SPEC["tasks"][0], **changed}]}


def test_it_names_the_sweep_the_model_and_how_its_neurons_were_found() -> None:
    assert paragraph().startswith(
        "Sweep swp_1 of model tiny (SHA-256 aaaaaaaaaaaa; engine vllm in float32), with neurons found by lape on "
        "corpus atlas over 3 languages (en, fr, ht; top_rate 0.05) (ns_1). "
    )
    assert "of model tiny, revision 1f2e (SHA-256" in paragraph(revision="1f2e")
    assert "with neuron set ns_7." in paragraph(neurons={"id": "ns_7"})


@pytest.mark.parametrize(
    ("spec_part", "sentence"),
    [
        ({}, "set with 0.5, 2 (layers: all; tokens: all); controls beside the unsteered model: none."),
        ({"op": "add"}, "changed by add with 0.5, 2 (layers"),
        ({"patch": ["max", "mean"]}, "set with 0.5, 2 times the max and the mean (layers"),
        ({"statistic": ["p10"], "factors": None}, "set with 1 times the p10 (layers"),
        ({"layers": [2, 3], "scope": "prompt"}, "(layers: [2, 3]; tokens: prompt)"),
        ({"layers": "each"}, "(layers: each; tokens: all)"),
        ({"scope": "prompt", "tokens": {"positions": [0, -1]}}, "tokens: prompt (positions=-1 0))"),
        ({"tokens": [{"end": 8}]}, "tokens: all (end=8))"),
        ({"tokens": [None, {"end": 8, "decay": 0.5}]}, "tokens: all (in turn: all, then end=8, decay=0.5))"),
        ({"part": "thinking"}, "(layers: all; tokens: all; only what the model thought)"),
        ({"part": [None, "answer"]}, "; in turn: all of the text, then only the answer after what the model thought)"),
        (
            {"when": [None, "drift"]},
            "; in turn: always, then only while the text of an answer was in another language)",
        ),
        (
            {"when": [{"drift": {"window": 90}}]},
            "tokens: all; only while the text of an answer was in another language (window=90))",
        ),
        ({"when": "drift"}, "(layers: all; tokens: all; only while the text of an answer was in another language)"),
        (
            {"controls": ["random", "other"]},
            "unsteered model: as many neurons of each layer drawn at random, another language's neurons.",
        ),
        ({"languages": ["fr", "ht"]}, "Target languages: fr, ht."),
        ({"languages": {"fr": 1.0, "ht": 0.5}}, "Target languages: fr (weight 1), ht (weight 0.5)."),
        ({"non_target": {"op": "set", "factor": 0.0}}, "Neurons of all other languages: set with 0."),
    ],
)
def test_it_says_how_activations_were_changed(spec_part: dict[str, Any], sentence: str) -> None:
    assert sentence in paragraph(**interventions(**spec_part))


def test_it_describes_each_of_several_operations() -> None:
    ops = [{"op": "set", "patch": ["max"]}, {"op": "scale", "factors": [0.0, 2.0]}]
    text = paragraph(interventions={"ops": ops, "layers": "all", "scope": "all", "controls": []})
    assert "changed by set with 1 times the max and by scale with 0, 2 (layers: all" in text


def test_unused_options_are_not_mentioned() -> None:
    text = paragraph()
    for word in ("Target languages", "other languages:", "halving", "signatures", "template", "steered to", "split"):
        assert word not in text


@pytest.mark.parametrize(
    ("spec_part", "sentence"),
    [
        ({}, "Tasks: lss in en, fr, on the facts that all of its languages have (data SHA-256 bbbbbbbbbbbb)."),
        ({"facts": "any"}, "lss in en, fr, on all facts, each pair of languages without those that it lacks (data"),
        ({"limit": 24}, "that all of its languages have, 24 items drawn at random with the sweep's seed (data"),
        ({"name": "xcopa", "limit": 24}, "Tasks: xcopa in en, fr, the first 24 items."),
        (
            {"name": "lm_eval:belebele_{flores}", "limit": 5},
            "Tasks: lm_eval:belebele_{flores} in en, fr, the first 5 items.",
        ),
        ({"targets": ["ht"]}, "lss in en, fr, steered to ht, on the facts"),
        ({"split": "test"}, "lss in en, fr, split test, on the facts"),
        ({"name": "include", "chat": True}, "include in en, fr, asked through the model's chat template."),
    ],
)
def test_it_describes_each_task(spec_part: dict[str, Any], sentence: str) -> None:
    assert sentence in paragraph(**task(**spec_part))


def test_it_names_the_adapter_of_the_model_and_the_identifier_that_steering_depended_on() -> None:
    provenance = Provenance(
        sweep_id="swp_1",
        spec={**SPEC, **interventions(when="drift")},
        version="0.1.0",
        versions=[COMPUTED],
        failed_cells={},
        sources={**SOURCES, "adapters": [{"name": "formal", "sha256": "d" * 64}], "identifiers": ["py3langid 1"]},
        files={},
    )
    text = methods_paragraph(provenance, samples=1, signatures=())
    assert "engine vllm in float32), with the LoRA adapter formal (SHA-256 dddddddddddd), with neurons" in text
    assert "only while the text of an answer was in another language (py3langid 1))" in text


def test_data_of_several_files_has_one_hash_over_all_of_them() -> None:
    data = [{**SOURCES["data"][0], "sha256": "c" * 64}, SOURCES["data"][1]]
    provenance = Provenance(
        sweep_id="swp_1",
        spec=SPEC,
        version="0.1.0",
        versions=[COMPUTED],
        failed_cells={},
        sources={**SOURCES, "data": data},
        files={},
    )
    text = methods_paragraph(provenance, samples=1, signatures=())
    assert "over all languages)" in text
    assert "cccccccccccc" not in text


def test_it_says_how_factors_were_searched() -> None:
    halving = {"method": "halving", "items": 8, "keep": 2}
    sentence = "Factors were searched by successive halving on lss from 8 items on; 2 of each target were tried on all."
    assert sentence in paragraph(search=halving)


def test_it_gives_the_mode_the_seed_and_the_numbers_of_cells_and_samples() -> None:
    assert "Mode: corrected. Seed 4; 120 samples; 0 cells failed." in paragraph()
    assert "Mode: corrected and paper. Seed 0; 120 samples; 2 cells failed." in paragraph(
        mode=["corrected", "paper"], seed=0, failed=2
    )


def test_it_says_how_differences_were_tested() -> None:
    text = paragraph(signatures=("nrefs:1|tok:13a", "nrefs:1|nc:6"))
    for words in (
        "Intervals (95 %) of shares of independent items are Wilson's",
        "percentile bootstraps over items (2000 resamples, seeded by the cell)",
        "exact McNemar tests for accuracies",
        "sign-flip tests for means and permutation tests for rates over several answers to an item",
        "(exact for at most 13 items that differ, otherwise with 10000 random patterns)",
        "sacrebleu's paired bootstrap (1000 resamples, seed 12345)",
        "LSS, itself a comparison, has an interval and no test",
        "Holm-corrected over the languages of an intervention",
        "Signatures of metrics (sacrebleu, language identifiers): nrefs:1|tok:13a; nrefs:1|nc:6.",
    ):
        assert words in text


def test_it_names_its_own_version_and_that_of_every_library() -> None:
    assert paragraph().endswith("Versions: ampsweep 0.1.0, torch 2.13.0, vllm 0.32.0.")
    assert paragraph(version="0.2.0").endswith("vllm 0.32.0; summarised by ampsweep 0.2.0.")
