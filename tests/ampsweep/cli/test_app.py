"""The command line as a whole: it starts fast, and errors are one line with the right exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from ampsweep import Client, __version__
from ampsweep.bundled import ATLAS_MODEL
from ampsweep.cli.app import app
from ampsweep.cli.options import completion
from ampsweep.client.models import RequestCounts, Sweep
from ampsweep.errors import (
    Conflict,
    EngineFailed,
    Forbidden,
    NoConnection,
    NotFound,
    RateLimited,
    Unavailable,
    UnknownName,
)
from ampsweep.folders.model import read_model_folder
from ampsweep.out_of_threads import TOO_FEW
from engine.neurons.formats.neuron_json import from_json

SPEC = {
    "name": "two languages",
    "model": "atlas",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "tr"]},
    "interventions": {"languages": ["fr"], "op": "scale", "factors": [2.0]},
    "tasks": [{"name": "lss", "languages": ["en"], "limit": 4}],
}
COMMANDS = (
    *("serve", "run", "submit", "status", "results", "report", "cancel", "pause", "resume", "identify"),
    *("neurons", "keys", "batch", "generate", "doctor", "export", "plan", "init", "list", "edit", "delete"),
)
HEAVY = ("torch", "vllm", "ray", "transformers", "fastapi", "sqlalchemy", "pyarrow", "numpy", "matplotlib")


@pytest.mark.processes
def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from ampsweep.cli.app import app\n"
        "print(CliRunner().invoke(app, ['--help']).output)\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "heavy: []"
    for command in COMMANDS:
        assert f" {command} " in ended.stdout


ENGINES = (*("torch", "vllm", "ray", "transformers", "triton"), *("pandas", "scipy", "numba", "matplotlib", "lm_eval"))
"""What no command imports that loads no model, calls no server and draws nothing."""
REQUESTS = ("httpx", "yaml", "structlog", "rich.progress", "asyncio")
"""What commands import that call a server, read a spec or show progress."""
OTHER_COMMANDS = ("ampsweep.cli.commands.serve", "ampsweep.cli.commands.run", "ampsweep.cli.commands.batch")
SERVER = ("fastapi", "sqlalchemy", "alembic", "httpx", "worker.dispatcher")


@pytest.mark.processes
@pytest.mark.parametrize(
    ("words", "forbidden"),
    [
        (["--help"], (*HEAVY, *REQUESTS, "pydantic")),
        (["plan", "--help"], (*HEAVY, *REQUESTS)),
        (["report", "--help"], (*HEAVY, *REQUESTS)),
        (["generate", "--help"], (*HEAVY, *REQUESTS)),
        (["neurons", "show", "SET"], (*ENGINES, "pyarrow", "sqlalchemy", "fastapi", *OTHER_COMMANDS)),
        (["report", "nowhere"], (*ENGINES, "pyarrow", "duckdb", "jinja2", "numpy", *OTHER_COMMANDS)),
        (["report", "."], ("matplotlib", "jinja2", "scipy.stats", *OTHER_COMMANDS)),
        (["list", "tasks"], (*ENGINES, *SERVER)),
        (["plan", "SPEC"], (*ENGINES, *SERVER)),
    ],
    ids=" ".join,
)
def test_a_command_imports_only_what_it_needs(words: list[str], forbidden: tuple[str, ...], tmp_path: Path) -> None:
    from_json({"fr": {"0": [1]}, "tr": {}}, model=read_model_folder(ATLAS_MODEL)).save(tmp_path / "SET")
    (tmp_path / "SPEC").write_text(json.dumps(SPEC))
    code = (
        "import pathlib, sys; from ampsweep.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: pathlib.Path('imported').write_text(' '.join(sys.modules))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False, cwd=tmp_path)
    assert ended.returncode == (3 if words[-1] in ("nowhere", ".") else 0), ended.stderr
    imported = (tmp_path / "imported").read_text().split()
    assert "ampsweep.cli.app" in imported
    assert [name for name in forbidden if name in imported] == []


@pytest.mark.processes
def test_importing_the_package_imports_no_http() -> None:
    code = "import sys, ampsweep; print('httpx' in sys.modules); ampsweep.Client; print('httpx' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampsweep.cli.options.client.RETRIES", 0)


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize(
    "spec",
    [
        '{"KEY": 1, "KEY": 2}',
        '{"name": "s", "KEY": 1}',
        '{"name": "s", "model": "KEY"}',
        '{"name": "s", "model": "atlas", "neurons": {"id": "ns_1"}, "interventions": {"languages": {"KEY": "x"}}}',
    ],
    ids=["twice", "unknown", "too long a name", "within"],
)
def test_no_error_repeats_megabytes(spec: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(spec.replace("KEY", "k" * 3_000_000))
    result = CliRunner().invoke(app, ["plan", str(path), *options])
    assert result.exit_code == 2
    assert "kkkkk" in result.stderr
    assert len(result.stderr) < 5000


@pytest.mark.usefixtures("no_waiting")
def test_no_server_is_one_line_with_a_remedy_and_code_5() -> None:
    result = CliRunner().invoke(app, ["status", "--server", "http://127.0.0.1:1"])
    assert result.exit_code == 5
    assert result.stderr.startswith("error: no connection to a server at http://127.0.0.1:1")
    assert "`ampsweep serve`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("no_waiting")
def test_the_server_is_also_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPSWEEP_URL", "http://127.0.0.1:2")
    assert "127.0.0.1:2" in CliRunner().invoke(app, ["status"]).stderr
    with pytest.raises(NoConnection, match=r"127\.0\.0\.1:2"), Client(retries=0) as client:
        client.models()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--colour"], "No such option: --colour"),
        (["statuz"], "Did you mean 'status'? (see ampsweep --help)"),
        (["status", "--colour"], "No such option: --colour (see ampsweep status --help)"),
        (["submit"], "Missing argument 'spec' (see ampsweep submit --help)"),
        (["neurons", "shw"], "Did you mean 'show'? (see ampsweep neurons --help)"),
    ],
)
def test_wrong_arguments_are_one_line_and_code_2(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, arguments, prog_name="ampsweep")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--json", "status"], "usage"),
        (["status", "--colour", "--json"], "usage"),
        (["submit", "/no/such/spec.yaml", "--json"], "invalid_request"),
        (["neurons", "show", "/no/such/folder", "--json"], "not_found"),
        (["status", "--server", "http://127.0.0.1:1", "--json"], "no_connection"),
    ],
)
@pytest.mark.usefixtures("no_waiting")
def test_with_json_an_error_is_an_object(arguments: list[str], code: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.stdout == ""
    error = json.loads(result.stderr)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code


def test_a_word_after_two_dashes_is_no_option() -> None:
    result = CliRunner().invoke(app, ["generate", "--model", "/no/such/model", "--", "--json"])
    assert result.stderr.startswith("error: --model: ")


def test_every_command_that_prints_can_print_json() -> None:
    for words, help_text in _all_help():
        assert "--json" in help_text, words


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout.strip()) == (0, __version__)


def test_a_path_that_is_not_utf_8_is_named_with_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    (folder / "results.parquet").write_bytes(b"PAR1")
    result = CliRunner().invoke(app, ["samples", str(folder)])
    assert result.exit_code == 2
    assert "caf\\udce9/results.parquet' has bytes that are not UTF-8; rename the file or folder" in result.stderr


@pytest.mark.processes
@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/ampsweep.sh"),
        ("zsh", ".zfunc/_ampsweep"),
        ("fish", ".config/fish/completions/ampsweep.fish"),
    ],
)
def test_completion_scripts_are_printed(shell: str, file: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from ampsweep.cli.app import app; app(prog_name='ampsweep')"]
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    subprocess.run([*command, "--install-completion", shell], env=environment, check=True, capture_output=True)
    assert "_AMPSWEEP_COMPLETE" in (tmp_path / file).read_text()


@pytest.mark.processes
def test_commands_are_completed() -> None:
    environment = {**os.environ, "_AMPSWEEP_COMPLETE": "complete_bash", "COMP_WORDS": "ampsweep re", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", "from ampsweep.cli.app import app; app(prog_name='ampsweep')"]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert ended.stdout.split() == ["results", "report", "resume"]


def test_sweeps_and_models_are_completed_from_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = RequestCounts(total=1, completed=0, failed=0)
    sweeps = [Sweep(id=name, name="a", status="paused", request_counts=counts, created_at=0) for name in ("x1", "y1")]
    monkeypatch.setattr(Client, "sweeps", lambda _self: iter(sweeps))
    monkeypatch.setattr(Client, "models", lambda _self: [{"id": "atlas"}, {"id": "big"}])
    context = SimpleNamespace(params={"server": "http://127.0.0.1:1"})
    assert list(completion.sweeps(context, "x")) == [("x1", "paused a")]
    assert list(completion.models(context, "b")) == ["big"]


def test_without_a_server_nothing_is_completed() -> None:
    context = SimpleNamespace(params={"server": "http://127.0.0.1:1"})
    assert list(completion.sweeps(context, "")) == []
    assert list(completion.models(SimpleNamespace(params={}), "")) == ["atlas"]


def _all_help() -> list[tuple[list[str], str]]:
    groups = {"neurons": ("import", "show", "export"), "keys": ("create", "list", "revoke")}
    words = [[name, *more] for name in COMMANDS for more in [[each] for each in groups.get(name, ())] or [[]]]
    wide = {"COLUMNS": "200"}
    return [(each, CliRunner().invoke(app, [*each, "--help"], env=wide).output) for each in words]


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "there is no file"), ("a: [", "not YAML"), ("- 1", "mapping")]
)
def test_a_spec_that_cannot_be_read_is_code_2(content: str | None, complaint: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    if content is not None:
        spec.write_text(content)
    result = CliRunner().invoke(app, ["submit", str(spec)])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: spec: ")
    assert complaint in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (NotFound("no sweep sweep_1", param="sweep"), 3, "error: sweep: no sweep sweep_1"),
        (Conflict("sweep_1 is completed"), 3, "error: sweep_1 is completed"),
        (Forbidden("this key only reads"), 4, "error: this key only reads"),
        (RateLimited("slow down"), 5, "error: slow down"),
        (Unavailable("the engine is starting"), 5, "error: the engine is starting"),
        (UnknownName("model", "x", ["atlas"], param="model"), 2, "error: model: unknown model 'x'; known: atlas"),
        (EngineFailed("the engine\ndied"), 1, "error: the engine died"),
        (ZeroDivisionError("by zero"), 1, "error: ZeroDivisionError: by zero (AMPSWEEP_TRACEBACK=1 shows where)"),
        (
            RuntimeError("can't start new thread"),
            5,
            f"error: can't start new thread; {TOO_FEW}",
        ),
    ],
)
def test_an_exception_becomes_a_line(error: Exception, code: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ampsweep.cli.commands.sweeps.client_of", fail)
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == code
    assert result.stderr.splitlines() == [line]


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        (("run", "spec.yaml", "--out", ""), "out"),
        (("run", "spec.yaml", "--out="), "out"),
        (("generate", "Hello", "--model", "atlas", "--languages", "fr", "--neurons", ""), "neurons"),
        (("neurons", "import", "neurons.json", "--model", "atlas", "--out", ""), "out"),
        (("keys", "list", "--keys", ""), "keys"),
        (("serve", "--keep-days", ""), "keep-days"),
    ],
)
def test_an_option_with_an_empty_value_is_an_error_and_not_the_current_folder(
    arguments: tuple[str, ...], param: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr == f"error: --{param}: the option has an empty value; give one, or leave the option out\n"
    assert not any(tmp_path.iterdir())


def test_an_argument_may_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise NotFound("the arguments were parsed")

    monkeypatch.setattr("ampsweep.cli.commands.sweeps.client_of", stop)
    for arguments in (["status", "", "--json"], ["status", "--json", "--", ""]):
        assert CliRunner().invoke(app, arguments).exit_code == 3
    for arguments in (["report", "nowhere", "--low-resource", ""], ["evaluate", "nowhere", "--by="]):
        assert "has an empty value" not in CliRunner().invoke(app, arguments).stderr


def test_ctrl_c_is_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ampsweep.cli.commands.sweeps.client_of", interrupt)
    assert CliRunner().invoke(app, ["status"]).exit_code == 130
