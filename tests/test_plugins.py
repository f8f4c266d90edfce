"""The plug-in of docs/bring-a-task.md, installed by pip: every process finds it, from the spec to the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ampsweep.bundled import ATLAS_CORPUS
from tests.docs.pages import DOCS, ROOT
from tests.jobs.cluster import write_jsonl
from tests.plugin import install_page_plugin

pytestmark = pytest.mark.processes

RELEASE = "ampsweep-yes-no==1.0"
QUESTIONS = [{"question": f"Is {number} even?", "label": number % 2} for number in range(6)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_page_plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that the fake engine takes, and the questions."""
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text(json.dumps({"num_hidden_layers": 4, "intermediate_size": 32}))
    (tmp_path / "tiny" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "data" / "yes_no").mkdir(parents=True)
    write_jsonl(tmp_path / "data" / "yes_no" / "en.jsonl", QUESTIONS)
    (tmp_path / "spec.json").write_text(json.dumps(sweep_of("yes_no")))
    return tmp_path


def sweep_of(task: str) -> dict[str, Any]:
    return {
        "model": "tiny",
        "neurons": {"method": "random", "corpus": "atlas", "languages": ["en", "fr"]},
        "interventions": {"languages": ["fr"], "op": "scale", "factors": [2.0]},
        "tasks": [{"name": task, "languages": ["en"], "limit": 5}],
    }


def ampsweep(folder: Path, site: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *([site] if site else [])]))}
    command = [sys.executable, "-m", "ampsweep.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def run(folder: Path, site: Path | None) -> subprocess.CompletedProcess[str]:
    options = ["--engine", "fake", "--data", "data", "--corpus", f"atlas={ATLAS_CORPUS}"]
    return ampsweep(folder, site, "run", "spec.json", "--out", "out", *options, "--json")


def test_a_sweep_asks_a_task_and_reports_a_metric_of_a_plugin(folder: Path, site: Path) -> None:
    ended = run(folder, site)
    assert ended.returncode == 0, ended.stderr
    samples = pq.read_table(folder / "out" / "results.parquet")
    assert samples["task"].to_pylist() == ["yes_no"] * 10, "five items, unsteered and steered"
    sums = [
        (sum(values[:first]), sum(values[first:]))
        for values, (first, _) in zip(samples["logprobs"].to_pylist(), samples["call_tokens"].to_pylist(), strict=True)
    ]
    assert samples["prediction"].to_pylist() == [str(int(no > yes)) for yes, no in sums]
    assert samples["gold"].to_pylist() == ["0", "1", "0", "1", "0"] * 2
    rows = json.loads(ended.stdout)["summary"]["rows"]
    assert [(row["metric"], row["factor"]) for row in rows] == [
        ("accuracy", None),
        ("margin", None),
        ("accuracy", 2.0),
        ("margin", 2.0),
    ]
    margins = [abs(yes - no) for yes, no in sums]
    assert rows[1]["value"] == pytest.approx(sum(margins[:5]) / 5)
    assert rows[3]["delta"] == pytest.approx(sum(margins[5:]) / 5 - sum(margins[:5]) / 5)
    (data,) = json.loads(samples.schema.metadata[b"ampsweep.sources"])["data"]
    assert data["plugins"] == [RELEASE]


def test_the_report_names_the_plugin_and_does_not_need_it(folder: Path, site: Path) -> None:
    assert run(folder, site).returncode == 0
    for index in (site, None):
        made = ampsweep(folder, index, "report", "out", "--out", "report.html")
        assert made.returncode == 0, made.stderr
        assert f"yes_no of {RELEASE} in en" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_new_version_of_a_plugin_makes_new_cells(folder: Path, site: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "ampsweep_yes_no").symlink_to(site / "ampsweep_yes_no")
    (info,) = site.glob("*.dist-info")
    (newer / info.name.replace("1.0", "1.1")).mkdir()
    for path in info.glob("*"):
        if path.is_file():
            text = path.read_text().replace("Version: 1.0", "Version: 1.1")
            (newer / info.name.replace("1.0", "1.1") / path.name).write_text(text)
    planned = [planned_cells(folder, index) for index in (site, newer)]
    assert planned[0]["yes_no"] != planned[1]["yes_no"]
    assert planned[0]["xcopa"] == planned[1]["xcopa"], "a built-in task's cells do not depend on plug-ins"


def planned_cells(folder: Path, site: Path) -> dict[str, list[str]]:
    """Return the ids of the cells of the plug-in's task and of a built-in one, as another process plans them."""
    (folder / "data" / "xcopa").mkdir(exist_ok=True)
    row = {"idx": 1, "premise": "a.", "choice1": "b", "choice2": "c", "question": "cause", "label": 0}
    write_jsonl(folder / "data" / "xcopa" / "test.it.jsonl", [row])
    specs = {"yes_no": sweep_of("yes_no"), "xcopa": sweep_of("xcopa")}
    specs["xcopa"]["tasks"][0]["languages"] = ["it"]
    code = f"""
import json
from pathlib import Path
from ampsweep.bundled import ATLAS_CORPUS
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.spec.sweep import parse_spec
catalog = Catalog(models={{"tiny": Path("tiny")}}, corpora={{"atlas": ATLAS_CORPUS}}, data=Path("data"), engine="fake")
specs = json.loads({json.dumps(specs)!r})
plans = {{name: plan(parse_spec(spec), catalog, NeuronSets(Path("sets"))) for name, spec in specs.items()}}
print(json.dumps({{name: [cell.id for cell in cells] for name, cells in plans.items()}}))
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    cells: dict[str, list[str]] = json.loads(printed)
    return cells


def test_without_the_plugin_the_task_is_unknown(folder: Path) -> None:
    ended = run(folder, None)
    assert ended.returncode == 2
    error = json.loads(ended.stderr)["error"]
    assert (error["code"], error["param"]) == ("unknown_name", "tasks.0.name")


def test_doctor_lists_plugins(folder: Path, site: Path) -> None:
    listed = [json.loads(line) for line in ampsweep(folder, site, "doctor", "--json").stdout.splitlines()]
    details = [finding["detail"] for finding in listed if finding["subject"] == "plug-in"]
    assert [detail.split(" (")[0] for detail in details] == [
        f"task 'yes_no' of {RELEASE}",
        f"metric 'margin' of {RELEASE}",
    ]


def test_the_contributing_recipes_hold_for_every_built_in_task_and_metric() -> None:
    """Each has its test, and its line in the documentation."""
    from jobs.metrics.registry import BUILT_IN_METRICS
    from jobs.tasks.registry import BUILT_IN_TASKS

    tasks, method = ((DOCS / page).read_text(encoding="utf-8") for page in ("tasks.md", "method.md"))
    for name, create in BUILT_IN_TASKS.items():
        assert f"| `{name}` |" in tasks, f"docs/tasks.md has no row for {name}"
        folder, _, module = type(create(False)).__module__.replace(".", "/").rpartition("/")
        assert (ROOT / "tests" / folder / f"test_{module}.py").is_file(), f"{name} has no test"
        for metric in create(False).metrics:
            assert metric.name in BUILT_IN_METRICS, f"{metric.name} of {name} is not registered"
    for name in BUILT_IN_METRICS:
        assert f"`{name}`" in tasks or f"`{name}`" in method, f"neither docs/tasks.md nor docs/method.md has {name}"
