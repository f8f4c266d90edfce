"""Neurons from a file of another tool, whatever it is called: what is in it decides how it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ampsweep.documents import parse_json
from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neurons.neuron_json import from_json
from engine.neurons.neuron_set import NeuronSet
from engine.neurons.tensor_file import FileKind, file_kind

_INSTEAD = (
    "write JSON {language: {layer: [index, ...]}}, or save lists over languages of lists over layers of index tensors "
    "with torch.save"
)
_REFUSED: Mapping[FileKind, str] = {
    "pickle": "is a Python pickle, which can run code when it is read, and was not read",
    "numpy": "is a NumPy array, which does not say what its axes are",
    "safetensors": "is a safetensors file, whose tensors have no agreed form for neurons (of a neuron set of Ampsweep "
    "give the folder)",
}


def read_neuron_file(path: Path, *, model: ModelFolder, languages: Sequence[str] | None) -> NeuronSet:
    """Read a file of `torch.save` or JSON for a model: by language and layer, see `from_lape_lists` and `from_json`.

    `languages` names the languages of a file that is a list over them, in its order; otherwise it is None. Raises
    InvalidRequest naming what is wrong and the remedy.
    """
    kind = file_kind(path)
    if kind in _REFUSED:
        raise InvalidRequest(f"{path.name} {_REFUSED[kind]}; {_INSTEAD}", param="file")
    if kind == "torch":
        from engine.neurons.lape_lists import from_lape_lists

        return from_lape_lists(path, languages=languages, model=model)
    content = _json(path)
    if languages is not None:
        raise InvalidRequest(f"{path.name} names its languages itself; leave them out", param="languages")
    return from_json(content, model=model)


def _json(path: Path) -> object:
    try:
        return parse_json(path.read_bytes(), source=path.name, param="file")
    except ValueError as error:
        raise InvalidRequest(
            f"{path.name} is neither JSON {{language: {{layer: [index, ...]}}}} nor a file of torch.save: {error}",
            param="file",
        ) from error
