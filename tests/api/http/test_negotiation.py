from __future__ import annotations

import pytest

from ampsweep.errors import NotAcceptable
from api.http.negotiation import accepts_gzip, best_media_type

FORMS = ("a/one", "b/two", "b/three")


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "a/one"),
        ("", "a/one"),
        ("*/*", "a/one"),
        ("b/two", "b/two"),
        ("B/TWO; charset=utf-8", "b/two"),
        ("b/*", "b/two"),
        ("b/*, b/two;q=0.5", "b/three"),
        ("a/one;q=0.4, b/three;q=0.6, */*;q=0.1", "b/three"),
        ("a/one;q=0, */*", "b/two"),
        ("a/one;q=often, b/two;q=0.1", "b/two"),
    ],
)
def test_the_most_preferred_format_is_chosen(accept: str | None, form: str) -> None:
    assert best_media_type(accept, FORMS) == form


@pytest.mark.parametrize("accept", ["c/four", "a/one;q=0", "a", ",,;;", "*/*;q=nan"])
def test_without_an_acceptable_format_the_request_is_rejected(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="a/one, b/two"):
        best_media_type(accept, FORMS)


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.1", True),
        ("*", True),
        ("gzip;q=0, *", False),
        ("br", False),
    ],
)
def test_gzip_is_used_only_if_it_is_accepted(header: str | None, takes: bool) -> None:
    assert accepts_gzip(header) is takes
