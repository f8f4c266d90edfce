"""How much one request, one key, may ask for. Each limit has an error code of its own."""

from __future__ import annotations

from dataclasses import dataclass

from ampsweep.errors import MaxTokensTooLarge, PromptTooLong
from jobs.planning.planner import MAX_CELLS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes, at most.

    `body_bytes` of a body (`body_too_large`), `prompt_chars` of a prompt or of a chat's messages together
    (`prompt_too_long`, as where the model's own limit of tokens is passed), `max_tokens` drawn for a request, all its
    choices together (`max_tokens_too_large`), `cells` of a sweep (`too_many_cells`), `streams` of a key at once:
    completions and event streams (`too_many_streams`), `requests_a_minute` of a key, None for any number
    (`rate_limited`).
    """

    body_bytes: int = 4 * 1024 * 1024
    prompt_chars: int = 400_000
    max_tokens: int = 32_768
    cells: int = MAX_CELLS
    streams: int = 256
    requests_a_minute: int | None = 6000

    def check_prompt(self, chars: int, *, param: str) -> None:
        """Raise PromptTooLong for a prompt of too many characters."""
        if chars > self.prompt_chars:
            message = f"{param} has {chars} characters; this server takes {self.prompt_chars}"
            raise PromptTooLong(message, param=param)

    def check_tokens(self, tokens: int, *, param: str) -> None:
        """Raise MaxTokensTooLarge for more tokens than a request may draw."""
        if tokens > self.max_tokens:
            message = f"{param}: {tokens} tokens asked for; this server draws {self.max_tokens} for one request"
            raise MaxTokensTooLarge(message, param=param)
