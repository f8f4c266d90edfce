"""The help of commands: an example of each, and square brackets that are shown and not taken for markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer
from rich.markup import escape

_SCALE = '{"languages": ["fr"], "op": "scale", "factor": 2}'
EXAMPLES: Mapping[str, Sequence[str]] = {
    "serve": (
        "ampsweep serve",
        "ampsweep serve --model gemma=models/gemma-3-270m --corpus flores=corpora/flores --data data",
    ),
    "init": (
        "ampsweep init --model atlas",
        "ampsweep init --model models/mine --corpus mine=corpus --data data --languages fr,ja --out study.yaml",
    ),
    "plan": (
        "ampsweep plan sweep.yaml",
        "ampsweep plan sweep.yaml --measure",
        "ampsweep plan sweep.yaml --server http://127.0.0.1:8700",
    ),
    "run": (
        "ampsweep run examples/atlas.yaml --out out/atlas",
        "ampsweep run study.yaml --corpus mine=corpus --data data --out study",
    ),
    "submit": (
        "ampsweep submit examples/atlas.yaml --watch",
        "ampsweep submit study.yaml --priority 10 --server http://gpu-machine:8700",
    ),
    "status": ("ampsweep status", "ampsweep status sweep_1f0c --failures", "ampsweep status --tag paper --text qwen"),
    "results": ("ampsweep results sweep_1f0c --out study.parquet", "ampsweep results sweep_1f0c --partial"),
    "samples": (
        "ampsweep samples study --where task=generation --where target_language=fr",
        "ampsweep samples sweep_1f0c --where factor=2 --items 10",
    ),
    "report": (
        "ampsweep report study --out study.html --tables tables",
        "ampsweep report study --out study.ipynb",
        "ampsweep report sweep_1f0c --out study.html",
    ),
    "evaluate": ("ampsweep evaluate study/results.parquet --metric language_confusion,script --by factor",),
    "cancel": ("ampsweep cancel sweep_1f0c",),
    "pause": ("ampsweep pause sweep_1f0c",),
    "resume": ("ampsweep resume sweep_1f0c",),
    "edit": ('ampsweep edit sweep_1f0c --name "all languages"', "ampsweep edit sweep_1f0c --tag paper --untag draft"),
    "delete": ("ampsweep delete sweep_1f0c", "ampsweep delete sweep_1f0c --yes"),
    "identify": (
        "ampsweep identify --model models/mine --corpus corpus --out neurons",
        "ampsweep identify --model atlas --corpus atlas --param top_rate=0.05 --languages en,fr,ja,ru,tr --out neurons",
    ),
    "neurons import": (
        "ampsweep neurons import neurons.json --model models/mine --out neurons",
        "ampsweep neurons import neurons.csv --model models/mine --out neurons",
        "ampsweep neurons import lists.pt --languages en,fr,tr --model models/mine --out neurons",
    ),
    "neurons show": ("ampsweep neurons show neurons",),
    "neurons scores": ("ampsweep neurons scores neurons --site residual --top 20",),
    "neurons export": ("ampsweep neurons export neurons --out neurons.json",),
    "neurons overlap": (
        "ampsweep neurons overlap neurons",
        "ampsweep neurons overlap neurons neurons-of-another-corpus",
    ),
    "neurons rank": ("ampsweep neurons rank study --neurons neurons --top 20 --out best",),
    "neurons pull": ("ampsweep neurons pull lab/neurons-of-qwen2 --out neurons",),
    "neurons push": ("ampsweep neurons push neurons lab/neurons-of-qwen2 --private",),
    "neurons default": ("ampsweep neurons default atlas", "ampsweep neurons default atlas ns_1f0c"),
    "keys create": ("ampsweep keys create --name notebook --scopes read,submit",),
    "keys list": ("ampsweep keys list",),
    "keys revoke": ("ampsweep keys revoke 0a1b2c3d4e5f",),
    "engines": ("ampsweep engines", "ampsweep engines retry atlas"),
    "engines retry": ("ampsweep engines retry atlas",),
    "list": ("ampsweep list tasks", "ampsweep list models --server http://127.0.0.1:8700"),
    "batch": ("ampsweep batch requests.jsonl answers.parquet --model models/mine --neurons neurons",),
    "capture": (
        "ampsweep capture texts.txt activations.parquet --model atlas --layers 2,3",
        "ampsweep capture chats.jsonl out.parquet --model models/mine --neurons neurons --languages fr,ja",
        f"ampsweep capture texts.txt out.parquet --model atlas --layers 2 --neurons neurons --intervention '{_SCALE}'",
        "ampsweep capture texts.txt out.parquet --model atlas --layers 2,3 --server http://127.0.0.1:8700",
    ),
    "generate": (
        'ampsweep generate "In Egypt, the currency is" --model atlas',
        'ampsweep generate "The currency is" --model atlas --neurons neurons --languages ja --op set --factor 3',
        "ampsweep generate --interactive --model models/mine --neurons neurons",
    ),
    "doctor": ("ampsweep doctor", "ampsweep doctor --model Qwen/Qwen2.5-0.5B-Instruct --dtype bfloat16"),
    "export": (f"ampsweep export --model atlas --neurons neurons --intervention '{_SCALE}' --out atlas-fr",),
}
"""Examples of each command, by its words."""

_VALUES = {
    "server": "URL",
    "judge_url": "URL",
    "database_url": "URL",
    "ray_address": "ADDRESS",
    "languages": "CODES",
    "low_resource": "CODES",
    "dtype": "DTYPE",
    "engine": "ENGINE",
    "vector": "VECTOR",
    "op": "OP",
    "patch": "PATCH",
    "name": "NAME",
    "tag": "TAG",
    "untag": "TAG",
    "model": "MODEL",
    "nll_model": "MODEL",
    "judge_model": "MODEL",
    "out": "PATH",
    "data": "FOLDER",
    "home": "FOLDER",
}
"""What stands for the value of an option, where its type says less."""
_TYPES = {"<str>": "TEXT", "<list[str]>": "TEXT", "<path>": "PATH", "<list[Path]>": "PATH", "<int>": "N"}
_TYPES |= {"<float>": "NUMBER", "<int range>": "N", "<float range>": "NUMBER"}


def complete_help(name: str, command: Any) -> None:
    """Add the examples to the help of a command and of those below it, name the values of options, and keep brackets.

    Flags take no value, and show none.
    """
    for words, each in _all({name: command}, ()):
        examples = EXAMPLES.get(" ".join(words), ())
        if hasattr(each, "commands"):
            _complete_markup(each, examples)
        else:
            _complete_text(each, examples)
        name_values([*each.params, each.get_help_option(typer.Context(each))])


def _complete_markup(group: Any, examples: Sequence[str]) -> None:
    """Complete the help of a group, a table of commands.

    Typer renders it as markup of Rich, which would take `[index, ...]` for a style and show nothing.
    """
    group.help = escape(group.help or "")
    for parameter in group.params:
        if getattr(parameter, "help", None):
            parameter.help = escape(parameter.help)
    if examples:
        group.epilog = "\n".join(["Examples:", *(f"  {escape(example)}" for example in examples)])


def _complete_text(command: Any, examples: Sequence[str]) -> None:
    """Complete the help of a command. It is plain text, because a table cuts long names off in a narrow terminal."""
    command.rich_markup_mode = None
    command.short_help = escape(command.help or "")  # its line in the table of the group
    if examples:
        command.epilog = "\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)])


def name_values(parameters: Iterable[Any]) -> None:
    """Give each option among parameters what stands for its value in the help."""
    for parameter in parameters:
        if parameter.param_type_name == "option" and parameter.metavar is None:
            parameter.metavar = _metavar(parameter)


def _metavar(option: Any) -> str:
    """Return what stands for the value of an option in the help; nothing for a flag."""
    if option.is_flag:
        return ""
    name: str = option.name
    return _VALUES.get(name) or _TYPES.get(option.display_type(None), name.rpartition("_")[2].upper())


def _all(commands: Mapping[str, Any], before: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in commands.items():
        yield (*before, name), command
        yield from _all(getattr(command, "commands", {}), (*before, name))
