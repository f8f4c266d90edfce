"""The kernels compiled for an H100 use wide accesses, as few barriers as they need, and no stack.

`AMPSWEEP_TRITON=FOLDER` names a folder with another release of Triton, with which they are compiled too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OTHER_RELEASE = os.environ.get("AMPSWEEP_TRITON")
ROOT = Path(__file__).parents[3]

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed"),
]


@pytest.fixture(
    scope="module",
    params=[
        None,
        pytest.param(
            OTHER_RELEASE,
            marks=pytest.mark.skipif(OTHER_RELEASE is None, reason="AMPSWEEP_TRITON names no other release"),
        ),
    ],
    ids=["installed", "other"],
)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what `tests.engine.kernels.hopper` prints."""
    folders = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    if request.param is not None:
        folders.insert(0, request.param)
    cache = tmp_path_factory.mktemp("triton")
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.kernels.hopper"],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(folders),
            "TRITON_CACHE_DIR": str(cache),
            "TRITON_INTERPRET": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kernels: dict[str, Any] = json.loads(done.stdout)
    if request.param is not None:
        assert kernels["triton"].startswith(request.param), "the other release was compiled with"
    return kernels


@pytest.mark.parametrize("statistic", ["", " with a statistic"])
@pytest.mark.parametrize("rows", [1, 2])
def test_the_dense_part_uses_wide_accesses_and_one_barrier(report: dict[str, Any], rows: int, statistic: str) -> None:
    kernel = report[f"steer {rows}{statistic}"]
    assert kernel["ld.global.v4"] == 2 * rows
    assert kernel["st.global.v4"] == rows
    assert kernel["st.global"] == 1, "one loop overwrites the neurons of all tokens"
    assert kernel["bar.sync"] == 1
    assert kernel["before a store"] == 2 * rows + 3 * rows + 1, "of each token the slot and two offsets; the layer"
    assert not any(kind.startswith(("ld.shared", "st.shared")) for kind in kernel)
    assert kernel["REG"] <= 64, "more would leave too few programs on a multiprocessor"
    assert kernel["STACK"] == 0, "registers are spilled"


@pytest.mark.parametrize("rows", [1, 2])
def test_the_loads_of_the_dense_part_are_in_flight_at_once(report: dict[str, Any], rows: int) -> None:
    assert report[f"steer {rows}"]["in flight"] == 2 * rows, "gate and up of each token"


def test_a_program_of_the_statistic_fits_on_a_multiprocessor(report: dict[str, Any]) -> None:
    assert report["statistic"]["ld.global.v4"] == 8
    assert report["statistic"]["REG"] <= 128, "a program of 16 warps cannot have more"
    assert report["statistic"]["STACK"] == 0


def test_all_programs_that_record_fit_on_the_card_at_once(report: dict[str, Any]) -> None:
    assert report["record"]["REG"] <= 64, "eight programs of 4 warps on a multiprocessor"
    assert report["record"]["STACK"] == 0


def test_the_kernels_of_the_residual_stream_use_wide_accesses(report: dict[str, Any]) -> None:
    add, record = report["add vector"], report["record residual"]
    assert add["ld.global.v4"] == 3, "eight numbers of the stream in 16 bits, and eight of the vector in 32"
    assert add["st.global.v4"] == 1
    assert add["REG"] <= 32, "all programs of a step of 512 tokens fit on the card at once"
    assert record["ld.global.v4"] == 2 * 4 + 2, "stream and residual of four tokens, and the sums in 32 bytes"
    assert record["st.global.v4"] == 2
    assert record["in flight"] == 2 * 4, "a sum does not wait for one load after the other"
    assert "bar.sync" not in add
    assert record["bar.sync"] == 1, "after the last token, where the sums change their order among the threads"
    assert add["STACK"] == record["STACK"] == 0


def test_the_kernels_of_experts_fit_too(report: dict[str, Any]) -> None:
    steer, record = report["steer experts"], report["record experts"]
    assert steer["ld.global.v4"] == 2, "gate and up"
    assert (steer["bar.sync"], steer["REG"] <= 64) == (1, True)
    assert record["REG"] <= 64, "eight programs of 4 warps on a multiprocessor"
    assert steer["STACK"] == record["STACK"] == 0


@pytest.mark.parametrize("tile", [16, 64])
def test_the_products_of_experts_use_tensor_cores_and_fit_on_smaller_cards(report: dict[str, Any], tile: int) -> None:
    product = report[f"product {tile}"]
    assert product["mma"] > 0
    assert product["shared"] <= 99 * 1024, "what a program may have on cards of compute capability 8.6 and 8.9"
    assert product["STACK"] == 0, "registers are spilled"
