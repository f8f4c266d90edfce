"""Incomplete model folders are rejected before anything is loaded, and the error says what is missing."""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.errors import InvalidRequest
from ampsweep.folders.weights import weight_files
from engine.checkpoint import check_checkpoint, check_tokenizer, warn_without_bos
from engine.hf.engine import TransformersEngine
from tests.engine.tokenizers import byte_level

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ATLAS_MODEL, tmp_path / "model"))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = load_file(ATLAS_MODEL / WEIGHTS)
    return tensors


Break = Callable[[Path, dict[str, Tensor]], None]


def write(folder: Path, tensors: dict[str, Tensor], name: str = WEIGHTS) -> None:
    save_file(tensors, folder / name, metadata={"format": "pt"})


def shard(folder: Path, weights: dict[str, Tensor], *, files: int = 2, index: bool = True) -> None:
    (folder / WEIGHTS).unlink()
    names = sorted(weights)
    parts = [names[::2], names[1::2]]
    for part, file in list(zip(parts, SHARDS, strict=True))[:files]:
        write(folder, {name: weights[name] for name in part}, file)
    if index:
        whole = {name: file for part, file in zip(parts, SHARDS, strict=True) for name in part}
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": whole}))


def without_head(folder: Path, _: dict[str, Tensor]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))


def without_layer(folder: Path, weights: dict[str, Tensor]) -> None:
    write(folder, {name: tensor for name, tensor in weights.items() if ".layers.3.mlp." not in name})


def renamed(folder: Path, weights: dict[str, Tensor]) -> None:
    write(folder, {name.replace("model.layers", "model.decoder.layers"): tensor for name, tensor in weights.items()})


def with_another(folder: Path, weights: dict[str, Tensor]) -> None:
    write(folder, {**weights, "model.layers.0.mlp.more.weight": torch.zeros(2)})


def of_another_shape(folder: Path, weights: dict[str, Tensor]) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    write(folder, {**weights, name: weights[name][:, :-1].contiguous()})


def cut_short(folder: Path, _: dict[str, Tensor]) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def cut_in_its_header(folder: Path, _: dict[str, Tensor]) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])


def a_pointer(folder: Path, _: dict[str, Tensor]) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9713312\n")


def without_tokenizer(folder: Path, _: dict[str, Tensor]) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def pickled(folder: Path, weights: dict[str, Tensor]) -> None:
    (folder / WEIGHTS).unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def of_mistral(folder: Path, _: dict[str, Tensor]) -> None:
    (folder / WEIGHTS).rename(folder / "consolidated.safetensors")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (without_head, "lacks weights of its model: lm_head.weight;"),
        (without_layer, "lacks weights of its model: model.layers.3.mlp.down_proj.weight, "),
        (renamed, "lacks weights of its model: .* and [0-9]+ more"),
        (with_another, "do not belong to its model: model.layers.0.mlp.more.weight;"),
        (of_another_shape, "shape does not match its config.json: model.layers.1.mlp.down_proj.weight;"),
        (cut_short, "model.safetensors is truncated: it has [0-9]+ bytes, its header says [0-9]+"),
        (cut_in_its_header, "model.safetensors is not a safetensors file, or is truncated"),
        (a_pointer, "git lfs pull"),
        (without_tokenizer, "has no tokenizer; add the tokenizer files"),
        (pickled, "pytorch_model.bin; only safetensors are read. Convert it: python -c"),
        (of_mistral, "consolidated.safetensors.* download the Hugging Face files"),
        (lambda folder, weights: shard(folder, weights, files=1), f"{INDEX} names {SHARDS[1]}, which is not there"),
        (lambda folder, weights: shard(folder, weights, index=False), f"no {INDEX} to say what"),
        (lambda folder, weights: shard(folder, weights, files=1, index=False), f"no {INDEX} to say what"),
    ],
)
def test_an_incomplete_folder_is_rejected_with_what_it_lacks(
    folder: Path, weights: dict[str, Tensor], spoil: Break, complaint: str
) -> None:
    spoil(folder, weights)
    with pytest.raises(InvalidRequest) as caught:
        TransformersEngine(folder)
    assert re.search(complaint, caught.value.message), caught.value.message
    assert caught.value.param == "model"


def test_an_index_that_contradicts_the_files_is_rejected(folder: Path, weights: dict[str, Tensor]) -> None:
    shard(folder, weights)
    name = sorted(weights)[0]
    written = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({"weight_map": {**written["weight_map"], name: SHARDS[1]}}))
    with pytest.raises(InvalidRequest, match=f"has no file or a wrong file for {name}"):
        check_checkpoint(folder)
    (folder / INDEX).write_text(json.dumps(written))
    write(folder, {**load_file(folder / SHARDS[1]), name: weights[name]}, SHARDS[1])
    with pytest.raises(InvalidRequest, match=f"{name} is in {SHARDS[0]} and in {SHARDS[1]}"):
        check_checkpoint(folder)


def test_two_sets_of_weights_are_rejected(folder: Path, weights: dict[str, Tensor]) -> None:
    shard(folder, weights)
    write(folder, weights)
    with pytest.raises(InvalidRequest, match="two sets of weights"):
        check_checkpoint(folder)


def test_a_complete_folder_passes_in_one_file_or_several(folder: Path, weights: dict[str, Tensor]) -> None:
    check_checkpoint(folder)
    shard(folder, weights)
    check_checkpoint(folder)
    assert [path.name for path in weight_files(folder)] == list(SHARDS)


def test_weights_in_another_format_are_ignored(folder: Path, weights: dict[str, Tensor]) -> None:
    write(folder, {"tok_embeddings.weight": torch.zeros(2)}, "consolidated.safetensors")
    check_checkpoint(folder)
    assert [path.name for path in weight_files(folder)] == [WEIGHTS]


class Same:
    """Like a tokenizer without its files: encodes every text as the same tokens."""

    def encode(self, _text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [1, 2]

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "a" * len(ids)


class Lower:
    """A tokenizer that changes case and spaces."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [ord(letter) for letter in text.lower()]

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return " ".join(map(chr, ids))


def test_a_tokenizer_must_tell_texts_apart() -> None:
    check_tokenizer(Lower(), "tiny")
    with pytest.raises(InvalidRequest, match="maps different texts to the same tokens: 'The capital"):
        check_tokenizer(Same(), "tiny")


def test_the_command_in_the_error_converts_a_pickled_checkpoint(folder: Path, weights: dict[str, Tensor]) -> None:
    pickled(folder, weights)
    with pytest.raises(InvalidRequest) as caught:
        check_checkpoint(folder)
    python, option, program = shlex.split(caught.value.message.partition("Convert it: ")[2])
    assert (python, option) == ("python", "-c")
    exec(program)
    converted = TransformersEngine(folder.with_name("model-safetensors"))
    assert converted.info.layers == TransformersEngine(ATLAS_MODEL).info.layers


def test_a_gguf_file_is_converted_by_name(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "model-q8.gguf")
    with pytest.raises(
        InvalidRequest, match=re.escape("from_pretrained('" + str(folder) + "', gguf_file='model-q8.gguf')")
    ):
        check_checkpoint(folder)


def test_tied_weights_may_be_stored_once_or_twice(folder: Path, weights: dict[str, Tensor]) -> None:
    assert "lm_head.weight" not in weights
    check_checkpoint(folder)
    write(folder, {**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()})
    check_checkpoint(folder)


@pytest.mark.parametrize(
    ("model_type", "says_it_adds", "template", "warning"),
    [
        ("gemma3_text", None, "$A", "models of type gemma3_text were trained with it"),
        ("gemma2", False, "$A", "models of type gemma2 were trained with it"),
        ("gemma3_text", None, "<s> $A", None),
        ("llama", True, "$A", "its tokenizer_config.json says it was trained with it"),
        ("llama", True, "<s> $A", None),
        ("qwen2", False, "$A", None),
        ("llama", None, "$A", None),
    ],
)
def test_a_tokenizer_that_lost_its_bos_is_named(
    model_type: str,
    says_it_adds: bool | None,
    template: str,
    warning: str | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": says_it_adds}))
    with caplog.at_level(logging.WARNING, logger="engine.checkpoint"):
        warn_without_bos(byte_level(template=template), tmp_path)
    assert caplog.messages == [] if warning is None else warning in caplog.text
