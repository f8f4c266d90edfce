from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.browser import Browser, browser


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as tab:
        yield tab


@pytest.fixture
def tab(opened: Browser) -> Browser:
    """The tab, without the errors and the page of an earlier test, which would keep polling its stopped server."""
    opened.open("about:blank")
    opened.errors.clear()
    return opened
