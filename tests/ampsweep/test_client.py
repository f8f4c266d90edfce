"""The client against a real server: everything of the REST interface that it offers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ampsweep import Client
from ampsweep.errors import Conflict, InvalidRequest, NotFound, Unavailable, UnknownName
from ampsweep.replies import Sweep
from tests.ampsweep.conftest import CELLS
from tests.ampsweep.served import Served

STEERED = {"languages": ["fr"], "op": "set", "patch": "max", "factor": 2.0}


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture
def done(client: Client, spec: dict[str, Any]) -> Sweep:
    """A sweep that has ended."""
    *_, last = client.watch(client.submit(spec).id)
    return last


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
    seen = list(client.watch(client.submit({**spec, "seed": 1}).id, interval=0.0))
    assert seen[-1].status == "completed"
    counts = [sweep.request_counts.completed for sweep in seen]
    assert counts == sorted(counts)
    assert counts[-1] == CELLS


def test_events_come_once_each_and_can_be_taken_up_anywhere(client: Client, done: Sweep) -> None:
    events = list(client.events(done.id))
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert events[0].type == "sweep.created"
    assert list(client.events(done.id, after=events[2].id)) == events[3:]


def test_the_same_key_sends_nothing_new(client: Client, spec: dict[str, Any]) -> None:
    first = client.submit(spec, idempotency_key="once")
    assert client.submit(spec, idempotency_key="once").id == first.id
    with pytest.raises(InvalidRequest) as refused:
        client.submit({**spec, "seed": 7}, idempotency_key="once")
    assert refused.value.param == "Idempotency-Key"


def test_known_cells_are_reused(client: Client, done: Sweep, spec: dict[str, Any]) -> None:
    again = client.submit(spec)
    assert again.id != done.id
    assert again.request_counts.reused == CELLS


def test_sweeps_are_listed_newest_first_across_pages(client: Client, spec: dict[str, Any]) -> None:
    sent = [client.submit({**spec, "name": f"listed {number}"}).id for number in range(25)]
    assert [sweep.id for sweep in client.sweeps()][:25] == sent[::-1]


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


def test_an_ended_sweep_cannot_be_cancelled(client: Client, done: Sweep) -> None:
    with pytest.raises(Conflict):
        client.cancel(done.id)


def test_a_prompt_is_continued_whole_or_in_pieces(client: Client, done: Sweep) -> None:
    del done  # its neuron set is there now
    whole = client.complete("tiny", "Hello", max_tokens=5)
    pieces = list(client.stream("tiny", "Hello", max_tokens=5))
    assert "".join(piece.text for piece in pieces) == whole.text
    assert [piece.finish_reason for piece in pieces] == [None] * 4 + ["length"]
    assert client.complete("tiny", "Hello", intervention=STEERED, max_tokens=5).text != whole.text


def test_a_wrong_intervention_is_named(client: Client) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.complete("tiny", "Hello", intervention={**STEERED, "op": "square"})
    assert refused.value.param == "intervention.op"
    with pytest.raises(UnknownName):
        list(client.stream("tiny", "Hello", intervention={**STEERED, "languages": ["xx"]}))


def test_the_models_are_listed(client: Client) -> None:
    assert [model["id"] for model in client.models()] == ["tiny"]
    assert client.ready()


def test_the_neuron_sets_are_listed_with_their_sizes(client: Client, done: Sweep) -> None:
    (used,) = {cell["neurons"] for cell in client.cells(done.id)} - {None}
    (found,) = [neurons for neurons in client.neuron_sets() if neurons["id"] == used]
    assert set(found["languages"]) == {"en", "fr", "tr"}


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with Client("http://127.0.0.1:1") as client:
        assert not client.ready()
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
            client.models()
        with pytest.raises(Unavailable):
            list(client.stream("tiny", "Hello"))
