from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neurons.formats.mean_activations import with_mean_activations
from engine.neurons.formats.neuron_json import from_json
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import resolve

MODEL = ModelFolder(name="made-up", fingerprint="f" * 64, layers=2, width=4)
MEANS = {
    "fr": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]],
    "en": [[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]],
    "tr": [[2.0, 1.0, 2.0, 1.0], [2.0, 1.0, 2.0, 3.0]],
}


@pytest.fixture
def neurons() -> NeuronSet:
    return from_json({"fr": {0: [1, 3]}, "en": {1: [2]}, "tr": {1: [3]}}, model=MODEL)


def write(folder: Path, **changes: Any) -> str:
    """Write the files of all languages as the recording does; `changes` replace the content of single ones."""
    for language, means in MEANS.items():
        content = {
            "n": 10,
            "over_zero": torch.zeros(2, 4, dtype=torch.int32),
            "average_activations": torch.tensor(means),
        }
        torch.save(changes.get(language, content), folder / f"activation.{language}.llama")
    return str(folder / "activation.{language}.llama")


def test_the_means_are_patch_values_of_the_set(tmp_path: Path, neurons: NeuronSet) -> None:
    with_means = with_mean_activations(neurons, write(tmp_path))
    with_means.save(tmp_path / "set")
    loaded = NeuronSet.load(tmp_path / "set")
    assert loaded.id == with_means.id != neurons.id
    assert loaded.metadata(sha256="").patch == ("mean",)
    assert loaded.patch is not None
    np.testing.assert_array_equal(loaded.patch.mean, [MEANS[language] for language in loaded.languages])


def test_mean_and_difference_can_be_asked_for_and_other_patch_values_cannot(tmp_path: Path, neurons: NeuronSet) -> None:
    with_means = with_mean_activations(neurons, write(tmp_path))

    def edited(op: str, patch: str) -> list[float]:
        intervention = Intervention.from_dict({"languages": ["fr"], "op": op, "patch": patch, "factor": 2})
        added: list[float] = resolve(intervention, with_means).add.tolist()
        return added

    assert edited("set", "mean") == [4.0, 8.0]
    assert edited("add", "difference") == [2 * (2 - 1), 2 * (4 - 1)]
    with pytest.raises(InvalidRequest, match="no patch values max: only mean activations were imported") as refused:
        edited("set", "max")
    assert refused.value.param == "intervention.patch"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2, 4)], "must be a dict with a tensor of floats named average_activations"),
        ({"n": 10, "over_zero": torch.zeros(2, 4)}, "must be a dict with a tensor of floats named average_activations"),
        ({"average_activations": torch.zeros(2, 4).int()}, "tensor of floats"),
        ({"average_activations": torch.zeros(3, 4)}, "means of 3 x 4 neurons; the model has 2 x 4"),
        (
            {"average_activations": torch.tensor([[0, 0, 0, 0], [0, 0, float("nan"), 0]])},
            "must have finite means; got nan for neuron 2 of layer 1; record them again",
        ),
    ],
)
def test_another_file_is_refused(tmp_path: Path, neurons: NeuronSet, content: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        with_mean_activations(neurons, write(tmp_path, en=content))
    assert refused.value.param == "means"
    assert "activation.en.llama" in str(refused.value)


def test_every_language_needs_a_file(tmp_path: Path, neurons: NeuronSet) -> None:
    pattern = write(tmp_path)
    (tmp_path / "activation.tr.llama").unlink()
    with pytest.raises(InvalidRequest, match=r"there is no file .*activation\.tr\.llama"):
        with_mean_activations(neurons, pattern)
    with pytest.raises(InvalidRequest, match=r"must contain \{language\}"):
        with_mean_activations(neurons, str(tmp_path / "activation.tr.llama"))
