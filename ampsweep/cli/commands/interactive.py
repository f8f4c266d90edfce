"""The loop of `ampsweep generate --interactive`: prompts, and lines beginning with `/` that change the steering.

Knows neither engines nor servers: `ask` answers a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ampsweep.cli.options.chat import check_text
from ampsweep.cli.options.values import comma_separated
from ampsweep.cli.terminal.failures import describe
from ampsweep.cli.terminal.output import echo
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import AmpsweepError, InvalidRequest

_BYTE_ORDER_MARK = "\ufeff"
"""Begins a file of prompts that a program on Windows wrote."""
STEERING: Mapping[str, Callable[[str], Any]] = {
    "languages": comma_separated,
    "op": str,
    "factor": float,
    "patch": str,
    "vector": str,
}
SAMPLING: Mapping[str, Callable[[str], Any]] = {"max_tokens": int, "temperature": float, "seed": int}
HELP = """a line is a prompt; a line that begins with / is one of:
  /languages fr,ja   steer with the neurons of these languages; /languages alone steers no more
  /factor 2          the factor; likewise /op scale, /patch max, /vector diffmean; alone they take the value back
  /max-tokens 100    likewise /temperature 0.7, /seed 1
  /show              print what is set
  /quit              leave; so does Ctrl-D. Ctrl-C stops an answer"""


@dataclass(kw_only=True)
class Conversation:
    """What is set between two prompts.

    Attributes:
        steering: The fields of the intervention that are given.
        sampling: How tokens are chosen.
        neurons: Whether there is a neuron set to steer with.
    """

    steering: dict[str, Any] = field(default_factory=dict)
    sampling: SamplingParams = field(default_factory=SamplingParams)
    neurons: bool = True

    @classmethod
    def started(cls, parts: Mapping[str, Any], sampling: SamplingParams, *, neurons: bool) -> Conversation:
        """Return a conversation that begins with the options of the command."""
        steering = {name: value for name, value in parts.items() if value is not None}
        if "languages" in steering:
            steering["languages"] = comma_separated(steering["languages"])
        return cls(steering=steering, sampling=sampling, neurons=neurons)

    def intervention(self) -> dict[str, Any] | None:
        """Return the intervention of the next prompt; None if no languages are set."""
        if "languages" not in self.steering:
            return None
        return {"op": "add" if "vector" in self.steering else "scale", **self.steering}

    def change(self, line: str) -> str:
        """Carry out a line such as `/factor 2`, and return what to print.

        Raises:
            InvalidRequest: The line cannot be understood, or its value is not allowed; nothing is changed.
        """
        word, _, value = line.removeprefix("/").strip().partition(" ")
        name, value = word.replace("-", "_"), value.strip()
        if name in ("help", ""):
            return HELP
        if name == "show":
            return str(self)
        if name in STEERING:
            self._steer(name, value)
        elif name in SAMPLING:
            self._sample(name, value)
        else:
            names = [*STEERING, *SAMPLING, "show", "help", "quit"]
            close = get_close_matches(name, names, n=1)
            hint = f"; did you mean /{close[0].replace('_', '-')}?" if close else "; /help lists the lines"
            raise InvalidRequest(f"there is no line /{word}{hint}")
        return str(self)

    def _steer(self, name: str, value: str) -> None:
        if value and not self.neurons:
            raise InvalidRequest("steering needs a neuron set: start again with --neurons", param=name)
        changed = {key: old for key, old in self.steering.items() if key != name}
        if value:
            changed[name] = _parsed(STEERING[name], value, name)
        before, self.steering = self.steering, changed
        if {"languages", "factor"} <= changed.keys():
            try:
                Intervention.from_dict(self.intervention() or {})
            except InvalidRequest:
                self.steering = before
                raise

    def _sample(self, name: str, value: str) -> None:
        default = getattr(SamplingParams, name)
        parsed = _parsed(SAMPLING[name], value, name) if value else default
        fields = {each: getattr(self.sampling, each) for each in SAMPLING} | {name: parsed}
        self.sampling = SamplingParams(**fields)

    def __str__(self) -> str:
        """Return what is set, on one line."""
        steering = ", ".join(f"{name} {_shown(value)}" for name, value in self.steering.items())
        sampling = ", ".join(
            f"{name.replace('_', ' ')} {value:g}"
            for name in SAMPLING
            if (value := getattr(self.sampling, name)) is not None
        )
        return f"{steering or 'not steered'}; {sampling}"


def converse(
    conversation: Conversation,
    ask: Callable[[str, dict[str, Any] | None, SamplingParams], None],
    *,
    read: Callable[[str], str] = input,
    prompt: str = "> ",
) -> None:
    """Read lines until `/quit` or the end of the input, and answer each prompt with `ask`.

    An error of a line or of a prompt is printed, and the next line is read. Ctrl-C stops an answer, and at the prompt
    the conversation.

    Raises:
        InvalidRequest: The input is not text in the encoding of the terminal.
        AmpsweepError: The engine has died, or the server is gone.
    """
    while True:
        try:
            line = read(prompt).removeprefix(_BYTE_ORDER_MARK).strip()
        except EOFError:
            echo(err=True)
            return
        except UnicodeDecodeError as error:
            message = f"standard input is not text in {error.encoding}; convert it"
            raise InvalidRequest(message, param="prompt") from error
        if line in ("/quit", "/exit"):
            return
        if not line:
            continue
        try:
            check_text(line, param="prompt")
            if line.startswith("/"):
                echo(conversation.change(line), err=True)
            else:
                ask(line, conversation.intervention(), conversation.sampling)
        except KeyboardInterrupt:
            echo("\nstopped", err=True)
        except AmpsweepError as error:
            if error.status >= 500:
                raise
            echo(f"error: {describe(error)}", err=True)


def _parsed(kind: Callable[[str], Any], value: str, name: str) -> Any:
    try:
        return kind(value)
    except ValueError as error:
        raise InvalidRequest(f"must be a number; got {value!r}", param=name) from error


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
