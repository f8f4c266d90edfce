"""Checks that the packages `api`, `engine`, `jobs` and `worker` are this project's own.

Their names are common. A module in the current folder, a folder on PYTHONPATH or another distribution may have the same
name and be found first. The check looks the packages up without importing them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import ampsweep
from ampsweep.errors import InvalidRequest

GENERIC_NAMES = ("api", "engine", "jobs", "worker")
"""The top-level packages of this project besides `ampsweep`."""


@dataclass(frozen=True, kw_only=True)
class ShadowedPackage:
    """A package of this project that is missing, or whose name imports other code.

    Attributes:
        name: The package's name.
        imported: The path that Python imports by this name, or None if there is none.
        expected: The path of this project's package.
    """

    name: str
    imported: Path | None
    expected: Path

    def __str__(self) -> str:
        if self.imported is None:
            return f"package {self.name!r} is missing; it belongs at {self.expected}"
        return f"package {self.name!r} is imported from {self.imported} instead of {self.expected}"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if self.imported is None:
            return "install ampsweep again"
        folder = self.imported.parent
        return f"rename {self.imported}, uninstall what it belongs to, or take {folder} off the module search path"


def own_folder(name: str) -> Path:
    """Return the folder of this project's package, which lies beside `ampsweep` in every kind of installation."""
    return Path(ampsweep.__file__).parent.parent / name


def shadowed_packages() -> Sequence[ShadowedPackage]:
    """Return the packages of this project that are missing or shadowed. Imports none of them."""
    shadowed = []
    for name in GENERIC_NAMES:
        expected, imported = own_folder(name), _location(name)
        if imported is None or imported.resolve() != expected.resolve():
            shadowed.append(ShadowedPackage(name=name, imported=imported, expected=expected))
    return shadowed


def require_own_packages() -> None:
    """Check that all packages are this project's own.

    Raises:
        InvalidRequest: A package is missing or shadowed. The message has both paths of the first such package.
    """
    for package in shadowed_packages():
        raise InvalidRequest(f"{package}; {package.remedy}")


def _location(name: str) -> Path | None:
    """Return the folder of the package, or the file of the module, that Python imports by a top-level name."""
    module = sys.modules.get(name)
    spec = find_spec(name) if module is None else module.__spec__
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    if folders:
        return Path(next(iter(folders)))
    return Path(spec.origin) if spec.origin else None
