"""Control interventions: the same intervention on random neurons, or on the neurons of another language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ampsweep.domain.intervention import Intervention
from jobs.spec import Control


def with_controls(
    intervention: Intervention,
    controls: Sequence[Control],
    *,
    data_language: str,
    languages: Sequence[str],
    seed: int,
) -> Iterator[Intervention]:
    """Yield an intervention, then its controls.

    Args:
        intervention: An intervention on the neurons of one language.
        controls: The controls of the spec; `repeat`, which has no intervention, is skipped.
        data_language: The language of the data that the cell asks about.
        languages: The languages of the neuron set.
        seed: Seed of the random neurons.
    """
    yield intervention
    (target,) = intervention.languages
    for control in controls:
        if control == "random":
            yield replace(intervention, selection=control, seed=seed)
        elif control == "other":
            other = other_language(target, data_language, languages)
            yield replace(intervention, selection=control, other=other)


def other_language(target: str, data_language: str, languages: Sequence[str]) -> str:
    """Return the language whose neurons replace those of the target: the next language of the set, alphabetically.

    The first language follows the last. The data language is skipped if there is a third one, because its own neurons
    would hold the answers in the data language. The set has at least two languages.
    """
    ordered = sorted(languages)
    after = ordered.index(target) + 1
    others = ordered[after:] + ordered[: after - 1]
    return next((code for code in others if code != data_language), others[0])
