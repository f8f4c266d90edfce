"""The kernels compiled for an H100 use wide accesses, one barrier and no shared memory."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_dense_part_uses_wide_accesses_and_one_barrier(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.kernels.hopper"],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for rows in (1, 2):
        kernel = report[f"steer {rows}"]
        assert kernel["ld.global.v4"] == 2 * rows
        assert kernel["st.global.v4"] == rows
        assert kernel["st.global"] == rows
        assert kernel["bar.sync"] == 1
        assert not any("shared" in kind for kind in kernel)
        assert kernel["REG"] <= 64, "more would leave too few programs on a multiprocessor"
        assert kernel["STACK"] == 0, "registers are spilled"
    assert report["statistic"]["ld.global.v4"] == 8
    assert report["statistic"]["REG"] <= 128, "a program of 16 warps cannot have more"
