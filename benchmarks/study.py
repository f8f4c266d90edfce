"""Tables of a language-control study (`examples/language-control.yaml`) from the summary of its sweep.

Prints two Markdown tables. The first has the searched factors: the value of the search's metric by target and factor,
in each rung. The second has one row for each target and method at the factors that the search kept: LSS, the share of
continuations in the target language, accuracy in XCOPA and the negative log-likelihood (NLL) of English text, in nats
per token, each with its 95 % interval.

Usage: python -m benchmarks.study SUMMARY.parquet [METRIC]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import duckdb

MEASURES = {
    "LSS": ("lss", "lss"),
    "in the target language": ("generation", "in_target_language"),
    "XCOPA": ("xcopa", "accuracy"),
    "NLL": ("perplexity", "nll"),
}
_METHOD = """
    CASE WHEN method IS NULL THEN 'unsteered'
         WHEN selection = 'random' AND method = 'neurons' THEN 'random neurons'
         WHEN selection = 'random' THEN 'random vector'
         ELSE method END
"""


def factors(summary: Path, metric: str) -> list[str]:
    """Return the lines of the table of searched factors."""
    rows = duckdb.execute(
        "SELECT target_language, rung, factor, value, n FROM read_parquet(?) "
        "WHERE metric = ? AND rung IS NOT NULL AND method = 'neurons' ORDER BY ALL",
        [str(summary), metric],
    ).fetchall()
    columns = sorted({(rung, factor) for _, rung, factor, _, _ in rows})
    values = {(target, rung, factor): f"{value:.2f} (n {n})" for target, rung, factor, value, n in rows}
    heads = [f"{factor:g}, rung {rung}" for rung, factor in columns]
    lines = [f"| target | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for target in sorted({row[0] for row in rows}):
        cells = (values.get((target, *column), "") for column in columns)
        lines.append(f"| {target} | {' | '.join(cells)} |")
    return lines


def methods(summary: Path) -> Iterator[str]:
    """Yield the lines of the table of methods."""
    yield f"| target | method | factor | {' | '.join(MEASURES)} |"
    yield "| --- | --- | ---: |" + " ---: |" * len(MEASURES)
    rows = duckdb.execute(
        f"SELECT target_language, {_METHOD} AS m, factor, task, metric, value, ci_low, ci_high "
        "FROM read_parquet(?) WHERE rung IS NULL ORDER BY ALL NULLS FIRST",
        [str(summary)],
    ).fetchall()
    keys = {(target, method, factor): None for target, method, factor, *_ in rows}
    values = {
        (*key, task, metric): _with_interval(value, low, high)
        for *key, task, metric, value, low, high in rows
        if value is not None
    }
    for target, method, factor in keys:
        cells = [values.get((target, method, factor, *measure), "") for measure in MEASURES.values()]
        if any(cells):
            shown = "" if factor is None else f"{factor:g}"
            yield f"| {target or ''} | {method} | {shown} | {' | '.join(cells)} |"


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    """Return a value with its interval; values that are the same for every item may have none."""
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Print the tables of the summary that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("summary", type=Path)
    parser.add_argument("metric", nargs="?", default="lss")
    options = parser.parse_args()
    print("\n".join([*factors(options.summary, options.metric), "", *methods(options.summary)]))


if __name__ == "__main__":
    main()
