"""`ampsweep capture --server`: what is sent, what is saved, and what errors of the server are called."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ampsweep.errors import AmpsweepError, CaptureTooLarge, InvalidRequest, NotFound, PromptTooLong, UnknownName
from engine.capture.table import CaptureWriter
from tests.ampsweep.cli.commands.local_commands import STEERED, call
from tests.ampsweep.client.server_process import ServerProcess
from tests.engine.capture.test_table import SOURCE, UNEVEN, capture_of

URL = "http://stub:8700"


def answer() -> bytes:
    """Return the file of two texts, of 3 and 1 tokens and 4 neurons in 2 layers."""
    content = io.BytesIO()
    with CaptureWriter(content, UNEVEN, "float16", SOURCE) as writer:
        writer.add("1", capture_of(UNEVEN, 3))
        writer.add("3", capture_of(UNEVEN, 1))
    return content.getvalue()


@dataclass
class StubClient:
    """A server that gives one answer, which may be an error."""

    answer: bytes | AmpsweepError | KeyboardInterrupt = field(default_factory=answer)
    request: dict[str, Any] = field(default_factory=dict)
    patient: bool = False
    url: str = URL

    def download_activations(self, model: str, texts: Any, select: Any, path: Path, **options: Any) -> Path:
        self.request = {"model": model, "texts": texts, "select": select, **options}
        if not isinstance(self.answer, bytes):
            raise self.answer
        path.write_bytes(self.answer)
        return path


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubClient:
    client = StubClient()

    @contextmanager
    def client_of(server: str, *, patient: bool) -> Iterator[StubClient]:
        assert server == URL
        client.patient = patient
        yield client

    monkeypatch.setattr("ampsweep.cli.commands.capture_server.client_of", client_of)
    return client


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("né\n\nab\n", encoding="utf-8")
    return path


def ask(source: Path, *options: object) -> Any:
    return call("capture", source, source.parent / "out.parquet", "--model", "tiny", "--server", URL, *options)


def test_the_file_and_the_options_are_sent_and_the_answer_is_saved(stub: StubClient, texts: Path) -> None:
    options = ("--layers", "3,1", "--neurons", "ns_1", "--lora", "formal", "--store", "float32")
    result = ask(texts, *options, "--intervention", json.dumps(STEERED), "--json")
    assert result.exit_code == 0, result.output
    out = texts.parent / "out.parquet"
    assert json.loads(result.stdout) == {"texts": 2, "tokens": 4, "neurons": 4, "rows": 8, "file": str(out)}
    assert out.read_bytes() == stub.answer
    assert stub.request.pop("intervention").factor == STEERED["factor"]
    assert stub.request == {
        "model": "tiny",
        "texts": [{"id": "1", "prompt": "né"}, {"id": "3", "prompt": "ab"}],
        "select": {"layers": [3, 1]},
        "dtype": "float32",
        "neurons": "ns_1",
        "adapter": "formal",
    }
    assert stub.patient, "a capture may take longer than other requests"


def test_what_is_not_given_is_left_to_the_server(stub: StubClient, texts: Path) -> None:
    assert ask(texts, "--languages", "fr").exit_code == 0
    assert stub.request["select"] == {"languages": ["fr"]}
    assert not {"neurons", "adapter"} & set(stub.request)
    assert ask(texts, "--indices", "1:4,3:0").exit_code == 0
    assert stub.request["select"] == {"neurons": [[1, 4], [3, 0]]}


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (PromptTooLong("texts.1 has 9 tokens", param="texts.1"), "TEXTS.3 has 9 tokens", 2),
        (InvalidRequest("texts.0.prompt: is wrong", param="texts.0.prompt"), "TEXTS.1.prompt: is wrong", 2),
        (CaptureTooLarge("texts: take 9 MiB", param="texts"), "TEXTS: take 9 MiB", 2),
        (InvalidRequest("no layer 9", param="select.layers"), "--layers: no layer 9", 2),
        (InvalidRequest("no index 9", param="select.neurons.1"), "--indices: no index 9", 2),
        (UnknownName("adapter", "formal", ["b"], param="adapter"), "--lora: unknown adapter 'formal'; known: b", 2),
        (InvalidRequest("capture in float32", param="dtype"), "--store: capture in float32", 2),
        (
            InvalidRequest("start=9 edits no token of texts.1", param="intervention.tokens"),
            "intervention.tokens: start=9 edits no token of TEXTS.3",
            2,
        ),
        (NotFound("there is no neuron set ns_1", param="neurons"), "--neurons: there is no neuron set ns_1", 3),
        (AmpsweepError("it broke"), "it broke", 1),
    ],
)
def test_an_error_names_the_option_or_the_line(
    error: AmpsweepError, line: str, code: int, stub: StubClient, texts: Path
) -> None:
    stub.answer = error
    result = ask(texts, "--layers", "1")
    assert (result.exit_code, result.stderr) == (code, f"error: {line}\n")
    assert [path.name for path in texts.parent.iterdir()] == ["texts.txt"]


def test_ctrl_c_while_the_server_captures_leaves_no_file(stub: StubClient, texts: Path) -> None:
    stub.answer = KeyboardInterrupt()
    assert ask(texts, "--layers", "1").exit_code == 130
    assert [path.name for path in texts.parent.iterdir()] == ["texts.txt"]


@pytest.mark.parametrize("content", [b"", b"<html>It works!</html>", b"PAR1 and nothing else PAR1"])
def test_an_answer_that_is_no_file_of_activations_is_not_saved(content: bytes, stub: StubClient, texts: Path) -> None:
    (texts.parent / "out.parquet").write_bytes(b"earlier")
    stub.answer = content
    result = ask(texts, "--layers", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {URL} is not an ampsweep server: its response is not a file of ")
    assert (texts.parent / "out.parquet").read_bytes() == b"earlier"
    assert len(list(texts.parent.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--max-gib", "1"), "--max-gib: the server decides; leave out --max-gib"),
        (("--compile",), "--compile: the server decides; leave out --compile"),
        (("--allow-untested-vllm",), "--allow-untested-vllm: the server decides; leave out --allow-untested-vllm"),
        (("--neurons", "ns_1"), "--neurons: has no effect without --languages or --intervention"),
        (
            ("--intervention", json.dumps({**STEERED, "part": "answer"})),
            "--intervention part: a captured text is given",
        ),
    ],
)
def test_what_a_server_cannot_do_is_refused_before_it_is_asked(
    options: tuple[str, ...], complaint: str, stub: StubClient, texts: Path
) -> None:
    result = ask(texts, "--layers", "1", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {complaint}")
    assert not stub.request


def test_a_file_with_more_texts_than_a_server_takes_is_refused(
    stub: StubClient, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ampsweep.domain.capture.MAX_TEXTS", 1)
    result = ask(texts, "--layers", "1")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: TEXTS: the file has 2 texts, but a server captures at most 1 at once; divide it\n",
    )
    assert not stub.request


@pytest.mark.processes
def test_a_server_captures_what_this_machine_does(server: ServerProcess, model: Path, texts: Path) -> None:
    here, there = texts.parent / "here.parquet", texts.parent / "there.parquet"
    local = call("capture", texts, here, "--model", model, "--engine", "fake", "--layers", "1,3")
    remote = call("capture", texts, there, "--model", "tiny", "--server", server.url, "--layers", "1,3")
    assert (local.exit_code, remote.exit_code) == (0, 0), local.output + remote.output
    assert remote.stdout == local.stdout.replace(str(here), str(there))
    assert pq.read_table(there).equals(pq.read_table(here))
    for options, code, line in (
        (("--layers", "9"), 2, "error: --layers: the model has the layers 0 to 3, and no layer 9\n"),
        (("--layers", "1", "--lora", "nope"), 2, "error: --lora: unknown adapter of model tiny 'nope'"),
        (("--languages", "fr", "--neurons", "ns_none"), 3, "error: "),
    ):
        refused = call("capture", texts, there, "--model", "tiny", "--server", server.url, *options)
        assert refused.exit_code == code, refused.output
        assert refused.stderr.startswith(line)
