"""A recording does not block the event loop, and its memory does not grow with the corpus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ampsweep.errors import PromptTooLong
from ampsweep.folders.corpus import Sentence
from engine.base import Engine, GenerateRequest, ScoreRequest
from engine.fake import FakeEngine
from engine.identify.checkpoint import Checkpoint
from engine.identify.record_request import RecordRequest
from engine.identify.recorder import AdmittedSentence, Recorder
from engine.identify.stats import PATCH_SENTENCES
from tests.engine.vllm.stub_vllm import stub_engine
from tests.loop_stalls import watched_loops

pytestmark = pytest.mark.anyio

KINDS = ("vllm", "fake")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    return stub_engine(monkeypatch)[0] if request.param == "vllm" else FakeEngine()


def corpus(sentences: int, *, seconds: float = 0.0) -> Iterator[Sentence]:
    """Yield sentences of two words, each of which takes `seconds` to read."""
    for number in range(sentences):
        time.sleep(seconds)
        yield Sentence(language="en", text=f"sentence {number}")


async def test_a_corpus_that_is_slow_to_read_does_not_block_the_loop(engine: Engine) -> None:
    iterations = 0

    async def count_iterations() -> None:
        nonlocal iterations
        while True:
            await asyncio.sleep(0.01)
            iterations += 1

    counting = asyncio.create_task(count_iterations())
    stats = await engine.record(corpus(40, seconds=0.01), RecordRequest(max_tokens=10_000))
    counting.cancel()
    assert stats.sentences.tolist() == [40]
    assert iterations >= 10


async def test_the_rest_of_a_full_language_is_not_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _, tokenizer = stub_engine(monkeypatch)
    tokenizer.encoded = 0
    stats = await engine.record(corpus(2000), RecordRequest(max_tokens=200))
    assert stats.sentences.tolist() == [100]
    assert tokenizer.encoded == 101, "the first that does not fit fills the language"


async def test_writing_a_checkpoint_to_a_slow_disk_does_not_block_the_loop(engine: Engine, tmp_path: Path) -> None:
    class Slow(Checkpoint):
        def read(self) -> None:
            time.sleep(0.3)

        def save_if_due(self, arrays: object) -> None:
            time.sleep(0.3)

    stats = await engine.record(
        corpus(2), RecordRequest(max_tokens=1000, checkpoint=Slow(tmp_path / "recording", identity="x"))
    )
    assert stats.sentences.tolist() == [2]


async def test_selection_does_not_run_in_the_loop(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Recorder) -> None:
        time.sleep(0.3)

    monkeypatch.setattr(Recorder, "finish", slow)
    await engine.record(corpus(2), RecordRequest(max_tokens=1000))


async def test_a_long_prompt_is_not_tokenized_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _, tokenizer = stub_engine(monkeypatch)
    encode = tokenizer.encode

    def slow(text: str, **options: bool) -> list[int]:
        computed = time.thread_time()
        while time.thread_time() - computed < 0.3:
            pass
        ids: list[int] = encode(text, **options)
        return ids

    monkeypatch.setattr(tokenizer, "encode", slow)
    long = "word " * 20_000
    with pytest.raises(PromptTooLong):
        await engine.score(ScoreRequest(context=long, continuation="word"))
    with pytest.raises(PromptTooLong):
        await anext(engine.generate(GenerateRequest(prompt=long)))


async def test_few_sentences_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.vllm.engine.recording_rows", lambda *_: 4)
    engine, loop, _ = stub_engine(monkeypatch)
    read = added = ahead = 0
    add = Recorder.add

    def counted() -> Iterator[Sentence]:
        nonlocal read, ahead
        for sentence in corpus(600):
            read += 1
            ahead = max(ahead, read - added)
            yield sentence

    def noted(self: Recorder, *arguments: object, **more: NDArray[np.integer]) -> None:
        nonlocal added
        added += len(arguments)
        add(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Recorder, "add", noted)
    await engine.record(counted(), RecordRequest(max_tokens=100_000))
    assert added == 600
    assert loop.most <= 4
    assert ahead <= 200


@pytest.mark.parametrize("backend", ["cuda", "cpu"])
async def test_sentences_whose_means_are_not_wanted_are_added_up_on_a_gpu_by_language(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    def interleaved() -> Iterator[Sentence]:
        for sentence in corpus(PATCH_SENTENCES + 20):
            yield sentence
            yield Sentence(language="fr", text=f"{sentence.text} encore")

    engine, loop, _ = stub_engine(monkeypatch)
    loop.backend = backend
    recorded: dict[str, list[int]] = {"en": [], "fr": []}
    add = Recorder.add

    def noted(self: Recorder, *admissions: AdmittedSentence, **more: Any) -> None:
        assert len(admissions) == 1 or not any(each.mean_wanted for each in admissions)
        (language,) = {each.language for each in admissions}
        recorded[language].extend(each.position for each in admissions)
        add(self, *admissions, **more)

    monkeypatch.setattr(Recorder, "add", noted)
    stats = await engine.record(interleaved(), RecordRequest(max_tokens=10_000))
    assert (loop.added_up > 0) == (backend == "cuda")
    assert loop.added_up < 40, "one of each group has the sums"
    sentences = PATCH_SENTENCES + 20
    assert [sorted(positions) for positions in recorded.values()] == [[*range(sentences)]] * 2, "each is added once"
    assert stats.tokens.tolist() == [2 * sentences, 3 * sentences]
    for counts, tokens in zip(stats.counts, stats.tokens, strict=True):
        assert (counts == tokens).all()
    np.testing.assert_allclose(stats.residual_mean[:, 0, 0], [1 / 2, 1 / 3], rtol=1e-6)
    assert (stats.patch_max == 1).all()


async def test_recordings_at_the_same_time_share_the_rows_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.vllm.engine.recording_rows", lambda *_: 4)
    engine, loop, _ = stub_engine(monkeypatch)
    recordings = await asyncio.gather(*(engine.record(corpus(60), RecordRequest(max_tokens=1000)) for _ in range(3)))
    assert [stats.sentences.tolist() for stats in recordings] == [[60]] * 3
    assert loop.most == 4


async def test_cancelled_and_failed_recordings_give_their_rows_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.vllm.engine.recording_rows", lambda *_: 4)
    engine, loop, _ = stub_engine(monkeypatch)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "add", full_disk)
        with pytest.raises(OSError, match="full"):
            await engine.record(corpus(60), RecordRequest(max_tokens=1000))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "submit", lambda *_, **__: "never answered")
        for passes in range(5):  # of the loop, before the tasks start and after
            recording = asyncio.create_task(engine.record(corpus(60), RecordRequest(max_tokens=1000)))
            while not engine._recording_rows.locked():  # noqa: ASYNC110  # the first tasks have just been created
                await asyncio.sleep(0)
            for _ in range(passes):
                await asyncio.sleep(0)
            recording.cancel()
            with pytest.raises(asyncio.CancelledError):
                await recording
    async with asyncio.timeout(10):
        assert (await engine.record(corpus(60), RecordRequest(max_tokens=1000))).sentences.tolist() == [60]


async def test_errors_of_a_corpus_are_raised_unchanged(engine: Engine) -> None:
    def damaged() -> Iterator[Sentence]:
        yield from corpus(3)
        raise EOFError("the file ends in the middle")

    with pytest.raises(EOFError, match="in the middle"):
        await engine.record(damaged(), RecordRequest(max_tokens=1000))


async def test_a_cancelled_recording_ends(engine: Engine) -> None:
    recording = asyncio.create_task(engine.record(corpus(1_000_000, seconds=0.001), RecordRequest(max_tokens=10**9)))
    await asyncio.sleep(0.1)
    recording.cancel()
    with watched_loops() as watch, pytest.raises(asyncio.CancelledError):
        await recording
    assert watch.stalls == []
