"""Of a multimodal model, the language model is steered, as if it were alone; its vision tower is left as it is."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import read_model_folder
from benchmarks.comparisons.mixed_load import random_neurons
from benchmarks.models.families import LAYERS, Family
from benchmarks.models.multimodal import WRAPPERS
from engine.base import ScoreRequest, Steering
from engine.checkpoint import check_checkpoint
from engine.hf.engine import TransformersEngine
from engine.steering.self_test import self_test

MULTIMODAL = [family for family in get_args(Family) if family in WRAPPERS]
WIDTH = 96
WIDTHS: dict[Family, int | tuple[int, ...]] = {
    "gemma4": (WIDTH, WIDTH, 2 * WIDTH),  # layers that share keys and values have wider MLPs
    "mistral3_moe": (WIDTH, 360, 360),  # those of all experts
    "qwen3_vl_moe": 240,
    "glm4v_moe": (WIDTH, 320, 320),
}
NOT_ALONE = ("qwen", "glm4v", "mistral3_moe")
"""Transformers has no class of the language models of these families without a vision tower."""
RAW: tuple[dict[str, Any] | None, ...] = (
    None,
    {"languages": ["fr"], "op": "scale", "factor": 3.0},
    {"languages": ["tr"], "op": "set", "patch": "max", "layers": [1]},
)


def _first_here(families: list[Family]) -> list[Any]:
    """Return the families as parameters, all but the first for the tier of tests that take seconds together."""
    first, *others = families
    return [first, *(pytest.param(family, marks=pytest.mark.processes) for family in others)]


def logprobs(engine: TransformersEngine) -> list[tuple[float, ...]]:
    """Return the log-probabilities of a text, unsteered and steered with random neurons."""
    neurons = random_neurons(engine.info)
    engine.add_neurons(neurons)
    scores = []
    for raw in RAW:
        steering = None if raw is None else Steering(intervention=Intervention.from_dict(raw), neurons=neurons.id)
        request = ScoreRequest(context="the thing", continuation=" in the end is another", steering=steering)
        scores.append(asyncio.run(engine.score(request)).logprobs)
    return scores


@pytest.mark.parametrize("family", _first_here(MULTIMODAL))
def test_layers_are_counted_and_steered_in_the_language_model(
    family: Family, model_folder: Callable[[Family], Path], reference: Callable[[Family], TransformersEngine]
) -> None:
    engine, shape = reference(family), read_model_folder(model_folder(family))
    expected = (LAYERS, WIDTHS.get(family, WIDTH))
    assert (shape.layers, shape.width) == (engine.info.layers, engine.info.width) == expected
    modules = engine._model.model.named_modules()
    kinds = ("_HookedActivation", "HookedExperts")
    hooked = {path.partition(".mlp")[0] for path, module in modules if type(module).__name__ in kinds}
    assert len(hooked) == LAYERS
    assert all(path.startswith("model.language_model.layers.") for path in hooked)
    asyncio.run(self_test(engine))


@pytest.mark.parametrize("family", _first_here([family for family in MULTIMODAL if not family.startswith(NOT_ALONE)]))
def test_the_answers_are_those_of_the_language_model_alone(
    family: Family,
    model_folder: Callable[[Family], Path],
    reference: Callable[[Family], TransformersEngine],
    tmp_path: Path,
) -> None:
    whole: Any = AutoModelForImageTextToText.from_pretrained(model_folder(family))
    text: Any = AutoModelForCausalLM.from_config(whole.config.get_text_config())
    text.model.load_state_dict(whole.model.language_model.state_dict())
    text.lm_head.load_state_dict(whole.lm_head.state_dict())
    text.save_pretrained(tmp_path)
    for path in model_folder(family).glob("tokenizer*"):
        shutil.copy(path, tmp_path)
    language_model = logprobs(TransformersEngine(tmp_path, name=family))
    np.testing.assert_allclose(logprobs(reference(family)), language_model, rtol=0, atol=1e-5)


def test_the_weights_of_the_vision_tower_belong_to_the_model(
    model_folder: Callable[[Family], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model_folder("gemma3"), tmp_path / "model"))
    check_checkpoint(folder)
    weights = load_file(folder / "model.safetensors")
    removed = next(name for name in sorted(weights) if "vision_tower" in name)
    del weights[removed]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidRequest, match=r"lacks weights of its model: model\.vision_tower") as caught:
        check_checkpoint(folder)
    assert caught.value.param == "model"
