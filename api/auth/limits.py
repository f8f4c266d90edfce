"""Limits of one request and of one API key. Each limit has its own error code."""

from __future__ import annotations

from dataclasses import dataclass

from ampsweep.errors import MaxTokensTooLarge, PromptTooLong
from jobs.planning.planner import MAX_CELLS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a server, each with the error code for exceeding it.

    Attributes:
        body_bytes: Bytes of a request's body (`body_too_large`).
        file_bytes: Bytes of an uploaded file (`body_too_large`).
        prompt_chars: Characters of a request's prompts, or of all messages of a chat (`prompt_too_long`, which is also
            the code for exceeding the model's own limit in tokens).
        max_tokens: Tokens generated for a request, over all its choices (`max_tokens_too_large`).
        capture_bytes: Bytes of the activations that a request captures (`capture_too_large`).
        cells: Cells of a sweep (`too_many_cells`).
        streams: Completions and event streams in progress for one key (`too_many_streams`).
        requests_a_minute: Requests per minute for one key; None sets no limit (`rate_limited`).
    """

    body_bytes: int = 4 * 1024 * 1024
    file_bytes: int = 200 * 1024 * 1024
    prompt_chars: int = 400_000
    max_tokens: int = 32_768
    capture_bytes: int = 64 * 1024 * 1024
    cells: int = MAX_CELLS
    streams: int = 256
    requests_a_minute: int | None = 6000

    def check_prompt(self, chars: int, *, param: str) -> None:
        """Raise PromptTooLong if a prompt has too many characters; `param` is the field it came in."""
        if chars > self.prompt_chars:
            message = f"{param} has {chars} characters; this server accepts at most {self.prompt_chars}"
            raise PromptTooLong(message, param=param)

    def check_tokens(self, tokens: int, *, param: str) -> None:
        """Raise MaxTokensTooLarge if a request asks for too many tokens; `param` is the field that did."""
        if tokens > self.max_tokens:
            message = f"the request asks for {tokens} tokens; this server generates at most {self.max_tokens} a request"
            raise MaxTokensTooLarge(message, param=param)
