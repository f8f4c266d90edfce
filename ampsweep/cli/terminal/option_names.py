"""Puts errors in the words of the command line: a field becomes the option that the user typed.

The other packages know no options. Their errors name fields, and those of a server query parameters, headers and paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ampsweep.errors import AmpsweepError

_WORDS: Mapping[str, str] = {
    "add partial=true": "add --partial",
    "this Idempotency-Key": "this --idempotency-key",
    "GET /v1/engines lists them": "`ampsweep engines` lists them",
    "GET /v1/models lists its models": "`ampsweep list models --server URL` lists its models",
    "(ampsweep identify, or POST /v1/neuron-sets)": "(`ampsweep identify`)",
}
"""Remedies for clients of the REST API, and the same for users of the command line."""
_SPEC_FIELDS = ("adapter", "model", "name", "neurons", "interventions", "tasks", "mode", "seed", "search")
"""Fields of a spec, which an error of a command that reads one means rather than an option of the same name."""
_NAMES = {"models": "model", "corpora": "corpus", "params": "param", "url": "server"}
"""Fields that are named otherwise than their options."""
_PREDICATES = ("must", "is", "has", "goes")
"""Words that follow the name of a field where it is the subject of a message."""


@contextmanager
def about_option(option: str) -> Iterator[None]:
    """Let an error in the block name an option such as `--neurons`, whose name a field of the spec has too."""
    try:
        yield
    except AmpsweepError as error:
        error.param = option
        raise


def command_of(group: Any, words: Sequence[str]) -> Any:
    """Return the command that the words of a command line call, or the innermost group that they name."""
    command = group
    for word in words:
        commands = getattr(command, "commands", {})
        if word in commands:
            command = commands[word]
        elif not commands:
            break
    return command


def in_words_of_options(text: str, param: str | None, command: Any, words: Sequence[str]) -> str:
    """Return the message of an error with the option of `command` that its field is, and with remedies for options.

    Args:
        text: The message, which begins with the field; see `describe`.
        param: The field; None if the error has none.
        command: The command that failed.
        words: Its command line. A field of the intervention is an option unless `--intervention` is among them.

    Returns:
        The message; unchanged where the field is none of the command's options.
    """
    for rest_words, option_words in _WORDS.items():
        text = text.replace(rest_words, option_words)
    if param is None:
        return text
    first, *inner = param.split(".")
    if first == "intervention" and inner and not any(word.startswith("--intervention") for word in words):
        first, *inner = inner
    if (option := _option(first, command)) is None:
        return text
    subject, _, predicate = text.partition(" ")
    if subject == param == first and predicate.split(" ")[0] in _PREDICATES:
        return f"{option} {predicate}"
    if text.startswith(f"{param}: "):
        text = text[len(param) + 2 :]
    named = text.startswith(param)  # such as "languages.1 is required"
    place = "" if named else ".".join(part for part in inner if not part.isdecimal())
    return text if text.startswith(option) else f"{' '.join(filter(None, (option, place)))}: {text}"


def _option(field: str, command: Any) -> str | None:
    """Return the option of a command that a field is, None if there is none."""
    if field.startswith("--"):
        return field
    name = field.lower().replace("-", "_")
    name = _NAMES.get(name, name)
    long = f"--{name.replace('_', '-')}"
    parameters = {parameter.name: parameter for parameter in command.params}
    if "spec" in parameters and name in _SPEC_FIELDS:
        return None
    parameter = parameters.get(name)
    if parameter is not None and parameter.param_type_name == "option":
        return next((option for option in parameter.opts if option.startswith("--")), long)
    return long if any(long in parameter.opts for parameter in parameters.values()) else None
