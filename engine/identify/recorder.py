"""Accumulates activation statistics over a corpus: the part of recording that all engines share.

An engine calls `admit` for each sentence in the order of the corpus, runs the admitted sentences in any order, and
passes its measurements to `add`. For each language, the means of at most PATCH_SENTENCES sentences are kept in memory,
until the last of them has arrived or the recording ends. A corpus that is read language by language therefore needs
memory for the means of one language only, however long it is.

A recorder is used by one thread at a time, and not by the thread of an event loop, because it writes files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import InvalidRequest
from engine.identify.checkpoint import Arrays
from engine.identify.record_request import RecordRequest
from engine.identify.stats import PATCH_SENTENCES, ActivationStats


@dataclass(frozen=True, kw_only=True)
class AdmittedSentence:
    """A sentence to record.

    Attributes:
        language: Its language.
        position: Its position among the sentences of its language, from 0.
        tokens: Its number of counted tokens.
        mean_wanted: Whether the statistics need its mean activations.
    """

    language: str
    position: int
    tokens: int
    mean_wanted: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Patch:
    max: NDArray[np.float32]
    median: NDArray[np.float32]
    mean: NDArray[np.float32]
    positive: NDArray[np.int32]
    sentences: int


class _Language:
    """The sums of one language, over the neurons of all layers and a residual stream of `hidden_size` numbers."""

    def __init__(self, widths: LayerWidths, hidden_size: int) -> None:
        self.shape = widths.shape
        self.counts = np.zeros(self.shape, dtype=np.int64)
        self.reached: NDArray[np.int64] | None = None
        self.residual = np.zeros((widths.layers, hidden_size), dtype=np.float64)
        self.residual_counts: NDArray[np.int64] | None = None
        self.tokens = 0
        self.sentences = 0
        self.full = False
        self.done: set[int] = set()  # positions of the sentences that were added
        self.means: dict[int, NDArray[np.float32]] = {}
        self.patch: _Patch | None = None

    @classmethod
    def restored(cls, widths: LayerWidths, hidden_size: int, saved: Arrays) -> _Language:
        """Restore the sums from `saved`; none of the sentences counts as admitted."""
        sums = cls(widths, hidden_size)
        sums.counts = saved["counts"]
        sums.reached = saved.get("reached")
        sums.residual = saved["residual"]
        sums.residual_counts = saved.get("residual_counts")
        sums.done = set(saved["done"].tolist())
        sums.means = dict(zip(saved["places"].tolist(), saved["means"], strict=True))
        if "patch_sentences" in saved:
            sums.patch = _Patch(
                max=saved["patch_max"],
                median=saved["patch_median"],
                mean=saved["patch_mean"],
                positive=saved["positive"],
                sentences=int(saved["patch_sentences"]),
            )
        return sums

    def saved(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restored` reads."""
        positions = sorted(self.means)
        means = [self.means[position] for position in positions] or np.empty((0, *self.shape), dtype=np.float32)
        arrays: dict[str, NDArray[Any]] = {
            "counts": self.counts,
            "residual": self.residual,
            "done": np.array(sorted(self.done), dtype=np.int64),
            "places": np.array(positions, dtype=np.int64),
            "means": np.asarray(means),
        }
        if self.reached is not None:
            arrays["reached"] = self.reached
        if self.residual_counts is not None:
            arrays["residual_counts"] = self.residual_counts
        if (patch := self.patch) is not None:
            arrays |= {
                "patch_max": patch.max,
                "patch_median": patch.median,
                "patch_mean": patch.mean,
                "positive": patch.positive,
                "patch_sentences": np.array(patch.sentences),
            }
        return arrays

    def keep(self, position: int, mean: NDArray[np.float32]) -> None:
        self.means[position] = mean.astype(np.float32)
        if len(self.means) == PATCH_SENTENCES:
            self.patch = self.summarize()

    def summarize(self) -> _Patch:
        """Reduce the means to patch values and free them. Sums follow the order of the corpus and are reproducible."""
        if self.patch is not None:
            return self.patch
        if not self.means:
            zeros = np.zeros(self.shape, dtype=np.float32)
            return _Patch(max=zeros, median=zeros, mean=zeros, positive=zeros.astype(np.int32), sentences=0)
        means = np.stack([self.means[position] for position in sorted(self.means)])
        self.means = {}
        if self.reached is not None:
            return _of_reached(means)
        lower = (len(means) - 1) // 2
        return _Patch(
            max=means.max(axis=0),
            mean=means.mean(axis=0, dtype=np.float64).astype(np.float32),
            positive=(means > 0).sum(axis=0, dtype=np.int32),
            median=np.partition(means, lower, axis=0)[lower].copy(),
            sentences=len(means),
        )


def _stacked(counts: Sequence[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    """Return the counts of all languages, [G, ...], 0 for a language that has none; None if no language has any."""
    counted = next((each for each in counts if each is not None), None)
    if counted is None:
        return None
    return np.stack([np.zeros_like(counted) if each is None else each for each in counts])


def _of_reached(means: NDArray[np.float32]) -> _Patch:
    """Return the patch values of a mixture of experts from the means of S sentences, [S, ...].

    A mean is NaN where no token of the sentence was routed to the neuron's expert. Such sentences are left out.
    """
    sentences = (~np.isnan(means)).sum(axis=0)
    ascending = np.sort(means, axis=0)  # NaN comes last
    lower = np.maximum(sentences - 1, 0) // 2
    total = np.nansum(means, axis=0, dtype=np.float64)
    return _Patch(
        max=np.nan_to_num(np.fmax.reduce(means, axis=0)),
        mean=(total / np.maximum(sentences, 1)).astype(np.float32),
        positive=(means > 0).sum(axis=0, dtype=np.int32),
        median=np.nan_to_num(np.take_along_axis(ascending, lower[None], axis=0)[0]),
        sentences=len(means),
    )


class Recorder:
    """Accumulates the statistics of one model."""

    def __init__(self, widths: LayerWidths, request: RecordRequest, *, hidden_size: int) -> None:
        """Continue the recording that the checkpoint of a request holds, or start a new one.

        Args:
            widths: The neurons of each layer.
            request: What is recorded. Whether the residual stream is counted is seen from the measurements.
            hidden_size: Size of the residual stream.
        """
        self._checkpoint, self._sentence_means = request.checkpoint, request.sentence_means
        assert self._checkpoint is None or self._sentence_means is None, "a checkpoint has no means of all sentences"
        self._tracker = request.tracker
        self._max_tokens = request.max_tokens
        self._widths = widths
        self._hidden_size = hidden_size
        self._languages: dict[str, _Language] = {}
        saved = None if self._checkpoint is None else self._checkpoint.read()
        if saved is not None:
            for index, language in enumerate(saved["languages"].tolist()):
                prefix = f"{index}."
                arrays = {name.removeprefix(prefix): saved[name] for name in saved if name.startswith(prefix)}
                self._languages[language] = _Language.restored(widths, hidden_size, arrays)

    def is_full(self, language: str) -> bool:
        """Whether a language takes no more sentences, so that the rest need not be tokenized."""
        sums = self._languages.get(language)
        return sums is not None and sums.full

    def admit(self, language: str, tokens: int) -> AdmittedSentence | None:
        """Admit the next sentence of a language.

        The first sentence that exceeds `max_tokens` makes its language full, so that a language always has its first
        sentences.

        Returns:
            The admitted sentence; None if it has no tokens, if the language is full, or if the checkpoint already has
            its measurements.
        """
        sums = self._languages.setdefault(language, _Language(self._widths, self._hidden_size))
        if sums.full or tokens == 0:
            return None
        if sums.tokens + tokens > self._max_tokens:
            sums.full = True
            if self._tracker is not None:
                self._tracker.full(language)
            return None
        sums.tokens += tokens
        sums.sentences += 1
        position = sums.sentences - 1
        admission = AdmittedSentence(
            language=language,
            position=position,
            tokens=tokens,
            mean_wanted=position < PATCH_SENTENCES or self._sentence_means is not None,
        )
        restored = position in sums.done
        if self._tracker is not None:
            self._tracker.admitted(language, tokens, restored=restored)
        return None if restored else admission

    def add(
        self,
        *admissions: AdmittedSentence,
        counts: NDArray[np.integer],
        mean: NDArray[np.float32] | None,
        residual: NDArray[np.floating],
        reached: NDArray[np.integer] | None = None,
        residual_counts: NDArray[np.integer] | None = None,
    ) -> None:
        """Add the measurements of an admitted sentence, or the sums of those of several. Each is added once.

        Args:
            admissions: The admitted sentences, all of one language; one alone if its mean is wanted.
            counts: Number of tokens with activation > 0, integers of the shape `widths.shape`.
            mean: Mean activation over the tokens, float32 of the same shape; may be None unless it is wanted. In a
                mixture of experts, over the tokens that reach the neuron's expert, and NaN if there are none.
            residual: Sum over the tokens of the residual at each layer's output, [L, H].
            reached: In a mixture of experts, the number of tokens that reach the neuron's expert, integers of the shape
                `widths.shape`; otherwise None.
            residual_counts: Number of tokens whose residual is above 0, integers [L, H]; None if they are not recorded,
                which is the same for all sentences.

        Raises:
            InvalidRequest: The residual is not finite, so the other measurements mean nothing (param "dtype").
        """
        admission, *others = admissions
        if not np.isfinite(residual).all():
            raise InvalidRequest(
                f"a sentence in {admission.language} has activations that the dtype of the model cannot hold (infinity "
                "or NaN); load the model in another dtype, such as bfloat16",
                param="dtype",
            )
        sums = self._languages[admission.language]
        sums.counts += counts
        if reached is not None:
            if sums.reached is None:
                sums.reached = np.zeros(sums.shape, dtype=np.int64)
            sums.reached += reached
        sums.residual += residual
        if residual_counts is not None:
            if sums.residual_counts is None:
                sums.residual_counts = np.zeros(residual_counts.shape, dtype=np.int64)
            sums.residual_counts += residual_counts
        if admission.mean_wanted:
            assert mean is not None, "a sentence came without its mean"
            assert not others, "a mean is of one sentence"
            if admission.position < PATCH_SENTENCES:
                sums.keep(admission.position, mean)
            if self._sentence_means is not None:
                self._sentence_means.append(admission.language, np.nan_to_num(mean) if reached is not None else mean)
        sums.done.update(each.position for each in admissions)
        if self._tracker is not None:
            self._tracker.recorded(admission.language, sum(each.tokens for each in admissions))
        if self._checkpoint is not None:
            self._checkpoint.save_if_due(self._saved)

    def _saved(self) -> dict[str, NDArray[Any]]:
        arrays = {
            f"{index}.{name}": array
            for index, sums in enumerate(self._languages.values())
            for name, array in sums.saved().items()
        }
        return {"languages": np.array(list(self._languages)), **arrays}

    def finish(self) -> ActivationStats:
        """Return the statistics, with the languages in the order of their first sentences.

        Every admitted sentence must have been added.

        Raises:
            InvalidRequest: No sentence was admitted.
        """
        if not any(language.sentences for language in self._languages.values()):
            raise InvalidRequest(
                "the corpus has no sentence within max_tokens; raise max_tokens, or check the corpus", param="corpus"
            )
        languages = list(self._languages.values())
        patches = [language.summarize() for language in languages]
        return ActivationStats(
            widths=self._widths,
            languages=tuple(self._languages),
            counts=np.stack([language.counts for language in languages]),
            tokens=np.array([language.tokens for language in languages], dtype=np.int64),
            sentences=np.array([language.sentences for language in languages], dtype=np.int64),
            patch_max=np.stack([patch.max for patch in patches]),
            patch_median=np.stack([patch.median for patch in patches]),
            patch_mean=np.stack([patch.mean for patch in patches]),
            positive=np.stack([patch.positive for patch in patches]),
            patch_sentences=np.array([patch.sentences for patch in patches], dtype=np.int64),
            residual_mean=np.stack([language.residual / max(language.tokens, 1) for language in languages]).astype(
                np.float32
            ),
            reached=_stacked([language.reached for language in languages]),
            residual_counts=_stacked([language.residual_counts for language in languages]),
            sentence_means=self._sentence_means,
        )
