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
    """The holder of an API key, or the local user of a server without keys. An `id` is never used twice."""

    id: str
    name: str
    scopes: frozenset[KeyScope]

    @classmethod
    def of(cls, key: ApiKey) -> Principal:
        """Return the holder of a key."""
        return cls(id=key.id, name=key.name, scopes=key.scopes)

    @property
    def is_admin(self) -> bool:
        """Whether the principal may also change what belongs to others."""
        return KeyScope.ADMIN in self.scopes

    def need(self, scope: KeyScope) -> None:
        """Raise Forbidden unless the principal has `scope` or is an admin."""
        if scope not in self.scopes and not self.is_admin:
            raise Forbidden(f"the API key lacks the scope {scope.value!r}; use a key that has it")

    def need_ownership(self, owner: str, what: str) -> None:
        """Raise Forbidden unless the principal is the owner of something, or an admin."""
        if owner != self.id and not self.is_admin:
            raise Forbidden(f"{what} was created with another API key; use that key or one with scope 'admin'")


LOCAL = Principal(id="local", name="local", scopes=frozenset({KeyScope.ADMIN}))
"""The user of a server without keys, which accepts requests from its own machine only."""


def bind(scope: Scope, principal: Principal) -> None:
    """Store the principal of a request in its ASGI scope."""
    scope.setdefault("state", {})[_STATE] = principal


def principal_of(scope: Scope) -> Principal | None:
    """Return the principal stored in an ASGI scope; None for rejected requests and paths without authentication."""
    return cast("Principal | None", scope.get("state", {}).get(_STATE))


def _principal(request: Request) -> Principal:
    return cast("Principal", getattr(request.state, _STATE))


CurrentPrincipal = Annotated[Principal, Depends(_principal)]
