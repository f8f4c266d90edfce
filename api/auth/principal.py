"""The principal: who sent an authenticated request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.types import Scope

from ampsweep.errors import Forbidden
from api.auth.api_keys import ApiKey, KeyScope

_STATE = "caller"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A key's owner, or whoever sits at the machine of a server without keys. `id` is never given twice."""

    id: str
    name: str
    scopes: frozenset[KeyScope]

    @classmethod
    def of(cls, key: ApiKey) -> Principal:
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


LOCAL = Principal(id="local", name="local", scopes=frozenset({KeyScope.ADMIN}))
"""Who sits at the machine."""


def enter(scope: Scope, principal: Principal) -> None:
    """Note who sent the request of an ASGI scope."""
    scope.setdefault("state", {})[_STATE] = principal


def principal_of(scope: Scope) -> Principal | None:
    """Return who sent the request of an ASGI scope; None where nobody was asked, or nobody was let in."""
    return cast("Principal | None", scope.get("state", {}).get(_STATE))


def _principal(request: Request) -> Principal:
    return cast("Principal", getattr(request.state, _STATE))


CurrentPrincipal = Annotated[Principal, Depends(_principal)]
