"""Writes arrays as a safetensors file, with the errors of the file system that its writer hides."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


def save_tensors(arrays: Mapping[str, NDArray[Any]], path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays to a file.

    Args:
        arrays: The arrays by name; they need not be contiguous.
        path: The file.
        metadata: Further metadata of the file.

    Raises:
        OSError: The disk is full or cannot be written to. safetensors has an error of its own for that, which callers
            would take for a bug.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        save_file(contiguous, path, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        if (match := _SYSTEM_ERROR.search(str(error))) is None:
            raise
        number = int(match[1])
        raise OSError(number, os.strerror(number), str(path)) from error
