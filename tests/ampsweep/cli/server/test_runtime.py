"""Resources that were opened are closed again if a later step of the start fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ampsweep.cli.server.catalog import catalog_of
from ampsweep.cli.server.runtime import Runtime
from ampsweep.cli.server.serving import serve_until_stopped
from ampsweep.cli.server.settings import read_settings
from ampsweep.errors import InvalidRequest, Unavailable
from ampsweep.telemetry.context import Telemetry


def open_and_close(home: Path) -> None:
    """Raise Unavailable where the folder's database is still open."""
    Runtime.open(home, catalog_of(read_settings())).close()


def test_a_folder_that_cannot_be_cleaned_up_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **_options: object) -> int:
        raise Unavailable("the database is temporarily unavailable: disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr("ampsweep.cli.server.runtime.clean_up", fail)
        with pytest.raises(Unavailable, match="disk I/O error"):
            open_and_close(tmp_path)
    open_and_close(tmp_path)


def test_a_server_with_an_invalid_certificate_releases_its_folder(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_text("no certificate")
    home = tmp_path / "home"
    settings = read_settings(home=home, engine="fake", port=0, tls_cert=certificate, tls_key=certificate)
    with pytest.raises(InvalidRequest, match="cannot be used for TLS"):
        asyncio.run(serve_until_stopped(settings, Telemetry()))
    open_and_close(home)


def test_a_home_whose_path_is_not_utf_8_is_refused_at_once(tmp_path: Path) -> None:
    """Results could not be read there, which would be seen only at the end of a sweep."""
    with pytest.raises(InvalidRequest, match=r"caf\\udce9.* has bytes that are not UTF-8; .*LANG=C.UTF-8") as caught:
        open_and_close(tmp_path / "caf\udce9")
    assert caught.value.param == "home"


@pytest.mark.parametrize(
    ("release", "allowed", "warned"), [("0.32.0", True, False), ("0.99.0", True, True), ("0.99.0", False, False)]
)
def test_the_catalog_warns_of_an_untested_release_that_was_allowed(
    release: str, allowed: bool, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.vllm.versions.version", {"vllm": release}.__getitem__)
    warnings = catalog_of(read_settings(engine="vllm", allow_untested_vllm=allowed)).warnings
    assert [warning.startswith("vLLM 0.99.0 was never tested with Ampsweep") for warning in warnings] == [True] * warned
