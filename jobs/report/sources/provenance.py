"""Provenance of the numbers in a report, from the metadata of a sweep's Parquet files.

The models below name what a report reads of the metadata, so that a file which somebody has changed is rejected with
the wrong field. Other keys are allowed: files of other versions have more, or fewer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.documents import parse_json
from ampsweep.domain.drift import Part, When
from ampsweep.domain.edited_tokens import EditedTokens
from ampsweep.domain.validation import validate
from ampsweep.errors import InvalidRequest
from ampsweep.folders.hub_model import cached_name, split_hub_name
from jobs.instruction import PromptMethod
from jobs.results import metadata_keys as keys
from jobs.spec.interventions import Control

_JSON_KEYS = (keys.SPEC, keys.VERSIONS, keys.FAILED_CELLS, keys.SOURCES)
_OPTIONAL_JSON_KEYS = (keys.WARNINGS, keys.PARTIAL)
_UNCHANGED = "give the file as Ampsweep wrote it"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Provenance of the numbers.

    Attributes:
        sweep_id: Id of the sweep.
        spec: Its spec. Of the path of a model, only the name is kept, here and in `sources`.
        version: Version of Ampsweep that wrote the files.
        versions: Versions of the software that computed the cells.
        failed_cells: Errors of the failed cells, by id.
        sources: Models, engines, neuron sets and data (`jobs.results.finalization.assembly.sources_of`).
        files: SHA-256 of each file.
        warnings: Warnings of the plan.
        partial: Cell counts of partial results (`jobs.results.finalization.partial`); None for complete results.
    """

    sweep_id: str
    spec: dict[str, Any]
    version: str
    versions: list[dict[str, str]]
    failed_cells: dict[str, str]
    sources: dict[str, list[Any]]
    files: dict[str, str]
    warnings: tuple[str, ...] = ()
    partial: dict[str, Any] | None = None


def read_provenance(metadata: Mapping[str, str], *, name: str, files: Mapping[str, str]) -> Provenance:
    """Return the provenance in the metadata of a sweep's samples.

    Args:
        metadata: The metadata of the file (`jobs.results.metadata_keys`).
        name: Name of the file, for errors.
        files: SHA-256 of each file of the report.

    Raises:
        InvalidRequest: A key is missing, or its value is not what Ampsweep writes (param "sweep").
    """
    missing = [key for key in (keys.SWEEP_ID, keys.VERSION, *_JSON_KEYS) if key not in metadata]
    if missing:
        message = f"{name} is not a file of a sweep, or an older version of Ampsweep wrote it"
        raise InvalidRequest(f"{message} ({missing[0]} is missing); run the sweep again", param="sweep")
    given = [*_JSON_KEYS, *(key for key in _OPTIONAL_JSON_KEYS if key in metadata)]
    content = {key: _parsed(metadata[key], key, name) for key in given}
    try:
        validate(_Metadata, {key.rpartition(".")[2]: value for key, value in content.items()})
    except InvalidRequest as error:
        message = f"{name} was changed after it was written: in its metadata, {error.message}; {_UNCHANGED}"
        raise InvalidRequest(message, param="sweep") from error
    models = content[keys.SOURCES]["models"]
    for named, key in ((content[keys.SPEC], "model"), *((model, "name") for model in models)):
        named[key] = _without_folders(named[key], {model.get("source") for model in models})
    return Provenance(
        sweep_id=metadata[keys.SWEEP_ID],
        spec=content[keys.SPEC],
        version=metadata[keys.VERSION],
        versions=content[keys.VERSIONS],
        failed_cells=content[keys.FAILED_CELLS],
        sources=content[keys.SOURCES],
        warnings=tuple(content.get(keys.WARNINGS, ())),
        partial=content.get(keys.PARTIAL),
        files=dict(files),
    )


def _parsed(text: str, key: str, name: str) -> Any:
    try:
        return parse_json(text, source=name, param="sweep")
    except ValueError as error:
        message = f"{name} was changed after it was written: {key} in its metadata is not JSON ({error}); {_UNCHANGED}"
        raise InvalidRequest(message, param="sweep") from error


def _without_folders(model: str, sources: Collection[str | None]) -> str:
    """Return the name of a model, of a path its last part: the readers of a report need no folders of its author.

    The last part of a path in the cache of the Hub is a commit. Such a path gives the name on the Hub instead, with the
    commit if the sweep's sources have it: files that somebody replaced are none of the commit.
    """
    if split_hub_name(model) is not None:
        return model
    path = PurePath(model)
    if (name := cached_name(path)) is not None:
        return name if name in sources else name.partition("@")[0]
    return path.name or model


def _list_of_one(value: object) -> object:
    """Return a single value as a list, as earlier versions stored it without one."""
    return value if isinstance(value, list) else [value]


class _Object(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Neurons(_Object):
    id: str | None = None
    method: str | None = None
    corpus: str | None = None
    languages: list[str] | None = None

    @model_validator(mode="after")
    def _by_id_or_method(self) -> _Neurons:
        if self.id is None and None in (self.method, self.corpus, self.languages):
            raise PydanticCustomError("neurons", "must have an id, or a method, a corpus and languages")
        return self


class _Operation(_Object):
    op: str
    factors: list[float] | None = None
    patch: list[str] | str | None = None
    statistic: list[str] | str | None = None


class _OtherNeurons(_Object):
    op: str
    factor: float


class _Vector(_Object):
    method: str
    factors: list[float]
    layers: Literal["all", "each"] | list[int] = "all"


class _Interventions(_Object):
    op: str | None = None
    factors: list[float] | None = None
    patch: list[str] | str | None = None
    statistic: list[str] | str | None = None
    ops: list[_Operation] | None = None
    languages: list[str] | dict[str, float] | None = None
    tokens: Annotated[list[EditedTokens | None], BeforeValidator(_list_of_one)] = []
    when: Annotated[list[When | None], BeforeValidator(_list_of_one)] = []
    part: Annotated[list[Part | None], BeforeValidator(_list_of_one)] = []
    controls: list[Control] = []
    random_draws: int = 1
    non_target: _OtherNeurons | None = None
    baselines: list[PromptMethod | _Vector] = []

    @model_validator(mode="after")
    def _op_or_ops(self) -> _Interventions:
        if self.op is None and not self.ops:
            raise PydanticCustomError("op", "must have op or ops")
        return self


class _Task(_Object):
    name: str
    languages: list[str]
    targets: list[str] | None = None
    facts: Literal["shared", "any"] | None = None


class _Search(_Object):
    items: int
    keep: int


class _Spec(_Object):
    name: str
    model: str
    neurons: _Neurons
    interventions: _Interventions
    tasks: list[_Task]
    mode: list[str] | str = []
    search: _Search | None = None


class _Named(_Object):
    name: str
    sha256: str


class _Model(_Named):
    source: str | None = None


class _Engine(_Object):
    name: str
    dtype: str


class _Data(_Object):
    task: str
    version: int
    data: str | None
    split: str | None
    language: str
    sha256: str
    plugins: list[str] = []


class _Sources(_Object):
    models: list[_Model]
    engines: list[_Engine]
    neurons: list[str]
    data: list[_Data]
    adapters: list[_Named] = []
    identifiers: list[str] = []


class _Partial(_Object):
    included: int
    total: int
    missing: int
    status: str


class _Metadata(_Object):
    spec: _Spec
    versions: list[dict[str, str]]
    failed_cells: dict[str, Any]
    sources: _Sources
    warnings: list[str] = []
    partial: _Partial | None = None
