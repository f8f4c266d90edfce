"""Both clients against a real server: everything of the REST interface that they offer."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from pathlib import Path
from typing import Any, cast

import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from ampsweep import AsyncClient, Client
from ampsweep.client.models import Sweep
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import Conflict, InvalidRequest, NoConnection, NotFound, UnknownName
from tests.ampsweep.client.both_clients import KINDS, opened
from tests.ampsweep.client.server_process import ServerProcess
from tests.ampsweep.conftest import CELLS

pytestmark = pytest.mark.processes


def test_a_sweep_goes_in_and_its_results_come_out(client: Client, done: Sweep, tmp_path: Path) -> None:
    assert (done.status, done.ended, done.request_counts.completed) == ("completed", True, CELLS)
    table = client.results(done.id)
    assert set(table["cell_id"].to_pylist()) == {cell["id"] for cell in client.cells(done.id)}
    path = client.download(done.id, tmp_path / "samples.parquet")
    assert pq.read_table(path).equals(table)
    assert list(tmp_path.iterdir()) == [path]


def test_the_summary_has_a_row_a_steered_cell_and_the_best_factors(client: Client, done: Sweep) -> None:
    summary = client.summary(done.id)
    assert {(row["target_language"], row["factor"]) for row in summary["rows"]} == {
        (target, factor) for target in ("fr", "tr") for factor in (0.5, 2.0)
    }
    with_neurons = {row["target_language"] for row in summary["rows"] if row["neurons"]}
    assert with_neurons
    assert {row["target_language"] for row in summary["best_factors"]} == with_neurons


def test_watching_shows_the_beginning_and_the_end(client: Client, spec: dict[str, Any]) -> None:
    spec["seed"] = secrets.randbelow(10**6)  # cells that nobody has computed
    seen = list(client.watch(client.submit(spec).id, interval=0.0))
    assert seen[-1].status == "completed"
    counts = [sweep.request_counts.completed for sweep in seen]
    assert counts == sorted(counts)
    assert counts[-1] == CELLS


def test_events_come_once_each_and_can_be_taken_up_anywhere(client: Client, done: Sweep) -> None:
    events = list(client.events(done.id))
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert events[0].type == "sweep.created"
    assert list(client.events(done.id, after=events[2].id)) == events[3:]


def test_activations_come_as_the_table_that_is_asked_for(client: Client, tmp_path: Path) -> None:
    texts: list[Any] = ["ab", {"id": "one", "prompt": "cd", "completion": "e"}]
    table = client.activations("tiny", texts, {"layers": [1]})
    path = client.download_activations("tiny", texts, {"layers": [1]}, tmp_path / "activations.parquet")
    assert pq.read_table(path).equals(table, check_metadata=True)
    assert list(tmp_path.iterdir()) == [path]
    assert client.activations("tiny", texts, {"layers": [1]}, as_="polars").height == 7
    for one in ("ab", {"prompt": "ab"}):
        with pytest.raises(InvalidRequest, match="put the text into a list"):
            client.activations("tiny", cast("Any", one), {"layers": [1]})
    with pytest.raises(InvalidRequest, match="unknown adapter of model tiny 'formal'") as unknown:
        client.download_activations("tiny", texts, {"layers": [1]}, path, adapter="formal")
    assert unknown.value.param == "adapter"
    assert table.num_rows == 3 + 4
    assert table["text_id"].to_pylist() == ["0"] * 3 + ["one"] * 4
    assert client.activations("tiny", texts, {"layers": [1]}, dtype="float32", as_="pandas").shape == (7, 7)
    with pytest.raises(InvalidRequest, match="no layer 9") as refused:
        client.activations("tiny", texts, {"layers": [9]})
    assert refused.value.param == "select.layers"
    set_id = client.create_neuron_set("tiny", {"fr": {"1": [3]}, "tr": {"2": [5]}})["id"]
    steered = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 3.0})
    plain, changed = (
        client.language_activity("tiny", "abcdef", intervention=each, neurons=set_id) for each in (None, steered)
    )
    assert (plain["languages"], plain["neuron_set"], len(plain["active"])) == (["fr", "tr"], set_id, 7)
    assert plain["active"] != changed["active"]


def test_samples_and_summary_come_as_the_table_that_is_asked_for(client: Client, done: Sweep) -> None:
    samples, metrics = client.results(done.id), client.summary(done.id, as_="arrow")
    frame, rows = client.results(done.id, as_="pandas"), client.summary(done.id, as_="pandas")
    assert isinstance(frame, pd.DataFrame)
    assert frame["score"].tolist() == samples["score"].to_pylist()
    assert (
        rows["value"].tolist()
        == metrics["value"].to_pylist()
        == [row["value"] for row in client.summary(done.id)["rows"]]
    )
    assert client.results(done.id, as_="polars").equals(pl.DataFrame(samples))
    assert client.summary(done.id, as_="polars").height == metrics.num_rows
    with pytest.raises(InvalidRequest, match="known: arrow, pandas, polars"):
        client.results(done.id, as_="excel")  # type: ignore[call-overload]


def test_an_evaluation_is_started_followed_and_listed(
    client: Client, done: Sweep, spec: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="the sweep has no texts"):  # lss scores, and writes nothing
        client.evaluate(done.id, "lfs", identifier="lid.176.ftz")
    task = {"name": "generation", "data": "atlas", "split": "corpus", "languages": ["en"], "limit": 2, "max_tokens": 4}
    written = client.wait(client.submit({**spec, "tasks": [task]}).id)
    evaluation = client.evaluate(written.id, "lfs", identifier="lid.176.ftz")
    assert client.wait_for_evaluation(written.id, evaluation["id"], interval=0.05)["status"] == "completed"
    assert client.evaluation(written.id, evaluation["id"])["status"] == "completed"
    assert evaluation["id"] in [each["id"] for each in client.evaluations(written.id)]
    scores = pq.read_table(client.download_scores(written.id, evaluation["id"], tmp_path / "scores.parquet"))
    assert 0 < scores.num_rows <= written.samples
    with pytest.raises(InvalidRequest) as refused:
        client.evaluate(written.id, "relevance", judge="nobody")
    assert refused.value.param == "model"


def test_the_same_key_sends_nothing_new(client: Client, spec: dict[str, Any]) -> None:
    key = secrets.token_hex(8)
    first = client.submit(spec, idempotency_key=key)
    assert client.submit(spec, idempotency_key=key).id == first.id
    with pytest.raises(InvalidRequest) as refused:
        client.submit({**spec, "seed": 7}, idempotency_key=key)
    assert refused.value.param == "Idempotency-Key"


def test_known_cells_are_reused(client: Client, done: Sweep, spec: dict[str, Any]) -> None:
    again = client.submit(spec)
    assert again.id != done.id
    assert again.request_counts.reused == CELLS


def test_sweeps_are_listed_newest_first_across_pages(client: Client, spec: dict[str, Any]) -> None:
    sent = [client.submit({**spec, "name": f"listed {number}"}).id for number in range(25)]
    assert [sweep.id for sweep in client.sweeps()][:25] == sent[::-1]


def test_sweeps_are_renamed_tagged_found_and_deleted(client: Client, done: Sweep) -> None:
    tag = f"tag-{secrets.token_hex(4)}"
    changed = client.update_sweep(done.id, name="Renamed", tags=["z", tag])
    assert (changed.name, changed.tags) == ("Renamed", (tag, "z"))
    assert client.update_sweep(done.id, name="Again").tags == (tag, "z")
    assert [sweep.id for sweep in client.sweeps(tags=[tag])] == [done.id]
    assert [sweep.id for sweep in client.sweeps(tags=[tag, "z"], text="AGAIN")] == [done.id]
    assert list(client.sweeps(tags=[tag], text="no such")) == []
    with pytest.raises(InvalidRequest) as refused:
        client.update_sweep(done.id)
    assert refused.value.param == "name"
    assert client.update_sweep(done.id, tags=[]).tags == ()
    client.delete_sweep(done.id)
    for gone in (client.sweep, client.delete_sweep, client.results):
        with pytest.raises(NotFound):
            gone(done.id)


def test_a_sweep_that_has_not_ended_is_not_deleted(client: Client, spec: dict[str, Any]) -> None:
    spec["interventions"]["factors"] = [secrets.randbelow(10**6) + number / 512 for number in range(200)]
    sweep = client.submit(spec)
    with pytest.raises(Conflict, match="cancel it first"):
        client.delete_sweep(sweep.id)
    client.cancel(sweep.id)
    client.wait(sweep.id)


def test_a_spec_may_be_a_file(client: Client, spec: dict[str, Any], tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump({**spec, "name": "from a file"}))
    assert client.submit(path).name == "from a file"


@pytest.mark.parametrize(
    ("change", "kind", "param"),
    [
        ({"model": "tinny"}, UnknownName, "model"),
        ({"colour": "blue"}, InvalidRequest, "colour"),
        (
            {"neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "xx"]}},
            UnknownName,
            "neurons.languages.1",
        ),
        ({"interventions": {"op": "scale", "factors": ["2"]}}, InvalidRequest, "interventions.factors.0"),
    ],
)
def test_a_wrong_field_is_named(
    client: Client, spec: dict[str, Any], change: dict[str, Any], kind: type[InvalidRequest], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.submit({**spec, **change})
    assert type(refused.value) is kind
    assert refused.value.param == param


def test_unknown_ids_are_not_found(client: Client, tmp_path: Path) -> None:
    for call in (client.sweep, client.cancel, client.summary, lambda name: list(client.events(name))):
        with pytest.raises(NotFound):
            call("sweep_none")
    with pytest.raises(NotFound):
        client.download("sweep_none", tmp_path / "nothing.parquet")
    assert list(tmp_path.iterdir()) == []


def test_an_ended_sweep_cannot_be_cancelled_paused_or_resumed(client: Client, done: Sweep) -> None:
    for steer in (client.cancel, client.pause, client.resume):
        with pytest.raises(Conflict):
            steer(done.id)


def test_a_sweep_is_paused_resumed_and_cancelled(client: Client, spec: dict[str, Any]) -> None:
    spec["interventions"]["factors"] = [secrets.randbelow(10**6) + number / 512 for number in range(200)]
    sweep = client.submit(spec)
    assert client.pause(sweep.id).status == "paused"
    assert client.resume(sweep.id).status == "in_progress"
    assert client.cancel(sweep.id).status in ("cancelling", "cancelled")
    assert client.wait(sweep.id).status == "cancelled"


def test_the_models_are_listed(client: Client) -> None:
    assert [model["id"] for model in client.models()] == ["tiny"]
    assert client.ready()


def test_the_neuron_sets_are_listed_with_their_sizes(client: Client, done: Sweep) -> None:
    (used,) = {cell["neurons"] for cell in client.cells(done.id)} - {None}
    (listed,) = [neurons for neurons in client.neuron_sets() if neurons["id"] == used]
    assert set(listed["languages"]) == {"en", "fr", "tr"}


def test_neurons_are_brought_in_and_looked_at(client: Client) -> None:
    created = client.create_neuron_set("tiny", {"fr": {"0": [1, 2], "3": [7]}})
    assert created["languages"] == {"fr": 3}
    assert client.create_neuron_set("tiny", {"fr": {"0": [1, 2], "3": [7]}})["id"] == created["id"]
    assert client.create_neuron_set("tiny", {"fra_Latn": {"0": [1, 2], "3": [7]}})["id"] == created["id"]
    assert client.neuron_set(created["id"])["by_layer"] == {"fr": [2, 0, 0, 1]}
    assert client.neuron_set(created["id"], neurons=True)["neurons"]["fr"] == {"0": [1, 2], "3": [7]}


def test_neurons_are_found_in_the_background(client: Client) -> None:
    begun = client.create_neuron_set("tiny", {"method": "lape", "corpus": "atlas", "languages": ["en", "it"]})
    neuron_set = client.wait_for_neurons(begun["id"], interval=0.05)
    assert (neuron_set["status"], set(neuron_set["languages"])) == ("completed", {"en", "it"})


@pytest.mark.parametrize("key", ["amp_1\nX-Forwarded-For: a", "ключ"])
def test_a_key_that_is_none_is_refused_by_its_name(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Client(api_key=key)
    assert refused.value.param == "api_key"
    monkeypatch.setenv("AMPSWEEP_API_KEY", key)
    with pytest.raises(InvalidRequest) as refused:
        AsyncClient()
    assert refused.value.param == "AMPSWEEP_API_KEY"


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_not_there_is_unavailable(kind: str) -> None:
    with opened(kind, "http://127.0.0.1:1", retries=0) as client:
        assert not client.ready()
        with pytest.raises(NoConnection, match=r"127\.0\.0\.1:1"):
            client.models()
        with pytest.raises(NoConnection):
            list(client.stream("tiny", "Hello"))


def test_an_event_loop_of_ones_own_is_no_hindrance(server: ServerProcess) -> None:
    """As in a notebook, whose cells run in one."""

    async def cell() -> list[str]:
        with Client(server.url) as client:
            return [model["id"] for model in client.models()]

    assert asyncio.run(cell()) == ["tiny"]


def test_many_calls_share_one_event_loop(server: ServerProcess) -> None:
    async def texts() -> set[str]:
        async with AsyncClient(server.url) as client:
            calls = (client.complete("tiny", "Hello", max_tokens=3) for _ in range(20))
            return {completion.text for completion in await asyncio.gather(*calls)}

    assert len(asyncio.run(texts())) == 1


def test_both_clients_offer_the_same_calls() -> None:
    offered = [{name for name in dir(kind) if not name.startswith("_")} for kind in (Client, AsyncClient)]
    assert offered[0] == offered[1]
    for name in offered[0]:
        assert (
            str(inspect.signature(getattr(Client, name))).partition(" ->")[0]
            == (str(inspect.signature(getattr(AsyncClient, name))).partition(" ->")[0])
        )
