"""What the transports prepare before the first request."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from ampsweep.client.http.transport import _ssl_context
from ampsweep.errors import InvalidRequest
from tests.ampsweep.client.both_clients import KINDS, opened


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("url", "reads"), [("http://127.0.0.1:8700", 0), ("http://gpu", 0), ("https://gpu", 1)])
def test_trusted_certificates_are_read_once_and_only_for_a_server_with_tls(
    kind: str, url: str, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://proxy:3128")
    create, read = ssl.create_default_context, list[object]()

    def noted(*arguments: Any, **options: Any) -> ssl.SSLContext:
        read.append(options)
        return create(*arguments, **options)

    monkeypatch.setattr(ssl, "create_default_context", noted)
    with opened(kind, url):
        assert len(read) == reads


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_named_by_the_variable(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "root.crt"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(InvalidRequest, match=r"SSL_CERT_FILE or .* cannot be read: .*; correct the variable") as caught:
        _ssl_context({"base_url": "https://gpu", "headers": {}, "timeout": 1.0})
    assert caught.value.param == "SSL_CERT_FILE"


def test_a_server_without_tls_has_no_certificate_that_could_be_trusted() -> None:
    plain = _ssl_context({"base_url": "http://gpu", "headers": {}, "timeout": 1.0})
    assert (plain.verify_mode, plain.check_hostname, plain.get_ca_certs()) == (ssl.CERT_REQUIRED, True, [])
    encrypted = _ssl_context({"base_url": "https://gpu", "headers": {}, "timeout": 1.0})
    assert (encrypted.verify_mode, encrypted.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert encrypted.get_ca_certs() != []
