"""Only tested vLLM releases start, unless the user allows another one, which is then named as such."""

from __future__ import annotations

import pytest

from ampsweep.errors import SteeringNotInstalled
from engine.vllm.versions import check_version, reported_version, untested_warning


def test_only_tested_releases_start() -> None:
    check_version("0.32.0")
    check_version("0.32.0+cpu")
    check_version("0.25.1")
    check_version("0.33.1", allow_untested=True)
    remedy = r"vLLM 0.33.1 was never tested; install one of: 0.25.1, 0.32.0, or .* --allow-untested-vllm"
    with pytest.raises(SteeringNotInstalled, match=remedy):
        check_version("0.33.1")


def test_an_untested_release_is_named_in_a_warning_and_in_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    for release, reported in (("0.32.0+cpu", "0.32.0+cpu"), ("0.33.1", "0.33.1 (untested)")):
        monkeypatch.setattr("engine.vllm.versions.version", {"vllm": release}.__getitem__)
        assert reported_version() == reported
    assert untested_warning("0.32.0+cpu") is None
    assert "0.33.1 was never tested with Ampsweep (tested: 0.25.1, 0.32.0)" in str(untested_warning("0.33.1"))
