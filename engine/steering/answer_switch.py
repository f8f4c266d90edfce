"""Steering that depends on the running text of an answer: what the engines ask for each answer.

Knows no engine. Each answer has an `AnswerSwitch`, which reads its text and its tokens, and a `SwitchHistory`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ampsweep.domain.languages.codes import without_region
from ampsweep.domain.languages.identifier import LanguageIdentifier
from ampsweep.domain.text_parts import no_parts
from ampsweep.errors import InvalidRequest
from engine.base import Steering
from engine.steering.drift import DriftSwitch
from engine.steering.thinking import Markers, PartSwitch

_WHEN = "intervention.when"


class AnswerSwitch:
    """Decides whether the next tokens of one answer are steered: by its part, by the language of its text, or by both.

    With both, only the text of the part is looked at.
    """

    def __init__(self, *, part: PartSwitch | None = None, drift: DriftSwitch | None = None) -> None:
        self._part = part
        self._drift = drift

    @property
    def on(self) -> bool:
        """Whether the next token is steered."""
        return (self._part is None or self._part.on) and (self._drift is None or self._drift.on)

    def read(self, text: str, tokens: Sequence[int]) -> bool:
        """Add new text of the answer and its new tokens; return whether they switch steering, on or off."""
        before = self.on
        if self._drift is not None and (self._part is None or self._part.on):
            self._drift.read(text)
        if self._part is not None:
            self._part.read(tokens)
        return self.on != before


async def switches_of(
    steering: Steering | None,
    open_identifier: Callable[[], LanguageIdentifier] | None,
    *,
    markers: Markers | None,
    prompt: Sequence[int],
) -> Callable[[], AnswerSwitch] | None:
    """Return what makes a switch for each answer to a request; None if its steering does not depend on the text.

    Args:
        steering: The steering of the request.
        open_identifier: Returns the language identifier of the engine, which may take time; None if it has none.
        markers: How the model marks the parts of its text; None if it does not.
        prompt: The tokens of the prompt.

    Raises:
        InvalidRequest: There is no language identifier, or it does not know a target (param "intervention.when"), or
            the model has no thinking part (param "intervention.part").
    """
    if steering is None or steering.intervention.text_field is None:
        return None
    intervention = steering.intervention
    if intervention.part is not None and markers is None:
        raise InvalidRequest(no_parts(), param="intervention.part")
    identifier = None
    if intervention.when is not None:
        identifier = await _identifier(intervention.languages, open_identifier)

    def new_switch() -> AnswerSwitch:
        part = drift = None
        if intervention.part is not None and markers is not None:
            part = PartSwitch(intervention.part, markers, prompt)
        if intervention.when is not None and identifier is not None:
            drift = DriftSwitch(intervention.when, intervention.languages, identifier)
        return AnswerSwitch(part=part, drift=drift)

    return new_switch


async def _identifier(
    targets: Sequence[str], open_identifier: Callable[[], LanguageIdentifier] | None
) -> LanguageIdentifier:
    """Return the language identifier, if it knows the targets."""
    if open_identifier is None:
        message = "this engine was opened without a language identifier; leave when out"
        raise InvalidRequest(message, param=_WHEN)
    try:
        identifier = await asyncio.to_thread(open_identifier)
    except InvalidRequest as error:  # a package is not installed
        raise InvalidRequest(error.message, param=_WHEN) from error
    if unknown := sorted(set(map(without_region, targets)) - identifier.languages):
        message = f"{identifier.identity} cannot identify {', '.join(unknown)}, so every text would count as drifted"
        raise InvalidRequest(f"{message}; leave when out", param=_WHEN)
    return identifier


def reject_running_text(steering: Steering | None) -> None:
    """Raise InvalidRequest if a given text is to be steered as an answer that runs.

    `param` is "intervention.when" or "intervention.part".
    """
    if steering is not None and (field := steering.intervention.text_field) is not None:
        message = f"a given text, to score or to look at, has no running text to decide by; leave {field} out"
        raise InvalidRequest(message, param=f"intervention.{field}")
