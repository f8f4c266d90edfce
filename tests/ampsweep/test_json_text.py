from __future__ import annotations

import json
from math import inf, nan

from ampsweep.json_text import finite, json_text


def test_numbers_that_json_cannot_express_are_null() -> None:
    value = {"a": nan, "b": [1.5, inf, {"c": -inf}], "d": (nan, "é")}
    expected = {"a": None, "b": [1.5, None, {"c": None}], "d": [None, "é"]}
    assert finite(value) == expected
    assert json.loads(json_text(value), parse_constant=lambda name: name) == expected
    assert json_text({"d": "é", "n": 10**20}) == '{"d": "é", "n": 100000000000000000000}'
