"""`ampsweep neurons scores`: LAPE's entropy of every neuron and of the residual stream, and what LAPE would select."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.options.neuron_source import required_local_set
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.errors import InvalidRequest
from ampsweep.files import atomic_write, output_file

if TYPE_CHECKING:
    from engine.neurons.lape_scores import LapeScores, Site, SiteScores

_UNIT = {"mlp": "neurons", "residual": "dimensions"}


def scores(
    neuron_set: Annotated[
        str,
        typer.Argument(
            metavar="SET", help="A set that `identify --scores` wrote: its folder, or its id in the home folder."
        ),
    ],
    site: Annotated[str | None, typer.Option(help="Only one site: mlp or residual. [default: both]")] = None,
    top: Annotated[
        int, typer.Option(min=0, help="Number of scores to print of each site: candidates first, by entropy.")
    ] = 10,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write the scores of all neurons and dimensions: FILE.parquet or FILE.json."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print LAPE's scores of MLP neurons and of the residual stream: entropy, probabilities, and what LAPE selects.

    The residual stream is scored at the output of each layer. Attention heads are left out.
    """
    from engine.neurons.lape_scores import SITES, LapeScores
    from engine.neurons.neuron_set import NeuronSet

    if site is not None and site not in SITES:
        raise InvalidRequest(f"site must be one of {', '.join(SITES)}; got {site!r}", param="site")
    with required_local_set(neuron_set, param="neuron_set") as folder:
        target = None if out is None else output_file(out, param="out", inputs=folder.glob("*.*"))
        if target is not None and target.suffix not in (".parquet", ".json"):
            raise InvalidRequest(f"out must end in .parquet or .json; got {target.name}", param="out")
        loaded = NeuronSet.load(folder)
        scored = LapeScores.load(folder, neuron_set=loaded.id)
    sites = [each for each in scored.sites if site in (None, each)]
    content = {
        **scored.metadata,
        "model": loaded.model,
        "sites": {each: _summary(scored.sites[each], scored.languages) for each in sites},
    }
    lowest = [row for each in sites for row in scored.rows(each, scored.sites[each].by_entropy[:top])]
    if target is not None:
        _write(scored, sites, content, target)
    text = "\n".join([*_heading(loaded.model, scored, sites), *_table(lowest, scored.languages)])
    show({**content, "scores": lowest, "file": None if out is None else str(out)}, text, as_json=as_json)


def _summary(scores: SiteScores, languages: Sequence[str]) -> dict[str, Any]:
    import numpy as np

    layers = scores.positions[:, 0]
    return {
        "scores": scores.widths.total,
        "candidates": int(scores.candidate.sum()),
        "selected": {
            code: np.bincount(layers[own], minlength=scores.widths.layers).tolist()
            for code, own in zip(languages, scores.selected, strict=True)
        },
    }


def _heading(model: str, scored: LapeScores, sites: Sequence[Site]) -> list[str]:
    params = ", ".join(f"{name} {value:g}" for name, value in scored.params.items())
    lines = [
        f"{scored.neuron_set}  {model}, LAPE over {', '.join(scored.languages)} with {params}",
        "attention heads are left out",
    ]
    for site in sites:
        scores = scored.sites[site]
        size = f"{scores.widths.total} {_UNIT[site]} in {scores.widths.layers} layers"
        chosen = f"{scores.candidate.sum()} candidates, {scores.selected.any(axis=0).sum()} selected"
        lines.append(f"{site:<8}  {size}, {chosen}")
    return lines


def _table(rows: Sequence[dict[str, Any]], languages: Sequence[str]) -> list[str]:
    if not rows:
        return []
    shares = " ".join(f"{code:>6}" for code in languages)
    lines = ["", f"{'site':<8} {'layer':>5} {'index':>6} {'entropy':>8}  {shares}  selected for"]
    for row in rows:
        shares = " ".join(f"{share:>6.3f}" for share in row["probability"].values())
        position = f"{row['site']:<8} {row['layer']:>5} {row['index']:>6} {row['entropy']:>8.4f}"
        lines.append(f"{position}  {shares}  {', '.join(row['selected'])}".rstrip())
    return lines


def _write(scored: LapeScores, sites: Sequence[Site], content: dict[str, Any], path: Path) -> None:
    """Write all scores of these sites, with what they are of: `content`."""
    with atomic_write(path) as temporary:
        if path.suffix == ".json":
            rows = [row for site in sites for row in scored.rows(site, range(scored.sites[site].widths.total))]
            temporary.write_text(json.dumps({**content, "scores": rows}, ensure_ascii=False) + "\n", encoding="utf-8")
        else:
            _write_parquet(scored, sites, content, temporary)


def _write_parquet(scored: LapeScores, sites: Sequence[Site], content: dict[str, Any], path: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    codes = np.array(scored.languages)
    tables = []
    for site in sites:
        scores = scored.sites[site]
        columns = {
            "site": pa.array([site] * scores.widths.total),
            "layer": scores.positions[:, 0],
            "index": scores.positions[:, 1],
            "entropy": pa.array(scores.entropy, mask=np.isnan(scores.entropy)),
            "candidate": scores.candidate,
            "selected": pa.array([codes[own].tolist() for own in scores.selected.T], type=pa.list_(pa.string())),
        }
        columns |= {f"p_{code}": share for code, share in zip(scored.languages, scores.probability, strict=True)}
        tables.append(pa.table(columns))
    metadata = {"ampsweep.scores": json.dumps(content, ensure_ascii=False)}
    pq.write_table(pa.concat_tables(tables).replace_schema_metadata(metadata), path)
