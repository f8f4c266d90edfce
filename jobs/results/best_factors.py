"""The best factor for each target language and each way to edit, from the rows of a summary.

The views `judged` and `chosen` of the report (`jobs.report.sql.views`) apply the same rule to its interventions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from ampsweep.domain.languages.codes import is_target
from ampsweep.domain.metric_names import CONTROL
from jobs.planning.search import DEFAULT_METRIC
from jobs.results.schema import EDIT

Row = Mapping[str, Any]
Key = tuple[Any, ...]

_EDITED = ("model", "mode", "target_language", *EDIT)
"""Columns in which the interventions of a race agree; they differ in their factor alone."""
_RACE = ("model", "task", "task_options", "mode", "target_language", *EDIT)
"""The columns of a race: each task, with its options, has one of its own."""
_TIE_BREAKERS = ("control", "gain", "factor")


def best_factors(rows: Sequence[Row], metric: str = DEFAULT_METRIC) -> list[dict[str, Any]]:
    """Return the best factor for each target language and each way to edit (the columns `EDIT` tell them apart).

    The factor with the best mean of the metric over data languages is the best. Of factors whose means are equal to 12
    digits it is the one with the best language control (the mean of the first metric of `CONTROL` that was measured,
    over data languages other than the target), then the one with the largest mean relative gain in the language itself,
    then the smallest.

    Means over different data languages cannot be compared. A factor with fewer values of a measure than another one,
    because cells failed or have no value, is behind it whatever its mean.

    Controls, the rungs of a search before its last one, targets without neurons, and interventions on a single neuron
    do not count.

    Args:
        rows: The rows of a summary.
        metric: The metric that decides; by default LSS.

    Returns:
        For each race of factors its columns, `metric`, `factor`, `value` (the mean), `languages` (the number of data
        languages behind it), `tied` (the other factors with the same mean, ascending), `incomplete` (the factors with
        values in fewer data languages, ascending) and `decided_by`: the metric, or `control`, `gain` or `factor`, which
        decided between the tied ones.
    """
    own = [row for row in rows if _is_on_own_neurons(row)]
    deciding = [row for row in own if row["metric"] == metric]
    sign = -1 if any(row.get("higher_is_better") is False for row in deciding) else 1
    races: dict[Key, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in deciding:
        races[_key(row, _RACE)][row["factor"]].append(row["value"])
    measures = [_by_intervention(_controls(own)), _by_intervention(_relative_gains(own))]
    best: list[dict[str, Any]] = []
    for race, factors in races.items():
        columns = dict(zip(_RACE, race, strict=True))
        edited = _key(columns, _EDITED)
        ranks = {
            factor: (_rank(values, sign), *(_rank(of.get((*edited, factor), ())) for of in measures), factor)
            for factor, values in factors.items()
        }
        factor = min(ranks, key=ranks.__getitem__)
        languages = len(factors[factor])
        result = {
            "metric": metric,
            "factor": factor,
            "value": _mean(factors[factor]),
            "languages": languages,
            "tied": sorted(other for other in factors if ranks[other][0] == ranks[factor][0] and other != factor),
            "incomplete": sorted(other for other, values in factors.items() if len(values) < languages),
            "decided_by": _decided_by(sorted(ranks.values()), metric),
        }
        best.append({**columns, **result})
    return best


def _is_on_own_neurons(row: Row) -> bool:
    """Return whether a row has the value of an intervention on all neurons of a language, and of all items."""
    is_control_or_rung = row["selection"] is not None or row["rung"] is not None
    changed = row["factor"] is not None and row["neurons"] > 0 and row.get("neuron_layer") is None
    return changed and not is_control_or_rung and row["value"] is not None


def _controls(rows: Sequence[Row]) -> Iterator[tuple[Key, float]]:
    """Yield the language control of each intervention in each data language other than the target."""
    measured = {row["metric"] for row in rows}
    control = next((name for name in CONTROL if name in measured), None)
    for row in rows:
        if row["metric"] == control and not _is_self(row):
            yield _intervention(row), row["value"]


def _relative_gains(rows: Sequence[Row]) -> Iterator[tuple[Key, float]]:
    """Yield the improvement of each metric in the target language itself, relative to the unsteered model.

    As in the report, perplexity does not count beside its logarithm, nor do rates of single sources beside those of
    all.
    """
    tasks_with_nll = {row["task"] for row in rows if row["metric"] == "nll"}
    for row in rows:
        is_counted_elsewhere = (row["metric"] == "perplexity" and row["task"] in tasks_with_nll) or (
            row["task"] == "language_confusion" and "," in row["metric"]
        )
        if is_counted_elsewhere or not _is_self(row):
            continue
        if row.get("higher_is_better") is not None and row.get("delta") is not None and row.get("baseline"):
            improvement = row["delta"] if row["higher_is_better"] else -row["delta"]
            yield _intervention(row), improvement / abs(row["baseline"])


def _is_self(row: Row) -> bool:
    """Return whether a row's data are in the target language, or in one of several (`fr+it`)."""
    return is_target(row["data_language"], row["target_language"])


def _rank(values: Sequence[float], sign: int = 1) -> tuple[int, float]:
    """Return the rank of a factor by its values of a measure, smaller for a better one: their number, then their mean.

    `sign` is -1 for a measure that should be small.
    """
    return -len(values), -sign * _mean(values) if values else math.inf


def _decided_by(ranks: Sequence[tuple[Any, ...]], metric: str) -> str:
    """Return what distinguishes the first of some ranks from the second."""
    if len(ranks) == 1:
        return metric
    first, second = ranks[:2]
    measures = zip((metric, *_TIE_BREAKERS), first, second, strict=True)
    return next(name for name, of_first, of_second in measures if of_first != of_second)


def _by_intervention(values: Iterable[tuple[Key, float]]) -> dict[Key, list[float]]:
    by_key: dict[Key, list[float]] = defaultdict(list)
    for key, value in values:
        by_key[key].append(value)
    return by_key


def _mean(values: Sequence[float]) -> float:
    """Return a mean to 12 digits, so that the order of adding decides nothing."""
    return round(fmean(values), 12)


def _intervention(row: Row) -> Key:
    return (*_key(row, _EDITED), row["factor"])


def _key(row: Row, columns: Sequence[str]) -> Key:
    return tuple(row.get(name) for name in columns)
