from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.timed_runs.report import GOALS, THROUGHPUT, markers, tables, write_between_markers

BEGIN, END = markers(THROUGHPUT)


def _report(seconds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    return {
        "machine": {"processor": "a processor", "cores": 2, "python": "3.11.7"},
        "versions": {"vllm": "0.32.0", "torch": "2.13.0"},
        "model": {"parameters": 57_900_000, "layers": 7, "neurons a layer": 4096},
        "seed": 0,
        "seconds": seconds,
    }


def test_a_goal_is_met_or_missed_by_the_median_of_the_rounds() -> None:
    seconds = {"recording": {"recording": [1.0, 2.0, 1.0], "prefill": [0.90, 1.96, 0.96]}}
    text = tables(_report(seconds))
    assert "| recording, over prefill | 0.960 | 0.95 | met | 0.900 to 0.980 of 3 | 0.900 |" in text
    assert "| recording: prefill | 0.96 |" in text
    seconds["recording"]["prefill"][2] = 0.94
    assert "| recording, over prefill | 0.940 | 0.95 | missed |" in tables(_report(seconds))


def test_the_setting_is_in_the_page_and_a_suite_that_did_not_run_is_not() -> None:
    text = tables(_report({"idle": {"patched": [1.0], "stock": [1.0]}}))
    assert "2 cores of a processor, Python 3.11.7, vllm 0.32.0, torch 2.13.0" in text
    assert "57.9 million parameters, 7 layers of 4,096 neurons, float32; seed 0." in text
    assert text.count("| met |") == 1
    assert "generation" not in text


def test_every_goal_compares_two_variants_that_a_run_has() -> None:
    seconds: dict[str, dict[str, list[float]]] = {}
    for goal in GOALS:
        seconds.setdefault(goal.suite, {}).update({goal.variant: [1.0], goal.base: [1.0]})
    text = tables(_report(seconds))
    for goal in GOALS:
        assert text.count(f"| {goal.description} | 1.000 |") == 1


def test_tables_replace_only_the_text_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    for text in ("new", "newer"):
        write_between_markers(page, text, section=THROUGHPUT)
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"


@pytest.mark.parametrize("text", [f"{BEGIN} alone", f"{END} alone", "neither"])
def test_a_page_without_both_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="has no lines"):
        write_between_markers(page, "new", section=THROUGHPUT)
    assert page.read_text(encoding="utf-8") == text
