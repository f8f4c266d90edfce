"""Identification on a large corpus: the event loop is not blocked, and memory does not grow with the corpus."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from ampsweep.domain.neurons.neuron_set import IdentificationRequest
from ampsweep.folders.corpus import Corpus
from engine.identify.checkpoint import Checkpoint
from engine.identify.identification import identify
from tests.engine.vllm.stub_vllm import stub_engine
from tests.loop_stalls import LIMIT, watched_loops

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(900)]

LANGUAGES = 18
SENTENCES = 300_000
MAX_TOKENS = 100_000
WORDS = 20


def resident() -> float:
    """Return the memory of this process in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def write_corpus(folder: Path) -> Corpus:
    """Write sentences of WORDS short words, numbered so that none is like another."""
    folder.mkdir()
    for language in range(LANGUAGES):
        with (folder / f"x{chr(ord('a') + language)}.txt").open("w", encoding="utf-8") as file:
            for number in range(SENTENCES):
                file.write(f"{number} " + "w " * (WORDS - 1) + "\n")
    return Corpus.open(folder)


def test_a_large_corpus_blocks_no_event_loop_and_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    engine, loop, tokenizer = stub_engine(monkeypatch)
    tokenizer.encoded = 0
    request = IdentificationRequest.of("lape", max_tokens=MAX_TOKENS)
    checkpoint = Checkpoint(tmp_path / "recording", identity="this one", every=10.0)
    most = 0.0

    async def sample_memory() -> None:
        nonlocal most
        while True:
            most = max(most, resident())
            await asyncio.sleep(0.1)

    async def find() -> int:
        sampling = asyncio.create_task(sample_memory())
        neuron_set = await identify(engine, corpus, request, checkpoint=checkpoint)
        sampling.cancel()
        return len(neuron_set.languages)

    before, since = resident(), time.monotonic()
    with watched_loops() as watch:
        languages = asyncio.run(find())
    seconds = time.monotonic() - since
    print(
        f"{LANGUAGES} languages of {SENTENCES:,} sentences: identified in {seconds:.0f} s, longest stall "
        f"{watch.longest * 1000:.0f} ms, {loop.most} sentences in flight, memory grew by {most - before:.0f} MiB"
    )
    assert languages == LANGUAGES
    assert watch.stalls == [], f"an event loop stalled for more than {LIMIT} s"
    assert tokenizer.encoded <= LANGUAGES * (MAX_TOKENS // WORDS + 1), "the rest of a full language is not tokenized"
    assert most - before < 64
