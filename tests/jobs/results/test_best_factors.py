"""The best factor of each target: by the metric, and among equal ones by language control, gain and size."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.results.best_factors import best_factors


def lss_row(target: str, base: str, factor: float, value: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "task": "lss",
        "mode": "corrected",
        "metric": "lss",
        "data_language": base,
        "target_language": target,
        "op": "scale",
        "patch": None,
        "statistic": None,
        "weights": None,
        "layers": "all",
        "selection": None,
        "factor": factor,
        "value": value,
        "neurons": 6,
        "rung": None,
        **changes,
    }


def test_the_best_factor_has_the_largest_mean_over_base_languages() -> None:
    (best,) = best_factors(
        [
            lss_row("fr", "en", 2.0, 0.9),
            lss_row("fr", "tr", 2.0, 0.1),
            lss_row("fr", "en", 5.0, 0.6),
            lss_row("fr", "tr", 5.0, 0.6),
            lss_row("fr", "en", 9.0, 1.0, selection="random"),
            lss_row("fr", "en", 9.0, None),
            lss_row("fr", "en", 9.0, 1.0, metric="accuracy"),
        ]
    )
    assert (best["target_language"], best["factor"], best["value"], best["languages"]) == ("fr", 5.0, 0.6, 2)


def test_of_a_metric_that_should_be_small_the_smallest_mean_is_the_best() -> None:
    rows = [
        lss_row("fr", "en", 2.0, 0.9, metric="repetition", higher_is_better=False),
        lss_row("fr", "en", 5.0, 0.2, metric="repetition", higher_is_better=False),
        lss_row("fr", "en", 2.0, 0.9),
    ]
    (best,) = best_factors(rows, "repetition")
    assert (best["metric"], best["factor"], best["value"]) == ("repetition", 5.0, 0.2)


def test_a_target_without_neurons_has_no_best_factor() -> None:
    summary = [lss_row("fr", "en", 2.0, 0.0, neurons=0), lss_row("tr", "en", 2.0, 0.4)]
    assert [best["target_language"] for best in best_factors(summary)] == ["tr"]


def test_of_a_tie_that_nothing_else_decides_the_smaller_factor_is_the_best() -> None:
    summary = [
        lss_row("fr", "en", 5.0, 0.1),
        lss_row("fr", "tr", 5.0, 0.2),
        lss_row("fr", "zh", 5.0, 0.3),
        lss_row("fr", "en", 2.0, 0.3),
        lss_row("fr", "tr", 2.0, 0.2),
        lss_row("fr", "zh", 2.0, 0.1),
    ]
    for rows in (summary, summary[::-1]):  # sums in another order differ by rounding errors
        (best,) = best_factors(rows)
        assert (best["factor"], best["tied"], best["decided_by"]) == (2.0, [5.0], "factor")


def test_each_target_op_patch_and_layer_has_a_best_factor_of_its_own() -> None:
    summary = [lss_row("fr", "en", 1.0, 0.5), lss_row("tr", "en", 2.0, 0.5), lss_row("fr", "en", 3.0, 0.5, layers="0")]
    assert [best["factor"] for best in best_factors(summary)] == [1.0, 2.0, 3.0]
    first = [lss_row("fr", "en", factor, factor, tokens="end=8") for factor in (0.1, 0.2)]
    summary += first + [lss_row("fr", "en", factor, -factor, part="answer") for factor in (0.3, 0.4)]
    assert [best["factor"] for best in best_factors(summary)] == [1.0, 2.0, 3.0, 0.2, 0.3]


def test_a_task_asked_in_two_ways_has_a_best_factor_for_each() -> None:
    chat = {"task_options": "chat=true"}
    rows = [lss_row("fr", "en", 2.0, 0.9), lss_row("fr", "en", 5.0, 0.6)]
    rows += [lss_row("fr", "en", 2.0, 0.1, **chat), lss_row("fr", "en", 5.0, 0.2, **chat)]
    assert [(best["task_options"], best["factor"]) for best in best_factors(rows)] == [(None, 2.0), ("chat=true", 5.0)]


def control_row(factor: float, value: float, *, data: str = "en", metric: str = "in_target_language") -> dict[str, Any]:
    return lss_row("fr", data, factor, value, task="generation", metric=metric)


def nll_row(factor: float, value: float, baseline: float, *, data: str = "fr", **changes: Any) -> dict[str, Any]:
    """Return a row of the negative log-likelihood of text, of which less is better."""
    row = lss_row("fr", data, factor, value, task="perplexity", metric="nll", higher_is_better=False)
    return {**row, "baseline": baseline, "delta": value - baseline, **changes}


SATURATED = [lss_row("fr", base, factor, 1.0) for base in ("en", "ru") for factor in (-0.1, 0.0, 3.0)]
"""Three factors that are equally good by LSS."""


def test_of_equally_good_factors_the_one_with_the_best_language_control_is_the_best() -> None:
    controls = [control_row(factor, value) for factor, value in ((-0.1, 0.0), (0.0, 0.25), (3.0, 1.0))]
    (best,) = best_factors([*SATURATED, *controls])
    assert (best["factor"], best["value"], best["tied"], best["decided_by"]) == (3.0, 1.0, [-0.1, 0.0], "control")
    worse = lss_row("fr", "en", 9.0, 0.9), lss_row("fr", "ru", 9.0, 0.9), control_row(9.0, 1.0)
    assert best_factors([*SATURATED, *controls, *worse]) == [best], "LSS decides first"


def test_language_control_is_that_of_texts_in_other_languages_and_without_controls() -> None:
    rows = [
        *[control_row(factor, value) for factor, value in ((0.0, 0.5), (3.0, 0.6))],
        *[control_row(factor, value, data="fr") for factor, value in ((0.0, 1.0), (3.0, 0.0))],
        *[{**control_row(0.0, 1.0), "selection": "random"}, {**control_row(0.0, 1.0), "rung": 1}],
    ]
    (best,) = best_factors([*SATURATED, *rows])
    assert (best["factor"], best["decided_by"]) == (3.0, "control")


def test_the_first_measure_of_language_control_is_the_one_that_counts() -> None:
    rows = [control_row(0.0, 0.9), control_row(3.0, 0.1)]
    rows += [control_row(factor, value, metric="lfs") for factor, value in ((0.0, 0.1), (3.0, 0.9))]
    assert [best["factor"] for best in best_factors([*SATURATED, *rows])] == [3.0]


def test_of_equally_controlled_texts_the_mean_relative_gain_in_the_language_decides() -> None:
    controls = [control_row(factor, 1.0) for factor in (-0.1, 0.0, 3.0)]
    gains = [
        nll_row(0.0, 3.0, 4.0),  # a quarter better
        nll_row(3.0, 2.0, 4.0),  # a half better
        nll_row(0.0, 0.1, 4.0, data="en"),  # another language
        nll_row(0.0, 0.1, 4.0, metric="perplexity"),  # the same numbers again
        nll_row(0.0, 0.1, 4.0, metric="length", higher_is_better=None),
        nll_row(0.0, 0.1, 0.0, metric="repetition"),  # relative to nothing
    ]
    (best,) = best_factors([*SATURATED, *controls, *gains])
    assert (best["factor"], best["tied"], best["decided_by"]) == (3.0, [-0.1, 0.0], "gain")
    (best,) = best_factors([*SATURATED, *controls, nll_row(3.0, 5.0, 4.0)])
    assert best["factor"] == 3.0, "a factor without the measure is behind those with one"


def test_a_factor_with_values_in_fewer_data_languages_is_behind_the_others() -> None:
    rows = [
        *[lss_row("fr", base, 2.0, 0.5) for base in ("en", "ru", "tr")],
        *[lss_row("fr", base, 3.0, 0.4) for base in ("en", "ru", "tr")],
        *[lss_row("fr", base, 5.0, 0.9) for base in ("en", "ru")],
        lss_row("fr", "tr", 5.0, None),
        lss_row("fr", "en", 9.0, 1.0),
    ]
    for given in (rows, rows[::-1]):
        (best,) = best_factors(given)
        assert (best["factor"], best["value"], best["languages"]) == (2.0, 0.5, 3)
        assert (best["tied"], best["incomplete"], best["decided_by"]) == ([], [5.0, 9.0], "lss")
    (best,) = best_factors([*rows, lss_row("fr", "tr", 5.0, 0.9)])
    assert (best["factor"], best["incomplete"]) == (5.0, [9.0])


def test_language_control_in_fewer_languages_is_behind_too() -> None:
    controls = [control_row(factor, 0.5, data=data) for factor in (-0.1, 3.0) for data in ("en", "ru")]
    (best,) = best_factors([*SATURATED, *controls, control_row(0.0, 1.0)])
    assert (best["factor"], best["incomplete"], best["decided_by"]) == (-0.1, [], "factor")


def test_a_race_of_one_factor_is_decided_by_the_metric() -> None:
    (best,) = best_factors([lss_row("fr", "en", 2.0, 0.4)])
    assert (best["factor"], best["tied"], best["decided_by"]) == (2.0, [], "lss")


@pytest.mark.parametrize(("better", "expected"), [(0.4, 2.0), (0.4 + 1e-14, 2.0), (0.4 + 1e-11, 1.0)])
def test_means_are_compared_to_twelve_digits(better: float, expected: float) -> None:
    rows = [lss_row("fr", "en", 1.0, better), lss_row("fr", "en", 2.0, 0.4)]
    rows += [control_row(1.0, 0.0), control_row(2.0, 0.1)]
    assert [best["factor"] for best in best_factors(rows)] == [expected]


def test_no_rows_have_no_best_factor() -> None:
    assert best_factors([]) == []
    baseline = {**lss_row("fr", "en", 2.0, 0.5, metric="accuracy"), "factor": None, "target_language": None}
    assert best_factors([baseline], "accuracy") == []
    assert best_factors([lss_row("fr", "en", 2.0, None)]) == []
