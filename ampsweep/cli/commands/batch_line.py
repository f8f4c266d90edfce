"""Lines of a batch file: parsing and validation of a request, and the Parquet schema of the answers."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ampsweep.documents import parse_json
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from engine.base import GenerateRequest, ScoreRequest, Steering

SCHEMA = pa.schema(
    [
        ("custom_id", pa.string()),
        ("kind", pa.string()),
        ("completion", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float64())),
        ("error", pa.string()),
        ("neuron_set", pa.string()),
        ("steered_spans", pa.list_(pa.list_(pa.int32()))),
    ]
)


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    custom_id: str
    intervention: dict[str, Any] | None = None
    adapter: str | None = None

    def steering(self, neurons: str | None) -> Steering | None:
        if self.intervention is None:
            return None
        if neurons is None:
            raise InvalidRequest("an intervention needs a neuron set: give --neurons", param="intervention")
        return Steering(intervention=Intervention.from_dict(self.intervention), neurons=neurons)


class GenerateLine(_Line):
    """Continue `prompt`."""

    kind: Literal["generate"]
    prompt: str
    sampling: SamplingParams = SamplingParams()

    def request(self, neurons: str | None) -> GenerateRequest:
        """Return the request to the engine; raise InvalidRequest for a sampling field whose results have no column."""
        for name in ("n", "top_logprobs"):
            if getattr(self.sampling, name) != getattr(SamplingParams, name):
                message = f"a line has one answer without alternatives; leave {name} out"
                raise InvalidRequest(message, param=f"sampling.{name}")
        return GenerateRequest(
            prompt=self.prompt,
            sampling=self.sampling,
            stream=False,
            steering=self.steering(neurons),
            adapter=self.adapter,
        )


class ScoreLine(_Line):
    """Score `continuation` after `context`."""

    kind: Literal["score"]
    context: str
    continuation: str

    def request(self, neurons: str | None) -> ScoreRequest:
        """Return the request to the engine, steered by the neuron set with the id `neurons` if there is one."""
        return ScoreRequest(
            context=self.context,
            continuation=self.continuation,
            steering=self.steering(neurons),
            adapter=self.adapter,
        )


_LINE: TypeAdapter[GenerateLine | ScoreLine] = TypeAdapter(
    Annotated[GenerateLine | ScoreLine, Field(discriminator="kind")]
)


def parse(text: str | bytes) -> GenerateLine | ScoreLine:
    """Parse a line.

    Raises:
        InvalidRequest: The line is not a valid request; `param` names the field.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest("it is not UTF-8 text; save the file as UTF-8") from error
    with suppress(ValueError):  # the validation below rejects what is not JSON, and says at which position
        parse_json(text)
    try:
        return _LINE.validate_json(text)
    except InvalidRequest as error:  # two fields of SamplingParams do not agree
        raise InvalidRequest(error.message, param=f"sampling.{error.param}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] in ("union_tag_not_found", "union_tag_invalid"):
            raise InvalidRequest("must be generate or score", param="kind") from error
        field = ".".join(str(part) for part in first["loc"] if part not in ("generate", "score", "[key]"))
        raise InvalidRequest(first["msg"], param=field or None) from error


def empty_row(text: str | bytes) -> dict[str, Any]:
    """Return a row without an answer, with `custom_id` and `kind` if the line has them as strings.

    Lone surrogates in them, which UTF-8 cannot encode, are replaced by U+FFFD.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = None
    labels = {key: raw.get(key) for key in ("custom_id", "kind")} if isinstance(raw, dict) else {}
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    return row | {key: _LONE_SURROGATE.sub("\ufffd", value) for key, value in labels.items() if isinstance(value, str)}
