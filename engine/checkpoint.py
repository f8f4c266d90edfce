"""Checks a model folder before the model is loaded: its weights must be complete, and its tokenizer must work.

Transformers initializes missing weights at random and continues, and a tokenizer without its files encodes every text
as the same tokens. The checks do not allocate the model.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import transformers

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import CONFIG, check_tokenizer_files
from ampsweep.folders.weights import check_weight_files, read_header, weight_files
from engine.quantization import Quantization, without_parts, without_scales

log = logging.getLogger(__name__)

_SENTENCES = ("The capital of France is Paris.", "Water boils at 100 degrees, and ice melts at 0.")
_MIN_SIMILARITY = 0.5
"""Least similarity of a sentence and its decoded tokens; tokenizers may change case and spaces, and drop accents."""
_MAX_LISTED = 3
_TRAINED_WITH_BOS = ("gemma",)
"""How the `model_type` begins of models that were all trained with BOS in front of every text."""


def check_checkpoint(folder: Path) -> None:
    """Check that the weights in a folder are exactly those of its model.

    The weights of a multimodal model include those of its vision tower. An architecture that Transformers does not
    know is left to the engine to check. Quantized weights are checked for missing tensors, since vLLM would fill these
    with whatever was in memory, but not for their shapes, which vLLM checks.

    Raises:
        InvalidRequest: Weights are missing, have the wrong shape or do not belong to the model, a file is damaged, or
            there is no tokenizer. The message names the files or weights (param "model").
    """
    check_weight_files(folder)
    check_tokenizer_files(folder)
    config = read_config(folder)
    auto_class = auto_model(config)
    quantization = read_quantization(folder)
    if auto_class is None:
        log.debug("the weights of %s cannot be checked before loading; the engine checks them", folder.name)
        return
    if quantization is not None:
        _unquantize(config)
    with _silent_transformers():
        model, loading_info = auto_class.from_pretrained(
            folder, config=config, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True
        )
    mismatched = [name for name, *_ in loading_info["mismatched_keys"]]
    missing, unexpected = loading_info["missing_keys"], loading_info["unexpected_keys"]
    if quantization is not None:
        missing, unexpected = without_parts(missing, unexpected, model_weights=dict(model.named_parameters()))
        dtypes = {name: entry["dtype"] for path in weight_files(folder) for name, entry in read_header(path)[1].items()}
        missing += without_scales(dtypes)
    for names, problem in (
        (missing, "lacks weights of its model"),
        (mismatched, "has weights whose shape does not match its config.json"),
        (unexpected, "has weights that do not belong to its model"),
    ):
        if names:
            listed = ", ".join(sorted(names)[:_MAX_LISTED])
            more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
            message = f"the checkpoint in {folder.name} {problem}: {listed}{more}"
            raise InvalidRequest(f"{message}; download it again, or correct its config.json", param="model")


def read_config(folder: Path) -> Any:
    """Return the config of a model in Transformers; None if it has no such architecture.

    None also stands for an invalid config: loading the model reports what is wrong.
    """
    try:
        return transformers.AutoConfig.from_pretrained(folder)
    except (ValueError, KeyError):
        return None


def read_quantization(folder: Path) -> Quantization | None:
    """Return how the weights of a model are quantized, None if they are not.

    Raises:
        InvalidRequest: The config does not say it completely (param "model").
    """
    try:
        return Quantization.of_config(_json(folder / CONFIG))
    except ValueError as error:
        raise InvalidRequest(f"{CONFIG} of {folder.name}: {error}; download it again", param="model") from error


def auto_model(config: Any) -> Any:
    """Return the class of Transformers with which a model is loaded whole, None if it loads no such language model.

    A multimodal model is loaded with its vision tower, although Transformers could load some of them as text models,
    because the weights of the tower belong to the checkpoint.

    Args:
        config: The config of the model, from `read_config`.
    """
    if type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM if type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING else None


def check_tokenizer(tokenizer: Any, name: str) -> None:
    """Check that different texts have different tokens, and that decoding the tokens of a text restores it.

    Args:
        tokenizer: A Hugging Face tokenizer.
        name: Name of its model, for the error.

    Raises:
        InvalidRequest: The tokenizer fails the check (param "model").
    """
    tokens = [tokenizer.encode(text, add_special_tokens=False) for text in _SENTENCES]
    decoded = [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokens]
    similarity = min(_similarity(text, sentence) for text, sentence in zip(decoded, _SENTENCES, strict=True))
    if tokens[0] == tokens[1] or similarity < _MIN_SIMILARITY:
        raise InvalidRequest(
            f"the tokenizer of {name} maps different texts to the same tokens: {_SENTENCES[0]!r} is decoded as "
            f"{decoded[0][:60]!r}; add the tokenizer files of the same model (tokenizer.json)",
            param="model",
        )


def warn_without_bos(tokenizer: Any, folder: Path) -> None:
    """Log a warning if a tokenizer puts no BOS in front of a text, although the model was trained with it.

    That is known of some families, and of a tokenizer whose config says that it adds BOS. Conversions from GGUF often
    lose BOS; without it Gemma answers nonsense.

    Args:
        tokenizer: The model's tokenizer.
        folder: The model's folder.
    """
    model_type = str(_json(folder / CONFIG).get("model_type"))
    trained_with_bos = model_type.startswith(_TRAINED_WITH_BOS)
    if not trained_with_bos and not _json(folder / "tokenizer_config.json").get("add_bos_token"):
        return
    if tokenizer.bos_token_id is None or tokenizer.bos_token_id not in tokenizer.encode(_SENTENCES[0])[:1]:
        reason = f"models of type {model_type} were" if trained_with_bos else "its tokenizer_config.json says it was"
        log.warning(
            "the tokenizer of %s puts no BOS in front of a text, although %s trained with it; answers will be worse: "
            "use the tokenizer files of the original model",
            folder.name,
            reason,
        )


def _unquantize(config: Any) -> None:
    """Remove from a config what says that weights are quantized."""
    for part in (config, config.get_text_config()):
        for name in ("quantization_config", "compression_config"):
            if hasattr(part, name):
                delattr(part, name)


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if there is no such file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def _similarity(first: str, second: str) -> float:
    """Return how similar the letters and digits of two texts are, from 0 to 1, ignoring case."""
    first_letters, second_letters = ("".join(filter(str.isalnum, text.casefold())) for text in (first, second))
    return SequenceMatcher(None, first_letters, second_letters, autojunk=False).ratio()


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Silence the messages of Transformers about problems that `check_checkpoint` reports itself."""
    verbosity, progress = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if progress:
            transformers.logging.enable_progress_bar()
