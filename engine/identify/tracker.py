"""Tracks how far a recording is, while one thread records and others ask.

The number of tokens of a corpus is not known before it has been tokenized. It is estimated from the length of the texts
and the tokens per character of what has been read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.folders.corpus import Sentence


@dataclass(kw_only=True)
class _Language:
    """Characters of a language, those that have been read, and tokens: admitted, recorded, and none to follow."""

    characters: int
    read: int = 0
    admitted: int = 0
    recorded: int = 0
    full: bool = False

    @property
    def is_read(self) -> bool:
        return self.full or self.read >= self.characters


class RecordingTracker:
    """Counts what a recorder reads, admits and records.

    A sentence counts as read once it is admitted or the next one is asked for, so not while it is being tokenized.

    Args:
        characters: The length of the corpus by language, in characters.
        max_tokens: Maximum number of tokens of a language.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, characters: Mapping[str, int], *, max_tokens: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._languages = {language: _Language(characters=count) for language, count in characters.items()}
        self._max_tokens = max_tokens
        self._clock = clock
        self._started_at: float | None = None
        self._restored = 0
        self._language: str | None = None
        self._unread: Sentence | None = None

    def reading(self, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
        """Yield sentences, and count what is read."""
        for sentence in sentences:
            if self._started_at is None:
                self._started_at = self._clock()
                self._language = sentence.language
            self._unread = sentence
            yield sentence
            self._count_read()

    def admitted(self, language: str, tokens: int, *, restored: bool) -> None:
        """Count a sentence that was admitted; `restored` if a checkpoint held its measurements."""
        self._count_read()
        counts = self._languages[language]
        counts.admitted += tokens
        if restored:
            counts.recorded += tokens
            self._restored += tokens

    def recorded(self, language: str, tokens: int) -> None:
        """Count an admitted sentence whose measurements have been added."""
        self._languages[language].recorded += tokens
        self._language = language

    def full(self, language: str) -> None:
        """Note that a language takes no more sentences."""
        self._languages[language].full = True

    def progress(self) -> RecordingProgress:
        """Return the progress now."""
        languages = list(self._languages.values())
        tokens = sum(each.recorded for each in languages)
        seconds = 0.0 if self._started_at is None else self._clock() - self._started_at
        return RecordingProgress(
            language=self._language,
            languages=len(languages),
            languages_done=sum(each.is_read and each.recorded == each.admitted for each in languages),
            tokens=tokens,
            total_tokens=self._total(languages),
            tokens_per_second=(tokens - self._restored) / seconds if seconds > 0 and tokens > self._restored else None,
        )

    def _count_read(self) -> None:
        sentence, self._unread = self._unread, None
        if sentence is not None:
            self._languages[sentence.language].read += len(sentence.text)

    def _total(self, languages: list[_Language]) -> int | None:
        read = sum(each.read for each in languages)
        admitted = sum(each.admitted for each in languages)
        if not read or not admitted:
            return None
        return sum(self._estimate(each, admitted / read) for each in languages)

    def _estimate(self, language: _Language, tokens_per_character: float) -> int:
        """Return the tokens of a language at its end."""
        if language.is_read:
            return language.admitted
        if language.admitted:
            tokens_per_character = language.admitted / language.read
        to_come = round((language.characters - language.read) * tokens_per_character)
        return min(self._max_tokens, language.admitted + to_come)
