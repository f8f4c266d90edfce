"""MetricX-24 (Juraska et al. 2024): a neural metric of translations, by the package of google-research/metricx."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ampsweep.errors import InvalidRequest
from jobs.evaluation.metric import Scores, Values
from jobs.evaluation.texts import StoredText
from worker.evaluation.translations import mean_by_model, require_package, scores_of, short_hash

MAX_TOKENS = 1536
"""Tokens of the longest input that the models were trained with; longer ones are cut."""
_WEIGHTS = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")


class MetricX:
    """A MetricX-24 model: the predicted error of a translation, from 0 (perfect) to 25. Lower is better.

    Args:
        model: The folder of the model.
        tokenizer: The folder of its mT5 tokenizer; default: that of the model.
        with_reference: Whether the reference is part of the input (`metricx`) or not (`metricx_qe`).

    Raises:
        InvalidRequest: The package is not installed, or there is no model in the folder.
    """

    def __init__(self, model: str, *, tokenizer: str | None = None, with_reference: bool = True) -> None:
        self.name = "metricx" if with_reference else "metricx_qe"
        self.needs = frozenset({"input", "reference"} if with_reference else {"input"})
        command = "pip install git+https://github.com/google-research/metricx"
        require_package("metricx24", metric=self.name, command=command)
        folder = Path(model)
        weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
        if weights is None:
            raise InvalidRequest(
                f"{model} is not the folder of a MetricX model: it has no weights", param="metricx-model"
            )
        self.identity = f"{folder.name} {short_hash(weights)}"
        self._tokenizer, self._model = _loaded(folder, Path(tokenizer) if tokenizer else folder)

    async def score(self, texts: Sequence[StoredText]) -> Scores:
        """Return the predicted error of each text as a translation of its input."""
        return scores_of(self.name, await asyncio.to_thread(lambda: [self._predict(text) for text in texts]))

    def summarize(self, texts: Sequence[StoredText], scores: Scores, rng: np.random.Generator) -> Values:
        """Return the mean over the texts."""
        return mean_by_model(self.name, texts, scores, self.identity, rng)

    def _predict(self, text: StoredText) -> float:
        """Return the model's prediction for one text, whose input is built as in the package's `predict`."""
        import torch

        prompt = f"source: {text.input} candidate: {text.text}"
        if "reference" in self.needs:
            prompt += f" reference: {text.reference}"
        encoded = self._tokenizer(prompt, max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
        without_eos = {name: encoded[name][:, :-1].to(self._model.device) for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            return float(self._model(**without_eos).predictions[0])


def _loaded(folder: Path, tokenizer: Path) -> tuple[Any, Any]:
    import torch
    from metricx24.models import MT5ForRegression
    from transformers import AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokens = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        model = MT5ForRegression.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        message = f"{folder} cannot be loaded as a MetricX model with its tokenizer: {error}"
        raise InvalidRequest(message, param="metricx-model") from error
    return tokens, model.to(device).eval()
