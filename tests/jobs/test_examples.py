"""The specs in `examples/` can be read, and planned where their data is."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ampsweep.bundled import ATLAS_CORPUS, ATLAS_FOLDER, ATLAS_MODEL
from ampsweep.cli.app import app
from ampsweep.documents import read_spec
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.spec.sweep import SweepSpec, parse_spec
from tests.jobs.tasks.real_data import DATA, needs

EXAMPLES = Path(__file__).parents[2] / "examples"


def spec_of(name: str) -> SweepSpec:
    return parse_spec(read_spec(EXAMPLES / name))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """The bundled model, and a hollow one of Qwen2.5-0.5B's shape."""
    qwen = tmp_path / "qwen"
    qwen.mkdir()
    (qwen / "config.json").write_text(json.dumps({"num_hidden_layers": 24, "intermediate_size": 4864}))
    (qwen / "model.safetensors").write_bytes(b"weights")
    return Catalog(
        models={"atlas": ATLAS_MODEL, "Qwen2.5-0.5B-Instruct": qwen},
        corpora={"atlas": ATLAS_CORPUS, "flores200": DATA / "flores200" / "dev"},
        atlas=ATLAS_FOLDER,
        data=DATA if DATA.is_dir() else None,
        engine="fake",
    )


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_spec(path: Path) -> None:
    assert spec_of(path.name).tasks


@pytest.mark.processes  # takes seconds
@needs("flores200")
@needs("xcopa")
@pytest.mark.parametrize("name", ["atlas-paper.yaml", "paper.yaml"])
def test_the_papers_grid_has_every_target_patch_value_factor_and_control(catalog: Catalog, name: str) -> None:
    spec = spec_of(name)
    cells = plan(spec, catalog, NeuronSets(Path("nowhere")))
    interventions = [cell.intervention for cell in cells if cell.intervention and cell.task.name == "xcopa"]
    counts = Counter((each.patch, each.factor, each.selection) for each in interventions)
    assert len(counts) == 2 * 3 * 3
    (count,) = set(counts.values())
    languages = {len(task.languages) for task in spec.tasks if task.name == "xcopa"}
    assert count == len(spec_targets(spec)) * languages.pop()


def spec_targets(spec: SweepSpec) -> tuple[str, ...]:
    raw = spec.to_dict()
    return tuple(raw["interventions"].get("languages") or raw["neurons"]["languages"])


@pytest.mark.processes  # runs the bundled model for seconds
def test_language_arithmetic_is_one_spec_and_runs_with_its_baselines_and_controls(tmp_path: Path) -> None:
    corpus = tmp_path / "few"
    corpus.mkdir()
    for language in ("en", "fr", "ru", "tr"):
        with gzip.open(ATLAS_CORPUS / f"{language}.txt.gz", "rt", encoding="utf-8") as lines:
            (corpus / f"{language}.txt").write_text("".join(islice(lines, 60)), encoding="utf-8")
    spec = read_spec(EXAMPLES / "language-arithmetic.yaml")
    spec["neurons"] |= {"corpus": "few", "languages": ["en", "fr", "ru", "tr"]}
    spec["interventions"] |= {"languages": ["fr"], "factors": [2]}
    spec["tasks"] = [{"name": "lss", "languages": ["en"], "limit": 4}]
    path, out = tmp_path / "spec.json", tmp_path / "out"
    path.write_text(json.dumps(spec), encoding="utf-8")
    command = ["run", str(path), "--engine", "transformers", "--corpus", f"few={corpus}", "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    rows = {(row["method"], row["selection"]): row for row in pq.read_table(out / "summary.parquet").to_pylist()}
    prompts = {("prompt_en", None), ("prompt_native", None)}
    assert set(rows) == {("repeat", None), *prompts, ("neurons", None), ("neurons", "random")}
    assert {key: row["target_language"] for key, row in rows.items()} == dict.fromkeys(rows, "fr")
    assert all(row["n"] + row["left_out"] == 4 for row in rows.values())
    assert rows["neurons", None]["neurons"] > 0
    assert rows["neurons", None]["value"] == 1.0
    samples = pq.read_table(out / "results.parquet").to_pylist()
    scores = {method: [row["score"] for row in samples if row["method"] == method] for method in (None, "repeat")}
    assert scores["repeat"] == pytest.approx(scores[None], abs=1e-4)
