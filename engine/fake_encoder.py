"""The tokens and the chat template of the fake engine."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ampsweep.domain.generation.prompt import DEFAULT_OPTIONS, Prompt, PromptOptions, TokenIds, Tool
from ampsweep.errors import InvalidRequest

_SPECIAL = 256
_ANSWER = "assistant:"


class FakeEncoder:
    """A `PromptEncoder` whose tokens are the bytes of a text. 256 is a special token in front of it."""

    def tokens(
        self, prompt: Prompt | TokenIds, *, tools: Sequence[Tool] = (), options: PromptOptions = DEFAULT_OPTIONS
    ) -> tuple[int, ...]:
        """Return the bytes of a prompt."""
        if isinstance(prompt, TokenIds):
            return prompt.ids
        adds = isinstance(prompt, str) if options.add_special_tokens is None else options.add_special_tokens
        return (*((_SPECIAL,) if adds else ()), *prompt_text(prompt, tools, options).encode())

    def token_strs(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return each byte as two hexadecimal digits."""
        return tuple("<special>" if token == _SPECIAL else f"{token:02x}" for token in ids)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of bytes."""
        for index, token in enumerate(ids):
            if token > _SPECIAL:
                message = f"tokens.{index}: the model has no token with the id {token}; leave it out"
                raise InvalidRequest(message, param=f"tokens.{index}")
        return bytes(token for token in ids if token < _SPECIAL).decode(errors="replace")


def prompt_text(prompt: Prompt | TokenIds, tools: Sequence[Tool], options: PromptOptions) -> str:
    """Return a prompt as text; a chat is formatted by a fixed template, which writes its variables first."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, TokenIds):
        return " ".join(map(str, prompt.ids))
    lines = [f"{name}: {json.dumps(value)}" for name, value in options.chat_template_kwargs.items()]
    lines += [f"tool: {json.dumps(tool)}" for tool in tools]
    for message in prompt:
        lines.append(f"{message.role}: {message.content}")
        lines += [f"call: {json.dumps(call)}" for call in message.tool_calls]
    if options.continue_final_message:
        return "\n".join(lines)
    return "".join(f"{line}\n" for line in lines) + (_ANSWER if options.add_generation_prompt else "")
