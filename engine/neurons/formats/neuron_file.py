"""Reads neurons from a file of another project. The file's content decides how it is read, not its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neurons.formats.neuron_json import from_json
from engine.neurons.formats.neuron_table import FORM
from engine.neurons.formats.neuron_text import read_text
from engine.neurons.formats.tensor_file import FileKind, file_kind
from engine.neurons.neuron_set import NeuronSet

_ACCEPTED = (
    f"write JSON {{language: {{layer: [index, ...]}}}} or {FORM}, or save lists over languages of lists over layers of "
    "index tensors with torch.save"
)
_REJECTED: Mapping[FileKind, str] = {
    "pickle": "is a Python pickle, which can run code when it is read; it was not read",
    "numpy": "is a NumPy array, which does not say what its axes are",
    "safetensors": "is a safetensors file, and neurons have no agreed form in one (for a neuron set of Ampsweep, give "
    "its folder)",
}


def read_neuron_file(path: Path, *, model: ModelFolder, languages: Sequence[str] | None) -> NeuronSet:
    """Read a neuron set from JSON (`from_json`), from a table, or from a file of `torch.save` (`from_lape_lists`).

    Args:
        path: The file.
        model: The model that the neurons belong to.
        languages: The languages of a file that is a list over languages, in its order; otherwise None.

    Returns:
        The neuron set, without patch values.

    Raises:
        InvalidRequest: The file is not of an accepted kind, or its neurons are invalid or do not fit the model.
    """
    kind = file_kind(path)
    if kind in _REJECTED:
        raise InvalidRequest(f"{path.name} {_REJECTED[kind]}; {_ACCEPTED}", param="file")
    if kind == "torch":
        from engine.neurons.formats.lape_lists import from_lape_lists

        return from_lape_lists(path, languages=languages, model=model)
    content = read_text(path, param="file", otherwise=", nor a file of torch.save")
    if languages is not None:
        raise InvalidRequest(f"{path.name} names its languages itself; leave them out", param="languages")
    return from_json(content, model=model)
