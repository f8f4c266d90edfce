"""Resolves the operations of a spec: what happens to activations, with the axes of its magnitude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ampsweep.domain.choices import Mode, Op, Patch
from ampsweep.domain.statistic import Statistic
from ampsweep.errors import InvalidRequest
from jobs.planning.neuron_choice import NeuronChoice
from jobs.spec.interventions import InterventionsSpec, OperationSpec


@dataclass(frozen=True, kw_only=True)
class ResolvedOperation:
    """An operation on activations, and the axes of its magnitude.

    Attributes:
        op: The operation.
        factors: The factors of each mode; the published code truncates them to integers.
        patches: Patch values that the factors multiply; None where the op takes none.
        statistics: Activation statistics that the factors multiply; None where the op takes none.
    """

    op: Op
    factors: Mapping[Mode, tuple[float, ...]]
    patches: tuple[Patch | None, ...]
    statistics: tuple[Statistic | None, ...]


def resolve_operations(interventions: InterventionsSpec, modes: Sequence[Mode]) -> tuple[ResolvedOperation, ...]:
    """Return the operations of a spec, in its order."""
    return tuple(
        ResolvedOperation(
            op=operation.op,
            factors={mode: _factors(operation, mode) for mode in modes},
            patches=operation.patch or (None,),
            statistics=tuple(map(Statistic.parse, operation.statistic or ())) or (None,),
        )
        for operation in interventions.operations
    )


def check_patches(interventions: InterventionsSpec, neurons: NeuronChoice) -> None:
    """Check that a neuron set has the patch values that the operations name; `difference` is computed from `mean`.

    Raises:
        InvalidRequest: It lacks one; `param` is the field.
    """
    for index, operation in enumerate(interventions.operations):
        if operation.patch is not None:
            path = "interventions" if interventions.ops is None else f"interventions.ops.{index}"
            _check(operation.patch, neurons, param=f"{path}.patch")


def _check(patches: Sequence[Patch], neurons: NeuronChoice, *, param: str) -> None:
    if not neurons.patches:
        message = (
            "this neuron set has no patch values; leave patch out and give factors alone, or import it with `ampsweep "
            "neurons import --values-from`"
        )
        raise InvalidRequest(message, param=param)
    for patch in patches:
        if ("mean" if patch == "difference" else patch) not in neurons.patches:
            message = f"this neuron set has no patch values {patch}, only {', '.join(neurons.patches)}"
            raise InvalidRequest(message, param=param)
    if "difference" in patches and len(neurons.languages) < 2:
        message = "the neuron set has no other language; difference compares languages, leave it out"
        raise InvalidRequest(message, param=param)


def _factors(operation: OperationSpec, mode: Mode) -> tuple[float, ...]:
    factors = operation.all_factors
    return factors if mode == "corrected" else tuple(dict.fromkeys(float(int(factor)) for factor in factors))
