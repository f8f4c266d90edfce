"""The status of an identification, as two servers on one storage see it."""

from __future__ import annotations

from pathlib import Path

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import InvalidRequest
from jobs.execution import IdentificationStatus
from jobs.neuron_sets.identifications import LEASE, Identifications
from jobs.storage.local import LocalStorage
from tests.jobs.cluster import ManualClock


def test_an_identification_is_visible_to_every_server_until_it_ends(tmp_path: Path) -> None:
    clock = ManualClock()
    first, second = (Identifications(LocalStorage(tmp_path), clock) for _ in range(2))
    assert second.get("ns_1") is None
    first.heartbeat("ns_1")
    assert second.get("ns_1") == IdentificationStatus(error=None)
    progress = RecordingProgress(
        language="fr", languages=2, languages_done=1, tokens=300, total_tokens=400, tokens_per_second=50.0
    )
    first.heartbeat("ns_1", progress)
    assert second.get("ns_1") == IdentificationStatus(error=None, progress=progress)
    first.forget("ns_1")
    assert second.get("ns_1") is None


def test_all_identifications_are_known_with_their_models(tmp_path: Path) -> None:
    first, second = (Identifications(LocalStorage(tmp_path), ManualClock()) for _ in range(2))
    assert second.all() == {}
    first.heartbeat("ns_1", None, "gemma")
    first.fail("ns_2", InvalidRequest("no sentence"), "atlas")
    (tmp_path / "ns_3.json").write_text("damaged")
    statuses = second.all()
    assert statuses.keys() == {"ns_1", "ns_2"}
    assert statuses["ns_1"] == IdentificationStatus(error=None, model="gemma")
    assert (statuses["ns_2"].model, str(statuses["ns_2"].error)) == ("atlas", "no sentence")


def test_a_failure_is_stored_with_its_code_and_message(tmp_path: Path) -> None:
    first, second = (Identifications(LocalStorage(tmp_path), ManualClock()) for _ in range(2))
    first.fail("ns_1", InvalidRequest("the corpus has no sentence", param="corpus"))
    status = second.get("ns_1")
    assert status is not None
    assert isinstance(status.error, InvalidRequest)
    assert (status.error.message, status.error.param) == ("the corpus has no sentence", "corpus")
    first.heartbeat("ns_1")
    assert second.get("ns_1") == IdentificationStatus(error=None), "it is tried again"


def test_an_identification_whose_server_was_killed_fails(tmp_path: Path) -> None:
    clock = ManualClock()
    first, second = (Identifications(LocalStorage(tmp_path), clock) for _ in range(2))
    first.heartbeat("ns_1")
    clock.time += LEASE - 1
    assert second.get("ns_1") == IdentificationStatus(error=None)
    first.heartbeat("ns_1")
    clock.time += LEASE + 1
    status = second.get("ns_1")
    assert status is not None
    assert status.error is not None
    assert "has ended; send the request again" in status.error.message


def test_a_damaged_status_file_counts_as_none(tmp_path: Path) -> None:
    for damage in ("", "[]", '{"at": 1}', '{"at": 1, "error": {}}'):
        (tmp_path / "ns_1.json").write_text(damage)
        assert Identifications(LocalStorage(tmp_path), ManualClock()).get("ns_1") is None


def test_an_identification_does_not_go_on_without_a_server_until_a_clock_has_caught_up(tmp_path: Path) -> None:
    clock = ManualClock(time=10_000)
    identifications = Identifications(LocalStorage(tmp_path), clock)
    identifications.heartbeat("ns_1")
    clock.time -= 3600
    status = identifications.get("ns_1")
    assert status is not None
    assert status.error is not None
