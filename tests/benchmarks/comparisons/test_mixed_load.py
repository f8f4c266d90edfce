"""The comparison of two engines accepts rounding, and says of everything else how it differs."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import pytest

from benchmarks.comparisons.mixed_load import assert_same

EXPECTED: dict[str, Any] = {
    "generated": [[1, 2, 3], [4, 5, 6]],
    "scored": [[-1.0, -2.0], [-3.0, -4.0]],
    "switched": [[[1, 2], [[0, 2]]]],
    "counts": [[[3, 0]]],
    "means": [[[0.5, math.nan]]],
    "residuals": [[[1.0]]],
    "captured": None,
}


def test_rounding_is_no_difference() -> None:
    results = deepcopy(EXPECTED)
    results["scored"][1][0] += 9e-5
    results["means"][0][0][0] -= 9e-6
    results["residuals"][0][0][0] += 9e-5
    assert_same(results, EXPECTED)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("generated", [[1, 2, 3], [4, 7, 8]], "generated 1: token 1 is 7, not 5"),
        ("generated", [[1, 2], [4, 5, 6]], "generated 0: token 2 is None, not 3"),
        ("switched", [[[1, 9], [[0, 2]]]], "switched 0: token 1 is 9, not 2"),
        ("switched", [[[1, 2], []]], r"switched 0: steered spans \[\], not \[\[0, 2\]\]"),
        ("scored", [[-1.0, -2.0], [-3.0, -4.25]], "scored 1: 1 of 2 numbers, by up to 0.25"),
        ("scored", [[-1.0, math.nan], [-3.0, -4.0]], "scored 0: 1 of 2 numbers, by up to nan"),
        ("counts", [[[3, 1]]], "counts 0: 1 of 2 numbers, by up to 1"),
        ("means", [[[0.5, 0.0]]], "means 0: 1 of 2 numbers, by up to nan"),
        ("residuals", [[[1.01]]], "residuals 0: 1 of 1 numbers, by up to 0.01"),
    ],
)
def test_a_difference_is_described(name: str, changed: list[Any], message: str) -> None:
    with pytest.raises(AssertionError, match=f"^{message}$"):
        assert_same({**EXPECTED, name: changed}, EXPECTED)


def test_every_difference_is_named_at_once() -> None:
    results = {**EXPECTED, "generated": [[0, 2, 3], [4, 5, 6]], "counts": [[[2, 2]]], "captured": [[[1.0]], [[2.0]]]}
    expected = {**EXPECTED, "captured": [[[1.0]], [[3.0]]]}
    with pytest.raises(AssertionError, match=r"generated 0.*; counts 0: 2 of 2.*; captured 1: 1 of 1 .* 1$"):
        assert_same(results, expected)


def test_interventions_that_change_nothing_are_no_comparison() -> None:
    same = {**EXPECTED, "generated": [[1, 2, 3], [1, 2, 3]]}
    with pytest.raises(AssertionError, match="change nothing"):
        assert_same(same, same)
