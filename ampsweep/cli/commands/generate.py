"""`ampsweep generate`: complete a prompt, steered or not, on a local model or on a server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.cli.options.chat import Chat, ChatForm, Prefill, TemplateOptions, chat_form, check_text
from ampsweep.cli.options.client import client_of
from ampsweep.cli.options.engine import model_folder
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
from ampsweep.cli.terminal.output import AsJson
from ampsweep.cli.terminal.progress import waiting
from ampsweep.cli.terminal.running import run_to_end
from ampsweep.cli.terminal.text_printer import TextPrinter
from ampsweep.domain.choices import OPS, PATCHES, VALUE_OPS, VECTORS, one_of
from ampsweep.domain.generation.sampling_defaults import (
    DEFAULT_TEMPERATURE,
    DEFAULT_TOKENS,
    LEAST_TEMPERATURE,
    LEAST_TOKENS,
)
from ampsweep.errors import InvalidRequest
from ampsweep.telemetry.library_output import undiverted

if TYPE_CHECKING:
    from ampsweep.client.clients import Client
    from ampsweep.domain.generation.sampling import SamplingParams
    from engine.base import Engine
    from engine.neurons.neuron_set import NeuronSet


@takes_engine_options
def generate(
    model: LocalOrServedModel,
    prompt: Annotated[str | None, typer.Argument(help="The text to continue; left out with --interactive.")] = None,
    interactive: Annotated[
        bool,
        typer.Option("--interactive", help="Keep the model loaded, and read prompts and changes such as `/factor 2`."),
    ] = False,
    server: OptionalServer = None,
    neurons: LocalOrServedNeurons = None,
    lora: LocalOrServedLora = None,
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
    chat: Chat = False,
    prefill: Prefill = None,
    chat_template_kwargs: TemplateOptions = None,
    max_tokens: Annotated[
        int, typer.Option(min=LEAST_TOKENS, help="Maximum number of tokens to generate.")
    ] = DEFAULT_TOKENS,
    temperature: Annotated[
        float, typer.Option(min=float(LEAST_TEMPERATURE), help="Sampling temperature; 0 is greedy.")
    ] = DEFAULT_TEMPERATURE,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling.")] = None,
    *,
    options: EngineOptions,
    as_json: AsJson = False,
) -> None:
    """Continue a prompt, steered or not, and print the text as it is generated (with --json: at its end)."""
    from ampsweep.domain.generation.sampling import SamplingParams

    _check_prompt(prompt, interactive=interactive, intervention=intervention)
    check_text(prefill or "", param="prefill")
    form = chat_form(chat=chat, prefill=prefill, variables=chat_template_kwargs)
    fields = {"languages": languages, "op": op, "factor": factor, "patch": patch, "vector": vector}
    question = _Question(
        prompt=prompt,
        fields=fields,
        steering=_intervention(intervention, fields, neurons=None if interactive else neurons),
        sampling=SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed),
    )
    if server is not None:
        leave_to_server(options.of_engine())
        with client_of(server) as client:
            remote = partial(
                _ask_server, client, model, {"neurons": neurons, "adapter": lora}, form=form, as_json=as_json
            )
            _generate_there(question, remote)
        return
    if question.steering is not None and not neurons:
        raise InvalidRequest("steering needs a neuron set; create one with `ampsweep identify`", param="neurons")
    model_folder(model)  # before anything that takes time
    quiet_libraries("generate", verbose=options.verbose)
    neuron_set = read_neurons(neurons or None)
    adapters = {} if lora is None else {lora: Path(lora)}
    opening = options.opened(model, neurons=neuron_set, adapters=adapters, requests=1, as_json=as_json)
    chat = form is not None
    _check_question(question, model_folder(model), neuron_set, chat=chat, fake=options.engine == "fake")
    neuron_set_id = None if neuron_set is None else neuron_set.id
    local = partial(_ask, neurons=neuron_set_id, adapter=lora, form=form, as_json=as_json)
    _generate_here(question, opening, local, has_neurons=neuron_set is not None)


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What the options ask.

    Attributes:
        prompt: The text to continue; None for a conversation.
        fields: The parts of the intervention that are options, which a conversation begins with.
        steering: The intervention; None without steering.
        sampling: How to generate.
    """

    prompt: str | None
    fields: Mapping[str, Any]
    steering: dict[str, Any] | None
    sampling: SamplingParams


def _check_prompt(prompt: str | None, *, interactive: bool, intervention: str | None) -> None:
    """Raise InvalidRequest unless there is either a prompt or a conversation."""
    if interactive == (prompt is not None):
        raise InvalidRequest("give either a prompt or --interactive", param="prompt")
    if interactive and intervention is not None:
        message = "is fixed; give its parts (--languages, --factor, ...), which can be changed between prompts"
        raise InvalidRequest(message, param="intervention")
    check_text(prompt or "", param="prompt")


def _check_question(question: _Question, folder: Path, neuron_set: NeuronSet | None, *, chat: bool, fake: bool) -> None:
    """Check against the files of a model and a neuron set, before the engine starts, what the options ask."""
    from ampsweep.domain.intervention import Intervention
    from worker.start_checks import check_prompts, check_steering

    if question.steering is not None and (question.prompt is not None or "factor" in question.steering):
        check_steering(Intervention.from_dict(question.steering), neuron_set)
    if not fake:  # the fake engine encodes text in its own way
        check_prompts(folder, [question.prompt or ""], chat=chat)


def _generate_there(question: _Question, ask: Callable[..., None]) -> None:
    """Print the answer of a server, or converse with it."""
    from ampsweep.cli.commands.interactive import Conversation, converse

    if question.prompt is not None:
        ask(question.prompt, question.steering, question.sampling)
        return
    converse(Conversation.started(question.fields, question.sampling, neurons=True), ask, prompt=_prompt_sign())


def _generate_here(
    question: _Question,
    opening: AbstractAsyncContextManager[Engine],
    ask: Callable[..., Coroutine[object, object, None]],
    *,
    has_neurons: bool,
) -> None:
    """Load the model, and print its answer or converse with it."""
    import asyncio

    from ampsweep.cli.commands.interactive import Conversation, converse

    if question.prompt is not None:
        run_to_end(_answer_once(opening, ask, question.prompt, question.steering, question.sampling))
        return
    with asyncio.Runner() as runner:
        loaded = runner.run(_loaded(opening))
        try:
            converse(
                Conversation.started(question.fields, question.sampling, neurons=has_neurons),
                lambda *request: runner.run(ask(loaded, *request)),
                read=_read_line,
                prompt=_prompt_sign(),
            )
        finally:
            runner.run(opening.__aexit__(None, None, None))


async def _answer_once(
    opening: AbstractAsyncContextManager[Engine],
    ask: Callable[..., Coroutine[object, object, None]],
    prompt: str,
    steering: dict[str, Any] | None,
    sampling: SamplingParams,
) -> None:
    async with AsyncExitStack() as stack:
        with waiting("loading the model"):
            loaded = await stack.enter_async_context(opening)
        await ask(loaded, prompt, steering, sampling)


async def _loaded(opening: AbstractAsyncContextManager[Engine]) -> Engine:
    with waiting("loading the model"):
        return await opening.__aenter__()


async def _ask(
    engine: Engine,
    prompt: str,
    steering: dict[str, Any] | None,
    sampling: SamplingParams,
    *,
    neurons: str | None,
    adapter: str | None,
    form: ChatForm | None,
    as_json: bool,
) -> None:
    """Print the answer of an engine in this process."""
    from ampsweep.domain.generation.prompt import DEFAULT_OPTIONS
    from ampsweep.domain.intervention import Intervention
    from engine.base import GenerateRequest, Steering

    use = None
    if steering is not None and neurons is not None:
        use = Steering(intervention=Intervention.from_dict(steering), neurons=neurons)
    printer = TextPrinter(as_json=as_json)
    request = GenerateRequest(
        prompt=prompt if form is None else form.messages(prompt),
        options=DEFAULT_OPTIONS if form is None else form.options(),
        sampling=sampling,
        steering=use,
        adapter=adapter,
    )
    async with aclosing(engine.generate(request)) as chunks:
        async for chunk in chunks:
            printer.piece(chunk.text, chunk.finish_reason, chunk.neuron_set, chunk.steered_spans)
    printer.end()


def _ask_server(
    client: Client,
    model: str,
    options: Mapping[str, Any],
    prompt: str,
    steering: dict[str, Any] | None,
    sampling: SamplingParams,
    *,
    form: ChatForm | None,
    as_json: bool,
) -> None:
    """Print the answer of a server."""
    chosen = {name: getattr(sampling, name) for name in ("max_tokens", "temperature", "seed")} | dict(options)
    given = {key: value for key, value in chosen.items() if value is not None}
    printer = TextPrinter(as_json=as_json)
    if form is None:
        pieces = client.stream(model, prompt, intervention=steering, **given)
    else:
        pieces = client.stream_chat(model, form.messages(prompt), intervention=steering, **form.fields(), **given)
    for piece in pieces:
        printer.piece(piece.text, piece.finish_reason, piece.neuron_set, piece.steered_spans)
    printer.end()


def _prompt_sign() -> str:
    """Return what stands before a line that is typed; nothing if lines come from a file."""
    return "> " if sys.stdin.isatty() else ""


def _read_line(prompt: str) -> str:
    """Read a line, with the line editing of a terminal."""
    if sys.stdin.isatty():
        import readline  # noqa: F401  # gives `input` its line editing
    with undiverted():
        return input(prompt)


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
