"""Reads the neurons of a set from its file, for the plans of sweeps that edit one neuron at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ampsweep.domain.languages.codes import with_short_codes
from ampsweep.domain.neurons.neuron_set import TENSORS_FILE
from ampsweep.errors import DamagedFile

_PREFIX = "neurons."

Neurons = Mapping[str, tuple[tuple[int, int], ...]]
"""The neurons of each language as (layer, index), in the order of the set: by layer, then by index."""


def read_neurons(folder: Path) -> Neurons:
    """Return the neurons of the set in a folder. Patch values and other large arrays are not read.

    Raises:
        DamagedFile: if the file with the neurons is missing or cannot be read.
    """
    try:
        with safe_open(folder / TENSORS_FILE, framework="numpy") as file:
            neurons = {
                name.removeprefix(_PREFIX): tuple((layer, index) for layer, index in file.get_tensor(name).tolist())
                for name in file.keys()  # noqa: SIM118  # not a mapping
                if name.startswith(_PREFIX)
            }
    except (OSError, ValueError, SafetensorError) as error:
        raise DamagedFile(f"neuron set {folder.name} cannot be read: {error}; identify or import it again") from error
    return with_short_codes(neurons)
