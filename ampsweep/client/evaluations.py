"""The clients' methods for evaluations: metrics over the texts of sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from ampsweep.client.http.session import Session, get, segment
from ampsweep.client.http.transport import Request
from ampsweep.client.models import Evaluation
from ampsweep.errors import EngineFailed


class EvaluationMethods:
    """Methods for `/v1/sweeps/{id}/evaluations`."""

    _session: Session

    async def evaluate(self, /, sweep_id: str, *metrics: str, judge: str | None = None, **options: Any) -> Evaluation:
        """Start metrics over the texts of an ended sweep, and return the evaluation; `wait_for_evaluation` waits.

        The same call returns the same evaluation, and starts it again if it has failed.

        Args:
            sweep_id: The sweep.
            metrics: `language_confusion`, `lfs`, `script`, `relevance`.
            judge: The model of the server that judges relevance.
            options: Other fields of `POST /v1/sweeps/{id}/evaluations`: `identifier`, `language`, `by`.

        Raises:
            Conflict: The sweep has no results yet.
        """
        body = {"metrics": list(metrics), **({} if judge is None else {"judge": {"model": judge}}), **options}
        request = Request(method="POST", path=_path(sweep_id), json=body, repeatable=True)
        return cast("Evaluation", await self._session.json(request))

    async def evaluations(self, sweep_id: str) -> list[Evaluation]:
        """Return the evaluations of a sweep, oldest first."""
        return cast("list[Evaluation]", [item async for item in self._session.pages(_path(sweep_id))])

    async def evaluation(self, sweep_id: str, evaluation_id: str) -> Evaluation:
        """Return the current state of an evaluation; raise NotFound if there is no such evaluation."""
        return cast("Evaluation", await self._session.json(get(_path(sweep_id, evaluation_id))))

    async def wait_for_evaluation(self, sweep_id: str, evaluation_id: str, *, interval: float = 1.0) -> Evaluation:
        """Poll every `interval` seconds until an evaluation is completed and return it.

        Raises:
            EngineFailed: It failed, or it was cancelled with its sweep.
        """
        while (evaluation := await self.evaluation(sweep_id, evaluation_id))["status"] in ("queued", "in_progress"):
            await self._session.sleep(interval)
        if evaluation["status"] != "completed":
            reason = evaluation["error"] or f"sweep {sweep_id} was cancelled"
            raise EngineFailed(f"{evaluation_id} is {evaluation['status']}: {reason}")
        return evaluation

    async def download_scores(self, sweep_id: str, evaluation_id: str, path: Path | str) -> Path:
        """Download the scores of single texts as a Parquet file, written atomically, and return its path."""
        return await self._session.download(get(f"{_path(sweep_id, evaluation_id)}/scores.parquet"), Path(path))


def _path(sweep_id: str, *evaluation_id: str) -> str:
    return "/".join(["/sweeps", segment(sweep_id), "evaluations", *map(segment, evaluation_id)])
