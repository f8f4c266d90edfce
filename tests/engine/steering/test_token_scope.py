from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ampsweep.domain.intervention import Intervention
from engine.steering.token_scope import TokenScope

PROMPT, LENGTH = 5, 9
PARTS = {"all": slice(None), "prompt": slice(PROMPT), "generation": slice(PROMPT, None)}


def edited(scope: str, tokens: dict[str, Any] | None) -> list[int]:
    raw = {"languages": ["fr"], "op": "scale", "factor": 2, "scope": scope, "tokens": tokens}
    token_scope = TokenScope.of(Intervention.from_dict(raw), prompt_tokens=PROMPT)
    strengths = token_scope.strengths(np.arange(LENGTH))
    assert set(strengths.tolist()) <= {0.0, 1.0}
    one_by_one = np.concatenate([token_scope.strengths(np.array([position])) for position in range(LENGTH)])
    np.testing.assert_array_equal(one_by_one, strengths)
    positions: list[int] = np.flatnonzero(strengths).tolist()
    return positions


@pytest.mark.parametrize(
    ("scope", "tokens", "positions"),
    [
        ("all", None, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("generation", {"end": 2}, [5, 6]),
        ("generation", {"start": 2}, [7, 8]),
        ("generation", {"start": 1, "end": 3}, [6, 7]),
        ("generation", {"positions": [0, 3, 100]}, [5, 8]),
        ("prompt", {"start": -2}, [3, 4]),
        ("prompt", {"start": -100}, [0, 1, 2, 3, 4]),
        ("prompt", {"end": -4}, [0]),
        ("prompt", {"end": -5}, []),
        ("prompt", {"end": 100}, [0, 1, 2, 3, 4]),
        ("prompt", {"start": 5}, []),
        ("prompt", {"start": 3, "end": -1}, [3]),
        ("prompt", {"positions": [-1, 4, 0, -6, 5]}, [0, 4]),
        ("prompt", {"positions": [-6, 5]}, []),
        ("all", {"positions": [4, 5]}, [4, 5]),
        ("all", {"start": 3, "end": 7}, [3, 4, 5, 6]),
    ],
)
def test_tokens_are_counted_from_the_start_of_their_scope(
    scope: str, tokens: dict[str, Any] | None, positions: list[int]
) -> None:
    assert edited(scope, tokens) == positions


@pytest.mark.parametrize("scope", PARTS)
def test_a_slice_is_that_of_a_list(scope: str) -> None:
    part = list(range(LENGTH))[PARTS[scope]]
    bounds = [None, *range(-7 if scope == "prompt" else 0, 11)]
    for start in bounds:
        for end in bounds:
            if any(range(length)[start:end] for length in range(30)):  # others are rejected
                assert edited(scope, {"start": start, "end": end}) == part[start:end]


@pytest.mark.parametrize(
    ("scope", "tokens", "strengths"),
    [
        ("all", {"decay": 0.5}, [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]),
        ("generation", {"decay": 0.5}, [0, 0, 0, 0, 0, 1, 1 / 2, 1 / 4, 1 / 8]),
        ("generation", {"start": 1, "end": 3, "decay": 0.5}, [0, 0, 0, 0, 0, 0, 1, 1 / 2, 0]),
        ("prompt", {"start": -7, "end": 3, "decay": 0.5}, [1, 1 / 2, 1 / 4, 0, 0, 0, 0, 0, 0]),
        ("prompt", {"positions": [-1, 1, -9], "decay": 0.5}, [0, 1, 0, 0, 1 / 8, 0, 0, 0, 0]),
    ],
)
def test_the_strength_decays_from_the_first_edited_token_on(
    scope: str, tokens: dict[str, Any], strengths: list[float]
) -> None:
    raw = {"languages": ["fr"], "op": "scale", "factor": 2, "scope": scope, "tokens": tokens}
    token_scope = TokenScope.of(Intervention.from_dict(raw), prompt_tokens=PROMPT)
    assert token_scope.strengths(np.arange(LENGTH)).tolist() == strengths
    assert token_scope.strengths(np.array([10**6])).tolist() == [0.0], "it is too small for a float32 in the end"
