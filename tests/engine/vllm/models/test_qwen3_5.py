from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine.vllm.models import qwen3_5


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_torchvision_can_be_imported_only_while_vllm_s_module_is() -> None:
    with qwen3_5._empty_torchvision():
        functional = import_module("torchvision.transforms.v2.functional")
        assert sys.modules["torchvision"].transforms.v2.functional is functional
    with pytest.raises(ImportError):
        import_module("torchvision")


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_torchvision_that_cannot_be_imported_is_like_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "torchvision" / "__init__.py"
    package.parent.mkdir()
    package.write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    monkeypatch.syspath_prepend(tmp_path)
    utils = import_module("transformers.utils")
    utils.is_torchvision_available.cache_clear()
    assert utils.is_torchvision_available()
    assert not qwen3_5._has_torchvision()
    with qwen3_5._empty_torchvision():
        assert not utils.is_torchvision_available()
        import_module("torchvision.transforms.v2.functional")
    assert not utils.is_torchvision_available()


def test_other_models_need_no_registration() -> None:
    before = set(sys.modules)
    qwen3_5.register("qwen3")
    assert "vllm" not in set(sys.modules) - before
