"""`ampsweep neurons rank`: keeps the neurons that each language needs most, after a sweep that edited each alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.options.client import Server, client_of
from ampsweep.cli.options.completion import sweeps
from ampsweep.cli.options.neuron_source import check_neuron_folder, required_local_set
from ampsweep.cli.options.results import results_folder
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.client.environment import DEFAULT_URL
from ampsweep.errors import DamagedFile, InvalidRequest, NotFound
from ampsweep.files import atomic_write, check_folder, output_file
from ampsweep.temporary import TemporaryFolder

if TYPE_CHECKING:
    from jobs.results.ranking import RankedNeuron

_COLUMNS = ("metric", "value", "delta", "no_effect", "higher_is_better", "data_language", "target_language")
"""Columns of a summary that rank neurons."""


def rank(
    sweep: Annotated[
        str,
        typer.Argument(
            help="The folder that `ampsweep run` wrote to, or the id of a sweep on the server.", autocompletion=sweeps
        ),
    ],
    neurons: Annotated[
        str,
        typer.Option(help="The neuron set whose neurons the sweep edited: its folder, or its id in the home folder."),
    ],
    top: Annotated[int, typer.Option(min=1, help="Number of neurons to keep of each language.")],
    out: Annotated[Path, typer.Option(help="The folder to write the new neuron set to.")],
    metric: Annotated[
        str | None, typer.Option(help="The metric whose loss ranks the neurons, if the sweep has several.")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Also write the whole ranking to this Parquet file.")] = None,
    server: Server = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Keep the neurons that a language needs most: those whose edit alone made the metric worst in that language.

    The spec of the sweep has `neurons: each` in interventions, for example with op set and factor 0.
    """
    from engine.neurons.neuron_set import NeuronSet
    from engine.neurons.ranked import keep_neurons
    from jobs.results.ranking import rank_neurons, ranking_metric

    check_folder(out, param="out")
    table_file = None if table is None else output_file(table, param="table")
    with required_local_set(neurons, param="neurons") as folder:
        neuron_set = NeuronSet.load(folder)
    sweep_id, rows = _summary(sweep, server)
    ranked_by = ranking_metric(rows, metric)
    ranking = rank_neurons(rows, ranked_by)
    best = {language: ranked[:top] for language, ranked in ranking.items()}
    ranked_set = keep_neurons(
        neuron_set,
        {language: [(neuron.layer, neuron.index) for neuron in ranked] for language, ranked in best.items()},
        params={"sweep": sweep_id, "metric": ranked_by, "top": top},
    )
    check_neuron_folder(out, ranked_set.id)
    warn(_warnings(best, neuron_set.languages, top))
    ranked_set.save(out)
    if table_file is not None:
        _write_table(ranking, table_file)
    counts = {language: len(pairs) for language, pairs in ranked_set.neurons.items()}
    content: dict[str, Any] = {"id": ranked_set.id, "folder": str(out), "languages": counts}
    content["table"] = None if table is None else str(table)
    lines = [_line(language, ranked) for language, ranked in best.items()]
    show(content, "\n".join([*lines, f"{ranked_set.id} in {out}"]), as_json=as_json)


def _summary(sweep: str, server: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the id of a sweep in a folder or on a server, and the rows of its summary."""
    if (results := results_folder(sweep)) is not None:
        return _read(results / "summary.parquet")
    with TemporaryFolder("summary") as folder, client_of(server) as client:
        return _read(client.download_summary(sweep, folder / "summary.parquet"))


def _read(path: Path) -> tuple[str, list[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from jobs.results import metadata_keys as keys

    if not path.is_file():
        raise NotFound(f"{path.parent} has no {path.name}; give the folder of a finished sweep", param="sweep")
    try:
        table = pq.ParquetFile(path).read()
        sweep_id = keys.read_metadata(table.schema)[keys.SWEEP_ID]
    except (OSError, pa.ArrowException, KeyError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read as the summary of a sweep: {error}"
        raise DamagedFile(f"{message}; copy it again, or run the sweep again") from error
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        message = f"{path} is not the summary of a sweep: it lacks the columns {', '.join(missing)}"
        raise InvalidRequest(f"{message}; run the sweep again", param="sweep")
    return sweep_id, table.to_pylist()


def _warnings(best: Mapping[str, Sequence[RankedNeuron]], languages: Sequence[str], top: int) -> list[str]:
    """Return warnings about languages without a ranking, and about kept neurons that no language needs."""
    warnings = []
    if missing := [language for language in languages if language not in best]:
        warnings.append(f"the sweep ranked no neurons of {', '.join(missing)}; the new set has none of them")
    for language, ranked in best.items():
        if len(ranked) < top:
            warnings.append(f"{language} has only {len(ranked)} ranked neurons, fewer than {top}; all are kept")
        if harmless := sum(neuron.loss <= 0 for neuron in ranked):
            warnings.append(f"{harmless} of the {len(ranked)} kept neurons of {language} made the metric no worse")
    return warnings


def _line(language: str, ranked: Sequence[RankedNeuron]) -> str:
    first, last = ranked[0], ranked[-1]
    return (
        f"{language:<8} {len(ranked)} neurons, loss {first.loss:.4g} (layer {first.layer}, index {first.index}) "
        f"to {last.loss:.4g}"
    )


def _write_table(ranking: Mapping[str, Sequence[RankedNeuron]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("language", pa.string()),
            ("rank", pa.int32()),
            ("layer", pa.int32()),
            ("index", pa.int32()),
            ("loss", pa.float64()),
            ("loss_elsewhere", pa.float64()),
            ("cells", pa.int32()),
        ]
    )
    rows = [
        {**asdict(neuron), "rank": position} for ranked in ranking.values() for position, neuron in enumerate(ranked, 1)
    ]
    with atomic_write(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)
