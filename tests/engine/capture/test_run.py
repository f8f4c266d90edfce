"""Captures come in the order of their requests, and few of them are in memory at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import numpy as np
import pytest

from ampsweep.domain.generation.prompt import TokenIds
from ampsweep.errors import EngineFailed
from engine.base import Capture, CaptureRequest
from engine.capture.run import TEXTS_IN_FLIGHT, captured
from engine.capture.selection import NeuronSelection
from engine.fake import FakeEngine

NEURONS = NeuronSelection.of({1: np.arange(4)})
BYTES = 4 * 4
"""Bytes of the neurons of a token."""

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Slow(FakeEngine):
    """Answers later requests first, and fails at the token 9."""

    def __init__(self) -> None:
        super().__init__()
        self.flying = self.most = self.tokens = self.most_tokens = self.cancelled = 0

    async def capture(self, request: CaptureRequest) -> Capture:
        assert isinstance(request.prompt, TokenIds)
        self.flying += 1
        self.tokens += len(request.prompt.ids)
        self.most, self.most_tokens = max(self.most, self.flying), max(self.most_tokens, self.tokens)
        try:
            for _ in range(9 - request.prompt.ids[0] % 10):
                await asyncio.sleep(0)
            if request.prompt.ids[0] == 9:
                raise EngineFailed("nine")
            return await super().capture(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.flying -= 1
            self.tokens -= len(request.prompt.ids)


def requests(lengths: list[int], first: int = 0) -> Iterator[tuple[CaptureRequest, int]]:
    for number, length in enumerate(lengths, first):
        yield CaptureRequest(prompt=TokenIds((number % 200,) * length), neurons=NEURONS), length


async def test_captures_come_in_order() -> None:
    engine = Slow()
    tokens = [capture.token_ids[0] async for capture in captured(engine, requests([1] * 9))]
    assert tokens == list(range(9))
    assert engine.most > 1


async def test_the_texts_in_flight_are_limited() -> None:
    engine = Slow()
    alike = (next(requests([1], first=10)) for _ in range(50))
    assert len([1 async for _ in captured(engine, alike)]) == 50
    assert engine.most == TEXTS_IN_FLIGHT


async def test_the_bytes_in_flight_are_limited_and_a_larger_text_is_alone() -> None:
    engine = Slow()
    lengths = [2, 3, 9, 1, 1, 5, 2, 2]
    assert len([1 async for _ in captured(engine, requests(lengths, first=10), limit=6 * BYTES)]) == len(lengths)
    assert engine.most_tokens == 9
    assert engine.most == 2


async def test_an_error_ends_the_others() -> None:
    engine = Slow()
    with pytest.raises(EngineFailed, match="nine"):
        await anext(captured(engine, requests([1] * 12, first=9)))
    assert engine.flying == 0


async def test_closing_aborts_what_is_in_flight() -> None:
    engine = Slow()
    async with aclosing(captured(engine, requests([1] * 9))) as captures:
        await anext(captures)
    assert engine.flying == 0
