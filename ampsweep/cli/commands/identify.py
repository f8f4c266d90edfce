"""`ampsweep identify`: find the neurons of each language on a corpus of plain text."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ampsweep.cli.options.engine import SHORT_JOB, Model, model_folder
from ampsweep.cli.options.local_engine import EngineOptions, takes_engine_options
from ampsweep.cli.options.neuron_source import check_neuron_folder
from ampsweep.cli.options.values import comma_separated
from ampsweep.cli.terminal.library_messages import quiet_libraries
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.cli.terminal.progress import ProgressDisplay, follow_recording
from ampsweep.cli.terminal.running import run_to_end
from ampsweep.documents import parse_yaml, unique_keys
from ampsweep.domain.choices import one_of
from ampsweep.domain.neurons.neuron_set import (
    MAX_TOKENS,
    METADATA_FILE,
    IdentificationRequest,
    SpecMethod,
    language_warnings,
)
from ampsweep.errors import InvalidRequest
from ampsweep.files import check_folder
from ampsweep.missing_path import no_folder

if TYPE_CHECKING:
    from ampsweep.folders.corpus import Corpus
    from engine.base import Engine
    from engine.neurons.neuron_set import NeuronSet


@takes_engine_options
def identify(
    model: Model,
    corpus: Annotated[
        str, typer.Option(help="A folder with a file <language>.txt or .txt.gz per language, or `atlas`.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write the neuron set to.")],
    languages: Annotated[
        str | None, typer.Option(help="Language codes, separated by commas. [default: all of the corpus]")
    ] = None,
    method: Annotated[str, typer.Option(help=f"The method: {one_of(get_args(SpecMethod))}.")] = "lape",
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A parameter of the method, such as top_rate=0.05; may be repeated."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Maximum number of tokens to record per language.")] = MAX_TOKENS,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores",
            help="Also score all neurons and the residual stream by LAPE (`neurons scores`); not on a GPU with vLLM.",
        ),
    ] = False,
    *,
    options: EngineOptions,
    as_json: AsJson = False,
) -> None:
    """Record the activations of a model on a corpus, and write the neurons of each language.

    A checkpoint next to OUT holds what was recorded so far; an interrupted command continues from it when run again.
    """
    from worker.resources.gpus import has_gpu

    model_folder(model)  # before anything that takes time
    if scores and options.engine == "vllm" and has_gpu():
        message = "vLLM does not score the residual stream on a GPU; leave --scores out, or add --engine transformers"
        raise InvalidRequest(message, param="scores")
    quiet_libraries("identify", verbose=options.verbose)
    check_folder(out, param="out")
    params = unique_keys([_parameter(text) for text in param or []])
    request = IdentificationRequest.of(method, params, max_tokens=max_tokens)
    texts = _opened_corpus(corpus, languages)
    request.check_languages(texts.languages, param="languages")
    if (out / METADATA_FILE).is_file():  # otherwise the files of the model need not be hashed before they are loaded
        _check_same_set(out, model, texts, request)
    warnings = language_warnings(method, texts.languages)
    warn(warnings)
    opening = options.opened(model, neurons=None, adapters={}, requests=SHORT_JOB + 1, as_json=as_json)
    try:
        with ProgressDisplay(out.name) as display:
            neuron_set = run_to_end(_record(opening, texts, request, out.absolute(), display, scores=scores))
    except (KeyboardInterrupt, typer.Exit):
        warn(["stopped; run the same command to continue"])
        raise
    counts = {language: len(pairs) for language, pairs in neuron_set.neurons.items()}
    text = "".join(f"{language}  {count} neurons\n" for language, count in counts.items())
    content = {"id": neuron_set.id, "folder": str(out), "languages": counts, "warnings": list(warnings)}
    show(content, f"{text}{neuron_set.id} in {out}", as_json=as_json)


def _opened_corpus(corpus: str, languages: str | None) -> Corpus:
    """Return the texts of some languages of a folder or of the bundled corpus; of all languages if None is given."""
    from ampsweep.bundled import ATLAS, ATLAS_CORPUS
    from ampsweep.folders.corpus import Corpus

    codes = None if languages is None else comma_separated(languages)
    if corpus == ATLAS:
        return Corpus.open(ATLAS_CORPUS, languages=codes, name=ATLAS)
    if not Path(corpus).is_dir():
        raise InvalidRequest(f"{no_folder(Path(corpus))}; give the folder of a corpus, or `{ATLAS}`", param="corpus")
    return Corpus.open(Path(corpus), languages=codes)


def _check_same_set(out: Path, model: str, texts: Corpus, request: IdentificationRequest) -> None:
    """Raise an error if a folder holds another neuron set than the one that a request would find."""
    from ampsweep.folders.model import read_model_folder

    shape = read_model_folder(model_folder(model), name=model)
    neuron_set_id = request.for_model(model, widths=shape.widths).neuron_set_id(
        fingerprint=shape.fingerprint, corpus_hash=texts.hash, languages=texts.languages
    )
    check_neuron_folder(out, neuron_set_id)


async def _record(
    opening: AbstractAsyncContextManager[Engine],
    texts: Corpus,
    request: IdentificationRequest,
    out: Path,
    display: ProgressDisplay,
    *,
    scores: bool,
) -> NeuronSet:
    """Load the model, record its activations, and write the neuron set and its scores, or none."""
    from engine.identify.identification import checkpoint_in, identify_with_scores, tracker_of
    from engine.identify.identification import identify as identify_neurons
    from engine.neurons.lape_scores import SCORES_FILE

    display.stage("starting the engine")
    async with opening as loaded:
        info = loaded.info
        complete = request.for_model(info.model, widths=info.widths)
        checkpoint = checkpoint_in(out.parent, info, texts, complete, scores=scores)
        tracker = tracker_of(texts, complete)
        if scores:
            scoring = identify_with_scores(loaded, texts, complete, checkpoint=checkpoint, tracker=tracker)
            neuron_set, scored = await follow_recording(scoring, tracker.progress, display)
            neuron_set.save(out)
            scored.save(out)
        else:
            finding = identify_neurons(loaded, texts, complete, checkpoint=checkpoint, tracker=tracker)
            neuron_set = await follow_recording(finding, tracker.progress, display)
            neuron_set.save(out)
            (out / SCORES_FILE).unlink(missing_ok=True)  # of an earlier set in this folder
        checkpoint.discard()
        return neuron_set


def _parameter(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidRequest(f"must be NAME=VALUE, for example top_rate=0.01; got {text!r}", param="param")
    try:
        return name, parse_yaml(value)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"must be NAME=VALUE with a number as value; got {text[:100]!r}", param="param") from error
