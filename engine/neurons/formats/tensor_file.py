"""Recognizes files by their content, and reads those of `torch.save` as plain data: containers, numbers and tensors.

No code that a file may contain is run.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Literal

import torch

from ampsweep.errors import InvalidRequest

FileKind = Literal["torch", "pickle", "numpy", "safetensors", "text"]

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0a"
"""Start of a file of torch before 1.6: a pickle of protocol 2 with a magic number of 10 bytes."""
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_NUMPY = b"\x93NUMPY"
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors format for its header."""

_LOAD_ERRORS = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, struct.error)
"""The exceptions that torch raises for a damaged file."""


def file_kind(path: Path) -> FileKind:
    """Return the kind of a file, judged by its first bytes.

    Raises:
        InvalidRequest: The file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if head.startswith(_ZIP):
            return "numpy" if _is_npz(path) else "torch"
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", param="file") from error
    if head.startswith(_LEGACY):
        return "torch"
    if _PICKLE.match(head):
        return "pickle"
    if head.startswith(_NUMPY):
        return "numpy"
    header_bytes = int.from_bytes(head[:8], "little")  # a safetensors file begins with the length of its JSON header
    return "safetensors" if head[8:] == b"{" and header_bytes < _MAX_HEADER_BYTES else "text"


def _is_npz(path: Path) -> bool:
    """Whether a zip archive was written by NumPy. Leave an archive that cannot be listed to torch."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_tensors(path: Path) -> object:
    """Return the content of a file of `torch.save`, which may hold plain containers, numbers, strings and tensors.

    Raises:
        InvalidRequest: The file holds other objects, or it is damaged.
    """
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = _explain(error)
        raise InvalidRequest(f"{path.name} cannot be read as plain tensors: {reason}", param="file") from error
    except _LOAD_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidRequest(f"{path.name} cannot be read as plain tensors: {reason}", param="file") from error
    return content


def _explain(error: pickle.UnpicklingError) -> str:
    """Return what torch refused to unpickle, and what to do."""
    if (rejected := re.search(r"GLOBAL ([\w.]+)", str(error))) is None:
        return (
            "it is damaged, or it holds objects that would run code when they are read; if you trust the file, save "
            "its lists of tensors again with torch.save"
        )
    if rejected[1].startswith("numpy."):
        return "it holds NumPy arrays, not tensors; save it again with torch.from_numpy(array) for each array"
    return f"it holds {rejected[1]}, an object that would run code when it is read; save its lists of tensors again"
