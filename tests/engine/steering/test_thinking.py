"""Which tokens belong to what a reasoning model thinks."""

from __future__ import annotations

import pytest

from engine.steering.thinking import HarmonyMarkers, PartSwitch, ThinkingMarkers, markers_of

START, END = 7, 8
MARKERS = ThinkingMarkers(start=START, end=END)
HARMONY = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "analysis", "final", "commentary", "assistant", "user"]
VOCABULARY = {token: index for index, token in enumerate([*HARMONY, "<|constrain|>", "<|call|>", "json", "a", "b"])}


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
    assert markers_of({"<think>": 5, "</think>": 6}) == ThinkingMarkers(start=5, end=6)
    assert markers_of({"think": 0, "</think>": 6}) is None


ASKED = "<|start|> user <|message|> a <|end|> <|start|> assistant"


@pytest.mark.parametrize(
    ("prompt", "text", "parts"),
    [
        (
            ASKED,
            "<|channel|> analysis <|message|> a b <|end|> <|start|> assistant <|channel|> final <|message|> a b",
            "...ttt.....aaa",  # before each token and after the last
        ),
        (ASKED, "<|channel|> final <|constrain|> json <|message|> a", ".....aa"),
        (ASKED, "<|channel|> commentary json <|message|> a <|call|>", "......."),
        (f"{ASKED} <|channel|> analysis <|message|> a", "b <|end|> <|start|> assistant", "tt..."),
        (f"{ASKED} <|channel|> final <|message|> a <|end|> {ASKED}", "<|channel|> analysis <|message|> final", "...tt"),
        ("a user", "final a", "aaa"),
    ],
)
def test_the_parts_of_harmony_are_the_contents_of_its_channels(prompt: str, text: str, parts: str) -> None:
    markers = HarmonyMarkers.of(VOCABULARY)
    assert markers is not None
    ids = [VOCABULARY[token] for token in prompt.split()]
    thought, answer = PartSwitch("thinking", markers, ids), PartSwitch("answer", markers, ids)
    states = []
    for token in [*text.split(), None]:
        states.append({(True, False): "t", (False, True): "a", (False, False): "."}[thought.on, answer.on])
        for switch in (thought, answer):
            switch.read([] if token is None else [VOCABULARY[token]])
    assert "".join(states) == parts


def test_harmony_needs_all_of_its_tokens() -> None:
    assert isinstance(markers_of(VOCABULARY), HarmonyMarkers)
    for token in ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "analysis", "final"):
        assert markers_of({other: index for other, index in VOCABULARY.items() if other != token}) is None
