"""The help of every command: examples that the command accepts, and text that is shown as it is written."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.cli.terminal.help import EXAMPLES

WIDE = {"COLUMNS": "400"}


def commands(group: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*words, name), command
        if hasattr(command, "commands"):
            yield from commands(command, *words, name)


PROGRAM: Any = get_command(app)
ALL = dict(commands(PROGRAM))


def test_every_command_has_an_example_and_every_example_a_command() -> None:
    names = {" ".join(words) for words in ALL}
    groups = {name for name in names if any(other.startswith(f"{name} ") for other in names)}
    assert names - groups <= EXAMPLES.keys()
    assert EXAMPLES.keys() <= names


@pytest.mark.parametrize("example", [example for examples in EXAMPLES.values() for example in examples])
def test_an_example_is_accepted(example: str) -> None:
    program, *arguments = shlex.split(example)
    assert program == "ampsweep"
    command = PROGRAM
    while getattr(command, "commands", {}).get(arguments[0] if arguments else None) is not None:
        command = command.commands[arguments.pop(0)]
    command.make_context(program, arguments)  # raises a usage error for an unknown option or a missing argument


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_the_examples_are_part_of_the_help(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env=WIDE).output
    for example in EXAMPLES.get(" ".join(words), ()):
        assert example in shown


@pytest.mark.parametrize("words", [words for words, command in ALL.items() if not hasattr(command, "commands")])
def test_the_names_of_options_are_whole_in_a_narrow_terminal(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}).output.split()
    names = {
        name for option in ALL[words].params for name in (*option.opts, *option.secondary_opts) if name[:2] == "--"
    }
    assert names <= set(shown)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("neurons", "import"), "JSON {language: {layer: [index, ...]}}, a table (CSV)"),
        (("neurons", "export"), "Write a neuron set as JSON {language: {layer: [index, ...]}}."),
        (("neurons",), "Write a neuron set as JSON {language: {layer: [index, ...]}}."),
        (("generate",), "scale, add or set. [default: scale; add with --vector]"),
        (("serve",), "The port; 0 takes a free one. [default: 8700]"),
    ],
)
def test_square_brackets_are_shown(words: tuple[str, ...], text: str) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env=WIDE).output
    assert text in " ".join(shown.split())


@pytest.mark.parametrize("words", [(), *ALL], ids=" ".join)
def test_a_flag_shows_no_value_and_an_option_says_what_it_takes(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env=WIDE).output
    assert "<bool>" not in shown
    assert "Show this message and exit." in shown
    for option in ALL[words].params if words else ():
        if option.param_type_name == "option" and not option.is_flag:
            assert option.metavar, option.name
            assert "<" not in option.metavar, option.name
