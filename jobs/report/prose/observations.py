"""What each figure or table of the report shows, in a sentence or two written from its numbers.

Each function takes the table of a question (`jobs.report.questions`) and returns text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median

import pyarrow as pa

from ampsweep.domain.languages.codes import is_target
from ampsweep.domain.metric_names import ALPHA, metric_title
from jobs.report.figures.control_plots import METHOD_LABELS
from jobs.report.figures.drawing import Row, distinct, metric_of, panels
from jobs.report.figures.heat_maps import span_of
from jobs.report.prose.wording import INCONCLUSIVE, amount, below_mde, between, count_of, listed, signed


def methods_seen(table: pa.Table) -> str:
    """Name the way to steer with the most language control, or else the largest LSS, and how random neurons do.

    Without either, give the mean differences in other abilities.
    """
    rows = table.to_pylist()
    name = "control" if any(row["control"] is not None for row in rows) else "lss"
    means = _means_by(rows, "method", name)
    if not means:
        texts = ["Neither language control nor LSS was measured."]
        for name in ("accuracy", "nll"):
            if differences := _means_by(rows, "method", name):
                listing = "; ".join(f"{_method(method)} {signed(mean)}" for method, (mean, _) in differences.items())
                texts.append(f"Difference in {name}: {listing}.")
        return " ".join(texts)
    label = "language control" if name == "control" else "LSS"
    best = max(means, key=lambda method: means[method][0])
    others = [method for method in ("neurons", "random", "prompt_native") if method in means and method != best]
    text = f"The largest mean {label} is that of {_method(best)}: {_over_targets(*means[best])}"
    if others:
        text += "; " + ", ".join(f"{_method(method)} {amount(means[method][0])}" for method in others)
    unsteered = [row["unsteered"] for row in rows if row["unsteered"] is not None]
    if name == "control" and unsteered:
        text += f"; the unsteered model {amount(fmean(unsteered))}"
    return f"{text}."


def costs_seen(table: pa.Table) -> str:
    """Name the methods that no other one surpasses in both control and cost, in the mean over targets."""

    def front(rows: list[Row]) -> str:
        means = [row for row in rows if row["target"] == "mean" and row["on_front"]]
        return "on the front of the means: " + listed(
            f"{_method(row['method'])} (control {amount(row['control'])}, cost {signed(row['cost'])})" for row in means
        )

    return _by_panel(table, front)


def significance_seen(table: pa.Table) -> str:
    """Count the significant differences, and say whether noise was measured."""
    rows = table.to_pylist()
    total = sum(row["effects"] for row in rows)
    found = {name: sum(row[name] for row in rows) for name in ("better", "worse", "changed")}
    parts = [f"{number} {name}" for name, number in found.items() if number]
    parts += below_mde(sum(row["below_mde"] for row in rows))
    text = f"{sum(found.values())} of {count_of(total, 'difference')} significant after correction"
    text += f" ({', '.join(parts)})" if parts else ""
    if all(row["within_noise"] is None for row in rows):
        noise = 'no control "repeat" ran, so run-to-run noise is unknown'
    else:
        noise = f"{sum(row['within_noise'] or 0 for row in rows)} more within the noise of the repeat"
    return f"{text}; {noise}.{_detectable(rows)}"


def best_seen(table: pa.Table) -> str:
    """Give the range of the best factors, and the metric at them beside that of the controls."""

    def best(rows: list[Row]) -> str:
        text = (
            f"the best factor is {between((row['factor'] for row in rows), digits=None)}, with a mean of "
            f"{between(row['value'] for row in rows)}"
        )
        tied = sum(row["tied"] is not None for row in rows)
        held_out = [row["held_out"] for row in rows if row["held_out"] is not None]
        text += f", {between(held_out)} on held-out items" if held_out else ""
        text += f" (other factors are equally good for {tied} of {len(rows)})" if tied else ""
        incomplete = sum(row["incomplete"] is not None for row in rows)
        text += f" (other factors lack data languages for {incomplete} of {len(rows)})" if incomplete else ""
        for name, label in (
            ("unsteered", "unsteered"),
            ("random", "random neurons"),
            ("other", "another language's neurons"),
        ):
            values = [row[name] for row in rows if row[name] is not None]
            text += f"; {label} {between(values)}" if values else ""
        return text

    return _by_panel(table, best)


def matrix_seen(table: pa.Table) -> str:
    """Give the smallest and the largest LSS with their languages."""
    rows = [row for row in table.to_pylist() if row["value"] is not None]
    if not rows:
        return "No pair of languages has a value."
    low, high = (pick(rows, key=lambda row: row["value"]) for pick in (min, max))
    mean = fmean(row["value"] for row in rows)
    if low["value"] == high["value"]:
        which = f"the only pair, {low['row']} to {low['column']}" if len(rows) == 1 else f"all {len(rows)} pairs"
        return f"LSS is {amount(mean)} for {which}."
    ends = " and ".join(f"{amount(row['value'])} ({row['row']} to {row['column']})" for row in (low, high))
    return f"LSS lies between {ends}; its mean over {count_of(len(rows), 'pair')} of languages is {amount(mean)}."


def controls_seen(table: pa.Table) -> str:
    """Count the languages whose own neurons shift more facts than a control, and for which the test says so."""
    rows = table.to_pylist()
    parts = []
    for control in distinct(rows, "control"):
        family = [row for row in rows if row["control"] == control]
        more = sum(row["own"] > row["controlled"] for row in family)
        shown = sum(row["own"] > row["controlled"] and row["p_holm"] < ALPHA for row in family)
        parts.append(
            f"control {control}: own neurons shift more facts in {more} of {count_of(len(family), 'language')}, "
            f"with p_holm < {ALPHA} in {shown}"
        )
    return f"{_capitalized('; '.join(parts))}."


def curves_seen(table: pa.Table) -> str:
    """Say where the mean effect of the own neurons over targets is largest and smallest, for each intervention."""

    def extremes(own: list[Row]) -> str:
        means = {x: fmean(row["y"] for row in own if row["x"] == x) for x in distinct(own, "x")}
        low, high = min(means, key=lambda x: means[x]), max(means, key=lambda x: means[x])
        targets = count_of(len(distinct(own, "target")), "target")
        if len(means) == 1:
            return f"mean over {targets} {_effect(own, means[low])} at {low:g}, the only one"
        if low == high:
            ends = between(means, digits=None)
            return f"mean over {targets} {_effect(own, means[low])} at each from {ends}"
        ends = f"{_effect(own, means[low])} at {low:g} to {_effect(own, means[high])} at {high:g}"
        return f"mean over {targets} from {ends}"

    def of_own(rows: list[Row]) -> str:
        return _by_intervention([row for row in rows if row["whose"] == "own"] or rows, extremes)

    return _by_panel(table, of_own)


def effects_seen(table: pa.Table) -> str:
    """Count the significant differences in the language itself and in others, and name the largest deterioration.

    Differences of several metrics are compared by the span of their colours in the heat maps.
    """
    rows = table.to_pylist()
    sides = []
    for side, is_self in (("self", True), ("cross", False)):
        of_side = [row for row in rows if _is_self(row) is is_self and row["conclusion"] is not None]
        counted = Counter(row["conclusion"] for row in of_side)
        if of_side:
            first = sorted(name for name in counted if name not in INCONCLUSIVE)
            names = [*first, *(name for name in INCONCLUSIVE if counted[name])]
            sides.append(f"{side}: {', '.join(f'{counted[name]} {name}' for name in names)}")
    worse = [row for row in rows if row["improvement"] is not None and row["improvement"] < 0]
    text = f"{_capitalized('; '.join(sides))}." if sides else "No difference has an interval or a test."
    if worse:
        worst = min(worse, key=lambda row: row["improvement"] / (span_of(metric_of(row["panel"])) or 1.0))
        where = f"data language {worst['row']}, steered to {worst['column']}; {worst['panel']}, n = {worst['n']}"
        doubt = f"; {worst['conclusion']}" if worst["conclusion"] in INCONCLUSIVE else ""
        text += f" The largest deterioration is {signed(worst['value'])} ({where}{doubt})."
    return text


def self_and_cross_seen(table: pa.Table) -> str:
    """Compare the mean difference in the language itself with that in the others."""

    def means(rows: list[Row]) -> str:
        own = [row for row in rows if row["whose"] == "own"] or rows
        shown = sum(row["conclusion"] not in (None, *INCONCLUSIVE) for row in own)
        text = f"self {signed(fmean(row['self'] for row in own))}, significant for {shown} of "
        text += count_of(len(own), "target")
        elsewhere = [row["cross"] for row in own if row["cross"] is not None]
        return f"{text}; cross {signed(fmean(elsewhere))}" if elsewhere else text

    return _by_panel(table, means)


def in_itself_seen(table: pa.Table) -> str:
    """Give the mean difference of each way to steer, and for how many of its targets it is significant."""

    def means(rows: list[Row]) -> str:
        texts = []
        for method in distinct(rows, "method"):
            of_method = [row for row in rows if row["method"] == method]
            text = f"{_method(method)} {signed(fmean(row['difference'] for row in of_method))}"
            tested = [row["conclusion"] for row in of_method if row["conclusion"] is not None]
            shown = sum(conclusion not in INCONCLUSIVE for conclusion in tested)
            texts.append(f"{text} ({shown} of {len(tested)} significant)" if tested else text)
        return "; ".join(texts)

    return _by_panel(table, means)


def gain_and_cost_seen(table: pa.Table) -> str:
    """Say how gain and cost change from the smallest to the largest factor, for each intervention."""

    def ends(rows: list[Row]) -> str:
        texts = []
        for factor in sorted({min(row["factor"] for row in rows), max(row["factor"] for row in rows)}):
            at_factor = [row for row in rows if row["factor"] == factor]
            gain, cost = (fmean(row[name] for row in at_factor) for name in ("gain", "cost"))
            shown = amount(gain) if "LSS" in rows[0]["gain_is"] else signed(gain)
            texts.append(f"gain {shown} and {signed(cost)} elsewhere at factor {factor:g}")
        return ", ".join(texts)

    return _by_panel(table, lambda rows: _by_intervention(rows, ends))


def classes_seen(table: pa.Table) -> str:
    """Give the mean effect of the own neurons in each resource class."""

    def means(rows: list[Row]) -> str:
        own = [row for row in rows if row["whose"] == "own"] or rows
        classes = {name: [row["y"] for row in own if row["class"] == name] for name in distinct(own, "class")}
        return ", ".join(
            f"{name}-resource {_effect(rows, fmean(values))} ({count_of(len(values), 'language')})"
            for name, values in classes.items()
        )

    return _by_panel(table, means)


def gap_seen(table: pa.Table) -> str:
    """Count the differences between the classes that the permutation test shows."""
    rows = [row for row in table.to_pylist() if row["p"] is not None]
    if not rows:
        return "A class with one language cannot be compared: no test."
    shown = sum(row["p"] < ALPHA for row in rows)
    sizes = f"{between((row['n_low'] for row in rows), digits=None)} low-resource languages"
    text = f"p < {ALPHA}, uncorrected, in {shown} of {count_of(len(rows), 'comparison')} with {sizes}."
    return text if shown else f"{text} No difference between the classes is shown."


def layers_seen(table: pa.Table) -> str:
    """Name the layers with the most neurons."""
    rows = table.to_pylist()
    total = sum(row["n"] for row in rows)
    by_layer = Counter[int]()
    for row in rows:
        by_layer[row["column"]] += row["n"]
    top = by_layer.most_common(3)
    share = sum(number for _, number in top) / total
    layers = listed(str(layer) for layer in sorted(layer for layer, _ in top))
    languages = count_of(len(distinct(rows, "row")), "language")
    where = f"{'layer' if len(top) == 1 else 'layers'} {layers}"
    return f"{share:.0%} of the {total:,} neurons of {languages} lie in {where}."


def overlap_seen(table: pa.Table) -> str:
    """Name the pair of languages that shares the most neurons."""
    pairs = [row for row in table.to_pylist() if row["row"] < row["column"]]
    if not pairs:
        return "There is one language only."
    most = max(pairs, key=lambda row: row["value"])
    sizes = f"{most['n_row']} and {most['n_column']} neurons"
    middle = median(row["value"] for row in pairs)
    return (
        f"{most['row']} and {most['column']} share the most: {amount(most['value'])} ({sizes}). The median of "
        f"{count_of(len(pairs), 'pair')} is {amount(middle)}."
    )


def search_seen(table: pa.Table) -> str:
    """Say how many factors each rung tried."""
    rows = table.to_pylist()
    rungs = []
    for rung in distinct(rows, "rung"):
        of_rung = [row for row in rows if row["rung"] == rung]
        by_target: dict[str, set[tuple[object, ...]]] = {}
        for row in of_rung:
            tried = row["intervention"], row["layers"], row["factor"]
            by_target.setdefault(row["target_language"], set()).add(tried)
        number = between((len(tried) for tried in by_target.values()), digits=None)
        rungs.append(f"rung {rung} tried {number} for each target, on up to {max(r['items'] for r in of_rung)} items")
    return f"{_capitalized('; '.join(rungs))}."


def modes_seen(table: pa.Table) -> str:
    """Name the metric that the modes change most."""
    rows = [row for row in table.to_pylist() if row["difference"] is not None]
    if not rows:
        return ""
    most = max(rows, key=lambda row: abs(row["difference"]))
    named = metric_title(most["task"], most["metric"])
    return f"The largest mean difference is {signed(most['difference'])} ({named}, {count_of(most['rows'], 'row')})."


def _is_self(row: Row) -> bool:
    """Return whether the data of a row are in the language of its column, or in one of several (`fr+it`)."""
    return is_target(row["row"], row["column"])


def _effect(rows: list[Row], value: float) -> str:
    """Return a mean effect: with a sign, unless it is an LSS, which is not a difference."""
    return amount(value) if rows[0]["panel"].startswith("lss") else signed(value)


def _by_panel(table: pa.Table, describe: Callable[[list[Row]], str]) -> str:
    return " ".join(f"{panel}: {describe(rows)}." for panel, rows in panels(table))


def _by_intervention(rows: list[Row], describe: Callable[[list[Row]], str]) -> str:
    """Return the descriptions of interventions, each with its name if there are several."""
    names = distinct(rows, "intervention")
    if len(names) == 1:
        return describe(rows)
    return "; ".join(f"{name}: {describe([row for row in rows if row['intervention'] == name])}" for name in names)


def _means_by(rows: Sequence[Row], key: str, column: str) -> dict[str, tuple[float, list[float]]]:
    """Return the mean and the values of a column for each value of `key`."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row[column] is not None:
            values.setdefault(row[key], []).append(row[column])
    return {name: (fmean(of_name), of_name) for name, of_name in values.items()}


def _over_targets(mean: float, values: list[float]) -> str:
    spread = f" ({between(values)})" if between(values) != amount(mean) else ""
    return f"{amount(mean)} over {count_of(len(values), 'target')}{spread}"


def _detectable(rows: Iterable[Row]) -> str:
    values = [row["median_mde"] for row in rows if row["median_mde"] is not None]
    return f" The median minimum detectable effect is {between(values)}, by metric and side." if values else ""


def _method(name: str) -> str:
    return METHOD_LABELS.get(name, name)


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
