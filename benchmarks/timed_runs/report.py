"""Tables of the throughput benchmark: ratios with their goals, and the seconds that they are computed from."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.timed_runs.rounds import ratio

THROUGHPUT = "throughput"
"""The section of the page that holds these tables."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A row of the first table: the speed of one variant of a suite relative to another, and its goal."""

    description: str
    suite: str
    variant: str
    base: str
    least: float


GOALS = (
    *(
        Goal(
            description=f"generation, {distinct} distinct {vectors}in 256 requests, over unsteered",
            suite=suite,
            variant=f"{distinct} {kind}",
            base=f"0 {kind}",
            least=0.97,
        )
        for suite, kind, vectors in (
            ("generation", "interventions", ""),
            ("generation, residual stream", "vectors", "vectors in the residual stream "),
        )
        for distinct in (1, 8, 64, 256)
    ),
    Goal(
        description="the patched engine without interventions, over stock vLLM",
        suite="idle",
        variant="patched",
        base="stock",
        least=0.99,
    ),
    *(
        Goal(description=f"{suite}, over {base_name}", suite=suite, variant="scoring", base=base, least=least)
        for suite in ("scoring", "scoring, 4 options to a context")
        for base_name, base, least in (
            ("the forward pass alone", "forward pass", 0.90),
            ("vLLM's `prompt_logprobs=0`", "prompt_logprobs", 1.4),
            ("Hugging Face hooks, batch 16", "hooks", 3.0),
        )
    ),
    Goal(
        description="scoring, 4 options to a context, over the forward pass with as many shared",
        suite="scoring, 4 options to a context",
        variant="scoring",
        base="forward pass, shared contexts",
        least=0.90,
    ),
    Goal(
        description="a sweep of 64 interventions on 64 items, mixed, over one at a time",
        suite="sweep",
        variant="mixed",
        base="one intervention at a time",
        least=1.5,
    ),
    Goal(description="recording, over prefill", suite="recording", variant="recording", base="prefill", least=0.95),
)


def tables(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    seconds: dict[str, dict[str, list[float]]] = report["seconds"]
    machine, model = report["machine"], report["model"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    setting = (
        f"{machine['cores']} cores of {machine['processor']}, Python {machine['python']}, {versions}; a model of "
        f"{model['parameters'] / 1e6:.1f} million parameters, {model['layers']} layers of {model['neurons a layer']:,} "
        f"neurons, float32; seed {report['seed']}."
    )
    lines = [
        setting,
        "",
        "| | median of the rounds' ratios | goal | | least and largest of so many | ratio of the fastest rounds |",
        "|---|---|---|---|---|---|",
    ]
    for goal in GOALS:
        if goal.suite in seconds:
            times = seconds[goal.suite][goal.variant]
            speed = ratio(times, seconds[goal.suite][goal.base])
            met = "met" if speed.median >= goal.least else "missed"
            spread = f"{speed.least:.3f} to {speed.largest:.3f} of {len(times)}"
            lines.append(
                f"| {goal.description} | {speed.median:.3f} | {goal.least:g} | {met} | {spread} | {speed.fastest:.3f} |"
            )
    lines += ["", "| median seconds | |", "|---|---|"]
    for suite, variants in seconds.items():
        lines += [f"| {suite}: {name} | {statistics.median(times):.2f} |" for name, times in variants.items()]
    return "\n".join(lines)


def markers(section: str) -> tuple[str, str]:
    """Return the lines between which a page has the generated text of a section."""
    return f"<!-- {section}: generated -->", f"<!-- {section}: end -->"


def write_between_markers(page: Path, text: str, *, section: str) -> None:
    """Replace the text between a section's two markers in a page; raise ValueError if a marker is missing."""
    first, last = markers(section)
    before, begin, rest = page.read_text(encoding="utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {first} and {last}")
    page.write_text(f"{before}{first}\n\n{text}\n\n{last}{after}", encoding="utf-8")
