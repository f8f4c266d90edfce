"""The captions of the figures: what they say of small tables."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.report import observations
from jobs.report.answers import answer_questions
from jobs.report.data import ReportData
from tests.jobs.report.control_sweep import control_summary, write_sweep


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def curve(panel: str, target: str, x: float, y: float, whose: str = "own") -> dict[str, Any]:
    return {"panel": panel, "items": "n = 9", "target": target, "x": x, "y": y, "whose": whose}


def effect(row: str, column: str, value: float, conclusion: str) -> dict[str, Any]:
    shared = {"panel": "xcopa: accuracy", "row": row, "column": column, "n": 9}
    return {**shared, "value": value, "improvement": value, "conclusion": conclusion}


def noise(effects: int, better: int, worse: int, mde: float | None) -> dict[str, Any]:
    counts = {"effects": effects, "better": better, "worse": worse, "changed": 0}
    return {**counts, "no_effect_above_noise": effects - better - worse, "median_mde": mde}


def control(name: str, own: float, controlled: float, p: float) -> dict[str, Any]:
    return {"control": name, "language": "fr", "own": own, "controlled": controlled, "p_holm": p}


@pytest.mark.parametrize(
    ("observe", "rows", "expected"),
    [
        (
            "noise_seen",
            [noise(4, 2, 1, 0.1), noise(3, 0, 0, 0.2)],
            (
                "3 of 7 differences are above the noise (2 better, 1 worse). The median minimum detectable effect is "
                "0.10 to 0.20, by metric and side."
            ),
        ),
        ("noise_seen", [noise(4, 0, 0, None)], "None of the 4 differences is above the noise."),
        (
            "matrix_seen",
            [
                {"row": "en", "column": "fr", "value": 0.9},
                {"row": "ja", "column": "fr", "value": 0.2},
                {"row": "en", "column": "ja", "value": None},
            ],
            "LSS lies between 0.20 (ja to fr) and 0.90 (en to fr); its mean over 2 pairs of languages is 0.55.",
        ),
        (
            "controls_seen",
            [control("other", 0.9, 0.9, 1.0), control("random", 0.9, 0.4, 0.01), control("random", 0.6, 0.4, 0.2)],
            (
                "Control other: own neurons shift more facts in 0 of 1 language, with p_holm < 0.05 in 0; control "
                "random: own neurons shift more facts in 2 of 2 languages, with p_holm < 0.05 in 1."
            ),
        ),
        (
            "curves_seen",
            [
                *(curve("lss: lss", target, x, y) for target, x, y in (("fr", 0, 0.4), ("ja", 0, 0.6), ("fr", 2, 0.9))),
                curve("lss: lss", "fr", 3, 1.0, "random"),
            ],
            "lss: lss, n = 9: mean over 2 targets from 0.50 at 0 to 0.90 at 2.",
        ),
        (
            "effects_seen",
            [
                effect("fr", "fr", 0.2, "better"),
                effect("ja", "fr", -0.3, "worse"),
                effect("en", "fr", 0.0, "no effect above noise"),
            ],
            (
                "Self: 1 better, 0 without effect above noise; cross: 1 worse, 1 without effect above noise. The "
                "largest deterioration is -0.30 (data language ja, steered to fr; xcopa: accuracy, n = 9)."
            ),
        ),
        (
            "layers_seen",
            [{"row": "fr", "column": layer, "n": n} for layer, n in enumerate((1, 2, 10, 6, 1))],
            "90% of the 20 neurons of 1 language lie in layers 1, 2 and 3.",
        ),
        (
            "overlap_seen",
            [
                {"row": a, "column": b, "value": value, "n_row": 10, "n_column": 20}
                for a, b, value in (("en", "fr", 0.1), ("fr", "en", 0.1), ("en", "ja", 0.0), ("fr", "fr", 1.0))
            ],
            "en and fr share the most: 0.10 (10 and 20 neurons). The median of 2 pairs is 0.05.",
        ),
        (
            "gap_seen",
            [{"n_low": 1, "p": None}],
            "A class with one language cannot be compared: no test.",
        ),
        (
            "gap_seen",
            [{"n_low": 3, "p": 0.2}],
            (
                "0 of 1 comparison have p < 0.05, uncorrected, with 3 low-resource languages. No difference between "
                "the classes is shown."
            ),
        ),
        (
            "modes_seen",
            [
                {"task": "lss", "metric": "lss", "difference": -0.2, "rows": 4},
                {"task": "xcopa", "metric": "accuracy", "difference": 0.1, "rows": 3},
            ],
            "The largest mean difference is -0.20 (lss: lss, 4 rows).",
        ),
    ],
)
def test_a_caption_says_what_the_table_shows(observe: str, rows: list[dict[str, Any]], expected: str) -> None:
    assert getattr(observations, observe)(table(*rows)) == expected


def test_of_many_panels_the_first_are_described() -> None:
    text = observations.curves_seen(table(*(curve(f"task {index}", "fr", 1, 0.2) for index in range(5))))
    assert text.startswith("task 0, n = 9: mean over 1 target +0.20 at 1, the only one.")
    assert text.endswith("2 more panels in the figure and its table.")


def test_the_captions_of_a_whole_report(tmp_path: Path) -> None:
    write_sweep(tmp_path, control_summary(("fr", "ja")))
    with closing(ReportData(tmp_path)) as data:
        captions = {answer.question.key: answer.observation for answer in answer_questions(data)}
    assert captions["does_it_work"].startswith(
        "The largest mean language control is that of prompt in the language: 0.75 over 2 targets"
    )
    assert "; neurons 0." in captions["does_it_work"]
    assert "on the front of the means: " in captions["control_cost"]
    assert captions["best_factor"].startswith("The best factor is 2, with a mean LSS of 0.8")
    assert "self -0." in captions["self_cross"]
    assert "elsewhere at factor 1" in captions["gain_cost"]
    assert all(caption.endswith(".") for caption in captions.values())
