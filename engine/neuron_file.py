"""Neurons from a file of another tool, whatever it is called: what is in it decides how it is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neuron_json import from_json
from engine.neuron_set import NeuronSet
from engine.tensor_file import is_tensor_file


def read_neuron_file(path: Path, *, model: ModelFolder, languages: Sequence[str] | None) -> NeuronSet:
    """Read lists of tensors (a file of `torch.save`) or JSON `{language: {layer: [index, ...]}}` for a model.

    `languages` names the languages of lists of tensors, in their order; JSON names its own, so there it is None.
    Raises InvalidRequest naming what is wrong and the remedy.
    """
    if is_tensor_file(path):
        if languages is None:
            raise InvalidRequest(
                f"{path.name} does not name its languages: give their codes in its order as --languages, or the file "
                "that names them as --languages-from",
                param="languages",
            )
        from engine.lape_lists import from_lape_lists

        return from_lape_lists(path, languages=languages, model=model)
    if languages is not None:
        raise InvalidRequest(f"{path.name} is JSON and names its languages itself; leave them out", param="languages")
    return from_json(_json(path), model=model)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequest(
            f"{path.name} is neither JSON {{language: {{layer: [index, ...]}}}} nor a file of torch.save: {error}",
            param="file",
        ) from error
