"""`batch` on the fake engine."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ampsweep.cli.commands import batch
from ampsweep.cli.options.engine import SHORT_JOB
from engine.base import Score, ScoreRequest
from engine.fake import FakeEngine
from engine.neurons.neuron_set import NeuronSet
from tests.ampsweep.cli.commands.local_commands import STEERED, call, call_batch

LINES: list[object] = [
    {"custom_id": "g", "kind": "generate", "prompt": "Hello", "sampling": {"max_tokens": 3}},
    {"custom_id": "s", "kind": "score", "context": "Hello", "continuation": " you"},
    {"custom_id": "t", "kind": "score", "context": "Hello", "continuation": " you", "intervention": STEERED},
    "not JSON",
    {"custom_id": "m", "kind": "score", "context": "Hello"},
    {"custom_id": "u", "kind": "score", "context": "a", "continuation": "b", "colour": 1},
    {
        "custom_id": "x",
        "kind": "score",
        "context": "a",
        "continuation": "b",
        "intervention": {**STEERED, "languages": ["xx"]},
    },
    {"custom_id": "e", "kind": "score", "context": "a", "continuation": ""},
]


def test_a_batch_answers_each_line_in_order(model: Path, neurons: Path, tmp_path: Path) -> None:
    result, rows = call_batch(model, tmp_path, LINES, "--neurons", neurons)
    assert result.exit_code == 0, result.output
    assert "8 rows" in result.stdout
    assert "5 with an error" in result.stdout
    columns = ["custom_id", "kind", "completion", "token_ids", "logprobs", "error", "neuron_set", "steered_spans"]
    assert list(rows[0]) == columns
    assert [row["custom_id"] for row in rows] == ["g", "s", "t", None, "m", "u", "x", "e"]
    generated, scored, steered, *wrong = rows
    assert (len(generated["token_ids"]), len(generated["logprobs"]), generated["error"]) == (3, 3, None)
    assert generated["completion"].split()
    assert (scored["completion"], scored["token_ids"], len(scored["logprobs"])) == (None, list(b" you"), 4)
    assert steered["logprobs"] != scored["logprobs"]
    assert steered["neuron_set"] == NeuronSet.load(neurons).id
    assert (generated["neuron_set"], scored["neuron_set"]) == (None, None)
    assert all(row["error"] and row["token_ids"] is None for row in wrong)
    assert [row["error"].partition(":")[0] for row in wrong[1:4]] == [
        "continuation",
        "colour",
        "intervention.languages",
    ]


def test_a_row_that_is_not_text_fails_alone(model: Path, tmp_path: Path) -> None:
    good = json.dumps({"custom_id": "good", "kind": "score", "context": "a", "continuation": "b"})
    lines: list[object] = [
        good.replace("good", "half \\ud83d emoji"),
        good.replace('"b"', '"\\ude00"').replace("good", "prompt"),
        "[" * 100_000,
        good,
    ]
    result, rows = call_batch(model, tmp_path, lines)
    assert result.exit_code == 0, result.output
    assert [row["custom_id"] for row in rows] == ["half \ufffd emoji", "prompt", None, "good"]
    assert [row["error"] is None for row in rows] == [False, False, False, True]
    assert "Invalid JSON" in rows[0]["error"]
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert warning == f"warning: 3 of 4 rows have no answer; row 1: {rows[0]['error']}"


def test_a_byte_order_mark_costs_a_batch_no_row(model: Path, tmp_path: Path) -> None:
    line = json.dumps({"custom_id": "first", "kind": "score", "context": "a", "continuation": "b"})
    _, rows = call_batch(model, tmp_path, [f"\ufeff{line}", line])
    assert [(row["custom_id"], row["error"]) for row in rows] == [("first", None)] * 2


def test_a_batch_takes_statistics_and_weights(model: Path, tmp_path: Path) -> None:
    (tmp_path / "neurons.json").write_text('{"en": {"0": [5]}, "fr": {"1": [3]}}')
    neurons = tmp_path / "imported"
    assert call("neurons", "import", tmp_path / "neurons.json", "--model", model, "--out", neurons).exit_code == 0
    forms: list[dict[str, Any]] = [
        {"languages": ["fr"], "op": "add", "statistic": "iqr"},
        {"languages": {"fr": 2, "en": 0.5}, "op": "add", "statistic": "iqr"},
        {"languages": ["fr"], "op": "scale", "statistic": "iqr"},
        {"languages": {"fr": None}, "op": "add", "statistic": "iqr"},
    ]
    line = {"custom_id": "s", "kind": "score", "context": "Hello", "continuation": " you"}
    _, rows = call_batch(model, tmp_path, [{**line, "intervention": form} for form in forms], "--neurons", neurons)
    assert rows[0]["logprobs"] != rows[1]["logprobs"]
    assert [row["error"] is None for row in rows] == [True, True, False, False]
    assert rows[2]["error"].startswith("intervention.statistic")
    assert rows[3]["error"].startswith("intervention.languages.fr")


def test_a_batch_says_which_tokens_were_steered_if_that_depends_on_the_text(
    model: Path, neurons: Path, tmp_path: Path
) -> None:
    drift = {"min_characters": 10, "window": 60, "every": 10, "switch_on": 1, "confidence": 0}
    line = {"custom_id": "d", "kind": "generate", "prompt": "Hello", "sampling": {"max_tokens": 12}}
    forms = [None, STEERED, {**STEERED, "when": {"drift": drift}}]
    _, rows = call_batch(model, tmp_path, [{**line, "intervention": form} for form in forms], "--neurons", neurons)
    plain, steered, drifting = rows
    assert [row["error"] for row in rows] == [None] * 3
    assert (plain["steered_spans"], steered["steered_spans"]) == (None, None)
    ((first, end),) = drifting["steered_spans"]
    assert (0 < first < 12, end) == (True, 12)
    assert drifting["token_ids"][: first + 1] == plain["token_ids"][: first + 1]
    assert drifting["token_ids"] != plain["token_ids"]


def test_a_batch_without_neurons_refuses_steered_lines_only(model: Path, tmp_path: Path) -> None:
    _, rows = call_batch(model, tmp_path, LINES[:3])
    assert [row["error"] is None for row in rows] == [True, True, False]
    assert "--neurons" in rows[2]["error"]


def test_a_long_batch_is_written_in_chunks(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "ROWS_PER_CHUNK", 10)
    monkeypatch.setattr(batch, "IN_FLIGHT", 4)
    lines: list[object] = [
        {"custom_id": str(number), "kind": "score", "context": str(number), "continuation": "!"} for number in range(35)
    ]
    _, rows = call_batch(model, tmp_path, lines)
    assert [row["custom_id"] for row in rows] == [str(number) for number in range(35)]
    assert pq.ParquetFile(tmp_path / "out.parquet").metadata.num_row_groups == 4


def test_a_long_answer_does_not_delay_the_lines_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "IN_FLIGHT", 4)
    monkeypatch.setattr(batch, "MAX_AHEAD", 16)
    begun: list[str] = []
    twelve = asyncio.Event()

    class Engine(FakeEngine):
        async def score(self, request: ScoreRequest) -> Score:
            begun.append(str(request.context))
            if len(begun) == 12:
                twelve.set()
            if request.context == "0":
                await twelve.wait()
            return await super().score(request)

    source = tmp_path / "in.jsonl"
    line = {"kind": "score", "continuation": "!"}
    source.write_text("".join(json.dumps({**line, "custom_id": str(n), "context": str(n)}) + "\n" for n in range(20)))

    async def answered() -> list[str]:
        return [row["custom_id"] async for row in batch._answers(source, Engine(), None)]

    assert asyncio.run(asyncio.wait_for(answered(), 10)) == [str(n) for n in range(20)]


def test_a_batch_that_fails_leaves_no_file(model: Path, tmp_path: Path) -> None:
    result, rows = call_batch(model, tmp_path, LINES, "--neurons", tmp_path / "none")
    assert result.exit_code == 3
    assert rows == []
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_empty_batch_is_an_empty_table(model: Path, tmp_path: Path) -> None:
    result, rows = call_batch(model, tmp_path, [])
    assert (result.exit_code, rows) == (0, [])
    assert (tmp_path / "out.parquet").exists()


def test_the_lines_of_a_batch_decide_whether_it_is_short(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def whether(*_: object, requests: int, **__: object) -> bool:
        counted.append(requests)
        return True

    monkeypatch.setattr("ampsweep.cli.options.local_engine.whether_to_compile", whether)
    line = {"custom_id": "s", "kind": "score", "context": "a", "continuation": "b"}
    for count in (3, SHORT_JOB + 5):
        call_batch(model, tmp_path, [line] * count)
    assert counted == [3, SHORT_JOB + 1]
