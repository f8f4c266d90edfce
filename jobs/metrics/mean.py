"""The mean of a number that each item has, as a metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from jobs.metrics.bootstrap import Floats, bootstrap_mean
from jobs.metrics.significance import cohens_dz, sign_flip
from jobs.metrics.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean over items of `of` their `score`.

    Against a baseline with a sign-flip test of the paired differences and their Cohen's d_z.
    """

    name: str
    of: Callable[[Floats], Floats]
    columns: tuple[str, ...] = ("score",)

    def alone(self, samples: pa.Table, rng: np.random.Generator) -> Verdict:
        """Return the mean."""
        if not len(samples):
            return Verdict(n=0)
        values = self.of(samples["score"].to_numpy())
        low, high = bootstrap_mean(values, rng)
        return Verdict(n=len(values), value=float(values.mean()), ci_low=low, ci_high=high)

    def against(self, steered: pa.Table, baseline: pa.Table, rng: np.random.Generator) -> Verdict:
        """Return the mean, and its difference to the baseline's over the same items."""
        own = self.alone(steered, rng)
        if not own.n:
            return own
        plain = self.of(baseline["score"].to_numpy())
        difference = self.of(steered["score"].to_numpy()) - plain
        low, high = bootstrap_mean(difference, rng)
        return replace(
            own,
            baseline=float(plain.mean()),
            delta=float(difference.mean()),
            p_value=sign_flip(difference, rng),
            delta_ci_low=low,
            delta_ci_high=high,
            effect=cohens_dz(difference),
        )
