"""vLLM steers and records models with quantized weights; what it cannot run here is rejected before it is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from ampsweep.errors import UnsupportedModel
from benchmarks.comparisons.checksum_identifier import ChecksumIdentifier
from benchmarks.comparisons.mixed_load import INTERVENTIONS, SETTINGS, run_load
from benchmarks.models.families import Family
from benchmarks.models.quantized import Format, quantized_model, rounded_inputs
from engine.checkpoint import read_quantization
from engine.hf.engine import TransformersEngine
from engine.quantization import Quantization, Scheme
from engine.vllm.engine import VllmEngine
from engine.vllm.models.quantization import CpuKernels, check_quantization

SMALL = replace(SETTINGS, backend="cpu", kv_cache_bytes=8 * 1024**2)
AVX2 = CpuKernels(int4=False, int8=False, amx=False)
AVX512 = CpuKernels(int4=True, int8=True, amx=False)
AMX = CpuKernels(int4=True, int8=True, amx=True)
HERE = CpuKernels.of_this_machine()
needs_avx512 = pytest.mark.skipif(not HERE.int4, reason="vLLM's 4-bit kernel needs AVX-512")
needs_vnni = pytest.mark.skipif(not HERE.int8, reason="vLLM's 8-bit integer kernel is wrong without VNNI")


def of(*schemes: Scheme, method: str = "compressed-tensors", **settings: Any) -> Quantization:
    return Quantization(method=method, schemes=schemes, **settings)


INT4 = Scheme(bits=4, floating=False, grouping="group", group_size=128)
INT8 = Scheme(bits=8, floating=False, grouping="channel", input_bits=8)
FP8 = replace(INT8, floating=True)
BLOCKS = Scheme(bits=8, floating=True, grouping="block", input_bits=8)


@pytest.mark.parametrize(
    ("quantization", "dtype", "cpu", "complaint"),
    [
        (of(INT8), "float32", AVX512, None),
        (of(INT8), "float32", AMX, "8-bit integers.*16 bits only; choose --dtype bfloat16"),
        (of(INT8), "bfloat16", AMX, None),
        (of(INT8), "float32", AVX2, "without VNNI, .* overflow, and its results are wrong; use a GPU"),
        (of(INT8), "float32", None, None),
        (of(FP8), "float32", AVX2, None),
        (of(replace(FP8, grouping="tensor"), method="fp8"), "bfloat16", AMX, "cannot give the joined projections"),
        (of(replace(FP8, grouping="tensor"), method="fp8"), "bfloat16", None, None),
        (of(INT4), "float32", AVX512, "4-bit integers.*16 bits only; choose --dtype bfloat16"),
        (of(INT4), "float32", None, None),
        (of(INT4), "bfloat16", AVX512, None),
        (of(INT4), "float32", AVX2, r"compressed-tensors \(4-bit .* of 128\): their kernel needs .* with AVX-512; use"),
        (of(INT4, method="awq"), "bfloat16", AVX2, "AWQ .* needs a processor with AVX-512; use a GPU"),
        (of(INT4, method="awq"), "float32", AVX2, "AWQ .* needs a processor with AVX-512; use a GPU"),
        (of(INT4, method="awq"), "bfloat16", AMX, None),
        (of(INT4, method="awq"), "float32", AMX, "16 bits only; choose --dtype bfloat16"),
        (of(INT4, method="awq"), "float32", None, "16 bits only; choose --dtype bfloat16"),
        (of(INT4, INT8), "float32", AVX2, "needs a processor with AVX-512"),
        (of(replace(INT4, bits=8), method="gptq"), "bfloat16", AMX, "GPTQ .8-bit .*: vLLM has no kernel for them on a"),
        (of(replace(INT8, input_bits=None)), "float32", AMX, "no kernel for them on a CPU"),
        (of(INT4, method="gptq", ordered=True), "bfloat16", AMX, "desc_act, actorder.* on a CPU; use a GPU"),
        (of(INT4, method="gptq", symmetric=False), "bfloat16", AMX, "only symmetric integers .* on a CPU; use a GPU"),
        (of(BLOCKS, method="fp8"), "bfloat16", AVX2, "needs a processor with AMX"),
        (of(BLOCKS, method="fp8"), "bfloat16", AMX, None),
        (of(method="bitsandbytes"), "float32", AMX, "quantized with bitsandbytes: vLLM has no kernel"),
        (of(method="bitsandbytes"), "float32", None, None),
        (of(replace(INT4, bits=8), method="gptq"), "bfloat16", None, None),
    ],
)
def test_what_vllm_cannot_run_is_rejected_with_the_reason(
    quantization: Quantization, dtype: str, cpu: CpuKernels | None, complaint: str | None
) -> None:
    if complaint is None:
        check_quantization(quantization, dtype=dtype, cpu=cpu)
        return
    with pytest.raises(UnsupportedModel, match=complaint) as caught:
        check_quantization(quantization, dtype=dtype, cpu=cpu)
    assert caught.value.param == "model"


def round_inputs(reference: TransformersEngine, rounded: Callable[[Tensor], Tensor]) -> None:
    """Make the projections of the reference round their inputs, as kernels for quantized inputs do."""
    for name, module in reference._model.model.named_modules():
        if isinstance(module, nn.Linear) and name.endswith("_proj"):
            module.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]), *inputs[1:]))


def rms(values: Sequence[Any]) -> float:
    """Return the root mean square of all numbers in arrays of different lengths."""
    return float(np.sqrt(np.mean(np.square(np.concatenate([np.ravel(each) for each in values])))))


@pytest.mark.engine
@pytest.mark.parametrize(
    ("form", "family", "dtype", "tolerance"),
    [
        pytest.param("int8", "qwen2", "bfloat16" if HERE.amx else "float32", 0.15, marks=needs_vnni),
        ("fp8", "llama", "float32", 0.02),
        pytest.param("int4", "llama", "bfloat16", 0.15, marks=needs_avx512),
        pytest.param("gptq", "llama", "bfloat16", 0.15, marks=needs_avx512),
        pytest.param("awq", "llama", "bfloat16", 0.15, marks=needs_avx512),
    ],
)
def test_a_quantized_model_is_steered_and_recorded_as_the_reference_with_its_rounded_weights(
    form: Format, family: Family, dtype: str, tolerance: float, tmp_path: Path
) -> None:
    """The root mean square of the differences is far below that of what the interventions change.

    A value next to the border between two rounded ones may be rounded differently, and the reference computes in
    float32 where vLLM computes in 16 bits.
    """
    folder, rounded_folder = quantized_model(form, tmp_path, family=family)

    async def check() -> None:
        reference = TransformersEngine(rounded_folder, open_identifier=ChecksumIdentifier)
        if (rounded := rounded_inputs(form)) is not None:
            round_inputs(reference, rounded)
        expected = await run_load(reference)
        await reference.close()
        engine = await VllmEngine.open(folder, dtype=dtype, settings=SMALL, open_identifier=ChecksumIdentifier)
        try:
            results = await run_load(engine)
        finally:
            await engine.close()
        unsteered = expected["scored"][INTERVENTIONS.index(None)]
        effects = [np.subtract(logprobs, unsteered) for logprobs in expected["scored"]]
        assert rms(effects) > 4 * tolerance, "the interventions change far more than the tolerance"
        for name in ("scored", "means", "residuals"):
            differences = [np.subtract(*pair) for pair in zip(results[name], expected[name], strict=True)]
            assert rms(differences) < tolerance, name
        counts = np.asarray(expected["counts"], dtype=np.float64)
        assert np.abs(results["counts"] - counts).sum() < 0.03 * counts.sum()

    asyncio.run(check())


@pytest.mark.engine
def test_a_checkpoint_that_vllm_cannot_run_here_is_rejected_before_it_is_loaded(tmp_path: Path) -> None:
    folder, _ = quantized_model("gptq", tmp_path)
    assert read_quantization(folder) is not None
    reason = r"GPTQ \(4-bit integers in groups of 32\): .*(--dtype bfloat16|needs a processor with AVX-512)"
    with pytest.raises(UnsupportedModel, match=reason):
        asyncio.run(VllmEngine.open(folder, settings=SMALL))
