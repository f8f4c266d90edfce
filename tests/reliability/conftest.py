from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder without a model: enough for the fake engine."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 4, "intermediate_size": 32}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder
