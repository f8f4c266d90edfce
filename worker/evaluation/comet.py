"""COMET (Rei et al. 2020, 2022): a neural metric of translations, by the package unbabel-comet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ampsweep.errors import InvalidRequest
from jobs.evaluation.metric import Scores, Values
from jobs.evaluation.texts import StoredText
from worker.evaluation.translations import mean_by_model, require_package, scores_of, short_hash

BATCH_SIZE = 8
CHECKPOINT = Path("checkpoints") / "model.ckpt"
"""The checkpoint within a model's folder."""


class Comet:
    """A COMET model. Scores of the models since 2022 lie between 0 and 1; higher is better.

    Nothing is downloaded: neither the checkpoint nor the tokenizer of the encoder that it is built on, which must be in
    the local cache of the Hub. Models without references (CometKiwi) do not need a reference column.

    Args:
        model: The path of a checkpoint or of a model's folder, or the name of a model in the local cache of the Hub.
        gpus: How many GPUs to use.

    Raises:
        InvalidRequest: unbabel-comet is not installed, or the model is not on this machine.
    """

    name: ClassVar[str] = "comet"

    def __init__(self, model: str, *, gpus: int | None = None) -> None:
        require_package("comet", metric=self.name, command="pip install unbabel-comet")
        checkpoint = _checkpoint(model)
        self._model = _loaded(checkpoint)
        self._gpus = _available_gpus() if gpus is None else gpus
        model_name = model if Path(model).name != CHECKPOINT.name else checkpoint.parents[1].name
        self.identity = f"{model_name} {short_hash(checkpoint)}, unbabel-comet {metadata.version('unbabel-comet')}"

    @property
    def needs(self) -> frozenset[str]:
        """The source, and the reference if the model takes one."""
        return frozenset({"input", "reference"} if self._model.requires_references() else {"input"})

    async def score(self, texts: Sequence[StoredText]) -> Scores:
        """Return `comet`, the model's score of each text as a translation of its input."""
        return scores_of(self.name, await asyncio.to_thread(self._predict, texts))

    def summarize(self, texts: Sequence[StoredText], scores: Scores, rng: np.random.Generator) -> Values:
        """Return `comet`, the mean over the texts."""
        return mean_by_model(self.name, texts, scores, self.identity, rng)

    def _predict(self, texts: Sequence[StoredText]) -> list[float]:
        with_reference = "reference" in self.needs
        data = [
            {"src": text.input, "mt": text.text, **({"ref": text.reference} if with_reference else {})}
            for text in texts
        ]
        return list(self._model.predict(data, batch_size=BATCH_SIZE, gpus=self._gpus, progress_bar=False).scores)


def _checkpoint(model: str) -> Path:
    """Return the checkpoint of a model on this machine."""
    path = Path(model)
    if path.is_file():
        return path
    if not path.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            path = Path(snapshot_download(model, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError) as error:
            message = f"there is no COMET model {model} on this machine; download it with: hf download {model}"
            raise InvalidRequest(message, param="comet-model") from error
    if not (path / CHECKPOINT).is_file():
        raise InvalidRequest(f"{model} is not a COMET model: it has no {CHECKPOINT}", param="comet-model")
    return path / CHECKPOINT


def _loaded(checkpoint: Path) -> Any:
    from comet import load_from_checkpoint

    try:
        return load_from_checkpoint(str(checkpoint), local_files_only=True)
    except Exception as error:  # of many libraries: a wrong file, or an encoder that is not in the cache
        raise InvalidRequest(f"{checkpoint} cannot be loaded by COMET: {error}", param="comet-model") from error


def _available_gpus() -> int:
    import torch

    return min(1, torch.cuda.device_count())
