from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ampsweep.errors import InvalidRequest, UnknownName
from jobs.metrics.registry import metric_for
from jobs.plugins import installed_plugins
from jobs.tasks.registry import releases_of, task_for
from tests.plugin import write_distribution

TASK = """
from jobs.tasks.built_in.include import Include

class Exam(Include):
    name = "exam"
"""
METRIC = """
from jobs.metrics.accuracy import Accuracy

class Broken(Accuracy):
    name = "broken"

    def evaluate(self, samples, rng):
        raise ZeroDivisionError("no items")

class Elsewhere(Accuracy):
    name = "elsewhere"
    columns = ("correct", "temperature")
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed distributions that is on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    installed_plugins.cache_clear()
    yield tmp_path
    installed_plugins.cache_clear()
    for name in ("third_exam", "fourth_exam", "third_metric"):
        sys.modules.pop(name, None)


def test_a_plugin_is_imported_when_it_is_asked_for(site: Path) -> None:
    write_distribution(site, "third-exam", TASK, tasks="exam = MODULE:Exam")
    assert task_for("include").name == "include"
    assert "third_exam" not in sys.modules
    task = task_for("exam")
    assert (task.name, releases_of(task)) == ("exam", ("third-exam==1.0",))
    assert releases_of(task_for("include")) == ()


def test_unknown_names_list_plugins_without_importing_them(site: Path) -> None:
    write_distribution(
        site, "third-exam", "raise ValueError", tasks="exam = MODULE:Exam", metrics="broken = MODULE:Broken"
    )
    with pytest.raises(UnknownName, match="known: clas, exam, flores,"):
        task_for("exma")
    with pytest.raises(UnknownName, match="known: accuracy, bleu_13a, bleu_flores200, broken,"):
        metric_for("brokn")


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("class Other: pass", "AttributeError: module 'third_exam' has no attribute 'Exam'"),
        ("def Exam(): raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("class Exam: name = 'exam'", "it has no version, metrics, needs_target_language,"),
        (TASK.replace('"exam"', '"test"'), "its task is named 'test'; it must be named as the entry point"),
    ],
)
def test_a_plugin_that_cannot_be_used_names_distribution_entry_point_and_cause(
    site: Path, code: str, cause: str
) -> None:
    write_distribution(site, "third-exam", code, tasks="exam = MODULE:Exam")
    with pytest.raises(InvalidRequest) as caught:
        task_for("exam", param="tasks.0.name")
    assert caught.value.message.startswith(
        f"task 'exam' of third-exam==1.0 (entry point third_exam:Exam in ampsweep.tasks) cannot be used: {cause}"
    )
    assert caught.value.param == "tasks.0.name"
    assert task_for("include").name == "include", "it troubles nobody else"


def test_two_plugins_of_one_name_are_an_error_that_names_both(site: Path) -> None:
    write_distribution(site, "third-exam", TASK, tasks="exam = MODULE:Exam")
    write_distribution(site, "fourth-exam", TASK, tasks="exam = MODULE:Exam", version="2.0")
    with pytest.raises(InvalidRequest, match=r"defined by \S+-exam==\d.0 and by \S+-exam==\d.0") as caught:
        task_for("exam")
    assert all(release in caught.value.message for release in ("third-exam==1.0", "fourth-exam==2.0"))


def test_a_plugin_cannot_take_the_place_of_a_built_in_one(site: Path) -> None:
    write_distribution(site, "third-exam", TASK, tasks="include = MODULE:Exam", metrics="accuracy = MODULE:Exam")
    with pytest.raises(
        InvalidRequest, match=r"task 'include' is defined by ampsweep and by third-exam==1.0; uninstall"
    ):
        task_for("include")
    with pytest.raises(InvalidRequest, match=r"metric 'accuracy' is defined by ampsweep and by third-exam==1.0"):
        metric_for("accuracy")
    assert task_for("xcopa").name == "xcopa"
    assert "third_exam" not in sys.modules


def test_a_metric_that_fails_has_a_note_instead_of_a_value(site: Path) -> None:
    write_distribution(site, "third-metric", METRIC, metrics="broken = MODULE:Broken")
    metric = metric_for("broken")
    samples = pa.table({"correct": [True, False]})
    failed = metric.evaluate(samples, np.random.default_rng(0))
    assert failed is not None
    assert (failed.n, failed.value) == (2, None)
    assert failed.note is not None
    assert failed.note.startswith("metric 'broken' of third-metric==1.0")
    assert failed.note.endswith("failed: ZeroDivisionError: no items")
    compared = metric.compare(samples, samples, np.random.default_rng(0))
    assert compared is not None
    assert (compared.value, compared.delta) == (0.5, 0.0), "its other method is fine"


def test_a_metric_over_columns_that_samples_lack_is_refused(site: Path) -> None:
    write_distribution(site, "third-metric", METRIC, metrics="elsewhere = MODULE:Elsewhere")
    with pytest.raises(InvalidRequest, match="it reads temperature, which is not a column of the samples; columns: "):
        metric_for("elsewhere")


def test_a_task_has_the_releases_of_its_metrics(site: Path) -> None:
    code = f"{TASK}    metrics = (metric_for('broken'),)\n"
    code = f"from jobs.metrics.registry import metric_for\n{code}"
    write_distribution(site, "third-exam", code, tasks="exam = MODULE:Exam", version="3.1")
    write_distribution(site, "third-metric", METRIC, metrics="broken = MODULE:Broken")
    assert releases_of(task_for("exam")) == ("third-exam==3.1", "third-metric==1.0")
