"""The results of a sweep that an argument names: a file, the folder that `run` wrote to, or the id of a sweep."""

from __future__ import annotations

import re
from pathlib import Path

from ampsweep.cli.options.client import client_of
from ampsweep.errors import NotFound
from ampsweep.missing_path import no_folder

_SWEEP_ID = re.compile(r"sweep_[0-9a-z]+")


def local_results(source: str, server: str, folder: Path) -> Path:
    """Return the path of a file with results; download those of a sweep of a server into a folder.

    Raises:
        InvalidRequest: There is no such file, or the folder has no results.
        NotFound: The server has no such sweep.
    """
    from jobs.evaluation.text_files import results_file

    path = Path(source)
    if _SWEEP_ID.fullmatch(source) and not path.exists():
        with client_of(server) as client:
            return client.download(source, folder / f"{source}.parquet")
    return results_file(path)


def results_folder(sweep: str) -> Path | None:
    """Return the folder that an argument names; None if it is the id of a sweep.

    Raises:
        NotFound: It is neither a folder nor an id.
    """
    path = Path(sweep)
    if path.is_dir():
        return path
    if sweep.startswith("sweep_"):
        return None
    if path.is_file():
        raise NotFound(f"{path} is a file; give the folder that it is in")
    message = no_folder(path)
    remedy = "" if message.endswith("?") else "; give the folder that `ampsweep run --out` wrote to"
    raise NotFound(f"{message}{remedy}")
