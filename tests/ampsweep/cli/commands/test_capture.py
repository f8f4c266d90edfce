from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.folders.adapter import read_adapter
from benchmarks.models.adapter import tiny_adapter
from engine.base import Capture, CaptureRequest
from engine.fake import FakeEngine
from engine.fake_encoder import FakeEncoder
from engine.neurons.neuron_set import NeuronSet
from tests.ampsweep.cli.commands.local_commands import STEERED, call

SPECIAL = 256
STEERS = ("--layers", "1", "--neurons", "NEURONS", "--intervention")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("né\n\nab\r\n", encoding="utf-8")
    return path


def run(model: Path, source: Path, *options: object, out: str = "out.parquet") -> tuple[Any, pa.Table | None]:
    target = source.parent / out
    result = call("capture", source, target, "--model", model, "--engine", "fake", *options)
    return result, pq.read_table(target) if target.exists() else None


def test_the_lines_of_a_file_are_captured(model: Path, texts: Path) -> None:
    result, table = run(model, texts, "--layers", "1,3", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown == {"texts": 2, "tokens": 7, "neurons": 64, "rows": 14, "file": str(texts.parent / "out.parquet")}
    assert table is not None
    assert table.num_rows == 14
    assert table["text_id"].to_pylist() == ["1"] * 8 + ["3"] * 6
    assert table["token_id"].to_pylist()[::2] == [SPECIAL, *"né".encode(), SPECIAL, *b"ab"]
    assert table.schema.field("activations").type == pa.list_(pa.field("element", pa.float16(), nullable=False), 32)


def test_lines_of_json_have_ids_completions_and_chats(model: Path, neurons: Path, tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    lines = [{"id": "one", "prompt": "ab", "completion": "c"}, {"messages": [{"role": "user", "content": "Hi"}]}]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    chosen = ("--neurons", neurons, "--languages", "fr", "--store", "float32")
    result, plain = run(model, source, *chosen)
    assert result.exit_code == 0, result.output
    assert f"texts in {tmp_path / 'out.parquet'}: " in result.stdout
    _, steered = run(model, source, *chosen, "--intervention", json.dumps(STEERED), out="steered.parquet")
    assert plain is not None
    assert steered is not None
    assert plain["text_id"].unique().to_pylist() == ["one", "2"]
    assert plain.drop(["activations"]).equals(steered.drop(["activations"]))
    assert not plain.equals(steered)
    metadata = json.loads(steered.schema.metadata[b"ampsweep.capture"])
    pairs = NeuronSet.load(neurons).neurons["fr"]
    assert metadata["neurons"] == {
        str(layer): pairs[pairs[:, 0] == layer, 1].tolist() for layer in sorted(set(pairs[:, 0].tolist()))
    }
    assert metadata["intervention"]["factor"] == 5.0


def test_listed_neurons_are_those_of_the_whole_layer(model: Path, texts: Path) -> None:
    _, whole = run(model, texts, "--layers", "2", "--store", "float32")
    _, few = run(model, texts, "--indices", "2:17,2:4", "--store", "float32", out="few.parquet")
    assert whole is not None
    assert few is not None
    np.testing.assert_array_equal(
        np.array(few["activations"].to_pylist()), np.array(whole["activations"].to_pylist())[:, [4, 17]]
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "layers: give one of --layers, --languages and --indices; got none"),
        (("--layers", "1", "--indices", "1:2"), "got --layers and --indices"),
        (("--layers", "1,x"), "layers: must be numbers such as 3,4; got 'x'"),
        (("--layers", "7"), "layers: the model has the layers 0 to 3, and no layer 7"),
        (("--indices", "1"), "indices: must be numbers such as 3:17,3:20; got ''"),
        (("--indices", "1:40"), "indices: layer 1 has the neurons 0 to 31"),
        (("--languages", "fr"), "neurons: languages have neurons in a neuron set only"),
        (("--languages", "xx", "--neurons", "NEURONS"), "languages: "),
        (("--layers", "1", "--intervention", json.dumps(STEERED)), "neurons: "),
        (("--layers", "1", "--intervention", "{", "--neurons", "NEURONS"), "intervention: is not JSON"),
        (("--layers", "1", "--store", "int8"), "store: must be float16 or float32; got 'int8'"),
        (("--layers", "1", "--max-gib", "0.0000001"), "--max-gib: the activations of 32 neurons at 7 tokens take"),
        (("--layers", "1", "--max-gib", "0.0000001"), "languages or layers, or a larger --max-gib"),
        (("--layers", "1", "--max-gib", "0", "--store", "float32"), "--store float16, or a larger --max-gib"),
        (("--layers", "1", "--max-gib", "inf"), "--max-gib: must be a number of GiB such as 4; got inf"),
        (("--layers", "1,1"), "layers: has the same value twice; name each once"),
        (("--layers", "20000"), "layers.0: input should be less than 10000"),
        (("--indices", "1:2,1:2"), "has the same value twice; name each once"),
        (("--layers", "1", "--neurons", "NEURONS"), "neurons: has no effect without --languages or --intervention"),
        (("--layers", "1", "--lora", "missing"), "lora: adapter missing cannot be used: there is no folder missing"),
        ((*STEERS, json.dumps({**STEERED, "scope": "generation"})), "no token of TEXTS.1 is in it"),
        ((*STEERS, json.dumps({**STEERED, "tokens": {"start": 3}})), "tokens: start=3 edits no token of TEXTS.3"),
        ((*STEERS, json.dumps({**STEERED, "when": "drift"})), "--intervention when: a captured text is given"),
        ((*STEERS, json.dumps({**STEERED, "part": "thinking"})), "--intervention part: a captured text is given"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    options: tuple[str, ...], complaint: str, model: Path, texts: Path, neurons: Path
) -> None:
    result, table = run(model, texts, *(neurons if option == "NEURONS" else option for option in options))
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr
    assert table is None


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.txt", b"\n \n", "a.txt has no text"),
        ("a.txt", b"fine\n\xff\n", "TEXTS.2 is not UTF-8"),
        ("a.txt", b"\nfine\n\n" + b"x" * 2048, "TEXTS.4 has 2049 tokens, but this engine accepts at most 2047"),
        ("a.txt", "fine\nä\n".encode("utf-16-le"), "TEXTS.1: has a NUL character, as text in UTF-16 has"),
        ("a.jsonl", b'{"prompt": "a"}\n\n{"prompt": [1, 300]}\n', "TEXTS.3: tokens.1: the model has no token with"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt"\n', "TEXTS.2: the line is not valid JSON"),
        ("a.jsonl", b'{"prompt": "a", "text": "b"}\n', "TEXTS.1.text"),
        ("a.jsonl", b'{"id": "x"}\n', "TEXTS.1.prompt"),
    ],
)
def test_a_damaged_file_is_named_by_its_line(
    name: str, content: bytes, complaint: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    result, table = run(model, tmp_path / name, "--layers", "1")
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr
    assert table is None


def test_an_adapter_is_used_and_named(model: Path, texts: Path, tmp_path: Path) -> None:
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path, targets=["q_proj"], seed=1)
    _, plain = run(model, texts, "--layers", "1")
    result, adapted = run(model, texts, "--layers", "1", "--lora", adapter, out="adapted.parquet")
    assert result.exit_code == 0, result.output
    assert plain is not None
    assert adapted is not None
    assert plain.drop(["activations"]).equals(adapted.drop(["activations"]))
    assert not plain.equals(adapted)
    plain_source, source = (json.loads(table.schema.metadata[b"ampsweep.capture"]) for table in (plain, adapted))
    assert (plain_source["adapter"], plain_source["adapter_fingerprint"]) == (None, None)
    assert source["adapter"] == str(adapter)
    assert source["adapter_fingerprint"] == read_adapter(adapter, name="any").fingerprint


def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_looked_for(texts: Path) -> None:
    options = ("--layers", "1", "--model", "no/such/model")
    for out, complaint in (
        (texts.parent / "none" / "out.parquet", "none does not exist; create it first"),
        (texts.parent, "is a folder"),
        (texts, "is one of the files to read"),
        (Path("/dev/null"), "is not a regular file"),
    ):
        result = call("capture", texts, out, *options)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: OUT.parquet: ")
        assert complaint in result.stderr


def test_a_file_is_replaced_by_a_whole_one_only(model: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = texts.parent / "out.parquet"
    target.write_bytes(b"earlier")

    async def huge(_: FakeEngine, request: CaptureRequest) -> Capture:
        values = tuple(np.full((1, count), 70_000, np.float32) for count in request.neurons.counts)
        return Capture(token_ids=(1,), token_texts=("a",), activations=values)

    with monkeypatch.context() as patch:
        patch.setattr(FakeEngine, "capture", huge)
        result = call("capture", texts, target, "--model", model, "--engine", "fake", "--layers", "1")
    assert result.exit_code == 2
    assert "error: --store: 32 activations are above 65504" in result.stderr
    assert target.read_bytes() == b"earlier"
    _, table = run(model, texts, "--layers", "1")
    assert table is not None
    assert sorted(path.name for path in texts.parent.iterdir()) == ["out.parquet", "texts.txt"]


def test_ctrl_c_stops_a_capture_and_leaves_no_file(model: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    async def interrupted(_: FakeEngine, request: CaptureRequest) -> Capture:
        if not ended:
            os.kill(os.getpid(), signal.SIGINT)
        ended.append("started")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("aborted")
        raise AssertionError(request)

    monkeypatch.setattr(FakeEngine, "capture", interrupted)
    result, table = run(model, texts, "--layers", "1")
    assert result.exit_code == 130
    assert ended.count("started") == ended.count("aborted") > 0
    assert table is None
    assert [path.name for path in texts.parent.iterdir()] == ["texts.txt"]


def test_ctrl_c_stops_the_counting_of_tokens(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, counted = FakeEncoder.tokens, 0

    def interrupted(self: FakeEncoder, *arguments: Any, **options: Any) -> tuple[int, ...]:
        nonlocal counted
        if not counted:
            os.kill(os.getpid(), signal.SIGINT)
        counted += 1
        return tokens(self, *arguments, **options)

    monkeypatch.setattr(FakeEncoder, "tokens", interrupted)
    (tmp_path / "many.txt").write_text("a\n" * 100)
    result, table = run(model, tmp_path / "many.txt", "--layers", "1")
    assert (result.exit_code, table) == (130, None)
    assert counted < 10
