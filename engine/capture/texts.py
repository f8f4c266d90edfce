"""The tokens of the texts whose activations are captured, counted before any activation is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ampsweep.domain.capture import CapturedText
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.prompt import TokenIds
from ampsweep.errors import InvalidRequest, PromptTooLong
from engine.base import CaptureRequest, Priority, PromptEncoder, Steering
from engine.capture.selection import NeuronSelection


@dataclass(frozen=True, kw_only=True)
class TokenizedText:
    """The tokens of a text, special ones included; from `prompt_tokens` on they count as generated."""

    id: str
    ids: tuple[int, ...]
    prompt_tokens: int

    def request(
        self,
        neurons: NeuronSelection,
        *,
        steering: Steering | None,
        adapter: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> CaptureRequest:
        """Return the request to an engine."""
        return CaptureRequest(
            prompt=TokenIds(self.ids),
            neurons=neurons,
            steering=steering,
            prompt_tokens=self.prompt_tokens,
            adapter=adapter,
            priority=priority,
        )


def tokenized(encoder: PromptEncoder, text: CapturedText, *, max_tokens: int, param: str) -> TokenizedText:
    """Return the tokens of a text.

    Where a token spans the end of the prompt, it counts as generated.

    Args:
        encoder: Converts the text to tokens.
        text: The text.
        max_tokens: Maximum number of tokens.
        param: The field that has the text, for errors.

    Raises:
        PromptTooLong: The text has more tokens.
        InvalidRequest: The text has no token, or the chat cannot be formatted.
    """
    try:
        ids, before = _tokens(encoder, text)
    except InvalidRequest as error:
        error.param = param
        raise
    if not ids:
        raise InvalidRequest(f"{param} has no token; leave it out, or give a text", param=param)
    if len(ids) > max_tokens:
        message = f"{param} has {len(ids)} tokens, but this engine accepts at most {max_tokens}; shorten or divide it"
        raise PromptTooLong(message, param=param)
    shared = next((at for at, (one, other) in enumerate(zip(ids, before, strict=False)) if one != other), len(before))
    return TokenizedText(id=text.id, ids=ids, prompt_tokens=min(shared, len(ids)))


def check_scope(text: TokenizedText, intervention: Intervention | None, *, param: str) -> None:
    """Raise InvalidRequest if an intervention would steer none of a text's tokens because of its scope."""
    if intervention is None or intervention.scope == "all":
        return
    steered = text.prompt_tokens if intervention.scope == "prompt" else len(text.ids) - text.prompt_tokens
    if not steered:
        raise InvalidRequest(
            f"the intervention has the scope {intervention.scope}, and no token of {param} is in it: tokens are "
            "generated where a text has a completion, or a chat ends with a message of the assistant; use scope all",
            param="intervention.scope",
        )


def _tokens(encoder: PromptEncoder, text: CapturedText) -> tuple[tuple[int, ...], Sequence[int]]:
    """Return the tokens of a text, and those of its prompt alone."""
    prompt = text.prompt
    if isinstance(prompt, TokenIds):
        encoder.text(prompt.ids)  # rejects ids that do not exist
        return prompt.ids, prompt.ids
    if isinstance(prompt, str):
        ids = encoder.tokens(prompt + (text.completion or ""), special_tokens=True)
        return ids, encoder.tokens(prompt, special_tokens=True) if text.completion else ids
    if prompt[-1].role != "assistant":
        ids = encoder.tokens(prompt, special_tokens=False)
        return ids, ids
    ids = encoder.tokens(prompt, special_tokens=False, generation_prompt=False)
    return ids, encoder.tokens(prompt[:-1], special_tokens=False) if len(prompt) > 1 else ()
