"""The tokens and the chat template of the fake engine."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ampsweep.domain.prompt import Prompt, TokenIds, Tool
from ampsweep.errors import InvalidRequest

_SPECIAL = 256
_ANSWER = "assistant:"


class FakeEncoder:
    """A `PromptEncoder` whose tokens are the bytes of a text. 256 is a special token in front of it."""

    def tokens(
        self,
        prompt: Prompt | TokenIds,
        *,
        special_tokens: bool,
        tools: Sequence[Tool] = (),
        generation_prompt: bool = True,
    ) -> tuple[int, ...]:
        """Return the bytes of a prompt."""
        if isinstance(prompt, TokenIds):
            return prompt.ids
        text = prompt_text(prompt, tools) if generation_prompt else prompt_text(prompt, tools).removesuffix(_ANSWER)
        return (*((_SPECIAL,) if special_tokens else ()), *text.encode())

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


def prompt_text(prompt: Prompt | TokenIds, tools: Sequence[Tool] = ()) -> str:
    """Return a prompt as text; a chat is formatted by a fixed template."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, TokenIds):
        return " ".join(map(str, prompt.ids))
    lines = [f"tool: {json.dumps(tool)}" for tool in tools]
    for message in prompt:
        lines.append(f"{message.role}: {message.content}")
        lines += [f"call: {json.dumps(call)}" for call in message.tool_calls]
    return "".join(f"{line}\n" for line in lines) + _ANSWER
