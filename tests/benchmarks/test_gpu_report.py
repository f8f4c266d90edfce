"""The tables of the GPU check say what failed, and compare each figure with its goal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_report
from benchmarks.gpu_report import REHEARSAL, SECTION, merged, tables, write_page
from benchmarks.timed_runs.report import markers

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def _figures(seconds: list[float], ratio: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "tokens/s": 12_345,
        "ratio": {"fastest": ratio, "median": ratio, "least": ratio - 0.01, "largest": ratio + 0.01},
    }


def _shape(tokens: int, *, us: float, over: float, of_copy: float) -> dict[str, Any]:
    case = {"slots": 256, "share": 0.01, "us": us, "GB/s": 2900.4, "of copy": of_copy}
    unsteered = {"triton": us / 2, "torch.compile": us / 1.5, "vllm": us / over}
    return {
        "tokens": tokens,
        "width": 4864,
        "copy": {"us": us * of_copy, "GB/s": 3300.0},
        "unsteered": {name: {"us": time, "GB/s": 3000.0} for name, time in unsteered.items()},
        "steered": [
            {**case, "slots": 0, "share": 0.0, "over": {name: us / time for name, time in unsteered.items()}},
            {**case, "over": {name: us / time for name, time in unsteered.items()}},
        ],
    }


def _report() -> dict[str, Any]:
    shapes = [_shape(64, us=4.0, over=2.0, of_copy=0.5), _shape(8192, us=80.0, over=1.04, of_copy=0.84)]
    setting = {
        "versions": {"vllm": "0.32.0", "torch": "2.13.0"},
        "dtype": "bfloat16",
        "load": {"requests": 256, "prompt": 32, "new_tokens": 128, "rounds": 3},
    }
    rates = {
        "setting": setting,
        "idle": {"stock": _figures([1.0], 1.0), "patched": _figures([1.0, 3.0, 2.0], 0.985)},
        "generation": {"0 interventions": _figures([1.0], 1.0), "256 interventions": _figures([1.0], 0.98)},
        "scoring": {"forward pass": _figures([1.0], 1.0), "64 interventions": _figures([1.0], 0.91)},
        "recording": {"prefill": _figures([1.0], 1.0), "recording": _figures([1.0], 0.94)},
    }
    operators = [{"tokens": 1, "width": 4864, "plain": 2.0, "idle": 3.25}]
    return {
        "device": "a card",
        "stages": {
            "kernels": {"seconds": 1.0, "parts": {"steering": {"result": "39 cases agree with float64"}}},
            "answers": {
                "seconds": 1.0,
                "error": "exit status 1; failed: runner v2",
                "parts": {
                    "runner v1": {"result": "as the transformers engine", "seconds": 1.0},
                    "runner v2": {"error": "AssertionError: [1]\n!= | [2]", "seconds": 1.0},
                },
            },
            "kernel times": {"seconds": 1.0, "parts": {"width 4864": {"result": shapes}}},
            "operator times": {"seconds": 1.0, "parts": {"width 4864": {"result": operators}}},
            "rates": {"seconds": 1.0, "parts": {name: {"result": result} for name, result in rates.items()}},
        },
    }


def test_each_figure_is_compared_with_its_goal() -> None:
    text = tables(_report())
    for row in (
        "| fused kernel, more than vllm, width 4,864, 64 tokens | 2.000 µs | at most 1 µs | missed |",
        "| fused kernel, over vllm, width 4,864, 8,192 tokens | 1.040 | at most 1.05 | met |",
        "| fused kernel, share of a copy's bandwidth, width 4,864, 8,192 tokens | 0.840 | at least 0.85 | missed |",
        "| generation, 256 interventions, over unsteered | 0.980 | at least 0.97 | met |",
        "| the idle engine, over stock vLLM | 0.985 | at least 0.99 | missed |",
        "| scoring, 64 interventions, over the forward pass | 0.910 | at least 0.9 | met |",
        "| recording, over prefill | 0.940 | at least 0.95 | missed |",
    ):
        assert row in text.splitlines()
    assert text.count("| met |") + text.count("| missed |") == 7


def test_every_time_and_rate_is_in_a_table_beneath_its_setting() -> None:
    text = tables(_report())
    setting = "a card; vllm 0.32.0, torch 2.13.0; bfloat16; 256 requests with prompts of 32 tokens and 128 new ones"
    assert text.startswith(f"{setting}; rounds: 3.\n")
    assert "| 4,864 | 8,192 | 256 | 1.0% | 80.00 | 2,900 | 0.840 | 2.000 | 1.500 | 1.040 |" in text
    assert "| 4,864 | 1 | 2.00 | 3.25 |" in text
    assert "| idle: patched | 12,345 | 0.985 | 0.975 to 0.995 | 2.00 |" in text


def test_what_failed_is_named_and_the_rest_is_reported() -> None:
    report = _report()
    text = tables(report)
    assert "| kernels | steering | 39 cases agree with float64 |" in text
    assert "| answers | runner v1 | as the transformers engine |" in text
    assert "| answers | runner v2 | failed: AssertionError: [1] != \\| [2] |" in text
    assert "| answers | | exit status 1; failed: runner v2 |" in text
    parts = report["stages"]["rates"]["parts"]
    for name in ("setting", "idle"):
        parts[name] = {"error": "RuntimeError: out of memory", "seconds": 1.0}
    del report["stages"]["kernel times"]
    text = tables(report)
    assert text.startswith("a card.\n")
    assert "| rates | idle | failed: RuntimeError: out of memory |" in text
    assert text.count("| met |") + text.count("| missed |") == 3


def test_without_vllm_the_kernel_is_compared_with_what_was_timed() -> None:
    report = _report()
    for shape in report["stages"]["kernel times"]["parts"]["width 4864"]["result"]:
        del shape["unsteered"]["vllm"]
        for case in shape["steered"]:
            del case["over"]["vllm"]
    assert "| fused kernel, over torch.compile, width 4,864, 8,192 tokens | 1.500 |" in tables(report)


def test_reports_of_several_calls_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = _report()
    first = {**whole, "stages": {name: whole["stages"][name] for name in ("kernels", "rates")}}
    second = {**whole, "stages": {name: stage for name, stage in whole["stages"].items() if name != "kernels"}}
    first["stages"]["rates"] = {"seconds": 1.0, "parts": {}, "error": "killed after 540 s"}
    paths = [tmp_path / "first.json", tmp_path / "second.json"]
    for path, report in zip(paths, (first, second), strict=True):
        path.write_text(json.dumps(report), encoding="utf-8")
    out = tmp_path / "whole.json"
    assert gpu_report.main([*map(str, paths), "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == merged([first, second])
    assert "error" not in merged([first, second])["stages"]["rates"]
    assert set(merged([first, second])["stages"]) == set(whole["stages"])
    assert "| recording, over prefill |" in capsys.readouterr().out
    half = {"idle": {"result": {}}, "generation": {"error": "it did not finish"}}
    second["stages"]["rates"] = {"seconds": 1.0, "parts": {"generation": {"result": 1}}}
    first["stages"]["rates"] = {"seconds": 1.0, "parts": half, "error": "killed after 540 s"}
    rates = merged([first, second])["stages"]["rates"]
    assert rates == {"seconds": 1.0, "parts": {"idle": {"result": {}}, "generation": {"result": 1}}}
    with pytest.raises(ValueError, match="different cards: a card, another"):
        merged([first, {**second, "device": "another"}])


def test_the_page_has_a_place_for_the_tables_of_a_card_and_none_for_a_rehearsal(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    write_page(page, _report())
    begin, end = markers(SECTION)
    between = page.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    assert between.strip() == tables(_report())
    before = page.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="rehearsal have no meaning"):
        write_page(page, {**_report(), "device": REHEARSAL})
    assert page.read_text(encoding="utf-8") == before
