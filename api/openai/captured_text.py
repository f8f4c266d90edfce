"""Texts and chats whose activations are captured, in the bodies of requests and the lines of files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.capture import CapturedText
from ampsweep.domain.generation.prompt import TokenIds
from ampsweep.domain.validation import Name, StrictModel
from api.openai.completions.request import Text, Tokens
from api.openai.messages import ChatTurn, chat_length, chat_messages


def _kind(value: object) -> str:
    """Distinguish a text from a list of token ids, so that errors refer to the intended type."""
    return "text" if isinstance(value, str) else "tokens"


def _form(value: object) -> str:
    """Distinguish a text alone from a text with further fields."""
    return "text" if isinstance(value, str) else "object"


class TextToCapture(StrictModel):
    """A text or the tokens of one (`prompt`), or a chat (`messages`).

    A chat whose last message is the assistant's ends with it; any other ends with the start of the assistant's answer.
    A `completion` is text that follows a `prompt`. Its tokens count as generated, as those of the assistant's last
    message do. The rows of the text have its `id`, by default its position.
    """

    id: Name | None = None
    prompt: Annotated[Text | Annotated[Tokens, Tag("tokens")], Discriminator(_kind)] | None = None
    messages: Annotated[tuple[ChatTurn, ...], Field(strict=False, min_length=1, max_length=10_000)] | None = None
    completion: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> TextToCapture:
        if self.prompt is None and self.messages is None:
            raise PydanticCustomError("no_prompt", "is required, or messages", {"key": "prompt"})
        if self.prompt is not None and self.messages is not None:
            raise PydanticCustomError("two_prompts", "cannot be combined with prompt", {"key": "messages"})
        if self.completion is not None and not isinstance(self.prompt, str):
            message = "follows a prompt that is a text; add it to the tokens, or as a message of the assistant"
            raise PydanticCustomError("no_text", message, {"key": "completion"})
        return self

    @property
    def length(self) -> int:
        """How many characters or tokens the text has."""
        if self.messages is not None:
            return chat_length(chat_messages(self.messages), ())
        assert self.prompt is not None, "validated"
        return len(self.prompt) + len(self.completion or "")

    def captured(self, position: int) -> CapturedText:
        """Return the text as the engines read it; `position` is its number among the texts of a request."""
        name = str(position) if self.id is None else self.id
        if self.messages is not None:
            return CapturedText(id=name, prompt=chat_messages(self.messages))
        assert self.prompt is not None, "validated"
        prompt = self.prompt if isinstance(self.prompt, str) else TokenIds(self.prompt)
        return CapturedText(id=name, prompt=prompt, completion=self.completion)


TextOrObject = Annotated[Text | Annotated[TextToCapture, Tag("object")], Discriminator(_form)]
"""A text, or an object with its fields."""


def as_object(text: str | TextToCapture) -> TextToCapture:
    """Return a text with its fields."""
    return TextToCapture(prompt=text) if isinstance(text, str) else text
