"""Wrong addresses of object stores are refused before anything is sent."""

from __future__ import annotations

import pytest

from ampsweep.errors import InvalidRequest
from jobs.storage.factory import open_storage


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("https://bucket/prefix", "unsupported storage https://; use a folder, s3://BUCKET/PREFIX or"),
        ("s3:///prefix", "has no bucket; write s3://BUCKET/PREFIX"),
        ("gs:///", "has no bucket; write gs://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/", "the address contains credentials"),
        ("s3://bucket/?colour=blue", "no option 'colour'; known: endpoint, region"),
        ("gs://bucket/?region=x", "no option 'region'; known: endpoint"),
        ("s3://bucket/?endpoint=localhost:9000", "is not a URL; use one like"),
        ("s3://bucket/a/../b", "is not a valid prefix"),
        ("s3://bucket//a", "is not a valid prefix"),
    ],
)
def test_a_wrong_address_is_an_error_with_a_remedy(address: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        open_storage(address)
    assert complaint in caught.value.message
    assert caught.value.param == "results"
    assert "secret" not in caught.value.message
