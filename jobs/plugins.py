"""Plug-ins: tasks and metrics that other installed distributions register as entry points.

Finds plug-ins by name and imports one only when it is asked for. Does not know what a task or a metric is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from ampsweep.errors import InvalidRequest

Kind = Literal["task", "metric"]
_GROUPS: dict[Kind, str] = {"task": "ampsweep.tasks", "metric": "ampsweep.metrics"}


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A task or metric of another distribution: its name, and where it comes from."""

    kind: Kind
    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    @property
    def release(self) -> str:
        """The distribution with its version, as in `ampsweep-yes-no==1.0`."""
        return f"{self.distribution}=={self.version}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.release} (entry point {self.entry_point.value} in {self.group})"

    @property
    def group(self) -> str:
        """The group of the entry point."""
        return _GROUPS[self.kind]

    def create(self, *, param: str | None = None) -> Any:
        """Import the plug-in, and return what its class or function returns when called without arguments.

        Raises:
            InvalidRequest: The import or the call failed. The message names plug-in, distribution and cause.
        """
        try:
            return self.entry_point.load()()
        except Exception as error:  # a plug-in raises what it likes
            raise self.broken(f"{type(error).__name__}: {error}", param=param) from error

    def broken(self, cause: str, *, param: str | None = None) -> InvalidRequest:
        """Return the error of a plug-in that cannot be used."""
        return InvalidRequest(f"{self} cannot be used: {cause}; fix or uninstall {self.distribution}", param=param)


@cache
def installed_plugins(kind: Kind) -> Mapping[str, tuple[Plugin, ...]]:
    """Return the plug-ins of a kind by name, without importing any; several of the same name are a conflict."""
    plugins: dict[str, list[Plugin]] = defaultdict(list)
    for entry_point in entry_points(group=_GROUPS[kind]):
        distribution = entry_point.dist
        assert distribution is not None, "entry points of installed distributions have one"
        plugin = Plugin(
            kind=kind,
            name=entry_point.name,
            distribution=distribution.name,
            version=distribution.version,
            entry_point=entry_point,
        )
        plugins[entry_point.name].append(plugin)
    return {name: tuple(same_name) for name, same_name in sorted(plugins.items())}


def find_plugin(kind: Kind, name: str, *, built_in: Collection[str], param: str | None = None) -> Plugin | None:
    """Return the plug-in of a name without importing it; None if there is none.

    Args:
        kind: What is looked for.
        name: The name of the entry point.
        built_in: The names that Ampsweep itself defines.
        param: The field that the name comes from, for the error.

    Raises:
        InvalidRequest: Several distributions define the name, or a distribution defines a built-in one.
    """
    plugins = installed_plugins(kind).get(name, ())
    owners = [*(["ampsweep"] if name in built_in else []), *(plugin.release for plugin in plugins)]
    if len(owners) > 1:
        message = f"{kind} {name!r} is defined by {' and by '.join(owners)}; uninstall one of them, or rename its"
        raise InvalidRequest(f"{message} entry point in {_GROUPS[kind]}", param=param)
    return plugins[0] if plugins else None
