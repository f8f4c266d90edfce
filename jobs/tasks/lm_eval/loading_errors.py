"""Errors of lm-eval while it loads a task, which downloads the task's data from the Hub unless it is in the cache."""

from __future__ import annotations

from collections.abc import Iterator

from ampsweep.errors import AmpsweepError, DataUnavailable, InvalidRequest

_HTTP_LIBRARIES = ("httpx", "httpx2")
"""Libraries one of which huggingface_hub uses, depending on its release."""


def loading_error(name: str, error: Exception) -> AmpsweepError:
    """Return the error of a task or group that could not be loaded (param "name").

    Args:
        name: The name in lm-eval.
        error: What lm-eval raised; templates, functions and data of a task can raise anything.

    Returns:
        DataUnavailable if the Hub could not be reached, else InvalidRequest.
    """
    reason = f"{type(error).__name__}: {error}"
    if not any(map(_is_of_connection, _causes(error))):
        return InvalidRequest(f"lm-eval could not load {name}: {reason}", param="name")
    return DataUnavailable(
        f"the data of {name} could not be loaded, because the Hugging Face Hub cannot be reached ({reason}); set "
        "HTTPS_PROXY to a proxy or HF_ENDPOINT to a mirror, or copy the cache (HF_HOME) of a machine that has loaded "
        "the task",
        param="name",
    )


def _is_of_connection(error: BaseException) -> bool:
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, ConnectionError | TimeoutError) or any(
        kind.__name__ == "TransportError" and kind.__module__.partition(".")[0] in _HTTP_LIBRARIES
        for kind in type(error).__mro__
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
