"""`ampsweep capture`: write the activations of neurons at each token of texts to a Parquet file."""

from __future__ import annotations

import json
import math
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.commands.capture_job import CaptureJob, read_texts
from ampsweep.cli.commands.capture_server import capture_on_server
from ampsweep.cli.options.engine import SHORT_JOB, model_folder
from ampsweep.cli.options.local_engine import EngineOptions, takes_engine_options
from ampsweep.cli.options.local_or_server import (
    LocalOrServedLora,
    LocalOrServedModel,
    LocalOrServedNeurons,
    OptionalServer,
    leave_to_server,
)
from ampsweep.cli.options.neuron_source import read_neurons
from ampsweep.cli.options.values import comma_separated, json_object
from ampsweep.cli.terminal.library_messages import quiet_libraries
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.cli.terminal.progress import ProgressDisplay
from ampsweep.cli.terminal.running import run_to_end
from ampsweep.domain.choices import CAPTURE_DTYPES, one_of
from ampsweep.errors import InvalidRequest
from ampsweep.files import atomic_write, parquet_output
from ampsweep.missing_path import no_file

if TYPE_CHECKING:
    from ampsweep.domain.capture import CaptureSelection
    from ampsweep.domain.choices import CaptureDtype
    from ampsweep.domain.intervention import Intervention
    from ampsweep.domain.neurons.layer_widths import LayerWidths
    from engine.base import Capture, Engine, PromptEncoder
    from engine.capture.selection import NeuronSelection
    from engine.capture.table import CaptureWriter
    from engine.capture.texts import TokenizedText
    from engine.neurons.neuron_set import NeuronSet

MAX_GIB = 4.0
"""Default of `--max-gib`."""


@takes_engine_options
def capture(
    source: Annotated[
        Path,
        typer.Argument(metavar="TEXTS", help="A file of texts, one per line; with the suffix .jsonl, of JSON objects."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT.parquet", help="The file to write: one row per text, token and layer.")
    ],
    model: LocalOrServedModel,
    server: OptionalServer = None,
    layers: Annotated[
        str | None, typer.Option(help="Capture all neurons of these layers, separated by commas.")
    ] = None,
    languages: Annotated[
        str | None, typer.Option(help="Capture the neurons of these languages of the neuron set, separated by commas.")
    ] = None,
    indices: Annotated[
        str | None, typer.Option(metavar="LAYER:INDEX,...", help="Capture these neurons, such as 3:17,3:20.")
    ] = None,
    neurons: LocalOrServedNeurons = None,
    lora: LocalOrServedLora = None,
    intervention: Annotated[
        str | None, typer.Option(metavar="JSON", help="An intervention as JSON, which steers all texts.")
    ] = None,
    store: Annotated[str, typer.Option(help=f"How activations are stored: {one_of(CAPTURE_DTYPES)}.")] = "float16",
    max_gib: Annotated[
        float | None,
        typer.Option(
            "--max-gib",
            min=0.0,
            help=f"Maximum GiB of activations; more is an error before the start. [default: {MAX_GIB:g}]",
        ),
    ] = None,
    *,
    options: EngineOptions,
    as_json: AsJson = False,
) -> None:
    """Capture the activations of neurons at each token of texts, steered or not, on a local model or on a server.

    A line of a .jsonl file has `prompt`, and perhaps `completion`, or the `messages` of a chat, and perhaps an `id`.
    Under an intervention an activation is the value before the edit in its own layer.
    """
    from ampsweep.domain.capture import check_capturable
    from ampsweep.domain.intervention import Intervention

    stored_in = _dtype(store)
    selection = _selection(layers, languages, indices)
    steering = None if intervention is None else Intervention.from_dict(json_object(intervention, param="intervention"))
    check_capturable(steering)
    _check_neurons(neurons, selection, steering, server=server)
    max_bytes = _bytes(MAX_GIB if max_gib is None else max_gib)
    if not source.is_file():
        raise InvalidRequest(no_file(source), param="TEXTS")
    writable = parquet_output(target, param="OUT.parquet", inputs=[source])
    if server is None:
        model_folder(model)  # before anything that takes time
        quiet_libraries("capture", verbose=options.verbose)
    else:
        leave_to_server({"max_gib": max_gib, **options.of_engine()})
    texts = read_texts(source)
    job = CaptureJob(texts=texts, selection=selection, intervention=steering, adapter=lora, dtype=stored_in)
    if server is not None:
        outcome = capture_on_server(server, model, job, writable, neurons=neurons)
    else:
        from worker.resources.gpus import has_gpu

        if options.compiles is None and options.engine == "vllm" and has_gpu():
            options = replace(options, compiles=False)  # CUDA graphs have no place for it
        neuron_set = read_neurons(neurons or None)
        opening = options.opened(
            model,
            neurons=neuron_set,
            adapters={} if lora is None else {lora: Path(lora)},
            requests=min(len(texts), SHORT_JOB + 1),
            as_json=as_json,
        )
        _check_job(job, model_folder(model), neuron_set, fake=options.engine == "fake", max_bytes=max_bytes)
        capturing = _capture(job, opening, writable, neuron_set=neuron_set, max_bytes=max_bytes, label=source.name)
        outcome = run_to_end(capturing)
    text = f"{outcome['rows']} rows of {outcome['texts']} texts in {target}: {outcome['neurons']} neurons at "
    show({**outcome, "file": str(target)}, f"{text}{outcome['tokens']} tokens", as_json=as_json)


def _check_job(job: CaptureJob, folder: Path, neuron_set: NeuronSet | None, *, fake: bool, max_bytes: int) -> None:
    """Check a job against the files of a model and a neuron set, before an engine starts.

    The tokens are counted only where texts have so many bytes that they may have too many tokens.
    """
    from ampsweep.domain.capture import capture_bytes
    from ampsweep.folders.model import context_length, folder_widths
    from worker.start_checks import check_prompts, check_steering, most_tokens, read_encoder

    neurons = _select(job.selection, folder_widths(folder), neuron_set)
    check_steering(job.intervention, neuron_set)
    if fake:
        return  # it encodes text in its own way
    check_prompts(folder, (), chat=any(not isinstance(text.text.prompt, str) for text in job.texts))
    limit = context_length(folder)
    most = [most_tokens(json.dumps(text.fields, ensure_ascii=False)) for text in job.texts]
    if (limit and max(most) >= limit) or capture_bytes(sum(most), neurons.total, job.dtype) > max_bytes:
        run_to_end(_tokenized(job, read_encoder(folder), neurons, max_tokens=(limit or 2**31) - 1, max_bytes=max_bytes))


async def _capture(
    job: CaptureJob,
    opening: AbstractAsyncContextManager[Engine],
    target: Path,
    *,
    neuron_set: NeuronSet | None,
    max_bytes: int,
    label: str,
) -> dict[str, int]:
    """Write the file and return the numbers of its texts, tokens, neurons and rows."""
    from engine.base import Priority, Steering
    from engine.capture.run import captured
    from engine.capture.table import CaptureSource, CaptureWriter

    with ProgressDisplay(label) as display:
        display.stage("starting the engine")
        async with opening as engine:
            neurons = _select(job.selection, engine.info.widths, neuron_set)
            display.stage("counting tokens")
            most = engine.info.max_model_len - 1
            texts = await _tokenized(job, engine.encoder, neurons, max_tokens=most, max_bytes=max_bytes)
            set_id = None if neuron_set is None else neuron_set.id
            steering = None
            if job.intervention is not None and set_id is not None:
                steering = Steering(intervention=job.intervention, neurons=set_id)
            requests = (
                (
                    text.request(neurons, steering=steering, adapter=job.adapter, priority=Priority.BATCH),
                    len(text.ids),
                )
                for text in texts
            )
            source = CaptureSource.of(
                engine.info, adapter=job.adapter, neuron_set=set_id, intervention=job.intervention
            )
            display.stage("capturing", "texts")
            display.show(0, len(texts))
            with atomic_write(target) as temporary, CaptureWriter(temporary, neurons, job.dtype, source) as writer:
                async with aclosing(captured(engine, requests)) as captures:
                    done = 0
                    async for part in captures:
                        _add(writer, texts[done].id, part)
                        done += 1
                        display.show(done, len(texts))
            return {
                "texts": len(texts),
                "tokens": sum(len(text.ids) for text in texts),
                "neurons": neurons.total,
                "rows": writer.rows,
            }


async def _tokenized(
    job: CaptureJob, encoder: PromptEncoder, neurons: NeuronSelection, *, max_tokens: int, max_bytes: int
) -> list[TokenizedText]:
    """Return the tokens of all texts, whose activations respect the limits."""
    import asyncio

    from ampsweep.domain.capture import check_capture_size
    from engine.capture.texts import check_scope, check_text_size, tokenized

    texts = []
    for source in job.texts:
        text = tokenized(encoder, source.text, max_tokens=max_tokens, param=source.param)
        check_scope(text, job.intervention, param=source.param)
        check_text_size(text, neurons, param=source.param)
        texts.append(text)
        await asyncio.sleep(0)  # a signal cancels the command here
    total = sum(len(text.ids) for text in texts)
    smaller = ", --store float16" if job.dtype == "float32" else ""
    remedy = f"give fewer or shorter texts, fewer neurons, languages or layers{smaller}, or a larger --max-gib"
    check_capture_size(total, neurons.total, job.dtype, limit=max_bytes, param="max_gib", remedy=remedy)
    return texts


def _select(selection: CaptureSelection, widths: LayerWidths, neuron_set: NeuronSet | None) -> NeuronSelection:
    """Return the neurons that a selection stands for; errors name the option that it comes from."""
    from engine.capture.selection import select

    try:
        return select(selection, widths, neuron_set)
    except InvalidRequest as error:
        error.param = _option(selection)
        raise


def _add(writer: CaptureWriter, text_id: str, capture: Capture) -> None:
    """Write a text; the error about an activation that float16 cannot hold names `--store`, not the model's dtype."""
    try:
        writer.add(text_id, capture)
    except InvalidRequest as error:
        error.param = "store"
        raise


def _check_neurons(
    neurons: str | None, selection: CaptureSelection, intervention: Intervention | None, *, server: str | None
) -> None:
    """Raise InvalidRequest if the neuron set is missing, or has no effect. A server has a default."""
    needed = intervention is not None or selection.languages is not None
    if neurons is None and needed and server is None:
        message = "languages have neurons in a neuron set only; create one with `ampsweep identify`"
        raise InvalidRequest(message, param="neurons")
    if neurons is not None and not needed:
        message = "has no effect without --languages or --intervention; leave it out"
        raise InvalidRequest(message, param="neurons")


def _bytes(gib: float) -> int:
    if not math.isfinite(gib):
        raise InvalidRequest(f"must be a number of GiB such as {MAX_GIB:g}; got {gib}", param="max_gib")
    return int(gib * 1024**3)


def _selection(layers: str | None, languages: str | None, indices: str | None) -> CaptureSelection:
    """Return the selection that the options describe; raise InvalidRequest for one that is not a single valid one."""
    from ampsweep.domain.capture import CaptureSelection
    from ampsweep.domain.validation import validate

    given = {"layers": layers, "languages": languages, "indices": indices}
    names = [f"--{name}" for name, value in given.items() if value is not None]
    if len(names) != 1:
        message = f"give one of --layers, --languages and --indices; got {' and '.join(names) or 'none'}"
        raise InvalidRequest(message, param="layers")
    raw: dict[str, Any] = {}
    if languages is not None:
        raw["languages"] = comma_separated(languages)
    elif layers is not None:
        raw["layers"] = [_number(layer, "layers") for layer in comma_separated(layers)]
    else:
        pairs = [pair.partition(":") for pair in comma_separated(indices or "")]
        raw["neurons"] = [[_number(layer, "indices"), _number(index, "indices")] for layer, _, index in pairs]
    try:
        return validate(CaptureSelection, raw)
    except InvalidRequest as error:
        error.param = names[0].removeprefix("--")
        raise


def _option(selection: CaptureSelection) -> str:
    """Return the option that a selection comes from."""
    if selection.neurons is not None:
        return "indices"
    return "layers" if selection.layers is not None else "languages"


def _dtype(store: str) -> CaptureDtype:
    for dtype in CAPTURE_DTYPES:
        if dtype == store:
            return dtype
    raise InvalidRequest(f"must be {one_of(CAPTURE_DTYPES)}; got {store!r}", param="store")


def _number(text: str, param: str) -> int:
    if not text.isdecimal():
        example = "3,4" if param == "layers" else "3:17,3:20"
        raise InvalidRequest(f"must be numbers such as {example}; got {text!r}", param=param)
    return int(text)
