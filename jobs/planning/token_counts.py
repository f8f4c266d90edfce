"""Counts the tokens of calls with a model's tokenizer, without its library of models."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ampsweep.domain.generation.prompt import Prompt
from ampsweep.errors import InvalidRequest
from jobs.tasks.requests import Call, ScoreCall

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"


def count_tokens(model: Path, calls: Iterable[Call]) -> int:
    """Return the tokens that a model reads for calls: those of prompts, and of contexts with their continuations.

    The words that a chat template puts around a message are not counted.

    Raises:
        InvalidRequest: The folder of the model has no `tokenizer.json` that can be read (param "model").
    """
    texts = [
        _text(call.context) + call.continuation if isinstance(call, ScoreCall) else _text(call.prompt) for call in calls
    ]
    return sum(len(encoding.ids) for encoding in _tokenizer(model / FILE).encode_batch(texts))


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(message.content for message in prompt)


@lru_cache(maxsize=4)
def _tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more specific
        raise InvalidRequest(f"the tokens cannot be counted: {path} cannot be read", param="model") from error
    tokenizer.no_padding()  # the file may ask for both; engines do neither
    tokenizer.no_truncation()
    return tokenizer
