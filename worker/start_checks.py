"""Checks, from files alone and within a second, what would otherwise fail only after an engine has started.

An engine starts in tens of seconds. It makes the same checks, and further ones that need the loaded model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import check_tokenizer_files, context_length, fingerprint, folder_widths, supports_chat
from ampsweep.folders.weights import check_weight_files
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import require_neurons, resolve
from worker.engines import EngineSpec, check_options

if TYPE_CHECKING:
    from engine.tokenization import TextEncoder

_SPECIAL_TOKENS = 8
"""Tokens that a tokenizer adds to a text, at most."""


def check_start(spec: EngineSpec, neurons: NeuronSet | None = None) -> tuple[str, ...]:
    """Check the options, the files and the adapters of an engine, and the neuron set that will be added to it.

    Args:
        spec: How the engine will be opened.
        neurons: The neuron set; None for none.

    Returns:
        Warnings: about a neuron set of another model of the same shape.

    Raises:
        UnknownName: There is no engine of this kind.
        InvalidRequest: An option is not supported by this kind of engine, a file is missing or damaged, an adapter
            cannot be used with the model, or the neuron set is for a model of another shape.
    """
    check_options(spec)
    if spec.kind != "fake":
        check_weight_files(spec.folder)
        check_tokenizer_files(spec.folder)
    if spec.vllm.adapters and spec.kind == "vllm":
        from engine.vllm.adapters import Adapters

        Adapters.read(spec.vllm.adapters, model=spec.folder)
    if neurons is None:
        return ()
    neurons.check_widths(folder_widths(spec.folder), model=spec.model)
    if neurons.fingerprint == fingerprint(spec.folder):
        return ()
    made_for = f"neuron set {neurons.id} was made for another model of the same shape ({neurons.model})"
    return (f"{made_for}; its neurons may mean something else in {spec.model}",)


def check_steering(intervention: Intervention | None, neurons: NeuronSet | None) -> None:
    """Check that a neuron set has what an intervention names: languages, layers, neurons and patch values.

    Raises:
        UnknownName: The set has no such language.
        InvalidRequest: The model has no such layer, or the set has no such patch values.
        NoNeurons: No neuron would be changed.
    """
    if intervention is not None and neurons is not None:
        require_neurons(resolve(intervention, neurons), intervention, neurons)


def check_prompts(folder: Path, prompts: Sequence[str], *, chat: bool = False) -> None:
    """Check that a model has a chat template if it is to chat, and that prompts fit into its context.

    The tokenizer is loaded only for a prompt with so many bytes that it may be too long.

    Args:
        folder: The model's folder.
        prompts: The texts.
        chat: Whether they are sent through the chat template.

    Raises:
        PromptTooLong: A text has as many tokens as the model's context, or more (param "prompt").
        InvalidRequest: There is no chat template (param "chat").
    """
    if chat and not supports_chat(folder):
        message = "the model has no chat template, so that it cannot answer a chat"
        remedy = "leave --chat out, or use a model that was trained for chats"
        raise InvalidRequest(f"{message}; {remedy}", param="chat")
    limit = context_length(folder)
    long = [text for text in prompts if limit and most_tokens(text) >= limit]
    if limit is None or not long:
        return
    encoder = read_encoder(folder)
    for text in long:
        encoder.prompt(text, max_tokens=limit - 1)


def most_tokens(text: str) -> int:
    """Return the number of tokens that a text has at most: one for each byte, and special ones."""
    return len(text.encode()) + _SPECIAL_TOKENS


def read_encoder(folder: Path) -> TextEncoder:
    """Return what an engine of a model converts text to tokens with; it is read in about two seconds."""
    import transformers

    from engine.tokenization import TextEncoder

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return TextEncoder(tokenizer, embedding_rows=max(tokenizer.get_vocab().values()) + 1)
