"""Which storage an address means."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from ampsweep.errors import InvalidRequest
from jobs.storage.local import LocalStorage
from jobs.storage.protocol import Storage

OBJECT_STORES = ("s3", "gs")


def is_object_store(address: str) -> bool:
    """Whether an address means an object store, not a folder; InvalidRequest for a scheme that is not known."""
    scheme, separator, _ = address.partition("://")
    if not separator:
        return False
    if scheme not in OBJECT_STORES:
        raise InvalidRequest(
            f"{scheme}:// is no storage known here; give a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX",
            param="results",
        )
    return True


def open_storage(address: str) -> Storage:
    """Open the storage at a folder's path, `s3://bucket/prefix` or `gs://bucket/prefix`; InvalidRequest for others."""
    if is_object_store(address):
        from jobs.storage.object_store import ObjectStorage

        return ObjectStorage(urlsplit(address))
    return LocalStorage(Path(address))


def join(address: str, folder: str) -> str:
    """Return the address of a folder below another, with the options it has."""
    if not is_object_store(address):
        return str(Path(address) / folder)
    parts = urlsplit(address)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{folder}").geturl()
