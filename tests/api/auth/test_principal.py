from __future__ import annotations

from dataclasses import replace

import pytest

from ampsweep.errors import Forbidden
from api.auth.api_keys import KeyScope
from api.auth.principal import LOCAL, Principal

USER = Principal(id="1", name="me", scopes=frozenset({KeyScope.SUBMIT}))


def test_what_belongs_to_another_is_for_admins_only() -> None:
    USER.need_ownership("1", "sweep sweep_1")
    LOCAL.need_ownership("1", "sweep sweep_1")
    with pytest.raises(Forbidden, match="sweep sweep_1 was created with another API key; use that key or one with"):
        replace(USER, id="2").need_ownership("1", "sweep sweep_1")


def test_a_scope_is_needed_unless_the_principal_is_an_admin() -> None:
    USER.need(KeyScope.SUBMIT)
    LOCAL.need(KeyScope.SUBMIT)
    with pytest.raises(Forbidden, match="the API key lacks the scope 'read'; use a key that has it"):
        USER.need(KeyScope.READ)
