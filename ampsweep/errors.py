"""The one tree of exceptions; every room raises from it, and the HTTP layer answers from it.

AmpsweepError             500  internal_error
├── InvalidRequest        422  invalid_request      a field is wrong; `param` names it
│   └── UnknownName       422  unknown_name         a model, language, task or corpus; lists the known ones
├── NotFound              404  not_found            an id that names nothing
├── Conflict              409  conflict             the state does not allow it
├── UnsupportedModel      422  unsupported_model    a model that cannot be steered
├── SteeringNotInstalled  500  steering_broken      the engine would have run unsteered; it refuses instead
├── EngineFailed          500  engine_failed        the engine died or answered nonsense
├── StaleLease            409  stale_lease          a late writer; what it brings is dropped
├── DamagedFile           500  damaged_file         a file that does not hold what was written
└── Unavailable           503  unavailable          not now; try again
"""

from __future__ import annotations

from collections.abc import Iterable


class AmpsweepError(Exception):
    """What went wrong (`message`), of which type, at which field (`param`, may be None)."""

    status = 500
    code = "internal_error"

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
    """A name that nothing here answers to; the message lists the names that would do."""

    code = "unknown_name"

    def __init__(self, what: str, name: str, known: Iterable[str], *, param: str | None = None) -> None:
        listed = ", ".join(sorted(known)) or "none"
        super().__init__(f"unknown {what} {name!r}; known: {listed}", param=param)


class NotFound(AmpsweepError):
    """An id that names nothing."""

    status = 404
    code = "not_found"


class Conflict(AmpsweepError):
    """The thing exists, but its state does not allow what was asked."""

    status = 409
    code = "conflict"


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


class StaleLease(AmpsweepError):
    """A write under a lease that has passed to somebody else."""

    status = 409
    code = "stale_lease"


class DamagedFile(AmpsweepError):
    """A file whose bytes are not those that were published."""

    code = "damaged_file"


class Unavailable(AmpsweepError):
    """Not possible now; the same request may succeed later."""

    status = 503
    code = "unavailable"
