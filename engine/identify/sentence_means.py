"""The mean activations of every recorded sentence, in a temporary file, because they exceed memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ampsweep.errors import Unavailable
from ampsweep.files import write_problem


class SentenceMeans:
    """Means of sentences of N neurons each, 4 * N bytes a sentence on disk.

    The file has no name, so it disappears when this object is closed or the process dies. Use it as a context manager.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Create the file in `folder`, which is created if it does not exist; by default in the system's folder."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder or Path(tempfile.gettempdir())
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by `close`
        self._languages: list[str] = []
        self._neurons = 0

    @property
    def languages(self) -> tuple[str, ...]:
        """The language of each sentence, in the order in which they were added."""
        return tuple(self._languages)

    def append(self, language: str, mean: NDArray[np.float32]) -> None:
        """Add the means of a sentence, float32 of any shape with N elements.

        Raises:
            Unavailable: The disk is full or cannot be written to.
        """
        content = np.ascontiguousarray(mean, dtype=np.float32)
        assert self._neurons in (0, content.size), "every sentence has the same number of neurons"
        self._neurons = content.size
        try:
            self._file.write(content.data)
            self._file.flush()
        except OSError as error:
            message = f"mean activations cannot be written to {self._folder}: {write_problem(error)}"
            size = content.nbytes / 1024**2
            raise Unavailable(f"{message}; average_precision needs {size:.1f} MiB for each sentence") from error
        self._languages.append(language)

    def blocks(self, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the means of up to `size` neurons at a time, float32 [S, size], each with its first neuron's number."""
        if not self._languages:
            return
        shape = len(self._languages), self._neurons
        means = np.memmap(self._file, dtype=np.float32, mode="r", shape=shape)
        for first in range(0, self._neurons, size):
            yield first, np.array(means[:, first : first + size])

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def __enter__(self) -> SentenceMeans:
        """Return the object itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Delete the file."""
        self.close()
