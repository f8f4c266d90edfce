"""Options of a prompt: those of the model's chat template; and the check of its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.options.values import json_object
from ampsweep.errors import InvalidRequest, quoted

if TYPE_CHECKING:
    from ampsweep.domain.generation.prompt import ChatMessage, PromptOptions

Chat = Annotated[
    bool, typer.Option("--chat", help="Send the prompt as a message of the user, through the model's chat template.")
]
Prefill = Annotated[
    str | None, typer.Option(metavar="TEXT", help="With --chat, the beginning of the answer, which is continued.")
]
TemplateOptions = Annotated[
    str | None,
    typer.Option(
        "--chat-template-kwargs",
        metavar="JSON",
        help='With --chat, variables of the chat template, such as {"enable_thinking": false}.',
    ),
]


@dataclass(frozen=True, kw_only=True)
class ChatForm:
    """How a prompt becomes a chat: the beginning of its answer, None for none, and the variables of the template."""

    prefill: str | None
    variables: Mapping[str, Any]

    def messages(self, prompt: str) -> tuple[ChatMessage, ...]:
        """Return the chat in which the user says `prompt`."""
        from ampsweep.domain.generation.prompt import ChatMessage

        question = ChatMessage(role="user", content=prompt)
        if self.prefill is None:
            return (question,)
        return (question, ChatMessage(role="assistant", content=self.prefill))

    def options(self) -> PromptOptions:
        """Return the options of a request to an engine."""
        from ampsweep.domain.generation.prompt import PromptOptions

        continues = self.prefill is not None
        return PromptOptions(continue_final_message=continues, chat_template_kwargs=self.variables)

    def fields(self) -> dict[str, Any]:
        """Return the fields of a request to a server."""
        continues = {} if self.prefill is None else {"continue_final_message": True}
        return {**continues, **({"chat_template_kwargs": self.variables} if self.variables else {})}


def chat_form(*, chat: bool, prefill: str | None, variables: str | None) -> ChatForm | None:
    """Return how prompts become chats; None if they are texts.

    Raises:
        InvalidRequest: An option has no effect without --chat, or names no variables; `param` is the option.
    """
    for param, value in (("prefill", prefill), ("chat-template-kwargs", variables)):
        if value is not None and not chat:
            raise InvalidRequest("has no effect without --chat; add it", param=param)
    if not chat:
        return None
    given = {} if variables is None else json_object(variables, param="chat-template-kwargs")
    return ChatForm(prefill=prefill, variables=_checked(given))


def check_text(text: str, *, param: str) -> None:
    """Raise InvalidRequest if a text has bytes that are not UTF-8, which Python reads as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"must be valid UTF-8 text; got {quoted(text)}", param=param) from None


def _checked(variables: dict[str, Any]) -> dict[str, Any]:
    from pydantic import TypeAdapter, ValidationError

    from ampsweep.domain.generation.chat_template import TemplateVariables

    try:
        checked: dict[str, Any] = TypeAdapter(TemplateVariables).validate_python(variables)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = first.get("ctx", {}).get("key", "")
        raise InvalidRequest(f"{name} {first['msg']}".strip(), param="chat-template-kwargs") from error
    return checked
