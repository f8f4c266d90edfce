"""Prints the summary of a sweep: the effect of each target language's neurons, next to random controls."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ampsweep.cli.terminal.output import echo
from ampsweep.domain.choices import VECTORS
from ampsweep.domain.languages.codes import is_target
from ampsweep.domain.metric_names import ALPHA, HEADLINES, headline_rank, metric_title

Row = Mapping[str, Any]
_Table = tuple[str, str | None, str, str]
SIGNS = {"scale": "x", "set": "=", "add": "+"}
"""How the head of a factor says what the op does with it."""
SCREEN = 48
"""The most lines of tables that are printed."""
_NAMED = 4
"""The most tables that are named without being printed."""

_SERIES = (
    *("task", "task_options", "mode", "metric", "target_language"),
    *("op", "patch", "statistic", "weights", "layers", "tokens", "when", "part"),
)


def show_summary(rows: Sequence[Row], best_factors: Sequence[Row], *, rest: str) -> None:
    """Print mean values over the data languages by factor, one line per target language and selection of neurons.

    The metrics that a sweep is about come first, and they have the best factor of each line, as has the metric of
    `best_factors`, which also says which one of equally good factors is the best and why. With several data languages,
    the differences in the target language itself follow. Rows of the rungs of a search, which do not cover all items,
    are left out. A long table has neither these differences nor other controls than random neurons, and tables that do
    not fit on one screen are only named.

    Args:
        rows: The rows of the summary.
        best_factors: Its best factors.
        rest: Where the other tables are, as the end of a sentence.
    """
    decisive = {row["metric"] for row in best_factors}
    chosen = {tuple(row.get(name) for name in _SERIES): row for row in best_factors}
    rows = [row for row in rows if row["rung"] is None]
    groups: dict[_Table, list[Row]] = defaultdict(list)
    for row in rows:
        groups[_table(row)].append(row)
    left_out: list[str] = []
    lines = 0
    for table in _ordered(list(groups)):
        title, of_table = _title(groups[table]), groups[table]
        if _values(of_table) == 0:
            complete = shown = [f"{title}: no values{_reason(of_table)}"]
        else:
            itself = table[-1] != "perplexity" or (*table[:-1], "nll") not in groups
            main = [row for row in of_table if row["selection"] in (None, "random")]
            complete, shown = (
                [f"{title}, mean over data languages", *_lines(chosen_rows, decisive, chosen, itself=with_itself)]
                for chosen_rows, with_itself in ((of_table, itself), (main or of_table, False))
            )
            if len(complete) <= SCREEN // 2:
                shown = complete
        if lines and lines + len(shown) > SCREEN:
            left_out.append(title)
            continue
        shown = shown[:SCREEN]
        lines += len(shown)
        for line in shown:
            echo(line)
        if len(shown) < len(complete):
            left_out.append(f"{len(complete) - len(shown)} more lines of {title}")
    if left_out:
        others = f"; and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        echo(f"not shown: {'; '.join(left_out[:_NAMED])}{others}")
        echo(f"all values are {rest}")


def _ordered(tables: Sequence[_Table]) -> list[_Table]:
    """Return the tables, the most important one first.

    These are the metrics that a sweep is about, then what they cost, then all others, then parts of a metric. A metric
    of several tasks comes again after the others of its kind.
    """
    earlier = Counter[str]()

    def place(table: _Table) -> tuple[int, int, int]:
        *condition, metric = table
        whole, part, _ = metric.partition(",")
        kind = 0 if headline_rank(metric) < len(HEADLINES) else 1 if metric in ("perplexity", "nll") else 2
        if part and (*condition, whole) in tables:
            kind = 3
        earlier[metric] += 1
        return kind, earlier[metric], headline_rank(metric)

    places = {table: place(table) for table in tables}
    return sorted(tables, key=places.__getitem__)


def _title(rows: Sequence[Row]) -> str:
    """Return the name of the metric of a table's rows, and which values are better if these are the smaller ones."""
    task, options, mode, metric = _table(rows[0])
    published = " as published" if mode == "paper" else ""
    lower = " (lower is better)" if rows[0]["higher_is_better"] is False else ""
    return f"{metric_title(task, metric, options)}{published}{lower}"


def _lines(
    rows: Sequence[Row], decisive: Container[str], chosen: Mapping[tuple[Any, ...], Row], *, itself: bool
) -> Iterator[str]:
    """Yield the lines of a table below its title.

    Args:
        rows: The rows of the table.
        decisive: The metrics that determine the best factors.
        chosen: The best factors by series.
        itself: Whether the differences in the target language itself follow, if there are several data languages.
    """
    metric, better = rows[0]["metric"], rows[0]["higher_is_better"]
    factors = sorted({row["factor"] for row in rows if row["factor"] is not None})
    yield f"  {'':<36}" + "".join(f"{head:>8}" for head in _heads(rows, factors))
    for label, unsteered_rows in _unsteered(rows, metric).items():
        yield f"  {label:<36}{unsteered_rows}"
    grouped = _grouped(rows)
    unchanged = {series for series, series_rows in grouped.items() if not any(map(_edits, series_rows))}
    for series, series_rows in grouped.items():
        if series in unchanged:
            continue
        by_factor = [[row for row in series_rows if row["factor"] == factor] for factor in factors]
        *_, selection = series
        has_best = selection is None and (metric in decisive or headline_rank(metric) < len(HEADLINES))
        mark = ""
        if has_best:
            of_series = chosen.get(series[:-1])
            mark = _best(factors, by_factor, higher_is_better=better is not False, chosen=of_series)
        yield f"  {_label(series):<36}{''.join(map(_cell, by_factor))}{mark}{_few(series_rows)}"
    if unchanged:  # a control of a line without neurons has none either
        named = [s for s in grouped if s in unchanged and (s[-1] is None or (*s[:-1], None) not in unchanged)]
        yield f"  no neurons, nothing was changed: {'; '.join(map(_label, named))}"
    if itself and len({row["data_language"] for row in rows}) > 1:
        yield from _differences([row for row in rows if row["factor"] is None or _edits(row)], factors)


def _differences(rows: Sequence[Row], factors: Sequence[float]) -> Iterator[str]:
    """Yield the differences from the unsteered model in the target language itself, if the data are in it."""
    rows = [
        row for row in rows if is_target(row["data_language"], row["target_language"]) and row.get("delta") is not None
    ]
    if not rows:
        return
    if not any(row["delta"] for row in rows):
        yield "  in the target language itself: no difference from unsteered"
        return
    yield f"  in the target language itself, minus unsteered (*: p < {ALPHA} after Holm's correction)"
    for row in rows:
        if row["factor"] is None:
            yield f"  {row['target_language'] + ', ' + row['method']:<36}{_difference([row])}".rstrip()
    for series, series_rows in _grouped(rows).items():
        by_factor = [[row for row in series_rows if row["factor"] == factor] for factor in factors]
        yield f"  {_label(series):<36}{''.join(map(_difference, by_factor))}".rstrip()


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


def _table(row: Row) -> _Table:
    return row["task"], row.get("task_options"), row["mode"], row["metric"]  # older servers have no options


def _grouped(rows: Iterable[Row]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["factor"] is not None:
            groups[(*(_series_value(row, name) for name in _SERIES), _selection(row))].append(row)
    return groups


def _edits(row: Row) -> bool:
    """Return whether an intervention could change anything: it has neurons, or it is none on neurons."""
    return bool(row["neurons"]) or row.get("method") not in (None, "neurons")  # older servers have no methods


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
