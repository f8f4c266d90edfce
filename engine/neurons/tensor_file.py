"""What `torch.save` wrote, read as plain tensors: containers, numbers, texts and tensors, never code."""

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
"""A file of torch before 1.6: a pickle of protocol 2 that begins with a magic number of 10 bytes."""
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_NUMPY = b"\x93NUMPY"
_LONGEST_HEADER = 100_000_000
"""Bytes of a header of safetensors, the format's limit."""

_DAMAGE = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, struct.error)
"""What torch raises of bytes that it did not write."""


def file_kind(path: Path) -> FileKind:
    """Return what a file is by its first bytes, whatever it is called; InvalidRequest if it cannot be opened."""
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
    length = int.from_bytes(head[:8], "little")  # of a safetensors file's header, which is JSON
    return "safetensors" if head[8:] == b"{" and length < _LONGEST_HEADER else "text"


def _is_npz(path: Path) -> bool:
    """Whether a zip archive is one of NumPy's; one that cannot be listed is left to torch to refuse."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_tensors(path: Path) -> object:
    """Return what is in a file of `torch.save`.

    Raises InvalidRequest where there is more than plain containers and tensors in it, or less than was written.
    """
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = _unpickled(error)
        raise InvalidRequest(f"{path.name} cannot be read as plain tensors: {reason}", param="file") from error
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidRequest(f"{path.name} cannot be read as plain tensors: {reason}", param="file") from error
    return content


def _unpickled(error: pickle.UnpicklingError) -> str:
    """Say what torch refused to unpickle, by the name that it gives."""
    if (found := re.search(r"GLOBAL ([\w.]+)", str(error))) is None:
        return (
            "it is damaged, or it holds objects that would run code when they are read, and was not read. Where you "
            "trust it, save its lists of tensors anew with torch.save"
        )
    if found[1].startswith("numpy."):
        return "it holds NumPy arrays, not tensors; save it anew with torch.from_numpy(array) in place of each"
    return f"it holds {found[1]}, an object that would run code when it is read; save its lists of tensors anew"
