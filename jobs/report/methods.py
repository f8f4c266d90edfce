"""The paragraph on how the numbers came about, ready to cite."""

from __future__ import annotations

from jobs.metrics.bootstrap import RESAMPLES
from jobs.metrics.significance import FLIPS
from jobs.report.data import Provenance


def methods_paragraph(provenance: Provenance, *, samples: int) -> str:
    """Say what was asked, of which model, by which versions, and how differences were judged."""
    spec = provenance.spec
    neurons, asked = spec["neurons"], spec["interventions"]
    found = f"neuron set {neurons['id']}" if "id" in neurons else _found(neurons)
    magnitudes = ", ".join(f"{factor:g}" for factor in asked.get("factors") or (1.0,))
    values = asked.get("patch") or asked.get("statistic")
    of = f" times the {', '.join(values)}" if values else ""
    tasks = "; ".join(_task(task) for task in spec["tasks"])
    versions = "; ".join(
        ", ".join(f"{name} {version}" for name, version in sorted(each.items())) for each in provenance.versions
    )
    return (
        f"Sweep {provenance.sweep_id} of model {spec['model']} with {found}. Activations before the multiplication by "
        f"the up-projection were changed by {asked['op']} with {magnitudes}{of} (layers: {asked.get('layers', 'all')}; "
        f"tokens: {asked.get('scope', 'all')}; controls: {', '.join(asked.get('controls', ())) or 'none'}). "
        f"Tasks: {tasks}. Seed {spec.get('seed', 0)}; {samples} samples; {len(provenance.failed_cells)} cells failed. "
        f"Intervals are percentile bootstraps over items ({RESAMPLES} resamples, 95 %); differences are paired with "
        f"the unsteered model on the same items: exact McNemar tests for accuracies, sign-flip tests ({FLIPS} flips) "
        "for means, sacrebleu's paired bootstrap for BLEU and chrF++; p-values are Holm-corrected over the languages "
        f"of an intervention. Versions: {versions}."
    )


def _found(neurons: dict[str, object]) -> str:
    known = ("method", "corpus", "languages")
    languages = neurons["languages"]
    assert isinstance(languages, list)
    params = ", ".join(f"{name} {value}" for name, value in neurons.items() if name not in known)
    return (
        f"neurons found by {neurons['method']} on corpus {neurons['corpus']} over {len(languages)} languages "
        f"({', '.join(languages)}{f'; {params}' if params else ''})"
    )


def _task(task: dict[str, object]) -> str:
    languages = task["languages"]
    assert isinstance(languages, list)
    limit = f", the first {task['limit']} items" if task.get("limit") else ""
    split = f", split {task['split']}" if task.get("split") else ""
    return f"{task['name']} in {', '.join(languages)}{split}{limit}"
