"""Neuron sets on the Hugging Face Hub: each in a model repository, as the two files that a neuron set has.

Nothing but `metadata.json` and `neurons.safetensors` is read or written, so no code of a repository is ever run.
"""

from __future__ import annotations

from pathlib import Path

from ampsweep.domain.neurons.neuron_set import METADATA_FILE, TENSORS_FILE
from ampsweep.errors import InvalidRequest, NotFound
from ampsweep.folders.hub_model import split_hub_name
from engine.neurons.neuron_set import NeuronSet

FILES = (METADATA_FILE, TENSORS_FILE)


def pull(name: str) -> NeuronSet:
    """Download a neuron set.

    Args:
        name: `organization/name`, with `@` a branch, a tag or a commit.

    Raises:
        InvalidRequest: The name is malformed, or the Hub cannot be reached or has no such repository (param "name").
        NotFound: The repository has no neuron set.
        DamagedFile: The files are not those of a neuron set.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, revision = _parse(name)
    try:
        folder = snapshot_download(repo, revision=revision, allow_patterns=list(FILES))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        message = f"the neuron set {name} could not be fetched from the Hub: {_reason(error)}; check the name and the"
        raise InvalidRequest(f"{message} revision, and set HF_TOKEN for a private repository", param="name") from error
    if not (Path(folder) / METADATA_FILE).is_file():
        raise NotFound(f"the repository {name} has no neuron set: {METADATA_FILE} is missing", param="name")
    return NeuronSet.load(Path(folder))


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Upload the neuron set in a folder to a repository, which is created if it does not exist.

    Args:
        folder: The folder of the set.
        name: `organization/name`.
        private: Whether a repository that is created is private.

    Returns:
        The URL of the commit.

    Raises:
        NotFound: The folder has no neuron set.
        DamagedFile: The files are not those of a neuron set.
        InvalidRequest: The name is malformed, or the Hub cannot be reached or refuses the upload (param "name").
    """
    from httpx import TransportError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repo, revision = _parse(name)
    if revision is not None:
        raise InvalidRequest(f"a set is pushed to the main branch; leave out @{revision}", param="name")
    neuron_set = NeuronSet.load(folder)
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message=f"Add neuron set {neuron_set.id}",
        )
    except (OSError, HfHubHTTPError, HFValidationError, TransportError) as error:
        message = f"the neuron set could not be pushed to {name}: {_reason(error)}"
        remedy = "set HF_TOKEN to a token that may write"
        if isinstance(error, TransportError):
            remedy = "check the connection"
        elif isinstance(error, HFValidationError):
            remedy = "choose another name"
        raise InvalidRequest(f"{message}; {remedy}", param="name") from error
    return str(commit.commit_url)


def _parse(name: str) -> tuple[str, str | None]:
    parsed = split_hub_name(name)
    if parsed is None:
        raise InvalidRequest(f"{name} is not the name of a repository; write organization/name", param="name")
    return parsed


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
