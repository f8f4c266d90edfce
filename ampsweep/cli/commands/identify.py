"""`ampsweep identify`: find the neurons of each language on a corpus of plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer
import yaml

from ampsweep.cli.options.engine import Dtype, Kind, Model, opened
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.cli.terminal.running import run_to_end
from ampsweep.domain.choices import one_of
from ampsweep.domain.neuron_set import MAX_TOKENS, IdentificationRequest, SpecMethod, language_warnings
from ampsweep.errors import InvalidRequest
from ampsweep.files import check_folder


def identify(
    model: Model,
    corpus: Annotated[str, typer.Option(help="A folder with one <language>.txt or .txt.gz each, or `atlas`.")],
    out: Annotated[Path, typer.Option(help="The folder the neuron set is written to.")],
    languages: Annotated[
        str | None, typer.Option(help="Language codes, with commas; default: all of the corpus.")
    ] = None,
    method: Annotated[str, typer.Option(help=f"{one_of(get_args(SpecMethod))}.")] = "lape",
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the method.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens recorded of each language, at most.")] = MAX_TOKENS,
    engine: Kind = "vllm",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Record a corpus on a model and write the neurons of each language.

    What was recorded is kept beside OUT until it is finished: the same command goes on where it was stopped.
    """
    from ampsweep.bundled import ATLAS, ATLAS_CORPUS
    from ampsweep.folders.corpus import Corpus
    from engine.identify.identification import checkpoint_in
    from engine.identify.identification import identify as find
    from engine.neurons.neuron_set import NeuronSet

    check_folder(out, param="out")
    wanted = [code.strip() for code in languages.split(",") if code.strip()] if languages else None
    request = IdentificationRequest.of(method, dict(map(_parameter, param or [])), max_tokens=max_tokens)
    folder = ATLAS_CORPUS if corpus == ATLAS else Path(corpus)
    texts = Corpus.open(folder, languages=wanted, name=ATLAS if corpus == ATLAS else None)
    request.check_languages(texts.languages, param="languages")
    warnings = language_warnings(method, texts.languages)
    warn(warnings)

    async def record() -> NeuronSet:
        async with opened(model, kind=engine, dtype=dtype) as loaded:
            checkpoint = checkpoint_in(out.absolute().parent, loaded.info, texts, request)
            found = await find(loaded, texts, request, checkpoint=checkpoint)
            found.save(out)
            checkpoint.discard()
            return found

    found = run_to_end(record())
    languages_found = {language: len(pairs) for language, pairs in found.neurons.items()}
    text = "".join(f"{language}  {count} neurons\n" for language, count in languages_found.items())
    content = {"id": found.id, "folder": str(out), "languages": languages_found, "warnings": list(warnings)}
    show(content, f"{text}{found.id} in {out}", as_json=as_json)


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidRequest(f"must be NAME=VALUE, for example top_rate=0.01; got {text!r}", param="param")
    return name, yaml.safe_load(value)
