"""Specs as YAML, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from api.auth.limits import Limits
from api.http.spec_body import MAX_YAML_BYTES
from tests.api.running_server import Server, running_server
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.anyio

LIMITS = Limits(body_bytes=2 * MAX_YAML_BYTES, requests_a_minute=None)


@pytest.fixture(scope="module")
async def large_body_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A server that accepts bodies above the limit of YAML."""
    installation = Installation.build(tmp_path_factory.mktemp("server"))
    async with running_server(installation, working=False, limits=LIMITS) as server:
        yield server


TEXT = """\
# a comment
name: first-look
model: tiny
neurons: {method: lape, corpus: atlas, languages: [en, fr, tr], top_rate: 0.05}
interventions:
  languages: [fr, tr]
  op: scale
  factors: [0.5, 2]
  controls: [random]
tasks:
  - {name: lss, languages: [en], limit: 4}
"""


async def post(server: Server, path: str, text: str | bytes, media_type: str = "application/yaml") -> Any:
    return await server.http.post(f"/v1/{path}", content=text, headers={"Content-Type": media_type})


@pytest.mark.parametrize("media_type", ["application/yaml", "text/yaml; charset=utf-8"])
async def test_a_sweep_is_submitted_as_yaml(installation: Installation, media_type: str) -> None:
    async with running_server(installation, working=False) as server:
        as_yaml = await post(server, "sweeps", TEXT, media_type)
        as_json = await server.http.post("/v1/sweeps", json=SPEC)
        plan = (await post(server, "sweeps/plan", TEXT)).json()
    assert as_yaml.status_code == 201
    assert as_yaml.json()["spec"] == as_json.json()["spec"]
    assert plan["spec"] == yaml.safe_load(TEXT)
    assert plan["cells"] == as_json.json()["request_counts"]["total"]


@pytest.mark.parametrize(
    ("text", "param", "ending"),
    [
        (TEXT.replace("op: scale", "op: scal"), "interventions.op", "(line 7, column 3)"),
        (TEXT.replace("limit: 4", "limit: -4"), "tasks.0.limit", "(line 11, column 34)"),
        (TEXT.replace("model: tiny", "model: nobody"), "model", "(line 3, column 1)"),
        (TEXT.replace("  op: scale\n", ""), "interventions.op", "(line 5, column 1)"),
        (TEXT.replace("[0.5, 2]", "[0.5, 2"), None, "(line 9, column 11)"),
    ],
)
@pytest.mark.parametrize("path", ["sweeps", "sweeps/plan"])
async def test_an_error_has_a_line_and_a_column(
    installation: Installation, path: str, text: str, param: str | None, ending: str
) -> None:
    async with running_server(installation, working=False) as server:
        answer = await post(server, path, text)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (422, param)
    assert error["message"].endswith(ending)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"name: \xff",
        b"name: .nan",
        b"seed: " + b"9" * 400,
        b"{a: [",
        b'name: "\\U00110000"',
        b"[" * 5000,
        b"a: &a [1, 1]\nb: &b [*a, *a]\n",
        b"name: !!python/object:os.system x",
        b"? [1, 2]\n: 3",
        b"name: 2020-01-01",
        b"#" * (MAX_YAML_BYTES + 1),
    ],
)
async def test_no_yaml_makes_the_server_fail(large_body_server: Server, text: bytes) -> None:
    answer = await post(large_body_server, "sweeps", text)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
async def test_another_encoding_is_refused_with_the_remedy(installation: Installation, encoding: str) -> None:
    text = TEXT.replace("first-look", "premi\u00e8re")
    assert text != TEXT
    async with running_server(installation, working=False) as server:
        answer = await post(server, "sweeps/plan", text.encode(encoding))
    assert answer.json()["error"]["message"] == "the body is not UTF-8 text; save it as UTF-8"


async def test_deep_nesting_is_found_before_it_is_parsed(installation: Installation) -> None:
    async with running_server(installation, working=False, limits=LIMITS) as server:
        answer = await post(server, "sweeps", "[" * MAX_YAML_BYTES)
    message = "the body is not valid YAML: it is nested deeper than 32 levels (line 1, column 33)"
    assert answer.json()["error"]["message"] == message


async def test_json_is_yaml_too(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        answer = await post(server, "sweeps/plan", '{\n\t"name": "first-look"\n}')
    assert answer.json()["error"]["param"] == "model"
