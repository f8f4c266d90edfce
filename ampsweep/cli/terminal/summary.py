"""Prints the summary of a sweep: the effect of each target language's neurons, next to random controls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ampsweep.cli.terminal.output import echo
from ampsweep.domain.choices import VECTORS
from ampsweep.domain.languages.codes import is_target
from ampsweep.domain.metric_names import ALPHA, HEADLINES, headline_rank, metric_title

Row = Mapping[str, Any]
SIGNS = {"scale": "x", "set": "=", "add": "+"}
"""How the head of a factor says what the op does with it."""

_SERIES = (
    *("task", "task_options", "mode", "metric", "target_language"),
    *("op", "patch", "statistic", "weights", "layers", "tokens", "when", "part"),
)


def show_summary(rows: Sequence[Row], best_factors: Sequence[Row]) -> None:
    """Print mean values over the data languages by factor, one line per target language and selection of neurons.

    The metrics that a sweep is about come first, and they have the best factor of each line, as has the metric of
    `best_factors`, which also says which one of equally good factors is the best and why. With several data languages,
    the differences in the target language itself follow. Rows of the rungs of a search, which do not cover all items,
    are left out.
    """
    decisive = {row["metric"] for row in best_factors}
    chosen = {tuple(row.get(name) for name in _SERIES): row for row in best_factors}
    rows = [row for row in rows if row["rung"] is None]
    with_nll = {_table(row)[:-1] for row in rows if row["metric"] == "nll"}
    for table in sorted(dict.fromkeys(_table(row) for row in rows), key=lambda table: headline_rank(table[-1])):
        task, options, mode, metric = table
        table_rows = [row for row in rows if _table(row) == table]
        factors = sorted({row["factor"] for row in table_rows if row["factor"] is not None})
        published = " as published" if mode == "paper" else ""
        better = table_rows[0]["higher_is_better"]
        lower = " (lower is better)" if better is False else ""
        title = f"{metric_title(task, metric, options)}{published}{lower}"
        if not _values(table_rows):
            echo(f"{title}: no values{_reason(table_rows)}")
            continue
        echo(f"{title}, mean over data languages")
        echo(f"  {'':<36}" + "".join(f"{head:>8}" for head in _heads(table_rows, factors)))
        for label, unsteered_rows in _unsteered(table_rows, metric).items():
            echo(f"  {label:<36}{unsteered_rows}")
        for series, series_rows in _grouped(table_rows).items():
            by_factor = [[row for row in series_rows if row["factor"] == factor] for factor in factors]
            *_, selection = series
            has_best = selection is None and (metric in decisive or headline_rank(metric) < len(HEADLINES))
            mark = ""
            if has_best:
                of_series = chosen.get(series[:-1])
                mark = _best(factors, by_factor, higher_is_better=better is not False, chosen=of_series)
            on_neurons = series_rows[0].get("method") in (None, "neurons")  # older servers have none
            if on_neurons and not any(row["neurons"] for row in series_rows):
                mark = "   no neurons: nothing was changed"
            mark += _few(series_rows)
            echo(f"  {_label(series):<36}{''.join(map(_cell, by_factor))}{mark}")
        if len({row["data_language"] for row in table_rows}) > 1 and not (
            metric == "perplexity" and table[:-1] in with_nll
        ):
            _show_differences(table_rows, factors)


def _show_differences(rows: Sequence[Row], factors: Sequence[float]) -> None:
    """Print the differences from the unsteered model in the target language itself, if the data are in it."""
    rows = [
        row for row in rows if is_target(row["data_language"], row["target_language"]) and row.get("delta") is not None
    ]
    if not rows:
        return
    if not any(row["delta"] for row in rows):
        echo("  in the target language itself: no difference from unsteered")
        return
    echo(f"  in the target language itself, minus unsteered (*: p < {ALPHA} after Holm's correction)")
    for row in rows:
        if row["factor"] is None:
            echo(f"  {row['target_language'] + ', ' + row['method']:<36}{_difference([row])}".rstrip())
    for series, series_rows in _grouped(rows).items():
        by_factor = [[row for row in series_rows if row["factor"] == factor] for factor in factors]
        echo(f"  {_label(series):<36}{''.join(map(_difference, by_factor))}".rstrip())


def _heads(rows: Sequence[Row], factors: Sequence[float]) -> list[str]:
    """Return the heads of the factors: `x 2` if all interventions scale, `= 2` if they set, `+ 2` if they add."""
    ops = {row["op"] for row in rows if row["factor"] is not None}
    sign = SIGNS.get(ops.pop(), "") if len(ops) == 1 else ""
    return [f"{sign} {factor:g}".strip() for factor in factors]


def _best(
    factors: Sequence[float], by_factor: Sequence[Sequence[Row]], *, higher_is_better: bool, chosen: Row | None
) -> str:
    """Return a note on the best factor of a line, or on the factors that tie for it at the precision shown.

    Args:
        factors: All factors.
        by_factor: The rows of the line for each of them.
        higher_is_better: Whether a larger mean is better.
        chosen: The line's entry in `best_factors`, if it has one.
    """
    means = {
        factor: round(mean, 3)
        for factor, rows in zip(factors, by_factor, strict=True)
        if (mean := _mean(rows)) is not None
    }
    if len(factors) < 2 or not means:
        return ""
    languages = {factor: _values(rows) for factor, rows in zip(factors, by_factor, strict=True) if factor in means}
    most = max(languages.values())
    incomplete = [f"{factor:g}" for factor, number in languages.items() if number < most]
    means = {factor: mean for factor, mean in means.items() if languages[factor] == most}
    lacking = f" (without {', '.join(incomplete)}: fewer data languages)" if incomplete else ""
    best = max(means.values()) if higher_is_better else min(means.values())
    tied = [f"{factor:g}" for factor, mean in means.items() if mean == best]
    if len(tied) == 1:
        return f"   best at {tied[0]}{lacking}"
    text = "all factors tie" if len(tied) == len(means) else f"{', '.join(tied[:-1])} and {tied[-1]} tie"
    return f"   {text}{_decided(chosen)}{lacking}"


def _decided(chosen: Row | None) -> str:
    """Return which of equally good factors is the best and why; nothing if it is just the smallest of them."""
    reasons = {"control": "has the best language control", "gain": "gains most in the language itself"}
    if chosen is None or chosen.get("decided_by") not in reasons:  # older servers do not say
        return ""
    return f"; {chosen['factor']:g} {reasons[chosen['decided_by']]}"


def _unsteered(rows: Sequence[Row], metric: str) -> dict[str, str]:
    """Return the values of cells without an intervention by label: the baseline, its repeat, prompts by language.

    A metric of the target language has no row for the unsteered model; its value is the baseline of the steered rows.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["factor"] is not None:
            continue
        method = row.get("method")  # older servers have none
        subject = "unsteered" if method in (None, "repeat") else row["target_language"]
        groups[subject if method is None else f"{subject}, {method}"].append(row)
    values = {label: _cell(group) for label, group in groups.items()}
    if "unsteered" in values or headline_rank(metric) == len(HEADLINES):
        return values
    baselines: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.get("baseline") is not None:
            baselines[f"unsteered, in {row['target_language']}"].append({"value": row["baseline"]})
    return {label: _cell(group) for label, group in baselines.items()} | values


def _few(rows: Sequence[Row]) -> str:
    """Return a note for a line whose intervals rest on few items, else an empty string."""
    few = [row for row in rows if "the interval rests on" in (row["note"] or "")]
    if not few:
        return ""
    fewest = min(few, key=lambda row: row["n"])
    left_out = f" ({fewest['left_out']} left out)" if fewest.get("left_out") else ""
    return f"   intervals rest on {fewest['n']} items{left_out}"


def _reason(rows: Sequence[Row]) -> str:
    """Return the first note of rows without a value."""
    return next((f" ({row['note']})" for row in rows if row["note"]), "")


def _table(row: Row) -> tuple[str, str | None, str, str]:
    return row["task"], row.get("task_options"), row["mode"], row["metric"]  # older servers have no options


def _grouped(rows: Iterable[Row]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["factor"] is not None:
            groups[(*(_series_value(row, name) for name in _SERIES), _selection(row))].append(row)
    return groups


def _selection(row: Row) -> str | None:
    """Return the selection of a row; one line stands for all interventions on single neurons."""
    return row["selection"] if row.get("neuron_layer") is None else "one neuron at a time, mean"


def _series_value(row: Row, name: str) -> Any:
    """Return a column of a row. For a vector, the op is its name, to distinguish it from an op `add` on neurons."""
    if name == "op" and row.get("method") in VECTORS:
        return row["method"]
    return row.get(name)


def _label(series: tuple[Any, ...]) -> str:
    _task, _options, _mode, _metric, target, op, patch, statistic, weights, layers, *restrictions, selection = series
    where = "" if layers == "all" else f" layers {layers}"
    where += "".join(
        f" {name} {value}" for name, value in zip(("tokens", "when", "part"), restrictions, strict=True) if value
    )
    what = "".join(f" {word}" for word in (op, patch, statistic) if word)
    weight = f" weight {weights}" if weights else ""
    return f"{target}{what}{weight}{where}{f', {selection}' if selection else ''}"


def _values(rows: Sequence[Row]) -> int:
    """Return how many of the rows have a value."""
    return sum(row["value"] is not None for row in rows)


def _mean(rows: Sequence[Row]) -> float | None:
    values = [row["value"] for row in rows if row["value"] is not None]
    return sum(values) / len(values) if values else None


def _cell(rows: Sequence[Row]) -> str:
    mean = _mean(rows)
    return f"{'-':>8}" if mean is None else f"{mean:>8.3f}"


def _difference(rows: Sequence[Row]) -> str:
    """Return the mean difference of the rows, marked if it is significant. That of several draws has no test."""
    if not rows:
        return f"{'-':>7} "
    mean = round(sum(row["delta"] for row in rows) / len(rows), 3) + 0.0  # no sign of zero
    p_holm = rows[0].get("p_holm") if len(rows) == 1 else None
    return f"{mean:>+7.3f}{'*' if p_holm is not None and p_holm < ALPHA else ' '}"
