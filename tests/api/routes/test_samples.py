"""The samples of a sweep, page by page, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.running_server import running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio


async def test_the_pages_have_the_samples_of_the_results(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep_id = await server.done()
        results = await server.http.get(f"/v1/sweeps/{sweep_id}/results", headers={"Accept": "application/json"})
        found: list[Any] = []
        after: dict[str, str] = {}
        while True:
            params = {"target_language": "fra_Latn", "selection": "none", "limit": "3", **after}
            page = (await server.http.get(f"/v1/sweeps/{sweep_id}/samples", params=params)).json()
            found += page["data"]
            if not page["has_more"]:
                break
            after = {"after": page["last_id"]}
    rows = results.json()["data"]
    unsteered = {(row["data_language"], row["doc_id"]): row for row in rows if row["method"] is None}
    expected = [row for row in rows if row["method"] and row["target_language"] == "fr" and row["selection"] is None]
    assert expected
    keys = ("cell_id", "doc_id", "factor", "prediction", "completion", "correct")
    assert [[sample[key] for key in keys] for sample in found] == [[row[key] for key in keys] for row in expected]
    for sample in found:
        baseline = unsteered.get((sample["data_language"], sample["doc_id"]))
        assert (sample["baseline"] and sample["baseline"]["completion"]) == (baseline and baseline["completion"])


async def test_a_wrong_request_is_refused(installation: Installation) -> None:
    async with running_server(installation) as server:
        path = f"/v1/sweeps/{await server.done()}/samples"
        wrong = await server.http.get(path, params={"after": "sweep"})
        huge = await server.http.get(path, params={"neuron_index": str(2**31)})
        unknown = await server.http.get(path, params={"colour": "red"})
        missing = await server.http.get("/v1/sweeps/sweep_none/samples")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "after")
    assert (huge.status_code, huge.json()["error"]["param"]) == (422, "neuron_index")
    assert (unknown.status_code, missing.status_code) == (422, 404)


async def test_a_sweep_in_progress_has_no_samples_yet(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        sweep = await server.submit()
        assert (await server.http.get(f"/v1/sweeps/{sweep['id']}/samples")).status_code == 409


async def test_the_samples_of_one_choice_of_tokens_are_found(installation: Installation) -> None:
    interventions = {"languages": ["fr"], "op": "scale", "factors": [2], "tokens": [None, {"start": 1}]}
    async with running_server(installation) as server:
        path = f"/v1/sweeps/{await server.done(interventions=interventions)}/samples"
        labels = []
        for tokens in ("start=1", "none"):
            page = (await server.http.get(path, params={"tokens": tokens, "when": "none", "part": "none"})).json()
            labels.append({sample["tokens"] for sample in page["data"]})
        drifting = (await server.http.get(path, params={"when": "drift"})).json()
    assert labels == [{"start=1"}, {None}]
    assert drifting["data"] == []
