"""The one tree of exceptions; every room raises from it, and the HTTP layer answers from it.

AmpsweepError             500  internal_error
├── InvalidRequest        422  invalid_request      a field is wrong; `param` names it
│   ├── UnknownName       422  unknown_name         a model, language, task or corpus; lists the known ones
│   ├── NoNeurons         422  no_neurons           an intervention that would change no neuron
│   ├── PromptTooLong     422  prompt_too_long      more text than this server or this model takes
│   ├── MaxTokensTooLarge 422  max_tokens_too_large more tokens than this server draws for one request
│   └── SweepTooLarge     422  too_many_cells       more cells than this server plans for one sweep
├── Unauthenticated       401  invalid_api_key      no key, or none that is known and not revoked
├── Forbidden             403  forbidden            the key is known; it does not go that far
├── NotFound              404  not_found            an id that names nothing
├── NotAcceptable         406  not_acceptable       the answer has no form that the client takes
├── Conflict              409  conflict             the state does not allow it
│   └── StillRunning      409  idempotency_running  the first request with this Idempotency-Key has no answer yet
├── RateLimited           429  rate_limited         too many requests a minute; `retry_after` says when
├── TooManyStreams        429  too_many_streams     too many answers of this key under way at once
├── UnsupportedModel      422  unsupported_model    a model that cannot be steered
├── SteeringNotInstalled  500  steering_broken      the engine would have run unsteered; it refuses instead
├── EngineFailed          500  engine_failed        the engine died or answered nonsense
│   └── EngineLost        500  engine_lost          it died with several cells in flight; whose fault is not known
├── DamagedFile           500  damaged_file         a file that does not hold what was written
└── Unavailable           503  unavailable          not now; try again
    ├── NoConnection      503  no_connection        raised by clients: the server was not reached, and knows nothing
    └── ConnectionLost    503  connection_lost      raised by clients: what the server did meanwhile is not known
"""

from __future__ import annotations

from collections.abc import Iterable


class AmpsweepError(Exception):
    """What went wrong (`message`), of which type, at which field (`param`, may be None)."""

    status = 500
    code = "internal_error"
    retry_after: int | None = None
    """Seconds after which the same request may succeed, where that is known."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def type(self) -> str:
        """The coarse kind, as OpenAI's API names it: the client's fault or the server's."""
        return "invalid_request_error" if self.status < 500 else "server_error"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by parts: Ray carries these between processes, and `param` is keyword-only."""
        return _rebuild, (type(self), self.message, self.param)


def from_code(code: str, message: str, *, param: str | None = None) -> AmpsweepError:
    """Return the error a server named by its `code`; a code this version does not know gives an AmpsweepError."""
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
    """A field of the input is wrong; the message says how to mend it."""

    status = 422
    code = "invalid_request"


class UnknownName(InvalidRequest):
    """A name that nothing here answers to; the message lists the names that would do, and which was probably meant."""

    code = "unknown_name"

    def __init__(
        self, what: str, name: str, known: Iterable[str], *, param: str | None = None, meant: str | None = None
    ) -> None:
        listed = ", ".join(sorted(known)) or "none"
        hint = "" if meant is None else f". Did you mean {meant!r}?"
        super().__init__(f"unknown {what} {name!r}; known: {listed}{hint}", param=param)


class NoNeurons(InvalidRequest):
    """Steering was asked for, and the intervention would change no neuron; it is never left out silently."""

    code = "no_neurons"


class PromptTooLong(InvalidRequest):
    """More text than the server or the model takes."""

    code = "prompt_too_long"


class MaxTokensTooLarge(InvalidRequest):
    """More tokens asked for than the server draws for one request."""

    code = "max_tokens_too_large"


class SweepTooLarge(InvalidRequest):
    """More cells than the server plans for one sweep."""

    code = "too_many_cells"


class Unauthenticated(AmpsweepError):
    """No API key, or none that opens anything; the message never repeats what was sent."""

    status = 401
    code = "invalid_api_key"


class Forbidden(AmpsweepError):
    """What was asked is not for this caller."""

    status = 403
    code = "forbidden"


class NotFound(AmpsweepError):
    """An id that names nothing."""

    status = 404
    code = "not_found"


class NotAcceptable(AmpsweepError):
    """The answer has no form that the client takes."""

    status = 406
    code = "not_acceptable"


class Conflict(AmpsweepError):
    """The thing exists, but its state does not allow what was asked."""

    status = 409
    code = "conflict"


class StillRunning(Conflict):
    """The first request with the same Idempotency-Key is being answered; ask again for its answer."""

    code = "idempotency_running"
    retry_after = 1


class RateLimited(AmpsweepError):
    """More requests than a caller may make; `retry_after` is when the next one is let in."""

    status = 429
    code = "rate_limited"
    retry_after = 1

    def after(self, seconds: int) -> RateLimited:
        """Return the same error with the time to wait, in whole seconds."""
        self.retry_after = seconds
        return self


class TooManyStreams(AmpsweepError):
    """More answers under way at once than a caller may have."""

    status = 429
    code = "too_many_streams"
    retry_after = 1


class UnsupportedModel(AmpsweepError):
    """A model whose MLPs cannot be steered; the message names its class and the reason."""

    status = 422
    code = "unsupported_model"


class SteeringNotInstalled(AmpsweepError):
    """The engine was about to run unsteered where steering was asked for."""

    code = "steering_broken"


class EngineFailed(AmpsweepError):
    """The engine died, or refused one request for a reason of its own."""

    code = "engine_failed"


class EngineLost(EngineFailed):
    """The engine died while several cells were in flight: this one may or may not have been the cause."""

    code = "engine_lost"


class DamagedFile(AmpsweepError):
    """A file whose bytes are not those that were published."""

    code = "damaged_file"


class Unavailable(AmpsweepError):
    """Not possible now; the same request may succeed later."""

    status = 503
    code = "unavailable"
    retry_after = 2


class NoConnection(Unavailable):
    """A client could not reach the server: it has done nothing of what was asked."""

    code = "no_connection"


class ConnectionLost(Unavailable):
    """A client's connection broke, or its patience ended, before there was an answer."""

    code = "connection_lost"
