"""Which metrics of a summary come first in reports and tables, which are shares, and what is significant."""

from __future__ import annotations

ALPHA = 0.05
"""The two-sided level of the tests: a difference with a smaller p-value is significant."""
CONTROL = ("lfs", "in_target_language", "target_lpr")
"""The shares of texts in the target language, in the order in which a report chooses the one that it is about."""
OF_TARGET = frozenset(
    {*CONTROL, "in_target_language_by_line", "in_target_script", "target_wpr", "target_lcpr"},
)
"""The shares of texts in the language that is steered to."""
OF_DATA = frozenset({"in_data_language", "in_data_language_by_line", "in_data_script", "lpr", "wpr", "lcpr"})
"""The shares of texts in the language of the data. Steering to another language is meant to lower them."""
HEADLINES = (*CONTROL, "lss", "accuracy", "acc")
"""The metrics that a sweep is about, the most important one first."""
SHARES = frozenset(
    {
        *HEADLINES,
        *OF_TARGET,
        *OF_DATA,
        *("repetition", "relevance"),
        *("acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "f1"),
    }
)
"""Metrics whose values are from 0 to 1. `<metric>,<filter or source>` of lm-eval and of the pass rates are so too."""


def headline_rank(metric: str) -> int:
    """Return the place of a metric in `HEADLINES`; metrics that are not in it follow."""
    name = metric.partition(",")[0]
    return HEADLINES.index(name) if name in HEADLINES else len(HEADLINES)


def is_share(metric: str) -> bool:
    """Return whether all values of a metric are from 0 to 1."""
    return metric.partition(",")[0] in SHARES


def metric_title(task: str, metric: str, options: str | None = None) -> str:
    """Return the name of a task's metric in tables: `xcopa: accuracy`, but `lss` for that of the task `lss`.

    Args:
        task: The task.
        metric: The metric.
        options: The options that distinguish the task from others of the same name.
    """
    name = "log-perplexity" if (task, metric) == ("perplexity", "nll") else task
    return name + (f" ({options})" if options else "") + ("" if task == metric else f": {metric}")
