"""How the config of a multimodal family wraps that of its language model, with the smallest vision tower that works.

`benchmarks.models.families` describes the language models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoConfig

_TOWER: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 80, "num_attention_heads": 2, "num_hidden_layers": 2}
_SIGLIP = {**_TOWER, "model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14}
_QWEN = {"hidden_size": 64, "intermediate_size": 80, "num_heads": 2, "depth": 2, "out_hidden_size": 64}
_GLM = {"hidden_size": 64, "intermediate_size": 80, "num_heads": 2, "depth": 2, "out_hidden_size": 64}


@dataclass(frozen=True, kw_only=True)
class Wrapper:
    """The config of a multimodal family, without its language model's settings.

    Attributes:
        text_type: `model_type` of the language model.
        vision: Settings of the vision tower.
        settings: Settings of the whole model.
    """

    text_type: str
    vision: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def config(self, model_type: str, text: Mapping[str, Any]) -> Any:
        """Return the config of a model of this family, whose language model has the settings `text`."""
        outer = {name: text[name] for name in ("tie_word_embeddings", "dtype")}
        return AutoConfig.for_model(
            model_type,
            text_config={"model_type": self.text_type, **text},
            vision_config=dict(self.vision),
            **outer,
            **self.settings,
        )


WRAPPERS: dict[str, Wrapper] = {
    "gemma3": Wrapper(text_type="gemma3_text", vision=_SIGLIP, settings={"mm_tokens_per_image": 4}),
    "gemma4": Wrapper(
        text_type="gemma4_text",
        vision={**_TOWER, "num_key_value_heads": 2, "head_dim": 32, "position_embedding_size": 64},
    ),
    "qwen2_5_vl": Wrapper(text_type="qwen2_5_vl_text", vision={**_QWEN, "fullatt_block_indexes": [1]}),
    "qwen3_vl": Wrapper(
        text_type="qwen3_vl_text", vision={**_QWEN, "deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    ),
    "qwen3_vl_moe": Wrapper(
        text_type="qwen3_vl_moe_text", vision={**_QWEN, "deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    ),
    "qwen2_vl": Wrapper(
        text_type="qwen2_vl_text",
        vision={"embed_dim": 64, "hidden_size": 64, "num_heads": 2, "depth": 2, "mlp_ratio": 2},
    ),
    "glm4v": Wrapper(text_type="glm4v_text", vision=_GLM),
    "glm4v_moe": Wrapper(text_type="glm4v_moe_text", vision=_GLM),
    "qwen3_5": Wrapper(text_type="qwen3_5_text", vision={**_QWEN, "num_position_embeddings": 16}),
    "mistral3": Wrapper(
        text_type="mistral",
        vision={**_TOWER, "model_type": "pixtral", "head_dim": 32, "image_size": 56, "patch_size": 14},
    ),
    "mistral3_moe": Wrapper(
        text_type="mistral4",
        vision={**_TOWER, "model_type": "pixtral", "head_dim": 32, "image_size": 56, "patch_size": 14},
    ),
    "aya_vision": Wrapper(text_type="cohere2", vision=_SIGLIP),
    "cohere2_vision": Wrapper(text_type="cohere2", vision=_SIGLIP, settings={"alignment_intermediate_size": 96}),
}
"""By `model_type`."""
