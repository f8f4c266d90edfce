"""The kernel benchmark without CUDA: its check, its report on tiny shapes, and its error."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import kernel
from benchmarks.kernels import steering_cost, timing
from benchmarks.kernels.checks import CHECKS, KernelCheck
from engine.kernels import host_copies
from tests.engine.kernels.triton_modules import (
    DEVICE,
    grouped_product_triton,
    record_triton,
    residual_triton,
    statistic_triton,
    steer_triton,
    use_interpreter,
)

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


@pytest.fixture(autouse=True, scope="module")
def _interpreter() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_interpreter(patch)
        yield


def test_the_kernels_agree_with_float64() -> None:
    cases = {name: check() for name, check in KernelCheck(DEVICE, seed=1).checks().items()}
    assert tuple(cases) == CHECKS
    if DEVICE.type == "cpu":
        numbers = {"steering": 39, "statistics": 8, "recording": 39, "residual stream": 3, "experts": 2}
        assert cases == {**numbers, "graph replay": 5, "host copies": 64, "recordings": 2}


def test_the_command_interprets_the_kernels_where_there_is_no_gpu() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.kernel", "--check", "--small", "--only", "host copies", "recordings"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.splitlines() == ["host copies: 64 cases as expected", "recordings: 2 cases as expected"]


@pytest.mark.parametrize("check", CHECKS)
def test_a_kernel_that_writes_too_little_is_found(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = {
        "steering": (steer_triton, "steer"),
        "statistics": (statistic_triton, "take"),
        "recording": (record_triton, "record"),
        "residual stream": (residual_triton, "add"),
        "experts": (grouped_product_triton, "multiply"),
        "graph replay": (record_triton, "record"),
        "host copies": (host_copies, "write"),
        "recordings": (record_triton, "record"),
    }
    module, function = kernels[check]
    monkeypatch.setattr(module, function, lambda *_arguments, **_options: None)
    with pytest.raises(AssertionError):
        KernelCheck(DEVICE, seed=1).checks()[check]()


def test_a_report_runs_every_launch_and_has_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = 0

    def microseconds(launch: Callable[[int], None], count: int) -> float:
        nonlocal launched
        for index in range(count):
            launch(index)
            launched += 1
        return 2.0

    references: Any = importlib.import_module("benchmarks.kernels.references")
    monkeypatch.setattr(references, "references", lambda: {"triton": references.plain_triton})
    monkeypatch.setattr(timing, "launches", lambda moved: 2)
    monkeypatch.setattr(timing, "microseconds", microseconds)
    tables = {
        share: steering_cost.fill(40, share, 32, slots=256, layers=steering_cost.LAYERS, device=DEVICE)
        for share in steering_cost.SHARES
    }
    shape = steering_cost.measure(3, 40, tables, torch.float32)
    cases = 1 + len(steering_cost.SLOTS) * len(steering_cost.SHARES)
    assert launched == 2 * (2 + cases)
    assert len(shape["steered"]) == cases
    assert shape["copy"] == {"us": 2.0, "GB/s": 0.7}
    assert all(case["over"] == {"triton": 1.0} for case in shape["steered"])
    assert len(steering_cost.table([shape]).splitlines()) == 1 + cases


def test_the_plain_kernel_is_the_steering_kernel_without_slots() -> None:
    references: Any = importlib.import_module("benchmarks.kernels.references")
    x = torch.randn(2, 80, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    out = torch.empty(2, 40, device=DEVICE)
    references.plain_triton(out, x)
    expected = torch.nn.functional.silu(x[:, :40].double()) * x[:, 40:].double()
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)


def test_slots_alternate_at_decode_and_form_runs_at_prefill() -> None:
    cpu = torch.device("cpu")
    assert steering_cost.token_slots(4, 0, cpu).tolist() == [0] * 4
    assert steering_cost.token_slots(5, 2, cpu).tolist() == [1, 2, 1, 2, 1]
    runs = steering_cost.token_slots(steering_cost.PREFILL, 2, cpu).tolist()
    assert runs == [1] * (steering_cost.PREFILL // 2) + [2] * (steering_cost.PREFILL // 2)


def test_only_the_checks_that_are_named_are_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kernel", "--check", "--small", "--only", "residual stream"])
    assert kernel.main() == 0
    assert capsys.readouterr().out.startswith("residual stream: ")


@pytest.mark.skipif(DEVICE.type == "cuda", reason="this machine has CUDA")
def test_the_benchmark_reports_that_cuda_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["kernel", "--out", str(tmp_path / "report.json")])
    assert kernel.main() == 2
    assert "needs a CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
