"""Sweeps from the command line: `run` without a server; submit, status, results and cancel with one."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.cli.app import app
from ampsweep.folders.adapter import read_adapter
from benchmarks.models.adapter import tiny_adapter
from tests.ampsweep.client.server_process import ServerProcess
from tests.ampsweep.conftest import CELLS

pytestmark = pytest.mark.processes


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def remote(spec: dict[str, Any], tmp_path: Path) -> Path:
    """A spec file for the server."""
    path = tmp_path / "remote.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_a_run_leaves_samples_and_summary_and_prints_it(local: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call("run", local, "--out", out, "--engine", "fake")
    assert result.exit_code == 0, result.output
    samples, summary = pq.read_table(out / "results.parquet"), pq.read_table(out / "summary.parquet")
    assert len(set(samples["cell_id"].to_pylist())) == CELLS
    assert summary.num_rows == 4
    assert "fr set max" in result.stdout
    assert "first-look: starting the engine\n" in result.stderr
    assert f"{CELLS}/{CELLS} cells" in result.stderr


def test_a_run_and_its_report_as_json(local: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = json.loads(call("run", local, "--out", out, "--engine", "fake", "--json").stdout)
    assert done["request_counts"] == {"total": CELLS, "completed": CELLS, "failed": 0, "reused": 0}
    assert done["files"] == {name: str(out / f"{name}.parquet") for name in ("results", "summary")}
    assert len(done["summary"]["rows"]) == 4
    page = tmp_path / "page.html"
    written = call("report", out, "--out", page, "--json")
    assert json.loads(written.stdout) == {"report": str(page), "figures": None, "tables": None}
    assert page.is_file()
    assert re.findall(r"report: answering questions: (\d+)/(\d+) questions", written.stderr)[-1] == ("18", "18")


@pytest.mark.parametrize(("suffix", "figures"), [("md", "svg"), ("tex", "pdf"), ("ipynb", None)])
def test_a_report_in_the_format_of_its_suffix(suffix: str, figures: str | None, local: Path, tmp_path: Path) -> None:
    out, target = tmp_path / "out", tmp_path / f"study.{suffix}"
    call("run", local, "--out", out, "--engine", "fake")
    written = json.loads(call("report", out, "--out", target, "--json").stdout)
    assert "What was found" in target.read_text()
    assert written["report"] == str(target)
    if figures is None:
        assert written["figures"] is None
    else:
        assert list(Path(written["figures"]).glob(f"*.{figures}"))
    refused = call("report", out, "--format", "pdf")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: --format: unknown format 'pdf'; known: html, md, tex, ipynb\n",
    )


def test_a_run_over_statistics_and_weights(spec: dict[str, Any], model: Path, tmp_path: Path) -> None:
    spec["interventions"] = {"languages": {"fr": 0.5, "tr": 1}, "op": "add", "statistic": ["std", "p97.5"]}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({**spec, "model": str(model)}))
    result = call("run", tmp_path / "spec.yaml", "--out", tmp_path / "out", "--engine", "fake")
    assert result.exit_code == 0, result.output
    rows = pq.read_table(tmp_path / "out" / "summary.parquet").to_pylist()
    assert {(row["target_language"], row["statistic"], row["weights"], row["factor"]) for row in rows} == {
        (language, statistic, weight, 1.0)
        for language, weight in (("fr", "0.5"), ("tr", None))
        for statistic in ("std", "p97.5")
    }
    assert "fr add p97.5 weight 0.5" in result.stdout
    assert "tr add std " in result.stdout


def test_a_run_uses_the_adapter_of_its_spec_and_says_so(local: Path, tmp_path: Path) -> None:
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path / "lora", targets=["q_proj"], seed=1)
    options = ("--engine", "fake", "--lora", f"formal={adapter}")
    unused = call("run", local, "--out", tmp_path / "unused", *options)
    assert unused.exit_code == 2
    assert "the spec uses no adapter; add `adapter: formal` to it" in unused.stderr
    local.write_text(yaml.safe_dump({**yaml.safe_load(local.read_text()), "adapter": "formal"}))
    assert call("run", local, "--out", tmp_path / "out", *options).exit_code == 0
    samples = pq.read_table(tmp_path / "out" / "results.parquet")
    assert set(samples["adapter"].to_pylist()) == {"formal"}
    assert set(pq.read_table(tmp_path / "out" / "summary.parquet")["adapter"].to_pylist()) == {"formal"}
    digest = read_adapter(adapter, name="any").fingerprint
    sources = json.loads(samples.schema.metadata[b"ampsweep.sources"])
    assert sources["adapters"] == [{"name": "formal", "sha256": digest}]


def test_a_run_takes_neurons_that_were_imported(spec: dict[str, Any], model: Path, tmp_path: Path) -> None:
    (tmp_path / "neurons.json").write_text('{"fr": {"0": [1, 2]}, "tr": {"3": [9]}}')
    imported = call("neurons", "import", tmp_path / "neurons.json", "--model", model, "--out", tmp_path / "set")
    spec["interventions"] = {"op": "scale", "factors": [2]}
    spec |= {"model": str(model), "neurons": {"id": imported.stdout.split()[0]}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    arguments = ("run", tmp_path / "spec.yaml", "--out", tmp_path / "out", "--engine", "fake")
    assert "unknown neuron set" in call(*arguments).stderr
    result = call(*arguments, "--neurons", tmp_path / "set")
    assert result.exit_code == 0, result.output
    rows = pq.read_table(tmp_path / "out" / "summary.parquet").to_pylist()
    assert {row["target_language"]: row["neurons"] for row in rows if row["factor"]} == {"fr": 2, "tr": 1}


def sweep_name(local: Path) -> str:
    return str(yaml.safe_load(local.read_text())["name"])


def test_a_second_run_computes_nothing(local: Path, tmp_path: Path) -> None:
    first = call("run", local, "--out", tmp_path / "out", "--engine", "fake")
    again = call("run", local, "--out", tmp_path / "out", "--engine", "fake")
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    stages = [line.split(": ")[1] for line in first.stderr.splitlines() if line.startswith(f"{sweep_name(local)}: ")]
    assert stages.index("finding neurons") < stages.index("sweeping"), "cells wait for the neurons"
    assert "starting the engine" in first.stderr
    assert "starting the engine" not in again.stderr


def test_a_run_after_the_models_template_was_changed_reuses_no_cell(
    spec: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "own")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({**spec, "model": str(copy)}))
    arguments = ("run", tmp_path / "spec.yaml", "--out", tmp_path / "out", "--engine", "fake", "--json")
    assert json.loads(call(*arguments).stdout)["request_counts"]["reused"] == 0
    assert json.loads(call(*arguments).stdout)["request_counts"]["reused"] == CELLS
    (copy / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    assert json.loads(call(*arguments).stdout)["request_counts"]["reused"] == 0


def test_a_stopped_run_can_be_continued(local: Path, spec: dict[str, Any], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    factors = {"factors": list(range(36))}  # so many cells that the run is in their midst when it is told to stop
    many = {**spec, "model": str(model), "interventions": {**spec["interventions"], **factors}}
    many["tasks"] = [{"name": "lss", "languages": ["en", "fr", "tr", "id", "it"], "limit": 4}]
    local.write_text(yaml.safe_dump(many))
    command = [sys.executable, "-m", "ampsweep.cli", "run", str(local), "--out", str(out), "--engine", "fake"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if re.search(r"sweeping: [1-9]", line):
                process.send_signal(signal.SIGINT)
                break
        errors = process.stderr.read()
        assert process.wait(60) == 130
    assert errors.startswith("stopping; a second Ctrl-C")
    assert "partial results of" in errors
    for name in ("results", "summary"):
        partial = json.loads(pq.read_schema(out / f"partial-{name}.parquet").metadata[b"ampsweep.partial"])
        assert partial["included"] + partial["missing"] == partial["total"]
    assert not (out / "results.parquet").exists()
    page = tmp_path / "page.html"
    refused = call("report", out, "--out", page)
    assert (refused.exit_code, "--partial" in refused.stderr) == (3, True)
    assert call("report", out, "--out", page, "--partial").exit_code == 0
    assert "<strong>Partial results: " in page.read_text()
    with closing(sqlite3.connect(out / "ampsweep.db")) as store:  # a file that the store was not told of may go
        before = {name for (name,) in store.execute("SELECT file FROM cells WHERE file IS NOT NULL")}
    assert before
    result = call("run", local, "--out", out, "--engine", "fake")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (out / "results" / "cells").iterdir()} >= before
    assert not list(out.glob("partial-*"))


KILLED = """
import os, signal
from jobs.results.writer import Results

Results.write_summary = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
from ampsweep.cli import main

main()
"""


def killed_while_finalizing(local: Path, out: Path) -> None:
    arguments = ["run", str(local), "--out", str(out), "--engine", "fake"]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sweeps_in(out) == ["finalizing"]


def sweeps_in(out: Path) -> list[str]:
    with closing(sqlite3.connect(out / "ampsweep.db")) as store:
        return [state for (state,) in store.execute("SELECT state FROM sweeps ORDER BY seq")]


def test_a_run_killed_while_finalizing_only_has_to_finalize(local: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed_while_finalizing(local, out)
    result = call("run", local, "--out", out, "--engine", "fake")
    assert result.exit_code == 0, result.output
    assert "starting the engine" not in result.stderr
    assert sweeps_in(out) == ["completed"]
    whole = call("run", local, "--out", tmp_path / "other", "--engine", "fake")
    assert result.stdout.replace(str(out), "OUT") == whole.stdout.replace(str(tmp_path / "other"), "OUT")


def test_a_run_on_another_model_takes_the_place_of_one_killed_while_finalizing(
    local: Path, model: Path, tmp_path: Path
) -> None:
    out, changing = tmp_path / "out", tmp_path / "model"
    shutil.copytree(model, changing)
    local.write_text(yaml.safe_dump({**yaml.safe_load(local.read_text()), "model": str(changing)}))
    killed_while_finalizing(local, out)
    (weights,) = changing.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    result = call("run", local, "--out", out, "--engine", "fake")
    assert result.exit_code == 0, result.output
    assert sweeps_in(out) == ["failed", "completed"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": "/no/such/model"}, "there is no folder /no/such/model"),
        ({"seeds": 1}, "unknown key seeds"),
        ({"tasks": [{"name": "xcopa", "languages": ["it"]}]}, "xcopa"),
    ],
)
def test_a_run_names_what_is_wrong(
    change: dict[str, Any], complaint: str, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it would try for half a minute
    local.write_text(yaml.safe_dump({**yaml.safe_load(local.read_text()), **change}))
    result = call("run", local, "--out", tmp_path / "out", "--engine", "fake")
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_sweep_is_submitted_watched_and_fetched(server: ServerProcess, remote: Path, tmp_path: Path) -> None:
    sent = call("submit", remote, "--watch", "--server", server.url)
    assert sent.exit_code == 0, sent.output
    sweep = sent.stdout.split()[0]
    assert sent.stdout.splitlines()[-1] == f"{sweep} completed"
    assert f"{CELLS}/{CELLS}" in sent.stderr
    shown = call("status", sweep, "--server", server.url)
    assert shown.stdout.startswith(f"{sweep}  completed    {CELLS}/{CELLS} cells  first-look")
    listed = [json.loads(line) for line in call("status", "--json", "--server", server.url).stdout.splitlines()]
    assert sweep in [record["id"] for record in listed]
    fetched = call("results", sweep, "--out", tmp_path / "samples.parquet", "--server", server.url)
    assert fetched.exit_code == 0, fetched.output
    assert "fr set max" in fetched.stdout
    assert pq.read_table(tmp_path / "samples.parquet")["sweep_id"].to_pylist()[0] == sweep
    refused = call("cancel", sweep, "--server", server.url)
    assert refused.exit_code == 3
    assert "completed" in refused.stderr


def test_a_sweep_from_a_script(server: ServerProcess, remote: Path, tmp_path: Path) -> None:
    sent, ended = map(
        json.loads, call("submit", remote, "--watch", "--json", "--server", server.url).stdout.splitlines()
    )
    assert (sent["id"], ended["status"]) == (ended["id"], "completed")
    file = tmp_path / "samples.parquet"
    output = json.loads(call("results", sent["id"], "--out", file, "--json", "--server", server.url).stdout)
    assert (output["id"], output["samples"], len(output["summary"]["rows"])) == (sent["id"], str(file), 4)
    for name in ("pause", "resume", "cancel"):
        refused = call(name, sent["id"], "--json", "--server", server.url)
        assert (refused.exit_code, json.loads(refused.stderr)["error"]["code"]) == (3, "conflict")
    unknown = call("results", "sweep_none", "--server", server.url)
    assert (unknown.exit_code, unknown.stderr.strip()) == (3, "error: no sweep sweep_none")
    assert not list(tmp_path.glob("*none*"))


def test_a_sweep_is_cancelled(server: ServerProcess, remote: Path, spec: dict[str, Any]) -> None:
    tasks = [{"name": "lss", "languages": ["en", "nl", "id", "ms", "vi", "it", "pt", "ru"]}]
    remote.write_text(yaml.safe_dump({**spec, "seed": 3, "tasks": tasks}))
    sweep = call("submit", remote, "--server", server.url).stdout.strip()
    result = call("cancel", sweep, "--server", server.url)
    assert result.exit_code == 0, result.output
    assert result.stdout.split()[1] in ("cancelling", "cancelled")
    for command in ("results", "report"):
        refused = call(command, sweep, "--server", server.url)
        assert refused.exit_code == 3
        assert "only once it is completed; add --partial for the results" in refused.stderr


def test_a_sweep_is_edited_found_and_deleted(server: ServerProcess, remote: Path) -> None:
    there = ("--server", server.url)
    sweep = call("submit", remote, "--watch", *there).stdout.split()[0]
    edited = call("edit", sweep, "--name", "mine", "--tag", "paper", "--tag", "draft", *there)
    assert edited.stdout == f"{sweep}  completed    {CELLS}/{CELLS} cells  mine  [draft, paper]\n"
    assert json.loads(call("edit", sweep, "--untag", "draft", "--json", *there).stdout)["tags"] == ["paper"]
    assert call("status", "--tag", "paper", "--text", "MINE", *there).stdout.split()[0] == sweep
    assert call("status", "--tag", "paper", "--tag", "draft", *there).stdout == ""
    unsure = call("delete", sweep, *there)
    assert (unsure.exit_code, unsure.stderr) == (
        2,
        "error: --yes: standard input is no terminal on which to confirm; add --yes\n",
    )
    assert call("delete", sweep, "--yes", *there).stdout == f"{sweep} deleted\n"
    assert call("status", sweep, *there).exit_code == 3
    both = call("edit", sweep, "--tag", "a", "--untag", "a", *there)
    assert (both.exit_code, both.stderr) == (2, "error: --untag: a is given with --tag too; leave one of them out\n")
    assert call("edit", "sweep_none", *there).stderr == "error: --name: give --name, --tag or --untag\n"
    assert call("status", "sweep_none", "--tag", "a", *there).exit_code == 2


def test_deleting_is_confirmed_on_a_terminal(server: ServerProcess, remote: Path) -> None:
    sweep = call("submit", remote, "--watch", "--server", server.url).stdout.split()[0]
    command = [sys.executable, "-m", "ampsweep.cli", "delete", sweep, "--server", server.url]
    for answer, code, said in (("no", 1, "nothing was deleted\n"), ("y", 0, "")):
        terminal, stdin = pty.openpty()
        os.write(terminal, f"{answer}\n".encode())
        ended = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (
            code,
            f"Delete {sweep} (first-look) with its results? [y/N] {said}",
        )
        os.close(stdin)
        os.close(terminal)
    assert call("status", sweep, "--server", server.url).exit_code == 3


def test_generate_asks_the_server(server: ServerProcess) -> None:
    result = call("generate", "Hello", "--model", "tiny", "--server", server.url, "--max-tokens", 3)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.split()) == 3
    chat = ("--chat", "--prefill", "Well,", "--chat-template-kwargs", '{"enable_thinking": false}')
    begun = call("generate", "Hello", "--model", "tiny", "--server", server.url, "--max-tokens", 3, *chat)
    assert begun.exit_code == 0, begun.output
    assert len(begun.stdout.split()) == 3
    assert begun.stdout != result.stdout
