"""Files as the objects of an S3 or Google Cloud Storage bucket, below a prefix.

An object appears when its upload is complete, so a file is first written whole to the local disk, then sent. An upload
that the service refuses, or whose process died, is never completed; a lifecycle rule of the bucket clears its parts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import SplitResult

import pyarrow as pa
from pyarrow import fs

from ampsweep.errors import AmpsweepError, InvalidRequest, NotFound, Unavailable
from jobs.storage.endpoint import connect
from jobs.storage.local import PROBE
from jobs.storage.protocol import FileInfo, checked_name

MAX_ATTEMPTS = 10
"""How often a request is tried before the store counts as out of reach: about a minute, with growing pauses."""
_PROBE_ATTEMPTS = 2
_PIECE = 16 * 1024 * 1024


class ObjectStorage:
    """The objects below `<scheme>://<bucket>/<prefix>`; credentials are the environment's, as the vendor defines them.

    Raises InvalidRequest for an address without a bucket, or with options that are not known.
    """

    def __init__(self, address: SplitResult, *, attempts: int = MAX_ATTEMPTS) -> None:
        self._fs = connect(address, attempts=attempts)
        self._address = address
        self._prefix = f"{address.netloc}{address.path}".rstrip("/")

    @property
    def root(self) -> str:
        """The whole address."""
        return self._address.geturl()

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a path in a temporary folder, whose content a clean exit uploads."""
        target = self._path(name)
        with tempfile.TemporaryDirectory(prefix="ampsweep-") as folder:
            path = Path(folder) / "file"
            path.touch()
            yield path
            with _reaching(name):
                self._upload(path, target)

    def open(self, name: str) -> pa.NativeFile:
        """Open an object; its ranges are asked for as they are read."""
        with _reaching(name):
            return self._fs.open_input_file(self._path(name))

    def read(self, name: str) -> bytes:
        """Return an object's content."""
        with self.open(name) as file, _reaching(name):
            return bytes(file.read())

    def stat(self, name: str) -> FileInfo:
        """Look at an object; its `etag` is the store's own."""
        with _reaching(name):
            info = self._fs.get_file_info(self._path(name))
            if info.type is not fs.FileType.File:
                raise FileNotFoundError
            with self._fs.open_input_file(self._path(name)) as file:
                told = {key.lower(): value.decode() for key, value in file.metadata().items()}
        modified = info.mtime_ns / 1e9 if info.mtime_ns else 0.0
        etag = told.get("etag", "").strip('"') or f"{info.mtime_ns or 0:x}-{info.size:x}"
        return FileInfo(size=info.size, modified=modified, etag=etag)

    def names(self, folder: str = "") -> list[str]:
        """Return the names of all objects below a folder."""
        join = self._path(folder) if folder else self._prefix
        with _reaching(folder or self.root):
            found = self._fs.get_file_info(fs.FileSelector(join, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{self._prefix}/") for info in found if info.type is fs.FileType.File)

    def delete(self, name: str) -> None:
        """Remove an object."""
        path = self._path(name)
        with suppress(NotFound), _reaching(name):
            self._fs.delete_file(path)

    def drop_unfinished(self, *, older_than: float) -> int:  # noqa: ARG002  (the store sees whole uploads alone)
        """Do nothing: what was not uploaded whole is not there."""
        return 0

    def check(self) -> None:
        """Upload, read and remove an object, without patience."""
        probing = ObjectStorage(self._address, attempts=_PROBE_ATTEMPTS)
        try:
            with probing.writing(PROBE) as path:
                path.write_bytes(b"written")
            probing.read(PROBE)
            probing.delete(PROBE)
        except AmpsweepError as error:
            message = (
                f"cannot write below {self.root}: {error.message}; the bucket must be there, and the environment have "
                "credentials that may read, write and delete in it"
            )
            raise InvalidRequest(message, param="results") from error

    def _upload(self, source: Path, target: str) -> None:
        with source.open("rb") as file:
            stream = self._fs.open_output_stream(target)
            try:
                while piece := file.read(_PIECE):
                    stream.write(piece)
            except BaseException:
                with suppress(OSError):
                    stream.close()  # there is no other way to end it, and this completes the upload
                with suppress(OSError):
                    self._fs.delete_file(target)
                raise
            stream.close()

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{checked_name(name)}"


@contextmanager
def _reaching(name: str) -> Iterator[None]:
    """Turn what Arrow says of an object into the errors of `Storage`."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no file {name}") from None
    except OSError as error:
        raise Unavailable(f"{name}: {' '.join(str(error).split())}") from error
