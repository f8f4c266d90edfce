"""What a sweep found, in a few sentences written from its numbers: the effect, its controls, its cost, its limits.

The sentences claim no more than the tests and intervals show: an effect is a significant difference as
`jobs.report.sql.views` defines it. Otherwise the sentence says that there is none, and what could have been seen. Noise
is mentioned only where a control `repeat` measured it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.special import stdtrit

from ampsweep.domain.metric_names import ALPHA
from jobs.metrics.shift import Shift
from jobs.report.data import ReportData
from jobs.report.figures.drawing import Row
from jobs.report.prose.wording import (
    INCONCLUSIVE,
    WITHIN_NOISE,
    amount,
    below_mde,
    between,
    count_of,
    listed,
    signed,
)
from jobs.report.sql.queries import ARM_MEANS, ARMS_TAKEN, DETECTABLE, HELD_OUT, MEASURED_BY, NOISE, SIGNIFICANCE, TRIED

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
    """The values of the ways to steer: rows of the view `by_arm`, the metrics of each measure, what could be seen.

    Attributes:
        rows: The means over data languages other than the target.
        targets: The targets of each arm, also of those that have data in the target language alone.
        panels: The metrics of each measure.
        detectable: The median of `mde` by arm and measure.
    """

    rows: Sequence[Row]
    targets: dict[str, set[str]]
    panels: dict[str, str]
    detectable: dict[tuple[str, str], float]

    def of(self, arm: str, measure: str) -> list[Row]:
        """Return a row for each target."""
        return [row for row in self.rows if (row["arm"], row["measure"]) == (arm, measure)]

    def has(self, arm: str, measure: str) -> bool:
        return bool(self.of(arm, measure))


def findings_of(data: ReportData) -> list[str]:
    """Return sentences about what the sweep found, the most important one first."""
    targets: dict[str, set[str]] = {}
    for row in data.query(ARMS_TAKEN).to_pylist():
        targets.setdefault(row["arm"], set()).add(row["target"])
    measured = _Measured(
        targets=targets,
        rows=[row for row in data.query(ARM_MEANS).to_pylist() if row["value"] is not None],
        panels={row["measure"]: row["panels"] for row in data.query(MEASURED_BY).to_pylist()},
        detectable={(row["arm"], row["measure"]): row["mde"] for row in data.query(DETECTABLE).to_pylist()},
    )
    arm = next((name for name in _ARMS if name in targets), None)
    if arm is None:
        return ["No steered cell has a value."]
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
        verdict = _verdict(rows)
    else:
        beside += [f"{Shift.no_effect:g} is no effect"]
        verdict = _shift_verdict(rows)
    return f"With {_ARMS[arm]}, {_SHARES[share]} is {_value(rows)} ({'; '.join(beside)}): {verdict}."


def _comparisons(measured: _Measured, arm: str, share: str) -> list[str]:
    """Return how controls and instructions compare with the way to steer."""
    sentences = []
    random = "random" if arm == "neurons" else f"{arm} random"
    if measured.has(random, share):
        own = {row["target"]: row for row in measured.of(arm, share)}
        pairs = [(own[row["target"]], row) for row in measured.of(random, share) if row["target"] in own]
        apart = sum(_are_apart(first, second) for first, second in pairs)
        who = _RANDOM.get(arm, "a random vector of the same length")
        sentences.append(
            f"With {who} it is {_value([row for _, row in pairs])}; its interval lies entirely below for {apart} of "
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
    """Return what steering does to other abilities, in languages other than the target."""
    sentences = []
    for measure, label in _COSTS.items():
        rows = [row for row in measured.of(arm, measure) if row["delta"] is not None]
        if not rows:
            continue
        beside = [_mean(rows, "delta"), measured.panels[measure]]
        beside.append(f"unsteered {amount(fmean(row['baseline'] for row in rows))}")
        change = f"{signed(fmean(row['delta'] for row in rows))} ({'; '.join(beside)})"
        text = f"In the other languages, the mean difference in {label} is {change}: {_verdict(rows)}"
        if any(row["conclusion"] in INCONCLUSIVE for row in rows) and (arm, measure) in measured.detectable:
            seen = amount(measured.detectable[arm, measure])
            text += f"; differences below about {seen} in one data language are found with less than 80 % probability"
        sentences.append(f"{text}.")
    return sentences or ["No other ability was measured in other languages, so the cost is unknown."]


def _differences(data: ReportData) -> list[str]:
    """Return what steering does in the language itself and in others, for sweeps without language control and LSS."""
    sentences = []
    rows = data.query(SIGNIFICANCE).to_pylist()
    for side, where in (("self", "In the target language itself"), ("cross", "In the other languages")):
        of_side = [row for row in rows if row["side"] == side]
        total = sum(row["effects"] for row in of_side)
        if not total:
            continue
        found = {name: sum(row[name] for row in of_side) for name in ("better", "worse", "changed")}
        beside = [f"{count} {name}" for name, count in found.items() if count]
        beside += below_mde(sum(row["below_mde"] for row in of_side))
        beside.append(f"median size {between(row['median_effect'] for row in of_side)}")
        if detectable := [row["median_mde"] for row in of_side if row["median_mde"] is not None]:
            beside.append(f"median minimum detectable effect {between(detectable)}")
        what = f"{sum(found.values())} of {count_of(total, 'difference')} significant after correction"
        sentences.append(f"{where}, {what} ({'; '.join([*beside, *(row['panel'] for row in of_side)])}).")
    return sentences or ["No difference has an interval, so nothing can be said about significance."]


def _limits(data: ReportData, measured: _Measured, arm: str) -> list[str]:
    """Return the limitations of the findings."""
    limits = []
    (tried,) = data.query(TRIED).to_pylist()
    search = data.provenance.spec.get("search")
    if arm not in _INSTRUCTIONS and search and tried["tried"] > 1:
        chosen = (
            f"A search chose each target's intervention among up to {tried['tried']} by {search.get('metric', 'lss')}"
        )
        limits.append(f"{chosen}, on some of the same items, so this metric is optimistic at it.")
    elif arm not in _INSTRUCTIONS and tried["tried"] > 1:
        held_out = {(row["arm"], row["measure"]): row["held_out"] for row in data.query(HELD_OUT).to_pylist()}
        has_gain = any(row["side"] == "self" for row in data.query(SIGNIFICANCE).to_pylist())
        limits.append(_optimism(measured, arm, tried["tried"], held_out, has_gain=has_gain))
    (noise,) = data.query(NOISE).to_pylist()
    if noise["differences"] and not noise["measured"]:
        limits.append('No control "repeat" ran, so run-to-run noise is unknown.')
    if len(measured.targets[arm]) == 1:
        limits.append("With one target language, nothing is known about others.")
    return limits


def _optimism(
    measured: _Measured, arm: str, tried: int, held_out: Mapping[tuple[str, str], float], *, has_gain: bool
) -> str:
    """Return what the choice of the best interventions means for the values that it looks at.

    Args:
        measured: The values of the ways to steer.
        arm: The way to steer.
        tried: Number of interventions that it was chosen from.
        held_out: The mean over targets of each arm and measure on items that did not choose the intervention.
        has_gain: Whether there are differences in the target language itself.
    """
    measures = {"lss": "LSS", "control": "language control"}  # in the order in which the view `judged` is read
    names = {measure: name for measure, name in measures.items() if measured.has(arm, measure)} or {"gain": "gain"}
    if "gain" in names and not has_gain:
        without = "No LSS, no language control and nothing in a target language itself was measured"
        return f"{without}, so each target is shown at its smallest factor, not at the best of {tried} interventions."
    first, *rest = names
    chosen = f"Each target is shown at the best of up to {tried} interventions by {names[first]}"
    if rest:
        text = f"{chosen} and, of equal ones, by {names[rest[0]]}, chosen on the same items, so both are optimistic"
    else:
        text = f"{chosen}, chosen on the same items, so its {names[first]} is optimistic"
    if (arm, first) in held_out:
        text += f"; chosen and measured on different items, its {names[first]} is {amount(held_out[arm, first])}"
    return f"{text}."


def _verdict(rows: Sequence[Row]) -> str:
    """Return for how many targets there is a significant difference, by its direction."""
    judged = [row for row in rows if row["conclusion"] is not None]
    if not judged:
        return "without intervals nothing can be said about significance"
    found = [row for row in judged if row["conclusion"] not in INCONCLUSIVE]
    noisy = sum(row["conclusion"] == WITHIN_NOISE for row in judged)
    targets = count_of(len(judged), "target")
    within = [f"{noisy} within the noise"] if noisy else []
    if not found:
        return "; ".join([f"no significant difference for any of {targets}", *within])
    counts = Counter(row["conclusion"] for row in found)
    tested = all(row["p_holm"] is not None for row in found)
    basis = f"p < {ALPHA} after correction" if tested else "the 95 % interval excludes zero"
    if all(row["noise"] is not None for row in found):
        basis += ", larger than the noise"
    text = f"{listed(f'{name} for {number}' for name, number in sorted(counts.items()))} of {targets} ({basis})"
    small = sum(row["mde"] is not None and abs(row["delta"]) < row["mde"] for row in found)
    return "; ".join([text, *within, *below_mde(small)])


def _shift_verdict(rows: Sequence[Row]) -> str:
    """Return for how many targets the interval of LSS excludes the value of no effect, by its direction."""
    judged = [row for row in rows if row["value_low"] is not None]
    if not judged:
        return "without intervals nothing can be said about significance"
    sides = {
        "above": sum(row["value_low"] > Shift.no_effect for row in judged),
        "below": sum(row["value_high"] < Shift.no_effect for row in judged),
    }
    number = listed(f"{side} it for {count}" for side, count in sides.items() if count) or "on neither side for any"
    return f"the 95 % interval is {number} of {count_of(len(judged), 'target')}"


def _value(rows: Sequence[Row]) -> str:
    return amount(fmean(row["value"] for row in rows))


def _mean(rows: Sequence[Row], column: str = "value") -> str:
    """Return over how many targets a mean is, with its 95 % interval.

    It is Student's t over targets, but no narrower than their intervals are on average, because they rest on the same
    items; of a single target it is its own. Equal values without intervals have none.
    """
    values = [row[column] for row in rows]
    of = f"{rows[0]['target']} only" if len(values) == 1 else f"mean over {len(values)} targets"
    mean, lows, highs = fmean(values), [row[f"{column}_low"] for row in rows], [row[f"{column}_high"] for row in rows]
    bounds = []
    if None not in (*lows, *highs):
        bounds.append((fmean(lows), fmean(highs)))
    if len(values) > 1:
        half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
        bounds += [(mean - half, mean + half)] if half > 1e-12 else []
    if not bounds:
        return of
    low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
    if column == "value":  # a share
        low, high = max(low, 0.0), min(high, 1.0)
    return f"{of}, 95 % interval {amount(low)} to {amount(high)}"


def _are_apart(higher: Row, lower: Row) -> bool:
    """Return whether the interval of the first is above that of the second; unknown intervals are not."""
    low, high = higher["value_low"], lower["value_high"]
    return low is not None and high is not None and bool(low > high)
