"""Downloads models of the Hugging Face Hub by name: `organization/name`, with `@` a branch, a tag or a commit."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path, PurePath

from ampsweep.errors import InvalidRequest

_HUB_NAME = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w-][\w./-]*))?")
_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt", "vocab.txt")
"""The files that are fetched: no code, and weights in safetensors only."""
_OTHER_FORMATS = ("consolidated*", "params.json", "original/*", "onnx/*")
"""Weights in other formats, which are not fetched."""
HUB_NAMES = "a model of the Hub as organization/name (Qwen/Qwen2.5-0.5B-Instruct)"
"""How errors describe names on the Hub."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_name(name: str) -> bool:
    """Return whether `name` has the form of a model name on the Hub."""
    return _HUB_NAME.fullmatch(name) is not None


def split_hub_name(name: str) -> tuple[str, str | None] | None:
    """Return `organization/name` and the revision of a name on the Hub; None if it does not have that form."""
    match = _HUB_NAME.fullmatch(name)
    return None if match is None else (match["repo"], match["revision"])


@lru_cache(maxsize=256)
def fetch_model(name: str) -> Path:
    """Return the folder of a model in the local cache of the Hub; download the model if it is not there.

    The revision is resolved to a commit once per process; the folder is that of the commit.

    Raises:
        InvalidRequest: The Hub cannot be reached, or has no such model.
    """
    return _snapshot(name, _FILES)


def fetch_config(name: str) -> Path:
    """Return a folder with the config.json of a model on the Hub, without its weights.

    Raises:
        InvalidRequest: The Hub cannot be reached, or has no such model.
    """
    return _snapshot(name, ("config.json",))


def _snapshot(name: str, files: tuple[str, ...]) -> Path:
    """Return the folder of a model in the Hub's cache, after downloading the files that match these patterns."""
    match = _HUB_NAME.fullmatch(name)
    assert match is not None, "callers check the name with is_hub_name"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise InvalidRequest(
            f"{name} is on the Hub: install huggingface-hub, or give a folder", param="model"
        ) from error
    try:
        return Path(
            snapshot_download(
                match["repo"],
                revision=match["revision"],
                allow_patterns=list(files),
                ignore_patterns=list(_OTHER_FORMATS),
            )
        )
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise InvalidRequest(
            f"there is no folder {name}, and the model {name} could not be fetched from the Hub: {error}; check the "
            "name and the revision, set HF_TOKEN for a gated model, or give a folder",
            param="model",
        ) from error


def source_of(folder: Path) -> str | None:
    """Return `organization/name@commit` for a folder in the cache of the Hub, None for any other folder.

    Also None if one of its files is not a link into the cache's `blobs`: such a file was added by hand, so the folder
    no longer matches the commit.
    """
    name = cached_name(folder.absolute())
    if name is None:
        return None
    blobs = (folder.absolute().parents[1] / "blobs").resolve()
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return name if all(path.is_symlink() and path.resolve().parent == blobs for path in files) else None


def cached_name(folder: PurePath) -> str | None:
    """Return `organization/name@commit` for the path of a snapshot in a cache of the Hub, None for any other path."""
    *_, repo, snapshots, commit = ("", "", "", *folder.parts)
    if snapshots != "snapshots" or not repo.startswith("models--") or not _COMMIT.fullmatch(commit):
        return None
    return f"{repo.removeprefix('models--').replace('--', '/', 1)}@{commit}"
