"""Validation of JSON and YAML input: the base of all input models, common field types, and error messages.

`validate` turns the first error of Pydantic into an InvalidRequest whose `param` is the dotted path of the wrong field.
This module knows no particular model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from ampsweep.domain.languages.codes import one_language_twice, short_code, wrong_code
from ampsweep.domain.neurons.neuron_set import NEURON_SET_ID
from ampsweep.errors import InvalidRequest, quoted, shortened_key

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of input models. Unknown keys, infinite numbers and values of another type are errors.

    A validator of a whole model names the wrong key in the context of its error, as `key`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, raw: Any) -> Any:
        for key in raw if isinstance(raw, Mapping) else ():
            if key not in cls.model_fields:
                valid_keys = ", ".join(sorted(cls.model_fields))
                message = "unknown key {key}; remove it, or use one of: {valid_keys}{hint}"
                context = {
                    "key": shortened_key(str(key)) or "''",
                    "valid_keys": valid_keys,
                    "hint": _meant_key(cls, str(key)),
                }
                raise PydanticCustomError("unknown_key", message, context)
        return raw


def _meant_key(model: type[BaseModel], key: str) -> str:
    """Return a question about the key that was probably meant: one spelled alike, or the same key further inside."""
    if len(key) > 100:
        return ""
    if close := get_close_matches(key, model.model_fields, n=1, cutoff=0.7):
        return f". Did you mean {close[0]!r}?"
    inner = [f"{outer}.{key}" for outer, keys in _inner_keys(model) if key in keys]
    if not inner:
        pairs = [(outer, get_close_matches(key, keys, n=1, cutoff=0.85)) for outer, keys in _inner_keys(model)]
        inner = [f"{outer}.{close[0]}" for outer, close in pairs if close]
    return f". Did you mean {' or '.join(map(repr, dict.fromkeys(inner)))}?" if inner else ""


def _inner_keys(model: type[BaseModel]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the name of each field that holds models, with the keys of one of them."""
    for name, field in model.model_fields.items():
        pending = [field.annotation]
        while pending:
            kind = pending.pop()
            if isinstance(kind, type) and issubclass(kind, StrictModel):
                yield name, list(kind.model_fields)
            pending += get_args(kind)


_MISSING = object()
_SHORT = 40
"""Length of a value up to which an error repeats how it is to be written."""
_NUMBERS: Mapping[str, tuple[type, ...]] = {"float_type": (int, float), "int_type": (int,), "bool_type": (bool,)}
"""The types that a quoted value may have, by the error about its quotes."""


def one_or_list(value: object) -> object:
    """Return a list with a single text in it, or any other value unchanged: a validator of fields that take both."""
    return [value] if isinstance(value, str) else value


def unique(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return the values; raise an error if one of them occurs twice."""
    if len(set(values)) != len(values):
        raise PydanticCustomError("not_unique", "has the same value twice; name each once")
    return values


Unique = Annotated[tuple[T, ...], Field(strict=False, min_length=1, max_length=1000), AfterValidator(unique)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


def _code(value: object) -> object:
    if isinstance(value, str | int | float) and (wrong := wrong_code(value)):
        raise PydanticCustomError("language_code", "{wrong}", {"wrong": wrong})
    return value


def _each_language_once(value: object) -> object:
    if isinstance(value, list | tuple | dict) and (wrong := one_language_twice(value)):
        raise PydanticCustomError("language_code", "{wrong}", {"wrong": wrong})
    return value


def _neuron_set_id(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(NEURON_SET_ID, value):
        message = "must be the id of a neuron set, which `ampsweep neurons show FOLDER` prints (ns_...)"
        raise PydanticCustomError("neuron_set_id", message)
    return value


NeuronSetId = Annotated[str, Field(pattern=rf"^{NEURON_SET_ID}$"), BeforeValidator(_neuron_set_id)]
EachLanguageOnce = BeforeValidator(_each_language_once)
"""Validator of a list or an object of codes: two codes of one language are an error that names both."""
Language = Annotated[Name, BeforeValidator(_code), AfterValidator(short_code)]
"""A language code; an ISO 639-3 or FLORES code becomes the two-letter code that it stands for."""
Languages = Annotated[Unique[Language], EachLanguageOnce]


def validate(model: type[M], raw: object, *, param: str | None = None) -> M:
    """Validate `raw` and return it as an instance of `model`.

    Args:
        model: The input model.
        raw: Parsed JSON or YAML.
        param: Path of `raw` in the request, which precedes the paths of its fields.

    Raises:
        InvalidRequest: About the first wrong field; `param` is the field's dotted path.
    """
    if not isinstance(raw, Mapping):
        raise InvalidRequest(
            f"{param or 'the request'} must be an object of keys and values; got {quoted(raw)}", param=param
        )
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join([*([param] if param else []), *_path(raw, first)])
        raise InvalidRequest(_message(first, path), param=path or None) from error


def _path(raw: object, error: ErrorDetails) -> list[str]:
    """Return the keys that lead to the wrong field, without the tags that Pydantic adds for members of a union."""
    path: list[str] = []
    for step in error["loc"]:
        value = _value_at(raw, step)
        if value is not _MISSING:
            raw = value
        elif error["type"] != "missing" or step != error["loc"][-1]:
            continue
        path.append(shortened_key(str(step)))
    return [*path, error["ctx"]["key"]] if "key" in error.get("ctx", {}) else path


def _value_at(raw: object, step: int | str) -> object:
    if isinstance(raw, str) and raw.lstrip().startswith("{"):  # some fields take an object as its JSON text too
        with suppress(ValueError):
            raw = json.loads(raw)
    if isinstance(raw, Mapping):
        return raw.get(step, _MISSING)
    if isinstance(raw, list | tuple) and isinstance(step, int) and step < len(raw):
        return raw[step]
    return _MISSING


def _message(error: ErrorDetails, path: str) -> str:
    if error["type"] == "missing":
        return f"{path} is required"
    text = error["msg"][0].lower() + error["msg"][1:]
    text = text.replace("tuple", "list").replace(" after validation", "")
    if error["type"] in ("model_type", "dict_type"):
        text = "must be an object of keys and values"
    if "key" in error.get("ctx", {}) or error["type"] in ("not_unique", "language_code"):
        return f"{path}: {text}"
    value = error["input"]
    if isinstance(value, date):  # so YAML reads 2024-01-31 without quotes
        return f'{path}: {text}; got the date {value}; a text needs quotes: "{value}"'
    return f"{path}: {text}; got {quoted(value)}{_remedy(error['type'], value)}"


def _remedy(problem: str, value: object) -> str:
    """Return how to write a value of the wrong type, where that is certain; else an empty text."""
    if not isinstance(value, str | int | float) or len(str(value)) > _SHORT:
        return ""
    unquoted = _unquoted(value)
    if problem in ("tuple_type", "list_type"):
        return f"; write a list: [{json.dumps(value if unquoted is None else unquoted, ensure_ascii=False)}]"
    if problem == "string_type":
        return f"; quote it: {json.dumps(json.dumps(value))}"
    if type(unquoted) in _NUMBERS.get(problem, ()):
        return f"; drop the quotes: {json.dumps(unquoted)}"
    return ""


def _unquoted(value: object) -> object:
    """Return the number or the truth value that a text holds, None if it holds another text or is none."""
    try:
        content = json.loads(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return content if isinstance(content, bool | int | float) else None
