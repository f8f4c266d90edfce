"""What the queries of the report select, pair and average, on small summaries."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.report.data import ReportData
from jobs.report.figures.drawing import svg
from jobs.report.figures.heat_maps import layer_map
from jobs.report.sql.queries import (
    BEST,
    CONTROL_COST,
    CURVES,
    EFFECTS,
    GAIN_COST,
    IN_ITSELF,
    LAYERS,
    MODES,
    OWN_OR_ANY,
    PROFILE,
    RESOURCES,
    SEARCH,
    SELF_CROSS,
)
from jobs.results.schema import SAMPLES
from tests.jobs.report.control_sweep import (
    NEURONS,
    STEERED,
    answered,
    control_row,
    control_summary,
    opened,
    write_sweep,
)


def test_a_patch_value_and_a_statistic_of_the_same_name_are_two_interventions(tmp_path: Path) -> None:
    both: tuple[dict[str, Any], ...] = ({"patch": "max", "value": 0.9}, {"statistic": "max", "value": 0.6})
    rows = [control_row("lss", "lss", "en", "fr", **{**NEURONS, **columns}) for columns in both]
    with closing(opened(tmp_path, rows)) as data:
        curves = {row["intervention"]: row["y"] for row in data.query(CURVES).to_pylist()}
        best = {row["intervention"]: row["value"] for row in data.query(BEST).to_pylist()}
    assert curves == best == {"set max": 0.9, "set statistic max": 0.6}


@pytest.mark.parametrize("layers", ["all", "3,4", "5"])
def test_a_choice_of_layers_has_curves_over_factors(tmp_path: Path, layers: str) -> None:
    rows = [
        control_row("lss", "lss", "en", "fr", **{**NEURONS, "layers": layers, "factor": factor, "value": 0.9})
        for factor in (1.0, 2.0)
    ]
    rows.append(control_row("xcopa", "accuracy", "it", "fr", **{**NEURONS, "layers": layers, "delta": -0.1}))
    with closing(opened(tmp_path, rows)) as data:
        curves = [row["x"] for row in data.query(CURVES).to_pylist() if row["panel"] == "lss"]
        costs = data.query(GAIN_COST).to_pylist()
        assert (curves, len(costs), data.query(PROFILE).num_rows) == ([1.0, 2.0], 1, 0)


def test_layers_in_turn_have_a_profile_over_layers(tmp_path: Path) -> None:
    rows = [
        control_row("lss", "lss", "en", "fr", **{**NEURONS, "layers": layer, "value": 0.9}) for layer in ("9", "10")
    ]
    with closing(opened(tmp_path, rows)) as data:
        assert [row["x"] for row in data.query(PROFILE).to_pylist()] == [9, 10]
        assert data.query(CURVES).num_rows == data.query(GAIN_COST).num_rows == 0


def test_one_class_of_languages_is_compared_with_none(tmp_path: Path) -> None:
    rows = [control_row("lss", "lss", "en", target, **{**NEURONS, "value": 0.9}) for target in ("fr", "ja", "ht")]
    with closing(opened(tmp_path, rows)) as data:
        assert data.query(RESOURCES).num_rows == 3
    with closing(opened(tmp_path, rows[:2])) as data:
        assert data.query(RESOURCES).num_rows == 0


def test_a_search_has_the_language_itself_apart_from_the_others(tmp_path: Path) -> None:
    task, metric, target = "generation", "in_target_language", "fr"
    values = {None: {"en": 0.2, "it": 0.4, "fr": 0.9}, "chat=True": {"en": 0.1}}
    rows = [
        control_row(
            task, metric, data, target, **{**NEURONS, "rung": 1, "task_options": options, "value": value, "n": n}
        )
        for options, by_language in values.items()
        for n, (data, value) in enumerate(by_language.items(), start=11)
    ]
    with closing(opened(tmp_path, rows)) as data:
        found = {row.pop("metric"): row for row in data.query(SEARCH).to_pylist()}
    columns = ("value", "self", "cross", "languages", "items")
    assert {metric: [row[name] for name in columns] for metric, row in found.items()} == {
        "generation: in_target_language": [pytest.approx(0.5), 0.9, pytest.approx(0.3), 3, 13],
        "generation (chat=True): in_target_language": [0.1, None, 0.1, 1, 11],
    }


def test_the_front_has_the_methods_that_none_surpasses(tmp_path: Path) -> None:
    points = {"prompt_en": (0.9, 0.02), "prompt_native": (0.8, 0.03), "diffmean": (0.95, 0.1)}
    rows = []
    for method, (control, cost) in points.items():
        steered = {"method": method, **({"factor": 1.0, "op": "add", "layers": "all"} if method == "diffmean" else {})}
        rows += [
            control_row("generation", "in_target_language", "en", "fr", value=control, baseline=0.0, **steered),
            control_row("xcopa", "accuracy", "it", "fr", value=0.5 - cost, baseline=0.5, delta=-cost, **steered),
        ]
    with closing(opened(tmp_path, rows)) as data:
        plotted = data.query(CONTROL_COST).to_pylist()
    assert {row["panel"] for row in plotted} == {"loss of accuracy (xcopa: accuracy, n = 100)"}
    french = {row["method"]: row for row in plotted if row["target"] == "fr"}
    assert {method: row["on_front"] for method, row in french.items()} == {
        "prompt_en": True,
        "prompt_native": False,
        "diffmean": True,
        "unsteered": True,
    }
    assert (french["diffmean"]["control"], french["diffmean"]["cost"]) == pytest.approx((0.95, 0.1))
    assert {row["method"] for row in plotted if row["target"] == "mean"} == {*points, "unsteered"}


def test_own_neurons_are_compared_with_the_mean_over_draws_of_random_neurons_and_with_zero(tmp_path: Path) -> None:
    steered = {"method": "neurons", "op": "add", "patch": "max", "factor": 2.0, "layers": "all"}
    cells: dict[str, tuple[dict[str, Any], str]] = {
        "cell_0": ({}, "000000"),
        "cell_1": (steered, "111111"),
        "cell_2": ({**steered, "selection": "random", "random_seed": 5}, "110000"),
        "cell_3": ({**steered, "selection": "random", "random_seed": 9}, "111100"),
        "cell_4": ({**steered, "selection": "zero", "op": "set", "patch": None, "factor": 0.0}, "100000"),
        "cell_5": ({**steered, "tokens": "end=8"}, "000000"),  # another choice of tokens, which is not the best
        "cell_6": ({**steered, "selection": "zero", "op": "set", "tokens": "end=8", "factor": 0.0}, "111111"),
    }
    write_sweep(tmp_path, [control_row("lss", "lss", "en", "fr", value=1.0, **{**steered, "neurons": 4})])
    facts = [
        {
            **dict.fromkeys(SAMPLES.names),
            "cell_id": cell,
            "task": "lss",
            "data_language": "en",
            "target_language": "fr",
            "doc_id": str(fact),
            **cell_columns,
            "score": float(shifted),
        }
        for cell, (cell_columns, shifts) in cells.items()
        for fact, shifted in enumerate(shifts)
    ]
    schema = pq.read_schema(tmp_path / "results.parquet")
    pq.write_table(pa.Table.from_pylist(facts, schema=schema), tmp_path / "results.parquet")
    with closing(ReportData(tmp_path)) as data:
        rows = data.query(OWN_OR_ANY).to_pylist()
    compared = {row["control"]: (row["n"], row["controlled"], row["differences"]) for row in rows}
    assert {row["items"] for row in rows} == {"n = 6"}
    assert compared == {
        "random": (6, pytest.approx(3 / 6), [0, 0, 0.5, 0.5, 1, 1]),
        "zero": (6, pytest.approx(1 / 6), [0, 1, 1, 1, 1, 1]),
    }


def test_a_fact_of_several_base_languages_is_one_observation(tmp_path: Path) -> None:
    steered = {"method": "neurons", "op": "add", "patch": "max", "factor": 2.0, "layers": "all"}
    write_sweep(tmp_path, [control_row("lss", "lss", "en", "fr", value=1.0, **{**steered, "neurons": 4})])
    shifts = {"own": {"en": "110", "ru": "100"}, "random": {"en": "001", "ru": "000"}, None: {"en": "000", "ru": "000"}}
    facts = [
        {
            **dict.fromkeys(SAMPLES.names),
            **({} if whose is None else {**steered, "selection": None if whose == "own" else whose}),
            "task": "lss",
            "data_language": base,
            "target_language": "fr",
            "doc_id": str(fact),
            "score": float(shifted),
        }
        for whose, by_base in shifts.items()
        for base, shifted_facts in by_base.items()
        for fact, shifted in enumerate(shifted_facts)
    ]
    schema = pq.read_schema(tmp_path / "results.parquet")
    pq.write_table(pa.Table.from_pylist(facts, schema=schema), tmp_path / "results.parquet")
    with closing(ReportData(tmp_path)) as data:
        (row,) = data.query(OWN_OR_ANY).to_pylist()
    assert (row["n"], row["facts"], row["only_own"], row["only_control"]) == (6, 3, 3, 1)
    assert (row["own"], row["controlled"]) == pytest.approx((3 / 6, 1 / 6))
    assert row["differences"] == [2, 1, -1]


@pytest.mark.parametrize(
    ("widths", "is_share", "values"),
    [((8, 8), False, [2.0, 1.0]), ((8, 16), True, [25.0, 6.25]), ((None, None), False, [2.0, 1.0])],
)
def test_neurons_by_layer_are_shares_where_layers_differ_in_width(
    tmp_path: Path, widths: tuple[int | None, int | None], is_share: bool, values: list[float]
) -> None:
    write_sweep(tmp_path, control_summary(("fr",)))
    rows: list[dict[str, Any]] = []
    for layer, index in ((0, 1), (0, 2), (1, 5)):
        width = {} if widths[layer] is None else {"width": widths[layer]}
        rows.append({"language": "fr", "layer": layer, "neuron": index, **width})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "neurons.parquet")
    with closing(ReportData(tmp_path)) as data:
        table = data.query(LAYERS)
    assert [row["value"] for row in table.to_pylist()] == values
    assert table["is_share"].to_pylist() == [is_share] * 2
    assert ("% of its neurons" in svg(layer_map(table))) is is_share


def draws(values: list[float], **bounds: Any) -> list[dict[str, Any]]:
    """Return language control in fr of English texts by several draws of random neurons, and by the own neurons."""
    own = control_row("generation", "lfs", "en", "fr", **{**NEURONS, "value": 0.9, "delta": 0.8})
    return [
        own,
        *(
            {**own, "selection": "random", "random_seed": seed, "value": value, "delta": value - 0.1, **bounds}
            for seed, value in enumerate(values)
        ),
    ]


def test_draws_of_random_neurons_do_not_narrow_the_interval_over_items(tmp_path: Path) -> None:
    bounds = {"ci_low": 0.1, "ci_high": 0.3, "delta_ci_low": 0.0, "delta_ci_high": 0.2, "p_value": 0.04, "p_holm": 0.2}
    with closing(opened(tmp_path, draws([0.2, 0.2, 0.2], **bounds))) as data:
        (arm_of_draws,) = data.query("SELECT * FROM by_arm WHERE arm = 'random'").to_pylist()
        (curve,) = (row for row in data.query(CURVES).to_pylist() if row["whose"] == "random")
    assert (arm_of_draws["value_low"], arm_of_draws["value_high"]) == pytest.approx((0.1, 0.3))
    assert arm_of_draws["p_holm"] == 0.2
    assert (curve["n"], curve["y_low"], curve["y_high"]) == (1, pytest.approx(0.0), pytest.approx(0.2))


def test_p_values_of_draws_are_no_independent_evidence(tmp_path: Path) -> None:
    english = draws([0.2, 0.2, 0.2], p_value=0.04, p_holm=0.2)
    rows = [*english, *({**row, "data_language": "it"} for row in english)]
    with closing(opened(tmp_path, rows)) as data:
        (row,) = data.query("SELECT p_holm FROM by_arm WHERE arm = 'random'").to_pylist()
    assert row["p_holm"] == pytest.approx(0.08), "2 * 0.04 in two languages, as if they had the same answers"


def test_controls_with_several_draws_have_no_conclusion_of_one_of_them(tmp_path: Path) -> None:
    own = control_row("xcopa", "accuracy", "fr", "fr", **{**NEURONS, "delta": 0.2, "p_value": 0.01, "p_holm": 0.01})
    rows = [own, {**own, "data_language": "en"}]
    rows += [{**row, "selection": "random", "random_seed": seed} for seed in (1, 2) for row in rows]
    with closing(opened(tmp_path, rows)) as data:
        by_whose = {row["whose"]: row for row in data.query(SELF_CROSS).to_pylist()}
    assert (by_whose["own"]["p_holm"], by_whose["own"]["conclusion"]) == (0.01, "better")
    assert (by_whose["random"]["p_holm"], by_whose["random"]["conclusion"]) == (None, None)
    assert (by_whose["random"]["self"], by_whose["random"]["cross"]) == pytest.approx((0.2, 0.2))


def test_a_value_whose_baseline_is_undefined_is_not_a_difference(tmp_path: Path) -> None:
    rows = [
        control_row("language_confusion", "target_lpr", data, "fr", **{**NEURONS, "value": 0.8, "delta": delta})
        for data, delta in (("en", None), ("it", 0.1))
    ]
    with closing(opened(tmp_path, rows)) as data:
        (curve,) = data.query(CURVES).to_pylist()
        effects = data.query(EFFECTS).to_pylist()
        (arm_row,) = data.query("SELECT value FROM by_arm").to_pylist()
    assert (curve["y"], curve["n"]) == (0.1, 1)
    assert [(row["row"], row["value"]) for row in effects] == [("it", 0.1)]
    assert arm_row["value"] == pytest.approx(0.8), "of both languages, because the value is known"


def test_data_in_one_of_several_target_languages_are_self(tmp_path: Path) -> None:
    rows = [
        control_row("generation", "lfs", data, "fr+it", **{**NEURONS, "value": value, "baseline": 0.5, "delta": delta})
        for data, value, delta in (("en", 0.2, 0.1), ("fr", 1.0, 0.3), ("it", 1.0, 0.5))
    ]
    with closing(opened(tmp_path, rows)) as data:
        (control,) = data.query("SELECT value FROM by_arm").to_pylist()
        (row,) = data.query(SELF_CROSS).to_pylist()
    assert control["value"] == pytest.approx(0.2)
    assert (row["self"], row["cross"]) == pytest.approx((0.4, 0.1))


def test_texts_that_leave_the_language_of_the_data_are_no_deterioration(tmp_path: Path) -> None:
    lost = {"delta": -0.8, "delta_ci_low": -0.9, "delta_ci_high": -0.7}
    rows = [
        control_row("generation", metric, data, "fr", **{**NEURONS, **lost})
        for metric, data in (("in_data_language", "en"), ("in_data_language", "fr"), ("in_target_language", "en"))
    ]
    rows += [control_row("lss", "lss", "en", "fr", **{**NEURONS, "value": 0.9})]
    with closing(opened(tmp_path, rows)) as data:
        effects = {(row["panel"], row["row"]): row["conclusion"] for row in data.query(EFFECTS).to_pylist()}
        costs = data.query(GAIN_COST).to_pylist()
    assert effects == {
        ("generation: in_data_language", "en"): "lower",
        ("generation: in_data_language", "fr"): "worse",
        ("generation: in_target_language", "en"): "worse",
    }
    assert costs == [], "the language of the text is no cost"


def test_a_target_without_lss_is_not_mixed_with_those_that_have_it(tmp_path: Path) -> None:
    rows = [control_row("lss", "lss", "en", "fr", **{**NEURONS, "value": 0.9})]
    rows += [
        control_row("xcopa", "accuracy", data, target, **{**NEURONS, "delta": 0.1})
        for target in ("fr", "ja")
        for data in ("fr", "ja")
    ]
    with closing(opened(tmp_path, rows)) as data:
        gains = [(row["target"], row["gain"], row["gain_is"]) for row in data.query(GAIN_COST).to_pylist()]
    assert gains == [("fr", 0.9, "mean LSS")]


def test_modes_are_compared_draw_by_draw(tmp_path: Path) -> None:
    rows = [
        control_row(
            "lss", "lss", "en", "fr", **{**NEURONS, "selection": "random"}, mode=mode, random_seed=seed, value=value
        )
        for mode, values in (("corrected", (0.4, 0.6)), ("paper", (0.5, 0.7)))
        for seed, value in enumerate(values)
    ]
    with closing(opened(tmp_path, rows)) as data:
        (row,) = data.query(MODES).to_pylist()
    assert (row["rows"], row["difference"], row["largest"]) == (2, pytest.approx(0.1), pytest.approx(0.1))


def test_each_way_to_steer_is_compared_in_the_language_itself(tmp_path: Path) -> None:
    drawn = {**STEERED["random"], "factor": 2.0}
    ways: list[tuple[dict[str, Any], float]] = [
        ({**STEERED["neurons"], "factor": 1.0}, 0.1),
        ({**STEERED["neurons"], "factor": 2.0}, 0.3),
        ({**drawn, "random_seed": 0}, 0.0),
        ({**drawn, "random_seed": 1}, 0.1),
        ({**STEERED["diffmean"], "factor": 4.0}, 0.2),
        (STEERED["prompt_en"], -0.1),
    ]
    rows = [
        control_row("xcopa", "accuracy", data, "fr", **way, value=0.5 + delta, baseline=0.5, delta=delta, p_holm=0.01)
        for way, of_self in ways
        for data, delta in (("fr", of_self), ("it", 0.4))
    ]
    with closing(opened(tmp_path, rows)) as data:
        found = {row["method"]: row for row in data.query(IN_ITSELF).to_pylist()}
        assert {method: (row["factor"], row["unsteered"], row["difference"]) for method, row in found.items()} == {
            "neurons": (2.0, 0.5, 0.3),
            "random": (2.0, 0.5, 0.05),
            "diffmean": (4.0, 0.5, 0.2),
            "prompt_en": (None, 0.5, -0.1),
        }
        assert (found["neurons"]["p_holm"], found["random"]["p_holm"]) == (0.01, None), (
            "one draw's p-value is no mean's"
        )
    with closing(opened(tmp_path, rows[:8])) as data:
        assert data.query(IN_ITSELF).num_rows == 0, "of neurons alone the section before has all"


def test_a_task_in_the_target_language_alone_has_no_cross(tmp_path: Path) -> None:
    rows = [control_row("xcopa", "accuracy", "fr", "fr", **{**NEURONS, "value": 0.6, "baseline": 0.5, "delta": 0.1})]
    with closing(opened(tmp_path, rows)) as data:
        (row,) = data.query(SELF_CROSS).to_pylist()
        assert (row["self"], row["cross"]) == (0.1, None)
        shown = answered(data, "self_cross")
        assert shown.figure
        assert shown.observation == "xcopa: accuracy, n = 100: self +0.10, significant for 0 of 1 target."
