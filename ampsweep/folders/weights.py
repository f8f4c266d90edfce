"""Finds the weight files of a model and checks that they are complete.

All engines read weights in the Hugging Face format only. Files in other formats (`consolidated.safetensors`, *.bin,
*.gguf) may be in the same folder and may hold other values; they are ignored. Does not interpret tensors and
imports no torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_LFS_POINTER = b"version https://git-lfs"
_MISTRAL = "consolidated"
_CONVERTED = ("F64", "F32", "F16", "BF16")
_AGAIN = "download the model again, all of its files"
_MAX_HEADER = 100_000_000
"""Longest header in bytes that safetensors reads."""
_TOWER = re.compile(
    r"^(?:model\.)?(?:visual|vision_tower|vision_model|vision_encoder|image_tower|video_tower|audio_tower|high_res_vision_\w+"
    r"|embed_vision|embed_audio|vision_embed_tokens|visual_embeddings_table|multi_modal_projector|vision_projection"
    r"|patch_merger|merger|connector|aligner|projector|mm_projector|mlp1|image_newline|query_tokens|qformer|language_projection"
    r"|vqmodel|generation_(?:embeddings|aligner|head))(?:\.|$)"
)
"""The weights of a multimodal model that read images or sound: its towers, and what connects them to the text. Janus
also has some that draw images (`vqmodel`, `generation_...`)."""
_LANGUAGE_MODEL = re.compile(r"^(?:model\.(?:language_model|text_model)\.|language_model\.model\.)")
"""Where Transformers 5 stores the language model (SmolVLM has `text_model`), and where Transformers 4 did."""


def safetensors_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder, sorted, without those in Mistral's format."""
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith(_MISTRAL))


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a model, sorted.

    Raises:
        InvalidRequest: The folder has no weights in the Hugging Face format, or two sets of them; a file that its
            index names is missing; or there are several files without an index. `param` is "model".
    """
    files = safetensors_files(folder)
    if (folder / INDEX).is_file():
        if (folder / SINGLE).is_file():
            message = f"it has two sets of weights, {SINGLE} and the shards of {INDEX}"
            raise _wrong(folder, f"{message}, and engines read different ones; remove one of them")
        names = sorted(set(_index(folder).values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise _wrong(folder, f"{INDEX} names {', '.join(missing)}, which is not there; {_AGAIN}")
        return [folder / name for name in names]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if files:
        names = [path.name for path in files]
        raise _wrong(folder, f"there is no {SINGLE}, and no {INDEX} to say what {', '.join(names)} hold; {_AGAIN}")
    raise _wrong(folder, _no_weights(folder))


def check_weight_files(folder: Path) -> None:
    """Check that the weight files are complete and match their index.

    Raises:
        InvalidRequest: A file is missing, truncated or a placeholder, or a tensor is in several files or in another
            file than the index says. `param` is "model".
    """
    file_of: dict[str, str] = {}
    for path in weight_files(folder):
        for tensor in read_header(path)[1]:
            if tensor in file_of:
                raise _wrong(folder, f"{tensor} is in {file_of[tensor]} and in {path.name}; {_AGAIN}")
            file_of[tensor] = path.name
    if (folder / INDEX).is_file():
        index = _index(folder)
        wrong = sorted(tensor for tensor in {*file_of, *index} if file_of.get(tensor) != index.get(tensor))
        if wrong:
            raise _wrong(folder, f"{INDEX} has no file or a wrong file for {wrong[0]}; {_AGAIN}")


def weight_bytes(folder: Path, *, dtype: str, text_only: bool = False) -> int:
    """Return the size in bytes of a model's weights once loaded in `dtype`, from the headers of their files.

    Floats of 16, 32 and 64 bits are converted to `dtype`; other (quantised) types keep their stored size.

    Args:
        folder: The folder of the model.
        dtype: "float32", "bfloat16" or "float16".
        text_only: Leave out the weights that read images or sound, as vLLM does.

    Raises:
        InvalidRequest: As `weight_files` and `read_header`.
    """
    size = 4 if dtype == "float32" else 2
    return sum(
        math.prod(entry["shape"]) * size
        if entry["dtype"] in _CONVERTED
        else entry["data_offsets"][1] - entry["data_offsets"][0]
        for path in weight_files(folder)
        for name, entry in read_header(path)[1].items()
        if not (text_only and is_tower(name))
    )


def is_tower(name: str) -> bool:
    """Return whether a weight of a multimodal model reads images or sound."""
    return _TOWER.match(name) is not None


def language_model_weight(name: str) -> str | None:
    """Return the name in the language model alone of a weight of a multimodal checkpoint; None if it is not part of it.

    Example:
        language_model_weight("model.language_model.norm.weight")  # "model.norm.weight"
    """
    return None if is_tower(name) else _LANGUAGE_MODEL.sub("model.", name).removeprefix("language_model.")


def read_header(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the offset in bytes of the tensors in a safetensors file, and its header: an entry per tensor name.

    Raises:
        InvalidRequest: The file is not complete. `param` is "model".
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
        if start == _LFS_POINTER:
            raise _wrong(path.parent, f"{path.name} is a pointer of Git LFS, not the weights; run: git lfs pull")
        length = int.from_bytes(start[:8], "little")
        file.seek(8)
        try:
            if length > min(_MAX_HEADER, size - 8):
                raise ValueError("its header is longer than the file")
            header: dict[str, Any] = json.loads(file.read(length))
            header.pop("__metadata__", None)
            if not all(entry.keys() >= {"dtype", "shape", "data_offsets"} for entry in header.values()):
                raise ValueError("its header describes a tensor incompletely")
            end = 8 + length + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            message = f"{path.name} is not a safetensors file, or is truncated; {_AGAIN}"
            raise _wrong(path.parent, message) from error
    if end > size:
        raise _wrong(path.parent, f"{path.name} is truncated: it has {size} bytes, its header says {end}; {_AGAIN}")
    return 8 + length, header


def _index(folder: Path) -> Mapping[str, str]:
    try:
        weight_map: Mapping[str, str] = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        if not all(isinstance(name, str) for name in weight_map.values()):
            raise TypeError("weight_map must map tensors to file names")
    except (AttributeError, RecursionError, OSError, ValueError, KeyError, TypeError) as error:
        raise _wrong(folder, f"{INDEX} cannot be read: {error}; {_AGAIN}") from error
    return weight_map


def _no_weights(folder: Path) -> str:
    others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".gguf"))
    if any(folder.glob(f"{_MISTRAL}*.safetensors")):
        return (
            "its weights are in Mistral's own format (consolidated.safetensors) alone; download the Hugging Face "
            "files of the same model too (model*.safetensors)"
        )
    if others:
        return (
            f"its weights are in {others[0]}; only safetensors are read. Convert it: {_conversion(folder, others[0])}"
        )
    return "it has no *.safetensors file"


def _conversion(folder: Path, weights: str) -> str:
    """Return the command that converts a folder, with weights in another format, to one with safetensors."""
    source, target = str(folder), f"{folder}-safetensors"
    option = f", gguf_file={weights!r}" if weights.endswith(".gguf") else ""
    return (
        'python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
        f'[c.from_pretrained({source!r}{option}).save_pretrained({target!r}) for c in (M, T)]"'
    )


def _wrong(folder: Path, message: str) -> InvalidRequest:
    return InvalidRequest(f"{folder.name} is not a complete model folder: {message}", param="model")
