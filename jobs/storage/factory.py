"""Opens the storage that an address names, and derives addresses of subfolders."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from ampsweep.errors import InvalidRequest
from jobs.storage.local import LocalStorage
from jobs.storage.protocol import Storage

OBJECT_STORES = ("s3", "gs")


def is_object_store(address: str) -> bool:
    """Return whether an address names an object store; raise InvalidRequest for unknown schemes."""
    scheme, separator, _ = address.partition("://")
    if not separator:
        return False
    if scheme not in OBJECT_STORES:
        raise InvalidRequest(
            f"unsupported storage {scheme}://; use a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX",
            param="results",
        )
    return True


def open_storage(address: str, folder: str | None = None) -> Storage:
    """Open a storage.

    Args:
        address: The path of a folder, `s3://bucket/prefix` or `gs://bucket/prefix`.
        folder: A subfolder, to open that instead. It is made again, with `address`, if both are deleted.

    Raises:
        InvalidRequest: The address is invalid.
    """
    if is_object_store(address):
        from jobs.storage.object_store import ObjectStorage

        return ObjectStorage(urlsplit(address if folder is None else join(address, folder)))
    root = Path(address)
    return LocalStorage(root) if folder is None else LocalStorage(root / folder, holder=root.parent)


def join(address: str, folder: str) -> str:
    """Return the address of a subfolder, with the same options."""
    if not is_object_store(address):
        return str(Path(address) / folder)
    parts = urlsplit(address)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{folder}").geturl()
