"""The noise floor: the difference of a repeated baseline, by task, metric and, where it matters, target language."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from jobs.metrics.accuracy import Accuracy
from jobs.metrics.language_share import IN_TARGET
from jobs.metrics.shift import Shift
from jobs.results.noise import NoiseFloor
from tests.jobs.cluster import a_cell


def correctness(text: str) -> pa.Table:
    return pa.table({"correct": pa.array([letter == "1" for letter in text], pa.bool_())})


def test_it_is_the_absolute_difference_of_the_repeat_on_the_same_task() -> None:
    cell, other = a_cell(task="xcopa"), a_cell(task="xwinograd")
    noise = NoiseFloor()
    noise.add(cell, repeat=correctness("1100000000"), baseline=correctness("1110000000"))
    assert noise.floor(cell.task, Accuracy(), "fr") == pytest.approx(0.1)
    assert noise.floor(replace(cell.task, data_language="it"), Accuracy(), "fr") is None
    assert noise.floor(other.task, Accuracy(), "fr") is None


def test_a_metric_without_a_difference_has_no_floor() -> None:
    cell = a_cell()
    scores = pa.table({"score": [0.1, 0.2]})
    noise = NoiseFloor()
    noise.add(cell, repeat=scores, baseline=scores)
    assert noise.floor(cell.task, Shift(), "fr") is None


def test_of_a_metric_of_the_target_language_each_target_has_its_own() -> None:
    def answers(*languages: str) -> pa.Table:
        columns = {"prediction": list(languages), "doc_id": list(map(str, range(len(languages))))}
        return pa.table({**columns, "target_language": pa.nulls(len(languages), pa.string())})

    cell = a_cell(task="generation")
    noise = NoiseFloor()
    noise.add(cell, repeat=answers("fr", "fr", "ja", "en"), baseline=answers("fr", "en", "ja", "en"))
    assert noise.floor(cell.task, IN_TARGET, "fr") == pytest.approx(0.25)
    assert noise.floor(cell.task, IN_TARGET, "ja") == 0.0
