"""Tiny models with quantized weights in the formats of checkpoints; nothing is downloaded, no quantizer is needed.

Weights are rounded to the nearest value of the format. Each model is written twice: quantized, and as an ordinary
float32 checkpoint that holds the rounded weights, which any engine can load.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.models.families import Family, tiny_model

Format = Literal["int8", "fp8", "fp8_tensor", "int4", "awq", "gptq"]
"""int8, fp8 and int4 are formats of compressed-tensors: W8A8 with integers and floats, W4A16; `fp8_tensor` is fp8's."""
GROUP = 32
"""Inputs that share a scale in the 4-bit formats."""
_WEIGHTS = "model.safetensors"
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The output whose value AWQ stores at each four bits of an int32, from the lowest."""
_FP8_MAX = 448.0


class _Quantized(NamedTuple):
    """The tensors that stand for a weight [N, K], by the end of their names, and the weight as they round it."""

    tensors: dict[str, Tensor]
    rounded: Tensor


def quantized_model(form: Format, path: Path, *, family: Family = "llama", seed: int = 0) -> tuple[Path, Path]:
    """Write a tiny model whose projections in all layers are quantized; the embedding and the head are not.

    Args:
        form: The format of the quantized weights.
        path: A folder for both models, created if it does not exist.
        family: The architecture.
        seed: Seed of the weights.

    Returns:
        The folder of the quantized model, and that of the float32 model with the rounded weights.
    """
    rounded_folder = tiny_model(family, path / "rounded", seed)
    folder = Path(shutil.copytree(rounded_folder, path / "quantized"))
    quantized: dict[str, Tensor] = {}
    rounded: dict[str, Tensor] = {}
    for name, weight in load_file(rounded_folder / _WEIGHTS).items():
        if name.endswith("_proj.weight"):
            tensors, rounded[name] = _QUANTIZERS[form](weight)
            quantized |= {f"{name.removesuffix('weight')}{end}": tensor for end, tensor in tensors.items()}
        else:
            quantized[name] = rounded[name] = weight
    for target, weights in ((folder, quantized), (rounded_folder, rounded)):
        contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
        save_file(contiguous, target / _WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = _config(form)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return folder, rounded_folder


def rounded_inputs(form: Format) -> Callable[[Tensor], Tensor] | None:
    """Return how a format rounds the inputs [..., K] of a projection, each token on its own; None if it does not."""
    return {"int8": _rounded_to_int8, "fp8": _rounded_to_fp8}.get(form)


def _int8(weight: Tensor) -> _Quantized:
    scale = weight.abs().amax(1, keepdim=True) / 127
    values = (weight / scale).round()
    return _Quantized({"weight": values.to(torch.int8), "weight_scale": scale}, values * scale)


def _fp8(weight: Tensor) -> _Quantized:
    scale = weight.abs().amax(1, keepdim=True) / _FP8_MAX
    values = (weight / scale).to(torch.float8_e4m3fn)
    return _Quantized({"weight": values, "weight_scale": scale}, values.float() * scale)


def _fp8_tensor(weight: Tensor) -> _Quantized:
    scale = weight.abs().max() / _FP8_MAX
    values = (weight / scale).to(torch.float8_e4m3fn)
    return _Quantized({"weight": values, "weight_scale": scale}, values.float() * scale)


def _int4(weight: Tensor) -> _Quantized:
    values, scale = _groups(weight)
    tensors = {
        "weight_packed": _packed(values),
        "weight_scale": scale,
        "weight_shape": torch.tensor(weight.shape),
    }
    return _Quantized(tensors, _restored(values - 8, scale))


def _gptq(weight: Tensor) -> _Quantized:
    values, scale = _groups(weight)
    outputs, inputs = weight.shape
    zeros = torch.full((outputs, inputs // GROUP), 7)  # stored zero points are one less than they are
    tensors = {
        "qweight": _packed(values).T,
        "qzeros": _packed(zeros.T),
        "scales": scale.T.half(),
        "g_idx": torch.arange(inputs, dtype=torch.int32) // GROUP,
    }
    return _Quantized(tensors, _restored(values - 8, scale))


def _awq(weight: Tensor) -> _Quantized:
    least, most = (bound(weight.reshape(len(weight), -1, GROUP), 2) for bound in (torch.amin, torch.amax))
    scale = _short((most - least) / 15)
    zeros = (-least / scale).round().clamp(0, 15).to(torch.int64)
    grouped = (weight.reshape(len(weight), -1, GROUP) / scale[..., None]).round() + zeros[..., None]
    values = grouped.clamp(0, 15).to(torch.int64)
    tensors = {
        "qweight": _packed(_in_awq_order(values.flatten(1).T)),
        "qzeros": _packed(_in_awq_order(zeros.T)),
        "scales": scale.T.half(),
    }
    return _Quantized(tensors, _restored((values - zeros[..., None]).flatten(1), scale))


_QUANTIZERS: dict[Format, Callable[[Tensor], _Quantized]] = {
    "int8": _int8,
    "fp8": _fp8,
    "fp8_tensor": _fp8_tensor,
    "int4": _int4,
    "awq": _awq,
    "gptq": _gptq,
}


def _groups(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight [N, K] as integers 0 to 15 [N, K], of which 8 stands for zero, and the scales [N, K / GROUP]."""
    grouped = weight.reshape(len(weight), -1, GROUP)
    scale = _short(grouped.abs().amax(2) / 7)
    values = (grouped / scale[..., None]).round().clamp(-8, 7).flatten(1)
    return values.to(torch.int64) + 8, scale


def _short(scale: Tensor) -> Tensor:
    """Return scales with the mantissa of bfloat16, which float16 holds exactly too."""
    return scale.bfloat16().float()


def _restored(values: Tensor, scale: Tensor) -> Tensor:
    return values.float() * scale.repeat_interleave(GROUP, dim=1)


def _packed(values: Tensor) -> Tensor:
    """Return integers 0 to 15, [R, C], packed along the rows into int32 [R, C / 8], the first in the lowest bits."""
    words = (values.reshape(len(values), -1, 8) << torch.arange(0, 32, 4)).sum(2)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def _in_awq_order(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1, 8)[..., list(_AWQ_ORDER)].flatten(1)


def _rounded_to_int8(inputs: Tensor) -> Tensor:
    scale = inputs.abs().amax(-1, keepdim=True) / 127
    return (inputs / scale).round() * scale


def _rounded_to_fp8(inputs: Tensor) -> Tensor:
    scale = inputs.abs().amax(-1, keepdim=True) / _FP8_MAX
    return (inputs / scale).to(torch.float8_e4m3fn).float() * scale


def _config(form: Format) -> dict[str, Any]:
    """Return the `quantization_config` of a format."""
    if form == "awq":
        return {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
    if form == "gptq":
        return {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True, "desc_act": False}
    if form == "fp8_tensor":
        return {"quant_method": "fp8", "activation_scheme": "dynamic", "modules_to_not_convert": ["lm_head"]}
    weights: dict[str, Any] = {"symmetric": True, "dynamic": False}
    group: dict[str, Any] = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    if form == "int4":
        weights |= {"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP}
    else:
        number = {"num_bits": 8, "type": "int" if form == "int8" else "float", "symmetric": True}
        weights |= {**number, "strategy": "channel"}
        group["input_activations"] = {**number, "strategy": "token", "dynamic": True}
    return {
        "quant_method": "compressed-tensors",
        "format": {"int8": "int-quantized", "fp8": "float-quantized", "int4": "pack-quantized"}[form],
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
