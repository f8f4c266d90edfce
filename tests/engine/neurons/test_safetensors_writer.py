"""Arrays as a safetensors file: errors of the file system are OSErrors, which callers wait for or explain."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ampsweep.errors import Unavailable
from engine.neurons.safetensors_writer import save_tensors
from jobs.neuron_sets.registry import NeuronSets
from tests.engine.neuron_sets import make_neuron_set


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: the system refuses writes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_arrays_are_written_in_their_order_in_memory(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_tensors({"a": array.T}, tmp_path / "file")
    assert load_file(tmp_path / "file")["a"].tolist() == array.T.tolist()


def test_a_write_that_the_system_refuses_is_its_error_and_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with files_of_at_most(4096), pytest.raises(OSError, match="File too large") as refused:
        save_tensors({"a": np.zeros(100_000, dtype=np.float32)}, target)
    assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(target))


def test_an_error_of_the_library_alone_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: invalid shape")

    monkeypatch.setattr("engine.neurons.safetensors_writer.save_file", refuse)
    with pytest.raises(SafetensorError, match="invalid shape"):
        save_tensors({"a": np.zeros(2, dtype=np.float32)}, tmp_path / "file")


def test_a_set_that_cannot_be_written_is_unavailable_and_can_be_published_later(tmp_path: Path) -> None:
    sets, found = NeuronSets(tmp_path / "neurons"), make_neuron_set({"fr": [(0, 1)]}, width=4096)
    with files_of_at_most(4096), pytest.raises(Unavailable, match=r"cannot be saved below .*: File too large"):
        sets.publish(found.id, found.save)
    assert list(sets.folder.iterdir()) == []
    sets.publish(found.id, found.save)
    assert sets.has(found.id)
