"""Prints the lines of a lock whose packages this interpreter does not have in these versions.

Run by `requirements/install.sh` with the interpreter of .venv: `python missing.py LOCK`. Uses pip's own copy of
`packaging`, because a new environment has no other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module, metadata
from pathlib import Path

PACKAGING = "pip._vendor.packaging.requirements"


def missing(lines: Iterable[str]) -> Iterator[str]:
    """Yield the requirements among `lines` that hold for this interpreter and are not installed."""
    parse = import_module(PACKAGING).Requirement
    for line in filter(None, map(str.strip, lines)):
        requirement = parse(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield line
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            yield line


if __name__ == "__main__":
    lock = Path(sys.argv[1]).read_text(encoding="utf-8")
    sys.stdout.writelines(f"{line}\n" for line in missing(lock.splitlines()))
