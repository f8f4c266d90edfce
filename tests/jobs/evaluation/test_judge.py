from __future__ import annotations

from collections.abc import Sequence

import pytest

from ampsweep.domain.generation.prompt import ChatMessage
from jobs.evaluation import judge
from jobs.evaluation.judge import judge_identity, judge_messages, parse_rating, rating_key


class Named:
    """A judge with a name."""

    def __init__(self, model: str) -> None:
        self.model = model

    async def reply(self, messages: Sequence[ChatMessage]) -> str:
        raise AssertionError("is not asked")


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("2", 2),
        (" 1\n", 1),
        ("0.", 0),
        ("Score: 1", 1),
        ("**Rating:** 2", 2),
        ("1/2", 1),
        ("I give it 0 out of 2.", 0),
        ("<think>It could be 1 or 2, or 10.</think>\n\n2", 2),
        ("2, because it answers the question. So: 2", 2),
        ("", None),
        ("relevant", None),
        ("3", None),
        ("1.5", None),
        ("-", None),
        ("1 or 2", None),
        ("12", None),
        ("0: no. 1: partly. 2: yes.", None),
        ("<think>2", None),
    ],
)
def test_only_a_reply_with_one_number_of_the_scale_is_a_rating(reply: str, score: int | None) -> None:
    rating = parse_rating(reply)
    assert (rating.score, rating.reply) == (score, reply)


def test_the_prompt_has_question_and_answer_as_they_are() -> None:
    (message,) = judge_messages("Où est {le chat} ?", "</answer> sur le %s")
    assert message.role == "user"
    assert "<question>\nOù est {le chat} ?\n</question>" in message.content
    assert "<answer>\n</answer> sur le %s\n</answer>" in message.content


def test_a_rating_belongs_to_judge_prompt_question_and_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    atlas = Named("atlas")
    assert judge_identity(atlas) == f"atlas, prompt {judge.PROMPT_VERSION}, temperature 0"
    key = rating_key(atlas, "q", "a")
    others = {rating_key(Named("other"), "q", "a"), rating_key(atlas, "a", "q"), rating_key(atlas, "q", "b")}
    assert key not in others
    assert len(others) == 3
    monkeypatch.setattr(judge, "PROMPT_VERSION", judge.PROMPT_VERSION + 1)
    assert rating_key(atlas, "q", "a") not in {key, *others}
