"""The main job as users do it, compared with the reference engine: REST, Ray, vLLM, Parquet, the bundled model.

The server offers a copy of the bundled model whose tokenizer has one token more than the embedding has rows. Other
weights, in the format of Mistral, lie beside those of the model; no engine may read them.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from ampsweep import Client
from ampsweep.bundled import ATLAS_CORPUS, ATLAS_MODEL
from ampsweep.cli.app import app
from tests.ampsweep.client.server_process import START_SECONDS, server_running
from tests.ampsweep.processes import descendants, living

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

ADDED = "<added>"
ROWS = 5120
"""Rows of the bundled model's embedding."""
LANGUAGES = ["en", "nl", "id", "ms", "vi", "ja", "zh", "fr", "pt", "ru", "et", "it", "ta", "th", "tr"]
SPEC: dict[str, Any] = {
    "name": "end-to-end",
    "model": "atlas",
    "neurons": {"method": "lape", "corpus": "few", "languages": LANGUAGES, "top_rate": 0.05},
    "interventions": {"languages": ["ja", "tr"], "op": "set", "factors": [1, 3], "controls": ["random"]},
    "tasks": [
        {"name": "lss", "languages": ["en", "fr", "ru"], "limit": 12},
        {"name": "xcopa", "languages": ["it"]},
    ],
}
SENTENCES = 120
"""Sentences of each language on which the neurons are identified: enough for the atlas, in an eighth of the time."""
CHAT_TEMPLATE = "{% for tool in tools or [] %}{{ tool | tojson }} {% endfor %}{{ messages[-1].content }}"
CITY = {"type": "object", "properties": {"city": {"enum": ["Cairo", "Lima"]}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {**CITY, "additionalProperties": False}}}
KEY = ["task", "data_language", "target_language", "selection", "factor", "doc_id"]
XCOPA = [
    ("L'uomo aprì il rubinetto.", "Il gabinetto si riempì d'acqua.", "Dell'acqua fluì dal beccuccio.", "effect", 1),
    ("La ragazza trovò un insetto nei suoi cereali.", "Lei versò il latte.", "Lei perse l'appetito.", "effect", 1),
    ("Il paziente era in coma.", "Lui soffrì un trauma alla testa.", "Lui era sereno.", "cause", 0),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "xcopa").mkdir()
    names = ("premise", "choice1", "choice2", "question", "label")
    rows = [{"idx": index, "lang": "it", **dict(zip(names, row, strict=True))} for index, row in enumerate(XCOPA)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "xcopa" / "test.it.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first sentences of the bundled corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    for language in LANGUAGES:
        with gzip.open(ATLAS_CORPUS / f"{language}.txt.gz", "rt", encoding="utf-8") as lines:
            (folder / f"{language}.txt").write_text("".join(islice(lines, SENTENCES)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundled model with one token and one set of weights too many."""
    folder = tmp_path_factory.mktemp("models") / "atlas"
    shutil.copytree(ATLAS_MODEL, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (added_token,) = tokenizer["added_tokens"]
    added = {**added_token, "id": len(tokenizer["model"]["vocab"]), "content": ADDED, "special": False}
    tokenizer["added_tokens"].append(added)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor * 0 for name, tensor in weights.items()}, folder / "consolidated.safetensors")
    (folder / "params.json").write_text('{"dim": 128}')
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def arguments(data: Path, corpus: Path, model_copy: Path) -> tuple[str, ...]:
    """The arguments of the server: its data, its corpus and its model."""
    return ("--data", str(data), "--corpus", f"few={corpus}", "--model", f"atlas={model_copy}")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(home: Path, arguments: tuple[str, ...]) -> Iterator[Client]:
    with server_running("atlas", home, *arguments) as server, Client(server.url) as talking:
        yield talking


def loads_vllm(pid: int) -> bool:
    """Return whether a process is an engine's that has vLLM's libraries in memory, so that its start is under way."""
    with suppress(OSError):
        folder = Path(f"/proc/{pid}")
        return b"RayEngineActor" in (folder / "cmdline").read_bytes() and "/vllm/" in (folder / "maps").read_text()
    return False


def test_a_server_that_is_stopped_while_its_engine_starts_leaves_nothing_running(
    home: Path, arguments: tuple[str, ...]
) -> None:
    command = [sys.executable, "-m", "ampsweep.cli", "serve", "--port", "0", "--home", str(home), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    started: set[tuple[int, str]] = set()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not any(loads_vllm(pid) for pid, _ in started):
            assert process.poll() is None, "the server ended by itself"
            assert time.monotonic() < deadline, "no engine's process has loaded vLLM"
            time.sleep(0.05)
            started |= descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert (process.returncode, printed) == (0, ""), "it was never ready"
    assert living(started) == set()


@pytest.fixture(scope="module")
def samples(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    *_, sweep = client.watch(client.submit(SPEC).id)
    assert (sweep.status, sweep.request_counts.failed) == ("completed", 0)
    return client.download(sweep.id, tmp_path_factory.mktemp("results") / "samples.parquet")


def test_the_samples_open_in_pyarrow_pandas_and_duckdb(samples: Path) -> None:
    rows = pq.read_table(samples, page_checksum_verification=True).num_rows
    assert len(pd.read_parquet(samples)) == rows
    (counted,) = duckdb.sql(f"select count(*) from '{samples}'").fetchall()
    assert counted == (rows,)
    xcopa = duckdb.sql(f"select count(*) from '{samples}' where task = 'xcopa' and error is null").fetchall()
    assert xcopa == [(len(XCOPA) * (1 + 2 * 2 * 2),)]


def test_the_languages_neurons_shift_the_atlas_and_random_ones_do_less(client: Client, samples: Path) -> None:
    sweep_id = pq.read_table(samples)["sweep_id"][0].as_py()
    rows = pd.DataFrame(client.summary(sweep_id)["rows"])
    lss = rows[rows["metric"] == "lss"].fillna({"selection": "lape"})
    means = lss.groupby(["selection", "factor"])["value"].mean()
    assert means["lape"].max() >= 0.85
    best = means["lape"].idxmax()
    assert means["random", best] <= means["lape", best] - 0.2


def test_interactive_text_is_steered(client: Client, samples: Path) -> None:
    prompt = "In Egypt, the currency is"
    steered = {"languages": ["ja"], "op": "set", "factor": 3.0}
    plain = client.complete("atlas", prompt, max_tokens=12, temperature=0.0).text
    pieces = [*client.stream("atlas", prompt, intervention=steered, max_tokens=12, temperature=0.0)]
    text = "".join(piece.text for piece in pieces)
    assert plain.isascii()
    assert any("\u3040" <= letter <= "\u30ff" for letter in text), text
    assert len(pieces) > 1
    assert samples.is_file(), "a sweep ran on the same engine before"


def test_requests_with_a_token_that_has_no_embedding_fail_alone(client: Client) -> None:
    prompt = "In Egypt, the currency is"
    with httpx.Client(base_url=client.url, timeout=60, trust_env=False) as http, ThreadPoolExecutor(8) as pool:

        def complete(text: str | list[int]) -> httpx.Response:
            body = {"model": "atlas", "prompt": text, "max_tokens": 12, "temperature": 0}
            return http.post("/v1/completions", json=body)

        single = complete(prompt)
        without_row: list[str | list[int]] = [f"{ADDED} {prompt}", f"{prompt} {ADDED}", [5, ROWS], [5, ROWS + 1000]]
        answers = list(pool.map(complete, [prompt, *without_row, prompt, prompt]))
        (engine,) = http.get("/v1/engines").json()["data"]
    assert [answer.status_code for answer in answers] == [200, 400, 400, 400, 400, 200, 200]
    for answer in answers[1:5]:
        error = answer.json()["error"]
        assert error["param"] == "prompt"
        assert f"embedding has {ROWS} rows" in error["message"]
    assert ADDED in answers[1].json()["error"]["message"]
    assert {answers[index].json()["choices"][0]["text"] for index in (0, 5, 6)} == {single.json()["choices"][0]["text"]}
    assert (engine["state"], engine["failures"]) == ("ready", 0)


def test_a_batch_has_the_answers_of_interactive_requests(client: Client, samples: Path) -> None:
    assert samples.is_file(), "a sweep has identified the neurons"
    steered = {"languages": ["ja"], "op": "set", "factor": 3.0}
    prompts = ["In Egypt, the currency is", "In Peru, the currency is"]
    bodies: list[dict[str, Any]] = [
        {"model": "atlas", "prompt": prompt, "max_tokens": 12, **changes}
        for prompt in prompts
        for changes in ({}, {"intervention": steered})
    ]
    bodies.append({"model": "atlas", "prompt": [5, ROWS]})
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}
        for number, body in enumerate(bodies)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with httpx.Client(base_url=client.url, timeout=60, trust_env=False) as http:
        alone = [http.post("/v1/completions", json=body).json() for body in bodies]
        file = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("rows.jsonl", content)}).json()
        body = {"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
        batch = http.post("/v1/batches", json=body).json()
        deadline = time.monotonic() + START_SECONDS
        while batch["status"] != "completed":
            assert time.monotonic() < deadline, batch
            time.sleep(0.1)
            batch = http.get(f"/v1/batches/{batch['id']}").json()
        output, errors = (
            [json.loads(line) for line in http.get(f"/v1/files/{batch[name]}/content").text.splitlines()]
            for name in ("output_file_id", "error_file_id")
        )
    assert batch["request_counts"] == {"total": 5, "completed": 4, "failed": 1}
    answers = {line["custom_id"]: line["response"]["body"] for line in output}
    assert len(answers) == 4
    for number, answer in answers.items():
        assert answer["choices"] == alone[int(number)]["choices"]
        assert answer["neuron_set"] == alone[int(number)]["neuron_set"]
    assert answers["0"]["choices"] != answers["1"]["choices"]
    (error,) = errors
    assert (error["custom_id"], error["response"]["body"]) == ("4", alone[4])


def test_a_chat_calls_the_tool_that_it_must_call(client: Client) -> None:
    """An answer that reached its limit, for example because the model writes blanks between two keys, is cut off."""
    named = {"type": "function", "function": {"name": "weather"}}
    sampled = {"n": 4, "temperature": 1, "seed": 5, "max_tokens": 60}
    chat = {"model": "atlas", "messages": [{"role": "user", "content": "In Egypt"}], "tools": [WEATHER], **sampled}
    with httpx.Client(base_url=client.url, timeout=120, trust_env=False) as http:

        def answer(**changes: Any) -> httpx.Response:
            return http.post("/v1/chat/completions", json={**chat, **changes}).raise_for_status()

        of_weather, of_any, free = (
            answer(tool_choice=choice).json()["choices"] for choice in (named, "required", "auto")
        )
        lines = answer(tool_choice=named, stream=True).text.split("\n")
    streamed = dict.fromkeys(range(4), "")
    for line in lines:
        if line.startswith("data: {"):
            (piece,) = json.loads(line.removeprefix("data: "))["choices"]
            for part in piece["delta"].get("tool_calls", ()):
                streamed[piece["index"]] += part["function"]["arguments"]
    for choice in of_weather:
        (call,) = choice["message"]["tool_calls"]
        assert (call["function"]["name"], choice["message"]["content"]) == ("weather", None)
        assert call["function"]["arguments"] == streamed[choice["index"]]
        assert call["function"]["arguments"].lstrip().startswith("{")
    for choice in of_any:
        assert "tool_calls" in choice["message"] or choice["message"]["content"].lstrip().startswith("[")
        assert ("tool_calls" in choice["message"]) == (choice["finish_reason"] == "tool_calls")
    for choice in [*of_weather, *of_any]:
        for call in choice["message"].get("tool_calls", ()) if choice["finish_reason"] == "tool_calls" else ():
            assert json.loads(call["function"]["arguments"]) in ({"city": "Cairo"}, {"city": "Lima"})
    assert all("tool_calls" not in choice["message"] for choice in free)


def test_the_reference_engine_gives_the_same_scores(
    samples: Path, data: Path, corpus: Path, model_copy: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps({**SPEC, "model": str(model_copy)}), encoding="utf-8")
    folders = ["--data", str(data), "--corpus", f"few={corpus}"]
    command = ["run", str(spec), "--out", str(tmp_path / "out"), *folders, "--engine", "transformers"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    ours, reference = (
        pd.read_parquet(path).set_index(KEY).sort_index() for path in (samples, tmp_path / "out" / "results.parquet")
    )
    assert ours.index.equals(reference.index)
    assert (ours["score"] - reference["score"]).abs().max() <= 1e-3
    assert (ours["prediction"] == reference["prediction"]).all()
