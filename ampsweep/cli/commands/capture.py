"""`ampsweep capture`: write the activations of neurons at each token of texts to a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.options.engine import (
    SHORT_JOB,
    AllowUntestedVllm,
    Compile,
    Dtype,
    Kind,
    Model,
    Neurons,
    Verbose,
    comma_separated,
    has_gpu,
    json_object,
    model_folder,
    opened,
    quiet_libraries,
    read_neurons,
    whether_to_compile,
)
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.cli.terminal.progress import Counter
from ampsweep.cli.terminal.running import run_to_end
from ampsweep.domain.choices import CAPTURE_DTYPES, one_of
from ampsweep.errors import InvalidRequest
from ampsweep.files import atomic_write, output_file

if TYPE_CHECKING:
    from ampsweep.domain.capture import CapturedText, CaptureSelection
    from ampsweep.domain.choices import CaptureDtype
    from ampsweep.domain.intervention import Intervention
    from engine.base import Engine
    from engine.capture.selection import NeuronSelection
    from engine.capture.texts import TokenizedText
    from engine.neurons.neuron_set import NeuronSet

TEXT_BYTES = 1024**3
"""Most bytes of activations of a single text, which are in memory at once, in float32."""


def capture(
    source: Annotated[
        Path,
        typer.Argument(metavar="TEXTS", help="A file of texts, one a line; with the suffix .jsonl, of JSON objects."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT.parquet", help="The file to write: one row per text, token and layer.")
    ],
    model: Model,
    layers: Annotated[
        str | None, typer.Option(help="Capture all neurons of these layers, separated by commas.")
    ] = None,
    languages: Annotated[
        str | None, typer.Option(help="Capture the neurons of these languages of the neuron set, separated by commas.")
    ] = None,
    indices: Annotated[
        str | None, typer.Option(metavar="LAYER:INDEX,...", help="Capture these neurons, such as 3:17,3:20.")
    ] = None,
    neurons: Neurons = None,
    intervention: Annotated[
        str | None, typer.Option(metavar="JSON", help="An intervention as JSON, which steers all texts.")
    ] = None,
    store: Annotated[str, typer.Option(help=f"How activations are stored: {one_of(CAPTURE_DTYPES)}.")] = "float16",
    max_gib: Annotated[
        float, typer.Option("--max-gib", min=0.0, help="Most GiB of activations; more are an error before the start.")
    ] = 4.0,
    engine: Kind = "vllm",
    dtype: Dtype = "float32",
    allow_untested_vllm: AllowUntestedVllm = False,
    compiles: Compile = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Capture the activations of neurons at each token of texts, steered or not.

    A line of a .jsonl file has `prompt`, and perhaps `completion`, or the `messages` of a chat, and perhaps an `id`.
    Under an intervention an activation is the value before the edit in its own layer.
    """
    from ampsweep.domain.intervention import Intervention

    stored_in = _dtype(store)
    selection = _selection(layers, languages, indices)
    steering = None if intervention is None else Intervention.from_dict(json_object(intervention, param="intervention"))
    if neurons is None and (steering is not None or languages is not None):
        message = "languages have neurons in a neuron set only; create one with `ampsweep identify`"
        raise InvalidRequest(message, param="neurons")
    if not source.is_file():
        raise InvalidRequest(f"{source} does not exist or is not a file", param="TEXTS")
    writable = output_file(target, param="OUT.parquet", inputs=[source])
    model_folder(model)  # before anything that takes time
    quiet_libraries("capture", verbose=verbose)
    texts = list(_texts(source))
    if not texts:
        raise InvalidRequest(f"{source} has no text", param="TEXTS")
    if compiles is None and engine == "vllm" and has_gpu():
        compiles = False  # CUDA graphs have no place for it
    neuron_set = read_neurons(neurons)
    opening = opened(
        model,
        kind=engine,
        dtype=dtype,
        neurons=neuron_set,
        allow_untested_vllm=allow_untested_vllm,
        compiles=whether_to_compile(compiles, kind=engine, requests=min(len(texts), SHORT_JOB + 1), as_json=as_json),
    )
    job = _Job(
        texts=texts,
        selection=selection,
        neuron_set=neuron_set,
        intervention=steering,
        dtype=stored_in,
        max_bytes=int(max_gib * 1024**3),
    )
    outcome = run_to_end(_capture(job, opening, writable, label=source.name))
    text = f"{outcome['rows']} rows of {outcome['texts']} texts in {target}: {outcome['neurons']} neurons at "
    show({**outcome, "file": str(target)}, f"{text}{outcome['tokens']} tokens", as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is captured, of which texts, and how it is stored."""

    texts: list[CapturedText]
    selection: CaptureSelection
    neuron_set: NeuronSet | None
    intervention: Intervention | None
    dtype: CaptureDtype
    max_bytes: int


async def _capture(
    job: _Job, opening: AbstractAsyncContextManager[Engine], target: Path, *, label: str
) -> dict[str, int]:
    """Write the file and return the numbers of its texts, tokens, neurons and rows."""
    from engine.base import Priority, Steering
    from engine.capture.run import captured
    from engine.capture.selection import select
    from engine.capture.table import CaptureSource, CaptureWriter

    with Counter(label) as counter:
        counter.stage("loading the model")
        async with opening as engine:
            info, neuron_set = engine.info, job.neuron_set
            try:
                neurons = select(job.selection, info.widths, neuron_set)
            except InvalidRequest as error:
                error.param = _option(job.selection)
                raise
            counter.stage("counting tokens")
            texts = _tokenized(job, engine, neurons)
            steering = None
            if job.intervention is not None and neuron_set is not None:
                steering = Steering(intervention=job.intervention, neurons=neuron_set.id)
            source = CaptureSource(
                model=info.model,
                fingerprint=info.fingerprint,
                engine=info.kind,
                model_dtype=info.dtype,
                adapter=None,
                neuron_set=None if neuron_set is None else neuron_set.id,
                intervention=None if job.intervention is None else job.intervention.to_dict(),
            )
            requests = (
                (text.request(neurons, steering=steering, priority=Priority.BATCH), len(text.ids)) for text in texts
            )
            counter.stage("capturing", "texts")
            with atomic_write(target) as temporary, CaptureWriter(temporary, neurons, job.dtype, source) as writer:
                async with aclosing(captured(engine, requests)) as captures:
                    done = 0
                    async for part in captures:
                        writer.add(texts[done].id, part)
                        done += 1
                        counter.show(done, len(texts))
            return {
                "texts": len(texts),
                "tokens": sum(len(text.ids) for text in texts),
                "neurons": neurons.total,
                "rows": writer.rows,
            }


def _tokenized(job: _Job, engine: Engine, neurons: NeuronSelection) -> list[TokenizedText]:
    """Return the tokens of all texts, whose activations respect the limits."""
    from ampsweep.domain.capture import check_capture_size
    from engine.capture.texts import check_scope, tokenized

    texts = []
    for number, given in enumerate(job.texts, 1):
        param = f"TEXTS.{number}"
        text = tokenized(engine.encoder, given, max_tokens=engine.info.max_model_len - 1, param=param)
        check_scope(text, job.intervention, param=param)
        check_capture_size(len(text.ids), neurons.total, "float32", limit=TEXT_BYTES, param=param)
        texts.append(text)
    total = sum(len(text.ids) for text in texts)
    check_capture_size(total, neurons.total, job.dtype, limit=job.max_bytes, param="max_gib")
    return texts


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


def _texts(source: Path) -> Iterator[CapturedText]:
    """Yield the texts of a file, with the number of their line as their id unless they have one."""
    from ampsweep.domain.capture import CapturedText
    from ampsweep.domain.validation import validate
    from api.http.json_body import parse_json
    from api.openai.captured_text import TextToCapture

    is_json = source.suffix in (".jsonl", ".ndjson")
    with source.open("rb") as file:
        for number, line in enumerate(file, 1):
            param = f"TEXTS.{number}"
            if not line.strip():
                continue
            if is_json:
                try:
                    raw = parse_json(line)
                except InvalidRequest as error:
                    message = error.message.replace("the body", "the line", 1)
                    raise InvalidRequest(f"{param}: {message}", param=param) from error
                yield validate(TextToCapture, raw, param=param).captured(number)
                continue
            try:
                yield CapturedText(id=str(number), prompt=line.decode("utf-8").rstrip("\r\n"))
            except UnicodeDecodeError as error:
                raise InvalidRequest(f"{param} is not UTF-8: {error.reason}", param=param) from error
