from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from jobs.cell import Cell
from jobs.instruction import Instruction
from jobs.metrics.mean import Mean
from jobs.metrics.result import ALIKE, DIFFERENCES_ALIKE, NOT_FINITE, MetricResult
from jobs.results.cell_table import CellTable, to_table
from jobs.results.schema import SUMMARY
from jobs.results.summary import NOTHING_CHANGED, SummaryBuilder
from jobs.sample import Sample
from tests.jobs.cluster import a_cell, a_sample


def table(cell: Cell, samples: list[Sample], *, left_out: int = 0) -> CellTable:
    neurons = 0 if cell.intervention is None else 6
    content = to_table(cell, epoch=1, samples=samples, left_out=left_out, neurons=neurons, versions={})
    return CellTable(cell=cell, table=content, left_out=left_out, neurons=neurons, versions={})


def scores(*values: float | None) -> list[Sample]:
    """Samples a, b, c ... with these scores; None is a failed one."""
    return [
        Sample(doc_id=name, error="too long") if value is None else a_sample(name, score=value)
        for name, value in zip("abcdef", values, strict=False)
    ]


def correctness(text: str) -> list[Sample]:
    return [a_sample(str(index), correct=letter == "1", score=-1.0) for index, letter in enumerate(text)]


def rows(*tables: CellTable) -> list[dict[str, Any]]:
    builder = SummaryBuilder()
    for each in tables:
        builder.add(each)
    assert all(set(row) == set(SUMMARY.names) for row in builder.rows)
    return builder.rows


def test_lss_compares_a_fact_with_itself_unsteered_by_its_id() -> None:
    baseline = table(a_cell(), scores(0.0, 0.0, 0.0))
    steered = table(a_cell(factor=2.0), list(reversed(scores(1.0, -1.0, 1.0))), left_out=4)
    (row,) = rows(baseline, steered)
    assert (row["metric"], row["n"], row["left_out"], row["failed"]) == ("lss", 3, 4, 0)
    assert row["neurons"] == 6
    assert abs(row["value"] - 2 / 3) < 1e-12
    assert (row["data_language"], row["target_language"], row["op"], row["factor"]) == ("en", "fr", "scale", 2.0)
    assert row["ci_low"] <= row["value"] <= row["ci_high"]


def test_the_order_of_the_samples_changes_nothing() -> None:
    baseline, steered = scores(0.0, 3.0, -1.0, 2.0), scores(1.0, 2.5, 1.0, 2.0)
    in_order = rows(table(a_cell(), baseline), table(a_cell(factor=2.0), steered))
    assert rows(table(a_cell(), baseline), table(a_cell(factor=2.0), steered[::-1])) == in_order


def test_samples_that_failed_here_or_in_the_baseline_are_counted_and_left_alone() -> None:
    (row,) = rows(table(a_cell(), scores(0.0, None, 0.0)), table(a_cell(factor=2.0), scores(1.0, 1.0, None)))
    assert (row["n"], row["failed"], row["value"]) == (1, 2, 1.0)


def test_items_with_a_token_across_their_join_are_counted() -> None:
    joins = (True, False, True, None)
    samples = [a_sample(name, score=0.0, spanned_join=join) for name, join in zip("abcd", joins, strict=True)]
    (row,) = rows(table(a_cell(), samples), table(a_cell(factor=2.0), samples))
    assert row["spanned_joins"] == 2
    (row,) = rows(table(a_cell(), scores(0.0)), table(a_cell(factor=2.0), scores(0.0)))
    assert row["spanned_joins"] is None


def test_a_row_says_which_direction_of_its_metric_is_better() -> None:
    shift = rows(table(a_cell(), scores(0.0)), table(a_cell(factor=2.0), scores(1.0)))
    assert [(row["metric"], row["higher_is_better"], row["no_effect"]) for row in shift] == [("lss", True, 0.5)]
    cell = a_cell(task="perplexity")
    scales = {row["metric"]: (row["higher_is_better"], row["no_effect"]) for row in rows(table(cell, scores(2.0)))}
    assert scales == {"perplexity": (False, None), "nll": (False, None)}


def test_a_value_that_is_not_finite_is_left_out_with_a_note() -> None:
    plain, steered = a_cell(task="perplexity"), a_cell(task="perplexity", factor=100.0)
    summary = rows(table(plain, scores(1.0, 2.0)), table(steered, scores(1.0, 800.0)))
    perplexity, nll = (row for row in summary if row["factor"] == 100.0)
    assert (perplexity["value"], perplexity["p_value"], perplexity["n"]) == (None, None, 2)
    assert perplexity["note"] == NOT_FINITE
    assert (nll["value"], nll["baseline"]) == (400.5, 1.5)


def test_a_metric_of_a_plug_in_that_returns_nan_has_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mean, "evaluate", lambda *_: MetricResult(n=2, value=math.nan, ci_low=math.nan))
    (perplexity, _nll) = rows(table(a_cell(task="perplexity"), scores(1.0, 2.0)))
    assert (perplexity["value"], perplexity["ci_low"], perplexity["note"]) == (None, None, NOT_FINITE)


def test_without_a_baseline_there_is_no_value() -> None:
    (row,) = rows(table(a_cell(factor=2.0), scores(1.0, 1.0)))
    assert (row["n"], row["value"], row["failed"]) == (0, None, 2)


def test_accuracy_has_a_row_for_the_baseline_and_differences_for_the_rest() -> None:
    plain, steered = a_cell(task="xcopa"), a_cell(task="xcopa", factor=2.0, selection="random")
    first, second = rows(table(plain, correctness("1100")), table(steered, correctness("1110")))
    assert (first["metric"], first["value"], first["op"], first["delta"]) == ("accuracy", 0.5, None, None)
    assert (second["value"], second["baseline"], second["delta"], second["p_value"]) == (0.75, 0.5, 0.25, 1.0)
    assert (second["selection"], second["target_language"]) == ("random", "fr")
    assert second["delta_ci_low"] <= 0.25 <= second["delta_ci_high"]


def test_answers_of_one_item_are_paired_by_their_number() -> None:
    def answers(*languages: str) -> list[Sample]:
        return [
            a_sample("7", answer=number, prediction=language, completion="a b c d e")
            for number, language in enumerate(languages)
        ]

    plain, steered = a_cell(task="clas"), a_cell(task="clas", factor=2.0)
    failed = Sample(doc_id="7", answer=2, error="too long")
    summary = rows(table(plain, answers("fr", "en", "en")), table(steered, [*reversed(answers("fr", "fr")), failed]))
    lfs = next(row for row in summary if row["metric"] == "lfs")
    assert (lfs["n"], lfs["failed"], lfs["value"], lfs["baseline"]) == (1, 1, 1.0, 0.5)


def test_rates_of_a_benchmark_have_rows_for_its_sources() -> None:
    def answers(*texts: str) -> list[Sample]:
        ids = ("aya/0", "okapi/0", "okapi/1")
        return [a_sample(doc_id, completion=text) for doc_id, text in zip(ids, texts, strict=True)]

    english, french = "The cat has been sleeping on the sofa.", "Le chat dort sur le canapé depuis ce matin."
    baseline = table(a_cell(task="language_confusion"), answers(english, english, "No."))
    steered = table(a_cell(task="language_confusion", factor=2.0), answers(english, french, french))
    by_metric = {(row["metric"], row["factor"]): row for row in rows(baseline, steered)}
    assert [by_metric[name, None]["n"] for name in ("lpr", "lpr,aya", "lpr,okapi")] == [2, 1, 1]
    assert by_metric["lpr", None]["failed"] == 0, "an answer that does not count has not failed"
    assert ("target_lpr", None) not in by_metric
    assert [by_metric[name, 2.0]["value"] for name in ("target_lpr,aya", "target_lpr,okapi")] == [0.0, 1.0]
    assert ("wpr", None) not in by_metric, "undefined for English"


def test_the_same_samples_give_the_same_numbers() -> None:
    tables = [table(a_cell(), scores(0.0, 0.0, 0.0)), table(a_cell(factor=2.0), scores(1.0, -1.0, 1.0))]
    assert rows(*tables) == rows(*tables)


def test_p_values_are_corrected_for_the_languages_that_one_intervention_was_tried_on() -> None:
    plain, right = correctness("000000"), correctness("111111")
    tables = [table(a_cell(task="xcopa"), plain)]
    tables += [table(a_cell(task="xcopa", factor=2.0, languages=[target]), right) for target in ("fr", "tr")]
    tables += [table(a_cell(task="xcopa", factor=3.0), right)]
    summary = rows(*tables)
    assert [row["p_value"] for row in summary] == [None, 2 / 64, 2 / 64, 2 / 64]
    assert [row["p_holm"] for row in summary] == [None, 4 / 64, 4 / 64, 2 / 64]
    assert [row["effect"] for row in summary] == [None, 0.5, 0.5, 0.5]


def test_p_values_of_different_choices_of_tokens_are_not_corrected_together() -> None:
    plain, right = correctness("000000"), correctness("111111")
    tables = [table(a_cell(task="xcopa"), plain)]
    choices: list[dict[str, Any]] = [
        {},
        {"tokens": {"end": 2}},
        {"tokens": {"end": 3}},
        {"part": "answer"},
        {"when": "drift"},
    ]
    for choice in choices:
        tables += [table(a_cell(task="xcopa", factor=2.0, languages=[code], **choice), right) for code in ("fr", "tr")]
    summary = rows(*tables)[1:]
    assert [row["p_holm"] for row in summary] == [4 / 64] * 10
    assert {(row["tokens"], row["when"], row["part"]) for row in summary} == {
        (None, None, None),
        ("end=2", None, None),
        ("end=3", None, None),
        (None, None, "answer"),
        (None, "drift", None),
    }


def test_a_repeat_and_an_instructed_cell_are_compared_with_the_baseline_on_the_same_items() -> None:
    plain = a_cell(task="xcopa")
    french = Instruction(method="prompt_en", language="fr", text="Answer only in French.")
    tables = [
        table(plain, correctness("1100")),
        table(replace(plain, repeat=True), correctness("0100")),
        table(replace(plain, instruction=french), correctness("1111")),
        table(a_cell(task="xcopa", factor=2.0), correctness("1110")),
    ]
    summary = rows(*tables)
    assert [(row["method"], row["target_language"], row["delta"], row["neurons"]) for row in summary] == [
        (None, None, None, 0),
        ("repeat", None, -0.25, 0),
        ("prompt_en", "fr", 0.5, 0),
        ("neurons", "fr", 0.25, 6),
    ]
    assert [row["note"] is not None and NOTHING_CHANGED in row["note"] for row in summary] == [False] * 4


def test_p_values_of_different_methods_are_not_corrected_together() -> None:
    plain = a_cell(task="xcopa")
    instructions = [Instruction(method="prompt_en", language=language, text=language) for language in ("fr", "tr")]
    tables = [table(plain, correctness("000000")), table(replace(plain, repeat=True), correctness("111111"))]
    tables += [table(replace(plain, instruction=instruction), correctness("111111")) for instruction in instructions]
    p_values = {(row["method"], row["target_language"]): row["p_holm"] for row in rows(*tables)}
    assert p_values == {
        (None, None): None,
        ("repeat", None): 2 / 64,
        ("prompt_en", "fr"): 4 / 64,
        ("prompt_en", "tr"): 4 / 64,
    }


def test_one_task_asked_in_two_ways_has_rows_that_can_be_told_apart() -> None:
    def cell_of(temperature: float, **intervention: Any) -> Cell:
        cell = a_cell(task="generation", **intervention)
        return replace(cell, task=replace(cell.task, sampling=(("n", 5), ("temperature", temperature))))

    def answers(*languages: str) -> list[Sample]:
        texts = {"en": "The cat has been sleeping on the sofa.", "fr": "Le chat dort sur le canapé depuis ce matin."}
        return [
            a_sample(str(index), prediction=language, completion=texts[language])
            for index, language in enumerate(languages)
        ]

    tables = []
    for temperature in (0.3, 1.0):
        tables.append(table(cell_of(temperature), answers(*["en"] * 8)))
        steered = [cell_of(temperature, factor=2.0, languages=[target]) for target in ("fr", "tr")]
        tables += [table(cell, answers(*["fr"] * 8)) for cell in steered]
    summary = rows(*tables)
    assert {row["task_options"] for row in summary} == {"n=5, temperature=0.3", "n=5, temperature=1"}
    names = ("task", "task_options", "metric", "target_language", "factor")
    assert len({tuple(row[name] for name in names) for row in summary}) == len(summary)
    corrected = [row for row in summary if row["metric"] == "in_target_language" and row["p_value"] is not None]
    assert len(corrected) == 4
    for row in corrected:
        family = [other["p_value"] for other in corrected if other["task_options"] == row["task_options"]]
        assert row["p_holm"] in [min(1.0, factor * row["p_value"]) for factor in (1, len(family))]


def test_an_interval_that_rests_on_few_items_is_noted() -> None:
    few, enough = ([a_sample(str(index), correct=True, score=1.0) for index in range(count)] for count in (19, 20))
    cell = a_cell(task="xcopa")
    assert [row["note"] for row in rows(table(cell, few))] == ["the interval rests on 19 items"]
    assert [row["note"] for row in rows(table(cell, enough))] == [None]
    steered = a_cell(task="xcopa", factor=2.0)
    assert rows(table(cell, few), table(steered, enough))[1]["note"] == "the interval rests on 19 items"
    assert rows(table(cell, []))[0]["note"] is None


def test_the_mean_over_batches_rests_on_batches() -> None:
    texts = ["Bonjour le monde." if index % 3 else "Bonjour." for index in range(80)]
    written = [a_sample(str(index), completion=text, gold="Bonjour le monde.") for index, text in enumerate(texts)]
    plain = a_cell(task="flores")
    cell = replace(plain, task=replace(plain.task, mode="paper"))
    (row,) = rows(table(cell, written))
    assert (row["metric"], row["n"], row["note"]) == ("bleu_13a", 80, "the interval rests on 10 batches")
    (alike,) = rows(table(cell, written[1:3]))
    assert (alike["ci_low"], alike["note"]) == (None, ALIKE), "one batch"


def test_the_smallest_effect_that_the_items_could_have_shown_stands_beside_the_difference() -> None:
    plain, steered = correctness("1" * 20 + "0" * 20), correctness("1" * 24 + "0" * 16)
    cell = a_cell(task="xcopa")
    first, second = rows(table(cell, plain), table(a_cell(task="xcopa", factor=2.0), steered))
    assert first["mde"] is None
    assert second["mde"] == pytest.approx(2.8016 * 2 / 40, rel=1e-4)
    assert second["note"] is None
    (_, same) = rows(table(cell, plain), table(a_cell(task="xcopa", factor=2.0), plain))
    assert same["mde"] is None
    assert same["note"] == "no minimum detectable effect: the difference from the baseline is the same for every item"
    (_, few) = rows(table(cell, plain[:9]), table(a_cell(task="xcopa", factor=2.0), plain[:9]))
    assert few["mde"] is None
    assert few["note"] == "the interval rests on 9 items"


def test_the_noise_floor_stands_beside_every_difference_of_the_task_whatever_the_order_of_adding() -> None:
    cell = a_cell(task="xcopa")
    baseline = table(cell, correctness("1100000000"))
    repeat = table(replace(cell, repeat=True), correctness("1110000000"))
    steered = table(a_cell(task="xcopa", factor=2.0), correctness("1111100000"))
    for order in ([baseline, repeat, steered], [baseline, steered, repeat]):
        by_method = {row["method"]: row for row in rows(*order)}
        assert by_method["neurons"]["noise"] == pytest.approx(0.1)
        assert by_method["repeat"]["delta"] == pytest.approx(0.1)
        assert by_method[None]["noise"] is None
        assert by_method["repeat"]["noise"] is None
    assert [row["noise"] for row in rows(baseline, steered)] == [None, None]


def test_a_repeat_has_no_row_of_a_metric_that_needs_a_target_language() -> None:
    answers = [a_sample(str(index), prediction="fr", completion="Bonjour", score=1.0) for index in range(20)]
    cell = a_cell(task="generation")
    summary = rows(table(cell, answers), table(replace(cell, repeat=True), answers))
    metrics = {row["metric"] for row in summary if row["method"] == "repeat"}
    assert "in_target_language" not in metrics
    assert "in_data_language" in metrics


def translations(text: str, count: int, *, gold: str = "Bonjour le monde.") -> list[Sample]:
    return [a_sample(str(index), completion=text, gold=gold) for index in range(count)]


def test_items_that_are_alike_have_no_interval_rather_than_one_without_width() -> None:
    cell = a_cell(task="flores")
    baseline, steered = (
        table(cell, translations("Hi", 30)),
        table(a_cell(task="flores", factor=2.0), translations("世", 30)),
    )
    plain, row = (row for row in rows(baseline, steered) if row["metric"] == "chrf++")
    assert (plain["n"], plain["value"], plain["ci_low"], plain["ci_high"]) == (30, 0.0, None, None)
    assert plain["note"] == ALIKE
    assert (row["delta"], row["p_value"], row["delta_ci_low"], row["mde"]) == (0.0, 1.0, None, None)
    assert row["note"] == f"{ALIKE}; {DIFFERENCES_ALIKE}"


def test_a_single_item_has_no_interval_and_shows_no_difference() -> None:
    cell = a_cell(task="flores")
    good = table(a_cell(task="flores", factor=2.0), translations("Bonjour le monde.", 1))
    (row,) = (
        row for row in rows(table(cell, translations("Hi", 1)), good) if row["metric"] == "chrf++" and row["delta"]
    )
    assert (row["delta"], row["p_value"], row["ci_low"], row["delta_ci_low"]) == (100.0, None, None, None)


def test_few_items_are_noted_beside_the_interval_of_the_difference_alone() -> None:
    cell = a_cell(task="flores")
    varied = [*translations("Bonjour le monde.", 3), *[replace(each, doc_id="x") for each in translations("Hi", 1)]]
    alike = [replace(each, completion="世") for each in varied]
    tables = table(cell, varied), table(a_cell(task="flores", factor=2.0), alike)
    (row,) = (row for row in rows(*tables) if row["metric"] == "chrf++" and row["delta"])
    assert row["delta_ci_low"] < row["delta_ci_high"]
    assert row["note"] == f"{ALIKE}; the interval rests on 4 items"
