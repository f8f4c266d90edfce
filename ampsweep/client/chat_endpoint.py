"""Chats with a model behind an OpenAI-compatible endpoint, for example as a judge of stored answers.

Unlike the clients of an Ampsweep server it relies on HTTP statuses alone, because error codes differ between providers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import httpx

from ampsweep.client.http.errors import check_key, check_url, retry_after, translate_errors
from ampsweep.client.http.retries import Retries
from ampsweep.client.http.transport import AsyncTransport, Request
from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.errors import AmpsweepError, Forbidden, InvalidRequest, PromptTooLong, RateLimited, Unavailable

TIMEOUT = 120.0
"""Seconds to wait for a reply."""
RETRIES = Retries(times=6, first=1.0, longest=60.0)
_CONTEXT_ERRORS = ("context_length", "context length", "prompt_too_long", "too long")
"""What providers write in the code or the message of an error about a prompt that is too long."""


class ChatEndpoint:
    """A model of an endpoint that answers `POST <url>/chat/completions`.

    Replies are generated with temperature 0. Requests that may succeed later (429, 5xx, a broken connection) are sent
    again with exponential back-off; `Retry-After` is obeyed.

    Args:
        url: The base URL, as OpenAI's clients take it: `http://127.0.0.1:8700/v1`.
        model: The name of the model.
        api_key: The API key, if the endpoint needs one.
        key_variable: The environment variable that the key came from; errors name it.
        max_tokens: Tokens of a reply, at most.
        retries: When requests are sent again.

    Raises:
        InvalidRequest: The API key has characters other than printable ASCII, or httpx cannot use the proxy that the
            environment names.

    Example:
        async with ChatEndpoint("http://127.0.0.1:8700/v1", "atlas") as model:
            text = await model.reply([ChatMessage(role="user", content="Is 7 prime?")])
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str = "",
        key_variable: str = "",
        max_tokens: int = 512,
        retries: Retries = RETRIES,
    ) -> None:
        check_key(api_key, param=key_variable)
        self.model = model
        self._url = url.rstrip("/")
        check_url(self._url)
        self._key_variable = key_variable
        self._max_tokens = max_tokens
        self._retries = retries
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._transport = AsyncTransport({"base_url": self._url, "timeout": TIMEOUT, "headers": headers})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def reply(self, messages: Sequence[ChatMessage]) -> str:
        """Return the model's reply to a chat; empty if it replied without text.

        Raises:
            PromptTooLong: The chat does not fit into the model's context.
            InvalidRequest: The endpoint rejects the request, or does not know the model.
            Forbidden: The endpoint rejects the API key.
            RateLimited: Too many requests, also after the last retry.
            Unavailable: The endpoint cannot be reached or fails, also after the last retry.
        """
        body = {
            "model": self.model,
            "messages": [message.to_dict() for message in messages],
            "temperature": 0,
            "max_tokens": self._max_tokens,
        }
        request = Request(method="POST", path="/chat/completions", json=body, repeatable=True)
        return await self._retries.until_success(
            partial(self._reply_once, request), repeatable=True, sleep=self._transport.sleep
        )

    async def _reply_once(self, request: Request) -> str:
        with translate_errors(self._url):
            response = await self._transport.send(request)
            try:
                await self._transport.read(response)
            finally:
                await self._transport.discard(response)
        content = _json(response)
        if not response.is_success:
            raise self._error(response, _error_text(content) or response.reason_phrase)
        try:
            reply = str(content["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError) as error:
            message = f"{self._url} did not answer as an OpenAI-compatible endpoint does; check the URL"
            raise InvalidRequest(message, param="judge-url") from error
        return reply.encode(errors="replace").decode()  # "?" for half a character, which no file can store

    def _error(self, response: httpx.Response, reason: str) -> AmpsweepError:
        """Return the exception for an error response."""
        status = response.status_code
        message = f"the endpoint answered {status} for model {self.model!r}: {reason}"
        if status in (401, 403):
            return Forbidden(f"{message}; set the API key in {self._key_variable or 'the environment'}")
        if status == 429 or status >= 500 or status == 408:
            error: AmpsweepError = RateLimited(message) if status == 429 else Unavailable(message)
            error.retry_after = retry_after(response.headers.get("Retry-After"), now=time.time())
            return error
        if status in (400, 413, 422) and any(word in reason.lower() for word in _CONTEXT_ERRORS):
            return PromptTooLong(message)
        return InvalidRequest(message, param="judge-model")


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _error_text(content: Any) -> str:
    """Return code and message of an error object, in the forms that providers use."""
    error = content.get("error", content) if isinstance(content, dict) else content
    if isinstance(error, dict):
        parts = [str(error[key]) for key in ("code", "message", "detail") if error.get(key)]
        return ": ".join(parts)
    return error if isinstance(error, str) else ""
