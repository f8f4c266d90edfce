"""A judge model's rating of how relevant an answer is: its prompt, the parsing of its reply, and its interface.

The prompt is written for this project; it asks for the scale of CLaS-Bench (Gurgurov et al. 2026, arXiv 2601.08331):
0, 1 or 2 for "is this a relevant answer to the question". Increase `PROMPT_VERSION` with every change to the prompt or
to the parsing, so that stored ratings of another version are not mixed with new ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.hashing import content_hash

PROMPT_VERSION = 1
MAX_SCORE = 2
MAX_TOKENS = 512
"""Tokens of a reply, at most. A model that reasons before it answers needs more than one."""

_INSTRUCTION = """\
Rate how relevant an answer is to a question. The question and the answer may be in different languages: ignore the \
language of the answer, its style and its length.

2: the answer addresses the question.
1: the answer addresses the question in part, or breaks off or drifts away from it.
0: the answer does not address the question, repeats it, or is not understandable.

Reply with the number alone: 0, 1 or 2."""

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_OF_TWO = re.compile(r"(?<![\d.])([012])\s*(?:/|out of)\s*2(?!\d|\.\d)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\d.])\d+(?:\.\d+)?(?!\d)")


@dataclass(frozen=True, slots=True)
class Rating:
    """The reply of a judge.

    Attributes:
        score: 0, 1 or 2; None if the reply does not say which.
        reply: The reply.
    """

    score: int | None
    reply: str


class Judge(Protocol):
    """A model that answers chats, greedily."""

    @property
    def model(self) -> str:
        """The name of the model, with its version where that is known. Ratings of one name count as of one judge."""
        ...

    async def reply(self, messages: Sequence[ChatMessage]) -> str:
        """Return the model's reply, generated with temperature 0 and at most `MAX_TOKENS` tokens.

        Raises:
            PromptTooLong: The messages do not fit into the model's context.
            Unavailable: The model cannot be reached, after several attempts.
        """
        ...


def judge_identity(judge: Judge) -> str:
    """Return what is stored with a rating: model, version of the prompt, temperature. The host is left out."""
    return f"{judge.model}, prompt {PROMPT_VERSION}, temperature 0"


def rating_key(judge: Judge, question: str, answer: str) -> str:
    """Return the key under which the rating of an answer is stored."""
    return content_hash([judge_identity(judge), question, answer], length=64)


def judge_messages(question: str, answer: str) -> tuple[ChatMessage, ...]:
    """Return the chat that asks for the rating of an answer.

    It is one message of the user, because some chat templates have no role `system`.
    """
    text = f"{_INSTRUCTION}\n\n<question>\n{question}\n</question>\n\n<answer>\n{answer}\n</answer>"
    return (ChatMessage(role="user", content=text),)


def parse_rating(reply: str) -> Rating:
    """Return the score that a reply gives.

    Reasoning inside `<think>` tags is ignored. Accepted are "1", "Score: 1", "1/2", "1 out of 2", and
    any other text whose only number, however often, is 0, 1 or 2. A reply with several numbers has no score.
    """
    text = _THOUGHT.sub("", reply)
    scores = set(_OF_TWO.findall(text)) or set(_NUMBER.findall(text))
    score = scores.pop() if len(scores) == 1 else ""
    return Rating(int(score) if score in ("0", "1", "2") else None, reply)
