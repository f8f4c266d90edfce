"""`ampsweep generate`: complete a prompt, steered or not, on a local model or on a server."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.options.client import client_of
from ampsweep.cli.options.completion import models
from ampsweep.cli.options.engine import (
    AllowUntestedVllm,
    BatchInvariant,
    Dtype,
    Kind,
    comma_separated,
    json_object,
    opened,
    read_neurons,
)
from ampsweep.cli.terminal.output import AsJson, show
from ampsweep.cli.terminal.running import run_to_end
from ampsweep.domain.choices import one_of
from ampsweep.domain.intervention import OPS, PATCHES, VALUE_OPS, VECTORS, Intervention
from ampsweep.domain.sampling import SAMPLING_BOUNDS, SamplingParams
from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    from engine.base import Engine, GenerateRequest


def generate(
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    model: Annotated[
        str,
        typer.Option(
            help="A model folder, `atlas`, or with --server the name of a model that it offers.", autocompletion=models
        ),
    ],
    server: Annotated[
        str | None, typer.Option(help="Send the request to the server at this URL instead of loading the model here.")
    ] = None,
    neurons: Annotated[str | None, typer.Option(help="The neuron set: its folder, or with --server its id.")] = None,
    lora: Annotated[
        str | None, typer.Option(help="A LoRA adapter of the model (vllm only): its folder, or with --server its name.")
    ] = None,
    languages: Annotated[
        str | None, typer.Option(help="Steer with the neurons of these languages (codes, separated by commas).")
    ] = None,
    op: Annotated[str | None, typer.Option(help=f"{one_of(OPS)}. [default: scale; add with --vector]")] = None,
    factor: Annotated[
        float | None, typer.Option(help="The factor of the op; with --patch it multiplies the patch value.")
    ] = None,
    patch: Annotated[
        str | None, typer.Option(help=f"The recorded value that {one_of(VALUE_OPS)} uses: {one_of(PATCHES)}.")
    ] = None,
    vector: Annotated[
        str | None,
        typer.Option(help=f"Add a vector to the residual stream instead of editing neurons: {one_of(VECTORS)}."),
    ] = None,
    intervention: Annotated[
        str | None, typer.Option(metavar="JSON", help="The whole intervention as JSON, instead of the options above.")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=SAMPLING_BOUNDS["max_tokens"]["ge"], help="Maximum number of tokens to generate.")
    ] = SamplingParams.max_tokens,
    temperature: Annotated[
        float, typer.Option(min=float(SAMPLING_BOUNDS["temperature"]["ge"]), help="Sampling temperature; 0 is greedy.")
    ] = SamplingParams.temperature,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling.")] = None,
    engine: Kind = "vllm",
    dtype: Dtype = "float32",
    batch_invariant: BatchInvariant = False,
    allow_untested_vllm: AllowUntestedVllm = False,
    as_json: AsJson = False,
) -> None:
    """Continue a prompt, steered or not, and print the text as it is generated (with --json: at its end)."""
    _check_text(prompt, param="prompt")
    fields = {"languages": languages, "op": op, "factor": factor, "patch": patch, "vector": vector}
    steering = _intervention(intervention, fields, neurons=neurons)
    printer = _TextPrinter(as_json=as_json)
    if server is not None:
        for param, value in (("batch_invariant", batch_invariant), ("allow_untested_vllm", allow_untested_vllm)):
            if value:
                message = f"the server decides; leave out --{param.replace('_', '-')}"
                raise InvalidRequest(message, param=param)
        options = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
            "neurons": neurons,
            "adapter": lora,
        }
        with client_of(server) as client:
            set_options = {key: value for key, value in options.items() if value is not None}
            for piece in client.stream(model, prompt, intervention=steering, **set_options):
                printer.piece(piece.text, piece.finish_reason, piece.neuron_set)
        printer.end()
        return
    if steering is not None and not neurons:
        raise InvalidRequest("steering needs a neuron set; create one with `ampsweep identify`", param="neurons")

    from engine.base import GenerateRequest, Steering

    sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    request = GenerateRequest(prompt=prompt, sampling=sampling, adapter=lora)
    parsed = None if steering is None else Intervention.from_dict(steering)
    neuron_set = read_neurons(Path(neurons) if neurons else None)
    if parsed is not None and neuron_set is not None:
        request = replace(request, steering=Steering(intervention=parsed, neurons=neuron_set.id))
    local = opened(
        model,
        kind=engine,
        dtype=dtype,
        neurons=neuron_set,
        batch_invariant=batch_invariant,
        allow_untested_vllm=allow_untested_vllm,
        adapters={} if lora is None else {lora: Path(lora)},
    )
    run_to_end(_print_answer(local, request, printer))


async def _print_answer(
    local: AbstractAsyncContextManager[Engine], request: GenerateRequest, out: _TextPrinter
) -> None:
    """Open an engine and print its answer as it is generated."""
    async with local as engine:
        async for chunk in engine.generate(request):
            out.piece(chunk.text, chunk.finish_reason, chunk.neuron_set)
    out.end()


def _check_text(text: str, *, param: str) -> None:
    """Raise InvalidRequest if an argument has bytes that are not UTF-8, which Python reads as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"must be valid UTF-8 text; got {text[:100]!r}", param=param) from None


class _TextPrinter:
    """Prints a text in pieces or, as JSON, at its end.

    The neuron set that steers is printed to standard error before the text; in JSON it is a field.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._text = ""
        self._finish_reason: str | None = None
        self._neuron_set: str | None = None

    def piece(self, text: str, finish_reason: str | None, neuron_set: str | None) -> None:
        if neuron_set != self._neuron_set and not self._as_json:
            typer.echo(f"steered by neuron set {neuron_set}", err=True)
        self._neuron_set = neuron_set
        self._text += text
        self._finish_reason = finish_reason
        if not self._as_json:
            typer.echo(text, nl=False)

    def end(self) -> None:
        content = {"text": self._text, "finish_reason": self._finish_reason, "neuron_set": self._neuron_set}
        show(content, "", as_json=self._as_json)


def _intervention(text: str | None, options: Mapping[str, Any], *, neurons: str | None) -> dict[str, Any] | None:
    """Return the intervention that the options describe; raise InvalidRequest if some would have no effect."""
    fields = {name: value for name, value in options.items() if value is not None}
    names = [f"--{name}" for name in fields]
    if text is not None:
        if names:
            message = f"is the whole intervention; leave out {', '.join(names)}, or write it as JSON"
            raise InvalidRequest(message, param="intervention")
        return json_object(text, param="intervention")
    if "languages" not in fields:
        unused = names + (["--neurons"] if neurons is not None else [])
        if unused:
            message = f"steering needs languages: give --languages, or leave out {', '.join(unused)}"
            raise InvalidRequest(message, param="languages")
        return None
    default_op = "scale" if "vector" not in fields else "add"
    return {"op": default_op, **fields, "languages": comma_separated(fields["languages"])}
