"""A recording that was stopped and continued has the same result as one that was not stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ampsweep.domain.neurons.neuron_set import IdentificationRequest
from ampsweep.folders.corpus import Corpus, Sentence
from engine.fake import FakeEngine
from engine.identify.checkpoint import Checkpoint
from engine.identify.identification import checkpoint_in, identify
from engine.identify.record_request import RecordRequest
from engine.identify.recorder import AdmittedSentence, Recorder
from engine.identify.stats import PATCH_SENTENCES, ActivationStats

IDENTITY = "the same recording"
MAX_TOKENS = 4000


def sentences() -> Iterator[Sentence]:
    """Yield more sentences than patch values use, alternating between two languages, one of which becomes full."""
    for number in range(PATCH_SENTENCES + 30):
        yield Sentence(language="en", text=f"sentence {number}")
        yield Sentence(language="fr", text=f"la phrase {number}" * 3)


def record(checkpoint: Checkpoint | None) -> ActivationStats:
    return asyncio.run(FakeEngine().record(sentences(), RecordRequest(max_tokens=MAX_TOKENS, checkpoint=checkpoint)))


def assert_same(stats: ActivationStats, expected: ActivationStats) -> None:
    for field in fields(ActivationStats):
        np.testing.assert_array_equal(getattr(stats, field.name), getattr(expected, field.name), err_msg=field.name)


def record_and_die(path: Path, stop_at: int) -> None:
    """Record in this process, saving after each sentence, and kill it when sentence `stop_at` is requested."""

    def deadly() -> Iterator[Sentence]:
        for number, sentence in enumerate(sentences()):
            if number == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield sentence

    checkpoint = Checkpoint(path, identity=IDENTITY, every=0)
    asyncio.run(FakeEngine().record(deadly(), RecordRequest(max_tokens=MAX_TOKENS, checkpoint=checkpoint)))


@pytest.mark.processes
@pytest.mark.parametrize("stop_at", [7, 2 * PATCH_SENTENCES + 20])
def test_a_killed_recording_continues_where_it_stopped(
    tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recording"
    died = subprocess.run(
        [sys.executable, "-m", "tests.engine.identify.test_checkpoint", str(path), str(stop_at)], check=False
    )
    assert died.returncode == -signal.SIGKILL
    added: list[AdmittedSentence] = []
    add = Recorder.add

    def noted(self: Recorder, *admissions: AdmittedSentence, **more: Any) -> None:
        added.extend(admissions)
        add(self, *admissions, **more)

    monkeypatch.setattr(Recorder, "add", noted)
    expected = record(None)
    whole, added = added, []
    assert_same(record(Checkpoint(path, identity=IDENTITY)), expected)
    assert 0 < len(added) < len(whole)
    assert added == whole[-len(added) :]


def test_a_damaged_checkpoint_or_one_of_another_recording_is_ignored(tmp_path: Path) -> None:
    path, expected = tmp_path / "recording", record(None)
    record(Checkpoint(path, identity="another", every=0))
    assert Checkpoint(path, identity="another").read() is not None
    assert Checkpoint(path, identity=IDENTITY).read() is None
    assert_same(record(Checkpoint(path, identity=IDENTITY)), expected)
    for damage in (b"", b"PK\x03\x04 and no more", path.read_bytes()[:-50]):
        path.write_bytes(damage)
        assert Checkpoint(path, identity="another").read() is None


def test_a_checkpoint_is_saved_at_most_once_per_interval(tmp_path: Path) -> None:
    clock = [100.0]
    checkpoint = Checkpoint(tmp_path / "recording", identity=IDENTITY, every=10, now=lambda: clock[0])
    saved: list[float] = []

    def arrays() -> dict[str, NDArray[np.float64]]:
        saved.append(clock[0])
        return {}

    for seconds in (5.0, 4.0, 1.0, 9.0, 1.0):
        clock[0] += seconds
        checkpoint.save_if_due(arrays)
    assert saved == [110.0, 120.0]


def test_each_identification_has_its_own_checkpoint(tmp_path: Path) -> None:
    for language in ("en", "fr"):
        lines = [f"{language} {number}" for number in range(20)]
        (tmp_path / f"{language}.txt").write_text("\n".join(lines), encoding="utf-8")
    corpus, engine = Corpus.open(tmp_path), FakeEngine()
    identification, longer = (
        IdentificationRequest.of("act_prob"),
        IdentificationRequest.of("act_prob", max_tokens=200_000),
    )
    checkpoint = checkpoint_in(tmp_path / "sets", engine.info, corpus, identification)
    checkpoint.save_if_due(dict)  # not due yet, so that there is nothing to discard
    checkpoint.discard()
    saved = Checkpoint(checkpoint.path, identity=checkpoint.identity, every=0)
    expected = asyncio.run(identify(engine, corpus, identification))
    neuron_sets = [asyncio.run(identify(engine, corpus, identification, checkpoint=one)) for one in (saved, checkpoint)]
    assert [one.id for one in neuron_sets] == [expected.id] * 2
    assert checkpoint.read() is not None
    other = checkpoint_in(tmp_path / "sets", engine.info, corpus, longer)
    assert other.path != checkpoint.path
    checkpoint.discard()
    assert not checkpoint.path.exists()


if __name__ == "__main__":
    record_and_die(Path(sys.argv[1]), int(sys.argv[2]))


def test_a_recording_continues_if_its_checkpoint_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way of the folder")
    checkpoint = Checkpoint(tmp_path / "file" / "recording", identity="x", every=0.0)
    checkpoint.save_if_due(dict)
    assert "the recording continues without it" in caplog.text
    assert checkpoint.read() is None
