"""A request to evaluate the texts of a sweep on a server."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.validation import Name, StrictModel, Unique, validate
from ampsweep.hashing import content_hash

ServerMetric = Literal["language_confusion", "lfs", "script", "relevance"]


class JudgeSpec(StrictModel):
    """The judge of the metric `relevance`: a model of the server."""

    model: Name


class EvaluationRequest(StrictModel):
    """Which metrics to compute over the texts of a sweep.

    Attributes:
        metrics: The metrics; see `jobs.evaluation`.
        identifier: The language identifier.
        language: The column with the wanted languages, or the code of one language for all texts.
        by: The columns whose values make a group; by default those that distinguish the cells of the sweep.
        judge: The judge, for the metric `relevance`.
    """

    metrics: Unique[ServerMetric]
    identifier: Literal["py3langid", "lid.176.ftz", "lingua"] = "py3langid"
    language: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] = "target_language"
    by: Unique[Name] | None = None
    judge: JudgeSpec | None = None

    @model_validator(mode="after")
    def _judge_if_needed(self) -> EvaluationRequest:
        if ("relevance" in self.metrics) != (self.judge is not None):
            message = "is required with the metric relevance, and not allowed without it"
            raise PydanticCustomError("judge", message, {"key": "judge"})
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, with defaults."""
        return self.model_dump(mode="json")

    def id(self, samples: str) -> str:
        """Return the id of the evaluation of results whose samples have the hash `samples`."""
        return f"evaluation_{content_hash([samples, self.to_dict()])}"


def parse_evaluation(raw: object) -> EvaluationRequest:
    """Parse the body of a request; raise InvalidRequest whose `param` is the first invalid field."""
    return validate(EvaluationRequest, raw)
