"""Activations at each token over REST, as a Parquet file and as the activity of each language's neurons."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.domain.generation.prompt import TokenIds
from ampsweep.domain.intervention import Intervention
from api.auth.api_keys import KeyScope
from api.auth.limits import Limits
from api.http.change_notifier import ChangeNotifier
from benchmarks.models.adapter import tiny_adapter
from engine.base import Capture, CaptureRequest, Steering
from engine.capture.selection import NeuronSelection
from engine.fake import FakeEngine
from engine.neurons.neuron_set import NeuronSet
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation, until

pytestmark = pytest.mark.anyio

SPECIAL = 256
SETS: dict[str, Any] = {"fr": {"0": [3, 5], "2": [1]}, "tr": {"2": [1, 30]}, "ht": {}}
STEERED = {"languages": ["fr"], "op": "scale", "factor": 3}
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ja"}]
BODY: dict[str, Any] = {"model": "tiny", "texts": ["né", "ab"], "select": {"layers": [1, 3]}}


async def imported(server: Server) -> str:
    await server.pool.ready()
    answer = await server.http.post("/v1/neuron-sets", json={"model": "tiny", "neurons": SETS})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def captured(server: Server, body: dict[str, Any]) -> pa.Table:
    answer = await server.http.post("/v1/activations", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    return pq.read_table(io.BytesIO(answer.content))


async def directly(
    installation: Installation, ids: list[int], by_layer: dict[int, Any], intervention: Any = None, set_id: str = ""
) -> np.ndarray:
    """Return the activations [T, neurons] that an engine of the same kind computes without a server."""
    engine = FakeEngine(installation.engine_info)
    steering = None
    if intervention is not None:
        engine.add_neurons(NeuronSet.load(installation.neuron_sets.fetch(set_id)))
        steering = Steering(intervention=Intervention.from_dict(intervention), neurons=set_id)
    neurons = NeuronSelection.of({layer: np.array(indices) for layer, indices in by_layer.items()})
    capture = await engine.capture(CaptureRequest(prompt=TokenIds(tuple(ids)), neurons=neurons, steering=steering))
    return np.concatenate(capture.activations, axis=1)


async def test_every_token_of_every_text_has_a_row_for_each_layer(installation: Installation) -> None:
    async with running_server(installation) as server:
        await server.pool.ready()
        table = await captured(server, BODY)
    ids = [[SPECIAL, *"né".encode()], [SPECIAL, *b"ab"]]
    assert table.column("text").to_pylist() == [0] * 8 + [1] * 6
    assert table.column("text_id").to_pylist() == ["0"] * 8 + ["1"] * 6
    assert table.column("token_id").to_pylist() == [token for text in ids for token in text for _ in range(2)]
    assert table.column("position").to_pylist() == [place for text in ids for place in range(len(text)) for _ in "ab"]
    assert table.column("layer").to_pylist() == [1, 3] * 7
    kind = table.schema.field("activations").type
    assert (kind.value_type, kind.list_size) == (pa.float16(), 32)
    expected = [
        row
        for text in ids
        for row in (await directly(installation, text, {1: range(32), 3: range(32)})).reshape(-1, 32)
    ]
    np.testing.assert_allclose(np.array(table.column("activations").to_pylist()), expected, rtol=1e-3, atol=1e-3)


async def test_the_neurons_of_languages_and_listed_ones_steered_or_not(installation: Installation) -> None:
    async with running_server(installation) as server:
        set_id = await imported(server)
        text = {"id": "one", "prompt": "ab", "completion": "c"}
        chosen: list[tuple[dict[str, Any], dict[int, list[int]]]] = [
            ({"languages": ["fr", "tr"]}, {0: [3, 5], 2: [1, 30]}),
            ({"languages": ["tur_Latn"]}, {2: [1, 30]}),
            ({"neurons": [[2, 4], [0, 9], [2, 0]]}, {0: [9], 2: [0, 4]}),
        ]
        for select, by_layer in chosen:
            for intervention in (None, STEERED, {**STEERED, "scope": "generation"}):
                body = {**BODY, "texts": [text], "select": select, "dtype": "float32", "intervention": intervention}
                table = await captured(server, body)
                metadata = json.loads(table.schema.metadata[b"ampsweep.capture"])
                assert metadata["neurons"] == {str(layer): indices for layer, indices in by_layer.items()}
                uses_set = "languages" in select or intervention is not None
                assert metadata["neuron_set"] == (set_id if uses_set else None)
                assert (metadata["intervention"] or {}).get("scope") == (
                    intervention and intervention.get("scope", "all")
                )
                assert set(table.column("text_id").to_pylist()) == {"one"}
                expected = await directly(installation, [SPECIAL, *b"abc"], by_layer, intervention, set_id)
                values = np.concatenate([np.array(row) for row in table.column("activations").to_pylist()])
                np.testing.assert_array_equal(values, expected.ravel())


async def test_chats_and_tokens_are_captured_as_a_model_reads_them(installation: Installation) -> None:
    async with running_server(installation) as server:
        await server.pool.ready()
        texts = [{"messages": CHAT}, {"messages": CHAT[:1]}, {"prompt": [97, 98]}]
        table = await captured(server, {**BODY, "texts": texts, "select": {"layers": [0]}})
    by_text = [table.filter(pa.compute.equal(table["text"], text))["token_id"].to_pylist() for text in range(3)]
    assert bytes(by_text[0]) == b"user: Hi\nassistant: Ja\n"
    assert bytes(by_text[1]) == b"user: Hi\nassistant:"
    assert by_text[2] == [97, 98]


async def test_a_model_is_named_by_its_preset_or_adapter(installation: Installation, tmp_path: Path) -> None:
    adapter, _ = tiny_adapter(ATLAS_MODEL, tmp_path, targets=["q_proj"], seed=1)
    catalog = replace(installation.catalog, adapters={"tiny": {"formal": adapter}})
    async with running_server(replace(installation, catalog=catalog)) as server:
        await imported(server)
        assert (await server.http.post("/v1/interventions", json={"name": "fr", "intervention": STEERED})).is_success
        by_preset = await captured(server, {**BODY, "model": "tiny+fr"})
        assert by_preset.equals(await captured(server, {**BODY, "intervention": STEERED}))
        assert not by_preset.equals(await captured(server, BODY))
        by_adapter = await captured(server, {**BODY, "model": "formal"})
        assert by_adapter.equals(await captured(server, {**BODY, "adapter": "formal"}))
        assert json.loads(by_adapter.schema.metadata[b"ampsweep.capture"])["adapter"] == "formal"


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"model": "nope"}, 422, "model"),
        ({"texts": []}, 422, "texts"),
        ({"texts": ["a", 3]}, 422, "texts.1"),
        ({"texts": [{"prompt": "a", "messages": CHAT}]}, 422, "texts.0.messages"),
        ({"texts": [{"id": "x"}]}, 422, "texts.0.prompt"),
        ({"texts": [{"prompt": [1], "completion": "b"}]}, 422, "texts.0.completion"),
        ({"texts": ["a", {"prompt": [300]}]}, 422, "texts.1"),
        ({"texts": ["a", "x" * 2048]}, 422, "texts.1"),
        ({"select": {}}, 422, "select.neurons"),
        ({"select": {"layers": [1], "neurons": [[0, 1]]}}, 422, "select.layers"),
        ({"select": {"layers": [4]}}, 422, "select.layers"),
        ({"select": {"neurons": [[0, 1], [0, 32]]}}, 422, "select.neurons.1"),
        ({"select": {"languages": ["sw"]}}, 422, "select.languages"),
        ({"select": {"languages": ["ht"]}}, 422, "select.languages"),
        ({"dtype": "int8"}, 422, "dtype"),
        ({"neurons": "ns_1"}, 422, "neurons"),
        ({"neurons": "ns_1", "select": {"languages": ["fr"]}}, 404, "neurons"),
        ({"adapter": "formal"}, 422, "adapter"),
        ({"intervention": {**STEERED, "languages": ["sw"]}}, 422, "intervention.languages"),
        ({"intervention": {**STEERED, "scope": "generation"}}, 422, "intervention.scope"),
        ({"intervention": {**STEERED, "tokens": {"start": 3}}}, 422, "intervention.tokens"),
        ({"intervention": {**STEERED, "when": "drift"}}, 422, "intervention.when"),
        ({"intervention": {**STEERED, "part": "thinking"}}, 422, "intervention.part"),
        ({"heads": [1]}, 422, "heads"),
    ],
)
async def test_a_wrong_field_is_refused_by_its_name(
    shared_server: Server, changes: dict[str, Any], status: int, param: str
) -> None:
    if not (await shared_server.http.get("/v1/neuron-sets")).json()["data"]:
        await imported(shared_server)
    answer = await shared_server.http.post("/v1/activations", json={**BODY, **changes})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"].startswith(param)


async def test_what_is_too_large_is_refused_before_anything_is_computed(installation: Installation) -> None:
    tokens, neurons = 7, 64
    async with running_server(installation, limits=Limits(capture_bytes=tokens * neurons * 2)) as server:
        await imported(server)
        assert (await captured(server, BODY)).num_rows == 2 * tokens
        computed = (await server.pool.metrics())[0].stats
        answer = await server.http.post("/v1/activations", json={**BODY, "dtype": "float32"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (422, "capture_too_large", "texts")
        assert "64 neurons at 7 tokens" in error["message"]
        activity = await server.http.post("/v1/activations/languages", json={"model": "tiny", "text": "x" * 900})
        assert (activity.json()["error"]["code"], activity.json()["error"]["param"]) == ("capture_too_large", "text")
        assert (await server.pool.metrics())[0].stats == computed
    async with running_server(installation, limits=Limits(prompt_chars=4)) as server:
        await server.pool.ready()
        answer = await server.http.post(
            "/v1/activations", json={**BODY, "texts": ["né", {"prompt": "a", "completion": "bc"}]}
        )
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("prompt_too_long", "texts")


async def test_an_activation_above_float16_is_an_error_and_float32_is_not(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def huge(_: FakeEngine, request: CaptureRequest) -> Capture:
        assert isinstance(request.prompt, TokenIds)
        ids = request.prompt.ids
        values = tuple(np.full((len(ids), count), 70_000, np.float32) for count in request.neurons.counts)
        return Capture(token_ids=ids, token_texts=("",) * len(ids), activations=values)

    monkeypatch.setattr(FakeEngine, "capture", huge)
    async with running_server(installation) as server:
        await server.pool.ready()
        answer = await server.http.post("/v1/activations", json=BODY)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "dtype")
        assert "capture in float32" in answer.json()["error"]["message"]
        table = await captured(server, {**BODY, "dtype": "float32"})
    assert table.column("activations")[0].as_py() == [70_000.0] * 32


async def test_the_activity_of_languages_counts_their_active_neurons(installation: Installation) -> None:
    async with running_server(installation) as server:
        set_id = await imported(server)
        for intervention in (None, STEERED):
            body = {"model": "tiny", "text": "né", "intervention": intervention}
            answer = await server.http.post("/v1/activations/languages", json=body)
            assert answer.status_code == 200, answer.text
            activity = answer.json()
            ids = [SPECIAL, *"né".encode()]
            assert [token["id"] for token in activity["tokens"]] == ids
            assert (activity["neuron_set"], activity["languages"], activity["neurons"]) == (
                set_id,
                ["fr", "tr", "ht"],
                [3, 2, 0],
            )
            assert activity["relative"] is None
            values = await directly(installation, ids, {0: [3, 5], 2: [1, 30]}, intervention, set_id)
            active = [[(row[[0, 1, 2]] > 0).mean(), (row[[2, 3]] > 0).mean()] for row in values]
            np.testing.assert_allclose([row[:2] for row in activity["active"]], active, atol=1e-4)
            assert [row[2] for row in activity["active"]] == [None] * len(ids)


@pytest.mark.parametrize("path", ["/v1/activations", "/v1/activations/languages"])
async def test_capture_needs_a_key_that_may_submit(installation: Installation, path: str) -> None:
    async with running_server(installation) as server:
        await imported(server)
        _, reader = server.key(KeyScope.READ)
        _, submitter = server.key(KeyScope.SUBMIT)
        body = BODY if path == "/v1/activations" else {"model": "tiny", "text": "a"}
        statuses = [
            (await server.http.post(path, json=body, headers=headers)).status_code
            for headers in ({}, reader, submitter)
        ]
    assert statuses == [401, 403, 200]


async def test_the_requests_of_one_key_wait_for_each_other_and_not_for_those_of_another(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = FakeEngine.capture
    started: list[str] = []
    notifier = ChangeNotifier()
    may_end = asyncio.Event()

    async def slow(self: FakeEngine, request: CaptureRequest) -> Capture:
        started.append(str(request.prompt))
        notifier.notify()
        await may_end.wait()
        return await capture(self, request)

    monkeypatch.setattr(FakeEngine, "capture", slow)
    async with running_server(installation) as server:
        await server.pool.ready()
        _, ada = server.key(KeyScope.SUBMIT)
        _, bob = server.key(KeyScope.SUBMIT)

        def ask(text: str, key: dict[str, str]) -> asyncio.Task[Any]:
            body = {**BODY, "texts": [text]}
            return asyncio.create_task(server.http.post("/v1/activations", json=body, headers=key))

        answers = [ask("a", ada), ask("b", ada), ask("c", ada)]
        await until(notifier, lambda: len(started) == 1)
        answers.append(ask("d", bob))
        await until(notifier, lambda: len(started) == 2)
        of_ada, of_bob = (
            [str(TokenIds((SPECIAL, *text))) for text in texts] for texts in ((b"a", b"b", b"c"), (b"d",))
        )
        assert started[0] in of_ada  # any of them can arrive first
        assert started[1:] == of_bob
        may_end.set()
        assert [(await answer).status_code for answer in answers] == [200] * 4
    assert len(started) == 4
