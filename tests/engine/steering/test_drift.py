"""When steering that depends on the running text is switched, and which tokens it has steered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.drift import Drift
from ampsweep.domain.languages.identifier import UNKNOWN, Identification
from engine.steering.drift import DriftSwitch, SwitchHistory

EAGER = Drift(min_characters=1, window=10, every=1, switch_on=1, switch_off=1)


@dataclass
class MarkedIdentifier:
    """Reads the language of a text from its last letter: `f` French, `e` English, `?` unknown, `l` hardly French."""

    seen: list[str] = field(default_factory=list)
    identity = "marked"
    languages = frozenset({"fr", "en"})

    def identify(self, text: str) -> Identification:
        self.seen.append(text)
        marks = {"f": ("fr", 1.0), "e": ("en", 1.0), "l": ("en", 0.3)}
        return Identification(*marks[text[-1]]) if text[-1] in marks else UNKNOWN


def decisions(pieces: Iterable[str], drift: Drift = EAGER, target: str = "fr") -> str:
    """Return the state after each piece: `+` for on, `-` for off."""
    switch = DriftSwitch(drift, [target], MarkedIdentifier())
    states = []
    for piece in pieces:
        before = switch.on
        assert switch.read(piece) == (switch.on != before)
        states.append("+" if switch.on else "-")
    return "".join(states)


def test_a_text_in_another_language_switches_on_and_one_in_the_target_off_again() -> None:
    assert decisions("ffeeff") == decisions("ffeeff", target="fr-CA") == "--++--"


def test_hysteresis_asks_for_several_decisions_in_a_row() -> None:
    drift = EAGER.model_copy(update={"switch_on": 2, "switch_off": 3})
    assert decisions("efefeeffeffefff", drift) == "-----+++++++++-"


def test_unclear_text_and_text_without_letters_decide_nothing() -> None:
    drift = EAGER.model_copy(update={"switch_on": 2})
    assert decisions("e?e", drift) == "--+"
    assert decisions("ele", drift) == "--+"
    identifier = MarkedIdentifier()
    switch = DriftSwitch(EAGER, ["fr"], identifier)
    assert not any(switch.read(piece) for piece in ("12", " ", "?!"))
    assert identifier.seen == []


def test_only_the_end_is_looked_at_after_enough_characters_and_not_at_every_token() -> None:
    identifier = MarkedIdentifier()
    switch = DriftSwitch(Drift(min_characters=4, window=10, every=5, switch_on=1, switch_off=1), ["fr"], identifier)
    for piece in ("ab", "c", "def", "gh", "", "ij", "klmnopqrst"):
        switch.read(piece)
    assert identifier.seen == ["abcdef", "klmnopqrst"]


def test_a_long_piece_of_text_decides_once() -> None:
    assert decisions(["e" * 500], EAGER.model_copy(update={"switch_on": 2})) == "-"


@given(st.lists(st.integers(0, 30), max_size=8).map(sorted), st.integers(0, 30), st.integers(0, 10))
def test_a_token_is_steered_after_an_odd_number_of_switches(switches: list[int], first: int, count: int) -> None:
    history = SwitchHistory()
    for token in switches:
        history.switch(token)
    expected = [sum(switch <= token for switch in switches) % 2 == 1 for token in range(first, first + count)]
    assert history.steered(first, count).tolist() == expected
    spans = history.spans(first, first + count)
    assert [token for start, end in spans for token in range(start, end)] == [
        token for token, steered in zip(range(first, first + count), expected, strict=True) if steered
    ]
    assert history.on == (len(switches) % 2 == 1)
    assert history.since == (switches[-1] if switches else 0)
