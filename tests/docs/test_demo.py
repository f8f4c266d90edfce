"""The demo: what it prints follows from the summary, and the front page tells of its sweep."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ampsweep.bundled import ATLAS_CORPUS, ATLAS_FOLDER, ATLAS_MODEL
from ampsweep.documents import read_spec
from examples.demo import REAL_MODEL, SPEC, conclusion, download, figure_of, mean, random_draws, show_factors
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.report.data import ReportData
from jobs.spec.sweep import parse_spec
from tests.docs.pages import DOCS, ROOT
from tests.jobs.report.control_sweep import control_summary, write_sweep


def row(metric: str, target: str, factor: float, value: float, *, base: str = "en", seed: int | None = None) -> Any:
    names = {"metric": metric, "target_language": target, "factor": factor, "value": value}
    return {**names, "data_language": base, "random_seed": seed}


ROWS = [
    *(row("lss", "fr", factor, value) for factor, value in ((-0.2, 0.5), (0.0, 0.9))),
    *(row("lss", "fr", factor, 1.0, base="ja") for factor in (-0.2, 0.0)),
    *(row("in_target_language", "fr", factor, value) for factor, value in ((-0.2, 0.0), (0.0, 0.25))),
    *(
        row(metric, "fr", factor, value, seed=seed)
        for metric in ("lss", "in_target_language")
        for factor in (-0.2, 0.0)
        for seed, value in ((0, 0.1), (1, 0.4), (2, 0.3))
    ),
]


def test_a_value_is_the_mean_over_the_data_languages() -> None:
    assert mean(ROWS, "lss", "fr", -0.2) == 0.75
    assert random_draws(ROWS, "lss", "fr", -0.2) == [0.1, 0.4, 0.3]


def test_the_table_has_the_range_of_the_random_draws(capsys: pytest.CaptureFixture[str]) -> None:
    show_factors(ROWS, {"fr": 7})
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "fr LSS, LAPE (7) 0.75 0.95" in lines
    assert "LSS, random 0.10-0.40 0.10-0.40" in lines
    assert "text, LAPE (7) 0.00 0.25" in lines


def test_the_conclusion_names_the_factors_where_the_metrics_are_saturated() -> None:
    assert conclusion(ROWS, ["fr"], [-0.2, 0.0]) == "LSS reaches 0.95 at 0, the text nowhere (0 of 1 languages)."


def test_the_axis_of_the_factors_has_their_distances() -> None:
    rows = [*ROWS, *({**row, "factor": 3.0} for row in ROWS if row["factor"] == 0.0)]
    for axes in figure_of(rows, ["fr"]).axes:
        (line,) = axes.get_lines()
        assert np.asarray(line.get_xdata()).tolist() == [-0.2, 0.0, 3.0]
        assert axes.get_xscale() == "symlog"
        assert [label.get_text() for label in axes.get_xticklabels()] == ["-0.2", "0", "3"]


def test_the_folder_of_the_demo_can_be_reported_on(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    write_sweep(source, control_summary(("fr",)))

    def copy(name: str) -> Callable[[str, Path], Path]:
        return lambda _sweep_id, path: Path(shutil.copy(source / name, path))

    client: Any = SimpleNamespace(download=copy("results.parquet"), download_summary=copy("summary.parquet"))
    out = tmp_path / "out"
    out.mkdir()
    download(client, "sweep_1", out)
    with closing(ReportData(out)) as data:
        assert data.provenance.sweep_id == "swp_2"


def test_the_front_page_tells_of_the_sweep_that_the_demo_runs() -> None:
    spec = parse_spec(read_spec(SPEC))
    catalog = Catalog(models={"atlas": ATLAS_MODEL}, corpora={"atlas": ATLAS_CORPUS}, atlas=ATLAS_FOLDER, engine="fake")
    cells = plan(spec, catalog, NeuronSets(Path("nowhere")))
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.search(r"`make demo` computes ([\d,]+) cells", page)
    assert told is not None
    assert int(told[1].replace(",", "")) == len(cells)


def test_the_figures_of_a_real_model_are_those_of_the_study() -> None:
    study = (DOCS / "results-real-models.md").read_text(encoding="utf-8")
    by_lss, by_text = re.findall(r"^\| fr \|(.*)\|$", study, re.MULTILINE)[:2]
    lss = [float(cell.split()[0]) for cell in by_lss.split("|") if cell.strip()]
    text = [float(cell.split()[0]) for cell in by_text.split("|") if cell.strip()]
    assert (lss[4], text[0], text[-1]) == (0.95, 0.0, 0.96)
    assert all(f"{value:g}" in REAL_MODEL for value in (lss[4], text[-1]))
