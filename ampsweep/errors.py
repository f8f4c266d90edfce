"""The exceptions of all packages, as one tree. The HTTP layer maps them to responses.

AmpsweepError             500  internal_error
├── InvalidRequest        422  invalid_request      a field is wrong; `param` names it
│   ├── UnknownName       422  unknown_name         a model, language, task or corpus; lists the known ones
│   ├── NoNeurons         422  no_neurons           an intervention that would change no neuron
│   ├── PromptTooLong     422  prompt_too_long      longer than the server or the model accepts
│   ├── MaxTokensTooLarge 422  max_tokens_too_large more tokens than the server generates for a request
│   ├── CaptureTooLarge   422  capture_too_large    more bytes of activations than one request may capture
│   └── SweepTooLarge     422  too_many_cells       more cells than the server accepts for a sweep
├── Unauthenticated       401  invalid_api_key      the key is missing, unknown or revoked
├── Forbidden             403  forbidden            the key lacks the scope that this needs
├── NotFound              404  not_found            there is no object with this id
├── NotAcceptable         406  not_acceptable       no format that the client accepts
├── Conflict              409  conflict             the state does not allow the operation
│   └── StillRunning      409  idempotency_running  the first request with this Idempotency-Key still runs
├── RateLimited           429  rate_limited         too many requests a minute; `retry_after` says when
├── TooManyStreams        429  too_many_streams     too many responses of this key in progress
├── TooManyBatches        429  too_many_batches     too many batches of this key have not ended
├── UnsupportedModel      422  unsupported_model    the model cannot be steered
├── SteeringNotInstalled  500  steering_broken      the engine would have run unsteered
├── EngineFailed          500  engine_failed        the engine died or failed at a request
│   └── EngineLost        500  engine_lost          it died with several cells in flight; the cause is unknown
├── DataUnavailable       503  data_unavailable     the data of a task cannot be loaded now; `param` names the task
├── DamagedFile           500  damaged_file         a file differs from what was written
└── Unavailable           503  unavailable          temporarily unavailable; retry
    ├── NoConnection      503  no_connection        raised by clients: the server was not reached
    └── ConnectionLost    503  connection_lost      raised by clients: the server may have acted or not
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr

MAX_CHARS = 2000
"""Characters of a message that is shown or sent. What a message quotes may be megabytes."""
_MAX_QUOTED = 200
_MAX_KEY = 100


def shortened(text: str, limit: int = MAX_CHARS) -> str:
    """Return a text or, if it has more than `limit` characters, its beginning and its end."""
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def shortened_key(key: str) -> str:
    """Return a key, or the beginning of a very long one, for the path of a field."""
    return key if len(key) <= _MAX_KEY else f"{key[:_MAX_KEY]}..."


class _Quote(Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = _MAX_QUOTED


quoted = _Quote().repr
"""Returns the representation of a value for a message: the first items of a list, the two ends of a long text."""


class AmpsweepError(Exception):
    """Base of all exceptions: a `message`, and in `param` the field that is wrong, if any."""

    status = 500
    code = "internal_error"
    retry_after: int | None = None
    """Seconds after which the same request may succeed, if known."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        """Return the message, also where a caller has added to it."""
        return self.message

    @property
    def type(self) -> str:
        """OpenAI's error type: whether the client or the server is at fault."""
        return "invalid_request_error" if self.status < 500 else "server_error"

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickling, which Ray needs between processes, although `param` is keyword-only."""
        return _rebuild, (type(self), self.message, self.param)


def from_code(code: str, message: str, *, param: str | None = None) -> AmpsweepError:
    """Return the exception of an error code; an AmpsweepError for a code that this version does not know."""
    pending: list[type[AmpsweepError]] = [AmpsweepError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return _rebuild(kind, message, param)
        pending += kind.__subclasses__()
    return AmpsweepError(message, param=param)


def _rebuild(kind: type[AmpsweepError], message: str, param: str | None) -> AmpsweepError:
    error = kind.__new__(kind)
    AmpsweepError.__init__(error, message, param=param)
    return error


class InvalidRequest(AmpsweepError):
    """A field of the input is wrong; the message says how to fix it."""

    status = 422
    code = "invalid_request"


class UnknownName(InvalidRequest):
    """An unknown name; the message lists the known names and the one that was probably meant.

    Args:
        what: What the name is of.
        name: The unknown name.
        valid_names: The known names.
        param: The field that has the name.
        meant: The known name that was certainly meant.
        similar: Whether the only known name that begins with `name`, or one that is spelled alike, is suggested
            otherwise.
        remedy: How the name could be made known.
    """

    code = "unknown_name"

    def __init__(
        self,
        what: str,
        name: str,
        valid_names: Iterable[str],
        *,
        param: str | None = None,
        meant: str | None = None,
        similar: bool = True,
        remedy: str | None = None,
    ) -> None:
        names = sorted(valid_names)
        listed = ", ".join(names) or "none"
        if meant is None and similar and len(name) <= _MAX_QUOTED:
            begun = [known for known in names if name and known.startswith(name)]
            meant = begun[0] if len(begun) == 1 else next(iter(get_close_matches(name, names, n=1)), None)
        listed += "" if remedy is None else f"; {remedy}"
        hint = "" if meant is None else f". Did you mean {meant!r}?"
        super().__init__(f"unknown {what} {quoted(name)}; known: {listed}{hint}", param=param)


class NoNeurons(InvalidRequest):
    """The intervention would change no neuron. Steering is never skipped silently."""

    code = "no_neurons"


class PromptTooLong(InvalidRequest):
    """The prompt is longer than the server or the model accepts."""

    code = "prompt_too_long"


class MaxTokensTooLarge(InvalidRequest):
    """More tokens were requested than the server generates for one request."""

    code = "max_tokens_too_large"


class CaptureTooLarge(InvalidRequest):
    """The activations to capture would take more bytes than one request may; nothing was computed."""

    code = "capture_too_large"


class SweepTooLarge(InvalidRequest):
    """The sweep has more cells than the server accepts."""

    code = "too_many_cells"


class Unauthenticated(AmpsweepError):
    """The API key is missing, unknown or revoked. The message never repeats the key."""

    status = 401
    code = "invalid_api_key"


class Forbidden(AmpsweepError):
    """The caller may not do this."""

    status = 403
    code = "forbidden"


class NotFound(AmpsweepError):
    """There is no object with this id."""

    status = 404
    code = "not_found"


class NotAcceptable(AmpsweepError):
    """The response is not available in a format that the client accepts."""

    status = 406
    code = "not_acceptable"


class Conflict(AmpsweepError):
    """The state of the object does not allow the operation."""

    status = 409
    code = "conflict"


class StillRunning(Conflict):
    """The first request with the same Idempotency-Key is still running; retry to get its response."""

    code = "idempotency_running"
    retry_after = 1


class RateLimited(AmpsweepError):
    """The caller has made too many requests; the next one is accepted after `retry_after` seconds."""

    status = 429
    code = "rate_limited"
    retry_after = 1

    def after(self, seconds: int) -> RateLimited:
        """Set the time to wait, in whole seconds, and return the error."""
        self.retry_after = seconds
        return self


class TooManyStreams(AmpsweepError):
    """The caller has too many responses in progress at once."""

    status = 429
    code = "too_many_streams"
    retry_after = 1


class TooManyBatches(AmpsweepError):
    """The caller has too many batches that have not ended."""

    status = 429
    code = "too_many_batches"
    retry_after = 120


class UnsupportedModel(AmpsweepError):
    """The MLPs of the model cannot be steered; the message names its class and the reason."""

    status = 422
    code = "unsupported_model"


class SteeringNotInstalled(AmpsweepError):
    """The engine would have run unsteered although steering was requested."""

    code = "steering_broken"


class EngineFailed(AmpsweepError):
    """The engine died, or failed at a request."""

    code = "engine_failed"


class EngineLost(EngineFailed):
    """The engine died while several cells were in flight, so the cause is unknown."""

    code = "engine_lost"


class DataUnavailable(AmpsweepError):
    """The data of a task cannot be loaded now: the Hub cannot be reached, or it takes too long for a request.

    Not an `Unavailable`: a cell whose data is not available counts an attempt, and clients do not repeat the request.
    """

    status = 503
    code = "data_unavailable"
    retry_after = 60


class DamagedFile(AmpsweepError):
    """The content of a file differs from what was written."""

    code = "damaged_file"


class Unavailable(AmpsweepError):
    """Temporarily unavailable; the same request may succeed later."""

    status = 503
    code = "unavailable"
    retry_after = 2


class NoConnection(Unavailable):
    """The client could not reach the server, which therefore has done nothing."""

    code = "no_connection"


class ConnectionLost(Unavailable):
    """The connection broke, or the request timed out, before the client had the response."""

    code = "connection_lost"
