"""The command line as a whole: it starts fast, and it fails in one line with the right exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ampsweep.cli import app
from ampsweep.errors import EngineFailed, NotFound

COMMANDS = ("serve", "run", "submit", "status", "results", "cancel", "identify", "neurons", "batch", "generate")
HEAVY = ("torch", "vllm", "ray", "transformers", "fastapi", "sqlalchemy", "pyarrow", "numpy", "matplotlib")


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from ampsweep.cli import app\n"
        "print(CliRunner().invoke(app, ['--help']).output)\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "heavy: []"
    for command in COMMANDS:
        assert f" {command} " in ended.stdout


def test_importing_the_package_imports_no_http() -> None:
    code = "import sys, ampsweep; print('httpx' in sys.modules); ampsweep.Client; print('httpx' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_no_server_is_one_line_and_code_1() -> None:
    result = CliRunner().invoke(app, ["status", "--server", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no connection to a server at http://127.0.0.1:1")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("content", "complaint"), [(None, "cannot read"), ("a: [", "not YAML"), ("- 1", "mapping")])
def test_a_spec_that_cannot_be_read_is_code_2(content: str | None, complaint: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    if content is not None:
        spec.write_text(content)
    result = CliRunner().invoke(app, ["submit", str(spec)])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: spec: ")
    assert complaint in result.stderr


def test_a_wrong_option_is_code_2() -> None:
    assert CliRunner().invoke(app, ["status", "--colour"]).exit_code == 2


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (NotFound("no sweep sweep_1", param="sweep"), 2, "error: sweep: no sweep sweep_1"),
        (EngineFailed("the engine\ndied"), 1, "error: the engine died"),
        (ZeroDivisionError("by zero"), 1, "error: ZeroDivisionError: by zero (AMPSWEEP_TRACEBACK=1 shows where)"),
    ],
)
def test_an_exception_becomes_a_line(error: Exception, code: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ampsweep.cli.status.Client", fail)
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == code
    assert result.stderr.splitlines() == [line]


def test_ctrl_c_is_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ampsweep.cli.status.Client", interrupt)
    assert CliRunner().invoke(app, ["status"]).exit_code == 130
