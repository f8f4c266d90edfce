"""Values on items that did not choose the factor, and intervals of items that languages share, on made-up samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.report.data import ReportData
from jobs.report.prose.findings import findings_of
from jobs.report.sql.item_views import FOLDS
from jobs.report.sql.queries import BEST, CURVES, DOES_IT_WORK, HELD_OUT
from jobs.results.schema import SAMPLES, SUMMARY
from tests.jobs.report.control_sweep import control_row, write_sweep

SET = {"method": "neurons", "op": "set", "patch": "max", "layers": "all"}
Values = Mapping[tuple[float, str], list[int]]
"""Whether each item succeeds, by factor and data language."""


def sample(task: str, data: str, target: str | None, item: int, **values: Any) -> dict[str, Any]:
    columns = {"task": task, "data_language": data, "target_language": target, "doc_id": str(item)}
    return {**dict.fromkeys(SAMPLES.names), **columns, **values}


def opened(folder: Path, task: str, metric: str, values: Values, *, target: str = "fr", **of_row: Any) -> ReportData:
    """Open a sweep that steers to a target with some factors."""
    samples, rows = [], []
    for (factor, data), items in values.items():
        for item, succeeds in enumerate(items):
            plain = sample(task, data, target if task == "lss" else None, item)
            answer: dict[str, Any]
            if task == "lss":
                plain, answer = {**plain, "score": 0.0}, {"score": 1.0 if succeeds else -1.0}
            elif task == "xcopa":
                answer = {"correct": bool(succeeds)}
            elif task == "perplexity":
                plain, answer = {**plain, "score": 2.0}, {"score": 0.0 if succeeds else 1.0}
            else:
                answer = {"prediction": target.split("-")[0] if succeeds else data}
            samples += [plain, sample(task, data, target, item, **SET, factor=factor, **answer)]
        value = float(np.mean(items)) if metric != "nll" else 1 - float(np.mean(items))
        if task in ("xcopa", "perplexity"):
            of_row |= {"baseline": 0.5, "delta": value - 0.5}
        steered = {**SET, "neurons": 4, "factor": factor, "value": value, **of_row}
        rows.append(control_row(task, metric, data, target, **steered))
    write_sweep(folder, rows)
    schema = pq.read_schema(folder / "results.parquet")
    pq.write_table(pa.Table.from_pylist(samples, schema=schema), folder / "results.parquet")
    return ReportData(folder)


def cross_validated(values: Values) -> float:
    """Return the mean over data languages of what each item gets from the factor that is the best on other parts."""
    factors, languages = sorted({factor for factor, _ in values}), sorted({data for _, data in values})
    items = range(len(values[factors[0], languages[0]]))
    by_hash = sorted(items, key=lambda item: hashlib.md5(str(item).encode()).hexdigest())
    part = {item: rank % FOLDS for rank, item in enumerate(by_hash, start=1)}

    def mean(factor: float, without: int) -> float:
        of_language = [np.mean([values[factor, data][i] for i in items if part[i] != without]) for data in languages]
        return float(np.mean(of_language))

    best = {held: max(factors, key=lambda factor: (round(mean(factor, held), 12), -factor)) for held in range(FOLDS)}
    return float(np.mean([[values[best[part[item]], data][item] for item in items] for data in languages]))


@pytest.mark.parametrize(
    ("task", "metric", "target"),
    [
        ("lss", "lss", "fr"),
        ("xcopa", "accuracy", "ru"),
        ("perplexity", "nll", "ru"),
        ("generation", "in_target_language", "fr"),
        ("clas", "lfs", "fr"),
    ],
)
def test_factors_that_differ_by_chance_gain_nothing_on_held_out_items(
    task: str, metric: str, target: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    cells = [(float(factor), data) for factor in range(1, 13) for data in ("en", "ru")]
    values = {cell: rng.integers(0, 2, 60).tolist() for cell in cells}
    with closing(opened(tmp_path, task, metric, values, target=target)) as data:
        rows = data.query(BEST).to_pylist()
    sides = [["en"], ["ru"]] if target == "ru" else [["en", "ru"]]  # other languages, and the language itself
    assert len(rows) == len(sides)
    for best, languages in zip(rows, sides, strict=True):
        of_side = {cell: items for cell, items in values.items() if cell[1] in languages}
        value, held_out = (1 - best[name] if metric == "nll" else best[name] for name in ("value", "held_out"))
        assert value > 0.56, "the best of twelve by chance"
        assert held_out == pytest.approx(cross_validated(of_side))
        assert held_out < value - 0.04


def test_a_factor_that_is_better_everywhere_keeps_its_value(tmp_path: Path) -> None:
    values = {(1.0, "en"): [0] * 20, (2.0, "en"): [1] * 15 + [0] * 5}
    with closing(opened(tmp_path, "lss", "lss", values, ci_low=0.5, ci_high=0.9)) as data:
        (best,) = data.query(BEST).to_pylist()
        assert (best["factor"], best["value"], best["held_out"]) == (2.0, 0.75, 0.75)
        assert data.query(HELD_OUT).to_pylist() == [{"arm": "neurons", "measure": "lss", "held_out": 0.75}]
        assert (
            "Each target is shown at the best of up to 2 interventions by LSS, chosen on the same items, so its LSS is "
            "optimistic; chosen and measured on different items, its LSS is 0.75."
        ) in findings_of(data)


def test_language_control_ignores_texts_in_the_target_and_its_region(tmp_path: Path) -> None:
    values = {(1.0, "en"): [0] * 10, (2.0, "en"): [1] * 10, (2.0, "pt-BR"): [1] * 10, (1.0, "pt-BR"): [1] * 10}
    with closing(opened(tmp_path, "generation", "in_target_language", values, target="pt-BR")) as data:
        (best,) = data.query(BEST).to_pylist()
    assert (best["factor"], best["languages"], best["held_out"]) == (2.0, 1, 1.0)


@pytest.mark.parametrize("case", ["one factor", "search"])
def test_a_factor_that_was_not_chosen_on_these_items_alone_has_no_held_out_value(case: str, tmp_path: Path) -> None:
    values = {(factor, "en"): [1] * 10 for factor in ((1.0,) if case == "one factor" else (1.0, 2.0))}
    opened(tmp_path, "lss", "lss", values).close()
    if case == "search":
        summary = pq.read_table(tmp_path / "summary.parquet").to_pylist()
        rows = [*summary, *({**row, "rung": 1} for row in summary)]
        pq.write_table(pa.Table.from_pylist(rows, schema=SUMMARY), tmp_path / "summary.parquet")
    with closing(ReportData(tmp_path)) as data:
        (best,) = data.query(BEST).to_pylist()
    assert best["held_out"] is None


def mean_over_languages(folder: Path, values: Values) -> tuple[float, float]:
    """Return the half width of the interval of the mean LSS over data languages, and that of independent languages."""
    opened(folder, "lss", "lss", values).close()
    rows = pq.read_table(folder / "summary.parquet").to_pylist()
    rows = [{**row, "ci_low": row["value"] - 0.1, "ci_high": row["value"] + 0.1} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=SUMMARY), folder / "summary.parquet")
    with closing(ReportData(folder)) as data:
        (row,) = data.query("FROM by_arm").to_pylist()
    return row["value_high"] - row["value"], 0.1 / np.sqrt(len(values))


def test_the_same_answers_in_every_language_are_no_further_evidence(tmp_path: Path) -> None:
    items = [1, 0, 1, 1, 0, 1, 0, 0]
    half, independent = mean_over_languages(tmp_path, {(1.0, data): items for data in ("en", "ja", "ru", "tr")})
    assert half == pytest.approx(0.1), "as with one language"
    assert half == pytest.approx(2 * independent)


def test_the_interval_over_languages_is_that_of_resampled_items(tmp_path: Path) -> None:
    """Items are easy or hard in all languages to some extent; the standard error is that of a bootstrap over items."""
    rng = np.random.default_rng(3)
    ease = rng.normal(size=400)
    answers = np.stack([(ease + rng.normal(size=400) > 0).astype(int) for _ in range(3)])
    half, independent = mean_over_languages(
        tmp_path, {(1.0, data): row.tolist() for data, row in zip(("en", "ja", "ru"), answers, strict=True)}
    )
    drawn = rng.integers(0, 400, size=(4000, 400))
    together = answers.mean(axis=0)[drawn].mean(axis=1).std()
    apart = np.sqrt((answers.var(axis=1) / 400).sum()) / 3
    assert together / apart > 1.2
    assert half / independent == pytest.approx(together / apart, rel=0.04)


def test_items_that_are_all_alike_say_nothing_of_their_dependence(tmp_path: Path) -> None:
    half, _ = mean_over_languages(tmp_path, {(1.0, data): [0] * 30 for data in ("en", "ru")})
    assert half == pytest.approx(0.1), "as if both languages had the same answers"


@pytest.mark.parametrize(("task", "metric"), [("lss", "lss"), ("xcopa", "accuracy")])
def test_a_curve_has_the_intervals_of_the_tables(task: str, metric: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ease = rng.normal(size=200)
    values = {
        (factor, data): (ease + rng.normal(size=200) + factor > 1).astype(int).tolist()
        for factor in (1.0, 2.0)
        for data in ("en", "ja", "ru", *(("fr",) if task == "xcopa" else ()))
    }
    bounds: dict[str, Any] = {"ci_low": 0.5, "ci_high": 0.9, "delta_ci_low": -0.1, "delta_ci_high": 0.5}
    with closing(opened(tmp_path, task, metric, values, **bounds)) as data:
        (works,) = data.query(DOES_IT_WORK).to_pylist()
        rows = [row for row in data.query(CURVES).to_pylist() if "itself" not in row["panel"]]
        widenings = data.query("SELECT widening FROM panel_dependence WHERE side = 'cross'")["widening"].to_pylist()
    (at_best,) = (row for row in rows if row["x"] == works["factor"])
    assert (at_best["y_low"], at_best["y_high"]) == pytest.approx((works[f"{metric}_low"], works[f"{metric}_high"]))
    assert all(1.1 < widening < 3**0.5 for widening in widenings)
    assert len(widenings) == 2
