"""Errors name the options that users type, and remedies of the command line."""

from __future__ import annotations

import pytest
from typer.main import get_command

from ampsweep.cli.app import app
from ampsweep.cli.terminal.option_names import command_of, in_words_of_options

PROGRAM = get_command(app)


@pytest.mark.parametrize(
    ("words", "param", "text", "expected"),
    [
        (
            ["results", "sweep_1"],
            None,
            "x is running; add partial=true for them",
            "x is running; add --partial for them",
        ),
        (
            ["report", "sweep_1"],
            None,
            "x is running; add partial=true for them",
            "x is running; add --partial for them",
        ),
        (
            ["submit", "a.yaml"],
            "Idempotency-Key",
            "Idempotency-Key: idempotency key 'k' was used",
            "--idempotency-key: idempotency key 'k' was used",
        ),
        (["submit", "a.yaml"], "neurons", "neurons is required", "neurons is required"),
        (["run", "a.yaml"], "neurons", "neurons: must be an object", "neurons: must be an object"),
        (["run", "a.yaml"], "--neurons", "--neurons: no set ns_1", "--neurons: no set ns_1"),
        (["plan", "a.yaml"], "--neurons", "--neurons: is damaged", "--neurons: is damaged"),
        (["run", "a.yaml"], "corpora.mine", "corpora.mine: no folder", "--corpus mine: no folder"),
        (["identify"], "corpus", "corpus folder x does not exist", "--corpus: corpus folder x does not exist"),
        (["identify"], "languages.1", "languages.1: unknown 'xx'", "--languages: unknown 'xx'"),
        (["identify"], "max_tokens", "max_tokens must be a whole number", "--max-tokens must be a whole number"),
        (["identify"], "params.top_rate", "params.top_rate: is 5", "--param top_rate: is 5"),
        (["status"], "url", "'x' is not the URL of a server", "--server: 'x' is not the URL of a server"),
        (["capture", "t", "o"], "max_gib", "max_gib: too much", "--max-gib: too much"),
        (["capture", "t", "o"], "TEXTS.3", "TEXTS.3: no text", "TEXTS.3: no text"),
        (["generate"], "intervention.languages", "intervention.languages: no xx", "--languages: no xx"),
        (["generate", "--intervention", "{}"], "intervention.op", "intervention.op: x", "--intervention op: x"),
        (["edit", "s"], "name", "give --name, --tag or --untag", "--name: give --name, --tag or --untag"),
        (["neurons", "import", "f"], "out", "out: is a file", "--out: is a file"),
        (
            ["engines", "retry", "x"],
            "model",
            "no engine; GET /v1/engines lists them",
            "no engine; `ampsweep engines` lists them",
        ),
    ],
)
def test_an_error_is_in_the_words_of_the_command_line(
    words: list[str], param: str | None, text: str, expected: str
) -> None:
    assert in_words_of_options(text, param, command_of(PROGRAM, words), words) == expected
