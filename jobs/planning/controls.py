"""Interventions beside the target's own: its controls, and what is done to the neurons of the data language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ampsweep.domain.intervention import Intervention, Source
from ampsweep.hashing import content_hash
from jobs.cell import TaskRef
from jobs.spec.interventions import Control, InterventionsSpec


def with_controls(
    intervention: Intervention,
    controls: Sequence[Control],
    *,
    data_language: str,
    languages: Sequence[str],
    seed: int,
    random_draws: int = 1,
) -> Iterator[Intervention]:
    """Yield an intervention, then its controls.

    Args:
        intervention: An intervention on the neurons of one language.
        controls: The controls of the spec; `repeat`, which has no intervention, is skipped.
        data_language: The language of the data that the cell asks about.
        languages: The languages of the neuron set.
        seed: Seed of the sweep, from which the seeds of the random neurons follow.
        random_draws: Number of interventions on random neurons.
    """
    yield intervention
    (target,) = intervention.languages
    for control in controls:
        if control == "random":
            for draw in range(random_draws):
                yield replace(intervention, selection=control, seed=draw_seed(seed, draw))
        elif control == "other":
            other = other_language(target, data_language, languages)
            yield replace(intervention, selection=control, other=other)
        elif control == "non_language":
            yield replace(intervention, selection=control)
        elif control == "zero":
            yield Intervention(
                languages=intervention.languages,
                op="set",
                factor=0.0,
                layers=intervention.layers,
                scope=intervention.scope,
                tokens=intervention.tokens,
                when=intervention.when,
                part=intervention.part,
                selection=control,
            )


def source_of(interventions: InterventionsSpec, ref: TaskRef) -> Source | None:
    """Return what a spec does to the neurons of the data language of a task; None if it does nothing to them."""
    if interventions.source is None:
        return None
    return Source(**interventions.source.model_dump(), language=ref.data_language)


def draw_seed(seed: int, draw: int) -> int:
    """Return the seed of a draw of random neurons: that of the sweep for draw 0, one derived from it for each other."""
    return seed if draw == 0 else int(content_hash([seed, draw], length=12), 16)


def other_language(target: str, data_language: str, languages: Sequence[str]) -> str:
    """Return the language whose neurons replace those of the target: the next language of the set, alphabetically.

    The first language follows the last. The data language is skipped if there is a third one, because its own neurons
    would hold the answers in the data language. The set has at least two languages.
    """
    ordered = sorted(languages)
    after = ordered.index(target) + 1
    others = ordered[after:] + ordered[: after - 1]
    return next((code for code in others if code != data_language), others[0])
