"""The lists of what a server offers, over HTTP."""

from __future__ import annotations

import pytest

from tests.api.running_server import running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("path", "kind", "known"),
    [
        ("corpora", "corpus", "atlas"),
        ("data-sets", "data_set", "atlas"),
        ("tasks", "task", "lss"),
        ("languages", "language", "fr"),
    ],
)
async def test_a_list_names_what_specs_can_name(installation: Installation, path: str, kind: str, known: str) -> None:
    async with running_server(installation, working=False) as server:
        listed = (await server.http.get(f"/v1/{path}")).json()
    assert (listed["object"], listed["has_more"]) == ("list", False)
    assert known in [offer["id"] for offer in listed["data"]]
    assert {offer["object"] for offer in listed["data"]} == {kind}


async def test_the_languages_of_texts_are_identified(installation: Installation) -> None:
    texts = [
        "La monnaie de l'Égypte est la livre égyptienne.",
        "エジプトの通貨はポンドです。",
        " 12 ",
        "\N{GRINNING FACE}\0",
    ]
    async with running_server(installation, working=False) as server:
        answer = await server.http.post("/v1/languages/identify", json={"texts": texts})
        wrong = await server.http.post("/v1/languages/identify", json={"texts": [1]})
    identified = answer.json()["data"]
    assert [each["language"] for each in identified] == ["fr", "ja", None, None]  # the latter two have no letters
    assert all(0 <= each["confidence"] <= 1 for each in identified)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "texts.0")
