"""The results of a sweep that an argument names: a file, the folder that `run` wrote to, or the id of a sweep."""

from __future__ import annotations

import re
from pathlib import Path

from ampsweep.cli.options.client import client_of

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
