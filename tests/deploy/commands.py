"""Commands in deployment files, read by the parsers of the programs that they start."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import cache
from typing import Any

import click
import typer

from ampsweep.cli.app import app

WRAPPERS = {"tini", "exec"}


@cache
def program(name: str) -> Any:
    """Return the command of a program."""
    if name == "ray":
        from ray.scripts.scripts import cli  # here, because few tests read a command of Ray and it takes a second

        return cli
    assert name == "ampsweep"
    return typer.main.get_command(app)


def parse(words: Sequence[str]) -> int:
    """Parse all commands of ours in a container's words, those in a shell's line too; return how many there were.

    Raises the program's usage error for a command or an option that is not there.
    """
    words = list(words)
    if "/bin/sh" in words:
        return sum(parse(shlex.split(command)) for command in words[-1].split("&&"))
    while words and (words[0] in WRAPPERS or words[0].startswith("-")):
        words.pop(0)
    name, *arguments = words
    command = program(name)
    while hasattr(command, "commands"):
        if arguments[0] not in command.commands:
            raise click.UsageError(f"{name} has no command {arguments[0]}")
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context(name, arguments)
    return 1
