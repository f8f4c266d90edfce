"""Kernels are compiled even where Numba cannot keep them."""

from __future__ import annotations

import logging

import numba.core.caching
import pytest

from engine.kernels.cpu import compiled as module
from engine.kernels.cpu.compiled import compiled


@pytest.mark.parametrize("problem", ["no folder", "full disk"])
def test_without_a_place_to_keep_it_a_kernel_is_compiled_at_every_start(
    problem: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    if problem == "no folder":
        monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    else:
        monkeypatch.setattr(numba.core.caching.FunctionCache, "save_overload", full_disk)
    module._warn.cache_clear()

    def double(value: int) -> int:
        return 2 * value

    def triple(value: int) -> int:
        return 3 * value

    with caplog.at_level(logging.WARNING):
        kernels = [compiled("int64(int64)")(function) for function in (double, triple)]
    assert [kernel(7) for kernel in kernels] == [14, 21]
    assert [kernel.signatures for kernel in kernels] == [[(numba.int64,)]] * 2
    assert len(caplog.records) == 1
    assert "NUMBA_CACHE_DIR" in caplog.text
