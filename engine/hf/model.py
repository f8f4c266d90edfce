"""A Hugging Face model that is loaded, hooked and run one sequence at a time. Synchronous; one thread at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from ampsweep.domain.intervention import Scope
from ampsweep.errors import InvalidRequest, UnsupportedModel
from ampsweep.folders.model import fingerprint
from engine.base import EngineInfo
from engine.checkpoint import check_checkpoint, check_tokenizer
from engine.detokenizer import TokenTexts
from engine.hf.hooks import Hooks
from engine.steering.edits import Edits
from engine.tokenization import TextEncoder

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TransformersModel:
    """The model of a folder and its tokenizer."""

    def __init__(self, folder: Path, *, name: str, dtype: str, max_model_len: int | None, device: str) -> None:
        """Load, hook, and check on one token that every layer's hook is passed once.

        Raises InvalidRequest for an unknown dtype or a folder without a model, UnsupportedModel where the hooks do not
        hold.
        """
        if dtype not in _DTYPES:
            raise InvalidRequest(f"dtype must be one of {', '.join(_DTYPES)}; got {dtype!r}", param="dtype")
        mark = fingerprint(folder)
        check_checkpoint(folder)
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        check_tokenizer(self.tokenizer, name)
        self.texts = TokenTexts(self.tokenizer)
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=_DTYPES[dtype], attn_implementation="eager"
        )
        self.model.eval().to(device)
        self.encoder = TextEncoder(self.tokenizer, embedding_rows=self.model.get_input_embeddings().num_embeddings)
        self.device = device
        self.hooks = Hooks(self.model)
        self.info = EngineInfo(
            kind="transformers",
            model=name,
            fingerprint=mark,
            model_class=type(self.model).__name__,
            layers=self.hooks.layers,
            width=self.hooks.width,
            dtype=dtype,
            max_model_len=max_model_len or self._context_length(),
            versions={"torch": torch.__version__, "transformers": transformers.__version__},
        )
        self._check_hooks()

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end an answer: the tokenizer's EOS and those of the generation config."""
        configured = self.model.generation_config.eos_token_id
        listed = configured if isinstance(configured, list) else [configured]
        return frozenset(token for token in [*listed, self.tokenizer.eos_token_id] if token is not None)

    def logits(
        self,
        ids: Sequence[int],
        *,
        start: int = 0,
        prompt_tokens: int,
        cache: Any = None,
        edits: Edits | None = None,
        scope: Scope = "all",
    ) -> tuple[Tensor, Any]:
        """Run the tokens at the positions from `start` on, after those in `cache`, and return what they predict.

        Returns the logits float32 [T, vocabulary] of the token after each, and the cache with these tokens.
        Tokens at positions below `prompt_tokens` are of the prompt, the others generated.
        """
        position = torch.arange(start, start + len(ids), device=self.device)
        chosen = {
            "all": torch.ones_like(position, dtype=torch.bool),
            "prompt": position < prompt_tokens,
            "generation": position >= prompt_tokens,
        }[scope]
        with torch.inference_mode(), self.hooks.steer(edits, chosen):
            tokens = torch.tensor([list(ids)], device=self.device)
            output = self.model(input_ids=tokens, past_key_values=cache, use_cache=True)
        return output.logits[0].float(), output.past_key_values

    def activations(self, ids: Sequence[int]) -> list[Tensor]:
        """Run a sequence unsteered and return each layer's activations, [T, F]."""
        seen: dict[int, Tensor] = {}
        with torch.inference_mode(), self.hooks.watch(seen.__setitem__):
            self.model(input_ids=torch.tensor([list(ids)], device=self.device), use_cache=False)
        return [seen[layer] for layer in range(self.hooks.layers)]

    def _context_length(self) -> int:
        """Return the tokens the config allows; BLOOM's, whose positions have no table, was trained on so many."""
        return int(getattr(self.model.config, "max_position_embeddings", 2048))

    def _check_hooks(self) -> None:
        passed: list[tuple[int, tuple[int, ...]]] = []
        with torch.inference_mode(), self.hooks.watch(lambda layer, seen: passed.append((layer, tuple(seen.shape)))):
            self.model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=self.device), use_cache=False)
        if passed != [(layer, (1, self.hooks.width)) for layer in range(self.hooks.layers)]:
            raise UnsupportedModel(
                f"{self.info.model_class} cannot be steered: its layers do not each pass their activations once",
                param="model",
            )
