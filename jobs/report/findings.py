"""What a sweep found, in a few sentences written from its numbers: the effect, its controls, its cost, its limits.

The sentences claim no more than the intervals show. An effect is one above the noise as `jobs.report.views` defines it;
otherwise the sentence says that there is none above the noise, and what could have been seen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

from jobs.metrics.shift import Shift
from jobs.report.data import ReportData
from jobs.report.figures.drawing import Row
from jobs.report.observations import NO_EFFECT
from jobs.report.queries import ABOVE_NOISE, ARM_MEANS, DETECTABLE, MEASURED_BY, TRIED
from jobs.report.wording import amount, between, count_of, listed, signed

_ARMS = {
    "neurons": "the language's own neurons",
    "difference": "the language's own neurons (patch difference)",
    "diffmean": "the difference-in-means vector",
    "diffmean_raw": "the raw difference-in-means vector",
    "prompt_en": "an instruction in English",
    "prompt_native": "an instruction in the target language",
}
"""The ways to steer, in the order in which the summary looks for one to describe."""
_INSTRUCTIONS = ("prompt_en", "prompt_native")
_RANDOM = {"neurons": "as many random neurons", "difference": "as many random neurons"}
_SHARES = {"control": "language control (the share of texts in the target language)", "lss": "LSS"}
_COSTS = {"accuracy": "accuracy", "nll": "the negative log-likelihood of text (nats)"}


@dataclass(frozen=True)
class _Measured:
    """The values of the ways to steer: rows of the view `by_arm`, the metrics of each measure, what could be seen."""

    rows: Sequence[Row]
    panels: dict[str, str]
    detectable: dict[tuple[str, str], float]

    def of(self, arm: str, measure: str) -> list[Row]:
        """Return a row for each target."""
        return [row for row in self.rows if (row["arm"], row["measure"]) == (arm, measure)]

    def has(self, arm: str, measure: str) -> bool:
        return bool(self.of(arm, measure))


def findings_of(data: ReportData) -> list[str]:
    """Return sentences about what the sweep found, the most important one first."""
    measured = _Measured(
        rows=[row for row in data.query(ARM_MEANS).to_pylist() if row["value"] is not None],
        panels={row["measure"]: row["panels"] for row in data.query(MEASURED_BY).to_pylist()},
        detectable={(row["arm"], row["measure"]): row["mde"] for row in data.query(DETECTABLE).to_pylist()},
    )
    arm = next((name for name in _ARMS if any(row["arm"] == name for row in measured.rows)), None)
    if arm is None:
        return ["No steered cell has a value of language control, LSS, accuracy or likelihood."]
    share = next((name for name in _SHARES if measured.has(arm, name)), None)
    if share is None:
        sentences = _differences(data)
    else:
        sentences = [_effect(measured, arm, share), *_comparisons(measured, arm, share), *_costs(measured, arm)]
    return [*sentences, *_limits(data, measured, arm)]


def _effect(measured: _Measured, arm: str, share: str) -> str:
    """Return what steering does to the language of the text, or else to LSS."""
    rows = measured.of(arm, share)
    beside = [_mean(rows), measured.panels[share]]
    if share == "control":
        baselines = [row["baseline"] for row in rows if row["baseline"] is not None]
        beside += [f"unsteered {amount(fmean(baselines))}"] if baselines else []
        beside += [f"LSS {_value(measured.of(arm, 'lss'))}"] if measured.has(arm, "lss") else []
        verdict = _verdict([row["conclusion"] for row in rows])
    else:
        beside += [f"{Shift.no_effect:g} is no effect"]
        verdict = _verdict([_shift(row) for row in rows])
    return f"With {_ARMS[arm]}, {_SHARES[share]} is {_value(rows)} ({'; '.join(beside)}): {verdict}."


def _comparisons(measured: _Measured, arm: str, share: str) -> list[str]:
    """Return how controls and instructions compare with the way to steer."""
    sentences = []
    random = "random" if arm == "neurons" else f"{arm} random"
    if measured.has(random, share):
        own = {row["target"]: row for row in measured.of(arm, share)}
        pairs = [(own[row["target"]], row) for row in measured.of(random, share) if row["target"] in own]
        apart = sum(_low(first) > _high(second) for first, second in pairs)
        who = _RANDOM.get(arm, "a random vector of the same length")
        sentences.append(
            f"With {who} it is {_value([row for _, row in pairs])}; the intervals do not overlap for {apart} of "
            f"{count_of(len(pairs), 'target')}"
            + (", so the effect is not shown to be due to the language." if not apart else ".")
        )
    elif arm not in _INSTRUCTIONS:
        sentences.append("Without a random control nothing shows that the effect is due to the language.")
    others = [
        f"{_ARMS[name]} {_value(measured.of(name, share))}"
        for name in _INSTRUCTIONS
        if name != arm and measured.has(name, share)
    ]
    if measured.has("other", share):
        others.insert(0, f"another language's neurons {_value(measured.of('other', share))}")
    return [*sentences, *([f"For comparison: {listed(others)}."] if others else [])]


def _costs(measured: _Measured, arm: str) -> list[str]:
    """Return what steering does to other abilities."""
    sentences = []
    for measure, label in _COSTS.items():
        rows = [row for row in measured.of(arm, measure) if row["delta"] is not None]
        if not rows:
            continue
        change = f"{signed(fmean(row['delta'] for row in rows))} ({_mean(rows, 'delta')}; {measured.panels[measure]})"
        conclusions = [row["conclusion"] for row in rows]
        text = f"The mean difference in {label} is {change}: {_verdict(conclusions)}"
        if NO_EFFECT in conclusions and (arm, measure) in measured.detectable:
            seen = amount(measured.detectable[arm, measure])
            text += f"; a difference in one data language below about {seen} could not have been seen"
        sentences.append(f"{text}.")
    return sentences or ["No other ability was measured, so the cost is unknown."]


def _differences(data: ReportData) -> list[str]:
    """Return what steering does in the language itself and in others, for sweeps without language control and LSS."""
    sentences = []
    rows = data.query(ABOVE_NOISE).to_pylist()
    for side, where in (("self", "In the target language itself"), ("cross", "In the other languages")):
        of_side = [row for row in rows if row["side"] == side]
        total = sum(row["effects"] for row in of_side)
        if not total:
            continue
        found = {name: sum(row[name] for row in of_side) for name in ("better", "worse", "changed")}
        above = [f"{count} {name}" for name, count in found.items() if count]
        number, differences = sum(found.values()), count_of(total, "difference")
        what = f"above the noise: {number} of {differences}" if number else f"no effect above noise in {differences}"
        size = f"median size {between(row['median_effect'] for row in of_side)}"
        beside = [*above, size, *(row["panel"] for row in of_side)]
        sentences.append(f"{where}, {what} ({'; '.join(beside)}).")
    return sentences or ["No difference has an interval, so nothing can be said about noise."]


def _limits(data: ReportData, measured: _Measured, arm: str) -> list[str]:
    """Return the limitations of the findings."""
    limits = []
    (tried,) = data.query(TRIED).to_pylist()
    if arm not in _INSTRUCTIONS and tried["tried"] > 1:
        measures = {"lss": "LSS", "control": "language control"}  # in the order in which `ARMS` of the views chooses
        chosen_by = next((name for key, name in measures.items() if measured.has(arm, key)), "gain")
        limits.append(
            f"Each target is shown at the intervention with the best {chosen_by} of up to {tried['tried']}, chosen on "
            f"the same items, so its {chosen_by} is optimistic."
        )
    targets = {row["target"] for row in measured.rows if row["arm"] == arm}
    if len(targets) == 1:
        limits.append("With one target language, nothing is known about others.")
    return limits


def _verdict(conclusions: Sequence[str | None]) -> str:
    """Return for how many targets there is an effect above the noise, by its direction."""
    judged = [conclusion for conclusion in conclusions if conclusion is not None]
    if not judged:
        return "without intervals nothing can be said about noise"
    counts = Counter(conclusion for conclusion in judged if conclusion != NO_EFFECT)
    targets = count_of(len(judged), "target")
    if not counts:
        return f"no effect above noise for any of {targets}"
    return f"{listed(f'{name} for {number}' for name, number in sorted(counts.items()))} of {targets}, above the noise"


def _shift(row: Row) -> str | None:
    """Return the conclusion from an LSS: whether its interval excludes the value of no effect."""
    if row["value_half"] is None:
        return None
    if abs(row["value"] - Shift.no_effect) <= row["value_half"]:
        return NO_EFFECT
    return "higher" if row["value"] > Shift.no_effect else "lower"


def _value(rows: Sequence[Row]) -> str:
    return amount(fmean(row["value"] for row in rows))


def _mean(rows: Sequence[Row], column: str = "value") -> str:
    """Return over how many targets a mean is, with its 95 % interval: Student's t, or that of the one target."""
    values = [row[column] for row in rows]
    if len(values) == 1:
        half, of = rows[0][f"{column}_half"], f"{rows[0]['target']} only"
    else:
        half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
        of = f"mean over {len(values)} targets"
    if half is None:
        return of
    low, high = fmean(values) - half, fmean(values) + half
    if column == "value":  # a share
        low, high = max(low, 0.0), min(high, 1.0)
    return f"{of}, 95 % interval {amount(low)} to {amount(high)}"


def _low(row: Row) -> float:
    return float(row["value"]) - float(row["value_half"] or 0.0)


def _high(row: Row) -> float:
    return float(row["value"]) + float(row["value_half"] or 0.0)
