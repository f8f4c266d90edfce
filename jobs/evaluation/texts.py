"""Stored texts with their languages, and which columns of a file they are read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampsweep.errors import InvalidRequest

RESULTS = "results.parquet"
"""The samples of a sweep, in the folder that `ampsweep run` writes."""

SWEEP_GROUP = ("task", "data_language", "method", "selection", "op", "factor")
"""The columns besides the language that results of a sweep are grouped by, of those that the file has."""
SWEEP_AXES = (
    "patch",
    "statistic",
    "layers",
    "scope",
    "tokens",
    "when",
    "part",
    "weights",
    "control_language",
    "random_seed",
    "neuron_layer",
    "neuron_index",
    "neuron_set",
    "mode",
    "task_options",
    "rung",
)
"""Further columns that they are grouped by where a sweep tried several values."""
INPUTS = ("input", "question", "prompt", "source")
"""Names of the column with what a text answers or translates; the first that a file has is taken."""
REFERENCES = ("gold", "reference")
"""Names of the column with reference translations; the first that a file has is taken."""


@dataclass(frozen=True, kw_only=True)
class StoredText:
    """A text and what is known of it.

    Attributes:
        text: The text.
        language: The code of the language it is meant to be in.
        group: The values of the columns to group by.
        input: What it answers, continues or translates.
        reference: A reference translation.
        key: Where it is from: `file`, `row` (from 1), and the ids of the row.
    """

    text: str
    language: str
    group: tuple[Any, ...]
    input: str | None = None
    reference: str | None = None
    key: Mapping[str, Any] = field(default_factory=dict)

    @property
    def item(self) -> tuple[Any, ...]:
        """What the several answers to one prompt in a sweep's results share; of other texts, the place in the file."""
        if self.key.get("answer") is None:
            return (self.key.get("file"), self.key.get("row"))
        return (self.key.get("file"), self.key.get("cell_id"), self.key.get("doc_id"))


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns hold what.

    Attributes:
        text: The column with the texts.
        language: The column with the wanted languages, or the code of one language for all texts.
        by: The columns whose values make a group.
        input: The column with what the texts answer or translate; None to read none.
        reference: The column with reference translations; None to read none.
    """

    text: str
    language: str
    by: tuple[str, ...]
    input: str | None = None
    reference: str | None = None


def columns_of(
    paths: Sequence[Path],
    names: Sequence[str],
    *,
    text: str | None = None,
    language: str | None = None,
    by: tuple[str, ...] | None = None,
    input_column: str | None = None,
    reference: str | None = None,
    needs: frozenset[str] = frozenset(),
) -> Columns:
    """Return the columns to read, with the defaults for results of a sweep if that is what the first file is.

    Args:
        paths: The files.
        names: The columns of the first file.
        text: The column with the texts; default `completion`.
        language: The column with the languages, or a code; default `target_language` in results of a sweep, else
            `language`.
        by: The columns to group by; default the language's, and in results of a sweep those of the intervention.
        input_column: The column with what the texts answer or translate; default the first of `INPUTS` that exists.
        reference: The column with reference translations; default the first of `REFERENCES` that exists.
        needs: Which of `input` and `reference` are needed; the others are not read.

    Raises:
        InvalidRequest: A needed column does not exist.
    """
    of_sweep = {"cell_id", "completion"} <= set(names)
    language = language or ("target_language" if of_sweep else "language")
    if by is None:
        by = (*(_sweep_group(paths[0], names) if of_sweep else ()), language)
    return Columns(
        text=text or "completion",
        language=language,
        by=by,
        input=_needed("input", input_column, INPUTS, names, paths[0]) if "input" in needs else None,
        reference=_needed("reference", reference, REFERENCES, names, paths[0]) if "reference" in needs else None,
    )


def _sweep_group(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a sweep's axes: the usual ones, and those with more than one value.

    Null is a value where the usual columns are equal, as in the last step of a search (`rung`). Elsewhere it only
    means that a column does not apply: baselines have no `patch`.
    """
    group = [name for name in SWEEP_GROUP if name in names]
    axes = [name for name in SWEEP_AXES if name in names]
    if path.suffix != ".parquet" or not axes:
        return tuple(group)
    table = read_columns(path, [*group, *axes])
    with_null = pc.CountOptions(mode="all")
    groups = table.group_by(group).aggregate([(name, "count_distinct", with_null) for name in axes])
    for name in axes:
        within = pc.max(groups[f"{name}_count_distinct"]).as_py() or 0
        if within > 1 or len(table[name].drop_null().unique()) > 1:
            group.append(name)
    return tuple(group)


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Return columns of a Parquet file; raise InvalidRequest if it cannot be read."""
    try:
        return pq.ParquetFile(path).read(columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise InvalidRequest(f"{path.name} cannot be read as Parquet: {error}", param="files") from error


def _needed(param: str, given: str | None, defaults: Sequence[str], names: Sequence[str], path: Path) -> str:
    chosen = given or next((name for name in defaults if name in names), None)
    if chosen is None:
        raise InvalidRequest(
            f"{path.name} has none of the columns {', '.join(defaults)}; give the column with --{param}", param=param
        )
    return chosen
