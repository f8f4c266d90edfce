"""`ampsweep doctor` on the command line: exit code, JSON, and the checks of a running server."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.cli.app import app
from ampsweep.cli.checks import machine
from ampsweep.client.clients import Client
from ampsweep.errors import Unauthenticated
from benchmarks.models.adapter import tiny_adapter


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("AMPSWEEP_URL", "AMPSWEEP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AMPSWEEP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AMPSWEEP_PORT", "0")
    yield tmp_path / "home"
    assert not (tmp_path / "home").exists(), "it changes nothing"


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["doctor", *arguments])


def states(result: Any) -> dict[str, str]:
    return {finding["subject"]: finding["state"] for finding in map(json.loads, result.stdout.splitlines())}


def test_all_is_well_here() -> None:
    result = call("--json")
    assert result.exit_code == 0, result.stdout
    assert "bad" not in states(result).values()
    assert {"Python", "vLLM", "C compiler", "memory", "model atlas", "database", "port", "Ray"} <= states(result).keys()
    assert "ok    Python" in call().stdout


def test_findings_are_printed_before_the_model_is_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ampsweep.cli.checks.model.model", slow)
    assert "ok    Python" in call("--model", "atlas").stdout


def test_problems_are_printed_with_remedies_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPSWEEP_RAY_ADDRESS", "127.0.0.1:1")
    result = call("--json")
    assert result.exit_code == 1
    assert [subject for subject, state in states(result).items() if state == "bad"] == ["Ray"]
    assert "BAD   Ray: 127.0.0.1:1" in call().stdout
    assert "-> start the head" in call().stdout


def test_engines_of_a_cluster_are_not_compared_with_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 1024)
    assert states(call("--json"))["memory"] == "bad"
    monkeypatch.setenv("AMPSWEEP_RAY_ADDRESS", "127.0.0.1:1")
    assert states(call("--json"))["memory"] == "ok"


def test_a_gpu_that_is_reserved_and_not_there_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "models.yaml"
    models.write_text(f"large: {{path: {ATLAS_MODEL}, gpus: 1}}\n")
    monkeypatch.setenv("AMPSWEEP_MODELS", str(models))
    monkeypatch.setattr(machine, "gpus", list)
    result = call("--json")
    assert states(result)["GPUs of the engines"] == "bad"
    assert "reserve 1 GPUs (large 1), and this machine has none" in result.stdout


def test_a_setting_that_is_refused_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMPSWEEP_ENGINE", "llama")
    result = call("--json")
    assert (result.exit_code, states(result)["settings"]) == (1, "bad")
    assert "AMPSWEEP_ENGINE" in result.stdout


def test_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = call("--json", "--server", f"http://127.0.0.1:{port}")
    assert (result.exit_code, states(result)["server"]) == (1, "bad")


@pytest.mark.parametrize(
    ("key", "detail"),
    [(None, "the server needs an API key"), ("wrong", "the server rejects the key in AMPSWEEP_API_KEY")],
)
def test_a_server_that_asks_for_another_key(key: str | None, detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_self: object) -> list[object]:
        raise Unauthenticated("a valid API key is needed")

    if key:
        monkeypatch.setenv("AMPSWEEP_API_KEY", key)
    monkeypatch.setattr(Client, "models", refused)
    result = call("--json", "--server", "http://127.0.0.1:9")
    assert (result.exit_code, states(result)["key"], states(result)["server"]) == (1, "bad", "ok")
    assert detail in result.stdout


def test_a_model_is_examined_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampsweep.cli.checks.model.MEASURE_SECONDS", 0.1)
    result = call("--json", "--model", "atlas", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.stdout
    assert {"model atlas", "model memory", "model speed"} <= {*states(result)}
    assert call("--model", "atlas", "--dtype", "int3").exit_code == 2
    assert call("--model", "no such model").exit_code == 1


def test_an_adapter_of_another_model_is_one_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path / "lora", targets=["q_proj"], seed=1)
    monkeypatch.setenv("AMPSWEEP_LORA", f"formal={adapter}")
    assert "bad" not in states(call("--json")).values()
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "r": 1024}))
    result = call("--json")
    assert (result.exit_code, states(result)["LoRA adapters"]) == (1, "bad")
    assert "adapter formal cannot be used: its rank 1024 exceeds 512" in result.stdout


def test_an_adapter_is_examined_with_its_model_only() -> None:
    result = call("--lora", "adapter")
    assert result.exit_code == 2
    assert "give --model" in result.stderr
