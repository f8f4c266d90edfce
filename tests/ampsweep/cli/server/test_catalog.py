"""The folders of a user without a home, as in a container that runs under any user id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ampsweep.cli.server.catalog import catalog_of
from ampsweep.cli.server.settings import read_settings
from ampsweep.errors import InvalidRequest


@pytest.fixture
def _homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.mark.usefixtures("_homeless")
def test_a_user_without_a_home_is_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="this user has no home; set HOME, or AMPSWEEP_HUB_CACHE") as refused:
        catalog_of(read_settings(engine="fake"))
    assert refused.value.param == "hub_cache"
    catalog = catalog_of(read_settings(engine="fake", hub_cache=tmp_path))
    assert catalog.hub is not None
    assert catalog_of(read_settings(engine="fake", hub=False)).hub is None
