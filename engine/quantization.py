"""Reads how the weights of a checkpoint are quantized, and which tensors a quantized weight consists of.

Knows the formats of checkpoints, but not which engine runs them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Grouping = Literal["tensor", "channel", "group", "block"]
"""Which weights share a scale: all of a tensor, those of one output, a part of those, or a rectangle."""

_GROUPINGS: Mapping[str, Grouping] = {"tensor": "tensor", "channel": "channel", "block": "block"}
"""Groupings by their names in compressed-tensors; all other names, such as "tensor_group", are groups."""
_TITLES = {
    "awq": "AWQ",
    "gptq": "GPTQ",
    "fp8": "FP8",
    "compressed-tensors": "compressed-tensors",
    "bitsandbytes": "bitsandbytes",
}
_PACKED = {"qweight": "scales", "weight_packed": "weight_scale"}
"""The tensor that replaces a packed weight, and the scales that must accompany it."""
_SCALES = ("weight_scale", "weight_scale_inv")
"""Names of the scales of a quantized weight that is stored under its own name."""
_PARTS = frozenset(
    {
        *_PACKED,
        *_PACKED.values(),
        *_SCALES,
        "qzeros",
        "g_idx",
        "weight_shape",
        "weight_zero_point",
        "weight_g_idx",
        "input_scale",
        "input_zero_point",
        "output_scale",
    }
)
"""Names of all tensors that a quantized weight may consist of, besides itself."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How some weights are quantized.

    Attributes:
        bits: Bits of a weight.
        floating: Whether weights are floats; otherwise they are integers.
        grouping: Which weights share a scale.
        group_size: Inputs that share a scale, with `grouping` "group".
        input_bits: Bits to which the inputs of a projection are rounded too, None for inputs in the engine's dtype.
    """

    bits: int
    floating: bool
    grouping: Grouping
    group_size: int | None = None
    input_bits: int | None = None

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of a weight and its share of the scales, which have 16 bits."""
        return self.bits / 8 + (2 / self.group_size if self.group_size else 0)

    def __str__(self) -> str:
        """Return a description, for example "4-bit integers in groups of 128"."""
        numbers = f"{self.bits}-bit {'floats' if self.floating else 'integers'}"
        groups = {"group": f" in groups of {self.group_size}", "block": " in blocks"}.get(self.grouping, "")
        return f"{numbers}{groups}" + (f", {self.input_bits}-bit inputs" if self.input_bits else "")


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """The quantized weights of a checkpoint.

    Attributes:
        method: `quant_method` in the config.
        schemes: How weights are quantized; empty for a method that is not known here.
        skipped: Modules whose weights are not quantized: parts of their names, or regular expressions after `re:`.
        ordered: Whether the inputs of a group are not neighbours (GPTQ's `desc_act`).
        symmetric: Whether zero is in the middle of the integers.
    """

    method: str
    schemes: tuple[Scheme, ...] = ()
    skipped: tuple[str, ...] = ()
    ordered: bool = False
    symmetric: bool = True

    def __str__(self) -> str:
        """Return the method and its schemes, for example "AWQ (4-bit integers in groups of 128)"."""
        schemes = "; ".join(map(str, self.schemes))
        title = _TITLES.get(self.method, self.method)
        return f"{title} ({schemes})" if schemes else title

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Quantization | None:
        """Read the quantization from the object in a config.json; return None if the weights are not quantized.

        Raises:
            ValueError: A setting is missing or invalid.
        """
        raw = next((part for part in map(_section, (config, config.get("text_config") or {})) if part), None)
        if raw is None:
            return None
        method = str(raw.get("quant_method", "")).lower()
        read = _READERS.get(method)
        try:
            return cls(method=method) if read is None else read(raw)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"quantization_config of method {method!r} is incomplete: {error!r}") from error

    @property
    def bytes_per_weight(self) -> float | None:
        """Bytes of a weight and its share of the scales, at most; None for a method that is not known here."""
        return max((scheme.bytes_per_weight for scheme in self.schemes), default=None)

    def skips(self, module: str) -> bool:
        """Return whether the weights of a module are left unquantized, by its name in the model."""
        return any(
            re.match(pattern[3:], module) is not None if pattern.startswith("re:") else pattern in module
            for pattern in self.skipped
        )


def _section(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return config.get("quantization_config") or config.get("compression_config")


def _awq(raw: Mapping[str, Any]) -> Quantization:
    return Quantization(
        method="awq",
        schemes=(_grouped(raw.get("w_bit") or raw["bits"], raw.get("q_group_size") or raw["group_size"]),),
        skipped=tuple(raw.get("modules_to_not_convert") or ()),
        symmetric=not raw.get("zero_point", True),
    )


def _gptq(raw: Mapping[str, Any]) -> Quantization:
    return Quantization(
        method="gptq",
        schemes=(_grouped(raw["bits"], raw["group_size"]),),
        ordered=bool(raw.get("desc_act")) and raw["group_size"] != -1,
        symmetric=bool(raw.get("sym", True)),
    )


def _grouped(bits: int, size: int) -> Scheme:
    """Return a scheme of integers with a scale for `size` inputs, or for all of them with -1."""
    if size == -1:
        return Scheme(bits=int(bits), floating=False, grouping="channel")
    return Scheme(bits=int(bits), floating=False, grouping="group", group_size=int(size))


def _fp8(raw: Mapping[str, Any]) -> Quantization:
    grouping: Grouping = "block" if raw.get("weight_block_size") else "tensor"
    return Quantization(
        method="fp8",
        schemes=(Scheme(bits=8, floating=True, grouping=grouping, input_bits=8),),
        skipped=tuple(raw.get("ignored_layers") or raw.get("modules_to_not_convert") or ()),
    )


def _compressed_tensors(raw: Mapping[str, Any]) -> Quantization:
    groups = list(raw["config_groups"].values())
    return Quantization(
        method="compressed-tensors",
        schemes=tuple(dict.fromkeys(map(_compressed, groups))),
        skipped=tuple(raw.get("ignore") or ()),
        ordered=any(group["weights"].get("actorder") in ("group", "dynamic") for group in groups),
        symmetric=all(group["weights"].get("symmetric", True) for group in groups),
    )


def _compressed(group: Mapping[str, Any]) -> Scheme:
    weights, inputs = group["weights"], group.get("input_activations") or {}
    strategy = weights.get("strategy") or ("group" if weights.get("group_size") else "tensor")
    grouping: Grouping = _GROUPINGS.get(strategy, "group")
    return Scheme(
        bits=int(weights["num_bits"]),
        floating=weights.get("type", "int") == "float",
        grouping=grouping,
        group_size=weights.get("group_size") if grouping == "group" else None,
        input_bits=inputs.get("num_bits"),
    )


_READERS = {"awq": _awq, "gptq": _gptq, "fp8": _fp8, "compressed-tensors": _compressed_tensors}


def without_parts(
    missing: Collection[str], unexpected: Collection[str], *, model_weights: Collection[str]
) -> tuple[list[str], list[str]]:
    """Remove quantized weights from the differences between a checkpoint and its unquantized model.

    A quantized weight is stored as several tensors, most of which the unquantized model does not have. If it is packed
    into a tensor of another name, the weight itself is missing in the checkpoint.

    Args:
        missing: Names of weights that the model has and the checkpoint lacks.
        unexpected: Names of tensors that the checkpoint has and the model lacks.
        model_weights: Names of all weights of the model.

    Returns:
        The names that remain in `missing` and in `unexpected`, sorted.
    """
    stored, weights = set(unexpected), set(model_weights)
    packed = {
        f"{module}.weight"
        for module, _, part in (name.rpartition(".") for name in stored)
        if part in _PACKED and f"{module}.{_PACKED[part]}" in stored
    }
    parts = {
        name
        for name, (module, _, part) in ((name, name.rpartition(".")) for name in stored)
        if part in _PARTS and f"{module}.weight" in weights
    }
    return sorted(set(missing) - packed), sorted(stored - parts)


def without_scales(dtypes: Mapping[str, str]) -> list[str]:
    """Return the quantized weights whose scales are missing, sorted.

    Args:
        dtypes: The dtype of each tensor of a checkpoint, as safetensors names it.
    """
    return sorted(
        name
        for name, dtype in dtypes.items()
        if name.endswith(".weight")
        and (dtype == "I8" or dtype.startswith("F8_"))
        and not any(f"{name.removesuffix('weight')}{scale}" in dtypes for scale in _SCALES)
    )
