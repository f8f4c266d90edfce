"""The worker that most tests of this folder steer, on both backends."""

from __future__ import annotations

import pytest

from tests.engine.vllm.worker.one_layer import FORMS, SiluAndMul, Worker, make_worker


@pytest.fixture(params=["cpu", "cuda"])
def backend_name(request: pytest.FixtureRequest) -> str:
    """Run the test on both backends, the CUDA one in Triton's interpreter."""
    name: str = request.param
    return name


@pytest.fixture
def worker(backend_name: str) -> Worker:
    return make_worker(backend_name, FORMS, SiluAndMul())
