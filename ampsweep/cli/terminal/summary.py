"""Prints the summary of a sweep: the effect of each target language's neurons, next to random controls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ampsweep.cli.terminal.output import echo
from ampsweep.domain.choices import VECTORS

Row = Mapping[str, Any]

_SERIES = (
    *("task", "task_options", "mode", "metric", "target_language"),
    *("op", "patch", "statistic", "weights", "layers", "tokens", "when", "part"),
)


def show_summary(rows: Sequence[Row], best_factors: Sequence[Row]) -> None:
    """Print mean values over the data languages by factor, one line per target language and selection of neurons.

    Rows of the rungs of a search, which do not cover all items, are left out.
    """
    rows = [row for row in rows if row["rung"] is None]
    best = {tuple(row.get(name) for name in _SERIES if name != "metric"): row["factor"] for row in best_factors}
    for table in dict.fromkeys(_table(row) for row in rows):
        task, options, mode, metric = table
        table_rows = [row for row in rows if _table(row) == table]
        factors = sorted({row["factor"] for row in table_rows if row["factor"] is not None})
        called = f"{task} as published" if mode == "paper" else task
        called += f" ({options})" if options else ""
        better = " (lower is better)" if table_rows[0]["higher_is_better"] is False else ""
        echo(f"{called}: {metric}{better}, mean over data languages")
        echo(f"  {'':<36}" + "".join(f"{f'x {factor:g}':>8}" for factor in factors))
        for label, unsteered_rows in _unsteered(table_rows).items():
            echo(f"  {label:<36}{_cell(unsteered_rows)}")
        for series, series_rows in _grouped(table_rows).items():
            by_factor = "".join(_cell([row for row in series_rows if row["factor"] == factor]) for factor in factors)
            *named, selection = series
            chosen = best.get(tuple(name for index, name in enumerate(named) if _SERIES[index] != "metric"))
            mark = f"   best x {chosen:g}" if chosen is not None and selection is None else ""
            on_neurons = series_rows[0].get("method") in (None, "neurons")  # older servers have none
            if on_neurons and not any(row["neurons"] for row in series_rows):
                mark = "   no neurons: nothing was changed"
            mark += _few(series_rows)
            echo(f"  {_label(series):<36}{by_factor}{mark}")


def _unsteered(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of cells without an intervention by label: the baseline, its repeat, prompts by language."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["factor"] is not None:
            continue
        method = row.get("method")  # older servers have none
        subject = "unsteered" if method in (None, "repeat") else row["target_language"]
        groups[subject if method is None else f"{subject}, {method}"].append(row)
    return groups


def _few(rows: Sequence[Row]) -> str:
    """Return a note for a line whose intervals rest on few items, else an empty string."""
    counts = [row["n"] for row in rows if "the interval rests on" in (row["note"] or "")]
    return f"   intervals rest on {min(counts)} items" if counts else ""


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


def _cell(rows: Sequence[Row]) -> str:
    values = [row["value"] for row in rows if row["value"] is not None]
    return f"{sum(values) / len(values):>8.3f}" if values else f"{'-':>8}"
