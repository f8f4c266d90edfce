"""Schemas of the Parquet files, and the columns that follow from a cell alone."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from jobs.cell import Cell
from jobs.tasks.options import task_options

SAMPLES = pa.schema(
    [
        ("sweep_id", pa.string()),
        ("cell_id", pa.string()),
        ("model", pa.string()),
        ("task", pa.string()),
        ("data_language", pa.string()),
        ("target_language", pa.string()),
        ("selection", pa.string()),
        ("op", pa.string()),
        ("factor", pa.float64()),
        ("layers", pa.string()),
        ("scope", pa.string()),
        ("doc_id", pa.string()),
        ("prediction", pa.string()),
        ("gold", pa.string()),
        ("correct", pa.bool_()),
        ("score", pa.float64()),
        ("logprobs", pa.list_(pa.float64())),
        ("completion", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("patch", pa.string()),
        ("error", pa.string()),
        ("call_tokens", pa.list_(pa.int64())),
        ("statistic", pa.string()),
        ("weights", pa.string()),
        ("control_language", pa.string()),
        ("rung", pa.int32()),
        ("mode", pa.string()),
        ("measures", pa.string()),
        ("spanned_join", pa.bool_()),
        ("neuron_set", pa.string()),
        ("method", pa.string()),
        ("answer", pa.int32()),
        ("input", pa.string()),
        ("random_seed", pa.int64()),
        ("task_options", pa.string()),
        ("neuron_layer", pa.int32()),
        ("neuron_index", pa.int32()),
        ("adapter", pa.string()),
        ("tokens", pa.string()),
        ("steered_spans", pa.list_(pa.list_(pa.int64()))),
        ("when", pa.string()),
        ("part", pa.string()),
    ]
)
"""The samples of a sweep.

`call_tokens` says how many of `logprobs` belong to each call of the task. `measures` is JSON: the values of an lm-eval
task for each item by metric, or the English words in an answer of `language_confusion`. `spanned_join` says whether a
token spans the join of context and continuation in one of the item's calls; it is null where nothing is scored after a
context. `neuron_set` is the id of the neuron set that steered; it is null where no neurons were edited. `method` says
how the cell differs from the unsteered baseline (`jobs.cell.Cell.method`); it is null in baselines. `answer` is the
number of the answer, from 0, where each item is answered several times; such rows share a `doc_id`. `rung` is the step
of a search, from 1; it is null where all items of the spec were asked. `input` is what a generated text answers,
continues or translates, without the wording of a task around it, or the question and the options that are scored.
`random_seed` is the seed that random neurons were
drawn with. `task_options` distinguishes cells of one task that were asked in different ways (`jobs.tasks.options`); it
is null where the spec changes no default. `neuron_layer` and `neuron_index` name the neuron of an intervention that
edits a single one. `adapter` is the name of the LoRA adapter of the model; null without one. `tokens` says which tokens
in the scope are edited (`ampsweep.domain.edited_tokens.EditedTokens.label`); null for all of them. `steered_spans` has
the tokens that were steered, as pairs of the first and the one after the last, counted in `logprobs`; it is null unless
that depends on the text. `when` and `part` say by what: `when` is the label of the drift
(`ampsweep.domain.drift.Drift.label`), `part` is `thinking` or `answer`.
"""

CELL = pa.schema([field for field in SAMPLES if field.name not in ("sweep_id", "rung")])
"""The samples of a cell, which belongs to every sweep that needs it and so has no columns of a sweep."""

SUMMARY = pa.schema(
    [
        ("model", pa.string()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("data_language", pa.string()),
        ("target_language", pa.string()),
        ("selection", pa.string()),
        ("op", pa.string()),
        ("factor", pa.float64()),
        ("layers", pa.string()),
        ("n", pa.int64()),
        ("value", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("baseline", pa.float64()),
        ("delta", pa.float64()),
        ("p_value", pa.float64()),
        ("patch", pa.string()),
        ("left_out", pa.int64()),
        ("failed", pa.int64()),
        ("delta_ci_low", pa.float64()),
        ("delta_ci_high", pa.float64()),
        ("neurons", pa.int64()),
        ("statistic", pa.string()),
        ("weights", pa.string()),
        ("note", pa.string()),
        ("p_holm", pa.float64()),
        ("effect", pa.float64()),
        ("control_language", pa.string()),
        ("rung", pa.int32()),
        ("mode", pa.string()),
        ("p_mid", pa.float64()),
        ("signature", pa.string()),
        ("higher_is_better", pa.bool_()),
        ("no_effect", pa.float64()),
        ("spanned_joins", pa.int64()),
        ("mde", pa.float64()),
        ("method", pa.string()),
        ("noise", pa.float64()),
        ("random_seed", pa.int64()),
        ("task_options", pa.string()),
        ("neuron_layer", pa.int32()),
        ("neuron_index", pa.int32()),
        ("adapter", pa.string()),
        ("tokens", pa.string()),
        ("when", pa.string()),
        ("part", pa.string()),
    ]
)
"""The summary of a sweep: one row for each cell and metric.

`neurons` is the number of neurons that the intervention changed, 0 without one. `method`, `random_seed`,
`task_options`, `neuron_layer`, `neuron_index`, `adapter`, `tokens`, `when` and `part` are as in the samples. `note`
says why there is no value, or that the intervention changed no neuron. `p_holm` is `p_value` corrected over the target
and data languages that the same intervention was tried on. `rung` is as in the samples: rows with a rung are steps of a
search, on few items. `p_mid` is McNemar's mid-p value, for accuracies. `signature` is that of sacrebleu, for BLEU and
chrF++. `higher_is_better` and `no_effect` are those of the metric (`jobs.metrics.base.Metric`). `spanned_joins` counts
the items with a `spanned_join`. `mde` is the minimum detectable effect of `delta` (`jobs.metrics.power`). `noise` is
the noise floor of the task, data language and metric (`jobs.results.noise`); it is null without the control `repeat`.
"""

WRITING: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}

EDIT = ("op", "patch", "statistic", "weights", "layers", "tokens", "when", "part")
"""Columns that describe how a cell edits neurons, without the factor."""

_STEERED_ONLY = (
    "selection",
    "op",
    "factor",
    "scope",
    "patch",
    "weights",
    "layers",
    "statistic",
    "control_language",
    "random_seed",
    "neuron_layer",
    "neuron_index",
    "tokens",
    "when",
    "part",
)
"""Columns that are null for a cell without an intervention."""


def cell_columns(cell: Cell) -> dict[str, str | float | None]:
    """Return the columns that are the same in all samples of a cell.

    `target_language` is the language steered to (several are joined by "+") or instructed to answer in, or the one that
    a baseline is compared with. The columns of the intervention are null for a cell without one. `weights` are those of
    the languages in their order, joined by "+"; null if all are 1. `control_language` is the language whose neurons
    were edited instead of the target's own, for the control `other`.
    """
    columns: dict[str, str | float | None] = {
        "cell_id": cell.id,
        "model": cell.model,
        "task": cell.task.name,
        "data_language": cell.task.data_language,
        "target_language": cell.task.target_language,
        "mode": cell.task.mode,
        "task_options": task_options(cell.task),
        "neuron_set": None if cell.neurons is None else cell.neurons.id,
        "method": cell.method,
        "adapter": None if cell.adapter is None else cell.adapter.name,
        **dict.fromkeys(_STEERED_ONLY),
    }
    if cell.instruction is not None:
        columns["target_language"] = cell.instruction.language
    if (intervention := cell.intervention) is not None:
        columns |= {
            name: getattr(intervention, name) for name in ("selection", "op", "factor", "scope", "patch", "part")
        }
        columns |= {
            "target_language": "+".join(intervention.languages),
            "weights": "+".join(f"{weight:g}" for weight in intervention.weights) if intervention.weights else None,
            "layers": "all" if intervention.layers is None else ",".join(map(str, intervention.layers)),
            "statistic": None if intervention.statistic is None else intervention.statistic.word,
            "control_language": intervention.other,
            "random_seed": intervention.seed if intervention.selection == "random" else None,
            "tokens": None if intervention.tokens is None else intervention.tokens.label,
            "when": None if intervention.when is None else intervention.when.label,
        }
        if intervention.neuron is not None:
            columns["neuron_layer"], columns["neuron_index"] = intervention.neuron
    return columns
