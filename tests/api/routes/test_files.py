"""Uploads, pages, contents and deletion of files; they belong to the API key that uploaded them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from api.auth.api_keys import KeyScope
from api.auth.limits import Limits
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

CONTENT = b'{"custom_id": "a"}\n'


async def upload(server: Server, content: bytes = CONTENT, fields: Mapping[str, str] | None = None) -> httpx.Response:
    data = {"purpose": "batch", **(fields or {})}
    return await server.http.post("/v1/files", data=data, files={"file": ("in.jsonl", content)})


async def created(server: Server, content: bytes = CONTENT, fields: Mapping[str, str] | None = None) -> dict[str, Any]:
    answer = await upload(server, content, fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_file_is_uploaded_listed_read_and_deleted(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        first = await created(server)
        assert (first["object"], first["bytes"], first["filename"], first["purpose"]) == (
            "file",
            len(CONTENT),
            "in.jsonl",
            "batch",
        )
        expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
        second = await created(server, fields=expiry)
        assert second["expires_at"] - second["created_at"] == 3600
        listed = (await server.http.get("/v1/files", params={"limit": 1})).json()
        assert ([file["id"] for file in listed["data"]], listed["has_more"]) == ([second["id"]], True)
        assert (await server.http.get(f"/v1/files/{first['id']}")).json() == first
        content = await server.http.get(f"/v1/files/{first['id']}/content")
        assert content.content == CONTENT
        assert (await server.http.delete(f"/v1/files/{first['id']}")).json()["deleted"] is True
        for path in ("", "/content"):
            gone = await server.http.get(f"/v1/files/{first['id']}{path}")
            assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "5"}, "expires_after.seconds"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_field_of_an_upload_is_named(
    installation: Installation, fields: dict[str, str], param: str
) -> None:
    async with running_server(installation, working=False) as server:
        answer = await upload(server, fields=fields)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
        assert (await server.http.get("/v1/files")).json()["data"] == []


async def test_a_form_that_says_a_field_twice_or_in_another_charset_is_refused(installation: Installation) -> None:
    async def sent(fields: str, charset: str) -> tuple[int, str]:
        body = f'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{{}}\r\n{fields}--B--\r\n'
        headers = {"Content-Type": f"multipart/form-data; boundary=B{charset}"}
        answer = await server.http.post("/v1/files", content=body.encode(), headers=headers)
        return answer.status_code, answer.json()["error"]["param"]

    def field(name: str, value: str) -> str:
        return f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'

    async with running_server(installation, working=False) as server:
        purpose = field("purpose", "batch")
        assert await sent(purpose + field("purpose[a]", "b"), "") == (400, "purpose")
        assert await sent(field("purpose[a]", "b") + purpose, "") == (400, "purpose")
        assert await sent(purpose + field("expires_after[seconds]", "\u00b2"), "") == (400, "expires_after.anchor")
        assert await sent(purpose, "; charset=undefined") == (400, "file")
        assert await sent(purpose, "; charset=unicode_escape") == (400, "file")
        named = await server.http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a\0b", CONTENT)})
        assert named.json()["filename"] in ("ab", "a%00b")  # PostgreSQL stores no NUL


async def test_an_upload_needs_a_form_with_a_file_that_is_not_empty(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        answers = [
            await server.http.post("/v1/files", json={"purpose": "batch"}),
            await server.http.post("/v1/files", data={"purpose": "batch"}, files={"other": ("a", CONTENT)}),
            await server.http.post(
                "/v1/files", content=b"no form", headers={"Content-Type": "multipart/form-data; boundary=x"}
            ),
            await upload(server, b""),
        ]
        stored = installation.sql_store.batches.files.known()
    assert [(answer.status_code, answer.json()["error"]["param"]) for answer in answers] == [(400, "file")] * 4
    assert stored == frozenset()


@pytest.mark.parametrize(
    ("encoding", "reason"), [("utf-16", "it is UTF-16"), ("utf-16-be", "it has NUL characters, as text in UTF-16 has")]
)
async def test_a_file_in_another_encoding_is_refused(installation: Installation, encoding: str, reason: str) -> None:
    async with running_server(installation, working=False) as server:
        refused = await upload(server, (CONTENT * 2).decode().encode(encoding))
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "file")
        message = f"the file is not UTF-8 text ({reason}); save it as UTF-8, and upload it again"
        assert refused.json()["error"]["message"] == message
        assert (await server.http.get("/v1/files")).json()["data"] == []
        await created(server, CONTENT.decode().encode("utf-8-sig"))


async def test_a_file_may_be_larger_than_other_bodies_but_not_than_its_own_limit(installation: Installation) -> None:
    limits = Limits(body_bytes=2000, file_bytes=20_000, requests_a_minute=None)
    async with running_server(installation, working=False, limits=limits) as server:
        assert (await upload(server, b"x" * 10_000)).status_code == 200
        too_large = await upload(server, b"x" * 30_000)
        body = await server.http.post("/v1/completions", content=b"x" * 3000)
    assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "body_too_large")
    assert body.status_code == 413


async def test_only_its_owner_or_an_admin_deletes_a_file(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        (_, mine), (_, other) = (server.key(KeyScope.READ, KeyScope.SUBMIT) for _ in range(2))
        admin = server.key(KeyScope.ADMIN)[1]
        files = [
            await server.http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", CONTENT)}, headers=mine)
            for _ in range(2)
        ]
        paths = [f"/v1/files/{file.json()['id']}" for file in files]
        assert (await server.http.get(paths[0], headers=other)).status_code == 200
        assert (await server.http.delete(paths[0], headers=other)).status_code == 403
        assert (await server.http.delete(paths[0], headers=mine)).status_code == 200
        assert (await server.http.delete(paths[1], headers=admin)).status_code == 200
