from __future__ import annotations

from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from jobs.results.ranking import rank_neurons, ranking_metric


def row(layer: int | None, index: int | None, delta: float | None, **changes: Any) -> dict[str, Any]:
    """A row of accuracy in French under the ablation of one French neuron."""
    return {
        "metric": "accuracy",
        "higher_is_better": True,
        "no_effect": None,
        "data_language": "fr",
        "target_language": "fr",
        "neuron_layer": layer,
        "neuron_index": index,
        "value": 0.5,
        "delta": delta,
        **changes,
    }


def order(rows: list[dict[str, Any]], metric: str = "accuracy") -> list[tuple[int, int, float]]:
    return [(each.layer, each.index, each.loss) for each in rank_neurons(rows, metric)["fr"]]


def test_the_neuron_whose_ablation_costs_most_comes_first_and_ties_go_to_the_lower_layer() -> None:
    rows = [row(1, 4, 0.25), row(2, 0, -0.125), row(0, 9, -0.125), row(3, 3, -0.5), row(None, None, None)]
    assert order(rows) == [(3, 3, 0.5), (0, 9, 0.125), (2, 0, 0.125), (1, 4, -0.25)]


def test_a_rise_is_the_loss_where_lower_is_better() -> None:
    nll = {"metric": "nll", "higher_is_better": False}
    assert order([row(0, 1, 0.5, **nll), row(0, 2, -0.5, **nll)], "nll") == [(0, 1, 0.5), (0, 2, -0.5)]


def test_the_loss_is_the_mean_in_the_own_language_and_apart_from_that_elsewhere() -> None:
    rows = [row(0, 1, -0.5), row(0, 1, -0.25), row(0, 1, -1.0, data_language="tr"), row(0, 1, 0, data_language="en")]
    (only,) = rank_neurons(rows, "accuracy")["fr"]
    assert (only.loss, only.loss_elsewhere, only.cells) == (0.375, 0.5, 2)
    (neuron,) = rank_neurons(rows[:1], "accuracy")["fr"]
    assert neuron.loss_elsewhere is None


def test_lss_is_compared_with_a_half_over_all_base_languages() -> None:
    lss = {"metric": "lss", "no_effect": 0.5}
    rows = [
        row(0, 1, None, value=0.25, data_language="en", **lss),
        row(0, 1, None, value=0.5, data_language="tr", **lss),
        row(0, 2, None, value=0.75, data_language="en", **lss),
    ]
    assert order(rows, "lss") == [(0, 1, 0.125), (0, 2, -0.25)]


def test_a_cell_without_a_value_counts_for_nothing() -> None:
    assert order([row(0, 1, -0.5), row(0, 1, None, value=None), row(0, 2, None, value=None)]) == [(0, 1, 0.5)]


@pytest.mark.parametrize(
    ("column", "one", "other", "named"),
    [
        ("tokens", "to 8", None, "'to 8', all tokens"),
        ("tokens", "to 8", "to 9", "'to 8', 'to 9'"),
        ("when", "drift", None, "'drift', at every token"),
        ("part", "thinking", "answer", "'answer', 'thinking'"),
        ("op", "set", "scale", "'scale', 'set'"),
    ],
)
def test_choices_of_the_op_and_the_edited_tokens_are_not_averaged(
    column: str, one: str, other: str | None, named: str
) -> None:
    rows = [row(0, 1, -0.5, **{column: one}), row(0, 1, -0.25, **{column: other}), row(None, None, None)]
    with pytest.raises(InvalidRequest, match=rf"several choices of {column} \({named}\).*run it with one") as caught:
        rank_neurons(rows, "accuracy")
    assert caught.value.param == "sweep"
    assert order(rows[:1]) == [(0, 1, 0.5)]
    elsewhere = [rows[0], {**rows[1], "metric": "nll"}, row(None, None, -0.5)]
    assert order(elsewhere) == [(0, 1, 0.5)], "other metrics and cells without a neuron do not count"


def test_a_sweep_without_single_neurons_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="neurons: each") as caught:
        ranking_metric([row(None, None, -0.5)], None)
    assert caught.value.param == "sweep"


def test_the_only_metric_with_a_direction_need_not_be_named() -> None:
    rows = [row(0, 1, -0.5), row(0, 1, 3, metric="answer_tokens", higher_is_better=None)]
    assert ranking_metric(rows, None) == "accuracy"
    rows.append(row(0, 1, 3, metric="nll", higher_is_better=False))
    assert ranking_metric(rows, "nll") == "nll"
    for metric, message in ((None, "has several"), ("answer_tokens", "got 'answer_tokens'")):
        with pytest.raises(InvalidRequest, match=f"accuracy or nll.*{message}") as caught:
            ranking_metric(rows, metric)
        assert caught.value.param == "metric"


def test_data_in_other_languages_alone_ranks_nothing() -> None:
    with pytest.raises(InvalidRequest, match="data in its own language"):
        rank_neurons([row(0, 1, -0.5, data_language="tr")], "accuracy")
