from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.domain.neurons.layer_widths import LayerWidths, Width
from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import fingerprint, read_model_folder, read_widths, supports_chat


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"num_hidden_layers": 3, "intermediate_size": 96}))
    for name in ("generation_config.json", "tokenizer.json", "model.safetensors"):
        (model / name).write_bytes(name.encode())
    return model


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"),
        *("chat_template.jinja", "chat_template.json", "additional_chat_templates/tools.jinja", "spiece.model"),
        *("sentencepiece.bpe.model", "params.json", "tekken.json", "qwen.tiktoken", "vocab.txt", "modeling_own.py"),
    ],
)
def test_the_fingerprint_is_of_every_byte_that_decides(folder: Path, name: str) -> None:
    without = fingerprint(folder)
    if not (folder / name).exists():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())
        assert fingerprint(folder) != without, "a file that was not there can change answers too"
    before = fingerprint(folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert fingerprint(folder) != before


def test_the_fingerprint_is_not_of_the_place_or_the_readme(folder: Path, tmp_path: Path) -> None:
    before = fingerprint(folder)
    for name in (
        *("README.md", "LICENSE", "LICENSE.txt", "Notice", ".gitattributes", "USE_POLICY.md", "picture.PNG"),
        *("pytorch_model.bin", "model.gguf", "consolidated.safetensors", "consolidated.00.pth", "trainer_state.json"),
        "model.safetensors.index.json",
    ):
        (folder / name).write_text("about")
    for name in ("onnx/model.onnx", "original/params.json", ".cache/huggingface/download.lock"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("beside")
    assert fingerprint(folder.rename(tmp_path / "elsewhere")) == before


def test_the_fingerprint_of_the_bundled_model_is_what_its_cells_were_computed_with() -> None:
    assert fingerprint(ATLAS_MODEL) == "ddcb37db800117fc03a2244c048d3b788c09290a588697e002207846b34fe3c9"


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(InvalidRequest, match=r"is not a (complete )?model folder") as caught:
        fingerprint(folder)
    assert caught.value.param == "model"


def test_the_shape_is_the_configs(folder: Path) -> None:
    shape = read_model_folder(folder)
    assert (shape.name, shape.layers, shape.width) == ("model", 3, 96)
    assert shape.fingerprint == fingerprint(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"text_config": config}))
    assert read_model_folder(folder, name="tiny").layers == 3


def test_the_shape_of_a_multimodal_model_is_its_language_models(folder: Path) -> None:
    text = {"model_type": "gemma3_text", "num_hidden_layers": 34, "intermediate_size": 10240}
    vision = {"model_type": "siglip_vision_model", "num_hidden_layers": 27, "intermediate_size": 4304}
    config = {"model_type": "gemma3", "text_config": text, "vision_config": vision}
    (folder / "config.json").write_text(json.dumps(config))
    assert (read_model_folder(folder).layers, read_model_folder(folder).width) == (34, 10240)
    flat = {"model_type": "qwen2_5_vl", "num_hidden_layers": 36, "intermediate_size": 11008}
    (folder / "config.json").write_text(json.dumps({**flat, "vision_config": {"depth": 32, "intermediate_size": 3420}}))
    assert (read_model_folder(folder).layers, read_model_folder(folder).width) == (36, 11008)


_QWEN_3_MOE = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 4,
    "intermediate_size": 20,
    "moe_intermediate_size": 6,
    "num_experts": 8,
}
_NEMOTRON_H = {"model_type": "nemotron_h", "intermediate_size": 12}
_LFM2 = {"model_type": "lfm2", "num_hidden_layers": 2}
_GEMMA_4 = {"num_hidden_layers": 3, "intermediate_size": 12, "use_double_wide_mlp": True}


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_inner": None}, (2, 32)),
        ({"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_inner": 20}, (2, 20)),
        ({"model_type": "gpt2", "n_layer": 2, "n_embd": 8}, (2, 32)),
        ({"model_type": "gptj", "n_layer": 2, "n_embd": 8, "n_inner": None}, (2, 32)),
        ({"model_type": "bloom", "n_layer": 2, "hidden_size": 8}, (2, 32)),
        ({"model_type": "falcon", "num_hidden_layers": 2, "hidden_size": 8}, (2, 32)),
        ({"model_type": "opt", "num_hidden_layers": 2, "hidden_size": 8, "ffn_dim": 12}, (2, 12)),
        ({"model_type": "exaone", "num_layers": 2, "intermediate_size": 12}, (2, 12)),
        ({"model_type": "gemma3n_text", "num_hidden_layers": 2, "intermediate_size": [12, 12]}, (2, 12)),
        ({"model_type": "gemma3n_text", "num_hidden_layers": 2, "intermediate_size": [12, 20]}, (2, (12, 20))),
        ({**_GEMMA_4, "num_kv_shared_layers": 1}, (3, (12, 12, 24))),
        ({**_GEMMA_4, "num_kv_shared_layers": 0}, (3, 12)),
        ({**_GEMMA_4, "num_kv_shared_layers": 3}, (3, 12)),
        (
            {"model_type": "mixtral", "num_hidden_layers": 2, "intermediate_size": 12, "num_local_experts": 4},
            (2, 48),
        ),
        ({"model_type": "olmoe", "num_hidden_layers": 2, "intermediate_size": 6, "num_experts": 8}, (2, 48)),
        (_QWEN_3_MOE, (4, 48)),
        ({**_QWEN_3_MOE, "mlp_only_layers": [2], "decoder_sparse_step": 1}, (4, (48, 48, 20, 48))),
        ({**_QWEN_3_MOE, "decoder_sparse_step": 2}, (4, (20, 48, 20, 48))),
        ({**_NEMOTRON_H, "layers_block_type": ["linear_attention", "mlp", "full_attention"]}, (3, (0, 12, 0))),
        ({**_NEMOTRON_H, "hybrid_override_pattern": "M-*-", "num_hidden_layers": 4}, (4, (0, 12, 0, 12))),
        ({**_LFM2, "intermediate_size": 12288, "block_multiple_of": 256}, (2, 8192)),  # LFM2 1.2B
        ({**_LFM2, "block_ff_dim": 6656, "block_ffn_dim_multiplier": 1.0}, (2, 4608)),  # LFM2 350M
        ({**_LFM2, "intermediate_size": 12, "block_auto_adjust_ff_dim": False}, (2, 12)),
        ({**_QWEN_3_MOE, "model_type": "qwen2_moe", "shared_expert_intermediate_size": 14}, (4, 62)),
        (
            {
                **_QWEN_3_MOE,
                "model_type": "glm4_moe",
                "n_routed_experts": 8,
                "n_shared_experts": 2,
                "first_k_dense_replace": 1,
            },
            (4, (20, 60, 60, 60)),
        ),
        ({**_QWEN_3_MOE, "model_type": "gemma4_text", "enable_moe_block": True}, (4, 68)),
        ({**_QWEN_3_MOE, "model_type": "gemma4_text", "enable_moe_block": False}, (4, 20)),
        (
            {
                "model_type": "granitemoehybrid",
                "num_hidden_layers": 2,
                "num_local_experts": 4,
                "intermediate_size": 6,
                "shared_intermediate_size": 10,
            },
            (2, 34),
        ),
        (
            {
                **_NEMOTRON_H,
                "hybrid_override_pattern": "ME-*",
                "n_routed_experts": 4,
                "moe_intermediate_size": 6,
                "n_shared_experts": 1,
                "moe_shared_expert_intermediate_size": 10,
            },
            (4, (0, 34, 12, 0)),
        ),
        (  # Granite 4.0 H 1B
            {"num_hidden_layers": 40, "intermediate_size": 4096, "shared_intermediate_size": 4096},
            (40, 4096),
        ),
        ({"num_hidden_layers": 2, "intermediate_size": 512, "shared_intermediate_size": 2048}, (2, 2048)),
    ],
)
def test_widths_are_read_in_their_familys_words(config: dict[str, Any], shape: tuple[int, Width]) -> None:
    assert read_widths(config) == LayerWidths(*shape)


def test_a_config_may_have_an_empty_text_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"num_hidden_layers": 2, "intermediate_size": 8, "text_config": null}')
    assert read_model_folder(folder).widths == LayerWidths(2, 8)


@pytest.mark.parametrize(
    "config",
    [
        "{}",
        "no json",
        "[" * 100_000,
        '{"num_hidden_layers": 2, "intermediate_size": [8, 16, 8]}',
        '{"num_hidden_layers": 2, "hidden_size": 8, "model_type": "llama"}',
        '{"model_type": "nemotron_h", "hybrid_override_pattern": "M*", "intermediate_size": 8}',
        '{"model_type": "nemotron_h", "intermediate_size": 8}',
        '{"model_type": "lfm2", "num_hidden_layers": 2, "intermediate_size": 8, "block_multiple_of": 0}',
        '{"model_type": "lfm2", "num_hidden_layers": 2, "intermediate_size": 1' + "0" * 400 + "}",
    ],
)
def test_a_config_without_a_shape_is_refused(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(InvalidRequest):
        read_model_folder(folder)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("chat_template.jinja", "{{ messages }}", True),
        ("tokenizer_config.json", '{"chat_template": "{{ messages }}"}', True),
        ("tokenizer_config.json", '{"chat_template": [{"name": "default", "template": "{{ messages }}"}]}', True),
        ("tokenizer_config.json", '{"chat_template": [{"name": "tool_use", "template": "{{ messages }}"}]}', False),
        ("tokenizer_config.json", '{"chat_template": null}', False),
        ("tokenizer_config.json", "[]", False),
        ("tokenizer_config.json", "{", False),
        ("chat_template.json", '{"chat_template": "{{ messages }}"}', True),
        ("README.md", "", False),
    ],
)
def test_a_model_with_a_default_template_can_be_sent_chats(
    folder: Path, name: str, content: str, expected: bool
) -> None:
    (folder / name).write_text(content)
    assert supports_chat(folder) is expected
