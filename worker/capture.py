"""Captures the activations of a call's texts on one engine, as a Parquet file or as the activity of languages.

The tokens of all texts are counted before anything is computed. What is in memory at once is limited by the bytes of
the call, and by those that `engine.capture.run` computes ahead.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from contextlib import aclosing

from ampsweep.domain.capture import check_capturable, check_capture_size
from engine.base import Engine, Steering
from engine.capture.activity import language_activity
from engine.capture.run import captured
from engine.capture.selection import NeuronSelection, of_languages, select
from engine.capture.table import CaptureSource, CaptureWriter
from engine.capture.texts import TokenizedText, check_scope, check_text_size, tokenized
from engine.neurons.neuron_set import NeuronSet
from jobs.execution import CaptureCall


async def capture(engine: Engine, call: CaptureCall, *, neuron_set: NeuronSet | None) -> bytes:
    """Return the activations of a call's texts in the form that it asks for.

    Args:
        engine: An engine of the call's model, with the neuron set loaded.
        call: The call.
        neuron_set: The neuron set of the call, None if it needs none.

    Raises:
        CaptureTooLarge: The activations would take more bytes than the call allows.
        InvalidRequest: See `CompletionService.capture`.
    """
    neurons, texts = await asyncio.to_thread(_prepare, engine, call, neuron_set)
    steering = None
    if call.intervention is not None:
        assert neuron_set is not None, "the caller resolves the default neuron set"
        steering = Steering(intervention=call.intervention, neurons=neuron_set.id)
    requests = ((text.request(neurons, steering=steering, adapter=call.adapter), len(text.ids)) for text in texts)
    captures = captured(engine, requests)
    if call.form == "activity":
        assert neuron_set is not None, "the caller resolves the default neuron set"
        async with aclosing(captures):
            only = await anext(captures)
        return await asyncio.to_thread(
            lambda: json.dumps(language_activity(only, neurons, neuron_set), ensure_ascii=False).encode()
        )
    source = CaptureSource.of(
        engine.info,
        adapter=call.adapter,
        neuron_set=None if neuron_set is None else neuron_set.id,
        intervention=call.intervention,
    )
    buffer = io.BytesIO()
    writer = await asyncio.to_thread(CaptureWriter, buffer, neurons, call.dtype, source)
    async with aclosing(captures):
        position = 0
        async for part in captures:
            await asyncio.to_thread(writer.add, texts[position].id, part)
            position += 1
    # Only on success: if the call is cancelled, a thread may still be writing.
    await asyncio.to_thread(writer.close)
    return buffer.getvalue()


def _prepare(
    engine: Engine, call: CaptureCall, neuron_set: NeuronSet | None
) -> tuple[NeuronSelection, Sequence[TokenizedText]]:
    """Return the neurons and the tokens of a call, whose limits they respect."""
    info = engine.info
    if call.selection is None:
        assert neuron_set is not None, "the caller resolves the default neuron set"
        neurons = of_languages(neuron_set.languages, neuron_set, param="neurons")
    else:
        neurons = select(call.selection, info.widths, neuron_set)
    check_capturable(call.intervention)
    texts, tokens = [], 0
    single = call.form == "activity"
    for position, given in enumerate(call.texts):
        param = "text" if single else f"texts.{position}"
        text = tokenized(engine.encoder, given, max_tokens=info.max_model_len - 1, param=param)
        check_scope(text, call.intervention, param=param)
        check_text_size(text, neurons, param=param)
        texts.append(text)
        tokens += len(text.ids)
    check_capture_size(
        tokens,
        neurons.total,
        "float32" if single else call.dtype,
        limit=call.max_bytes,
        param="text" if single else "texts",
        remedy="shorten or divide the text" if single else None,
    )
    return neurons, texts
