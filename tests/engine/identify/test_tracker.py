"""The progress of a recording: what is counted, the estimate of the rest, and the rate."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ampsweep.folders.corpus import Corpus, Sentence
from engine.fake import FakeEngine
from engine.identify.checkpoint import Checkpoint
from engine.identify.record_request import RecordRequest
from engine.identify.tracker import RecordingTracker

MAX_TOKENS = 1000


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def tracker(clock: Clock | None = None, **characters: int) -> RecordingTracker:
    return RecordingTracker(characters, max_tokens=MAX_TOKENS, clock=clock or Clock())


def read(tracker: RecordingTracker, language: str, characters: int) -> None:
    list(tracker.reading([Sentence(language=language, text="x" * characters)]))


def test_nothing_is_known_before_the_first_sentence() -> None:
    progress = tracker(en=40, fr=80).progress()
    assert (progress.language, progress.languages, progress.languages_done, progress.tokens) == (None, 2, 0, 0)
    assert (progress.total_tokens, progress.tokens_per_second, progress.seconds_left) == (None, None, None)


def test_the_rest_is_estimated_from_the_tokens_per_character() -> None:
    clock = Clock()
    recording = tracker(clock, en=40, fr=80)
    read(recording, "en", 20)
    recording.admitted("en", 5, restored=False)
    clock.time += 2
    assert recording.progress().tokens == 0, "it is not recorded yet"
    recording.recorded("en", 5)
    progress = recording.progress()
    assert (progress.tokens, progress.total_tokens) == (5, 5 + 5 + 20)
    assert (progress.tokens_per_second, progress.seconds_left) == (2.5, 10.0)
    assert (progress.language, progress.languages_done) == ("en", 0)


def test_a_language_that_is_full_counts_with_what_it_has() -> None:
    recording = tracker(en=40, fr=80)
    read(recording, "en", 20)
    recording.admitted("en", 10, restored=False)
    recording.full("en")
    recording.recorded("en", 10)
    progress = recording.progress()
    assert (progress.total_tokens, progress.languages_done) == (10 + 40, 1)


def test_no_language_is_estimated_beyond_max_tokens() -> None:
    recording = tracker(en=10, fr=100_000)
    read(recording, "en", 10)
    recording.admitted("en", 5, restored=False)
    assert recording.progress().total_tokens == 5 + MAX_TOKENS


def test_tokens_of_a_checkpoint_do_not_raise_the_rate() -> None:
    clock = Clock()
    recording = tracker(clock, en=40)
    read(recording, "en", 20)
    recording.admitted("en", 20, restored=True)
    clock.time += 1
    assert recording.progress().tokens_per_second is None
    read(recording, "en", 10)
    recording.admitted("en", 10, restored=False)
    recording.recorded("en", 10)
    progress = recording.progress()
    assert (progress.tokens, progress.tokens_per_second) == (30, 10.0)


def test_a_text_that_is_being_tokenized_does_not_count_as_read() -> None:
    recording = tracker(en=20, fr=1000)
    sentences = recording.reading([Sentence(language=code, text="x" * n) for code, n in (("en", 20), ("fr", 1000))])
    next(sentences)
    progress = recording.progress()
    assert (progress.language, progress.languages_done, progress.total_tokens) == ("en", 0, None)
    recording.admitted("en", 5, restored=False)
    recording.recorded("en", 5)
    assert recording.progress().languages_done == 1
    next(sentences)
    progress = recording.progress()
    assert (progress.languages_done, progress.total_tokens) == (1, 5 + 250)
    recording.admitted("fr", 250, restored=False)
    assert (recording.progress().languages_done, recording.progress().total_tokens) == (1, 255)
    recording.recorded("fr", 250)
    assert (recording.progress().languages_done, list(sentences)) == (2, [])
    assert recording.progress().languages_done == 2, "it is not read twice"


def test_a_recording_ends_where_the_corpus_does(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("Hello there.\nHow are you?\n")
    (tmp_path / "fr.txt").write_text("Bonjour à tous.\n\nÇa va ?\n")
    corpus = Corpus.open(tmp_path)
    assert corpus.characters() == {"en": 24, "fr": 22}
    recording = RecordingTracker(corpus.characters(), max_tokens=MAX_TOKENS)
    stats = asyncio.run(
        FakeEngine().record(
            recording.reading(corpus.sentences()), RecordRequest(max_tokens=MAX_TOKENS, tracker=recording)
        )
    )
    progress = recording.progress()
    assert progress.tokens == progress.total_tokens == sum(stats.tokens.tolist())
    assert (progress.languages_done, progress.language) == (2, "fr")


def test_a_continued_recording_counts_what_its_checkpoint_holds(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("one\ntwo\nthree\n")
    corpus = Corpus.open(tmp_path)

    def record() -> RecordingTracker:
        checkpoint = Checkpoint(tmp_path / "recording", identity="x", every=0.0)
        recording = RecordingTracker(corpus.characters(), max_tokens=MAX_TOKENS)
        sentences = recording.reading(corpus.sentences())
        asyncio.run(
            FakeEngine().record(
                sentences, RecordRequest(max_tokens=MAX_TOKENS, checkpoint=checkpoint, tracker=recording)
            )
        )
        return recording

    assert record().progress().tokens_per_second is not None
    again = record().progress()
    assert (again.tokens, again.tokens_per_second, again.languages_done) == (11, None, 1)
