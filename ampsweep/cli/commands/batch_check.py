"""Checks the lines of `ampsweep batch` before an engine starts: a file without a single valid line starts none."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ampsweep.cli.terminal.failures import describe
from ampsweep.cli.terminal.output import echo
from ampsweep.errors import AmpsweepError, InvalidRequest, UnknownName
from ampsweep.hashing import canonical_json

if TYPE_CHECKING:
    from engine.neurons.neuron_set import NeuronSet


def check_lines(
    lines: Iterable[bytes], neuron_set: NeuronSet | None, adapters: Collection[str], *, as_json: bool
) -> None:
    """Check the form of each line, its intervention and its adapter; print a note about the first wrong one.

    A wrong line gets a row with its error. Prompts are compared with the model's context when they are answered.

    Args:
        lines: The lines.
        neuron_set: The neuron set of the interventions.
        adapters: The names of the adapters.
        as_json: Whether standard error holds only errors.

    Raises:
        InvalidRequest: There are lines, and none of them is valid.
    """
    count, wrong, first = 0, 0, ""
    steerings: dict[str, AmpsweepError | None] = {}
    for count, line in enumerate(lines, 1):  # the number of lines
        try:
            _check(line, neuron_set, adapters, steerings)
        except AmpsweepError as error:
            wrong += 1
            first = first or f"line {count}: {describe(error)}"
    if count and wrong == count:
        raise InvalidRequest(f"none of the {count} lines is a valid request; {first}", param="IN.jsonl")
    if wrong and not as_json:
        echo(f"note: {wrong} of {count} lines are wrong and will have no answer; {first}", err=True)


def _check(
    line: bytes,
    neuron_set: NeuronSet | None,
    adapters: Collection[str],
    steerings: dict[str, AmpsweepError | None],
) -> None:
    """Check a line. `steerings` holds the error of each intervention that was seen before, None where it is valid."""
    from ampsweep.cli.commands.batch_line import parse
    from worker.start_checks import check_steering

    parsed = parse(line)
    request = parsed.request(None if neuron_set is None else neuron_set.id)
    if parsed.adapter is not None and parsed.adapter not in adapters:
        raise UnknownName("adapter", parsed.adapter, adapters, param="adapter")
    if request.steering is None:
        return
    key = canonical_json(parsed.intervention)
    if key not in steerings:
        try:
            check_steering(request.steering.intervention, neuron_set)
            steerings[key] = None
        except AmpsweepError as error:
            steerings[key] = error
    if (seen := steerings[key]) is not None:
        raise seen
