"""The summary of a sweep as it is printed: a line for each way to edit."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.cli.terminal.summary import show_summary
from jobs.results.best_factors import best_factors
from jobs.results.schema import SUMMARY


def row(factor: float, value: float, **columns: Any) -> dict[str, Any]:
    shared = {"model": "tiny", "task": "xcopa", "mode": "corrected", "metric": "accuracy", "data_language": "fr"}
    steered = {"method": "neurons", "target_language": "fr", "op": "set", "patch": "max", "layers": "all", "neurons": 4}
    values = {"n": 40, "higher_is_better": True, "factor": factor, "value": value}
    return {**dict.fromkeys(SUMMARY.names), **shared, **steered, **values, **columns}


def test_every_choice_of_tokens_has_a_line_with_its_best_factor(capsys: pytest.CaptureFixture[str]) -> None:
    choices: list[dict[str, str]] = [{}, {"tokens": "end=8"}, {"when": "drift", "part": "answer"}]
    rows = [
        row(factor, value, **columns)
        for columns, values in zip(choices, ((0.1, 0.2), (0.4, 0.3), (0.5, 0.6)), strict=True)
        for factor, value in zip((1.0, 2.0), values, strict=True)
    ]
    show_summary(rows, best_factors(rows, "accuracy"), rest="elsewhere")
    _title, factors, *lines = capsys.readouterr().out.splitlines()
    assert factors.split() == ["=", "1", "=", "2"]
    assert [" ".join(line.split()) for line in lines] == [
        "fr set max 0.100 0.200 best at 2",
        "fr set max tokens end=8 0.400 0.300 best at 1",
        "fr set max when drift part answer 0.500 0.600 best at 2",
    ]


def test_rows_of_servers_without_these_columns_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{name: value for name, value in row(2.0, 0.5).items() if name not in ("tokens", "when", "part")}]
    show_summary(rows, [], rest="elsewhere")
    assert capsys.readouterr().out.splitlines()[-1].split() == ["fr", "set", "max", "0.500"]


def printed(capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]]) -> list[str]:
    show_summary(rows, [], rest="elsewhere")
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(("op", "heads"), [("scale", "x 1 x 2"), ("set", "= 1 = 2"), ("add", "+ 1 + 2")])
def test_the_heads_of_the_factors_say_what_the_op_does(capsys: pytest.CaptureFixture[str], op: str, heads: str) -> None:
    assert printed(capsys, [row(factor, 0.5, op=op) for factor in (1.0, 2.0)])[1] == heads
    both = [row(1.0, 0.5, op="set"), row(2.0, 0.5, op="add")]
    assert printed(capsys, both)[1] == "1 2", "several ops have no common sign"


@pytest.mark.parametrize(
    ("values", "mark"),
    [
        ((1.0, 1.0, 1.0), "all factors tie"),
        ((0.5, 1.0, 1.0), "2 and 3 tie"),
        ((0.5, 1.0, 0.9), "best at 2"),
    ],
)
def test_a_tie_has_no_best_factor(capsys: pytest.CaptureFixture[str], values: tuple[float, ...], mark: str) -> None:
    rows = [row(factor, value) for factor, value in zip((1.0, 2.0, 3.0), values, strict=True)]
    assert printed(capsys, rows)[-1].endswith(mark)


def test_a_factor_that_lacks_data_languages_is_named_and_not_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row(factor, value, data_language=data) for factor, value in ((1.0, 0.5), (2.0, 0.4)) for data in ("fr", "it")
    ]
    rows += [row(3.0, 0.9), {**row(4.0, 0.9), "value": None}]
    assert printed(capsys, rows)[-1].endswith("best at 1 (without 3: fewer data languages)")


def test_of_equally_good_factors_the_best_one_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    factors = (1.0, 2.0, 3.0)
    shifts = [row(factor, 1.0, task="lss", metric="lss") for factor in factors]
    controls = [
        row(factor, value, task="generation", metric="lfs", data_language="en")
        for factor, value in zip(factors, (0.0, 0.9, 0.2), strict=True)
    ]

    def line_of_lss(rows: list[dict[str, Any]]) -> str:
        show_summary(rows, best_factors(rows), rest="elsewhere")
        lines = capsys.readouterr().out.splitlines()
        return lines[next(index for index, line in enumerate(lines) if line.startswith("lss")) + 2]

    assert line_of_lss([*shifts, *controls]).endswith("all factors tie; 2 has the best language control")
    gain = {"task": "perplexity", "metric": "nll", "higher_is_better": False, "baseline": 4.0}
    gains = [row(factor, 4.0 - factor, **gain, delta=-factor) for factor in factors]
    assert line_of_lss([*shifts, *gains]).endswith("all factors tie; 3 gains most in the language itself")
    assert line_of_lss(shifts).endswith("all factors tie"), "the smallest factor is no better than the others"
    shifts[0]["value"] = 0.5
    assert line_of_lss([*shifts, *controls]).endswith("2 and 3 tie; 2 has the best language control")


def test_the_metric_that_a_sweep_is_about_comes_first_with_its_unsteered_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain: dict[str, Any] = {"method": None, "target_language": None, "op": None, "patch": None, "layers": None}
    generation = {"task": "generation", "data_language": "en"}
    rows = [
        row(None, 20.0, metric="length", higher_is_better=None, **generation, **plain),  # type: ignore[arg-type]
        *(row(f, 20.0, metric="length", higher_is_better=None, **generation) for f in (1.0, 2.0)),
        *(row(f, f / 4, metric="in_target_language", baseline=0.125, **generation) for f in (1.0, 2.0)),
    ]
    lines = printed(capsys, rows)
    assert lines[0] == "generation: in_target_language, mean over data languages"
    assert lines[2:4] == ["unsteered, in fr 0.125", "fr set max 0.250 0.500 best at 2"]
    assert lines[4] == "generation: length, mean over data languages"
    assert lines[6:] == ["unsteered 20.000", "fr set max 20.000 20.000"]


def test_differences_in_the_target_language_itself_follow_the_means(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row(factor, 0.5 + delta, data_language=data, delta=delta, p_holm=p)
        for data, values in (
            ("fr", ((1.0, 0.25, 0.04), (2.0, 0.125, 0.06))),
            ("it", ((1.0, -0.4, 0.01), (2.0, 0.0, 1.0))),
        )
        for factor, delta, p in values
    ]
    random: dict[str, Any] = {"selection": "random", "data_language": "fr", "p_holm": 0.01}
    rows += [row(1.0, 0.5, delta=delta, random_seed=seed, **random) for seed, delta in enumerate((0.1, 0.2))]
    prompt: dict[str, Any] = {"method": "prompt_en", "op": None, "patch": None, "layers": None, "p_holm": 0.03}
    rows.append(row(None, 0.3, delta=-0.2, **prompt))  # type: ignore[arg-type]
    lines = printed(capsys, rows)
    assert lines[-4:] == [
        "in the target language itself, minus unsteered (*: p < 0.05 after Holm's correction)",
        "fr, prompt_en -0.200*",
        "fr set max +0.250* +0.125",
        "fr set max, random +0.150 -",
    ]
    same = [row(1.0, 0.5, data_language=data, delta=0.0) for data in ("fr", "it")]
    assert printed(capsys, same)[-1] == "in the target language itself: no difference from unsteered"
    assert not any("itself" in line for line in printed(capsys, same[:1])), "the mean over one language is itself"


def test_a_metric_without_any_value_is_one_line_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        {**row(factor, 0.0, metric="bleu"), "value": None, "note": "no model"} for factor in (1.0, 2.0)
    ]
    assert printed(capsys, rows) == ["xcopa: bleu: no values (no model)"]


def test_a_metric_with_the_name_of_its_task_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, [row(1.0, 1.0, task="lss", metric="lss")])[0] == "lss, mean over data languages"
    nll = row(1.0, 2.0, task="perplexity", metric="nll", higher_is_better=False)
    assert printed(capsys, [nll])[0] == "log-perplexity: nll (lower is better), mean over data languages"


def test_items_that_a_task_leaves_out_are_counted_beside_few_items(capsys: pytest.CaptureFixture[str]) -> None:
    few = row(1.0, 1.0, n=19, left_out=5, note="the interval rests on 19 items")
    assert printed(capsys, [few])[-1].endswith("intervals rest on 19 items (5 left out)")


def test_tables_beyond_one_screen_are_named_and_the_important_ones_printed(capsys: pytest.CaptureFixture[str]) -> None:
    languages = ("fr", "it", "tr", "ja", "id", "vi", "zh", "sw")
    metrics = ("length", "lpr,dolly", "lpr", "repetition", "one", "two", "three", "in_target_language")
    rows = [
        row(1.0, 0.5, task="generation", metric=metric, target_language=language, data_language="en", baseline=0.25)
        for metric in metrics
        for language in languages
    ]
    perplexity: dict[str, Any] = {"task": "perplexity", "metric": "perplexity", "higher_is_better": False}
    rows += [row(1.0, 9.0, **perplexity)]
    rows += [{**row(1.0, 0.0, task="flores", metric="bleu"), "value": None, "note": "no tokenizer"}]
    lines = printed(capsys, rows)
    titles = [line for line in lines if "mean over" in line]
    assert [title.split(",")[0] for title in titles] == [
        "generation: in_target_language",
        "perplexity (lower is better)",
        "generation: length",
        "generation: lpr",
    ]
    assert "flores: bleu: no values (no tokenizer)" in lines
    assert lines[-2:] == [
        "not shown: generation: repetition; generation: one; generation: two; generation: three; and 1 more",
        "all values are elsewhere",
    ]
    assert len(lines) <= 50


def test_a_table_longer_than_the_screen_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(1.0, 0.5, layers=f"{layer}") for layer in range(60)]
    lines = printed(capsys, rows)
    assert len(lines) == 50
    assert lines[-2] == "not shown: 14 more lines of xcopa: accuracy"


def test_interventions_without_neurons_share_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row(1.0, 0.5, target_language=language, neurons=neurons, selection=selection)
        for language, neurons in (("fr", 0), ("it", 0), ("tr", 4))
        for selection in (None, "random")
    ]
    rows += [row(1.0, 0.5, target_language="tr", neurons=0, selection="non_language")]
    assert printed(capsys, rows)[2:] == [
        "tr set max 0.500",
        "tr set max, random 0.500",
        "no neurons, nothing was changed: fr set max; it set max; tr set max, non_language",
    ]


def test_a_long_table_has_the_neurons_and_random_ones_before_everything_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        row(1.0, 0.5, target_language=target, data_language=data, selection=selection, delta=0.25)
        for target in ("fr", "it", "tr")
        for selection in (None, "random", "other", "non_language")
        for data in ("fr", "it", "tr")
    ]
    lines = printed(capsys, rows)
    assert [line.split(" set max")[0] for line in lines[2:8]] == ["fr", "fr", "it", "it", "tr", "tr"]
    assert lines[8:] == ["not shown: 19 more lines of xcopa: accuracy", "all values are elsewhere"]
