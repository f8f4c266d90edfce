"""Checks the lines of `ampsweep batch` before an engine starts: a file without a single valid line starts none.

Only what needs the loaded model is left to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ampsweep.cli.terminal.failures import describe
from ampsweep.cli.terminal.output import echo
from ampsweep.errors import AmpsweepError, InvalidRequest, UnknownName
from ampsweep.hashing import canonical_json

if TYPE_CHECKING:
    from ampsweep.cli.commands.batch_line import GenerateLine, ScoreLine
    from engine.base import GenerateRequest, ScoreRequest
    from engine.neurons.neuron_set import NeuronSet
    from engine.tokenization import TextEncoder


def check_lines(lines: Iterable[bytes], check: LineCheck, *, as_json: bool) -> None:
    """Check each line; print a note about the first wrong one. A wrong line gets a row with its error.

    Args:
        lines: The lines.
        check: Checks one line.
        as_json: Whether standard error holds only errors.

    Raises:
        InvalidRequest: There are lines, and none of them is valid.
    """
    count, wrong, first = 0, 0, ""
    for count, line in enumerate(lines, 1):  # the number of lines
        try:
            check(line)
        except AmpsweepError as error:
            wrong += 1
            first = first or f"line {count}: {describe(error)}"
    if count and wrong == count:
        raise InvalidRequest(f"none of the {count} lines is a valid request; {first}", param="IN.jsonl")
    if wrong and not as_json:
        echo(f"note: {wrong} of {count} lines are wrong and will have no answer; {first}", err=True)


class LineCheck:
    """Checks a line: its form, its adapter, its intervention, and that its text fits into the model's context.

    Args:
        folder: The folder of the model; None for an engine that encodes text in its own way.
        neuron_set: The neuron set of the interventions.
        adapters: The names of the adapters.
    """

    def __init__(self, folder: Path | None, neuron_set: NeuronSet | None, adapters: Collection[str]) -> None:
        self._folder = folder
        self._neuron_set = neuron_set
        self._adapters = adapters
        self._steerings: dict[str, AmpsweepError | None] = {}  # the error of each intervention, None if it is valid

    def __call__(self, line: bytes) -> None:
        """Raise the AmpsweepError of a wrong line."""
        from ampsweep.cli.commands.batch_line import parse

        parsed = parse(line)
        request = parsed.request(None if self._neuron_set is None else self._neuron_set.id)
        if parsed.adapter is not None and parsed.adapter not in self._adapters:
            raise UnknownName("adapter", parsed.adapter, self._adapters, param="adapter")
        self._check_intervention(parsed, request)
        self._check_length(request)

    def _check_intervention(self, parsed: GenerateLine | ScoreLine, request: GenerateRequest | ScoreRequest) -> None:
        from worker.start_checks import check_steering

        if request.steering is None:
            return
        key = canonical_json(parsed.intervention)
        if key not in self._steerings:
            try:
                check_steering(request.steering.intervention, self._neuron_set)
                self._steerings[key] = None
            except AmpsweepError as error:
                self._steerings[key] = error
        if (seen := self._steerings[key]) is not None:
            raise seen

    def _check_length(self, request: GenerateRequest | ScoreRequest) -> None:
        """Count the tokens of a text that may have too many, as engines do."""
        from engine.base import ScoreRequest
        from worker.start_checks import most_tokens

        parts = (request.context, request.continuation) if isinstance(request, ScoreRequest) else (request.prompt,)
        if self._limit is None or sum(most_tokens(str(part)) for part in parts) < self._limit:
            return
        if isinstance(request, ScoreRequest):
            self._encoder.scored(request, max_tokens=self._limit - 1)
        else:
            self._encoder.prompt(request.prompt, max_tokens=self._limit - 1)

    @cached_property
    def _limit(self) -> int | None:
        """The context of the model in tokens; None if it is not known."""
        from ampsweep.folders.model import context_length

        return None if self._folder is None else context_length(self._folder)

    @cached_property
    def _encoder(self) -> TextEncoder:
        from worker.start_checks import read_encoder

        assert self._folder is not None, "otherwise no limit is known"
        return read_encoder(self._folder)
