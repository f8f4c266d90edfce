"""What is checked before an engine starts: files, options, neuron sets, interventions and prompts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import AmpsweepError, InvalidRequest, NoNeurons, PromptTooLong, UnknownName
from ampsweep.folders.model import context_length, read_model_folder
from engine.neurons.formats.neuron_json import from_json
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.settings import VllmSettings
from worker.engines import EngineSpec
from worker.start_checks import check_prompts, check_start, check_steering, most_tokens

ATLAS = EngineSpec(model="atlas", folder=ATLAS_MODEL)


@pytest.fixture(scope="module")
def neurons() -> NeuronSet:
    return from_json({"fr": {"0": [1]}, "tr": {}}, model=read_model_folder(ATLAS_MODEL))


def test_a_set_of_the_model_is_accepted(neurons: NeuronSet) -> None:
    assert check_start(ATLAS, neurons) == ()
    check_steering(Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2}), neurons)


def test_a_set_of_another_model_is_rejected_or_warned_about(neurons: NeuronSet) -> None:
    with pytest.raises(InvalidRequest, match=r"is for 3 layers.*use a set of this model") as refused:
        check_start(ATLAS, replace(neurons, layers=3))
    assert refused.value.param == "neurons"
    (warning,) = check_start(ATLAS, replace(neurons, fingerprint="0" * 64, model="other"))
    assert "was made for another model of the same shape (other)" in warning


@pytest.mark.parametrize(
    ("intervention", "kind", "param"),
    [
        ({"languages": ["de"], "op": "scale", "factor": 2}, UnknownName, "intervention.languages"),
        ({"languages": ["tr"], "op": "scale", "factor": 2}, NoNeurons, "intervention.languages"),
        ({"languages": ["fr"], "op": "scale", "factor": 2, "layers": [9]}, InvalidRequest, "intervention.layers"),
        ({"languages": ["fr"], "op": "scale", "factor": 2, "layers": [3]}, NoNeurons, "intervention.layers"),
        ({"languages": ["fr"], "op": "set", "patch": "max"}, InvalidRequest, "intervention.patch"),
        ({"languages": ["fr"], "op": "add", "factor": 2, "vector": "diffmean"}, InvalidRequest, "intervention.vector"),
    ],
)
def test_an_intervention_that_the_set_cannot_give_is_rejected(
    intervention: dict[str, Any], kind: type[AmpsweepError], param: str, neurons: NeuronSet
) -> None:
    with pytest.raises(kind) as refused:
        check_steering(Intervention.from_dict(intervention), neurons)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"kind": "llama"}, "engine", "unknown engine"),
        ({"kind": "transformers", "vllm": VllmSettings(adapters={"a": Path("a")})}, "lora", "require the vllm engine"),
        (
            {"kind": "transformers", "vllm": VllmSettings(batch_invariant=True)},
            "batch_invariant",
            "requires the vllm engine",
        ),
        ({"vllm": VllmSettings(adapters={"a": Path("/no/such")})}, "lora", "there is no folder /no/such"),
    ],
)
def test_options_and_adapters_are_checked(change: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        check_start(replace(ATLAS, **change))
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("left_out", "message"), [("model.safetensors", "no .*safetensors file"), ("tokenizer", "has no tokenizer")]
)
def test_the_files_of_the_model_are_checked(left_out: str, message: str, tmp_path: Path) -> None:
    for path in ATLAS_MODEL.iterdir():
        if not path.name.startswith(left_out):
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(InvalidRequest, match=message) as refused:
        check_start(replace(ATLAS, folder=tmp_path))
    assert refused.value.param == "model"


def test_a_prompt_that_is_longer_than_the_context_is_rejected() -> None:
    limit = context_length(ATLAS_MODEL)
    assert limit == 2048
    check_prompts(ATLAS_MODEL, ["Hello"])
    check_prompts(ATLAS_MODEL, ["currency " * 300])  # many bytes, few tokens
    with pytest.raises(PromptTooLong) as refused:
        check_prompts(ATLAS_MODEL, ["1 a " * 3000])
    assert refused.value.param == "prompt"


def test_the_bound_of_the_tokens_is_at_least_their_number() -> None:
    for text in ("", "Hello", "\N{SNOWMAN}" * 5):
        assert most_tokens(text) >= len(text.encode()) + 1


def test_a_chat_needs_a_template() -> None:
    with pytest.raises(InvalidRequest, match="has no chat template") as refused:
        check_prompts(ATLAS_MODEL, ["Hello"], chat=True)
    assert refused.value.param == "chat"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 77}, 77),
        ({"text_config": {"max_position_embeddings": 78}}, 78),
        ({"n_positions": 79}, 79),
        ({"max_position_embeddings": 80, "rope_scaling": {"type": "yarn", "factor": 4.0}}, None),
        ({"max_position_embeddings": 81, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 81),
        ({"max_position_embeddings": 82, "rope_parameters": {"full_attention": {"rope_type": "linear"}}}, None),
        ({}, None),
        ([], None),
    ],
)
def test_the_context_of_a_model_is_read_from_its_config(config: Any, expected: int | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert context_length(tmp_path) == expected
