from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from engine.vllm import qwen3_5


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_torchvision_can_be_imported_only_while_vllm_s_module_is() -> None:
    with qwen3_5._empty_torchvision():
        functional = import_module("torchvision.transforms.v2.functional")
        assert sys.modules["torchvision"].transforms.v2.functional is functional
    with pytest.raises(ImportError):
        import_module("torchvision")


def test_other_models_need_no_registration() -> None:
    before = set(sys.modules)
    qwen3_5.register("qwen3")
    assert "vllm" not in set(sys.modules) - before
