"""Storage in a bucket of S3 or Google Cloud Storage, below a prefix.

An object becomes visible when its upload is complete, so a file is written to the local disk first and then uploaded.
An upload that the service rejects, or whose process dies, is never completed. A lifecycle rule of the bucket can delete
its parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from urllib.parse import SplitResult

import pyarrow as pa
from pyarrow import fs

from ampsweep.errors import AmpsweepError, InvalidRequest, NotFound, Unavailable
from ampsweep.temporary import TemporaryFolder
from jobs.storage.endpoint import connect
from jobs.storage.local import CHECK_FILE
from jobs.storage.protocol import FileInfo, checked_name

MAX_ATTEMPTS = 10
"""How many times a request is tried before Unavailable is raised: about a minute, with increasing delays."""
_CHECK_ATTEMPTS = 2
_CHUNK_BYTES = 16 * 1024 * 1024


class ObjectStorage:
    """The objects below `<scheme>://<bucket>/<prefix>`.

    Credentials are read from the environment, as the vendor's documentation describes.

    Args:
        address: The parsed address.
        attempts: How many times a request is tried.

    Raises:
        InvalidRequest: The address has no bucket, or has unknown options.
    """

    def __init__(self, address: SplitResult, *, attempts: int = MAX_ATTEMPTS) -> None:
        self._fs = connect(address, attempts=attempts)
        self._address = address
        self._prefix = f"{address.netloc}{address.path}".rstrip("/")

    @property
    def root(self) -> str:
        """The address."""
        return self._address.geturl()

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield the path of a temporary file, which a clean exit uploads."""
        target = self._path(name)
        with TemporaryFolder("upload") as folder:
            path = folder / "file"
            path.touch()
            yield path
            with _storage_errors(name):
                self._upload(path, target)

    def publish_new(self, name: str, content: bytes) -> bool:
        """Upload an object unless there is one."""
        with suppress(NotFound):
            self.stat(name)
            return False
        with self.writing(name) as path:
            path.write_bytes(content)
        return True

    def open(self, name: str) -> pa.NativeFile:
        """Open an object. Ranges are requested as they are read."""
        with _storage_errors(name):
            return self._fs.open_input_file(self._path(name))

    def read(self, name: str) -> bytes:
        """Return the content of an object."""
        with self.open(name) as file, _storage_errors(name):
            return bytes(file.read())

    def download(self, name: str, path: Path) -> None:
        """Download an object. Each part is a request."""
        with self.open(name) as source, path.open("wb") as sink:
            while chunk := self._part(source, name):
                sink.write(chunk)

    def stat(self, name: str) -> FileInfo:
        """Describe an object. The `etag` is that of the service."""
        with _storage_errors(name):
            info = self._fs.get_file_info(self._path(name))
            if info.type is not fs.FileType.File:
                raise FileNotFoundError
            with self._fs.open_input_file(self._path(name)) as file:
                metadata = {key.lower(): value.decode() for key, value in file.metadata().items()}
        modified = info.mtime_ns / 1e9 if info.mtime_ns else 0.0
        etag = metadata.get("etag", "").strip('"') or f"{info.mtime_ns or 0:x}-{info.size:x}"
        return FileInfo(size=info.size, modified=modified, etag=etag)

    def names(self, folder: str = "") -> list[str]:
        """Return the names of all objects below a folder."""
        root = self._path(folder) if folder else self._prefix
        with _storage_errors(folder or self.root):
            infos = self._fs.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{self._prefix}/") for info in infos if info.type is fs.FileType.File)

    def delete(self, *names: str) -> None:
        """Delete objects, one after the other."""
        for name in names:
            path = self._path(name)
            with suppress(NotFound), _storage_errors(name):
                self._fs.delete_file(path)

    def drop_unfinished(self, *, older_than: float) -> int:  # noqa: ARG002  (only complete uploads are visible)
        """Do nothing, because incomplete uploads are not visible."""
        return 0

    def check(self) -> None:
        """Upload, read and delete an object, with few retries."""
        storage = ObjectStorage(self._address, attempts=_CHECK_ATTEMPTS)
        name = f"{CHECK_FILE}-{token_hex(4)}"  # another server that checks at the same time must not delete it
        try:
            with storage.writing(name) as path:
                path.write_bytes(b"written")
            storage.read(name)
            storage.delete(name)
        except AmpsweepError as error:
            message = (
                f"cannot write below {self.root}: {error.message}; the bucket must exist, and the environment "
                "must have credentials that may read, write and delete in it"
            )
            raise InvalidRequest(message, param="results") from error

    def _part(self, source: pa.NativeFile, name: str) -> bytes:
        with _storage_errors(name):
            return bytes(source.read(_CHUNK_BYTES))

    def _upload(self, source: Path, target: str) -> None:
        with source.open("rb") as file:
            stream = self._fs.open_output_stream(target)
            try:
                while chunk := file.read(_CHUNK_BYTES):
                    stream.write(chunk)
            except BaseException:
                with suppress(OSError):
                    stream.close()  # there is no other way to end the upload; it completes it, so the object is deleted
                with suppress(OSError):
                    self._fs.delete_file(target)
                raise
            stream.close()

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{checked_name(name)}"


@contextmanager
def _storage_errors(name: str) -> Iterator[None]:
    """Convert the errors of Arrow to those of `Storage`."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no file {name}") from None
    except OSError as error:
        raise Unavailable(f"{name}: {' '.join(str(error).split())}") from error
