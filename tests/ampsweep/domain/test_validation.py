from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import Field

from ampsweep.domain.validation import Languages, StrictModel, validate
from ampsweep.errors import InvalidRequest


class ExampleModel(StrictModel):
    languages: Languages


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"languages": [f"l{number}" for number in range(2000)]}, "languages: list should have at most 1000 items"),
        ({"languages": "x" * 10_000}, "languages: input should be a valid list; got 'xxx"),
        ({"languages": [{"a": "x" * 10_000}]}, "languages.0: input should be a valid string"),
        ("x" * 10_000, "the request must be an object of keys and values; got 'xxx"),
        ({"languages": ["fr"], "": 1}, "'': unknown key ''; remove it"),
        ({"languages": ["fr"], "x" * 10_000: 1}, "xxx"),
        ([10**4000], "the request must be an object of keys and values; got [1000"),
    ],
)
def test_errors_show_shortened_values(value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        validate(ExampleModel, value)
    assert refused.value.message.startswith(message)
    assert len(refused.value.message) < 400


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (["fr", False], 'languages.1: a language must be a code; got false. YAML reads no as false; quote it: "no"'),
        ([True], 'languages.0: a language must be a code; got true. YAML reads yes as true; quote it: "yes"'),
        ([3], "languages.0: a language must be a code, such as fr; got the number 3"),
        (
            ["en", "fr "],
            (
                "languages.1: a language must be a code of letters, digits, _ and -, without spaces around it, "
                "such as fr or zho_Hant; got 'fr '"
            ),
        ),
    ],
)
def test_a_language_that_yaml_reads_as_something_else_is_named(languages: list[Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        validate(ExampleModel, {"languages": languages})
    assert refused.value.message == message


class Inner(StrictModel):
    factors: tuple[float, ...] = Field(default=(), strict=False)
    limit: int | None = None


class Outer(StrictModel):
    tasks: tuple[Inner, ...] = Field(default=(), strict=False)
    interventions: Inner | None = None
    seed: int = 0
    ratio: float = 0.0
    flag: bool = False
    name: str = ""


@pytest.mark.parametrize(
    ("raw", "end"),
    [
        ({"seed": "3"}, "; got '3'; drop the quotes: 3"),
        ({"ratio": "0.5"}, "; got '0.5'; drop the quotes: 0.5"),
        ({"flag": "true"}, "; got 'true'; drop the quotes: true"),
        ({"interventions": {"factors": ["3"]}}, "; got '3'; drop the quotes: 3"),
        ({"interventions": {"factors": 3}}, "; got 3; write a list: [3]"),
        ({"interventions": {"factors": "3"}}, "; got '3'; write a list: [3]"),
        ({"name": 3}, '; got 3; quote it: "3"'),
        ({"name": date(2024, 1, 31)}, '; got the date 2024-01-31; a text needs quotes: "2024-01-31"'),
        ({"seed": "three"}, "; got 'three'"),
        ({"seed": "0.5"}, "; got '0.5'"),
        ({"interventions": "fr"}, "interventions: must be an object of keys and values; got 'fr'"),
        ({"interventions": {"factor": 3}}, "limit. Did you mean 'factors'?"),
        ({"task": []}, "Did you mean 'tasks'?"),
        ({"factor": 3}, "Did you mean 'tasks.factors' or 'interventions.factors'?"),
        ({"limit": 3}, "Did you mean 'tasks.limit' or 'interventions.limit'?"),
        ({"wat": 3}, "use one of: flag, interventions, name, ratio, seed, tasks"),
    ],
)
def test_errors_say_how_a_value_or_a_key_is_written(raw: Any, end: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        validate(Outer, raw)
    assert refused.value.message.endswith(end)
