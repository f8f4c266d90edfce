from __future__ import annotations

from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.cli.app import app
from ampsweep.cli.options import local_engine
from ampsweep.cli.options.local_engine import EngineOptions, takes_engine_options
from ampsweep.cli.server.settings import read_settings
from ampsweep.errors import InvalidRequest
from engine.vllm.settings import VllmSettings
from worker.engines import EngineSpec

NAMES = [
    *("engine", "dtype", "tensor_parallel_size", "pipeline_parallel_size", "batch_invariant", "unfused_experts"),
    *("allow_untested_vllm", "compiles", "verbose"),
]


def called(words: list[str]) -> tuple[int, list[tuple[str, EngineOptions, int]]]:
    """Call a command with these words; return its exit code, and what its function got."""
    given: list[tuple[str, EngineOptions, int]] = []
    command_line = typer.Typer()

    @command_line.command()
    @takes_engine_options
    def command(
        model: str, *, options: EngineOptions, last: Annotated[int, typer.Option(help="The last option.")] = 1
    ) -> None:
        """Do nothing."""
        given.append((model, options, last))

    return CliRunner().invoke(command_line, words).exit_code, given


def test_each_field_is_an_option() -> None:
    assert called(["m"]) == (0, [("m", EngineOptions(), 1)])
    words = ["m", "--engine", "transformers", "--no-compile", "--dtype", "float16", "--last", "3"]
    chosen = EngineOptions(engine="transformers", dtype="float16", compiles=False)
    assert called(words) == (0, [("m", chosen, 3)])
    flags = ["m", "--batch-invariant", "--unfused-experts", "--allow-untested-vllm", "--compile", "--verbose"]
    chosen = EngineOptions(
        batch_invariant=True, unfused_experts=True, allow_untested_vllm=True, compiles=True, verbose=True
    )
    assert called(flags) == (0, [("m", chosen, 1)])


@pytest.mark.parametrize("name", ["generate", "batch", "capture", "identify", "evaluate", "run", "plan"])
def test_the_commands_have_the_same_options_at_their_end(name: str) -> None:
    commands: Any = typer.main.get_command(app)
    *_, last = names = [param.name for param in commands.commands[name].params]
    assert names[-len(NAMES) - 1 :] == [*NAMES, last]
    assert last == "as_json"
    of_this, of_generate = (
        {param.name: param.get_help_record(typer.Context(command)) for param in command.params}
        for command in (commands.commands[name], commands.commands["generate"])
    )
    assert {option: of_this[option] for option in NAMES} == {option: of_generate[option] for option in NAMES}


def test_the_options_are_those_of_a_server() -> None:
    given = EngineOptions(dtype="bfloat16", tensor_parallel_size=2, compiles=False, unfused_experts=True)
    settings = read_settings(**given.settings())
    assert (settings.engine, settings.dtype, settings.compile) == ("vllm", "bfloat16", False)
    assert (settings.tensor_parallel_size, settings.pipeline_parallel_size) == (2, 1)
    assert (settings.unfused_experts, settings.batch_invariant, settings.allow_untested_vllm) == (True, False, False)


def test_an_engine_is_opened_with_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[EngineSpec] = []
    monkeypatch.setattr(local_engine, "opened_engine", lambda spec, **_: given.append(spec))
    options = EngineOptions(
        dtype="bfloat16", pipeline_parallel_size=2, batch_invariant=True, unfused_experts=True, compiles=False
    )
    options.opened("atlas", neurons=None, adapters={}, requests=1, as_json=True)
    assert given == [
        EngineSpec(
            model="atlas",
            folder=ATLAS_MODEL,
            dtype="bfloat16",
            vllm=VllmSettings(pipeline_parallel_size=2, batch_invariant=True, unfused_experts=True, compile=False),
        )
    ]
    with pytest.raises(InvalidRequest, match="only the engine vllm compiles"):
        EngineOptions(engine="transformers", compiles=True).opened(
            "atlas", neurons=None, adapters={}, requests=1, as_json=True
        )
