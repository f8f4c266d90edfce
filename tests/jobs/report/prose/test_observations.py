"""The captions of the figures: what they say of small tables."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.report.answers import answer_questions
from jobs.report.data import ReportData
from jobs.report.prose import observations
from tests.jobs.report.control_sweep import answered, control_summary, opened, write_sweep


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def curve(
    panel: str, target: str, x: float, y: float, whose: str = "own", intervention: str = "set max"
) -> dict[str, Any]:
    where = {"panel": panel, "items": "n = 9", "target": target, "intervention": intervention}
    return {**where, "x": x, "y": y, "whose": whose}


def effect(row: str, column: str, value: float, conclusion: str) -> dict[str, Any]:
    shared = {"panel": "xcopa: accuracy", "row": row, "column": column, "n": 9}
    return {**shared, "value": value, "improvement": value, "conclusion": conclusion}


def significance(effects: int, better: int, worse: int, mde: float | None, **more: Any) -> dict[str, Any]:
    counts = {"effects": effects, "better": better, "worse": worse, "changed": 0, "below_mde": 0, "within_noise": None}
    return {**counts, "not_significant": effects - better - worse, "median_mde": mde, **more}


def best(target: str, factor: float, value: float, **more: Any) -> dict[str, Any]:
    controls = {"held_out": None, "unsteered": None, "tied": None, "incomplete": None, "random": None, "other": None}
    return {"panel": "lss", "target_language": target, "factor": factor, "value": value, **controls, **more}


def control(name: str, own: float, controlled: float, p: float) -> dict[str, Any]:
    return {"control": name, "language": "fr", "own": own, "controlled": controlled, "p_holm": p}


@pytest.mark.parametrize(
    ("observe", "rows", "expected"),
    [
        (
            "significance_seen",
            [significance(4, 2, 1, 0.1, within_noise=1), significance(3, 0, 0, 0.2, within_noise=0)],
            (
                "3 of 7 differences significant after correction (2 better, 1 worse); 1 more within the noise of the "
                "repeat. The median minimum detectable effect is 0.10 to 0.20, by metric and side."
            ),
        ),
        (
            "significance_seen",
            [significance(1, 0, 0, 0.31)],
            (
                '0 of 1 difference significant after correction; no control "repeat" ran, so run-to-run noise is '
                "unknown. The median minimum detectable effect is 0.31, by metric and side."
            ),
        ),
        (
            "significance_seen",
            [significance(1, 1, 0, None, below_mde=1)],
            (
                "1 of 1 difference significant after correction (1 better, 1 below the minimum detectable effect, so "
                'likely overestimated); no control "repeat" ran, so run-to-run noise is unknown.'
            ),
        ),
        (
            "best_seen",
            [best("fr", 0.0, 1.0, tied="0.5, 3"), best("ja", 0.5, 0.9, random=0.5)],
            (
                "lss: the best factor is 0 to 0.5, with a mean of 0.90 to 1.00 (other factors are equally good for 1 "
                "of 2); random neurons 0.50."
            ),
        ),
        (
            "best_seen",
            [best("fr", 0.5, 0.9, incomplete="2", held_out=0.84), best("ja", 0.5, 0.9)],
            (
                "lss: the best factor is 0.5, with a mean of 0.90, 0.84 on held-out items (other factors lack data "
                "languages for 1 of 2)."
            ),
        ),
        ("matrix_seen", [{"row": "en", "column": "fr", "value": 1.0}], "LSS is 1.00 for the only pair, en to fr."),
        (
            "matrix_seen",
            [{"row": row, "column": "fr", "value": 1.0} for row in ("en", "ja")],
            "LSS is 1.00 for all 2 pairs.",
        ),
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
                *(curve("lss", target, x, y) for target, x, y in (("fr", 0, 0.4), ("ja", 0, 0.6), ("fr", 2, 0.9))),
                curve("lss", "fr", 3, 1.0, "random"),
            ],
            "lss, n = 9: mean over 2 targets from 0.50 at 0 to 0.90 at 2.",
        ),
        (
            "curves_seen",
            [
                *(curve("lss", "fr", x, y) for x, y in ((0, 0.4), (2, 0.8))),
                *(curve("lss", "fr", x, y, intervention="add max") for x, y in ((0, 0.6), (2, 0.6))),
            ],
            (
                "lss, n = 9: add max: mean over 1 target 0.60 at each from 0 to 2; set max: mean over 1 target from "
                "0.40 at 0 to 0.80 at 2."
            ),
        ),
        ("curves_seen", [curve("lss", "fr", 3, 0.6)], "lss, n = 9: mean over 1 target 0.60 at 3, the only one."),
        (
            "effects_seen",
            [
                effect("fr", "fr", 0.2, "better"),
                effect("ja", "fr", -0.3, "worse"),
                effect("en", "fr", 0.0, "not significant"),
            ],
            (
                "Self: 1 better; cross: 1 worse, 1 not significant. The "
                "largest deterioration is -0.30 (data language ja, steered to fr; xcopa: accuracy, n = 9)."
            ),
        ),
        (
            "effects_seen",
            [
                effect("en", "fr", -0.3, "not significant"),
                effect("ja", "fr", -1.5, "worse") | {"panel": "flores: chrf++"},
            ],
            (
                "Cross: 1 worse, 1 not significant. The largest deterioration is -0.30 (data language en, steered to "
                "fr; xcopa: accuracy, n = 9; not significant)."
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
                "p < 0.05, uncorrected, in 0 of 1 comparison with 3 low-resource languages. No difference between the "
                "classes is shown."
            ),
        ),
        (
            "modes_seen",
            [
                {"task": "lss", "metric": "lss", "difference": -0.2, "rows": 4},
                {"task": "xcopa", "metric": "accuracy", "difference": 0.1, "rows": 3},
            ],
            "The largest mean difference is -0.20 (lss, 4 rows).",
        ),
    ],
)
def test_a_caption_says_what_the_table_shows(observe: str, rows: list[dict[str, Any]], expected: str) -> None:
    assert getattr(observations, observe)(table(*rows)) == expected


def test_all_panels_are_described_and_those_of_the_headline_metrics_come_first() -> None:
    panels = ("generation: in_data_language", "generation: in_target_language", "generation: length", "lss")
    text = observations.curves_seen(table(*(curve(panel, "fr", 1, 0.2) for panel in panels)))
    assert [text.index(f"{panels[index]}, n = 9: mean over 1 target ") for index in (1, 3, 0, 2)] == sorted(
        text.index(panel) for panel in panels
    )


def test_the_captions_of_a_whole_report(tmp_path: Path) -> None:
    write_sweep(tmp_path, control_summary(("fr", "ja")))
    with closing(ReportData(tmp_path)) as data:
        captions = {answer.question.key: answer.observation for answer in answer_questions(data)}
    assert captions["does_it_work"].startswith(
        "The largest mean language control is that of prompt in the language: 0.75 over 2 targets"
    )
    assert "; neurons 0." in captions["does_it_work"]
    assert "on the front of the means: " in captions["control_cost"]
    assert captions["best_factor"].startswith("generation: in_target_language, n = 100: the best factor is 2, with ")
    assert (
        "nll (lower is better), in the language itself, n = 100: the best factor is 1, with" in captions["best_factor"]
    )
    assert "lss, n = 100: the best factor is 2, with a mean of 0.8" in captions["best_factor"]
    assert (
        "xcopa: accuracy, in the language itself, n = 100: the best factor is 1, with a mean of 0."
        in captions["best_factor"]
    )
    assert "self -0." in captions["self_cross"]
    assert "diffmean -0." in captions["in_itself"]
    assert " of 2 significant); prompt in the language -0." in captions["in_itself"]
    assert "elsewhere at factor 1" in captions["gain_cost"]
    assert all(caption.endswith(".") for caption in captions.values())


def test_without_control_and_lss_the_first_caption_gives_the_differences(tmp_path: Path) -> None:
    rows = [row for row in control_summary(("fr",)) if row["metric"] in ("accuracy", "nll")]
    with closing(opened(tmp_path, rows)) as data:
        caption = answered(data, "does_it_work").observation
    assert caption.startswith("Neither language control nor LSS was measured. Difference in accuracy: ")
    assert "; diffmean -0." in caption
    assert ". Difference in nll: " in caption
