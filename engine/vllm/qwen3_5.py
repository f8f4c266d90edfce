"""Lets vLLM load the language models of Qwen3.5 where torchvision is not installed.

vLLM defines them in the module of the multimodal models, which imports the image processor of Transformers, and that
imports torchvision. A language model uses neither.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

_ARCHITECTURES = {"qwen3_5_text": "Qwen3_5ForCausalLM", "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM"}
"""Classes of vLLM by `model_type` of the language model."""
_MODULE = "vllm.model_executor.models.qwen3_5"
_TORCHVISION = (
    "torchvision",
    "torchvision.transforms",
    "torchvision.transforms.v2",
    "torchvision.transforms.v2.functional",
)
"""The modules that the image processor imports; it reads their functions when it processes an image."""


def register(model_type: str) -> None:
    """Make vLLM use its class of a language model of Qwen3.5, imported here, from now on in this process.

    Does nothing for other models, and where vLLM can import the class itself.

    Args:
        model_type: That of the language model.
    """
    architecture = _ARCHITECTURES.get(model_type)
    if architecture is None or find_spec("torchvision") is not None:
        return
    from vllm import ModelRegistry

    if _MODULE not in sys.modules:
        with _empty_torchvision():
            import_module(_MODULE)
    # vLLM inspects a class that it knows only by name in another process, which cannot import it
    ModelRegistry.register_model(architecture, getattr(sys.modules[_MODULE], architecture))


@contextmanager
def _empty_torchvision() -> Iterator[None]:
    """Within the block, let modules import torchvision; it has no functions."""
    from transformers.utils import is_torchvision_available
    from transformers.utils.import_utils import is_torchvision_v2_available

    assert not is_torchvision_available()  # remembered, so Transformers does not take the empty modules for a library
    assert not is_torchvision_v2_available()
    for name in _TORCHVISION:
        sys.modules[name] = ModuleType(name)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
    try:
        yield
    finally:
        for name in _TORCHVISION:
            del sys.modules[name]
