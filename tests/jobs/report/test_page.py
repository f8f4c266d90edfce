"""A report made of a small sweep's files: what the questions answer, and what the page holds."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from ampsweep.errors import InvalidRequest, NotFound
from ampsweep.hashing import canonical_json
from jobs.report.answers import Answer, answer_questions
from jobs.report.comparisons import with_sign_flips
from jobs.report.data import ReportData
from jobs.report.sources.neurons_file import NEURONS
from jobs.report.sources.resources import resource_classes
from jobs.report.sql.queries import BEST, CURVES, EFFECTS, GAIN_COST, MATRIX, OVERLAP, OWN_OR_ANY, SEARCH, SELF_CROSS
from jobs.results.schema import SAMPLES, SUMMARY
from tests.jobs.report.control_sweep import answered, render

SPEC = {
    "name": "<small>",
    "model": "tiny",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "ht"], "top_rate": 0.05},
    "interventions": {"op": "set", "factors": [0.5, 2.0], "controls": ["random"]},
    "tasks": [{"name": "lss", "languages": ["en", "fr"]}, {"name": "xcopa", "languages": ["fr", "ht"], "limit": 9}],
    "seed": 4,
}

SOURCES = {
    "models": [{"name": "tiny", "sha256": "a" * 64}],
    "engines": [{"name": "vllm", "versions": "vllm==0.32.0", "dtype": "float32"}],
    "neurons": ["ns_1"],
    "data": [
        {"task": task, "version": 1, "data": task, "split": None, "language": language, "sha256": digit * 64}
        for task, language, digit in (
            ("lss", "en", "b"),
            ("lss", "fr", "b"),
            ("xcopa", "fr", "c"),
            ("xcopa", "ht", "d"),
        )
    ],
}
SIDES = ("xcopa: accuracy, in the language itself", "xcopa: accuracy, in other languages")
SHIFTS = {None: "1111111111", "random": "1100000000", "other": "1111100001"}
"""For French, of ten facts asked in English: which shifted, by whose neurons were set to 2."""


def samples() -> list[Any]:
    rows = []
    for index in range(10):
        shared = {"task": "lss", "data_language": "en", "target_language": "fr", "doc_id": str(index)}
        rows.append({**dict.fromkeys(SAMPLES.names), **shared, "score": 0.0})
        rows += [
            {**dict.fromkeys(SAMPLES.names), **shared, "method": method, "score": -9.0}
            for method in ("repeat", "prompt_en")
        ]
        for selection, shifts in SHIFTS.items():
            steered: dict[str, Any] = {
                "method": "neurons",
                "selection": selection,
                "op": "set",
                "factor": 2.0,
                "layers": "all",
            }
            if selection == "random":
                steered["random_seed"] = 0
                rows.append({**dict.fromkeys(SAMPLES.names), **shared, **steered, "random_seed": 1, "score": 1.0})
            score = 1.0 if shifts[index] == "1" else -1.0
            rows.append({**dict.fromkeys(SAMPLES.names), **shared, **steered, "score": score})
    return rows


def row(task: str, metric: str, data: str, target: str | None, factor: float | None, value: float, **more: Any) -> Any:
    shared = dict.fromkeys(SUMMARY.names)
    steered = (
        {"method": "neurons", "op": "set", "layers": "all", "neurons": 3} if factor is not None else {"neurons": 0}
    )
    columns = {"model": "tiny", "task": task, "metric": metric, "data_language": data, "target_language": target}
    scale = {"higher_is_better": metric != "nll", "no_effect": 0.5 if metric == "lss" else None}
    return {**shared, **columns, **scale, "factor": factor, "value": value, "n": 9, **steered, **more}


def summary() -> list[Any]:
    rows = []
    for factor, value in ((0.5, 0.7), (2.0, 0.9)):
        for data, target in (("en", "fr"), ("en", "ht"), ("fr", "ht")):
            rows.append(row("lss", "lss", data, target, factor, value))
            for seed, drawn in enumerate((0.4, 0.6)):
                rows.append(row("lss", "lss", data, target, factor, drawn, selection="random", random_seed=seed))
            rows.append(row("lss", "lss", data, target, factor, 1.0, rung=1))
    for target, data, delta in (("fr", "fr", 0.2), ("fr", "ht", -0.1), ("ht", "ht", 0.3), ("ht", "fr", -0.2)):
        bounds = {"delta": delta, "delta_ci_low": delta - 0.05, "delta_ci_high": delta + 0.05, "baseline": 0.5}
        bounds |= {"p_value": 0.005, "p_holm": 0.01, "effect": 0.3}
        rows.append(row("xcopa", "accuracy", data, target, 2.0, 0.5 + delta, **bounds))
    return rows


def write_files(folder: Path) -> None:
    metadata = {
        "ampsweep.sweep_id": "swp_1",
        "ampsweep.spec": canonical_json(SPEC),
        "ampsweep.version": "0.1.0",
        "ampsweep.versions": canonical_json([{"vllm": "0.32.0", "torch": "2.13.0"}]),
        "ampsweep.failed_cells": canonical_json({}),
        "ampsweep.sources": canonical_json(SOURCES),
    }
    table = pa.Table.from_pylist(samples(), schema=SAMPLES.with_metadata(metadata))
    pq.write_table(table, folder / "results.parquet")
    pq.write_table(pa.Table.from_pylist(summary(), schema=SUMMARY), folder / "summary.parquet")
    neurons = [("fr", 0, 1, 8), ("fr", 0, 2, 8), ("fr", 1, 5, 8), ("ht", 0, 2, 8)]
    rows = [dict(zip(NEURONS.names, neuron, strict=True)) for neuron in neurons]
    pq.write_table(pa.Table.from_pylist(rows, schema=NEURONS), folder / "neurons.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportData]:
    """The files as they were written, for tests that only read them."""
    folder = tmp_path_factory.mktemp("sweep")
    write_files(folder)
    with closing(ReportData(folder)) as opened:
        yield opened


@pytest.fixture(scope="module")
def answers_and_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Answer], str]:
    folder = tmp_path_factory.mktemp("sweep")
    write_files(folder)
    with closing(ReportData(folder)) as data:
        answers = list(answer_questions(data))
        return answers, render(data, answers)


def test_the_best_factor_has_the_largest_mean_lss_of_the_languages_own_neurons(data: ReportData) -> None:
    best_rows = [best for best in data.query(BEST).to_pylist() if best["panel"] == "lss"]
    assert [(best["target_language"], best["factor"], best["languages"]) for best in best_rows] == [
        ("fr", 2.0, 1),
        ("ht", 2.0, 2),
    ]
    for best in best_rows:
        assert [best[name] for name in ("random_min", "random", "random_max")] == pytest.approx([0.4, 0.5, 0.6])
    matrix = data.query(MATRIX).to_pylist()
    assert [(cell["row"], cell["column"], cell["value"]) for cell in matrix] == [
        ("en", "fr", 0.9),
        ("en", "ht", 0.9),
        ("fr", "ht", 0.9),
    ]


def test_files_of_versions_without_methods_have_those_that_follow_from_their_factors(folder: Path) -> None:
    path = folder / "results.parquet"
    table = pq.read_table(path)
    interventions = pc.or_kleene(pc.is_null(table["method"]), pc.equal(table["method"], "neurons"))
    old = table.filter(interventions).drop_columns(["method"])
    pq.write_table(old, path)
    with closing(ReportData(folder)) as data:
        counts = data.query("SELECT method, count(*) AS n FROM samples GROUP BY ALL ORDER BY ALL").to_pylist()
        assert counts == [{"method": "neurons", "n": 40}, {"method": None, "n": 10}]
        assert data.query(OWN_OR_ANY).num_rows == 2


def test_self_is_the_language_itself_and_cross_the_others(data: ReportData) -> None:
    by_target = {each["target"]: each for each in data.query(SELF_CROSS).to_pylist()}
    assert (by_target["ht"]["self"], by_target["ht"]["cross"]) == pytest.approx((0.3, -0.2))
    assert (by_target["fr"]["self"], by_target["fr"]["cross"]) == pytest.approx((0.2, -0.1))


def test_effects_are_those_of_the_best_factor_in_every_language(data: ReportData) -> None:
    effects = {(cell["row"], cell["column"]): cell["value"] for cell in data.query(EFFECTS).to_pylist()}
    assert effects == pytest.approx({("fr", "fr"): 0.2, ("ht", "fr"): -0.1, ("ht", "ht"): 0.3, ("fr", "ht"): -0.2})


def test_a_fall_of_a_metric_of_which_less_is_better_is_an_improvement(folder: Path) -> None:
    deltas = {("fr", "fr"): -0.4, ("ht", "fr"): 0.2, ("ht", "ht"): -0.1, ("fr", "ht"): 0.3}
    rows = [
        row("perplexity", "nll", data, target, 2.0, 3.0 + delta, delta=delta, baseline=3.0)
        for (data, target), delta in deltas.items()
    ]
    worse = {"delta": 0.5, "baseline": 3.0}
    rows += [row("perplexity", "nll", data, "fr", 0.5, 3.5, **worse) for data in ("fr", "ht")]
    pq.write_table(pa.Table.from_pylist(rows, schema=SUMMARY), folder / "summary.parquet")
    with closing(ReportData(folder)) as data:
        effects = {(cell["row"], cell["column"]): cell for cell in data.query(EFFECTS).to_pylist()}
        assert {position: (cell["value"], cell["improvement"]) for position, cell in effects.items()} == {
            position: (delta, -delta) for position, delta in deltas.items()
        }, "of French the factor 2, whose nll is lower"
        assert {cell["panel"] for cell in effects.values()} == {"log-perplexity: nll (lower is better)"}
        costs = {(each["target"], each["factor"]): each for each in data.query(GAIN_COST).to_pylist()}
        assert (costs["fr", 2.0]["gain"], costs["fr", 2.0]["cost"]) == pytest.approx((0.4, -0.2))


def test_of_a_metric_without_a_direction_nothing_is_an_improvement(folder: Path) -> None:
    rows = summary() + [
        row("generation", "length", data, "fr", 2.0, 9.0, delta=1.0, higher_is_better=None) for data in ("fr", "ht")
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SUMMARY), folder / "summary.parquet")
    with closing(ReportData(folder)) as data:
        lengths = [cell for cell in data.query(EFFECTS).to_pylist() if cell["panel"] == "generation: length"]
        assert [(cell["value"], cell["improvement"]) for cell in lengths] == [(1.0, None), (1.0, None)]
        assert "generation: length" not in {each["panel"] for each in data.query(GAIN_COST).to_pylist()}
        for key in ("effect_matrix", "self_cross"):
            assert answered(data, key).figure


def test_the_curves_of_lss_have_their_line_at_a_half(data: ReportData) -> None:
    references = {each["panel"]: each["reference"] for each in data.query(CURVES).to_pylist()}
    assert references == {"lss": 0.5, **dict.fromkeys(SIDES, 0.0)}


def test_gain_is_the_mean_lss_and_cost_the_difference_elsewhere(data: ReportData) -> None:
    by_target = {each["target"]: each for each in data.query(GAIN_COST).to_pylist()}
    assert {each["gain_is"] for each in by_target.values()} == {"mean LSS"}
    assert (by_target["ht"]["gain"], by_target["ht"]["cost"]) == pytest.approx((0.9, -0.2))


def test_own_neurons_are_tested_against_controls_on_the_same_facts(data: ReportData) -> None:
    by_control = {each["control"]: each for each in with_sign_flips(data.query(OWN_OR_ANY)).to_pylist()}
    random = by_control["random"]
    assert (random["n"], random["own"], random["controlled"]) == (10, 1.0, pytest.approx((0.2 + 1.0) / 2)), "two draws"
    assert random["p"] == pytest.approx(2 / 2**8), "eight facts of ten differ, all in one direction"
    lost = SHIFTS["other"].count("0")
    assert (by_control["other"]["only_own"], by_control["other"]["only_control"]) == (lost, 0)
    expected = statsmodels_mcnemar([[10 - lost, lost], [0, 0]], exact=True).pvalue
    assert by_control["other"]["p"] == by_control["other"]["p_holm"] == pytest.approx(expected)


def test_rungs_of_a_search_stand_apart_and_count_nowhere_else(data: ReportData) -> None:
    rungs = data.query(SEARCH).to_pylist()
    assert {(row["target_language"], row["factor"], row["rung"], row["value"]) for row in rungs} == {
        (target, factor, 1, 1.0) for target in ("fr", "ht") for factor in (0.5, 2.0)
    }


def test_without_lss_the_best_is_what_gains_most_in_the_language_itself(folder: Path) -> None:
    rows = [each for each in summary() if each["metric"] != "lss"]
    weak = {"delta": 0.01, "baseline": 0.5}
    rows += [row("xcopa", "accuracy", data, "fr", 0.5, 0.51, **weak) for data in ("fr", "ht")]
    pq.write_table(pa.Table.from_pylist(rows, schema=SUMMARY), folder / "summary.parquet")
    with closing(ReportData(folder)) as data:
        factors = {each["target"]: each["factor"] for each in data.query(SELF_CROSS).to_pylist()}
        assert factors == {"fr": 2.0, "ht": 2.0}
        assert {each["gain_is"] for each in data.query(GAIN_COST).to_pylist()} == {"improvement in the language"}


def test_overlap_is_the_jaccard_index(data: ReportData) -> None:
    overlaps = {(cell["row"], cell["column"]): cell["value"] for cell in data.query(OVERLAP).to_pylist()}
    assert overlaps == pytest.approx({("fr", "fr"): 1, ("fr", "ht"): 1 / 3, ("ht", "fr"): 1 / 3, ("ht", "ht"): 1})


@pytest.mark.processes  # draws the whole page
def test_the_page_stands_alone_and_shows_every_answer_with_its_query(
    answers_and_page: tuple[list[Answer], str],
) -> None:
    answers, page = answers_and_page
    assert {each.question.key for each in answers} == {
        "does_it_work",
        "significance",
        "best_factor",
        "lss_matrix",
        "own_or_any",
        "factor_curves",
        "effect_matrix",
        "self_cross",
        "gain_cost",
        "resources",
        "resource_gap",
        "neurons_by_layer",
        "overlap",
        "search",
    }
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page), "nothing is fetched from anywhere"
    assert "<script src" not in page
    assert "<h1>&lt;small&gt;</h1>" in page
    assert "vllm 0.32.0" in page
    assert "seed 4" in page.lower()
    assert "no control &#34;other&#34;" in page
    assert "no control &#34;random&#34;" not in page
    assert f"SHA-256 {'a' * 12}" in page, "the model's hash, in the methods"
    assert f"on the facts that all of its languages have (data SHA-256 {'b' * 12})" in page
    assert "d" * 64 in page, "and every file's, among the sources"
    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(figures) == sum(each.figure is not None for each in answers)
    for figure in figures:
        ElementTree.fromstring(figure)  # our own
    for each in answers:
        assert f'download="{each.question.key}.csv"' in page


def test_the_page_says_what_rests_on_little_and_what_the_plan_warned_of(folder: Path) -> None:
    table = pq.read_table(folder / "results.parquet")
    warned = {**table.schema.metadata, b"ampsweep.warnings": canonical_json(["tasks.0: few facts"]).encode()}
    pq.write_table(table.replace_schema_metadata(warned), folder / "results.parquet")
    rows = [each | {"note": "the interval rests on 9 items", "n": 9} for each in summary()[:2]]
    pq.write_table(pa.Table.from_pylist([*rows, *summary()[2:]], schema=SUMMARY), folder / "summary.parquet")
    with closing(ReportData(folder)) as data:
        page = render(data, [])
    assert "<strong>2 values rest on fewer than 20 items</strong> (at least 9)" in page
    assert ">tasks.0: few facts</p>" in page


def test_the_page_counts_the_samples_and_cells_that_failed(folder: Path, data: ReportData) -> None:
    assert "samples failed" not in render(data, [])
    failures = {b"ampsweep.failed_cells": canonical_json({"cell_1": "out of memory"}).encode()}
    metadata = {**pq.read_schema(folder / "results.parquet").metadata, **failures}
    rows = samples()
    rows[3]["error"] = "too long"
    table = pa.Table.from_pylist(rows, schema=SAMPLES).replace_schema_metadata(metadata)
    pq.write_table(table, folder / "results.parquet")
    with closing(ReportData(folder)) as failed:
        page = render(failed, [])
    assert f"<strong>1 of {len(rows)} samples failed</strong>, excluded from all numbers below." in page
    assert "<strong>1 cell failed</strong>, excluded from all numbers below. Where one is missing, the inter" in page


def test_the_page_of_partial_results_says_so_first(folder: Path, data: ReportData) -> None:
    assert "Partial results" not in render(data, [])
    table = pq.read_table(folder / "results.parquet")
    counts = {"status": "paused", "total": 9, "included": 5, "failed": 1, "missing": 3}
    marked = {**table.schema.metadata, b"ampsweep.partial": canonical_json(counts).encode()}
    pq.write_table(table.replace_schema_metadata(marked), folder / "partial-results.parquet")
    (folder / "summary.parquet").rename(folder / "partial-summary.parquet")
    with pytest.raises(NotFound, match="--partial"):
        ReportData(folder)
    with closing(ReportData(folder, partial=True)) as partial:
        page = render(partial, [answered(partial, "best_factor")])
    notice = page.index("<strong>Partial results: 5 of 9 cells</strong>; 3 are missing (the sweep was paused)")
    assert page.index("<h1>") < notice < page.index("cells failed")
    assert "<td>partial-results.parquet</td>" in page


def test_partial_results_are_the_whole_ones_where_a_run_has_ended(folder: Path) -> None:
    with closing(ReportData(folder, partial=True)) as data:
        assert "Partial results" not in render(data, [])


@pytest.mark.processes  # draws the whole page again
def test_the_same_files_give_the_same_page(data: ReportData, answers_and_page: tuple[list[Answer], str]) -> None:
    assert render(data, list(answer_questions(data))) == answers_and_page[1]


def test_tables_are_the_answers(data: ReportData) -> None:
    best = answered(data, "best_factor")
    rows = list(csv.DictReader(io.StringIO(best.csv)))
    lines = [(line["panel"], line["target_language"], float(line["factor"])) for line in rows]
    assert lines[:2] == [("lss", "fr", 2.0), ("lss", "ht", 2.0)]
    assert {panel for panel, *_ in lines[2:]} == set(SIDES)
    assert r"lss & fr & 2 & 0.900 &  & 1 & 3 & 0.500 & 0.400 & 0.600 \\" in best.latex
    assert r"(items: n = 9; intervention: set; layers: all)" in best.latex
    assert r"panel & target language & factor & value & unsteered & languages & neurons" in best.latex


def test_languages_that_count_as_low_resource_can_be_named(folder: Path) -> None:
    with closing(ReportData(folder, low_resource={"fr"})) as data:
        resources = answered(data, "resources")
    accuracy_rows = [line for line in resources.table.to_pylist() if line["panel"] == "xcopa: accuracy"]
    assert {line["class"]: round(line["y"], 9) for line in accuracy_rows} == {"low": 0.2, "high": 0.3}


def test_languages_with_few_resources_are_meant_by_any_of_their_codes() -> None:
    assert resource_classes({"fra_Latn", "zho_Hant"}).equals(resource_classes({"fr", "zho_Hant"}))
    with pytest.raises(InvalidRequest, match="got 'fr/en'") as caught:
        resource_classes({"fr/en"})
    assert caught.value.param == "low_resource"


def test_without_neurons_the_page_says_so(folder: Path) -> None:
    (folder / "neurons.parquet").unlink()
    with closing(ReportData(folder)) as data:
        answers = list(answer_questions(data))
        assert "has no neurons.parquet" in render(data, [])
    assert {"neurons_by_layer", "overlap"}.isdisjoint(each.question.key for each in answers)
