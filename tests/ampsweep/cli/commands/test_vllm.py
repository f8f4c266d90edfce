"""The commands on vLLM give the results of the reference engine, and print nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from ampsweep.cli.app import app
from benchmarks.models.adapter import tiny_adapter
from benchmarks.models.families import tiny_model

LINES: list[dict[str, Any]] = [
    {"custom_id": "g", "kind": "generate", "prompt": "the thing in", "sampling": {"max_tokens": 6, "ignore_eos": True}},
    {"custom_id": "s", "kind": "score", "context": "the thing", "continuation": " in the end"},
    {
        "custom_id": "t",
        "kind": "score",
        "context": "the thing",
        "continuation": " in the end",
        "intervention": {"languages": ["fr"], "op": "set", "patch": "max", "factor": 3.0},
    },
    {
        "custom_id": "w",
        "kind": "score",
        "context": "the thing",
        "continuation": " in the end",
        "intervention": {"languages": {"fr": 0.5, "en": 2}, "op": "set", "statistic": "p97.5", "scope": "prompt"},
    },
    {"custom_id": "x", "kind": "score", "context": "the thing"},
]


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.engine
def test_a_batch_on_vllm_is_the_batch_of_the_reference(tmp_path: Path) -> None:
    model = tiny_model("qwen2", tmp_path / "model")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "en.txt").write_text("the hen is in the inn\nan end on the hand\n")
    (corpus / "fr.txt").write_text("il est arrivé hier\nnous allons au marché\n")
    neurons, source = tmp_path / "neurons", tmp_path / "in.jsonl"
    options = ("--param", "top_rate=0.2", "--engine", "transformers")
    call("identify", "--model", model, "--corpus", corpus, "--out", neurons, *options)
    source.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    rows_by_engine: dict[str, list[dict[str, Any]]] = {}
    adapter, merged = tiny_adapter(model, tmp_path / "lora", targets=["q_proj", "up_proj"], seed=1)
    for kind, lora in (("transformers", ()), ("vllm", ("--lora", f"formal={adapter}"))):
        target = tmp_path / f"{kind}.parquet"
        if lora:
            source.write_text(source.read_text() + json.dumps({**LINES[1], "adapter": "formal"}) + "\n")
        call("batch", "--model", model, "--neurons", neurons, "--engine", kind, *lora, source, target)
        rows_by_engine[kind] = pq.read_table(target).to_pylist()
    adapted = rows_by_engine["vllm"].pop()
    source.write_text(json.dumps(LINES[1]))
    call("batch", "--model", merged, "--engine", "transformers", source, tmp_path / "merged.parquet")
    (expected,) = pq.read_table(tmp_path / "merged.parquet").to_pylist()
    assert adapted["logprobs"] == pytest.approx(expected["logprobs"], abs=1e-4)
    assert adapted["logprobs"] != pytest.approx(rows_by_engine["vllm"][1]["logprobs"], abs=1e-2)
    for expected, row in zip(rows_by_engine["transformers"], rows_by_engine["vllm"], strict=True):
        logprobs, expected_logprobs = row.pop("logprobs"), expected.pop("logprobs")
        assert row == expected
        assert logprobs == (None if expected_logprobs is None else pytest.approx(expected_logprobs, abs=1e-4))
    steered, plain = rows_by_engine["vllm"][2], rows_by_engine["vllm"][1]
    assert steered["token_ids"] == plain["token_ids"]


@pytest.mark.engine
def test_generate_prints_its_own_lines_only(tmp_path: Path) -> None:
    model = tiny_model("qwen2", tmp_path / "model")
    command = (sys.executable, "-m", "ampsweep.cli", "generate", "the thing in", "--model", str(model))
    environment = {name: value for name, value in os.environ.items() if name not in ("VLLM_LOGGING_LEVEL",)}
    ended = subprocess.run(
        [*command, "--max-tokens", "4"],
        env={**environment, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    note = [] if torch.cuda.is_available() else ["note: a short job: vLLM does not compile the model (--compile)"]
    *notes, warning = ended.stderr.splitlines()
    assert (ended.returncode, notes) == (0, note)
    assert warning.startswith("warning: the model's embedding has 276 rows and none for 1 tokens of its tokenizer")
    assert len(ended.stdout.splitlines()) == 1
    (log,) = (tmp_path / "cache" / "ampsweep" / "logs").glob("generate-*.log")
    kept = log.read_text()
    assert "vllm" in kept.lower(), "what vLLM printed is kept"
    assert f"enforce_eager={bool(note)}" in kept, "it says that it does not compile"
