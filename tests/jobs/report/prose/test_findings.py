"""The summary of a report: that it says what the numbers show, and no more."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobs.report.data import ReportData
from jobs.report.prose.findings import findings_of
from tests.jobs.report.control_sweep import SPEC, STEERED, control_row, write_sweep

TARGETS = {"fr": 0.8, "ja": 0.7, "tr": 0.6}


def compared(task: str, metric: str, target: str, value: float, plain: float, **more: Any) -> dict[str, Any]:
    """Return a row with intervals of ± 0.05 in another language than the target."""
    name = more.pop("arm", "neurons")
    delta = value - plain
    bounds = {"ci_low": value - 0.05, "ci_high": value + 0.05}
    bounds |= {"delta_ci_low": delta - 0.05, "delta_ci_high": delta + 0.05}
    values = {"factor": 1.0, **STEERED[name], **bounds, "value": value, "baseline": plain, "delta": delta, **more}
    return control_row(task, metric, "en", target, **values)


def shift(target: str, value: float, arm: str = "neurons", **more: Any) -> dict[str, Any]:
    return compared("lss", "lss", target, value, 0.0, arm=arm) | {"delta": None, "delta_ci_low": None} | more


def control(target: str, value: float, arm: str = "neurons", **more: Any) -> dict[str, Any]:
    return compared("generation", "in_target_language", target, value, 0.1, arm=arm, **more)


def found(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    write_sweep(folder, rows)
    with closing(ReportData(folder)) as data:
        return findings_of(data)


def test_an_effect_is_given_with_its_mean_interval_baseline_and_number_of_items(tmp_path: Path) -> None:
    first, *_ = found(tmp_path, [control(target, value) for target, value in TARGETS.items()])
    # Student's t of 0.8, 0.7 and 0.6: 0.7 ± 4.303 * 0.1 / sqrt(3)
    assert first == (
        "With the language's own neurons, language control (the share of texts in the target language) is 0.70 (mean "
        "over 3 targets, 95 % interval 0.45 to 0.95; generation: in_target_language, n = 100; unsteered 0.10): better "
        "for 3 of 3 targets (the 95 % interval excludes zero)."
    )


def test_noise_is_named_only_where_it_was_measured(tmp_path: Path) -> None:
    unknown = 'No control "repeat" ran, so run-to-run noise is unknown.'
    noisy = found(tmp_path, [control(target, 0.2, noise=0.15) for target in TARGETS])
    assert noisy[0].endswith("0.10): no significant difference for any of 3 targets; 3 within the noise.")
    above = found(tmp_path, [control(target, 0.2, noise=0.05) for target in TARGETS])
    assert above[0].endswith("better for 3 of 3 targets (the 95 % interval excludes zero, larger than the noise).")
    assert unknown not in [*noisy, *above]
    without = found(tmp_path, [control(target, 0.2) for target in TARGETS])
    assert unknown in without
    assert not any("noise" in sentence for sentence in without if sentence != unknown)


def test_the_corrected_p_value_decides_and_small_effects_are_called_so(tmp_path: Path) -> None:
    tests = zip(TARGETS, (0.06, 0.01, 0.02), strict=True)
    rows = [control(target, 0.2, p_value=p, p_holm=p, mde=0.15) for target, p in tests]
    assert found(tmp_path, rows)[0].endswith(
        "better for 2 of 3 targets (p < 0.05 after correction); 2 below the minimum detectable effect, so likely "
        "overestimated."
    )


def test_an_lss_of_1_everywhere_has_an_interval_with_a_width(tmp_path: Path) -> None:
    first, *_ = found(tmp_path, [shift(target, 1.0, ci_low=0.85, ci_high=1.0) for target in TARGETS])
    assert "LSS is 1.00 (mean over 3 targets, 95 % interval 0.85 to 1.00;" in first


def test_without_generated_text_the_summary_is_about_lss(tmp_path: Path) -> None:
    values = {"fr": 0.9, "ja": 0.52, "tr": 0.3}
    first, *_ = found(tmp_path, [shift(target, value) for target, value in values.items()])
    assert first.startswith("With the language's own neurons, LSS is 0.57 (mean over 3 targets, 95 % interval ")
    assert first.endswith(
        "lss, n = 100; 0.5 is no effect): the 95 % interval is above it for 1 and below it for 1 of 3 targets."
    )
    inconclusive = found(tmp_path, [shift(target, 0.52) for target in TARGETS])[0]
    assert inconclusive.endswith("0.5 is no effect): the 95 % interval is on neither side for any of 3 targets.")


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (
            0.12,
            ("With as many random neurons it is 0.12; its interval lies entirely below for 3 of 3 targets."),
        ),
        (
            0.65,
            ("With as many random neurons it is 0.65; its interval lies entirely below for 1 of 3 targets."),
        ),
        (
            0.8,
            (
                "With as many random neurons it is 0.80; its interval lies entirely below for "
                "0 of 3 targets, so the effect is not shown to be due to the language."
            ),
        ),
    ],
)
def test_random_neurons_are_compared_by_their_intervals(drawn: float, expected: str, tmp_path: Path) -> None:
    rows = [control(target, value) for target, value in TARGETS.items()]
    rows += [control(target, drawn, "random") for target in TARGETS]
    assert expected in found(tmp_path, rows)


def test_a_missing_random_control_is_named(tmp_path: Path) -> None:
    sentences = found(tmp_path, [control(target, 0.9) for target in TARGETS])
    assert "Without a random control nothing shows that the effect is due to the language." in sentences


def test_instructions_are_compared_with(tmp_path: Path) -> None:
    rows = [control("fr", 0.5), control("fr", 0.85, "prompt_native"), control("fr", 0.75, "prompt_en")]
    for row in rows[1:]:
        row["factor"] = None
    sentences = found(tmp_path, rows)
    assert "For comparison: an instruction in English 0.75 and an instruction in the target language 0.85." in sentences
    assert "With one target language, nothing is known about others." in sentences


def test_the_cost_is_given_or_what_could_have_been_seen(tmp_path: Path) -> None:
    steered = [control(target, 0.9) for target in TARGETS]
    lost = [
        compared("xcopa", "accuracy", target, value, 0.6, mde=0.08)
        for target, value in zip(TARGETS, (0.4, 0.5, 0.58), strict=True)
    ]
    cost = found(tmp_path, [*steered, *lost])[2]
    assert cost.startswith(
        "In the other languages, the mean difference in accuracy is -0.11 (mean over 3 targets, 95 % interval -0.33 to "
        "0.12; xcopa: accuracy, n = 100; unsteered 0.60): worse"
    )
    assert ": worse for 2 of 3 targets (the 95 % interval excludes zero); differences" in cost
    none = [compared("xcopa", "accuracy", target, 0.58, 0.6, mde=0.08) for target in TARGETS]
    assert found(tmp_path, [*steered, *none])[2].endswith(
        "no significant difference for any of 3 targets; differences below about 0.08 in one data language are found "
        "with less than 80 % probability."
    )
    assert "No other ability was measured in other languages, so the cost is unknown." in found(tmp_path, steered)


def test_values_without_intervals_allow_no_conclusion(tmp_path: Path) -> None:
    bare: dict[str, Any] = dict.fromkeys(("ci_low", "ci_high", "delta_ci_low", "delta_ci_high"))
    first = found(tmp_path, [control(target, 0.9, **bare) for target in TARGETS])[0]
    assert first.endswith("without intervals nothing can be said about significance.")


def test_equal_values_without_intervals_have_no_interval_of_their_mean(tmp_path: Path) -> None:
    bare: dict[str, Any] = dict.fromkeys(("ci_low", "ci_high"))
    rows = [control(target, 0.9, **bare) for target in TARGETS] + [control(target, 0.0, "random") for target in TARGETS]
    first, second, *_ = found(tmp_path, rows)
    assert "is 0.90 (mean over 3 targets; generation" in first
    assert "lies entirely below for 0 of 3 targets" in second, "unknown ones do not"


def test_the_choice_of_the_best_intervention_is_named(tmp_path: Path) -> None:
    rows = [control(target, 0.9, factor=factor) for target in TARGETS for factor in (1.0, 2.0)]
    chosen = "Each target is shown at the best of up to 2 interventions by {0}, chosen on the same items, so {1}"
    assert chosen.format("language control", "its language control is optimistic.") in found(tmp_path, rows)
    rows += [shift(target, 0.9, factor=factor) for target in TARGETS for factor in (1.0, 2.0)]
    both = chosen.format("LSS and, of equal ones, by language control", "both are optimistic.")
    assert both in found(tmp_path, rows)


def test_a_sweep_without_language_control_and_lss_is_summed_up_by_its_differences(tmp_path: Path) -> None:
    rows = [compared("xcopa", "accuracy", "fr", 0.8, 0.6) | {"data_language": data} for data in ("fr", "en")]
    rows[1] |= {"delta": 0.01}
    rows[1] |= {"delta_ci_low": -0.04, "delta_ci_high": 0.06}
    assert found(tmp_path, rows)[:2] == [
        (
            "In the target language itself, 1 of 1 difference significant after correction (1 better; median size "
            "0.20; xcopa: accuracy)."
        ),
        "In the other languages, 0 of 1 difference significant after correction (median size 0.01; xcopa: accuracy).",
    ]


def test_a_difference_that_the_exact_test_does_not_show_is_not_called_better(tmp_path: Path) -> None:
    """Five of twenty answers became right: the bootstrap excludes zero, McNemar's exact test and the mde do not."""
    measured = {"p_value": 0.0625, "p_holm": 0.0625, "mde": 0.31}
    bounds = {"delta_ci_low": 0.1, "delta_ci_high": 0.45}
    rows = [compared("xcopa", "accuracy", "fr", 0.45, 0.2, **measured) | {"data_language": "fr"} | bounds]
    first, *rest = found(tmp_path, rows)
    assert first == (
        "In the target language itself, 0 of 1 difference significant after correction (median size 0.25; median "
        "minimum detectable effect 0.31; xcopa: accuracy)."
    )
    assert 'No control "repeat" ran, so run-to-run noise is unknown.' in rest


def test_after_a_search_its_metric_is_called_optimistic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = {"method": "halving", "metric": "in_target_language", "items": 12, "keep": 1}
    monkeypatch.setitem(SPEC, "search", search)
    rows = [shift(target, 0.9, factor=factor) for target in TARGETS for factor in (1.0, 2.0)]
    chosen = "A search chose each target's intervention among up to 2 by in_target_language"
    assert f"{chosen}, on some of the same items, so this metric is optimistic at it." in found(tmp_path, rows)


def test_a_sweep_without_values_says_so(tmp_path: Path) -> None:
    assert found(tmp_path, []) == ["No steered cell has a value."]


def test_a_sweep_of_translations_is_summed_up_by_its_differences(tmp_path: Path) -> None:
    rows = [compared("flores", "chrf++", target, 30.0, 20.0) | {"data_language": target} for target in TARGETS]
    assert found(tmp_path, rows)[0] == (
        "In the target language itself, 3 of 3 differences significant after correction (3 better; median size 10.00; "
        "flores: chrf++)."
    )


def test_without_a_measure_of_what_steering_achieves_the_choice_is_said_to_be_none(tmp_path: Path) -> None:
    rows = [
        compared("xcopa", "accuracy", target, 0.6 - 0.1 * factor, 0.6, factor=factor)
        for target in TARGETS
        for factor in (1.0, 2.0)
    ]
    sentences = found(tmp_path, rows)
    assert sentences[0] == (
        "In the other languages, 3 of 3 differences significant after correction (3 worse; median size 0.10; "
        "xcopa: accuracy)."
    )
    assert (
        "No LSS, no language control and nothing in a target language itself was measured, so each target is shown at "
        "its smallest factor, not at the best of 2 interventions."
    ) in sentences
