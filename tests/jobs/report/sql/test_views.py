"""What counts as an effect, and how the ways to steer are compared: the views on small summaries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm

from ampsweep.domain.metric_names import CONTROL
from jobs.report.data import ReportData
from jobs.report.sql.queries import BEST, CONTROL_COST, CURVES, DOES_IT_WORK, GAIN_COST, SELF_CROSS, SIGNIFICANCE, TRIED
from jobs.results.schema import SUMMARY
from jobs.statistics.significance import holm
from tests.jobs.report.control_sweep import NEURONS, control_row, control_summary, opened, write_sweep


@pytest.fixture
def data(tmp_path: Path) -> Iterator[ReportData]:
    with closing(opened(tmp_path, control_summary(("fr", "ja")))) as data:
        yield data


def conclusion(folder: Path, **row: Any) -> Any:
    values = {"value": 0.5, "baseline": 0.4, "delta": 0.1, "delta_ci_low": 0.05, "delta_ci_high": 0.15, **row}
    one = control_row("xcopa", "accuracy", "fr", "fr", method="neurons", op="set", factor=2.0, **values)
    with closing(opened(folder, [one])) as data:
        return data.query("SELECT conclusion FROM compared").to_pylist()[0]["conclusion"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, "better"),
        ({"noise": 0.02}, "better"),
        ({"noise": 0.1}, "within noise"),
        ({"delta_ci_low": 0.0}, "not significant"),
        ({"delta": 0.0, "delta_ci_low": 0.0, "delta_ci_high": 0.0}, "not significant"),
        ({"p_value": 0.0625, "p_holm": 0.0625}, "not significant"),
        ({"p_value": 0.03, "p_holm": 0.06}, "not significant"),
        ({"p_value": 0.03, "p_holm": 0.03, "mde": 0.12}, "better"),
        ({"mde": 0.12}, "not significant"),
        ({"delta": -0.1, "delta_ci_low": -0.2, "delta_ci_high": -0.05}, "worse"),
        ({"higher_is_better": False}, "worse"),
        ({"higher_is_better": None}, "higher"),
        ({"delta_ci_low": None, "delta_ci_high": None}, None),
        ({"delta_ci_low": None, "delta_ci_high": None, "p_value": 0.01, "p_holm": 0.01}, "better"),
        ({"delta_ci_low": None, "delta_ci_high": None, "p_value": 0.2, "p_holm": 0.2}, "not significant"),
        ({"delta_ci_low": None, "delta_ci_high": None, "delta": 0.0}, "not significant"),
    ],
)
def test_a_difference_is_significant_if_test_interval_and_noise_say_so(
    row: dict[str, Any], expected: str | None, tmp_path: Path
) -> None:
    assert conclusion(tmp_path, **row) == expected


def test_significant_differences_are_counted_in_the_language_itself_and_in_the_others(tmp_path: Path) -> None:
    bounds = {"delta_ci_low": 0.05, "delta_ci_high": 0.15, "value": 0.5, "baseline": 0.4, "mde": 0.07, "noise": 0.01}
    steered = {
        "method": "neurons",
        "op": "set",
        "factor": 2.0,
        "layers": "all",
        "neurons": 4,
        "baseline": 0.4,
        **bounds,
    }
    rows = [
        control_row("xcopa", "accuracy", "fr", "fr", delta=0.1, **steered),
        control_row("xcopa", "accuracy", "it", "fr", delta=0.1, **{**steered, "noise": 0.2}),
        control_row("xcopa", "accuracy", "ja", "fr", delta=0.1, **steered),
        control_row("xcopa", "accuracy", "fr", "fr", delta=0.1, **{**steered, "selection": "random"}),
        control_row("xcopa", "accuracy", "fr", None, delta=0.3, **{**bounds, "method": "repeat"}),
    ]
    with closing(opened(tmp_path, rows)) as data:
        counted = {row["side"]: row for row in data.query(SIGNIFICANCE).to_pylist()}
    assert {side: (row["effects"], row["better"], row["within_noise"]) for side, row in counted.items()} == {
        "self": (1, 1, 0),
        "cross": (2, 1, 1),
    }
    assert counted["self"]["median_mde"] == 0.07
    assert counted["cross"]["largest_noise"] == 0.2


def test_a_view_is_computed_once_when_a_query_first_names_it(data: ReportData) -> None:
    def computed() -> set[str]:
        return set(data.query("SELECT table_name FROM duckdb_tables()")["table_name"].to_pylist())

    assert not computed()
    first = data.query(DOES_IT_WORK)
    tables = computed()
    assert {"compared", "measures", "arms", "by_arm"} <= tables
    assert "at_best" not in tables, "which the query does not name"
    assert data.query(DOES_IT_WORK) == first
    assert computed() == tables


def test_each_way_to_steer_is_shown_at_its_best_intervention(data: ReportData) -> None:
    rows = {(row["target"], row["method"]): row for row in data.query(DOES_IT_WORK).to_pylist()}
    assert {method for _, method in rows} == {
        "neurons",
        "difference",
        "diffmean",
        "prompt_en",
        "prompt_native",
        "random",
    }
    assert {target for target, _ in rows} == {"fr", "ja"}
    assert rows["fr", "neurons"]["factor"] == rows["fr", "random"]["factor"] == 2.0, "whose LSS is larger"
    assert rows["fr", "prompt_en"]["factor"] is None
    assert rows["fr", "prompt_en"]["control_is"] == "generation: in_target_language, n = 100"


def test_means_over_data_languages_have_the_pooled_interval(tmp_path: Path) -> None:
    steered = {"method": "prompt_en", "baseline": 0.1}
    rows = [
        control_row("generation", "in_target_language", "en", "fr", value=0.8, ci_low=0.7, ci_high=0.9, **steered),
        control_row("generation", "in_target_language", "ja", "fr", value=0.4, ci_low=0.2, ci_high=0.6, **steered),
        control_row("generation", "in_target_language", "fr", "fr", value=1.0, ci_low=1.0, ci_high=1.0, **steered),
    ]
    with closing(opened(tmp_path, rows)) as data:
        (row,) = data.query(DOES_IT_WORK).to_pylist()
    assert row["control"] == pytest.approx(0.6), "without French data, which needs no control"
    half = (0.1**2 + 0.2**2) ** 0.5 / 2 * 2**0.5  # without samples, as if both languages had the same answers
    assert (row["control_low"], row["control_high"]) == pytest.approx((0.6 - half, 0.6 + half))
    assert row["unsteered"] == pytest.approx(0.1)


def test_a_loss_in_the_target_language_is_no_part_of_the_cost(tmp_path: Path) -> None:
    rows = [
        control_row("xcopa", "accuracy", data, "fr", **NEURONS, value=0.5, delta=delta)
        for data, delta in (("fr", 0.3), ("en", -0.1), ("it", -0.2))
    ]
    rows.append(control_row("generation", "lfs", "en", "fr", **NEURONS, value=0.5, delta=0.4))
    with closing(opened(tmp_path, rows)) as data:
        (works,) = data.query(DOES_IT_WORK).to_pylist()
        costs = [row["cost"] for row in data.query(CONTROL_COST).to_pylist() if row["method"] == "neurons"]
        curves = {row["panel"]: row["y"] for row in data.query(CURVES).to_pylist()}
    assert works["accuracy"] == pytest.approx(-0.15)
    assert costs == pytest.approx([0.15] * 2), "of the target, and of the mean over targets"
    assert curves["xcopa: accuracy, in other languages"] == pytest.approx(-0.15)
    assert curves["xcopa: accuracy, in the language itself"] == pytest.approx(0.3)


def arm(folder: Path, p_values: list[float], p_holm: list[float]) -> dict[str, Any]:
    """Return language control in fr, over data languages that each rise by 0.2 ± 0.15 with these p-values."""
    bounds = {"value": 0.3, "delta": 0.2, "delta_ci_low": 0.05, "delta_ci_high": 0.35, "ci_low": 0.2, "ci_high": 0.4}
    rows = [
        control_row("generation", "lfs", data, "fr", **NEURONS, **bounds, p_value=p_value, p_holm=corrected)
        for data, p_value, corrected in zip(("en", "ja", "it"), p_values, p_holm, strict=False)
    ]
    with closing(opened(folder, rows)) as data:
        (row,) = data.query("SELECT * FROM by_arm").to_pylist()
    return dict(row)


def test_a_single_language_is_significant_only_if_its_corrected_p_value_is(tmp_path: Path) -> None:
    row = arm(tmp_path, [0.0625], [0.0625])
    assert (row["p_holm"], row["conclusion"]) == (0.0625, "not significant")
    assert arm(tmp_path, [0.01], [0.06])["conclusion"] == "not significant"
    assert arm(tmp_path, [0.01], [0.02])["conclusion"] == "better"


def test_p_values_of_several_languages_are_combined(tmp_path: Path) -> None:
    row = arm(tmp_path, [0.01, 0.09], [0.02, 0.09])
    deviates = norm.isf([0.005, 0.045])  # without samples, as if both languages had the same answers
    assert row["p_holm"] == pytest.approx(2 * norm.sf(deviates.mean()))
    assert row["conclusion"] == "better"
    assert arm(tmp_path, [0.0625, 0.0625], [0.125, 0.125])["conclusion"] == "not significant", "no further evidence"
    assert arm(tmp_path, [0.5, 0.9], [1.0, 1.0])["conclusion"] == "not significant"


def test_combined_p_values_are_corrected_over_targets(tmp_path: Path) -> None:
    bounds = {"value": 0.3, "delta": 0.2, "delta_ci_low": 0.05, "delta_ci_high": 0.35, "ci_low": 0.2, "ci_high": 0.4}
    p_values = {"fr": 0.02, "ja": 0.2, "tr": 0.5}
    rows = [
        control_row("generation", "lfs", data, target, **NEURONS, **bounds, p_value=p_value, p_holm=1.0)
        for target, p_value in p_values.items()
        for data in ("en", "it")
    ]
    with closing(opened(tmp_path, rows)) as data:
        corrected = {
            row["target"]: row["p_holm"] for row in data.query("SELECT target, p_holm FROM by_arm").to_pylist()
        }
    assert corrected == pytest.approx(dict(zip(p_values, holm(list(p_values.values())), strict=True)))


def shifts(folder: Path, values: list[float], **bounds: Any) -> dict[str, Any]:
    rows = [
        control_row("lss", "lss", data, "fr", **{**NEURONS, "value": value, **bounds})
        for data, value in zip(("en", "ja", "it"), values, strict=False)
    ]
    with closing(opened(folder, rows)) as data:
        (row,) = data.query(CURVES).to_pylist()
    return dict(row)


def test_the_interval_of_a_mean_of_shares_stays_between_0_and_1(tmp_path: Path) -> None:
    row = shifts(tmp_path, [0.2, 0.1], ci_low=0.0, ci_high=1.0)
    assert (row["y"], row["y_low"], row["y_high"]) == (pytest.approx(0.15), 0.0, 1.0)


def test_the_interval_of_one_language_is_that_over_its_items(tmp_path: Path) -> None:
    row = shifts(tmp_path, [0.8], ci_low=0.7, ci_high=0.85)
    assert (row["y_low"], row["y_high"]) == pytest.approx((0.7, 0.85))


def test_languages_that_agree_leave_the_interval_over_items(tmp_path: Path) -> None:
    row = shifts(tmp_path, [1.0, 1.0, 1.0], ci_low=0.85, ci_high=1.0)
    assert (row["y_low"], row["y_high"]) == pytest.approx((0.85, 1.0)), "as the languages may share their items"


def test_equal_values_without_intervals_have_no_interval_of_their_mean(tmp_path: Path) -> None:
    rows = [
        control_row("flores", "chrf++", data, "fr", **NEURONS, value=0.0, delta=-3.0) for data in ("en", "it", "ja")
    ]
    with closing(opened(tmp_path, rows)) as data:
        (row,) = data.query(CURVES).to_pylist()
    assert (row["y"], row["y_low"], row["y_high"]) == (-3.0, None, None)


def test_differences_of_shares_stay_between_minus_1_and_1(tmp_path: Path) -> None:
    rows = [
        control_row("xcopa", "accuracy", data, "fr", **NEURONS, delta=delta, delta_ci_low=-1.0, delta_ci_high=1.0)
        for data, delta in (("fr", 0.1), ("en", 0.9), ("it", -0.9))
    ]
    with closing(opened(tmp_path, rows)) as data:
        (row,) = data.query(SELF_CROSS).to_pylist()
    assert (row["cross"], row["cross_low"], row["cross_high"]) == (0.0, -1.0, 1.0)


def test_every_choice_of_tokens_is_an_intervention_of_its_own(tmp_path: Path) -> None:
    steered: dict[str, Any] = {"method": "neurons", "op": "set", "patch": "max", "layers": "all", "neurons": 4}
    choices: dict[str, dict[str, Any]] = {
        "tokens end=8": {"tokens": "end=8"},
        "when drift part answer": {"when": "drift", "part": "answer"},
        "": {},
    }
    rows = [
        control_row("lss", "lss", "en", "fr", value=value + bonus, factor=factor, **steered, **columns)
        for (label, columns), bonus in zip(choices.items(), (0.2, 0.1, 0.0), strict=True)
        for factor, value in ((1.0, 0.5), (2.0, 0.6))
    ]
    rows += [
        control_row("lss", "lss", "en", "fr", value=0.4, factor=0.0, **{**steered, "selection": "zero", **columns})
        for columns in choices.values()
    ]
    shared = (*steered, "factor", "tokens", "when", "part")
    rows += [
        control_row("xcopa", "accuracy", "it", "fr", **{name: row[name] for name in shared}, value=0.5, delta=-0.1)
        for row in rows[:6]
    ]
    with closing(opened(tmp_path, rows)) as data:
        curves = data.query(CURVES).to_pylist()
        best = data.query("SELECT edited, factor, whose FROM at_best WHERE metric = 'lss' ORDER BY whose").to_pylist()
        best_rows = [row for row in data.query(BEST).to_pylist() if row["panel"] == "lss"]
        best_factors = {row["intervention"]: row["value"] for row in best_rows}
        gains = {(row["intervention"], row["factor"]): row["gain"] for row in data.query(GAIN_COST).to_pylist()}
        arms = data.query(DOES_IT_WORK).to_pylist()
        tried = data.query(TRIED).to_pylist()
    names = {f"set max {label}".strip(): 0.6 + bonus for label, bonus in zip(choices, (0.2, 0.1, 0.0), strict=True)}
    assert {(row["intervention"], row["n"]) for row in curves} == {(name, 1) for name in names}
    assert [row["x"] for row in curves if row["panel"].startswith("xcopa")] == [1.0, 2.0] * 3
    assert best == [
        {"edited": "tokens end=8", "factor": 2.0, "whose": "own"},
        {"edited": "tokens end=8", "factor": 0.0, "whose": "own, set to 0"},
    ]
    assert best_factors == pytest.approx(names)
    assert gains == pytest.approx(
        {(name, factor): lss - 0.2 + 0.1 * factor for name, lss in names.items() for factor in (1.0, 2.0)}
    )
    assert [(row["method"], row["lss"]) for row in arms] == [("neurons", pytest.approx(0.8))]
    assert tried == [{"tried": 6}]


def test_files_of_earlier_versions_have_neurons_as_their_only_method(tmp_path: Path) -> None:
    rows = [row for row in control_summary(("fr", "ja")) if row["method"] == "neurons" or row["factor"] is None]
    write_sweep(tmp_path, [row for row in rows if row["method"] in (None, "neurons")])
    table = pq.read_table(tmp_path / "summary.parquet")
    added = ["method", "mde", "noise"]
    pq.write_table(table.drop_columns(added), tmp_path / "summary.parquet")
    assert set(added) <= set(SUMMARY.names)
    samples = pq.read_table(tmp_path / "results.parquet")
    pq.write_table(samples.drop_columns(["method"]), tmp_path / "results.parquet")
    with closing(ReportData(tmp_path)) as data:
        methods = {row["method"] for row in data.query("SELECT DISTINCT method FROM summary").to_pylist()}
        assert methods == {"neurons"}
        assert {row["method"] for row in data.query(DOES_IT_WORK).to_pylist()} == {"neurons", "difference", "random"}
        nulls = data.query("SELECT count(mde) + count(noise) AS n FROM summary").to_pylist()
        assert nulls == [{"n": 0}]
    assert isinstance(table, pa.Table)


def test_a_panel_names_the_options_of_a_task_that_is_asked_in_several_ways(tmp_path: Path) -> None:
    steered = {"method": "neurons", "op": "set", "factor": 2.0, "value": 0.5, "baseline": 0.4, "delta": 0.1}
    rows = [
        control_row("generation", "in_target_language", "en", "fr", **steered),
        control_row("generation", "in_target_language", "en", "fr", **steered, task_options="temperature=1"),
        control_row("xcopa", "accuracy", "fr", "fr", **steered, task_options="chat=true"),
    ]
    with closing(opened(tmp_path, rows)) as data:
        panels = data.query("SELECT panel FROM compared ORDER BY panel")["panel"].to_pylist()
    assert panels == [
        "generation (defaults): in_target_language",
        "generation (temperature=1): in_target_language",
        "xcopa: accuracy",
    ]


@pytest.mark.parametrize(("first", "second"), list(pairwise(CONTROL)))
def test_the_report_is_about_the_first_measure_of_control(first: str, second: str, tmp_path: Path) -> None:
    rows = [control_row("generation", metric, "en", "fr", **NEURONS, value=0.5) for metric in (second, first)]
    with closing(opened(tmp_path, rows)) as data:
        measures = data.query("SELECT metric FROM measures WHERE measure = 'control'").to_pylist()
    assert measures == [{"metric": first}]
