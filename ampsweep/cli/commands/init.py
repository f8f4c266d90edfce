"""`ampsweep init`: writes a commented spec for a model, its languages and the data that is found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ampsweep.bundled import ATLAS, ATLAS_CORPUS
from ampsweep.cli.options.engine import Data, Model
from ampsweep.cli.options.values import comma_separated
from ampsweep.cli.terminal.output import AsJson, show, warn
from ampsweep.errors import AmpsweepError, InvalidRequest
from ampsweep.files import atomic_write, check_folder

if TYPE_CHECKING:
    from jobs.planning.catalog import Catalog

MAX_TARGETS = 5
"""Languages that are steered to unless the user names others: enough for a first look."""
LIMIT = 100
"""Items of a task in the spec."""
MAX_DATA_LANGUAGES = 3
ENGLISH = "en"
_ASKS_TARGETS = ("lss",)
"""Tasks whose data must have the target languages too."""


@dataclass(frozen=True, kw_only=True)
class FoundTask:
    """A task whose data were found, with their languages; `data` and `split` where they are not the defaults."""

    name: str
    languages: tuple[str, ...]
    data: str | None = None
    split: str | None = None

    def line(self, languages: Sequence[str], targets: Sequence[str]) -> str:
        """Return the task as a line of the spec, with those target languages that its data have if they lack some."""
        own = [code for code in targets if code in self.languages] if self.name in _ASKS_TARGETS else targets
        options = {
            "name": self.name,
            "data": self.data,
            "split": self.split,
            "languages": list(languages),
            "targets": None if len(own) == len(targets) else own,
        }
        given = {key: value for key, value in options.items() if value is not None}
        return f"- {_yaml({**given, 'limit': LIMIT})}"


def init(
    model: Model,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("sweep.yaml"),
    corpus: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="A corpus to find the neurons on. [default: the bundled one]"),
    ] = None,
    data: Data = None,
    languages: Annotated[
        str | None, typer.Option(help=f"Languages to steer to, separated by commas. [default: up to {MAX_TARGETS}]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented spec of a sweep for a model, its languages and the data that is found, as a start."""
    from ampsweep.cli.server.catalog import catalog_of
    from ampsweep.cli.server.settings import read_settings
    from ampsweep.domain.languages.codes import read_code
    from ampsweep.folders.corpus import Corpus

    if out.exists() and not overwrite:
        raise InvalidRequest(f"{out} exists; give another file, or --overwrite", param="out")
    check_folder(out.parent, param="out")
    settings = read_settings(data=data, corpora=corpus)
    catalog = catalog_of(settings, local_models=True)
    folder = catalog.model(model)
    if len(corpus or ()) > 1:
        raise InvalidRequest("give one corpus: the neurons of a spec are found on a single one", param="corpus")
    corpus_name = corpus[0].strip().partition("=")[0] if corpus else next(iter(settings.corpora), ATLAS)
    found = Corpus.open(settings.all_corpora()[corpus_name]).languages
    targets = [code for code in found if code != ENGLISH][:MAX_TARGETS]
    if languages is not None:
        targets = [read_code(code, param="languages") for code in comma_separated(languages)]
        Corpus.open(settings.all_corpora()[corpus_name], languages=targets)
    tasks = [task for task in found_tasks(catalog) if _data_languages(task, targets)]
    if not tasks:
        raise InvalidRequest("no data set has any of the languages; give a folder with data sets that do", param="data")
    text = _spec(model, f"{folder.layers} layers", corpus_name, found, targets, tasks, _options(out, corpus, data))
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if model != ATLAS and corpus_name == ATLAS:
        warn(["the bundled corpus describes countries in short sentences; for a real model give --corpus NAME=FOLDER"])
    content = {"file": str(out), "languages": targets, "tasks": [task.name for task in tasks]}
    show(content, f"{out}: next, `ampsweep plan {_options(out, corpus, data)}`", as_json=as_json)


def found_tasks(catalog: Catalog) -> Iterator[FoundTask]:
    """Yield the tasks whose data sets are on this machine. Texts are scored and continued; without any, the atlas's."""
    from jobs.tasks.registry import BUILT_IN_TASKS, task_for

    data_sets = catalog.data_sets()
    defaults = set[str]()
    for name in BUILT_IN_TASKS:
        task = task_for(name)
        defaults.add(task.default_data)
        if task.default_data in data_sets:
            with suppress(AmpsweepError, OSError):  # a folder of this name with something else
                languages = task.languages(data_sets[task.default_data], task.default_split)
                yield FoundTask(name=name, languages=tuple(sorted(languages)))
    are_texts_found = task_for("generation").default_data in data_sets
    for name, folder in data_sets.items():
        for split in _splits(folder) if name not in defaults else ():
            with suppress(AmpsweepError, OSError):
                if codes := tuple(sorted(task_for("perplexity").languages(folder, split))):
                    are_texts_found = True
                    yield FoundTask(name="perplexity", data=name, split=split, languages=codes)
                    yield FoundTask(name="generation", data=name, split=split, languages=codes)
    if not are_texts_found and ATLAS in data_sets:
        yield FoundTask(name="generation", data=ATLAS, split=ATLAS_CORPUS.name, languages=(ENGLISH,))


def _splits(folder: Path) -> list[str | None]:
    """Return the splits of a data set of texts; a folder of texts without subfolders has one, which has no name."""
    from jobs.data.texts import subfolders

    splits: list[str | None] = [path.name for path in subfolders(folder)]
    return splits or ([None] if any(folder.glob("*.txt*")) else [])


def _data_languages(task: FoundTask, targets: Sequence[str]) -> list[str]:
    """Return the languages to ask a task in: English, or for a task on the text itself the targets too.

    There are none for a task whose data have none of the targets that it needs.
    """
    if task.name in _ASKS_TARGETS and not any(code in task.languages for code in targets):
        return []
    wanted = [ENGLISH, *targets] if task.name == "perplexity" else [ENGLISH]
    chosen = [code for code in wanted if code in task.languages]
    return chosen or [code for code in targets if code in task.languages][:MAX_DATA_LANGUAGES]


def _options(out: Path, corpus: Sequence[str] | None, data: Path | None) -> str:
    """Return the arguments that `plan` and `run` need for the spec."""
    corpora = [f"--corpus {each}" for each in corpus or ()]
    return " ".join([str(out), *corpora, *([] if data is None else [f"--data {data}"])])


def _spec(
    model: str,
    shape: str,
    corpus: str,
    found: Sequence[str],
    targets: Sequence[str],
    tasks: Sequence[FoundTask],
    options: str,
) -> str:
    """Return the text of the spec."""
    atlas = model == ATLAS
    rate = "top_rate: 0.05" if atlas else "# top_rate: 0.01"
    magnitudes = (
        "factors: [-0.5, 0, 0.5, 3]     # ... to each of these values\n"
        if atlas
        else "patch: [max]                  # ... to the largest mean activation in the language, times ...\n"
        "  factors: [0.5, 1, 2]          # ... each of these\n"
    )
    lines = "\n".join(f"  {task.line(_data_languages(task, targets), targets)}" for task in tasks)
    return f"""\
# A sweep: edits of the neurons of some languages, and what they do to a model. docs/spec.md describes every key.
#   ampsweep plan {options}               # what it costs
#   ampsweep run {options} --out results  # runs it; the same command continues it after a stop
name: {_yaml(Path(model).name)}
model: {_yaml(model)}  # {shape}

# How the neurons of each language are found: those that are active on text in few languages.
neurons:
  method: lape                  # or activated, act_prob, average_precision, random
  corpus: {_yaml(corpus)}
  languages: {_yaml(list(found))}  # all that the corpus has; they are compared with each other
  {rate}              # the share of all neurons that LAPE keeps

# Whose neurons are edited, and how. The unsteered model is always measured too.
interventions:
  languages: {_yaml(list(targets))}
  op: set                       # set the neurons ...; or scale (multiply by the factor), add
  {magnitudes}\
  # layers: each                # one cell for each layer
  controls: [random]            # everything once more with as many random neurons
  # random_draws: 3             # ... drawn so often, to see how much they differ

# What is measured, with up to {LIMIT} items in each language. docs/tasks.md describes the tasks.
tasks:
{lines}
seed: 0
"""


def _yaml(value: Any) -> str:
    """Return a value as YAML on one line; codes that YAML reads as something else (`no`) are quoted."""
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()
