"""Line and word pass rates of the Language Confusion Benchmark as metrics of a sweep, and their harmonic mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ampsweep.domain.languages.codes import without_region
from ampsweep.errors import InvalidRequest
from jobs.language_control.identifiers import DEFAULT, PACKAGED_FASTTEXT, open_identifier, require_languages
from jobs.language_control.language_confusion import MIN_WORDS, WORD_LANGUAGES, check_answer
from jobs.metrics.item_sums import Score, compare_sums, evaluate_sums, sums_by_item
from jobs.metrics.language_share import wanted_language
from jobs.metrics.result import MetricResult
from jobs.statistics.bootstrap import Floats
from jobs.statistics.wilson import wilson

IDENTIFIER = PACKAGED_FASTTEXT
"""The benchmark's identifier, fastText's lid.176, in the compressed form that a package contains."""
ENGLISH_WORDS = "english_words"
"""The key in `measures` of the English words in an answer, by the language that it is split into words for."""
NO_WORD_LIST = "the data set has no english_words.txt, which the word pass rate needs"


def line_pass_rate(totals: Floats) -> Floats:
    """Return LPR for totals [..., 3] of answers counted, passing by lines, and passing by words."""
    return _divided(totals[..., 1], totals[..., 0])


def word_pass_rate(totals: Floats) -> Floats:
    """Return WPR, among the answers that pass by lines; totals as for `line_pass_rate`."""
    return _divided(totals[..., 2], totals[..., 1])


def language_confusion_pass_rate(totals: Floats) -> Floats:
    """Return LCPR, the harmonic mean of LPR and WPR; totals as for `line_pass_rate`."""
    lines, words = line_pass_rate(totals), word_pass_rate(totals)
    return _divided(2 * lines * words, lines + words)


class Rate(NamedTuple):
    """One of the rates.

    Attributes:
        score: The rate as a function of totals.
        by_words: Whether it depends on English words.
        denominator: The index in the totals of the answers that the rate is a share of.
        is_share: Whether it is that share, rather than a mean of two.
    """

    score: Score
    by_words: bool
    denominator: int
    is_share: bool = True


LINES = Rate(line_pass_rate, by_words=False, denominator=0)
WORDS = Rate(word_pass_rate, by_words=True, denominator=1)
LINES_AND_WORDS = Rate(language_confusion_pass_rate, by_words=True, denominator=0, is_share=False)


@dataclass(frozen=True, kw_only=True)
class PassRate:
    """A rate of answers in a language by lines, or by words; see `jobs.language_control.language_confusion`.

    Both sides of a comparison have the rate of their own answers that count, as `ampsweep evaluate` gives it. Rates by
    words read the English words that `jobs.tasks.built_in.language_confusion` stored.

    Attributes:
        name: The name in the summary.
        language: The column with the wanted language.
        rate: Which of the rates.
        identifier: Identifies the language of lines.
        source: Only answers to prompts of this source count; None for all.
        higher_is_better: Whether a larger value is an improvement.
        no_effect: None, because the baseline's value is the reference.
    """

    name: str
    language: str
    rate: Rate = LINES
    identifier: str = IDENTIFIER
    source: str | None = None
    higher_is_better: bool | None = True
    no_effect: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the metric reads."""
        return ("doc_id", "completion", self.language, *(["measures"] if self.rate.by_words else []))

    def by_source(self, samples: pa.Table) -> tuple[PassRate, ...]:
        """Return the metric for each source of the samples' prompts; none if there is only one."""
        sources = sorted({source_of(doc_id) for doc_id in samples["doc_id"].to_pylist()})
        if len(sources) < 2:
            return ()
        return tuple(replace(self, name=f"{self.name},{source}", source=source) for source in sources)

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the rate, between 0 and 1; None if the cell has no wanted language, or the rate is not for it."""
        return self._result(samples, None, rng)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the rate, and its difference from the baseline's rate of the same language."""
        return self._result(steered, baseline, rng)

    def _result(self, samples: pa.Table, baseline: pa.Table | None, rng: np.random.Generator) -> MetricResult | None:
        if not len(samples):
            return MetricResult(n=0)
        wanted = [without_region(code) for code in (wanted_language(samples, self.language) or "").split("+")]
        if not wanted[0] or (self.rate.by_words and not WORD_LANGUAGES.issuperset(wanted)):
            return None
        sides = [self._of_source(table) for table in (samples, baseline) if table is not None]
        if self.rate.by_words and not all(side["measures"].null_count == 0 for side in sides):
            return MetricResult(n=0, note=NO_WORD_LIST)
        try:
            require_languages(open_identifier(self.identifier), set(wanted))
            steered, *plain = (self._sums(side, wanted) for side in sides)
        except InvalidRequest as error:  # a package is missing, or the identifier does not know the language
            return MetricResult(n=0, note=error.message)
        score, denominator = self.rate.score, self.rate.denominator
        if plain:
            result = compare_sums(steered, plain[0], score, rng, denominator=denominator)
        else:
            result = evaluate_sums(steered, score, rng, denominator=denominator)
        return self._described(result, steered)

    def _of_source(self, samples: pa.Table) -> pa.Table:
        return samples if self.source is None else samples.filter(pc.starts_with(samples["doc_id"], f"{self.source}/"))

    def _sums(self, samples: pa.Table, wanted: Sequence[str]) -> Floats:
        """Return for each item how many answers count, pass by lines, and pass by words, [items, 3].

        Of several wanted languages, which "+" joins, any will do.
        """
        answers = samples["completion"].to_pylist()
        words = (
            [json.loads(measures)[ENGLISH_WORDS] for measures in samples["measures"].to_pylist()]
            if self.rate.by_words
            else []
        )
        numbers = np.zeros((len(answers), 3))
        for row, answer in enumerate(answers):
            passes = {language: _line_pass(answer or "", language, self.identifier) for language in wanted}
            if None in passes.values():
                continue
            passing = [language for language, passed in passes.items() if passed]
            by_words = self.rate.by_words and any(_without_english(words[row], language) for language in passing)
            numbers[row] = 1, bool(passing), by_words
        return sums_by_item(samples["doc_id"].to_pylist(), numbers)

    def _described(self, result: MetricResult, sums: Floats) -> MetricResult:
        """Return a result whose `n` is the number of items behind the rate; a note says why there is no value."""
        if result.value is None:
            none = not sums[:, 0].any()
            missing = f"a line of at least {MIN_WORDS} words" if none else "all of its lines in the language"
            return replace(result, note=f"no answer has {missing}")
        counted = sums[:, self.rate.denominator]
        n = int((counted > 0).sum())
        if self.rate.is_share and counted.max() == 1:  # an answer to each item, so that the items are independent
            low, high = wilson(result.value, n)
            result = replace(result, ci_low=low, ci_high=high)
        return replace(result, n=n, signature=open_identifier(self.identifier).identity)


def source_of(doc_id: str) -> str:
    """Return the source in the id of a prompt of the benchmark, `<source>/<number>`."""
    return doc_id.rpartition("/")[0]


def _divided(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        quotient: Floats = numerator / denominator
    return quotient


def _without_english(words: Mapping[str, Sequence[str]], language: str) -> bool:
    return not words.get(language)


@lru_cache(maxsize=16_384)
def _line_pass(answer: str, language: str, identifier: str) -> bool | None:
    return check_answer(answer, language, identifier=open_identifier(identifier)).line_pass


LPR = PassRate(name="lpr", language="data_language")
WPR = PassRate(name="wpr", language="data_language", rate=WORDS)
LCPR = PassRate(name="lcpr", language="data_language", rate=LINES_AND_WORDS)
TARGET_LPR = replace(LPR, name="target_lpr", language="target_language")
TARGET_WPR = replace(WPR, name="target_wpr", language="target_language")
TARGET_LCPR = replace(LCPR, name="target_lcpr", language="target_language")
IN_TARGET_BY_LINE = replace(TARGET_LPR, name="in_target_language_by_line", identifier=DEFAULT)
IN_DATA_BY_LINE = replace(LPR, name="in_data_language_by_line", identifier=DEFAULT)
"""LPR with py3langid, which recognizes more languages than lid.176 in its compressed form."""
