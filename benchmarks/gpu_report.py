"""Writes the report of the GPU check as Markdown: what was checked, the goals, and the tables of all times and rates.

Several files of one card, whose stages were run in different calls, become one report.

Usage: python -m benchmarks.gpu_report FILE.json [FILE.json ...] [--docs PAGE.md] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.timed_runs.report import write_between_markers

REHEARSAL = "rehearsal on a CPU"
"""Stands for the card's name in the report of a rehearsal."""
SECTION = "gpu"
"""The markers on the page."""
_UNSTEERED = ("vllm", "torch.compile", "triton")
"""The unsteered kernels, of which the first that was timed is compared with."""
_SLOTS, _SHARE = 256, 0.01
_LONG = 8192
_COMPARED: tuple[str, ...] = ("idle", "generation", "scoring", "recording")
"""The parts of the rates that have seconds by variant."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A row of the table of goals: a figure, and the bound that it should keep.

    Attributes:
        description: What was measured.
        value: The figure.
        bound: What it should be at least, or at most.
        at_most: Whether the bound is an upper one.
        unit: Of both.
    """

    description: str
    value: float
    bound: float
    at_most: bool = False
    unit: str = ""

    @property
    def row(self) -> str:
        """The row in Markdown."""
        met = self.value <= self.bound if self.at_most else self.value >= self.bound
        limit = f"at {'most' if self.at_most else 'least'} {self.bound:g}{self.unit}"
        return f"| {self.description} | {self.value:.3f}{self.unit} | {limit} | {'met' if met else 'missed'} |"


def merged(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one report with the parts of all stages; a later one replaces equal parts of an earlier one.

    The error of a stage is that of the latest report that has it.

    Raises:
        ValueError: They are of different cards.
    """
    devices = {report["device"] for report in reports}
    if len(devices) != 1:
        raise ValueError(f"the reports are of different cards: {', '.join(sorted(devices))}")
    stages: dict[str, Any] = {}
    for report in reports:
        for name, stage in report["stages"].items():
            earlier = stages.get(name, {"parts": {}})
            stages[name] = {**stage, "parts": {**earlier["parts"], **stage["parts"]}}
    return {"device": devices.pop(), "stages": stages}


def tables(report: dict[str, Any]) -> str:
    """Return the report as Markdown; what was not run, or failed, is left out of the tables of times and rates."""
    rates = _results(report, "rates")
    blocks = [_setting(report, rates), _outcomes(report)]
    shapes = [shape for times in _results(report, "kernel times").values() for shape in times]
    operators = [shape for times in _results(report, "operator times").values() for shape in times]
    if goals := [*_kernel_goals(shapes), *_rate_goals(rates)]:
        blocks.append("\n".join(["| goal | measured | bound | |", "|---|---|---|---|", *(goal.row for goal in goals)]))
    if shapes:
        blocks.append(_kernel_table(shapes))
    if operators:
        blocks.append(_operator_table(operators))
    if compared := {name: rates[name] for name in _COMPARED if name in rates}:
        blocks.append(_rate_table(compared))
    return "\n\n".join(blocks)


def write_page(page: Path, report: dict[str, Any]) -> None:
    """Replace the tables of a page.

    Raises:
        ValueError: The report is of a rehearsal, or the page has no markers.
    """
    if report["device"] == REHEARSAL:
        raise ValueError(f"the figures of a rehearsal have no meaning, so {page} was not changed")
    write_between_markers(page, tables(report), section=SECTION)


def _results(report: dict[str, Any], stage: str) -> dict[str, Any]:
    """Return the results of a stage's parts that did not fail."""
    parts = report["stages"].get(stage, {}).get("parts", {})
    return {name: part["result"] for name, part in parts.items() if "result" in part}


def _setting(report: dict[str, Any], rates: dict[str, Any]) -> str:
    setting = rates.get("setting")
    if setting is None:
        return f"{report['device']}."
    versions = ", ".join(f"{name} {version}" for name, version in setting["versions"].items())
    load = setting["load"]
    work = f"{load['requests']} requests with prompts of {load['prompt']} tokens and {load['new_tokens']} new ones"
    return f"{report['device']}; {versions}; {setting['dtype']}; {work}; rounds: {load['rounds']}."


def _outcomes(report: dict[str, Any]) -> str:
    """Return what became of each part: text that a check returned, or an error."""
    lines = ["| stage | part | outcome |", "|---|---|---|"]
    for name, stage in report["stages"].items():
        for part, outcome in stage["parts"].items():
            if "error" in outcome:
                lines.append(f"| {name} | {part} | failed: {_in_a_cell(outcome['error'])} |")
            elif isinstance(outcome["result"], str):
                lines.append(f"| {name} | {part} | {_in_a_cell(outcome['result'])} |")
        if "error" in stage:
            lines.append(f"| {name} | | {_in_a_cell(stage['error'])} |")
    return "\n".join(lines)


def _in_a_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:300]


def _kernel_goals(shapes: Sequence[dict[str, Any]]) -> Iterator[Goal]:
    """Yield the goals of the steering kernel with 256 interventions on 1 % of the neurons each."""
    for shape in shapes:
        case, base = _usual_case(shape), _base(shape)
        where = f"width {shape['width']:,}, {shape['tokens']:,} tokens"
        if shape["tokens"] < _LONG:
            more = case["us"] - shape["unsteered"][base]["us"]
            name = f"fused kernel, more than {base}, {where}"
            yield Goal(description=name, value=more, bound=1.0, at_most=True, unit=" µs")
        else:
            over = case["over"][base]
            yield Goal(description=f"fused kernel, over {base}, {where}", value=over, bound=1.05, at_most=True)
            bandwidth = f"fused kernel, share of a copy's bandwidth, {where}"
            yield Goal(description=bandwidth, value=case["of copy"], bound=0.85)


def _rate_goals(rates: dict[str, Any]) -> Iterator[Goal]:
    """Yield the goals for the rates, each the median of the rounds' ratios."""
    for name, variants in rates.get("generation", {}).items():
        if not name.startswith("0 "):
            ratio = variants["ratio"]["median"]
            yield Goal(description=f"generation, {name}, over unsteered", value=ratio, bound=0.97)
    singles = (
        ("idle", "patched", "the idle engine, over stock vLLM", 0.99),
        ("recording", "recording", "recording, over prefill", 0.95),
    )
    for part, variant, description, bound in singles:
        if part in rates:
            yield Goal(description=description, value=rates[part][variant]["ratio"]["median"], bound=bound)
    for name, variants in rates.get("scoring", {}).items():
        if name != "forward pass":
            ratio = variants["ratio"]["median"]
            yield Goal(description=f"scoring, {name}, over the forward pass", value=ratio, bound=0.90)


def _usual_case(shape: dict[str, Any]) -> dict[str, Any]:
    case: dict[str, Any] = next(case for case in shape["steered"] if (case["slots"], case["share"]) == (_SLOTS, _SHARE))
    return case


def _base(shape: dict[str, Any]) -> str:
    return next(name for name in _UNSTEERED if name in shape["unsteered"])


def _kernel_table(shapes: Sequence[dict[str, Any]]) -> str:
    """Return the time of one launch, for every number of interventions and share of the neurons."""
    names = list(shapes[0]["unsteered"])
    heads = [
        "width",
        "tokens",
        "interventions",
        "neurons",
        "µs",
        "GB/s",
        "of a copy",
        *(f"over {name}" for name in names),
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for shape in shapes:
        for case in shape["steered"]:
            figures = [f"{case['us']:.2f}", f"{case['GB/s']:,.0f}", f"{case['of copy']:.3f}"]
            figures += [f"{case['over'][name]:.3f}" for name in names]
            cells = [
                f"{shape['width']:,}",
                f"{shape['tokens']:,}",
                f"{case['slots']}",
                f"{case['share']:.1%}",
                *figures,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _operator_table(shapes: Sequence[dict[str, Any]]) -> str:
    names = [name for name in shapes[0] if name not in ("width", "tokens")]
    heads = ["width", "tokens", *(f"{name}, µs" for name in names)]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for shape in shapes:
        cells = [f"{shape['width']:,}", f"{shape['tokens']:,}", *(f"{shape[name]:.2f}" for name in names)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rate_table(compared: dict[str, dict[str, Any]]) -> str:
    """Return the rates by variant, with the range of the rounds' ratios."""
    lines = ["| | tokens/s | median ratio | least and largest | median seconds |", "|---|---|---|---|---|"]
    for part, variants in compared.items():
        for name, figures in variants.items():
            ratio = figures["ratio"]
            spread = f"{ratio['least']:.3f} to {ratio['largest']:.3f}"
            seconds = statistics.median(figures["seconds"])
            lines.append(
                f"| {part}: {name} | {figures['tokens/s']:,} | {ratio['median']:.3f} | {spread} | {seconds:.2f} |"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, and write them and the joined report where asked; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--docs", type=Path, help="a page in which to replace the tables between the markers")
    parser.add_argument("--out", type=Path, help="a file for the joined report")
    options = parser.parse_args(arguments)
    report = merged([json.loads(file.read_text(encoding="utf-8")) for file in options.files])
    print(tables(report))
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.docs is not None:
        write_page(options.docs, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
