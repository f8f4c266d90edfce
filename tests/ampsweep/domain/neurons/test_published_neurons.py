"""How many neurons average precision selects: the published number of a model, or a share of its neurons."""

from __future__ import annotations

import pytest

from ampsweep.domain.neurons.published_neurons import PUBLISHED, SHARE, default_neurons

SHAPES = {  # layers and neurons of a layer, from the models' configs
    "gemma-2-2b-it": (26, 9216),
    "gemma-2-9b-it": (42, 14336),
    "qwen2.5-0.5b-instruct": (24, 4864),
    "qwen2.5-7b-instruct": (28, 18944),
    "seallms-v3-1.5b-chat": (28, 8960),
    "seallms-v3-7b-chat": (28, 18944),
}


@pytest.mark.parametrize(
    "name",
    [
        "google/gemma-2-9b-it",
        "models/gemma-2-9b-it/",
        "gemma-2-9b-it",
        "google/Gemma-2-9b-it@11c9b309abf73637e4b6f9a3fa1e92e615547819",
    ],
)
def test_a_published_model_is_known_by_its_name(name: str) -> None:
    assert default_neurons(name, total=42 * 14336) == 897
    assert default_neurons("gemma", name, total=42 * 14336) == 897, "a server may call it otherwise"
    assert default_neurons(name, None, total=42 * 14336) == 897


def test_other_models_get_the_mean_of_the_published_shares() -> None:
    shares = [PUBLISHED[name] / (layers * width) for name, (layers, width) in SHAPES.items()]
    assert set(SHAPES) == set(PUBLISHED)
    assert pytest.approx(sum(shares) / len(shares), abs=5e-5) == SHARE
    assert default_neurons("mine", None, total=4096) == 12
    assert default_neurons(total=10) == 1
