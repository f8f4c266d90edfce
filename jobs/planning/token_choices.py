"""Which tokens the interventions of a sweep edit: one of the axes of its plan."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from ampsweep.domain.drift import Drift, Part, drift_of
from ampsweep.domain.edited_tokens import EditedTokens
from jobs.spec.interventions import InterventionsSpec


@dataclass(frozen=True, kw_only=True)
class TokenChoice:
    """Which tokens in the scope an intervention edits: fields of `Intervention`, None for all of them."""

    tokens: EditedTokens | None
    when: Drift | None
    part: Part | None


def token_choices(interventions: InterventionsSpec) -> tuple[TokenChoice, ...]:
    """Return the choices of a spec: every value of `tokens` with every one of `when` and of `part`."""
    return tuple(
        TokenChoice(tokens=tokens, when=drift_of(when), part=part)
        for tokens, when, part in product(
            interventions.tokens or (None,), interventions.when or (None,), interventions.part or (None,)
        )
    )
