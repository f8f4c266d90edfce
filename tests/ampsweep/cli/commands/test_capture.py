from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.neurons.neuron_set import NeuronSet
from tests.ampsweep.cli.commands.local_commands import STEERED, call

SPECIAL = 256


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
        (("--layers", "1", "--max-gib", "0.0000001"), "max_gib: the activations of 32 neurons at 7 tokens take"),
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
