"""Loads a Hugging Face model, installs hooks and runs it one sequence at a time. Synchronous; for one thread."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from ampsweep.errors import InvalidRequest, UnsupportedModel
from ampsweep.folders.model import fingerprint
from engine.base import EngineInfo
from engine.capture.selection import NeuronSelection
from engine.chat_template import read_chat_template
from engine.checkpoint import auto_model, check_checkpoint, check_tokenizer, read_quantization, warn_without_bos
from engine.detokenizer import TokenTexts
from engine.hf.experts import Part
from engine.hf.hooks import Hooks
from engine.steering.edits import Edits
from engine.steering.thinking import markers_of
from engine.steering.token_scope import EVERY_TOKEN, TokenScope
from engine.tokenization import TextEncoder

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_WITHOUT_LOGIT_SCALE = ("AyaVisionForConditionalGeneration", "Cohere2VisionForConditionalGeneration")
"""Classes of Transformers that do not multiply their logits by the `logit_scale` that their language model has."""


class TransformersModel:
    """The model of a folder, its hooks and its tokenizer."""

    def __init__(self, folder: Path, *, name: str, dtype: str, max_model_len: int | None, device: str) -> None:
        """Load the model, install hooks, and check with one token that every layer calls its hooks once.

        Raises:
            InvalidRequest: The dtype is unknown, or the folder has no model.
            UnsupportedModel: The weights are quantized, or the hooks cannot be installed or are not called.
        """
        if dtype not in _DTYPES:
            raise InvalidRequest(f"dtype must be one of {', '.join(_DTYPES)}; got {dtype!r}", param="dtype")
        model_fingerprint = fingerprint(folder)
        _require_unquantized(folder, name)
        check_checkpoint(folder)
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        check_tokenizer(self.tokenizer, name)
        warn_without_bos(self.tokenizer, folder)
        read_chat_template(self.tokenizer, folder)
        self.texts = TokenTexts(self.tokenizer)
        self.thinking = markers_of(self.tokenizer.get_vocab())
        auto_class = auto_model(transformers.AutoConfig.from_pretrained(folder)) or transformers.AutoModelForCausalLM
        self.model: Any = auto_class.from_pretrained(
            folder, dtype=_DTYPES[dtype], attn_implementation="eager", experts_implementation="eager"
        )
        self.model.eval().to(device)
        self._text_config: Any = self.model.config.get_text_config()
        self.encoder = TextEncoder(self.tokenizer, embedding_rows=self.model.get_input_embeddings().num_embeddings)
        self._can_leave_logits_out = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        self.device = device
        self.hooks = Hooks(self.model)
        self.info = EngineInfo(
            kind="transformers",
            model=name,
            fingerprint=model_fingerprint,
            model_class=type(self.model).__name__,
            layers=self.hooks.widths.layers,
            width=self.hooks.widths.width,
            hidden_size=self._text_config.hidden_size,
            dtype=dtype,
            max_model_len=max_model_len or self._context_length(),
            versions={"torch": torch.__version__, "transformers": transformers.__version__},
        )
        self._check_hooks()

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end an answer: the tokenizer's EOS token and those of the generation config."""
        configured = self.model.generation_config.eos_token_id
        listed = configured if isinstance(configured, list) else [configured]
        return frozenset(token for token in [*listed, self.tokenizer.eos_token_id] if token is not None)

    def logits(
        self,
        ids: Sequence[int],
        *,
        start: int = 0,
        cache: Any = None,
        edits: Edits | None = None,
        scope: TokenScope = EVERY_TOKEN,
        last: int = 0,
    ) -> tuple[Tensor, Any]:
        """Run tokens through the model and return their logits.

        Args:
            ids: Token ids, at the positions from `start` on.
            start: Position of the first token; the tokens before it are in `cache`.
            cache: The KV cache of the tokens before `start`, None for none.
            edits: The edits to apply, None for none.
            scope: The tokens that they are applied to.
            last: How many tokens at the end logits are needed of, 0 for all. Those of a long prompt can take gigabytes.

        Returns:
            The logits of the token after each, float32 [T or `last`, vocabulary], and the cache with the tokens added.
        """
        strengths = torch.from_numpy(scope.strengths(np.arange(start, start + len(ids)))).to(self.device)
        with torch.inference_mode(), self.hooks.steer(edits, strengths):
            tokens = torch.tensor([list(ids)], device=self.device)
            wanted = {"logits_to_keep": last} if self._can_leave_logits_out else {}
            output = self.model(input_ids=tokens, past_key_values=cache, use_cache=True, **wanted)
        logits = output.logits[0, -last:].float()
        if self.info.model_class in _WITHOUT_LOGIT_SCALE:
            logits = logits * self._text_config.logit_scale
        return logits, output.past_key_values

    def capture(
        self,
        ids: Sequence[int],
        neurons: NeuronSelection,
        *,
        edits: Edits | None = None,
        scope: TokenScope = EVERY_TOKEN,
    ) -> tuple[NDArray[np.float32], ...]:
        """Run a sequence and return activations before they are edited, for each layer of `neurons` float32 [T, n].

        See `logits` for the other arguments.
        """
        chosen = dict(zip(neurons.layers, neurons.indices, strict=True))
        values = {layer: np.empty((len(ids), len(indices)), np.float32) for layer, indices in chosen.items()}

        def see(part: Part, activations: Tensor) -> None:
            if part.layer in chosen:
                indices = chosen[part.layer]
                places = np.flatnonzero((indices >= part.first) & (indices < part.end))
                columns = torch.from_numpy(indices[places] - part.first).to(activations.device)
                values[part.layer][:, places] = activations[:, columns].float().cpu().numpy()

        strengths = torch.from_numpy(scope.strengths(np.arange(len(ids)))).to(self.device)
        with torch.inference_mode(), self.hooks.steer(edits, strengths, see=see):
            self._run_layers(ids)
        return tuple(values.values())

    def observe(self, ids: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
        """Run a sequence without steering.

        Returns:
            The activations of each layer that has an MLP, [T, F], and the residual stream at each layer's output,
            [T, H].
        """
        activations: dict[int, Tensor] = {}
        residuals: dict[int, Tensor] = {}
        with torch.inference_mode(), self.hooks.watch(activations.__setitem__, residuals.__setitem__):
            self._run_layers(ids)
        return [activations[layer] for layer in sorted(activations)], [residuals[layer] for layer in sorted(residuals)]

    def _run_layers(self, ids: Sequence[int]) -> None:
        """Run a sequence through the model without its head: the logits of a long text can take gigabytes."""
        self.model.base_model(input_ids=torch.tensor([list(ids)], device=self.device), use_cache=False)

    def _context_length(self) -> int:
        """Return the context length of the config; BLOOM has no position table and was trained with 2048 tokens."""
        return int(getattr(self._text_config, "max_position_embeddings", 2048))

    def _check_hooks(self) -> None:
        passed: list[tuple[int, tuple[int, ...]]] = []
        returned: list[tuple[int, tuple[int, ...]]] = []
        with (
            torch.inference_mode(),
            self.hooks.watch(
                lambda layer, activations: passed.append((layer, tuple(activations.shape))),
                lambda layer, residual: returned.append((layer, tuple(residual.shape))),
            ),
        ):
            self.model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=self.device), use_cache=False)
        for seen, sizes, what in (
            (passed, self.info.widths.by_layer, "calls its activation function once"),
            (returned, [self.info.hidden_size] * self.info.layers, "runs once and returns the residual stream"),
        ):
            if seen != [(layer, (1, size)) for layer, size in enumerate(sizes) if size]:
                message = f"{self.info.model_class} cannot be steered: not every layer {what}"
                raise UnsupportedModel(message, param="model")


def _require_unquantized(folder: Path, name: str) -> None:
    """Raise UnsupportedModel if weights are quantized: Transformers needs other packages and mostly a GPU for them."""
    if (quantization := read_quantization(folder)) is not None:
        raise UnsupportedModel(
            f"the transformers engine does not load quantized weights; those of {name} are quantized with "
            f"{quantization}; use --engine vllm, or the checkpoint without quantization",
            param="model",
        )
