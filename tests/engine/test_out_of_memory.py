from __future__ import annotations

import pytest
import torch

from ampsweep.errors import EngineFailed
from engine.out_of_memory import death_of_engine, is_out_of_memory, named_allocation_failures


def _too_large() -> None:
    torch.empty(2**60, dtype=torch.uint8)


def test_a_failed_allocation_of_torch_is_named() -> None:
    with pytest.raises(EngineFailed) as failed, named_allocation_failures("while atlas is loaded"):
        _too_large()
    assert failed.value.param == "dtype"
    assert failed.value.message.startswith("not enough memory while atlas is loaded; choose --dtype bfloat16")
    assert "DefaultCPUAllocator" in failed.value.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (ImportError("libtorch.so: failed to map segment from shared object"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_what_a_failed_allocation_is(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
    wrapped = RuntimeError("Engine core initialization failed")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped) is expected


def test_an_engine_that_died_says_of_what() -> None:
    assert death_of_engine(MemoryError()).message.startswith("not enough memory for the requests in flight, of which")
    assert death_of_engine(ValueError("x")).message == "the engine died: ValueError: x"


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match=r"^mismatch$"), named_allocation_failures("now"):
        raise RuntimeError("mismatch")
