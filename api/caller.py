"""Who sends a request, once the door has let it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.types import Scope

from ampsweep.errors import Forbidden
from api.keys import ApiKey, KeyScope

_STATE = "caller"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A key's owner, or whoever sits at the machine of a server without keys. `id` is never given twice."""

    id: str
    name: str
    scopes: frozenset[KeyScope]

    @classmethod
    def of(cls, key: ApiKey) -> Caller:
        """Return who has a key."""
        return cls(id=key.id, name=key.name, scopes=key.scopes)

    @property
    def is_admin(self) -> bool:
        """Whether what belongs to others is open too."""
        return KeyScope.ADMIN in self.scopes

    def need(self, scope: KeyScope) -> None:
        """Raise Forbidden unless the caller has `scope`, or is an admin."""
        if scope not in self.scopes and not self.is_admin:
            raise Forbidden(f"this key has no scope {scope.value!r}; ask for one that has")


LOCAL = Caller(id="local", name="local", scopes=frozenset({KeyScope.ADMIN}))
"""Who sits at the machine."""


def enter(scope: Scope, caller: Caller) -> None:
    """Note who sent the request of an ASGI scope."""
    scope.setdefault("state", {})[_STATE] = caller


def caller_of(scope: Scope) -> Caller | None:
    """Return who sent the request of an ASGI scope; None where nobody was asked, or nobody was let in."""
    return cast("Caller | None", scope.get("state", {}).get(_STATE))


def _caller(request: Request) -> Caller:
    return cast("Caller", getattr(request.state, _STATE))


CalledBy = Annotated[Caller, Depends(_caller)]
