"""The files of the web page, and who may load them. Its behaviour in a browser is tested in `tests/api/webui`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.auth.api_keys import KeyScope
from api.auth.authentication import ALWAYS_OPEN
from api.routes.webui import PAGE_PATHS
from tests.api.running_server import running_server
from tests.worker.installation import Installation

FOLDER = Path("api/webui")


@pytest.mark.anyio
async def test_the_page_loads_only_its_own_scripts(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        for path in PAGE_PATHS:
            answer = await server.http.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["x-content-type-options"] == "nosniff"
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
        index = (await server.http.get("/")).text
        assert not re.search(r"<script(?! type=\"module\" src)|<style| on\w+=", index), (
            "nothing stands in the page itself"
        )
        assert (await server.http.get("/page/nothing.js")).status_code == 404


@pytest.mark.anyio
async def test_a_browser_gets_a_file_that_it_has_only_once(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        for path in ("/", "/page/style.css"):
            first = await server.http.get(path)
            again = await server.http.get(path, headers={"If-None-Match": first.headers["etag"]})
            other = await server.http.get(path, headers={"If-None-Match": '"other"'})
            assert (first.status_code, again.status_code, other.status_code) == (200, 304, 200), path
            assert (again.content, again.headers["etag"]) == (b"", first.headers["etag"])
            assert again.headers["content-security-policy"] == first.headers["content-security-policy"]


def test_the_page_refers_only_to_existing_parts_of_this_server() -> None:
    parts = {path.relative_to(FOLDER).as_posix(): path.read_text() for path in FOLDER.rglob("*") if path.is_file()}
    assert {path for path in PAGE_PATHS if path != "/"} == {f"/page/{name}" for name in parts}
    for name, text in parts.items():
        for other in re.findall(r"from \"(\.[\w./]+)\"", text):
            path = (FOLDER / name).parent / other
            assert path.resolve().relative_to(FOLDER.resolve()).as_posix() in parts, f"{name} names {other}"
        for other in re.findall(r"\"page/([\w./]+)\"", text):
            assert other in parts, f"{name} names {other}"
        assert set(re.findall(r"https?://[^\"'\s]+", text)) <= {"http://www.w3.org/2000/svg"}, name


@pytest.mark.anyio
async def test_with_keys_the_page_needs_a_key(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        _, reads = server.key(KeyScope.READ)
        assert (await server.http.get("/")).status_code == 401
        assert (await server.http.get("/", headers=reads)).status_code == 200


@pytest.mark.anyio
async def test_the_page_can_be_public_without_opening_anything_else(installation: Installation) -> None:
    async with running_server(installation, working=False, open_paths=ALWAYS_OPEN | PAGE_PATHS) as server:
        server.key(KeyScope.READ)
        for path in PAGE_PATHS:
            assert (await server.http.get(path)).status_code == 200, path
        for path in ("/page/", "/page/x.js", "/page/%2e%2e/app.py", "/v1/models", "/v1/sweeps", "/metrics"):
            assert (await server.http.get(path)).status_code == 401, path
