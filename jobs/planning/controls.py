"""An intervention and what it is compared with beside the unsteered model: the same on neurons of nobody, of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def with_controls(
    own: Mapping[str, Any], controls: Sequence[str], *, data_language: str, languages: Sequence[str], seed: int
) -> Iterator[dict[str, Any]]:
    """Yield an intervention (in its complete form, on one language's own neurons), then its controls.

    `languages` are those of the neuron set.
    """
    yield dict(own)
    (target,) = own["languages"]
    for selection in controls:
        if selection == "random":
            yield {**own, "selection": selection, "seed": seed}
        else:
            yield {**own, "selection": selection, "other": other_language(target, data_language, languages)}


def other_language(target: str, data_language: str, languages: Sequence[str]) -> str:
    """Return whose neurons stand in for the target's: the next language of the set in the order of the alphabet.

    After the last comes the first. The data language is passed over where there is a third one: its own neurons would
    hold the answers where they are. The set has at least two languages.
    """
    ordered = sorted(languages)
    after = ordered.index(target) + 1
    others = ordered[after:] + ordered[: after - 1]
    return next((code for code in others if code != data_language), others[0])
