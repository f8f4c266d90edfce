"""`ampsweep init`: the spec that it writes is valid, says what was found, and can be planned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ampsweep.cli.app import app
from jobs.spec.sweep import parse_spec


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for language in ("en", "fr", "no", "sw", "th", "tr", "vi"):
        (folder / f"{language}.txt").write_text("One sentence.\nAnother one.\n")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "mine" / "heldout").mkdir(parents=True)
    (folder / "mine" / "notes.txt").write_text("not a split")
    for language in ("en", "fr", "de"):
        (folder / "mine" / "heldout" / f"{language}.txt").write_text("A text.\nMore of it.\n")
    (folder / "xcopa").mkdir()
    row = {"idx": 0, "premise": "a", "choice1": "b", "choice2": "c", "question": "cause", "label": 0}
    (folder / "xcopa" / "test.sw.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def test_a_spec_for_the_bundled_model_can_be_planned(tmp_path: Path) -> None:
    out = tmp_path / "atlas.yaml"
    result = call("init", "--model", "atlas", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}: next, `ampsweep plan {out}`\n"
    spec = parse_spec(yaml.safe_load(out.read_text(encoding="utf-8")))
    assert (spec.model, [task.name for task in spec.tasks]) == ("atlas", ["lss", "generation"])
    planned = json.loads(call("plan", out, "--json").stdout)
    lss, generation = 5 * (1 + 4 * 2), 1 + 5 * 4 * 2
    assert planned["cells"] == lss + generation, "baselines, and for each target four values of its and random neurons"


def test_a_spec_has_the_languages_and_data_that_are_found(
    model: Path, corpus: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "own.yaml"
    found = ("--corpus", f"mine={corpus}", "--data", data)
    result = call("init", "--model", model, *found, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "file": str(out),
        "languages": ["fr", "no", "sw", "th", "tr"],
        "tasks": ["lss", "xcopa", "perplexity", "generation"],
    }
    raw = yaml.safe_load(out.read_text(encoding="utf-8"))
    assert raw["neurons"]["languages"] == ["en", "fr", "no", "sw", "th", "tr", "vi"], "no is a code, not a boolean"
    assert raw["interventions"]["patch"] == ["max"]
    assert raw["tasks"] == [
        {"name": "lss", "languages": ["en"], "targets": ["fr", "th", "tr"], "limit": 100},
        {"name": "xcopa", "languages": ["sw"], "limit": 100},
        {"name": "perplexity", "data": "mine", "split": "heldout", "languages": ["en", "fr"], "limit": 100},
        {"name": "generation", "data": "mine", "split": "heldout", "languages": ["en"], "limit": 100},
    ]
    planned = call("plan", out, *found, "--engine", "fake")
    assert planned.exit_code == 0, planned.output


def test_a_task_whose_data_have_no_target_is_left_out(model: Path, corpus: Path, tmp_path: Path) -> None:
    """The bundled facts have no Swahili."""
    out = tmp_path / "own.yaml"
    found = ("--corpus", f"mine={corpus}")
    assert call("init", "--model", model, *found, "--languages", "sw", "--out", out).exit_code == 0
    assert [task["name"] for task in yaml.safe_load(out.read_text(encoding="utf-8"))["tasks"]] == ["generation"]
    assert call("plan", out, *found, "--engine", "fake").exit_code == 0


def test_texts_may_have_no_splits(model: Path, corpus: Path, tmp_path: Path) -> None:
    """A folder of texts without subfolders is a data set too; one with other files is not."""
    (tmp_path / "data" / "facts").mkdir(parents=True)
    (tmp_path / "data" / "facts" / "facts.jsonl").write_text("{}\n")
    corpus.rename(tmp_path / "data" / "news")
    out = tmp_path / "own.yaml"
    data = tmp_path / "data"
    assert call("init", "--model", model, "--corpus", f"mine={data}/news", "--data", data, "--out", out).exit_code == 0
    assert yaml.safe_load(out.read_text(encoding="utf-8"))["tasks"][1:] == [
        {"name": "perplexity", "data": "news", "languages": ["en", "fr", "no", "sw", "th", "tr"], "limit": 100},
        {"name": "generation", "data": "news", "languages": ["en"], "limit": 100},
    ]
    planned = call("plan", out, "--corpus", f"mine={data}/news", "--data", data, "--engine", "fake")
    assert planned.exit_code == 0, planned.output


def test_the_languages_to_steer_to_can_be_named(model: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.yaml"
    options = ("--corpus", f"mine={corpus}", "--languages", "vie, fra_Latn", "--out", out)
    assert call("init", "--model", model, *options).exit_code == 0
    assert yaml.safe_load(out.read_text(encoding="utf-8"))["interventions"]["languages"] == ["vi", "fr"]
    planned = call("plan", out, "--corpus", f"mine={corpus}", "--engine", "fake", "--json")
    assert json.loads(planned.stdout)["cells"] == 2 * (1 + 3 * 2) + (1 + 2 * 3 * 2), "of LSS, and of texts"
    unknown = call("init", "--model", model, "--corpus", f"mine={corpus}", "--languages", "ja", "--overwrite")
    assert (unknown.exit_code, "corpus language 'ja'" in unknown.stderr) == (2, True)


def test_a_second_corpus_is_refused(model: Path, corpus: Path, data: Path, tmp_path: Path) -> None:
    words = ("init", "--model", model, "--corpus", f"a={corpus}", "--corpus", f"b={corpus}", "--data", data)
    result = call(*words, "--out", tmp_path / "own.yaml")
    assert (result.exit_code, result.stderr.split(":")[:2]) == (2, ["error", " --corpus"])
    assert not (tmp_path / "own.yaml").exists()


def test_a_file_is_not_replaced_unless_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "sweep.yaml"
    out.write_text("mine")
    refused = call("init", "--model", "atlas", "--out", out)
    assert (refused.exit_code, out.read_text()) == (2, "mine")
    assert "--overwrite" in refused.stderr
    assert call("init", "--model", "atlas", "--out", out, "--overwrite").exit_code == 0


def test_the_bundled_corpus_is_warned_of_for_other_models(model: Path, tmp_path: Path) -> None:
    result = call("init", "--model", model, "--out", tmp_path / "sweep.yaml")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: the bundled corpus")
