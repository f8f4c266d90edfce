"""What the files can tell is an error before an engine starts, with every engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.folders.model import read_model_folder
from engine.neurons.formats.neuron_json import from_json
from tests.ampsweep.cli.commands.local_commands import call

SCALE = {"op": "scale", "factor": 2, "languages": ["fr"]}
PROMPT = ("generate", "Hello", "--model", "atlas")
STEERED = (*PROMPT, "--neurons", "NEURONS", "--factor", "2", "--languages")
CAPTURE = ("capture", "texts.txt", "out.parquet", "--model", "atlas")
LONG = "1 a " * 3000


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the folder of the test the current one, with neuron sets, texts and lines; let no engine start."""
    monkeypatch.chdir(tmp_path)
    neurons = from_json({"fr": {"0": [1]}, "tr": {}}, model=read_model_folder(ATLAS_MODEL))
    neurons.save(tmp_path / "NEURONS")
    replace(neurons, layers=3).save(tmp_path / "OTHER")
    (tmp_path / "texts.txt").write_text("Hello\n")
    (tmp_path / "long.txt").write_text(f"Hello\n{LONG}\n")
    (tmp_path / "chats.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi"}]}\n')
    line = {"custom_id": "a", "kind": "generate", "prompt": "Hello"}
    bad = [{**line, "intervention": {**SCALE, "languages": ["de"]}}, {**line, "adapter": "x"}, {**line, "x": 1}]
    (tmp_path / "bad.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in bad))
    (tmp_path / "half.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in (line, *bad)))
    score = {"custom_id": "s", "kind": "score", "context": "Hello", "continuation": LONG}
    too_long = [{**line, "prompt": LONG}, score]
    (tmp_path / "too_long.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in too_long))
    (tmp_path / "some_long.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in (line, *too_long)))
    (tmp_path / "utf16.jsonl").write_text(f"{json.dumps(line)}\n" * 2, encoding="utf-16")
    (tmp_path / "latin1.jsonl").write_bytes(b'{"custom_id": "\xe9"}\n')
    (tmp_path / "answers.jsonl").write_text('{"completion": "Hello", "language": "en"}\n')

    async def open_engine(_spec: object) -> None:
        raise AssertionError("an engine was started")

    monkeypatch.setattr("worker.engines.open_engine", open_engine)


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((*STEERED, "de"), "--languages: unknown language 'de'; known: fr, tr"),
        ((*STEERED, "tr"), "--languages: neuron set ns_"),
        ((*STEERED, "fr", "--neurons", "OTHER"), "--neurons: neuron set ns_"),
        (
            (*PROMPT, "--neurons", "NEURONS", "--languages", "fr", "--op", "set", "--patch", "max"),
            "--patch: neuron set",
        ),
        ((*PROMPT, "--chat"), "--chat: the model has no chat template"),
        ((*PROMPT, "--lora", "nowhere"), "--lora: "),
        (("generate", LONG, "--model", "atlas"), "prompt"),
        (("generate", "--interactive", "--model", "atlas", *STEERED[4:], "de"), "--languages: unknown language 'de'"),
        ((*CAPTURE, "--layers", "9"), "--layers: the model has the layers 0 to 3"),
        ((*CAPTURE, "--languages", "de", "--neurons", "NEURONS"), "--languages: unknown language 'de'"),
        ((*CAPTURE, "--languages", "fr", "--neurons", "OTHER"), "--neurons: neuron set ns_"),
        ((*CAPTURE, "--layers", "1", "--max-gib", "0.000001"), "--max-gib: the activations of"),
        (("capture", "long.txt", *CAPTURE[2:], "--layers", "1"), "TEXTS.2 has "),
        (("capture", "chats.jsonl", *CAPTURE[2:], "--layers", "1"), "the model has no chat template"),
        (
            ("batch", "bad.jsonl", "out.parquet", "--model", "atlas", "--neurons", "NEURONS"),
            "IN.jsonl: none of the 3 lines is a valid request; line 1: intervention.languages: unknown language 'de'",
        ),
        (("batch", "half.jsonl", "out.parquet", "--model", "atlas", "--neurons", "OTHER"), "--neurons: neuron set ns_"),
        (
            ("batch", "utf16.jsonl", "out.parquet", "--model", "atlas"),
            "IN.jsonl: utf16.jsonl is not UTF-8 text (it is UTF-16); save it as UTF-8",
        ),
        (
            ("batch", "latin1.jsonl", "out.parquet", "--model", "atlas"),
            "IN.jsonl: none of the 1 lines is a valid request; line 1: it is not UTF-8 text; save the file as UTF-8",
        ),
        (
            ("batch", "too_long.jsonl", "out.parquet", "--model", "atlas"),
            "IN.jsonl: none of the 2 lines is a valid request; line 1: prompt: the prompt has ",
        ),
        (
            ("evaluate", "answers.jsonl", "--metric", "answer_nll", "--nll-model", "atlas"),
            "answers.jsonl has none of the columns",
        ),
        (
            ("evaluate", "answers.jsonl", "--metric", "answer_nll", "--nll-model", "x"),
            "--nll-model: there is no folder x",
        ),
    ],
)
def test_it_is_named_and_no_engine_starts(words: tuple[str, ...], complaint: str, engine: str) -> None:
    result = call(*words, "--engine", engine)
    assert result.exit_code == 2, result.output
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert complaint in error
    assert not Path("out.parquet").exists()


def test_wrong_lines_among_right_ones_are_said_before_the_engine_starts() -> None:
    result = call("batch", "half.jsonl", "out.parquet", "--model", "atlas", "--neurons", "NEURONS")
    assert "note: 3 of 4 lines are wrong and will have no answer; line 2: intervention.languages" in result.stderr
    assert "an engine was started" in result.stderr


def test_lines_that_do_not_fit_into_the_context_are_said_before_the_engine_starts() -> None:
    result = call("batch", "some_long.jsonl", "out.parquet", "--model", "atlas")
    assert "note: 2 of 3 lines are wrong and will have no answer; line 2: prompt: the prompt has " in result.stderr
    assert "tokens, but this engine accepts at most 2047; shorten it" in result.stderr
    assert "an engine was started" in result.stderr


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_a_run_checks_the_files_of_its_model(engine: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in ATLAS_MODEL.iterdir():
        if not path.name.startswith("tokenizer"):
            (model / path.name).symlink_to(path)
    spec = {
        "name": "s",
        "model": str(model),
        "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "id", "ja", "tr"]},
        "interventions": {"languages": ["fr"], "op": "scale", "factors": [2]},
        "tasks": [{"name": "lss", "languages": ["en"], "limit": 1}],
    }
    Path("spec.json").write_text(json.dumps(spec))
    for words in (
        ("run", "spec.json", "--out", "out"),
        ("plan", "spec.json", "--measure"),
        ("serve", "--model", "m=model"),
    ):
        result = call(*words, "--engine", engine)
        assert result.exit_code == 2, result.output
        assert "model has no tokenizer" in result.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("generate", "Hi", "there", "--model", "atlas"), "put a text with spaces in quotes"),
        ((*PROMPT, "--max-tokens", "ten"), "'--max-tokens': must be a whole number"),
        ((*PROMPT, "--temperature", "-1"), "'--temperature': must be at least 0"),
        ((*PROMPT, "--intervention", "{languages: [fr]}"), 'write, for example, {"languages": ["fr"], "op": "scale"'),
        ((*PROMPT, "--server", "localhost:8700"), "--server: 'localhost:8700' is not the URL of a server"),
        (("batch", "half.jsonl", "out.csv", "--model", "atlas"), "name it out.parquet"),
        (("neurons", "show", "NEURON"), "did you mean NEURONS?"),
        (
            ("serve", "--corpus", "mine", "--port", "0", "--home", "home"),
            "--corpus: 'mine' is not NAME=PATH, such as mine=folder",
        ),
        (("generate", "Hi", "--model", "NEURON"), "--model: there is no folder NEURON; did you mean NEURONS?"),
    ],
)
def test_mistakes_on_the_command_line_say_what_to_do(words: tuple[str, ...], complaint: str) -> None:
    result = call(*words)
    assert result.exit_code in (2, 3), result.output
    assert complaint in result.stderr
