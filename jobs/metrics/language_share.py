"""The share of generated texts that are in a given language."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.metrics.result import MetricResult
from jobs.metrics.share import Truths, compare_shares, evaluate_share


@dataclass(frozen=True, kw_only=True)
class Identified:
    """The share of items whose identified language (`prediction`) is the one in the column `language`.

    An unsteered cell has no target language, so its share of texts in it is undefined. A steered cell is compared with
    the baseline's share of texts in the target language of the steered cell.
    """

    name: str
    language: str
    higher_is_better: bool | None = True
    no_effect: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the metric reads."""
        return ("prediction", self.language)

    def evaluate(self, samples: pa.Table, rng: np.random.Generator) -> MetricResult | None:
        """Return the share, between 0 and 1; None if the cell has no such language."""
        wanted = wanted_language(samples, self.language)
        return None if wanted is None and len(samples) else evaluate_share(_is(samples, wanted), rng)

    def compare(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> MetricResult:
        """Return the share and its difference from the baseline's share of the same language."""
        wanted = wanted_language(steered, self.language)
        return compare_shares(_is(steered, wanted), _is(baseline, wanted), rng)


def wanted_language(samples: pa.Table, column: str) -> str | None:
    """Return the language in a column, which is the same for all samples of a cell; None if the cell has none."""
    wanted: str | None = samples[column][0].as_py() if len(samples) else None
    return wanted


def _is(samples: pa.Table, wanted: str | None) -> Truths:
    languages = set((wanted or "").split("+"))  # with several target languages, any of them counts
    return np.array([language in languages for language in samples["prediction"].to_pylist()], dtype=bool)


IN_TARGET = Identified(name="in_target_language", language="target_language")
IN_DATA = Identified(name="in_data_language", language="data_language")
