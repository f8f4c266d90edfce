"""Estimates what a model needs from its config alone. Allocates no weights and runs no code of the model's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import InvalidRequest
from ampsweep.folders.weights import language_model_weight
from engine.checkpoint import auto_model, read_quantization
from engine.hf.hooks import Hooks
from engine.quantization import Quantization
from engine.steering.mlp_sites import find_layers

_MATRIX_BYTES = 256 * 1024**2  # more than the caches of a processor hold
_PROMPT_TOKENS = 512
_PROMPT_HIDDEN = 2048


@dataclass(frozen=True, kw_only=True)
class ModelEstimate:
    """Shape and size of a model.

    Attributes:
        model_class: Class of the model in Transformers.
        widths: Layers and their neurons.
        parameters: Weights; tied ones count once.
        kv_values: Numbers that the KV cache holds for a token, if every layer has full attention.
        quantized: Those of `parameters` that the checkpoint has quantized.
        quantization: How they are quantized, None if there are none.
        shapes: The shapes (outputs, inputs) of the language model's projections, by their names.
    """

    model_class: str
    widths: LayerWidths
    parameters: int
    kv_values: int
    quantized: int = 0
    quantization: Quantization | None = None
    shapes: Mapping[str, tuple[int, int] | None] = field(default_factory=dict)

    def weight_bytes(self, size: int) -> int:
        """Return the bytes of all weights, if those that are not quantized have `size` bytes each."""
        quantized = None if self.quantization is None else self.quantization.bytes_per_weight
        return (self.parameters - self.quantized) * size + round(self.quantized * (quantized or size))


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What the device does in a second: bytes of weights read for one token, and operations in matrix products."""

    bytes: float
    flops: float


def estimate_model(folder: Path) -> ModelEstimate:
    """Build the model of a config without its weights, and check that it can be steered.

    Args:
        folder: A folder with a config.json; other files are not read.

    Raises:
        InvalidRequest: Transformers has no such model, or the config is invalid (param "model").
        UnsupportedModel: The model cannot be steered; the message gives the class and the reason.
    """
    try:
        config: Any = transformers.AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model: Any = (auto_model(config) or transformers.AutoModelForCausalLM).from_config(config)
    except Exception as error:  # whatever a model's code raises for values that it does not expect
        reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        message = f"Transformers cannot build a language model from its config.json: {reason}"
        raise InvalidRequest(message, param="model") from error
    model.tie_weights()
    hooks = Hooks(model)
    text = config.get_text_config()
    quantization = read_quantization(folder)
    return ModelEstimate(
        model_class=type(model).__name__,
        widths=hooks.widths,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        kv_values=_kv_values(text, hooks.widths.layers),
        quantized=0 if quantization is None else _quantized(model, quantization),
        quantization=quantization,
        shapes={
            text_name: (module.out_features, module.in_features)
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and (text_name := language_model_weight(name)) is not None
        },
    )


def _kv_values(config: Any, layers: int) -> int:
    """Return how many numbers the layers of a language model store for a token, if each has full attention.

    Heads can differ between layers (Gemma 4); Transformers then has them in the configs of the layers alone.
    """
    values = 0
    for layer in getattr(config, "per_layer_config", None) or [config] * layers:
        heads = getattr(layer, "num_key_value_heads", None) or layer.num_attention_heads
        values += 2 * heads * (getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads)
    return values


def _quantized(model: Any, quantization: Quantization) -> int:
    """Return how many weights are quantized: those of the projections in the layers, unless they are left out."""
    names = {module: name for name, module in model.named_modules()}
    return sum(
        module.weight.numel()
        for layer in find_layers(model).values()
        for module in layer.modules()
        if isinstance(module, torch.nn.Linear) and not quantization.skips(names[module])
    )


def measure_speed(dtype: str, *, seconds: float) -> Speed:
    """Measure the speed of the GPU, or of the CPU without one.

    Args:
        dtype: Data type of the weights.
        seconds: Duration of the measurement.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "device": device}
    size = options["dtype"].itemsize
    rows = _MATRIX_BYTES // size // _PROMPT_HIDDEN
    weights = torch.ones(rows, _PROMPT_HIDDEN, **options)
    token, prompt = torch.ones(_PROMPT_HIDDEN, **options), torch.ones(_PROMPT_TOKENS, _PROMPT_HIDDEN, **options)
    square = weights[:_PROMPT_HIDDEN]
    reads = _rate(lambda: weights @ token, seconds=seconds / 2)
    products = _rate(lambda: prompt @ square.T, seconds=seconds / 2)
    return Speed(bytes=reads * _MATRIX_BYTES, flops=products * 2 * _PROMPT_TOKENS * _PROMPT_HIDDEN * len(square))


def _rate(work: Callable[[], torch.Tensor], *, seconds: float) -> float:
    """Return how often `work` is done in a second, the first time not counted."""
    synchronize: Callable[[], object] = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    work()
    synchronize()
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not count:
        work()
        synchronize()
        count += 1
    return count / elapsed
