"""The main job as users do it, compared with the reference engine: REST, Ray, vLLM, Parquet, the bundled model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ampsweep import Client
from ampsweep.cli import app
from tests.ampsweep.client.served import serving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

LANGUAGES = ["en", "nl", "id", "ms", "vi", "ja", "zh", "fr", "pt", "ru", "et", "it", "ta", "th", "tr"]
SPEC: dict[str, Any] = {
    "name": "end-to-end",
    "model": "atlas",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": LANGUAGES, "top_rate": 0.05},
    "interventions": {"languages": ["ja", "tr"], "op": "set", "factors": [1, 3], "controls": ["random"]},
    "tasks": [
        {"name": "lss", "languages": ["en", "fr", "ru"], "limit": 12},
        {"name": "xcopa", "languages": ["it"]},
    ],
}
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
    rows = [{"idx": at, "lang": "it", **dict(zip(names, row, strict=True))} for at, row in enumerate(XCOPA)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "xcopa" / "test.it.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def client(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        serving("atlas", tmp_path_factory.mktemp("home"), "--data", str(data)) as server,
        Client(server.url) as talking,
    ):
        yield talking


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


def test_text_is_steered_while_one_waits(client: Client, samples: Path) -> None:
    prompt = "In Egypt, the currency is"
    steered = {"languages": ["ja"], "op": "set", "factor": 3.0}
    plain = client.complete("atlas", prompt, max_tokens=12, temperature=0.0).text
    pieces = [*client.stream("atlas", prompt, intervention=steered, max_tokens=12, temperature=0.0)]
    text = "".join(piece.text for piece in pieces)
    assert plain.isascii()
    assert any("\u3040" <= letter <= "\u30ff" for letter in text), text
    assert len(pieces) > 1
    assert samples.is_file(), "a sweep ran on the same engine before"


def test_the_reference_engine_gives_the_same_scores(samples: Path, data: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps(SPEC), encoding="utf-8")
    arguments = ["run", str(spec), "--out", str(tmp_path / "out"), "--data", str(data), "--engine", "transformers"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    ours, reference = (
        pd.read_parquet(path).set_index(KEY).sort_index() for path in (samples, tmp_path / "out" / "results.parquet")
    )
    assert ours.index.equals(reference.index)
    assert (ours["score"] - reference["score"]).abs().max() <= 1e-3
    assert (ours["prediction"] == reference["prediction"]).all()
