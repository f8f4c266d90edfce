from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ampsweep.domain.capture import CapturedText
from ampsweep.domain.generation.prompt import ChatMessage, Prompt, TokenIds
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import CaptureTooLarge, InvalidRequest, PromptTooLong
from engine.capture.selection import NeuronSelection
from engine.capture.texts import TokenizedText, check_scope, check_text_size, tokenized
from engine.fake_encoder import FakeEncoder

SPECIAL = 256
USER, ANSWER = ChatMessage(role="user", content="Hi"), ChatMessage(role="assistant", content="Ja")


def tokens_of(prompt: Prompt | TokenIds, completion: str | None = None, max_tokens: int = 100) -> TokenizedText:
    text = CapturedText(id="a", prompt=prompt, completion=completion)
    return tokenized(FakeEncoder(), text, max_tokens=max_tokens, param="texts.3")


def test_a_text_has_the_special_tokens_in_front_and_is_a_prompt() -> None:
    assert tokens_of("né") == TokenizedText(id="a", ids=(SPECIAL, *"né".encode()), prompt_tokens=4)
    assert tokens_of(TokenIds((7, 8))) == TokenizedText(id="a", ids=(7, 8), prompt_tokens=2)


def test_a_completion_counts_as_generated() -> None:
    assert tokens_of("ab", " cd") == TokenizedText(id="a", ids=(SPECIAL, *b"ab cd"), prompt_tokens=3)


def test_a_token_that_spans_the_end_of_the_prompt_counts_as_generated() -> None:
    class Merging(FakeEncoder):
        def tokens(self, prompt: object, **_: object) -> tuple[int, ...]:
            return {"ab": (1, 2), "abcd": (1, 9, 4)}[str(prompt)]

    text = CapturedText(id="a", prompt="ab", completion="cd")
    assert tokenized(Merging(), text, max_tokens=9, param="texts").prompt_tokens == 1


def test_a_chat_ends_with_the_assistants_message_or_its_start() -> None:
    asked = tokens_of((USER,))
    assert bytes(asked.ids) == b"user: Hi\nassistant:"
    assert asked.prompt_tokens == len(asked.ids)
    answered = tokens_of((USER, ANSWER))
    assert bytes(answered.ids) == b"user: Hi\nassistant: Ja\n"
    assert answered.prompt_tokens == len(b"user: Hi\nassistant:")
    assert tokens_of((ANSWER,)).prompt_tokens == 0


@pytest.mark.parametrize("prompt", ["x" * 100, TokenIds((1,) * 101)])
def test_a_text_that_is_too_long_is_named(prompt: Prompt | TokenIds) -> None:
    with pytest.raises(PromptTooLong, match=r"texts\.3 has 101 tokens, but this engine accepts at most 100") as refused:
        tokens_of(prompt)
    assert refused.value.param == "texts.3"


def test_tokens_that_do_not_exist_are_refused_under_the_name_of_the_text() -> None:
    with pytest.raises(InvalidRequest) as refused:
        tokens_of(TokenIds((1, 300)))
    assert refused.value.param == "texts.3"


def test_a_text_without_tokens_is_refused() -> None:
    class Plain(FakeEncoder):
        def tokens(self, *_: object, **__: object) -> tuple[int, ...]:
            return ()

    with pytest.raises(InvalidRequest, match=r"texts\.1 has no token"):
        tokenized(Plain(), CapturedText(id="a", prompt=""), max_tokens=9, param="texts.1")


def test_a_text_with_a_token_that_the_model_lacks_is_named_before_anything_is_computed() -> None:
    class Larger(FakeEncoder):
        def tokens(self, *_: object, **__: object) -> tuple[int, ...]:
            return (7, 300)

    with pytest.raises(InvalidRequest, match="no token with the id 300") as refused:
        tokenized(Larger(), CapturedText(id="a", prompt="ab"), max_tokens=9, param="texts.1")
    assert refused.value.param == "texts.1"


def intervention(scope: str, tokens: dict[str, Any] | None = None) -> Intervention:
    raw = {"languages": ["fr"], "op": "scale", "factor": 2, "scope": scope}
    return Intervention.from_dict(raw if tokens is None else {**raw, "tokens": tokens})


@pytest.mark.parametrize(
    ("scope", "prompt_tokens", "tokens", "wrong"),
    [
        ("all", 3, None, None),
        ("all", 0, None, None),
        ("prompt", 3, None, None),
        ("prompt", 0, None, "scope"),
        ("generation", 3, None, "scope"),
        ("generation", 3, {"end": 2}, "scope"),
        ("prompt", 0, {"start": -1}, "scope"),
        ("all", 1, {"start": 2}, None),
        ("all", 1, {"start": 3}, "tokens"),
        ("all", 1, {"positions": [2, 9]}, None),
        ("all", 1, {"positions": [3, 9]}, "tokens"),
        ("all", 1, {"decay": 0.5}, None),
        ("prompt", 2, {"start": 1}, None),
        ("prompt", 2, {"start": 2}, "tokens"),
        ("prompt", 2, {"positions": [-2]}, None),
        ("prompt", 2, {"positions": [-3]}, "tokens"),
        ("prompt", 2, {"end": -2}, "tokens"),
        ("generation", 1, {"start": 1, "end": 5}, None),
        ("generation", 1, {"start": 2}, "tokens"),
        ("generation", 1, {"positions": [1], "decay": 0.5}, None),
        ("generation", 1, {"positions": [2], "decay": 0.5}, "tokens"),
    ],
)
def test_an_intervention_must_edit_a_token(
    scope: str, prompt_tokens: int, tokens: dict[str, Any] | None, wrong: str | None
) -> None:
    text = TokenizedText(id="a", ids=(1, 2, 3), prompt_tokens=prompt_tokens)
    check_scope(text, None, param="texts.4")
    if wrong is None:
        check_scope(text, intervention(scope, tokens), param="texts.4")
        return
    with pytest.raises(InvalidRequest, match=r"no token of texts\.4") as refused:
        check_scope(text, intervention(scope, tokens), param="texts.4")
    assert refused.value.param == f"intervention.{wrong}"


def test_the_error_about_tokens_says_which_positions_there_are() -> None:
    text = TokenizedText(id="a", ids=(1, 2, 3, 4, 5), prompt_tokens=2)
    with pytest.raises(InvalidRequest) as refused:
        check_scope(text, intervention("generation", {"start": 3}), param="TEXTS.7")
    assert refused.value.message == (
        "start=3 edits no token of TEXTS.7, whose tokens in the scope generation have the positions 0 to 2; choose "
        "some of these, or leave tokens out"
    )


def test_a_text_whose_activations_do_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    neurons = NeuronSelection.of({0: np.arange(5)})
    monkeypatch.setattr("engine.capture.texts.MAX_TEXT_BYTES", 2 * 5 * 4)
    check_text_size(TokenizedText(id="a", ids=(1, 2), prompt_tokens=2), neurons, param="TEXTS.7")
    with pytest.raises(CaptureTooLarge, match=r"5 neurons at 3 tokens take .* shorten or divide the text") as refused:
        check_text_size(TokenizedText(id="a", ids=(1, 2, 3), prompt_tokens=3), neurons, param="TEXTS.7")
    assert refused.value.param == "TEXTS.7"
