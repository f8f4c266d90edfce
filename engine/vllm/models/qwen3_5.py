"""Lets vLLM load the language models of Qwen3.5 where torchvision is not installed, or cannot be imported.

vLLM defines them in the module of the multimodal models, which imports the image processor of Transformers, and that
imports torchvision. A language model uses neither.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
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
    if architecture is None or _has_torchvision():
        return
    from vllm import ModelRegistry

    if _MODULE not in sys.modules:
        with _empty_torchvision():
            import_module(_MODULE)
    # vLLM inspects a class that it knows only by name in another process, which cannot import it
    ModelRegistry.register_model(architecture, getattr(sys.modules[_MODULE], architecture))


def _has_torchvision() -> bool:
    """Return whether torchvision can be imported. Its build for CUDA cannot beside a CPU build of torch."""
    try:
        import_module(_TORCHVISION[0])
    except Exception:  # noqa: BLE001  # its operators fail with a RuntimeError, its libraries with an OSError
        return False
    return True


@contextmanager
def _empty_torchvision() -> Iterator[None]:
    """Within the block, let modules import torchvision; it has no functions."""
    from transformers.utils import is_torchvision_available
    from transformers.utils.import_utils import is_torchvision_v2_available

    sys.modules[_TORCHVISION[0]] = None  # type: ignore[assignment]  # not installed, for Transformers
    for is_available in (is_torchvision_available, is_torchvision_v2_available):
        is_available.cache_clear()  # it has looked for a folder of that name, not imported it
        assert not is_available()  # remembered, so Transformers does not take the empty modules for a library
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
