"""Valid and invalid requests generated from the OpenAPI document: each response conforms to it, and none is a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from api.auth.api_keys import KeyScope
from jobs.clock import SystemClock
from jobs.store.sql.store import SqlStore
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.processes

NOT_HERE = {
    "positive_data_acceptance",  # names (models, languages, ids) are right only where known, which no schema says
}
NOT_HTTP = b"Invalid HTTP request received."
"""What uvicorn answers before the application sees a request, for example to a control character in a header."""


@dataclass(frozen=True, kw_only=True)
class ServerUnderTest:
    """The OpenAPI document of a server, an API key, and the ids of a completed sweep and a neuron set."""

    schema: Any
    headers: dict[str, str]
    sweep_id: str
    neurons: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    import schemathesis  # here, because the other tiers collect this file too

    folder = tmp_path_factory.mktemp("installation")
    installation = Installation.build(folder, store=SqlStore(f"sqlite:///{folder / 'ampsweep.db'}", SystemClock()))
    with server_in_thread(installation) as (url, server):
        _, headers = server.key(KeyScope.ADMIN)
        with httpx.Client(base_url=url, headers=headers) as client:
            sweep = client.post("/v1/sweeps", json=SPEC).json()
            client.get(f"/v1/sweeps/{sweep['id']}/events", timeout=60)  # ends with the sweep
            (neurons,) = client.get("/v1/neuron-sets").json()["data"]
        schema = schemathesis.openapi.from_url(f"{url}/v1/openapi.json", headers=headers)
        yield ServerUnderTest(schema=schema, headers=headers, sweep_id=sweep["id"], neurons=neurons["id"])
    installation.store.close()


def with_existing_ids(case: Any, sweep_id: str, neurons: str, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Replace generated names by known ones, so that requests pass the look-up of names."""
    names = {"sweep_id": sweep_id, "neuron_set_id": neurons, "model": "tiny"}
    case.path_parameters = {name: names.get(name, value) for name, value in (case.path_parameters or {}).items()}
    if isinstance(case.query, dict):
        case.query.pop("after", None)
    if not isinstance(case.body, dict):
        return
    body = case.body
    body["model"] = "tiny"
    if "tasks" in body:
        body["neurons"] = {"id": neurons}
        body["tasks"] = [{"name": "lss", "languages": ["en"], "limit": 1}]
        body["interventions"] = {**body["interventions"], "languages": ["fr"], "layers": "all", "factors": [2.0]}
    elif "neurons" in body and ("prompt" in body or "messages" in body):
        body["neurons"] = neurons
    for name in ("max_tokens", "max_completion_tokens", "n"):
        if isinstance(body.get(name), int):
            body[name] = draw(st.integers(1, 3))
    if isinstance(body.get("intervention"), dict):
        body["intervention"] = {**body["intervention"], "languages": ["fr"], "layers": "all"}


def has_no_list_of_texts(case: Any) -> bool:
    """Return whether a query has another value where its schema has a list of texts: in a URL it is one, and valid."""
    query = case.query if isinstance(case.query, dict) else {}
    tags = query.get("tag", [])
    return not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags)


def run(served: ServerUnderTest, *, cases: int) -> Counter[int]:
    """Send `cases` requests, distributed over the operations, and count the statuses."""
    from schemathesis import GenerationMode

    operations = [result.ok() for result in served.schema.get_all_operations()]
    kinds = ((GenerationMode.POSITIVE, True), (GenerationMode.POSITIVE, False), (GenerationMode.NEGATIVE, False))
    each = max(1, cases // (len(operations) * len(kinds)))
    statuses: Counter[int] = Counter()
    for operation in operations:
        for mode, with_known_names in kinds:
            with suppress(Unsatisfiable):  # an operation that takes nothing cannot be given anything wrong
                send(served, operation.as_strategy(generation_mode=mode), each, statuses, with_known_names)
    return statuses


def send(
    served: ServerUnderTest, made_up: st.SearchStrategy[Any], count: int, statuses: Counter[int], with_known_names: bool
) -> None:
    """Send `count` requests to an operation and check each response."""
    from schemathesis.checks import CHECKS

    checks = {name: CHECKS.get_one(name) for name in CHECKS.get_all_names() if name not in NOT_HERE}
    of_too_large = {name: check for name, check in checks.items() if name != "negative_data_rejection"}

    @hypothesis.settings(
        max_examples=count,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=made_up, data=st.data())
    def once(case: Any, data: st.DataObject) -> None:
        hypothesis.assume(not has_no_list_of_texts(case))
        if with_known_names:
            with_existing_ids(case, served.sweep_id, served.neurons, data.draw)
        answer = case.call(headers=served.headers, timeout=30)
        hypothesis.assume(answer.content != NOT_HTTP)
        statuses[answer.status_code] += 1
        made = of_too_large if answer.status_code == 413 else checks  # a rejection that the library does not count
        case.validate_response(answer, checks=list(made.values()), headers=served.headers)

    once()


def test_no_request_breaks_the_server(served: ServerUnderTest) -> None:
    statuses = run(served, cases=1000)
    assert statuses.total() >= 200
    assert {200, 201, 401, 404, 422} <= set(statuses)


@pytest.mark.reliability
@pytest.mark.timeout(3000)
def test_ten_thousand_requests_do_not_break_the_server(served: ServerUnderTest) -> None:
    statuses = run(served, cases=15_000)
    print(dict(sorted(statuses.items())))  # noqa: T201  (the figure of docs/reliability.md)
    assert statuses.total() >= 10_000
