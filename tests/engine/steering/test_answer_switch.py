"""What switches the steering of an answer, and which requests are refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ampsweep.domain.drift import Drift
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.languages.identifier import Identification
from ampsweep.errors import InvalidRequest
from engine.base import Steering
from engine.steering.answer_switch import AnswerSwitch, reject_running_text, switches_of
from engine.steering.thinking import ThinkingMarkers

EAGER = Drift(min_characters=1, window=10, every=1, switch_on=1, switch_off=1)
MARKERS = ThinkingMarkers(start=7, end=8)


class LastLetter:
    """Takes a text for the language that its last letter stands for."""

    identity = "last letter"
    languages = frozenset({"en", "fr"})

    def identify(self, text: str) -> Identification:
        return Identification({"e": "en", "f": "fr"}[text[-1]], 1.0)


def steering(**change: Any) -> Steering:
    raw = {"languages": ["fr"], "op": "scale", "factor": 2, **change}
    return Steering(intervention=Intervention.from_dict(raw), neurons="ns")


def states(texts: str, tokens: list[int], prompt: tuple[int, ...] = (), **change: Any) -> str:
    """Return the state before each token of an answer and after the last one."""
    chosen = steering(**change)
    new_switch = asyncio.run(switches_of(chosen, LastLetter, markers=MARKERS, prompt=prompt))
    assert new_switch is not None
    switch = new_switch()
    shown = ["+" if switch.on else "-"]
    for text, token in zip(texts, tokens, strict=True):
        before = switch.on
        assert switch.read(text, [token]) == (switch.on != before)
        shown.append("+" if switch.on else "-")
    return "".join(shown)


DRIFT: dict[str, Any] = {"when": {"drift": EAGER.model_dump()}}


def test_the_text_the_part_or_both_switch_steering() -> None:
    assert states("efef", [1, 1, 1, 1], **DRIFT) == "-+-+-"
    assert states("ffff", [7, 1, 8, 1], part="thinking") == "-++--"
    assert states("ffff", [1, 1, 8, 1], (7,), part="answer") == "---++"
    assert states("eeefe", [1, 1, 8, 1, 1], (7,), part="thinking", **DRIFT) == "-++---"
    assert states("eeefe", [1, 1, 8, 1, 1], (7,), part="answer", **DRIFT) == "-----+"  # thoughts are not looked at


def test_each_answer_has_its_own_switch() -> None:
    new_switch = asyncio.run(switches_of(steering(**DRIFT), LastLetter, markers=None, prompt=()))
    assert new_switch is not None
    one, two = new_switch(), new_switch()
    assert one.read("e", [1])
    assert (one.on, two.on) == (True, False)
    for plain in (None, steering()):
        assert asyncio.run(switches_of(plain, None, markers=None, prompt=())) is None
    assert AnswerSwitch().on


def missing() -> LastLetter:
    raise InvalidRequest("py3langid is not installed; run: pip install py3langid", param="identifier")


@pytest.mark.parametrize(
    ("change", "identifier", "param", "reason"),
    [
        ({"when": "drift"}, None, "when", "without a language identifier"),
        ({"when": "drift"}, missing, "when", "pip install py3langid"),
        ({"when": "drift", "languages": ["fr", "qu"]}, LastLetter, "when", "last letter cannot identify qu"),
        (
            {"part": "thinking"},
            LastLetter,
            "part",
            "no tokens around what it thinks .<think> and .*leave part out",
        ),
        ({"part": "answer", "when": "drift"}, LastLetter, "part", "leave part out"),
    ],
)
def test_what_cannot_be_told_is_refused(change: dict[str, Any], identifier: Any, param: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refused:
        asyncio.run(switches_of(steering(**change), identifier, markers=None, prompt=()))
    assert refused.value.param == f"intervention.{param}"


def test_a_continuation_that_is_scored_has_no_running_text() -> None:
    reject_running_text(None)
    reject_running_text(steering())
    for change, param in (({"when": "drift"}, "when"), ({"part": "answer"}, "part")):
        with pytest.raises(InvalidRequest, match=f"leave {param} out") as refused:
            reject_running_text(steering(**change))
        assert refused.value.param == f"intervention.{param}"
