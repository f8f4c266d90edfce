"""Adding up what a corpus does to a model's neurons: the part of recording that every engine shares.

An engine asks `admit` for each sentence in the corpus's order, runs those that are admitted in any order, and hands
what it measured to `add`. Of a language the sentence means of at most PATCH_SENTENCES sentences are held, and only
until the last of them is in or the recording ends; so a corpus that is read language by language costs the means of
one language, however long it is.

A recorder is used by one thread at a time, and never by an event loop's: it writes files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.errors import InvalidRequest
from engine.identify.checkpoint import Arrays, Checkpoint
from engine.identify.stats import PATCH_SENTENCES, ActivationStats


@dataclass(frozen=True, kw_only=True)
class AdmittedSentence:
    """A sentence that takes part: the `place`-th (from 0) of its language, with its number of counted tokens."""

    language: str
    place: int
    tokens: int

    @property
    def mean_wanted(self) -> bool:
        """Whether the sentence's mean activations are part of the statistics."""
        return self.place < PATCH_SENTENCES


@dataclass(frozen=True, kw_only=True, eq=False)
class _Patch:
    max: NDArray[np.float32]
    median: NDArray[np.float32]
    mean: NDArray[np.float32]
    positive: NDArray[np.int32]
    sentences: int


class _Language:
    """One language's running sums."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.counts = np.zeros(shape, dtype=np.int64)
        self.tokens = 0
        self.sentences = 0
        self.full = False
        self.done: set[int] = set()  # places of the sentences that are in
        self.means: dict[int, NDArray[np.float32]] = {}
        self.patch: _Patch | None = None

    @classmethod
    def restored(cls, shape: tuple[int, int], saved: Arrays) -> _Language:
        """Return a language as `saved` left it, but that none of its sentences has been admitted yet."""
        own = cls(shape)
        own.counts = saved["counts"]
        own.done = set(saved["done"].tolist())
        own.means = dict(zip(saved["places"].tolist(), saved["means"], strict=True))
        if "patch_sentences" in saved:
            own.patch = _Patch(
                max=saved["patch_max"],
                median=saved["patch_median"],
                mean=saved["patch_mean"],
                positive=saved["positive"],
                sentences=int(saved["patch_sentences"]),
            )
        return own

    def saved(self) -> dict[str, NDArray[Any]]:
        """Return what `restored` needs."""
        places = sorted(self.means)
        means = [self.means[place] for place in places] or np.empty((0, *self.shape), dtype=np.float32)
        arrays: dict[str, NDArray[Any]] = {
            "counts": self.counts,
            "done": np.array(sorted(self.done), dtype=np.int64),
            "places": np.array(places, dtype=np.int64),
            "means": np.asarray(means),
        }
        if (patch := self.patch) is not None:
            arrays |= {
                "patch_max": patch.max,
                "patch_median": patch.median,
                "patch_mean": patch.mean,
                "positive": patch.positive,
                "patch_sentences": np.array(patch.sentences),
            }
        return arrays

    def keep(self, place: int, mean: NDArray[np.float32]) -> None:
        self.means[place] = mean.astype(np.float32)
        if len(self.means) == PATCH_SENTENCES:
            self.patch = self.summarize()

    def summarize(self) -> _Patch:
        """Reduce the means to patch values and let go of them; sums go in the sentences' order, whatever theirs was."""
        if self.patch is not None:
            return self.patch
        if not self.means:
            zeros = np.zeros(self.shape, dtype=np.float32)
            return _Patch(max=zeros, median=zeros, mean=zeros, positive=zeros.astype(np.int32), sentences=0)
        means = np.stack([self.means[place] for place in sorted(self.means)])
        self.means = {}
        lower = (len(means) - 1) // 2
        return _Patch(
            max=means.max(axis=0),
            mean=means.mean(axis=0, dtype=np.float64).astype(np.float32),
            positive=(means > 0).sum(axis=0, dtype=np.int32),
            median=np.partition(means, lower, axis=0)[lower].copy(),
            sentences=len(means),
        )


class Recorder:
    """Collects the statistics of a model of `layers` layers with `width` neurons each."""

    def __init__(self, *, layers: int, width: int, max_tokens: int, checkpoint: Checkpoint | None = None) -> None:
        """Start from what `checkpoint` holds of the same recording, or empty, and save to it now and then.

        A language takes its sentences while their tokens together stay within `max_tokens`.
        """
        self._shape = (layers, width)
        self._max_tokens = max_tokens
        self._checkpoint = checkpoint
        self._languages: dict[str, _Language] = {}
        saved = None if checkpoint is None else checkpoint.read()
        if saved is not None:
            for at, language in enumerate(saved["languages"].tolist()):
                prefix = f"{at}."
                own = {name.removeprefix(prefix): saved[name] for name in saved if name.startswith(prefix)}
                self._languages[language] = _Language.restored(self._shape, own)

    def is_full(self, language: str) -> bool:
        """Whether a language takes no more sentences, so that they need not be tokenized."""
        own = self._languages.get(language)
        return own is not None and own.full

    def admit(self, language: str, tokens: int) -> AdmittedSentence | None:
        """Take the next sentence of a language in, or return None: it has no tokens, or the language is full.

        None, too, is the answer for a sentence whose measurements the checkpoint had.
        The first sentence that does not fit fills its language, so that those taken are always the first ones.
        """
        own = self._languages.setdefault(language, _Language(self._shape))
        if own.full or tokens == 0:
            return None
        if own.tokens + tokens > self._max_tokens:
            own.full = True
            return None
        own.tokens += tokens
        own.sentences += 1
        admission = AdmittedSentence(language=language, place=own.sentences - 1, tokens=tokens)
        return None if admission.place in own.done else admission

    def add(
        self, admission: AdmittedSentence, *, counts: NDArray[np.integer], mean: NDArray[np.float32] | None
    ) -> None:
        """Add the measurements of an admitted sentence, once.

        `counts` [L, F]: tokens with activation > 0. `mean` float32 [L, F]: the mean activation over its tokens; it is
        not looked at, and may be None, where the sentence needs none.
        """
        own = self._languages[admission.language]
        own.counts += counts
        if admission.mean_wanted:
            assert mean is not None, "one of the first sentences came without its mean"
            own.keep(admission.place, mean)
        own.done.add(admission.place)
        if self._checkpoint is not None:
            self._checkpoint.save_if_due(self._saved)

    def _saved(self) -> dict[str, NDArray[Any]]:
        arrays = {
            f"{at}.{name}": array
            for at, own in enumerate(self._languages.values())
            for name, array in own.saved().items()
        }
        return {"languages": np.array(list(self._languages)), **arrays}

    def finish(self) -> ActivationStats:
        """Return the statistics, with the languages in the order of their first sentences.

        Every admitted sentence must have been added.

        Raises InvalidRequest where no sentence took part.
        """
        if not any(own.sentences for own in self._languages.values()):
            raise InvalidRequest("the corpus has no sentence within the token limit", param="corpus")
        own = list(self._languages.values())
        patches = [language.summarize() for language in own]
        return ActivationStats(
            languages=tuple(self._languages),
            counts=np.stack([language.counts for language in own]),
            tokens=np.array([language.tokens for language in own], dtype=np.int64),
            sentences=np.array([language.sentences for language in own], dtype=np.int64),
            patch_max=np.stack([patch.max for patch in patches]),
            patch_median=np.stack([patch.median for patch in patches]),
            patch_mean=np.stack([patch.mean for patch in patches]),
            positive=np.stack([patch.positive for patch in patches]),
            patch_sentences=np.array([patch.sentences for patch in patches], dtype=np.int64),
        )
