"""`ampsweep capture --server`: a server captures the activations, and its answer is saved."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ampsweep.cli.commands.capture_job import CaptureJob, SourceText
from ampsweep.cli.options.client import client_of
from ampsweep.cli.terminal.progress import waiting
from ampsweep.errors import AmpsweepError, InvalidRequest
from ampsweep.files import atomic_write

_TEXT = re.compile(r"\btexts\.(\d+)")
_OPTIONS: Mapping[str, str] = {
    "select.layers": "layers",
    "select.languages": "languages",
    "select.neurons": "indices",
    "dtype": "store",
    "adapter": "lora",
    "texts": "TEXTS",
}
"""The options of the command that become fields of another name in the request."""


def capture_on_server(server: str, model: str, job: CaptureJob, target: Path, *, neurons: str | None) -> dict[str, int]:
    """Save the activations that a server captures.

    Args:
        server: URL of the server.
        model: Name of a model that it offers.
        job: What is captured.
        target: The file to write.
        neurons: Id of the neuron set; None for the default of the model, if one is needed.

    Returns:
        The numbers of texts, tokens, neurons and rows.

    Raises:
        AmpsweepError: The server refuses the request, or is not an Ampsweep server. The error names the option or the
            line of the file that is wrong.
    """
    from ampsweep.domain.capture import MAX_TEXTS

    if len(job.texts) > MAX_TEXTS:
        message = f"the file has {len(job.texts):,} texts, but a server captures at most {MAX_TEXTS:,} at once"
        raise InvalidRequest(f"{message}; divide it", param="TEXTS")
    names = {"neurons": neurons, "adapter": job.adapter}
    with client_of(server, patient=True) as client, atomic_write(target) as temporary:
        try:
            with waiting("capturing"):
                client.download_activations(
                    model,
                    [text.fields for text in job.texts],
                    job.selection.model_dump(mode="json", exclude_none=True),
                    temporary,
                    intervention=job.intervention,
                    dtype=job.dtype,
                    **{key: name for key, name in names.items() if name is not None},
                )
        except AmpsweepError as error:
            _name_options(error, job.texts)
            raise
        return _counts(temporary, texts=len(job.texts), url=client.url)


def _name_options(error: AmpsweepError, texts: Sequence[SourceText]) -> None:
    """Replace the fields of the request in an error by the lines of the file and the options of the command."""

    def line(match: re.Match[str]) -> str:
        position = int(match[1])
        return texts[position].param if position < len(texts) else match[0]

    error.message = _TEXT.sub(line, error.message)
    if error.param is None:
        return
    param = _TEXT.sub(line, error.param)
    field = next((name for name in _OPTIONS if param == name or param.startswith(f"{name}.")), None)
    if field is not None:
        option = _OPTIONS[field] + param.removeprefix(field)
        if error.message.startswith(param):
            error.message = option + error.message.removeprefix(param)
        param = option
    error.param = param


def _counts(file: Path, *, texts: int, url: str) -> dict[str, int]:
    """Return the numbers of texts, tokens, neurons and rows of a file."""
    import pyarrow.parquet as pq

    from engine.capture.table import METADATA

    try:
        metadata = pq.read_metadata(file)
        neurons = json.loads(metadata.metadata[METADATA.encode()])["neurons"]
    except (KeyError, TypeError, ValueError) as error:  # pyarrow's error about a file of another kind is a ValueError
        message = f"{url} is not an ampsweep server: its response is not a file of activations; check the URL"
        raise AmpsweepError(message) from error
    rows = metadata.num_rows
    return {"texts": texts, "tokens": rows // len(neurons), "neurons": sum(map(len, neurons.values())), "rows": rows}
