"""The commands by name, each imported and built when it is needed: building all takes longer than most commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

from ampsweep.cli.terminal.help import complete_help

_PACKAGE = "ampsweep.cli.commands"


class CommandTable(Mapping[str, Any]):
    """The commands of the program by name, as Typer builds them.

    Args:
        places: Where each command is: its module in `ampsweep.cli.commands`, a dot, and its function or its group, a
            `typer.Typer` that adds no options for the completion of shells.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return a command, which is built at the first call."""
        if name not in self._built:
            self._built[name] = self._build(name)
        return self._built[name]

    def __contains__(self, name: object) -> bool:
        """Return whether there is a command of this name; builds none."""
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        """Yield the names in the order of the help."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return the number of commands."""
        return len(self._places)

    def summary(self, name: str) -> TyperCommand:
        """Return a command that has the name and the help of the one in the table, but neither options nor a callback.

        It is made in a fraction of the time.
        """
        target = self._import(name)
        text = target.info.help if isinstance(target, typer.Typer) else inspect.getdoc(target)
        return TyperCommand(name=name, help=escape(text or ""))

    def _build(self, name: str) -> Any:
        target = self._import(name)
        if isinstance(target, typer.Typer):
            command: Any = typer.main.get_command(target)
            command.name = name
        else:
            only = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            only.command(name=name)(target)
            command = typer.main.get_command(only)
        complete_help(name, command)
        return command

    def _import(self, name: str) -> typer.Typer | Callable[..., Any]:
        module, _, attribute = self._places[name].partition(".")
        target: typer.Typer | Callable[..., Any] = getattr(import_module(f"{_PACKAGE}.{module}"), attribute)
        return target
