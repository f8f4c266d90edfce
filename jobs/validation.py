"""The edge where JSON and YAML come in: what all models of input have in common, and how their errors are told."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import Repr
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from ampsweep.domain.languages import one_language_twice, short_code, wrong_code
from ampsweep.errors import InvalidRequest

T = TypeVar("T")
M = TypeVar("M", bound="StrictModel")


class StrictModel(BaseModel):
    """A model of input: unknown keys are refused by name, numbers are finite, nothing is converted.

    A validator of a whole model names the key at fault in its error's context, as `key`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, raw: Any) -> Any:
        for key in raw if isinstance(raw, Mapping) else ():
            if key not in cls.model_fields:
                known = ", ".join(sorted(cls.model_fields))
                message = "unknown key {key}; remove it, or use one of: {known}"
                raise PydanticCustomError("unknown_key", message, {"key": str(key), "known": known})
        return raw


_NOT_THERE = object()


class _Shown(Repr):
    """Writes what was given as an error shows it: a few items of a list, the two ends of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200


_shown = _Shown().repr


def unique(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return a list as it is; an error where a value stands in it twice."""
    if len(set(values)) != len(values):
        raise PydanticCustomError("not_unique", "has the same value twice; name each once")
    return values


Unique = Annotated[tuple[T, ...], Field(strict=False, min_length=1, max_length=1000), AfterValidator(unique)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


def _code(value: object) -> object:
    if wrong := wrong_code(value):
        raise PydanticCustomError("language_code", "{wrong}", {"wrong": wrong})
    return value


def _each_language_once(value: object) -> object:
    if isinstance(value, list | tuple | dict) and (wrong := one_language_twice(value)):
        raise PydanticCustomError("language_code", "{wrong}", {"wrong": wrong})
    return value


EachLanguageOnce = BeforeValidator(_each_language_once)
"""Of a list, or an object, of codes: refuses two that mean one language, as long as both can be named."""
Language = Annotated[Name, BeforeValidator(_code), AfterValidator(short_code)]
"""A code; of an ISO 639-3 or FLORES code what is kept is the two-letter code that it stands for."""
Languages = Annotated[Unique[Language], EachLanguageOnce]


def validate(model: type[M], raw: object, *, param: str | None = None) -> M:
    """Read `raw` as a `model`.

    Raises InvalidRequest about the first wrong field; its `param` is the dotted path from `raw`, after `param`.
    """
    if not isinstance(raw, Mapping):
        raise InvalidRequest(
            f"{param or 'the request'} must be an object of keys and values; got {_shown(raw)}", param=param
        )
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join([*([param] if param else []), *_path(raw, first)])
        raise InvalidRequest(_message(first, path), param=path or None) from error


def _path(raw: object, error: ErrorDetails) -> list[str]:
    """Return the keys that lead to the wrong field; what Pydantic adds for the members of a union is left out."""
    path: list[str] = []
    for step in error["loc"]:
        inner = _inner(raw, step)
        if inner is not _NOT_THERE:
            raw = inner
        elif error["type"] != "missing" or step != error["loc"][-1]:
            continue
        path.append(str(step))
    return [*path, error["ctx"]["key"]] if "key" in error.get("ctx", {}) else path


def _inner(raw: object, step: int | str) -> object:
    if isinstance(raw, Mapping):
        return raw.get(step, _NOT_THERE)
    return raw[step] if isinstance(raw, list | tuple) and isinstance(step, int) else _NOT_THERE


def _message(error: ErrorDetails, path: str) -> str:
    if error["type"] == "missing":
        return f"{path} is required"
    text = error["msg"][0].lower() + error["msg"][1:]
    text = text.replace("tuple", "list").replace(" after validation", "")
    if "key" in error.get("ctx", {}) or error["type"] in ("not_unique", "language_code"):
        return f"{path}: {text}"
    return f"{path}: {text}; got {_shown(error['input'])}"
