"""Unusable files: one line with the path and the remedy, before anything is computed."""

from __future__ import annotations

import errno
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.errors import InvalidRequest
from ampsweep.files import check_folder
from tests.engine.neuron_sets import make_neuron_set


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def in_the_way(tmp_path: Path) -> Path:
    """A file where a folder is wanted: nobody can write below it, not even root."""
    path = tmp_path / "file"
    path.write_text("here")
    return path


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_loaded(
    in_the_way: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the engine was loaded")

    monkeypatch.setattr("worker.engines.open_engine", loaded)
    (tmp_path / "corpus").mkdir()
    for code in ("en", "fr"):
        (tmp_path / "corpus" / f"{code}.txt").write_text("One sentence.\n")
    options = ("--corpus", tmp_path / "corpus", "--engine", "fake")
    result = call("identify", "--model", model, *options, "--out", in_the_way / "out")
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: --out: cannot write to {in_the_way}: Not a directory; give a folder that this user may write to\n"
    )


@pytest.mark.parametrize("target", [".", "in.jsonl"])
def test_a_batch_that_would_replace_a_folder_or_its_own_requests_is_refused_before_anything_is_loaded(
    target: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the engine was loaded")

    monkeypatch.setattr("worker.engines.open_engine", loaded)
    requests = tmp_path / "in.jsonl"
    requests.write_text('{"custom_id": "a", "kind": "generate", "prompt": "Hello"}\n')
    result = call("batch", requests, tmp_path / target, "--model", model, "--engine", "fake")
    assert result.exit_code == 2
    assert result.stderr.endswith("; give the path of another file\n")
    assert requests.read_text().startswith('{"custom_id"')


def test_a_report_in_place_of_a_folder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    result = call("report", tmp_path, "--out", tmp_path)
    assert result.exit_code == 2
    assert result.stderr == f"error: --out: {tmp_path} is a folder; give the path of another file\n"


def test_scores_in_place_of_the_texts_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"completion": "Bonjour", "language": "fr"}\n')
    for out in (tmp_path, texts):
        result = call("evaluate", texts, "--out", out)
        assert result.exit_code == 2
        problem = "a folder" if out == tmp_path else "one of the files to read"
        assert f"error: --out: {out} is {problem}" in result.stderr
    assert texts.read_text().startswith('{"completion"')


@pytest.mark.parametrize("name", ["results", "summary", "neurons"])
def test_a_report_in_place_of_the_files_that_it_reads_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.parquet"
    path.write_text("samples")
    result = call("report", tmp_path, "--out", path)
    assert (result.exit_code, path.read_text()) == (2, "samples")
    assert "is one of the files to read" in result.stderr


def test_no_command_replaces_another_neuron_set(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the engine was loaded")

    (tmp_path / "corpus").mkdir()
    for code in ("en", "fr"):
        (tmp_path / "corpus" / f"{code}.txt").write_text("One sentence.\nAnd another.\n")
    (tmp_path / "neurons.json").write_text('{"fr": {"0": [1]}}')
    out = tmp_path / "out"
    identify = ("identify", "--model", model, "--corpus", tmp_path / "corpus", "--engine", "fake", "--out", out)
    import_ = ("neurons", "import", tmp_path / "neurons.json", "--model", model, "--out", out)
    assert call(*identify).exit_code == 0
    assert call(*identify).exit_code == 0, "the same set may be written again"
    before = (out / "metadata.json").read_bytes()
    monkeypatch.setattr("worker.engines.open_engine", loaded)
    for command in (import_, (*identify, "--param", "top_rate=0.5"), (*identify, "--max-tokens", "5")):
        result = call(*command)
        assert result.exit_code == 2, result.output
        assert f"error: --out: {out} holds another neuron set, ns_" in result.stderr
        assert (out / "metadata.json").read_bytes() == before
    (out / "metadata.json").write_text("{")
    assert call(*import_).exit_code == 0, "a damaged set may be replaced"


def test_the_folder_of_a_run_is_named_by_its_option(in_the_way: Path) -> None:
    result = call("run", Path(__file__).parents[4] / "examples" / "atlas.yaml", "--out", in_the_way)
    assert result.exit_code == 2
    assert result.stderr == f"error: --out: cannot create the folder {in_the_way}: File exists\n"


def test_a_missing_folder_is_checked_by_its_nearest_existing_parent(in_the_way: Path, tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b" / "c", param="out")
    assert not (tmp_path / "a").exists()
    with pytest.raises(InvalidRequest, match="cannot write to") as caught:
        check_folder(in_the_way / "a" / "b", param="out")
    assert caught.value.param == "out"


def refused(kind: type[OSError], number: int, path: Path) -> Any:
    def save(*_: object) -> None:
        raise kind(number, "Permission denied" if number == errno.EACCES else "No space left on device", str(path))

    return save


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, 2), (errno.ENOSPC, 5)])
def test_system_errors_are_one_line_with_path_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    make_neuron_set({"fr": [(0, 1)]}).save(tmp_path / "set")
    temporary = tmp_path / ".neurons.json.abc.tmp"
    kind = PermissionError if number == errno.EACCES else OSError
    monkeypatch.setattr("ampsweep.cli.commands.neurons.atomic_write", refused(kind, number, temporary))
    result = call("neurons", "export", tmp_path / "set", "--out", tmp_path / "neurons.json", "--json")
    assert result.exit_code == code
    error = json.loads(result.stderr)["error"]
    assert error["message"].startswith(f"{tmp_path}: ")
    assert ("change its permissions" if code == 2 else "free some space on that disk") in error["message"]
    assert error["code"] == ("invalid_request" if code == 2 else "unavailable")


def test_a_full_disk_that_the_system_does_not_name_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    make_neuron_set({"fr": [(0, 1)]}).save(tmp_path / "set")
    monkeypatch.setattr("ampsweep.cli.commands.neurons.atomic_write", save)
    result = call("neurons", "export", tmp_path / "set", "--out", tmp_path / "neurons.json")
    assert result.exit_code == 5
    assert result.stderr == ("error: no space left on device; free some space on the disk, and run it again\n")


def test_a_copy_to_a_full_disk_names_the_copy_and_not_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, copy = tmp_path / "model" / "a.safetensors", tmp_path / "full" / "a.safetensors"

    def save(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(copy))  # as shutil.copyfile does

    make_neuron_set({"fr": [(0, 1)]}).save(tmp_path / "set")
    monkeypatch.setattr("ampsweep.cli.commands.neurons.atomic_write", save)
    result = call("neurons", "export", tmp_path / "set", "--out", tmp_path / "neurons.json")
    assert result.exit_code == 5
    assert result.stderr.startswith(f"error: {copy}: no space left on device; free some space on that disk")


def test_a_current_folder_that_was_deleted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = call("report", tmp_path / "results")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: the current folder was deleted; change to another folder\n",
    )


@pytest.mark.parametrize("named", [True, False])
def test_a_limit_on_the_size_of_files_is_named(named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: object) -> None:
        raise OSError(errno.EFBIG, "File too large", *([str(tmp_path / "neurons.json")] if named else []))

    make_neuron_set({"fr": [(0, 1)]}).save(tmp_path / "set")
    monkeypatch.setattr("ampsweep.cli.commands.neurons.atomic_write", save)
    result = call("neurons", "export", tmp_path / "set", "--out", tmp_path / "neurons.json")
    assert result.exit_code == 5
    assert result.stderr.endswith(
        "file too large; raise the limit on the size of files (ulimit -f), or use another file system\n"
    )


def test_a_run_that_is_stopped_on_a_full_disk_ends_as_stopped(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(work: Coroutine[object, object, object]) -> None:
        work.close()
        raise KeyboardInterrupt

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ampsweep.cli.commands.run.run_to_end", stop)
    monkeypatch.setattr("ampsweep.cli.commands.run.write_partial_results", write)
    spec = tmp_path / "spec.json"
    neurons = {"method": "lape", "corpus": "atlas", "languages": ["en", "fr"]}
    task = {"name": "lss", "languages": ["en"], "limit": 2}
    interventions = {"languages": ["fr"], "op": "scale", "factors": [2]}
    content = {"model": str(model), "neurons": neurons, "interventions": interventions, "tasks": [task], "name": "n"}
    spec.write_text(json.dumps(content))
    result = call("run", spec, "--out", tmp_path / "out", "--engine", "fake")
    assert result.exit_code == 130
    problem = "No space left on device; free some space on that disk; run the same command to continue"
    assert f"stopped; the partial results could not be written to {tmp_path / 'out'}: {problem}" in result.stderr


def test_a_key_file_outside_of_a_folder_is_refused_in_one_line(in_the_way: Path) -> None:
    result = call("keys", "create", "--name", "me", "--home", in_the_way)
    assert result.exit_code == 2
    assert str(in_the_way) in result.stderr
    assert "Error:" not in result.stderr, "no Python exception is shown"
    assert len(result.stderr.splitlines()) == 1
