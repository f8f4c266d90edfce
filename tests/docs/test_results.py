"""The page on results: its queries run on a small sweep and agree, and its tables list every column."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ampsweep.cli.app import app
from jobs.results.schema import SAMPLES, SUMMARY
from tests.docs.pages import DOCS, ROOT, blocks, prose

PAGE = DOCS / "results.md"
LANGUAGES = ["fr", "it", "tr"]
SPEC: dict[str, Any] = {
    "name": "study",
    "model": "tiny",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": LANGUAGES},
    "interventions": {"languages": ["it", "tr"], "op": "scale", "factors": [0.5, 2], "controls": ["random"]},
    "tasks": [
        {"name": "lss", "languages": LANGUAGES, "limit": 8},
        {"name": "perplexity", "languages": LANGUAGES, "data": "mine", "split": "test"},
        {"name": "xcopa", "languages": ["it", "tr"]},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `study` and `other` are finished sweeps on the fake engine, with other neurons."""
    home = tmp_path_factory.mktemp("results")
    model = home / "tiny"
    for path in (model, home / "data" / "mine" / "test", home / "data" / "xcopa"):
        path.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps({"num_hidden_layers": 4, "intermediate_size": 32}))
    (model / "model.safetensors").write_bytes(b"weights")
    for code in LANGUAGES:
        (home / "data" / "mine" / "test" / f"{code}.txt").write_text("".join(f"{code} {n}\n" for n in range(6)))
        rows = [
            {
                "idx": n,
                "premise": f"{code} {n}.",
                "choice1": f"a{n}",
                "choice2": f"b{n}",
                "question": "cause",
                "label": n % 2,
            }
            for n in range(12)
        ]
        (home / "data" / "xcopa" / f"test.{code}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = {**SPEC["neurons"], "top_rate": 0.1}
    for name, neurons in (("study", SPEC["neurons"]), ("other", other)):
        spec = home / f"{name}.yaml"
        spec.write_text(yaml.safe_dump({**SPEC, "model": str(model), "neurons": neurons}))
        arguments = ["run", str(spec), "--out", str(home / name), "--data", str(home / "data")]
        done = CliRunner().invoke(app, [*arguments, "--engine", "fake"])
        assert done.exit_code == 0, done.output
    return home


@pytest.mark.processes  # runs a sweep and three libraries for seconds
def test_the_three_answers_to_each_question_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    answers: dict[str, list[list[tuple[Any, ...]]]] = {}
    for heading, code in _by_heading():
        names: dict[str, Any] = {}
        exec(compile(code, str(PAGE), "exec"), names)
        if "answer" in names:
            answers.setdefault(heading, []).append(_rows(names["answer"]))
    assert len(answers) == 5
    for heading, (duck, pandas, polars) in answers.items():
        assert len(duck) >= 4, heading
        assert _rounded(duck) == _rounded(pandas) == _rounded(polars), heading
    gained = sum(row[2] + row[3] for row in answers["Which items changed"][0])
    assert gained > 0, "the sweep must be one in which something changes"
    between = answers["Two sweeps on the same items"][0]
    assert sum(row[4] + row[5] for row in between) > 0, "the sweeps must differ"
    assert all(row[3] - row[2] == pytest.approx((row[4] - row[5]) / 24) for row in between), "24 items in each row"


@pytest.mark.processes
def test_the_example_notebook_goes_from_results_to_figures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = json.loads((ROOT / "examples" / "results.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert all(cell.get("outputs", []) == [] for cell in notebook["cells"])
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    curves = names["curves"]
    assert set(curves.index) == {(target, factor) for target in ("it", "tr") for factor in (0.5, 2.0)}
    by_pandas = {(*key, "own"): value for key, value in curves["own"].items()}
    by_polars = {row[:3]: row[3] for row in names["by_factor"].rows()}
    assert {key: by_polars[key] for key in by_pandas} == pytest.approx(by_pandas)
    assert set(names["changes"].reset_index()["task"]) == {"xcopa"}
    assert names["changes"]["items"].tolist() == [24, 24, 24, 24]
    titles = [
        axes.get_title("left") for number in names["plt"].get_fignums() for axes in names["plt"].figure(number).axes
    ]
    assert titles[:2] == ["it, n ≥ 7", "tr, n ≥ 7"]
    assert titles[2:] == ["log-perplexity: nll, n ≥ 6", "xcopa: accuracy, n ≥ 12"]
    names["plt"].close("all")


@pytest.mark.processes
def test_the_sweep_that_the_notebook_names_has_what_its_figures_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two factors and three items are enough to draw them; the engine is the fake one."""
    notebook = json.loads((ROOT / "examples" / "results.ipynb").read_text(encoding="utf-8"))
    code = {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}
    (name,) = re.findall(r"ampsweep run (examples/\S+) --out study", code["title"])
    spec = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    spec["interventions"] |= {"languages": ["fr", "ja"], "factors": [0, 3]}
    spec["tasks"] = [task | {"limit": 3} for task in spec["tasks"]]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    Path("spec.yaml").write_text(yaml.safe_dump(spec))
    done = CliRunner().invoke(app, ["run", "spec.yaml", "--out", "study", "--engine", "fake"])
    assert done.exit_code == 0, done.output
    names: dict[str, Any] = {}
    exec("\n".join(code[cell["id"]] for cell in notebook["cells"] if cell["cell_type"] == "code"), names)
    assert set(names["curves"].index) == {("fr", 0.0), ("fr", 3.0), ("ja", 0.0), ("ja", 3.0)}
    assert len(names["metrics"]) > 0
    names["plt"].close("all")


def test_every_column_is_explained() -> None:
    samples, summary = re.split(r"^## (?:Samples|Summary)$", prose(PAGE).split("\n## Gain")[0], flags=re.MULTILINE)[1:]
    explained = {name for row in samples.splitlines() if row.startswith("| `") for name in _names(row)}
    assert explained == set(SAMPLES.names)
    documented = {name for row in summary.splitlines() if row.startswith("| `") for name in _names(row)}
    assert documented == set(SUMMARY.names) - set(SAMPLES.names)


def _names(row: str) -> list[str]:
    return re.findall(r"`(\w+)`", row.split("|")[1])


def _by_heading() -> list[tuple[str, str]]:
    text = PAGE.read_text(encoding="utf-8")
    headings = [(match.start(), match[1]) for match in re.finditer(r"^## (.+)$", text, re.MULTILINE)]
    return [
        (max(heading for heading in headings if heading[0] < text.index(block.text))[1], block.text)
        for block in blocks(PAGE, "python")
    ]


def _rows(answer: Any) -> list[tuple[Any, ...]]:
    """Return the rows of an answer of DuckDB, pandas or Polars."""
    if hasattr(answer, "fetchall"):
        return [tuple(row) for row in answer.fetchall()]
    return [tuple(row) for row in (answer.rows() if hasattr(answer, "rows") else answer.values.tolist())]


def _rounded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(tuple(round(value, 9) if isinstance(value, float) else value for value in row) for row in rows)
