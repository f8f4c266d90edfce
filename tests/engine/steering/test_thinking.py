"""Which tokens belong to what a reasoning model thinks."""

from __future__ import annotations

import pytest

from engine.steering.thinking import PartSwitch, ThinkingMarkers

START, END = 7, 8
MARKERS = ThinkingMarkers(start=START, end=END)


@pytest.mark.parametrize(
    ("prompt", "tokens", "thinking"),
    [
        ([1, 2], [START, 3, END, 4], "-++--"),  # before each token and after the last
        ([1, START, 2], [3, END, 4], "++--"),  # the chat template begins the part
        ([START, END], [3, 4], "---"),  # or ends it at once, so that the model does not think
        ([START, 1, END, 2, START], [3, END], "++-"),  # an earlier answer of the chat has thought too
        ([1], [3, 4], "---"),
    ],
)
def test_the_thinking_part_is_between_the_markers_and_the_answer_is_the_rest(
    prompt: list[int], tokens: list[int], thinking: str
) -> None:
    thought, answer = PartSwitch("thinking", MARKERS, prompt), PartSwitch("answer", MARKERS, prompt)
    states = []
    for token in [*tokens, None]:
        assert thought.on != answer.on
        states.append("+" if thought.on else "-")
        for switch in (thought, answer):
            switch.read([] if token is None else [token])
    assert "".join(states) == thinking


def test_markers_are_single_tokens_of_the_vocabulary() -> None:
    assert ThinkingMarkers.of({"a": 0, "<think>": 5, "</think>": 6}) == ThinkingMarkers(start=5, end=6)
    assert ThinkingMarkers.of({"[THINK]": 1, "[/THINK]": 0, "</think>": 6}) == ThinkingMarkers(start=1, end=0)
    assert ThinkingMarkers.of({"think": 0, "</think>": 6}) is None
