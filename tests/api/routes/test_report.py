"""The report of a sweep, over HTTP."""

from __future__ import annotations

import pytest

from tests.api.running_server import running_server
from tests.worker.installation import Installation


@pytest.mark.anyio
@pytest.mark.processes
async def test_the_report_is_one_page_without_access_to_the_server(installation: Installation) -> None:
    async with running_server(installation) as server:
        sweep_id = await server.done(name="<b>mine</b>")
        path = f"/v1/sweeps/{sweep_id}/report"
        answer = await server.http.get(path)
        tags = f'"other", W/{answer.headers["etag"]}'  # as a proxy that compresses sends it back
        again = await server.http.get(path, headers={"If-None-Match": tags})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert sweep_id in answer.text
    assert "&lt;b&gt;mine" in answer.text
    assert "<b>mine" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox ")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.anyio
async def test_a_sweep_in_progress_has_no_report_yet(installation: Installation) -> None:
    async with running_server(installation, working=False) as server:
        sweep = await server.submit()
        assert (await server.http.get(f"/v1/sweeps/{sweep['id']}/report")).status_code == 409
