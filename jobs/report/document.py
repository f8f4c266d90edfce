"""The report of a sweep as a document, before it is written in a format: summary, sections, methods, sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.metrics.result import FEW
from jobs.report.answers import Answer
from jobs.report.data import ReportData
from jobs.report.grid import Grid, plain_grid
from jobs.report.prose.findings import findings_of
from jobs.report.prose.methods import methods_paragraph
from jobs.report.prose.wording import count_of
from jobs.report.sources.provenance import Provenance
from jobs.report.sql.queries import ALIKE, LITTLE
from jobs.report.sql.views import VIEWS

_EXPECTED_CONTROLS = ("random", "other")
"""Controls that show whether an effect is due to the language's own neurons."""
_SOURCE_COLUMNS = ("task", "data", "split", "language", "SHA-256")


@dataclass(frozen=True)
class Notice:
    """A notice above the numbers: a statement, which is emphasized, and the rest of the sentence."""

    statement: str
    rest: str = ""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A report.

    Attributes:
        title: Name of the sweep.
        subtitle: Model and id of the sweep.
        missing: What the numbers do not contain: cells that failed or were not computed, samples that failed.
        findings: What was found, in sentences (`jobs.report.prose.findings`).
        caveats: What limits the numbers: few items, missing controls, warnings of the plan.
        answers: The sections: a question each, with its figure, table and query.
        views: The SQL views that the queries share.
        methods: How the numbers were computed, ready to cite.
        sources: Models and data with their hashes.
        files: The files that the report was made from, with their hashes.
    """

    title: str
    subtitle: str
    missing: Sequence[Notice]
    findings: Sequence[str]
    caveats: Sequence[Notice]
    answers: Sequence[Answer]
    views: Sequence[str]
    methods: str
    sources: Grid
    files: Grid

    @property
    def numbered(self) -> Iterable[tuple[int, Answer]]:
        """The sections with their numbers; a figure or a table has the number of its section."""
        return enumerate(self.answers, start=1)


def document_of(data: ReportData, answers: Sequence[Answer]) -> Document:
    """Return the report of a sweep.

    Args:
        data: The files of the sweep.
        answers: The answers to show.
    """
    provenance = data.provenance
    (counts,) = data.query("SELECT count(*) AS samples, count(error) AS failed FROM samples").to_pylist()
    signatures = data.query("SELECT DISTINCT signature FROM summary WHERE signature IS NOT NULL ORDER BY ALL")
    return Document(
        title=provenance.spec["name"],
        subtitle=f"Model {provenance.spec['model']} · sweep {provenance.sweep_id}",
        missing=list(_missing(provenance, counts["samples"], counts["failed"])),
        findings=findings_of(data),
        caveats=list(_caveats(data)),
        answers=answers,
        views=[view.strip() for view in VIEWS],
        methods=methods_paragraph(
            provenance, samples=counts["samples"], signatures=signatures["signature"].to_pylist()
        ),
        sources=_sources(provenance),
        files=plain_grid(("file", "SHA-256"), list(provenance.files.items())),
    )


def _missing(provenance: Provenance, samples: int, failed: int) -> Iterable[Notice]:
    if partial := provenance.partial:
        yield Notice(
            f"Partial results: {partial['included']} of {partial['total']} cells",
            f"; {partial['missing']} are missing (the sweep was {partial['status']}). The numbers below are not those "
            "of the finished sweep.",
        )
    excluded = ", excluded from all numbers below."
    if cells := len(provenance.failed_cells):
        behind = "Where one is missing, the intervention comes after the others in the choice of the best one."
        yield Notice(f"{count_of(cells, 'cell')} failed", f"{excluded} {behind}")
    if failed:
        yield Notice(f"{failed:,} of {count_of(samples, 'sample')} failed", excluded)


def _caveats(data: ReportData) -> Iterable[Notice]:
    (few,) = data.query(LITTLE).to_pylist()
    if few["rows"]:
        rest = f" (at least {few['least']}); such intervals are wide, and those by bootstrap too narrow."
        values = "1 value rests" if few["rows"] == 1 else f"{few['rows']:,} values rest"
        yield Notice(f"{values} on fewer than {FEW} items", rest)
    (alike,) = data.query(ALIKE).to_pylist()
    if alike["rows"]:
        rest = ", because the items behind them are alike, so that nothing is known of the spread of others."
        yield Notice(f"{count_of(alike['rows'], 'value')} or differences have no interval", rest)
    for warning in data.provenance.warnings:
        yield Notice("", warning)
    controls = data.provenance.spec["interventions"].get("controls", ())
    for name in _EXPECTED_CONTROLS:
        if name not in controls:
            rest = ": an effect need not be due to the language's own neurons."
            yield Notice(f'This sweep has no control "{name}"', rest)
    if not data.has_neurons:
        rest = ", so this report has no sections on layers and overlap."
        yield Notice("The folder has no neurons.parquet", rest)


def _sources(provenance: Provenance) -> Grid:
    rows = [("", f"model {model['name']}", "", "", model["sha256"]) for model in provenance.sources["models"]]
    rows += [
        (f"{data['task']} {data['version']}", data["data"] or "", data["split"] or "", data["language"], data["sha256"])
        for data in provenance.sources["data"]
    ]
    return plain_grid(_SOURCE_COLUMNS, rows)
