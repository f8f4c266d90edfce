"""A model with an intervention folded into its weights: a plain checkpoint, for engines that know nothing of steering.

Scaling a neuron's activation by f is scaling by f the weights that read it, a column of the MLP's second projection,
whether the activation is multiplied by a gate's other half before or not. So `scale` can be folded, at all tokens;
`add` and `set` cannot, and nothing that hangs on where a token stands.

The weights' files are copied as they are and then changed in place, tensor by tensor, so that memory stays small.
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

CARD = "README.md"
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".py")
_LICENSES = ("LICENSE", "LICENCE", "NOTICE", "COPYING")

_PROJECTIONS = {
    **dict.fromkeys(
        (
            *("llama", "mistral", "ministral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo"),
            *("olmo2", "granite", "cohere", "cohere2", "stablelm", "smollm3", "exaone4", "seed_oss", "ernie4_5"),
        ),
        "mlp.down_proj",
    ),
    **dict.fromkeys(("gpt_neox", "bloom", "falcon"), "mlp.dense_4h_to_h"),
    **dict.fromkeys(("gpt2", "gpt_bigcode", "starcoder2"), "mlp.c_proj"),
    **dict.fromkeys(("opt", "xglm"), "fc2"),
    **dict.fromkeys(("gptj", "codegen"), "mlp.fc_out"),
    "phi": "mlp.fc2",
}
"""What reads the activations of a layer, by the config's model_type."""
_TRANSPOSED = {"gpt2"}
"""Of these the weights are [neurons, hidden]: a neuron's are a row."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written: the folder, its fingerprint, and how many neurons of how many layers were scaled."""

    folder: Path
    fingerprint: str
    neurons: int
    layers: int


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """One tensor of a safetensors file: where its bytes begin, and what they are."""

    file: str
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]


def export(folder: Path, neurons: NeuronSet, intervention: Intervention, out: Path) -> Exported:
    """Write to `out`, which must not be there yet, the model of `folder` with the intervention folded in.

    Each scaled weight is computed in float32 and rounded once to the checkpoint's dtype, which is kept. Raises
    InvalidRequest for an intervention that cannot be folded, UnsupportedModel for a model whose projections are not
    known; then nothing is written.
    """
    edits = _foldable(intervention, neurons)
    before = fingerprint(folder)
    if out.exists():
        raise InvalidRequest(f"{out} is there already; name a folder that is not", param="out")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    files = {path.name for path in weight_files(folder)}
    tensors, axis = _projections(folder, files, config, neurons)
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for source in sorted(folder.iterdir()):
            if source.name in files or (source.is_file() and _goes_along(source.name)):
                shutil.copyfile(source, beside / source.name)
        for layer, tensor in tensors.items():
            own = edits.entries(layer)
            _scale(beside / tensor.file, tensor, axis, edits.indices[own], edits.mult[own])
        counts = np.diff(edits.offsets)
        text = _card(folder.name, before, neurons, intervention, counts)
        (beside / CARD).write_text(text, encoding="utf-8")
        for path in beside.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(beside)
        beside.chmod(0o755)
        beside.rename(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_folder(out.parent)
    return Exported(
        folder=out, fingerprint=fingerprint(out), neurons=int(counts.sum()), layers=int(np.count_nonzero(counts))
    )


def _foldable(intervention: Intervention, neurons: NeuronSet) -> Edits:
    """Return the factors as edits; raises InvalidRequest where there is more to it, NoNeurons for no factor."""
    for param, op in (
        ("intervention.op", intervention.op),
        ("intervention.non_target.op", None if intervention.non_target is None else intervention.non_target.op),
    ):
        if op not in ("scale", None):
            message = f"{op} gives an activation another value, which no weight that reads it can; export a scale, or"
            raise InvalidRequest(f"{message} steer with an engine of this package", param=param)
    if intervention.scope != "all":
        message = "weights are the same for every token: give scope all, or steer with an engine of this package"
        raise InvalidRequest(message, param="intervention.scope")
    edits = resolve(intervention, neurons)
    require_neurons(edits, intervention, neurons)
    return edits


def _goes_along(name: str) -> bool:
    """Whether a file is copied: not the config and index of weights in Mistral's own format, which are not scaled."""
    other = name == "params.json" or name.startswith("consolidated")
    return not other and (name.endswith(_COPIED) or name.upper().startswith(_LICENSES))


def _projections(
    folder: Path, files: set[str], config: dict[str, Any], neurons: NeuronSet
) -> tuple[dict[int, _Tensor], int]:
    """Return each layer's second projection, and which axis of it the neurons are."""
    kind = str(config.get("model_type"))
    if kind not in _PROJECTIONS:
        known = ", ".join(sorted(_PROJECTIONS))
        raise UnsupportedModel(f"model_type {kind} cannot be exported; known are {known}", param="model")
    path = re.compile(rf"(?:^|\.)(?:layers|h)\.(\d+)\.{re.escape(_PROJECTIONS[kind])}\.weight$")
    axis = 0 if kind in _TRANSPOSED else 1
    found: dict[int, _Tensor] = {}
    for file in sorted(files):
        start, header = read_header(folder / file)
        for name, entry in header.items():
            if match := path.search(name):
                if entry["dtype"] not in _DTYPES:
                    message = f"{name} is {entry['dtype']}; only weights of {', '.join(_DTYPES)} can be scaled"
                    raise UnsupportedModel(message, param="model")
                found[int(match[1])] = _Tensor(
                    file=file,
                    start=start + entry["data_offsets"][0],
                    dtype=_DTYPES[entry["dtype"]],
                    shape=tuple(entry["shape"]),
                )
    widths = {tensor.shape[axis] for tensor in found.values()}
    if sorted(found) != list(range(neurons.layers)) or widths != {neurons.width}:
        raise InvalidRequest(
            f"neuron set {neurons.id} is for {neurons.layers} layers of {neurons.width} neurons; the model has "
            f"{len(found)} layers of {', '.join(map(str, sorted(widths))) or 'no'} neurons that can be scaled",
            param="neurons",
        )
    return found, axis


def _scale(path: Path, tensor: _Tensor, axis: int, indices: np.ndarray, factors: np.ndarray) -> None:
    """Multiply the weights of the neurons `indices` of a tensor in a file by their factors, in place."""
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


def _card(name: str, mark: str, neurons: NeuronSet, intervention: Intervention, counts: np.ndarray) -> str:
    rows = "\n".join(f"| {layer} | {count} |" for layer, count in enumerate(counts.tolist()) if count)
    return f"""# {name}, with an intervention folded into its weights

This is `{name}` (fingerprint `{mark}`) in which the activations of {int(counts.sum())} MLP neurons are scaled at every
token, by their columns in the second projection of each MLP. It needs no patch: it runs wherever `{name}` runs.

Each scaled weight was rounded once to the dtype of the checkpoint. Float32 answers are those of the steered model to
the rounding of float32; in bfloat16 and float16 they differ from it by that rounding.

- neuron set `{neurons.id}`, found by {neurons.method}
- intervention:

```json
{json.dumps(intervention.to_dict(), indent=2, ensure_ascii=False)}
```

| layer | neurons scaled |
|---|---|
{rows}
"""
