"""Pages of a sweep's samples: those that match a filter, each with the unsteered sample of the same item.

Reads the file row group by row group, so memory holds one row group at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ampsweep.domain.languages.codes import short_code
from ampsweep.json_text import finite
from jobs.results.schema import SAMPLES
from jobs.storage.protocol import StoredFile

NONE = "none"
"""The value of a filter that matches null."""
SHOWN = (
    "cell_id",
    "task",
    "task_options",
    "mode",
    "data_language",
    "target_language",
    "method",
    "selection",
    "control_language",
    "random_seed",
    "op",
    "patch",
    "statistic",
    "factor",
    "weights",
    "layers",
    "neuron_layer",
    "neuron_index",
    "scope",
    "tokens",
    "when",
    "part",
    "rung",
    "doc_id",
    "answer",
    "input",
    "prediction",
    "gold",
    "completion",
    "steered_spans",
    "correct",
    "score",
    "error",
)
"""The columns of a sample on a page."""
BASELINE = ("prediction", "completion", "correct", "score", "error")
"""The columns of its unsteered sample."""
_ITEM = ("task", "task_options", "mode", "data_language", "rung", "doc_id", "answer")
"""The columns that a sample and its unsteered sample share."""
_LANGUAGES = frozenset({"data_language", "target_language", "control_language"})


@dataclass(frozen=True, kw_only=True)
class SampleFilter:
    """Which samples to return.

    Attributes:
        equal: Values of columns of texts and numbers, by column; `none` matches null. A language may have any of its
            codes (`fra_Latn`), and several are joined by "+".
        correct: Whether the samples are correct; None for all.
    """

    equal: Mapping[str, str | float]
    correct: bool | None = None

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """Return which rows match. Without a filter on `method` these are the steered ones only."""
        mask = pc.is_valid(rows["method"]) if "method" not in self.equal else pc.is_valid(rows["task"])
        for name, value in self.equal.items():
            column = rows[name]
            if name in _LANGUAGES and isinstance(value, str):
                value = "+".join(sorted(map(short_code, value.split("+"))))
            matches = pc.is_null(column) if value == NONE else pc.equal(column, pa.scalar(value, column.type))
            mask = pc.and_(mask, pc.fill_null(matches, False))
        if self.correct is not None:
            mask = pc.and_(mask, pc.fill_null(pc.equal(rows["correct"], self.correct), False))
        return mask

    @property
    def columns(self) -> list[str]:
        """The columns that `mask` reads."""
        return list({"task", "method", *self.equal, *(["correct"] if self.correct is not None else [])})


@dataclass(frozen=True, kw_only=True)
class SamplePage:
    """Samples in the order of the file. Each has its row number as `id`, and its unsteered sample as `baseline`."""

    samples: list[dict[str, Any]]
    has_more: bool


def read_page(file: StoredFile, wanted: SampleFilter, *, after: int, limit: int) -> SamplePage:
    """Return the first samples that match a filter.

    Args:
        file: The samples of a sweep, as `jobs.results.schema.SAMPLES`.
        wanted: The filter.
        after: Row number of the last sample of the page before; -1 for the first page.
        limit: Maximum number of samples.
    """
    with closing(file.open()) as source, pq.ParquetFile(source, page_checksum_verification=True) as table:
        found: list[dict[str, Any]] = []
        for start, group in _groups(table):
            if start + table.metadata.row_group(group).num_rows <= after + 1:
                continue
            positions = _positions(_read(table, group, wanted.columns), wanted, after - start, limit + 1 - len(found))
            if positions:
                rows = _read(table, group, SHOWN).take(pa.array(positions, pa.int64())).to_pylist()
                found += [{"id": str(start + position), **row} for position, row in zip(positions, rows, strict=True)]
            if len(found) > limit:
                break
        page = found[:limit]
        baselines = _baselines(table, page)
    samples = [
        finite({**sample, "baseline": baselines.get(_item(sample, sample["target_language"]))}) for sample in page
    ]
    return SamplePage(samples=samples, has_more=len(found) > limit)


def _groups(table: pq.ParquetFile) -> Iterator[tuple[int, int]]:
    """Yield the number of the first row of each row group, and the number of the group."""
    start = 0
    for group in range(table.num_row_groups):
        yield start, group
        start += table.metadata.row_group(group).num_rows


def _read(table: pq.ParquetFile, group: int, columns: Sequence[str]) -> pa.Table:
    """Return columns of a row group; those that files of earlier versions lack are null."""
    schema = table.schema_arrow
    rows = table.read_row_group(group, columns=[name for name in columns if name in schema.names])
    for name in columns:
        if name not in schema.names:
            rows = rows.append_column(name, pa.nulls(rows.num_rows, SAMPLES.field(name).type))
    return rows


def _positions(rows: pa.Table, wanted: SampleFilter, after: int, limit: int) -> list[int]:
    matching = pc.indices_nonzero(wanted.mask(rows)).to_pylist()
    return [position for position in matching if position > after][:limit]


def _baselines(table: pq.ParquetFile, samples: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the unsteered samples of the items of some samples, by item and target language.

    The unsteered sample of a task without a target language serves every target.
    """
    if not samples:
        return {}
    targets: dict[tuple[Any, ...], set[str | None]] = {}
    for sample in samples:
        targets.setdefault(_item(sample)[:-1], set()).add(sample["target_language"])
    documents = pa.array(sorted({sample["doc_id"] for sample in samples}))
    wanted = {_item(sample, sample["target_language"]) for sample in samples}
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for _, group in _groups(table):
        keys = _read(table, group, ("method", "doc_id"))
        mask = pc.and_(pc.is_null(keys["method"]), pc.is_in(keys["doc_id"], documents))
        positions = pc.indices_nonzero(mask)
        if not len(positions):
            continue
        for row in _read(table, group, (*_ITEM, "target_language", *BASELINE)).take(positions).to_pylist():
            own = row["target_language"]
            for target in targets.get(_item(row)[:-1], ()):
                if own is None or own == target:
                    found[_item(row, target)] = {name: row[name] for name in BASELINE}
        if found.keys() >= wanted:  # in the order of a plan, baselines come first
            break
    return found


def _item(row: Mapping[str, Any], target: str | None = None) -> tuple[Any, ...]:
    return (*(row[name] for name in _ITEM), target)
