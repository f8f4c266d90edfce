"""Exports a model with an intervention folded into its weights: a plain checkpoint for engines that cannot steer.

Scaling the activation of a neuron by f has the same effect as scaling the weights that read it, one column of the MLP's
second projection. This also holds in a gated MLP, where the activation is multiplied by up in between. So `scale` can
be folded if it applies to all tokens; `add`, `set` and other scopes cannot.

The files of the weights are copied and then changed in place, tensor by tensor, so that little memory is needed.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest, UnsupportedModel
from ampsweep.files import sync_folder
from ampsweep.folders.model import CONFIG, fingerprint
from ampsweep.folders.weights import read_header, weight_files
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import Edits, require_neurons, resolve
from engine.steering.mlp_sites import language_models

CARD = "README.md"
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".py")
_LICENSES = ("LICENSE", "LICENCE", "NOTICE", "COPYING")

_PROJECTIONS = {
    **dict.fromkeys(
        (
            *("llama", "mistral", "ministral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo"),
            *("olmo2", "granite", "cohere", "cohere2", "stablelm", "smollm3", "exaone4", "seed_oss", "ernie4_5"),
            *("qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3_vl_text", "gemma4_text"),
            *(
                "apertus",
                "nemotron",
                "olmo_hybrid",
                "qwen3_5_text",
                "olmo3",
                "hunyuan_v1_dense",
                "glm",
                "glm4",
                "ministral3",
            ),
            *("arcee", "helium", "hyperclovax", "minicpm3", "vaultgemma", "jais2"),
            *("cwm", "granite_swa", "glm4v_text", "youtu"),
        ),
        "mlp.down_proj",
    ),
    **dict.fromkeys(("gpt_neox", "bloom", "falcon"), "mlp.dense_4h_to_h"),
    **dict.fromkeys(("gpt2", "gpt_bigcode", "gpt_neo", "starcoder2"), "mlp.c_proj"),
    **dict.fromkeys(("opt", "xglm"), "fc2"),
    **dict.fromkeys(("gptj", "codegen"), "mlp.fc_out"),
    **dict.fromkeys(("phi", "nanochat"), "mlp.fc2"),
    **dict.fromkeys(("falcon_h1", "bamba"), "feed_forward.down_proj"),
    "granitemoehybrid": "shared_mlp.output_linear",
    "lfm2": "feed_forward.w2",
    "nemotron_h": "mixer.down_proj",
}
"""The projection that reads the activations of a layer, by the `model_type` of the config or of its `text_config`."""
_TRANSPOSED = {"gpt2"}
"""Model types whose projection has the shape [neurons, hidden], so that a neuron is a row."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The folder of an exported model, its fingerprint, and how many neurons of how many layers were scaled."""

    folder: Path
    fingerprint: str
    neurons: int
    layers: int


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """One tensor of a safetensors file; `start` is the offset of its first byte."""

    file: str
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]


def export(folder: Path, neurons: NeuronSet, intervention: Intervention, out: Path) -> Exported:
    """Write a model with the intervention folded into its weights. If it fails, nothing is written.

    Each scaled weight is computed in float32 and rounded once to the dtype of the checkpoint.

    Args:
        folder: The model, a folder in Hugging Face format.
        neurons: A neuron set of the model.
        intervention: The intervention, a `scale` at all tokens.
        out: The folder to write, which must not exist.

    Returns:
        The exported model.

    Raises:
        InvalidRequest: The intervention cannot be folded, the neuron set does not fit the model, or `out` exists.
        NoNeurons: The intervention would change no neuron.
        UnsupportedModel: The model type or the dtype of its weights is not supported.
    """
    edits = _foldable_edits(intervention, neurons)
    source_fingerprint = fingerprint(folder)
    if out.exists():
        raise InvalidRequest(f"{out} already exists; name a new folder", param="out")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    files = {path.name for path in weight_files(folder)}
    tensors, axis = _projections(folder, files, config, neurons)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for source in sorted(folder.iterdir()):
            if source.name in files or (source.is_file() and _is_copied(source.name)):
                shutil.copyfile(source, temporary / source.name)
        for layer, tensor in tensors.items():
            entries = edits.entries(layer)
            _scale(temporary / tensor.file, tensor, axis, edits.indices[entries], edits.mult[entries])
        counts = np.diff(edits.offsets)
        text = _card(folder.name, source_fingerprint, neurons, intervention, counts)
        (temporary / CARD).write_text(text, encoding="utf-8")
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(temporary)
        temporary.chmod(0o755)
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(out.parent)
    return Exported(
        folder=out, fingerprint=fingerprint(out), neurons=int(counts.sum()), layers=int(np.count_nonzero(counts))
    )


def _foldable_edits(intervention: Intervention, neurons: NeuronSet) -> Edits:
    """Return the edits of an intervention that only scales; see `export` for the errors."""
    for param, op in (
        ("intervention.op", intervention.op),
        ("intervention.non_target.op", None if intervention.non_target is None else intervention.non_target.op),
        ("intervention.source.op", None if intervention.source is None else intervention.source.op),
    ):
        if op not in ("scale", None):
            message = f"op {op} cannot be folded into weights, only scale; export a scale,"
            raise InvalidRequest(f"{message} or steer with an engine of Ampsweep", param=param)
    if (field := intervention.text_field) is not None:
        message = f"weights cannot depend on the text of an answer; leave {field} out,"
        raise InvalidRequest(f"{message} or steer with an engine of Ampsweep", param=f"intervention.{field}")
    if intervention.scope != "all":
        message = f"scope {intervention.scope} cannot be folded into weights, which are the same for every token"
        raise InvalidRequest(
            f"{message}; give scope all, or steer with an engine of Ampsweep", param="intervention.scope"
        )
    if intervention.tokens is not None:
        message = (
            f"tokens {intervention.tokens.label} cannot be folded into weights, which are the same for every token"
        )
        raise InvalidRequest(
            f"{message}; leave tokens out, or steer with an engine of Ampsweep", param="intervention.tokens"
        )
    edits = resolve(intervention, neurons)
    require_neurons(edits, intervention, neurons)
    return edits


def _is_copied(name: str) -> bool:
    """Whether to copy a file. The files of Mistral's own format are left out, because their weights are not scaled."""
    mistral = name == "params.json" or name.startswith("consolidated")
    return not mistral and (name.endswith(_COPIED) or name.upper().startswith(_LICENSES))


def _projections(
    folder: Path, files: set[str], config: dict[str, Any], neurons: NeuronSet
) -> tuple[dict[int, _Tensor], int]:
    """Return the second projection of each layer, and the axis of the neurons in it."""
    model_type = str({**config, **(config.get("text_config") or {})}.get("model_type"))
    if model_type not in _PROJECTIONS:
        supported = ", ".join(sorted(_PROJECTIONS))
        raise UnsupportedModel(f"model_type {model_type} cannot be exported; supported: {supported}", param="model")
    path = re.compile(rf"(|.*\.)(?:layers|h)\.(\d+)\.{re.escape(_PROJECTIONS[model_type])}\.weight")
    axis = 0 if model_type in _TRANSPOSED else 1
    lists: dict[str, dict[int, _Tensor]] = {}
    for file in sorted(files):
        start, header = read_header(folder / file)
        for name, entry in header.items():
            if match := path.fullmatch(name):
                if entry["dtype"] not in _DTYPES:
                    message = f"{name} has dtype {entry['dtype']}; only {', '.join(_DTYPES)} can be scaled"
                    raise UnsupportedModel(message, param="model")
                lists.setdefault(match[1], {})[int(match[2])] = _Tensor(
                    file=file,
                    start=start + entry["data_offsets"][0],
                    dtype=_DTYPES[entry["dtype"]],
                    shape=tuple(entry["shape"]),
                )
    tensors = {layer: tensor for prefix in language_models(lists) for layer, tensor in lists[prefix].items()}
    widths = {layer: tensor.shape[axis] for layer, tensor in tensors.items()}
    if widths != {layer: width for layer, width in enumerate(neurons.widths.by_layer) if width}:
        raise InvalidRequest(
            f"neuron set {neurons.id} is for {neurons.widths}; the model has {len(tensors)} layers of "
            f"{', '.join(map(str, sorted(set(widths.values())))) or 'no'} neurons that can be scaled",
            param="neurons",
        )
    return tensors, axis


def _scale(path: Path, tensor: _Tensor, axis: int, indices: np.ndarray, factors: np.ndarray) -> None:
    """Multiply the weights of the neurons `indices` by their factors, in place in the file."""
    if not len(indices):
        return
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        count = int(np.prod(tensor.shape))
        weights = torch.frombuffer(view, dtype=tensor.dtype, count=count, offset=tensor.start).view(tensor.shape)
        chosen = torch.from_numpy(indices.astype(np.int64))
        shape = (-1, 1) if axis == 0 else (1, -1)
        scaled = weights.index_select(axis, chosen).float() * torch.from_numpy(factors).reshape(shape)
        weights.index_copy_(axis, chosen, scaled.to(tensor.dtype))
        del weights
        view.flush()


def _card(
    name: str, source_fingerprint: str, neurons: NeuronSet, intervention: Intervention, counts: np.ndarray
) -> str:
    """Return the model card; `counts` are the scaled neurons of each layer."""
    rows = "\n".join(f"| {layer} | {count} |" for layer, count in enumerate(counts.tolist()) if count)
    return f"""# {name}, with an intervention folded into its weights

This is `{name}` (fingerprint `{source_fingerprint}`) with the activations of {int(counts.sum())} MLP neurons scaled at
every token. The factors are folded into the second projection of each MLP. The model runs wherever `{name}` runs.

Each scaled weight was rounded once to the dtype of the checkpoint. In float32, answers equal those of the steered model
up to float32 rounding; in bfloat16 and float16 they differ from them by that rounding.

- neuron set `{neurons.id}`, selected by method `{neurons.method}`
- intervention:

```json
{json.dumps(intervention.to_dict(), indent=2, ensure_ascii=False)}
```

| layer | neurons scaled |
|---|---|
{rows}
"""
