from __future__ import annotations

from pathlib import Path

from benchmarks.finalization import STEPS, measure


def test_every_step_of_a_sweep_is_timed(tmp_path: Path) -> None:
    cells, seconds = measure(tmp_path, cells=48, items=2)
    assert cells == 60, "12 pairs of languages with a baseline, and two factors with a control"
    assert len(seconds) == len(STEPS)
    assert min(seconds) > 0
