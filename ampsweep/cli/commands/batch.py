"""`ampsweep batch`: runs the requests of a JSONL file on one engine and writes a Parquet file."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.commands.batch_check import LineCheck, check_lines
from ampsweep.cli.options.engine import SHORT_JOB, Lora, Model, Neurons, model_folder
from ampsweep.cli.options.local_engine import EngineOptions, takes_engine_options
from ampsweep.cli.options.neuron_source import read_neurons
from ampsweep.cli.options.values import read_adapters
from ampsweep.cli.terminal.failures import describe
from ampsweep.cli.terminal.library_messages import quiet_libraries
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.cli.terminal.progress import ProgressDisplay
from ampsweep.cli.terminal.running import run_to_end
from ampsweep.documents import foreign_encoding
from ampsweep.errors import AmpsweepError, InvalidRequest
from ampsweep.files import atomic_write, parquet_output
from ampsweep.missing_path import no_file

if TYPE_CHECKING:
    from ampsweep.domain.generation.chunk import Span
    from engine.base import Engine

IN_FLIGHT = 512
"""Maximum number of lines in the engine at once; the engine batches them."""
MAX_AHEAD = 8192
"""Maximum number of lines that are begun before the first of them is answered, so that a long answer delays none."""
ROWS_PER_CHUNK = 1024
"""Rows per write. Bounds memory, together with MAX_AHEAD, independently of the length of the file."""

Row = dict[str, Any]


@dataclass(kw_only=True)
class _Outcome:
    """The numbers of rows and of failed rows, and the number and the error of the first failed row."""

    rows: int = 0
    failed: int = 0
    first_failed: int = 0
    first_error: str = ""

    def add(self, rows: Sequence[Row]) -> None:
        """Count further rows."""
        for number, row in enumerate(rows, self.rows + 1):
            if row["error"] is not None:
                self.failed += 1
                if self.failed == 1:
                    self.first_failed, self.first_error = number, row["error"]
        self.rows += len(rows)


@takes_engine_options
def batch(
    source: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="A JSONL file with one request per line.")],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.parquet", help="The Parquet file to write: one row per request, in the same order."
        ),
    ],
    model: Model,
    neurons: Neurons = None,
    lora: Lora = None,
    *,
    options: EngineOptions,
    as_json: AsJson = False,
) -> None:
    """Run the requests of a file, each with its own intervention and adapter or none, and write their answers."""
    if not source.is_file():
        raise InvalidRequest(no_file(source), param="IN.jsonl")
    _check_encoding(source)
    writable = parquet_output(target, param="OUT.parquet", inputs=[source])
    folder = model_folder(model)  # before anything that takes time
    quiet_libraries("batch", verbose=options.verbose)
    requests = sum(1 for _ in islice(_lines(source), SHORT_JOB + 1))
    neuron_set, adapters = read_neurons(neurons), read_adapters(lora)
    opening = options.opened(model, neurons=neuron_set, adapters=adapters, requests=requests, as_json=as_json)
    check = LineCheck(None if options.engine == "fake" else folder, neuron_set, adapters)
    check_lines(_lines(source), check, as_json=as_json)
    outcome = run_to_end(_batch(source, writable, opening, neuron_set.id if neuron_set else None))
    failed, lines = outcome.failed, outcome.rows
    if failed:
        warn([f"{failed} of {lines} rows have no answer; row {outcome.first_failed}: {outcome.first_error}"])
    text = f"{lines} rows in {target}, {failed} with an error"
    show({"rows": lines, "failed": failed, "file": str(target)}, text, as_json=as_json)


async def _batch(
    source: Path, target: Path, opening: AbstractAsyncContextManager[Engine], neurons_id: str | None
) -> _Outcome:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ampsweep.cli.commands.batch_line import SCHEMA

    lines = sum(1 for _ in _lines(source))
    outcome = _Outcome()
    with ProgressDisplay(source.name) as display:
        display.stage("starting the engine")
        async with opening as engine:
            display.stage("answering", "requests")
            answers = _shown(_answers(source, engine, neurons_id), display, lines)
            with (
                atomic_write(target) as temporary,
                pq.ParquetWriter(temporary, SCHEMA, write_page_checksum=True) as writer,
            ):
                async for rows in _chunks(answers):
                    writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
                    outcome.add(rows)
    return outcome


async def _shown(rows: AsyncIterator[Row], display: ProgressDisplay, lines: int) -> AsyncIterator[Row]:
    """Yield rows, and show how many have been answered."""
    done = failed = 0
    display.show(0, lines)
    async for row in rows:
        done += 1
        failed += row["error"] is not None
        display.show(done, lines, f"{failed} with an error" if failed else "")
        yield row


async def _chunks(rows: AsyncIterator[Row]) -> AsyncIterator[list[Row]]:
    chunk: list[Row] = []
    async for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS_PER_CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def _answers(source: Path, engine: Engine, neurons_id: str | None) -> AsyncIterator[Row]:
    """Yield the rows in the order of the lines, with up to IN_FLIGHT of them in the engine."""
    import asyncio

    waiting: deque[asyncio.Task[Row]] = deque()
    window = asyncio.Semaphore(IN_FLIGHT)
    try:
        for line in _lines(source):
            await window.acquire()
            task = asyncio.create_task(_answer(line, engine, neurons_id))
            task.add_done_callback(lambda _: window.release())
            waiting.append(task)
            while waiting and (waiting[0].done() or len(waiting) == MAX_AHEAD):
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _answer(line: bytes, engine: Engine, neurons_id: str | None) -> Row:
    """Return the row of a line; an error of the line goes into the column `error`."""
    from ampsweep.cli.commands.batch_line import ScoreLine, empty_row, parse
    from ampsweep.domain.generation.chunk import joined_spans

    row: Row = empty_row(line)
    try:
        request = parse(line)
        row["neuron_set"] = neurons_id if request.intervention is not None else None
        if isinstance(request, ScoreLine):
            score = await engine.score(request.request(neurons_id))
            return {**row, "token_ids": score.token_ids, "logprobs": score.logprobs}
        text, token_ids, logprobs = "", list[int](), list[float]()
        spans: list[Sequence[Span] | None] = []
        async for chunk in engine.generate(request.request(neurons_id)):
            text += chunk.text
            token_ids += chunk.token_ids
            logprobs += chunk.logprobs
            spans.append(chunk.steered_spans)
    except AmpsweepError as error:
        return {**row, "error": describe(error)}
    answer = {"completion": text, "token_ids": token_ids, "logprobs": logprobs, "steered_spans": joined_spans(spans)}
    return {**row, **answer}


def _check_encoding(source: Path) -> None:
    """Raise InvalidRequest if the first line shows that the file is not UTF-8; a wrong line elsewhere fails alone."""
    from jobs.batches.lines import BLOCK

    with source.open("rb") as file:
        foreign = foreign_encoding(file.readline(BLOCK))
    if foreign:
        raise InvalidRequest(f"{source} is not UTF-8 text ({foreign}); save it as UTF-8", param="IN.jsonl")


def _lines(source: Path) -> Iterator[bytes]:
    from jobs.batches.lines import lines_of

    with source.open("rb") as file:
        yield from lines_of(file)
