"""When scores are read from the device, and which of them were computed, tested without vLLM."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine.vllm.worker.outputs.scoring import ScoredChunk, Scoring

HIDDEN = 3
HEAD = torch.randn(HIDDEN, 11, generator=torch.Generator().manual_seed(0))


def head(hidden: torch.Tensor) -> torch.Tensor:
    return hidden @ HEAD


def scored(hidden: torch.Tensor) -> list[float]:
    """Return the log-probabilities of the tokens 7, 1 and 3, each given a state."""
    return [float(torch.log_softmax(head(hidden[row]), 0)[token]) for row, token in enumerate([7, 1, 3])]


def test_what_is_no_number_is_told_from_what_was_not_computed() -> None:
    scoring = Scoring(head)
    states = torch.tensor([[1.0] * HIDDEN, [torch.inf] * HIDDEN])
    for key, count in (("overflows", 2), ("unfinished", 1)):
        scoring.open(key, [4, 7], 1, 3)
        scoring.collect(states, [ScoredChunk(key, 0, 0, count)])
    (logprobs,) = scoring.take(["overflows"])
    assert logprobs is not None
    assert np.isnan(logprobs).tolist() == [False, True]
    assert scoring.take(["unfinished"]) == [None]


def test_a_rank_without_the_head_has_no_scores() -> None:
    scoring = Scoring(lambda _: None)
    scoring.open("k", [4, 7], 1, 3)
    scoring.collect(torch.zeros(2, HIDDEN), [ScoredChunk("k", 0, 0, 2)])
    assert scoring.take(["k"]) == [None]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the steps whose scores have been read, in order, from a device that the host has to wait for."""
    read: list[int] = []
    copies: list[torch.Tensor] = []

    def to_host_later(values: torch.Tensor) -> tuple[torch.Tensor, Callable[[], object]]:
        copy, number = torch.full_like(values, torch.nan), len(copies)
        copies.append(copy)

        def wait() -> None:
            read.append(number)
            copy.copy_(values)

        return copy, wait

    monkeypatch.setattr("engine.vllm.worker.outputs.scoring.to_host", to_host_later)
    return read


def test_the_scores_of_a_step_are_read_with_the_next_step_or_when_a_request_is_taken(read: list[int]) -> None:
    scoring = Scoring(head)
    hidden = torch.randn(3, HIDDEN, generator=torch.Generator().manual_seed(1))
    scoring.open("k", [4, 7, 1], 1, 3)
    read_after = []
    for position in range(3):
        scoring.collect(hidden[position : position + 1], [ScoredChunk("k", 0, position, 1)])
        read_after.append(list(read))
    assert read_after == [[], [0], [0, 1]]
    (logprobs,) = scoring.take(["k"])
    assert read == [0, 1, 2]
    assert logprobs is not None
    np.testing.assert_allclose(logprobs, scored(hidden), atol=1e-6)


def test_a_request_of_an_earlier_step_is_taken_without_waiting_for_the_last_one(read: list[int]) -> None:
    scoring = Scoring(head)
    hidden = torch.randn(6, HIDDEN, generator=torch.Generator().manual_seed(1))
    for key in ("earlier", "last"):
        scoring.open(key, [4, 7, 1], 1, 3)
    scoring.collect(hidden[:3], [ScoredChunk("earlier", 0, 0, 3)])
    scoring.collect(hidden[3:], [ScoredChunk("last", 0, 0, 3)])
    for key, states, steps in (("earlier", hidden[:3], [0]), ("last", hidden[3:], [0, 1])):
        (logprobs,) = scoring.take([key])
        assert logprobs is not None
        np.testing.assert_allclose(logprobs, scored(states), atol=1e-6)
        assert read == steps


def test_a_dropped_request_does_not_disturb_the_others_of_its_step() -> None:
    scoring = Scoring(head)
    hidden = torch.randn(6, HIDDEN, generator=torch.Generator().manual_seed(1))
    for key in ("dropped", "kept"):
        scoring.open(key, [4, 7, 1], 1, 3)
    scoring.collect(hidden, [ScoredChunk("dropped", 0, 0, 3), ScoredChunk("kept", 3, 0, 3)])
    scoring.drop("dropped")
    (logprobs,) = scoring.take(["kept"])
    assert logprobs is not None
    np.testing.assert_allclose(logprobs, scored(hidden[3:]), atol=1e-6)
