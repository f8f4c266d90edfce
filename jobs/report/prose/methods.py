"""The methods paragraph of a report: how the numbers were computed, ready to cite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ampsweep.domain.drift import Drift, drift_of
from ampsweep.domain.edited_tokens import EditedTokens
from ampsweep.domain.metric_names import ALPHA
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash
from jobs.metrics.corpus.corpus_score import RESAMPLES as CORPUS_RESAMPLES
from jobs.metrics.corpus.corpus_score import SEED as CORPUS_SEED
from jobs.report.sources.provenance import Provenance
from jobs.statistics.bootstrap import RESAMPLES
from jobs.statistics.significance import EXACT_PAIRS, FLIPS
from jobs.tasks.registry import task_for

_DIGITS = 12
"""Digits of each SHA-256 in the paragraph; the page lists the complete hashes."""
_FACTS = {
    "shared": "on the facts that all of its languages have",
    "any": "on all facts, each pair of languages without those that it lacks",
}
_CONTROLS = {
    "random": "as many neurons of each layer drawn at random",
    "other": "another language's neurons",
    "zero": "the same neurons set to 0",
    "non_language": "as many neurons of each layer with the highest entropy that belong to no language",
    "repeat": "the unsteered model again in other batches",
}
_BASELINES = {"prompt_en": "in English", "prompt_native": "in the target language"}

_STATISTICS = (
    "Intervals (95 %) of shares of independent items are Wilson's, those of other values and of differences are "
    f"percentile bootstraps over items ({RESAMPLES} resamples, seeded by the cell); values that are the same for every "
    "item have none, and shares that changed for no item or for all alike have Tango's. Differences are paired with "
    "the unsteered model on the same items: exact McNemar tests for accuracies and other shares, sign-flip tests for "
    "means and permutation tests for rates over several answers to an item (exact for at most "
    f"{EXACT_PAIRS} items that differ, otherwise with {FLIPS} random patterns), "
    f"sacrebleu's paired bootstrap ({CORPUS_RESAMPLES} resamples, seed {CORPUS_SEED}) for BLEU and chrF++; LSS, itself "
    "a comparison, has an interval and no test; p-values are Holm-corrected over the languages of an intervention; "
    f"minimum detectable effects are those of a two-sided test at the level {ALPHA} with a power of 80 %."
)


def methods_paragraph(provenance: Provenance, *, samples: int, signatures: Sequence[str]) -> str:
    """Return a paragraph about what was computed from which sources and versions, and how differences were tested.

    Args:
        provenance: The spec and the sources of the sweep's files.
        samples: Rows of the results.
        signatures: The metrics' signatures in the summary; empty if no metric has one.
    """
    spec, sources = provenance.spec, provenance.sources
    interventions = spec["interventions"]
    targets, non_target = interventions.get("languages"), interventions.get("non_target")
    change = _change(interventions, sources)
    sentences = [
        f"Sweep {provenance.sweep_id} of model {_model(spec, sources)}, with {_neurons(spec['neurons'], sources)}.",
        f"Activations before the multiplication by the up-projection were changed by {change}.",
        f"Target languages: {_targets(targets)}." if targets else "",
        f"Neurons of all other languages: {_edit(non_target)}." if non_target else "",
        _baselines(interventions.get("baselines", ())),
        _search(spec),
        f"Tasks: {'; '.join(_task(task, sources['data']) for task in spec['tasks'])}.",
        f"Mode: {' and '.join(spec.get('mode', ('corrected',)))}.",
        f"Seed {spec.get('seed', 0)}; {samples} samples; {len(provenance.failed_cells)} cells failed.",
        _STATISTICS,
        f"Signatures of metrics (sacrebleu, language identifiers): {'; '.join(signatures)}." if signatures else "",
        f"Versions: {_versions(provenance)}.",
    ]
    return " ".join(filter(None, sentences))


def _versions(provenance: Provenance) -> str:
    """Return the versions that computed the cells, and that of Ampsweep which summarised them if it differs."""
    computed = "; ".join(
        ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) for versions in provenance.versions
    )
    computed_by = {versions.get("ampsweep") for versions in provenance.versions}
    if computed_by == {provenance.version}:
        return computed
    return f"{computed}; summarised by ampsweep {provenance.version}"


def _targets(languages: list[str] | dict[str, float]) -> str:
    if isinstance(languages, dict):
        return ", ".join(f"{language} (weight {weight:g})" for language, weight in languages.items())
    return ", ".join(languages)


def _edit(edit: dict[str, Any]) -> str:
    return f"{edit['op']} with {edit['factor']:g}"


def _baselines(baselines: Sequence[str | dict[str, Any]]) -> str:
    sentences = []
    if languages := " and ".join(_BASELINES[method] for method in baselines if isinstance(method, str)):
        sentences.append(f"The unsteered model was also instructed, {languages}, to answer in each target language.")
    for vector in baselines:
        if isinstance(vector, dict):
            factors = ", ".join(f"{factor:g}" for factor in vector["factors"])
            sentences.append(
                "Without editing neurons, a vector was also added to the residual stream at the output of layers "
                f"{_listed(vector.get('layers', 'all'))}: the mean residual of the target language minus that of the "
                f"other languages of the neuron set ({vector['method']}), times {factors}."
            )
    return " ".join(sentences)


def _listed(layers: str | Sequence[int]) -> str:
    return layers if isinstance(layers, str) else ", ".join(map(str, layers))


def _model(spec: dict[str, Any], sources: dict[str, list[Any]]) -> str:
    revision = f", revision {spec['revision']}" if spec.get("revision") else ""
    hashes = ", ".join(model["sha256"][:_DIGITS] for model in sources["models"])
    engines = "; ".join(f"{engine['name']} in {engine['dtype']}" for engine in sources["engines"])
    adapted = "".join(
        f", with the LoRA adapter {adapter['name']} (SHA-256 {adapter['sha256'][:_DIGITS]})"
        for adapter in sources.get("adapters", ())
    )
    found = [model.get("source") for model in sources["models"]]
    origins = "".join(f"{origin} of the Hugging Face Hub; " for origin in found if origin not in (None, spec["model"]))
    return f"{spec['model']}{revision} ({origins}SHA-256 {hashes}; engine {engines}){adapted}"


def _change(interventions: dict[str, Any], sources: dict[str, list[Any]]) -> str:
    operations = " and by ".join(map(_operation, interventions.get("ops") or (interventions,)))
    names = {**_CONTROLS, "random": f"{_CONTROLS['random']}{_draws(interventions.get('random_draws', 1))}"}
    controls = ", ".join(names[control] for control in interventions.get("controls", ())) or "none"
    where = f"layers: {interventions.get('layers', 'all')}; tokens: {interventions.get('scope', 'all')}"
    where += f"{_tokens(interventions)}{_part(interventions)}{_when(interventions, sources)}"
    where += "; one neuron at a time" if interventions.get("neurons") == "each" else ""
    return f"{operations} ({where}); controls beside the unsteered model: {controls}"


def _operation(operation: dict[str, Any]) -> str:
    magnitudes = ", ".join(f"{factor:g}" for factor in operation.get("factors") or (1.0,))
    values = operation.get("patch") or operation.get("statistic")
    of = f" times the {' and the '.join(values)}" if values else ""
    return f"{operation['op']} with {magnitudes}{of}"


def _tokens(interventions: dict[str, Any]) -> str:
    choices = _choices(interventions, "tokens")
    labels = [EditedTokens(**choice).label if choice else "all" for choice in choices]
    return f" ({_in_turn(labels)})" if any(choices) else ""


def _part(interventions: dict[str, Any]) -> str:
    choices = _choices(interventions, "part")
    words = {
        None: "all of the text",
        "thinking": "only what the model thought",
        "answer": "only the answer after what the model thought",
    }
    return f"; {_in_turn([words[choice] for choice in choices])}" if any(choices) else ""


def _when(interventions: dict[str, Any], sources: dict[str, list[Any]]) -> str:
    choices = _choices(interventions, "when")
    identified = f" ({', '.join(sources['identifiers'])})" if "identifiers" in sources else ""
    drift = "only while the text of an answer was in another language"
    labels = ["always" if choice is None else f"{drift}{_settings(choice)}" for choice in choices]
    return f"; {_in_turn(labels)}{identified}" if any(choices) else ""


def _settings(when: str | dict[str, Any]) -> str:
    changed = (drift_of(when) or Drift()).label.removeprefix("drift").removeprefix(", ")
    return f" ({changed})" if changed else ""


def _choices(interventions: dict[str, Any], field: str) -> list[Any]:
    """Return the values of a field of a spec; earlier versions stored a single one without a list."""
    value = interventions.get(field)
    return value if isinstance(value, list) else [value]


def _in_turn(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"in turn: {', then '.join(labels)}"


def _draws(number: int) -> str:
    return "" if number == 1 else f" ({number} draws)"


def _neurons(neurons: dict[str, Any], sources: dict[str, list[Any]]) -> str:
    if "id" in neurons:
        return f"neuron set {neurons['id']}"
    ids = f" ({', '.join(sources['neurons'])})" if sources["neurons"] else ""
    return f"{_identified(neurons)}{ids}"


def _identified(neurons: dict[str, Any]) -> str:
    named = ("method", "corpus", "languages")
    languages = neurons["languages"]
    params = ", ".join(f"{name} {value}" for name, value in neurons.items() if name not in named)
    return (
        f"neurons found by {neurons['method']} on corpus {neurons['corpus']} over {len(languages)} languages "
        f"({', '.join(languages)}{f'; {params}' if params else ''})"
    )


def _search(spec: dict[str, Any]) -> str:
    search = spec.get("search")
    if not search:
        return ""
    metric, items, keep = search.get("metric", "lss"), search["items"], search["keep"]
    return (
        f"Factors were searched by successive halving on {metric} from {items} items on; {keep} of each target were "
        "tried on all."
    )


def _task(task: dict[str, Any], data: list[dict[str, Any]]) -> str:
    limit = f", {_items(task)}" if task.get("limit") else ""
    split = f", split {task['split']}" if task.get("split") else ""
    plugins = sorted(
        {plugin for source in data if source["task"] == task["name"] for plugin in source.get("plugins", ())}
    )
    brought = f" of {', '.join(plugins)}" if plugins else ""
    hash_of = {
        source["language"]: source["sha256"]
        for source in data
        if source["task"] == task["name"] and source["language"] in task["languages"]
    }
    hashes = sorted(set(hash_of.values()))
    digest = hashes[0] if len(hashes) == 1 else content_hash(hash_of)
    hashed = f" (data SHA-256 {digest[:_DIGITS]}{'' if len(hashes) == 1 else ' over all languages'})" if hash_of else ""
    targets = f", steered to {', '.join(task['targets'])}" if task.get("targets") else ""
    chat = ", asked through the model's chat template" if task.get("chat") else ""
    facts = f", {_FACTS[task.get('facts') or 'shared']}" if task["name"] == "lss" else ""
    return f"{task['name']}{brought} in {', '.join(task['languages'])}{targets}{split}{facts}{limit}{chat}{hashed}"


def _items(task: dict[str, Any]) -> str:
    try:
        limit_draws = task_for(task["name"]).limit_draws
    except InvalidRequest:  # a task of a plug-in that is not installed here
        return f"at most {task['limit']} items"
    return (
        f"{task['limit']} items drawn at random with the sweep's seed"
        if limit_draws
        else f"the first {task['limit']} items"
    )
