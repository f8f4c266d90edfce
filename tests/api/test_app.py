from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from api.app import openapi_document
from tests.api.running_server import running_server
from tests.worker.installation import Installation

HEAVY = (
    "torch",
    "vllm",
    "ray",
    "transformers",
    "engine",
    "worker",
    "scipy",
    "pandas",
    "duckdb",
    "lm_eval",
    "matplotlib",
)


@pytest.mark.processes
def test_the_http_layer_imports_no_heavy_package_and_no_engine() -> None:
    script = f"import sys, api.app; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.anyio
async def test_the_openapi_document_lists_every_route(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        document = (await server.http.get("/v1/openapi.json")).json()
    assert {"/v1/sweeps", "/v1/sweeps/{sweep_id}/events", "/v1/completions", "/healthz", "/readyz"} <= set(
        document["paths"]
    )
    schemas = document["components"]["schemas"]
    for path, model in (("/v1/completions", "CompletionRequest"), ("/v1/sweeps", "SweepSpec")):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert body["schema"]["$ref"].endswith(model)
    assert document == openapi_document()
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)


def test_the_committed_openapi_document_is_up_to_date() -> None:
    committed = Path(__file__).parents[2] / "docs" / "openapi.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == openapi_document(), "write it anew with: make openapi"
