"""What both clients make of an evaluation that has failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ampsweep.errors import Conflict, EngineFailed
from tests.ampsweep.client.both_clients import KINDS, opened
from tests.ampsweep.test_proxies import answering

FAILED = {"id": "eval_1", "status": "failed", "error": "the identifier does not know xx"}
NO_SCORES = {"message": "eval_1 is failed and has no scores", "type": "invalid_request_error", "code": "conflict"}


@pytest.mark.parametrize("kind", KINDS)
def test_waiting_for_an_evaluation_that_failed_raises_its_error(kind: str) -> None:
    with (
        answering(200, json.dumps(FAILED).encode()) as (url, _),
        opened(kind, url) as client,
        pytest.raises(EngineFailed, match="eval_1 is failed: the identifier does not know xx"),
    ):
        client.wait_for_evaluation("sweep_1", "eval_1", interval=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_that_failed_has_no_scores_to_download(kind: str, tmp_path: Path) -> None:
    with (
        answering(409, json.dumps({"error": NO_SCORES}).encode()) as (url, _),
        opened(kind, url) as client,
        pytest.raises(Conflict, match="is failed and has no scores"),
    ):
        client.download_scores("sweep_1", "eval_1", tmp_path / "scores.parquet")
    assert list(tmp_path.iterdir()) == []
