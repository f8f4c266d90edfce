"""The table of commands builds a command when it is asked for, and lists all of them without building one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ampsweep.cli import app as app_module
from ampsweep.cli.app import COMMANDS, app
from ampsweep.cli.command_table import CommandTable


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the commands that are built during a test, by a program that has built none."""
    names: list[str] = []
    build = CommandTable._build

    def recorded(table: CommandTable, name: str) -> Any:
        names.append(name)
        return build(table, name)

    monkeypatch.setattr(CommandTable, "_build", recorded)
    monkeypatch.setattr("typer.testing._get_command", get_command)  # not the program that tests share
    return names


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--help"], []),
        (["--version"], []),
        (["status", "--help"], ["status"]),
        (["neurons", "show", "--help"], ["neurons"]),
        (["stauts"], []),
        (["batch"], ["batch"]),
    ],
    ids=" ".join,
)
def test_only_the_command_that_is_called_is_built(words: list[str], expected: list[str], built: list[str]) -> None:
    CliRunner().invoke(app, words)
    assert built == expected


def test_the_help_lists_the_first_line_of_every_command() -> None:
    shown = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "400"}).output.split())
    program: Any = get_command(app)
    for name in COMMANDS:
        first, _, _ = program.commands[name].help.partition("\n\n")
        assert f"│ {name} {' '.join(first.split())} │" in shown


def test_a_shell_completes_the_names_of_commands(built: list[str]) -> None:
    completion = {"_AMPSWEEP_COMPLETE": "complete_bash", "COMP_WORDS": "ampsweep re", "COMP_CWORD": "1"}
    shown = CliRunner().invoke(app, [], prog_name="ampsweep", env=completion).output
    assert shown.split() == ["results", "report", "resume"]
    assert built == []


def test_a_mistyped_command_gets_a_suggestion() -> None:
    result = CliRunner().invoke(app, ["stauts"])
    assert result.exit_code == 2
    assert "Did you mean 'status', 'results'?" in result.output


def test_the_table_knows_its_names_and_no_others() -> None:
    table: Mapping[str, Any] = CommandTable(COMMANDS)
    assert list(table) == list(COMMANDS)
    assert len(table) == len(COMMANDS)
    assert "status" in table
    assert "nothing" not in table
    with pytest.raises(KeyError):
        table["nothing"]
    assert table["list"].name == "list"
    assert app_module.Program is type(get_command(app))
