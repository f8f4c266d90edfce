from __future__ import annotations

import pytest

from ampsweep.domain.capture import CapturedText
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.prompt import ChatMessage, Prompt, TokenIds
from ampsweep.errors import InvalidRequest, PromptTooLong
from engine.capture.texts import TokenizedText, check_scope, tokenized
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


@pytest.mark.parametrize(
    ("scope", "prompt_tokens", "fits"),
    [("all", 3, True), ("all", 0, True), ("prompt", 3, True), ("prompt", 0, False), ("generation", 3, False)],
)
def test_an_intervention_must_steer_a_token(scope: str, prompt_tokens: int, fits: bool) -> None:
    intervention = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": 2, "scope": scope})
    text = TokenizedText(id="a", ids=(1, 2, 3), prompt_tokens=prompt_tokens)
    check_scope(text, None, param="text")
    if fits:
        check_scope(text, intervention, param="text")
        return
    with pytest.raises(InvalidRequest, match="no token of text is in it") as refused:
        check_scope(text, intervention, param="text")
    assert refused.value.param == "intervention.scope"
