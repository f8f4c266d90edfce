"""Prompts one after the other on a loaded model, and lines that change how the next ones are steered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.cli.commands.interactive import Conversation, converse
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.errors import EngineFailed, InvalidRequest
from engine.neurons.neuron_set import NeuronSet

Asked = tuple[str, dict[str, Any] | None, SamplingParams]


def reading(*lines: str) -> Callable[[str], str]:
    """Return a function that reads the lines, and then the end of the input."""
    remaining: Iterator[str] = iter(lines)

    def read(_prompt: str) -> str:
        try:
            return next(remaining)
        except StopIteration:
            raise EOFError from None

    return read


def conversed(*lines: str, conversation: Conversation | None = None) -> list[Asked]:
    asked: list[Asked] = []
    converse(conversation or Conversation(), lambda *request: asked.append(request), read=reading(*lines))
    return asked


def test_a_line_is_a_prompt_and_a_slash_changes_the_next_ones() -> None:
    asked = conversed("one", "/languages fr, ja", "/factor 2", "two", "/languages", "three", "", "/quit", "four")
    assert [(prompt, steering) for prompt, steering, _ in asked] == [
        ("one", None),
        ("two", {"op": "scale", "languages": ["fr", "ja"], "factor": 2.0}),
        ("three", None),
    ]


def test_op_patch_vector_and_sampling_are_changed_too() -> None:
    lines = ("/languages fr", "/factor 1", "/op set", "/patch max", "/max-tokens 5", "/temperature 0.5", "/seed 3", "a")
    ((_, steering, sampling),) = conversed(*lines)
    assert steering == {"op": "set", "languages": ["fr"], "factor": 1.0, "patch": "max"}
    assert sampling == SamplingParams(max_tokens=5, temperature=0.5, seed=3)
    ((_, steering, sampling),) = conversed("/languages fr", "/factor 2", "/vector diffmean", "/seed 3", "/seed", "b")
    assert steering == {"op": "add", "languages": ["fr"], "factor": 2.0, "vector": "diffmean"}
    assert sampling == SamplingParams()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/factor two", "error: factor: must be a number; got 'two'"),
        ("/langauges fr", "error: there is no line /langauges; did you mean /languages?"),
        ("/xyz", "error: there is no line /xyz; /help lists the lines"),
        ("/temperature 3", "error: temperature must be at least 0 and at most 2; got 3.0"),
        ("/op multiply", "error: intervention.op"),
    ],
)
def test_a_wrong_line_changes_nothing(line: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = conversed("/languages fr", "/factor 2", line, "a")
    assert complaint in capsys.readouterr().err
    assert asked == [("a", {"op": "scale", "languages": ["fr"], "factor": 2.0}, SamplingParams())]


def test_without_neurons_steering_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    ((_, steering, _),) = conversed("/languages fr", "a", conversation=Conversation(neurons=False))
    assert steering is None
    assert "start again with --neurons" in capsys.readouterr().err


def test_help_and_what_is_set_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    conversed("/help", "/languages fr,ja", "/factor 2", "/show")
    err = capsys.readouterr().err
    assert "/languages fr,ja   steer with" in err
    assert err.splitlines()[-2] == "languages fr,ja, factor 2; max tokens 64, temperature 0"


def test_an_error_of_a_prompt_does_not_end_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def ask(prompt: str, *_: object) -> None:
        asked.append(prompt)
        if prompt == "stop":
            raise KeyboardInterrupt
        if prompt == "long":
            raise InvalidRequest("is too long", param="prompt")
        if prompt == "dead":
            raise EngineFailed("the engine died")

    with pytest.raises(EngineFailed):
        converse(Conversation(), ask, read=reading("stop", "long", "dead", "never"))
    assert asked == ["stop", "long", "dead"]
    assert capsys.readouterr().err == "\nstopped\nerror: prompt: is too long\n"


def test_a_line_that_is_not_utf_8_is_an_error_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    asked = conversed("caf\udce9", "/languages caf\udce9", "a")
    assert asked == [("a", None, SamplingParams())]
    assert capsys.readouterr().err.count("error: prompt: must be valid UTF-8 text; got ") == 2


def test_a_byte_order_mark_is_no_part_of_a_prompt() -> None:
    assert conversed("\ufeffHello") == [("Hello", None, SamplingParams())]


def test_an_input_that_cannot_be_decoded_ends_the_conversation() -> None:
    def read(_prompt: str) -> str:
        return b"caf\xe9".decode()

    with pytest.raises(InvalidRequest, match="standard input is not text in utf-8; convert it"):
        converse(Conversation(), lambda *_: None, read=read)


def test_the_engine_stays_loaded(model: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for language, text in (("en", "Hello there.\n"), ("fr", "Bonjour.\n")):
        (corpus / f"{language}.txt").write_text(text)
    runner, neurons = CliRunner(), tmp_path / "neurons"
    local = ["--model", str(model), "--engine", "fake"]
    assert runner.invoke(app, ["identify", *local, "--corpus", str(corpus), "--out", str(neurons)]).exit_code == 0
    lines = "Hello\n/languages fr\n/factor 5\nHello\n/factor 1e999\nHello\n"
    options = ["--interactive", "--neurons", str(neurons), "--max-tokens", "4"]
    result = runner.invoke(app, ["generate", *local, *options], input=lines)
    assert result.exit_code == 0, result.output
    single = runner.invoke(app, ["generate", "Hello", *local, "--max-tokens", "4"]).stdout
    steering = ["--neurons", str(neurons), "--languages", "fr", "--factor", "5"]
    steered = runner.invoke(app, ["generate", "Hello", *local, "--max-tokens", "4", *steering]).stdout
    assert result.stdout == single + steered + steered
    assert f"steered by neuron set {NeuronSet.load(neurons).id}" in result.stderr
    assert "error: intervention.factor" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "give either a prompt or --interactive"),
        (("Hello", "--interactive"), "give either a prompt or --interactive"),
        (("--interactive", "--intervention", "{}"), "intervention: is fixed"),
    ],
)
def test_a_prompt_and_a_conversation_exclude_each_other(
    arguments: tuple[str, ...], complaint: str, model: Path
) -> None:
    result = CliRunner().invoke(app, ["generate", *arguments, "--model", str(model), "--engine", "fake"])
    assert result.exit_code == 2
    assert complaint in result.stderr
