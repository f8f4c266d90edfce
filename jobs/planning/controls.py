"""An intervention and what it is compared with beside the unsteered model: the same on neurons of nobody, of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ampsweep.domain.intervention import Intervention, Selection


def with_controls(
    intervention: Intervention,
    controls: Sequence[Selection],
    *,
    data_language: str,
    languages: Sequence[str],
    seed: int,
) -> Iterator[Intervention]:
    """Yield an intervention on one language's own neurons, then its controls.

    `languages` are those of the neuron set.
    """
    yield intervention
    (target,) = intervention.languages
    for selection in controls:
        if selection == "random":
            yield replace(intervention, selection=selection, seed=seed)
        else:
            other = other_language(target, data_language, languages)
            yield replace(intervention, selection=selection, other=other)


def other_language(target: str, data_language: str, languages: Sequence[str]) -> str:
    """Return whose neurons stand in for the target's: the next language of the set in the order of the alphabet.

    After the last comes the first. The data language is passed over where there is a third one: its own neurons would
    hold the answers where they are. The set has at least two languages.
    """
    ordered = sorted(languages)
    after = ordered.index(target) + 1
    others = ordered[after:] + ordered[: after - 1]
    return next((code for code in others if code != data_language), others[0])
