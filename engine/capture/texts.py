"""The tokens of the texts whose activations are captured, counted before any activation is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ampsweep.domain.capture import MAX_TEXT_BYTES, CapturedText, check_capture_size
from ampsweep.domain.generation.prompt import PromptOptions, TokenIds
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest, PromptTooLong
from engine.base import CaptureRequest, Priority, PromptEncoder, Steering
from engine.capture.selection import NeuronSelection
from engine.steering.token_scope import TokenScope


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
        InvalidRequest: The text has no token or one that the model does not have, or the chat cannot be formatted.
    """
    try:
        ids, before = _tokens(encoder, text)
        encoder.text(ids)  # rejects tokens that do not exist
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
    """Check that an intervention edits at least one token of a text.

    Raises:
        InvalidRequest: No token is in its scope (param "intervention.scope"), or none of those that are is among its
            `tokens` (param "intervention.tokens").
    """
    if intervention is None or (intervention.scope == "all" and intervention.tokens is None):
        return
    edited = TokenScope.of(intervention, prompt_tokens=text.prompt_tokens)
    if edited.strengths(np.arange(len(text.ids))).any():
        return
    scope, total = intervention.scope, len(text.ids)
    count = {"all": total, "prompt": text.prompt_tokens, "generation": total - text.prompt_tokens}[scope]
    if not count:
        raise InvalidRequest(
            f"the intervention has the scope {scope}, and no token of {param} is in it: tokens are "
            "generated where a text has a completion, or a chat ends with a message of the assistant; use scope all",
            param="intervention.scope",
        )
    assert intervention.tokens is not None, "every token in the scope is edited"
    raise InvalidRequest(
        f"{intervention.tokens.label} edits no token of {param}, whose tokens in the scope {scope} have the positions "
        f"0 to {count - 1}; choose some of these, or leave tokens out",
        param="intervention.tokens",
    )


def check_text_size(text: TokenizedText, neurons: NeuronSelection, *, param: str) -> None:
    """Check that the activations of a text may be in memory at once; raise CaptureTooLarge if not."""
    remedy = "shorten or divide the text, or choose fewer neurons, languages or layers"
    check_capture_size(len(text.ids), neurons.total, "float32", limit=MAX_TEXT_BYTES, param=param, remedy=remedy)


def _tokens(encoder: PromptEncoder, text: CapturedText) -> tuple[tuple[int, ...], Sequence[int]]:
    """Return the tokens of a text, and those of its prompt alone."""
    prompt = text.prompt
    if isinstance(prompt, TokenIds):
        return prompt.ids, prompt.ids
    if isinstance(prompt, str):
        ids = encoder.tokens(prompt + (text.completion or ""))
        return ids, encoder.tokens(prompt) if text.completion else ids
    if prompt[-1].role != "assistant":
        ids = encoder.tokens(prompt)
        return ids, ids
    ids = encoder.tokens(prompt, options=PromptOptions(add_generation_prompt=False))
    return ids, encoder.tokens(prompt[:-1]) if len(prompt) > 1 else ()
