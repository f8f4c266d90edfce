"""What `torch.save` wrote, read as plain tensors: containers, numbers, texts and tensors, never code."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import torch

from ampsweep.errors import InvalidRequest

_STARTS = (b"PK\x03\x04", b"\x80\x02")
"""How such files begin: the zip archive of today's torch, the bare pickle of torch before 1.6."""

_DAMAGE = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, struct.error)
"""What torch raises of bytes that it did not write."""


def is_tensor_file(path: Path) -> bool:
    """Whether a file begins as those of `torch.save` do, whatever it is called; InvalidRequest if it is not there."""
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(_STARTS)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", param="file") from error


def read_tensors(path: Path) -> object:
    """Return what is in a file of `torch.save`.

    Raises InvalidRequest where there is more than plain containers and tensors in it, or less than was written.
    """
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InvalidRequest(
            f"{path.name} cannot be read as plain tensors: it is damaged, or it holds objects that would run code when "
            "they are read, and was not read. Where you trust it, save its lists of tensors anew with torch.save",
            param="file",
        ) from error
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidRequest(f"{path.name} cannot be read as plain tensors: {reason}", param="file") from error
    return content
